"""Stage `evaluate`: ask a model the test split, once, beside a naive and a classical baseline.

In:   models/MODEL, build/DATASET
Out:  reports/models/MODEL/{metrics.json, scores.csv, importance.csv, learning.csv, *.png}
Exit: 2 a model that is not the one that was trained, or is not there, or whose seeds would be of other params;
      3 a training under another seed failed
"""

import logging
from pathlib import Path

import pandas as pd

from trainyard import figures, files, kinds
from trainyard.params import Params
from trainyard.quality import evaluation, importance
from trainyard.quality.importance import Part
from trainyard.training import device

log = logging.getLogger(__name__)


def evaluate(name: str, params: Params) -> None:
    """Write what `models/NAME` is worth to `reports/models/NAME`."""
    spec = params.model(name)
    data = kinds.open_prepared(spec.dataset, params.dataset(spec.dataset))
    kind = kinds.of(data.spec)
    model, report = Path("models") / name, Path("reports/models") / name
    asked = params.evaluate[name]
    columns = kinds.told_apart(data, asked.slices)
    device.start(params.training, params.seed)
    from trainyard.models import saved  # Keras, and TensorFlow below it, only once the device is chosen

    about = files.read_json(model / "model.json")
    loaded = saved.load(model / "model.keras", about["sha256"])
    answer = saved.answers(loaded, about, data.test.raw)
    masked = kind.masked(data.spec, data.facts, data.train, data.test, params.seed)
    parts = [Part(without.part, without.places, saved.answers(loaded, about, without.raw)) for without in masked]
    naive, classical = kind.compared(data.spec, data)
    sample = evaluation.draws(data.objective, data.test.rows, data.test.target)
    metrics = evaluation.metrics(data.objective, data.test.target, answer, naive, classical, sample)
    metrics["slices"] = evaluation.slices(data.objective, columns, data.test.target, answer, sample)
    scores = evaluation.scores(data.objective, data.classes, data.test.rows, data.test.target, answer, naive, classical)
    rests = importance.table(data.objective, data.test.rows, data.test.target, answer, parts)
    history = pd.read_csv(model / "history.csv", index_col="epoch")
    if asked.seeds:
        from trainyard.training import seeds

        by_seed = {params.seed: answer, **seeds.answers(name, params, data, about)}
        metrics["over_seeds"] = evaluation.over_seeds(data.objective, data.test.target, by_seed)

    identity = {"model": name, "dataset": spec.dataset, "sha256": about["sha256"]}
    files.write_csv(report / "scores.csv", scores)
    files.write_csv(report / "importance.csv", rests)
    files.write_csv(report / "learning.csv", history[["loss", "val_loss"]])
    figures.save(figures.learning(history), report / "learning.png")
    drawn = figures.answers(data.objective, data.test.target, answer, data.classes, about["temperature"])
    figures.save(drawn, report / "answers.png")
    figures.save(kind.mistakes(data.spec, data.facts, data.test, answer), report / "mistakes.png")
    figures.save(kind.importances(data.spec, data.test, answer, parts, rests), report / "importance.png")
    files.write_json(report / "metrics.json", {**identity, **metrics})  # last: it says which model all of it is about
    main = data.objective.main
    told = ", ".join(f"{metrics[which]['name']} {metrics[which][main]:.4g}" for which in ("naive", "classical"))
    log.info("%s: test %s %.4g; %s", name, main, metrics["test"][main]["value"], told)
