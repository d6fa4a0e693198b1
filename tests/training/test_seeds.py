"""`evaluate.MODEL.seeds`: each is the training that the line would make of that seed on the same split, made once."""

import shutil
from pathlib import Path

import keras
import pytest
from contracts.samples import SAMPLES
from scipy import stats

from trainyard import cli, files
from trainyard.training import seeds

PARAMS = """\
seed: 4
datasets:
  d: {dataset}
train:
  m: {model}
evaluate:
  m: {{dataset: d{asked}}}
"""
TABLE = "{kind: tables, objective: binary, path: table.csv, target: answer}"
MLP = "{family: mlp, dataset: d, layers: [8], dropout: 0.2, epochs: 3, batch_size: 16}"


@pytest.fixture
def project(here, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:none")  # what is tracked is asked elsewhere
    SAMPLES["tables"](here, "binary")
    write()
    for verb in (["validate", "d"], ["prepare", "d"], ["train", "m"]):
        assert cli.main(verb) == 0
    return here


def write(asked="", seed=4):
    text = PARAMS.format(dataset=TABLE, model=MLP, asked=asked)
    Path("params.yaml").write_text(text.replace("seed: 4", f"seed: {seed}"))


def evaluated(asked=""):
    """metrics.json as `evaluate` writes it."""
    write(asked)
    assert cli.main(["evaluate", "m"]) == 0
    return files.read_json(Path("reports/models/m/metrics.json"))


def folders():
    return sorted(folder.name for folder in seeds.ROOT.glob("m/*/*"))


@pytest.mark.slow
def test_each_seed_is_what_the_line_makes_of_it_and_no_other_figure_changes(project):
    alone = evaluated()
    assert not seeds.ROOT.exists()
    before = files.digest([Path("models")])
    found = evaluated(", seeds: 3")
    over = found.pop("over_seeds")
    assert found == alone
    assert files.digest([Path("models")]) == before
    assert over.keys() == alone["test"].keys()
    assert folders() == ["5", "6"]
    kept = {int(path.parent.name): files.read_json(path)["sha256"] for path in seeds.ROOT.glob("m/*/*/model.json")}
    each = {"4": {metric: ends["value"] for metric, ends in alone["test"].items()}}
    for seed in (5, 6):  # the whole line of that seed, but for the split
        write(seed=seed)
        keras.utils.clear_session()  # as in a process of its own: names of layers are counted
        assert cli.main(["train", "m"]) == cli.main(["evaluate", "m"]) == 0
        assert files.read_json(Path("models/m/model.json"))["sha256"] == kept[seed]
        told = files.read_json(Path("reports/models/m/metrics.json"))["test"]
        each[str(seed)] = {metric: ends["value"] for metric, ends in told.items()}
    assert len({values["log_loss"] for values in each.values()}) == 3, "other seeds are other models"
    for metric, ends in over.items():
        values = [each[seed][metric] for seed in ("4", "5", "6")]
        assert ends["each"] == {seed: round(each[seed][metric], 6) for seed in each}
        mean = sum(values) / 3
        low, high = stats.t.interval(0.95, 2, mean, stats.sem(values)) if len(set(values)) > 1 else (mean, mean)
        assert [ends[end] for end in ("value", "low", "high")] == pytest.approx([mean, low, high], abs=2e-5)


def test_seeds_of_other_params_than_the_model_was_trained_by_are_refused(project, capfd):
    write(", seeds: 2")
    path = Path("params.yaml")
    path.write_text(path.read_text().replace("epochs: 3", "epochs: 1"))
    assert cli.main(["evaluate", "m"]) == 2
    assert (
        "error: models/m: trained by other params than params.yaml has now, which its seeds" in capfd.readouterr().err
    )
    assert not seeds.ROOT.exists()
    assert not Path("reports/models/m/metrics.json").exists()


@pytest.mark.slow
def test_nothing_is_trained_twice_and_all_comes_again_to_the_same_bytes(project, monkeypatch):
    first = evaluated(", seeds: 3")
    trained, train = [], seeds.train

    def watched(name, params, data, seed, *more, **others):
        trained.append(seed)
        return train(name, params, data, seed, *more, **others)

    monkeypatch.setattr(seeds, "train", watched)
    assert evaluated(", seeds: 3, floor: {accuracy: 0.5}") == first
    assert trained == []
    evaluated(", seeds: 4")
    assert trained == [7]
    shutil.rmtree(seeds.ROOT)
    assert evaluated(", seeds: 3") == first
    assert trained == [7, 5, 6]

    # one that is killed leaves no half model, and goes on
    shutil.rmtree(seeds.ROOT)
    with monkeypatch.context() as patched:
        patched.setattr("trainyard.training.package.saved.save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert cli.main(["evaluate", "m"]) == 130
    assert folders() == []
    assert evaluated(", seeds: 3") == first

    # another model has others
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("epochs: 3", "epochs: 2"))
    assert cli.main(["train", "m"]) == cli.main(["evaluate", "m"]) == 0
    assert len(list(seeds.ROOT.glob("m/*"))) == 1
    assert files.read_json(Path("reports/models/m/metrics.json"))["over_seeds"] != first["over_seeds"]
