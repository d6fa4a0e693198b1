"""Stage `register`: log a model to the registry, pass it through the gate, and make it champion where it may be that.

In:   models/MODEL, build/DATASET, reports/models/MODEL from `evaluate`, the data itself, the champion in MLflow
Out:  reports/models/MODEL/{verdict.json, card.md}
Exit: 2 files that do not belong together, 5 MLflow does not answer; a model that the gate refuses is a verdict, exit 0
"""

import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import pandas as pd

from trainyard import files, kinds, tracking
from trainyard.errors import BadInput
from trainyard.params import Params
from trainyard.quality import evaluation, gate
from trainyard.quality.verdict import Before, Verdict
from trainyard.reporting import card
from trainyard.training import device

log = logging.getLogger(__name__)

APPROVAL = "TRAINYARD_APPROVAL"
"""Where this variable is set, what passes the gate waits for a person: for `trainyard promote`, or `accept`."""


@tracking.again_if_overtaken
def register(name: str, params: Params) -> None:
    """Write the verdict on `models/NAME` and its card to `reports/models/NAME`, after MLflow knows them."""
    spec, asked = params.model(name), params.evaluate[name]
    data = kinds.open_prepared(spec.dataset, params.dataset(spec.dataset))
    folder, report = Path("models") / name, Path("reports/models") / name
    about, metrics = files.read_json(folder / "model.json"), files.read_json(report / "metrics.json")
    scores = pd.read_csv(report / "scores.csv", index_col="example", dtype={"example": str})
    if list(scores.index) != list(data.test.rows.index):
        raise BadInput(
            f"{report}/scores.csv: not about the rows of build/{data.name}/test (run `trainyard evaluate {name}`)"
        )

    mine, looked = tracking.publish(name, params), tracking.reign(name)
    champion = looked.champion
    reigns = champion is not None and champion.content == mine.content
    # the champion is held against whom it beat, so that a second verdict on it is the first one
    other = tracking.compared_with(mine) if reigns else champion
    taken = {"megabytes": (folder / "model.keras").stat().st_size / 1e6}
    if asked.budget.milliseconds:
        device.start(params.training, params.seed)
        from trainyard.models import saved  # Keras, once the device is chosen

        model = saved.load(folder / "model.keras", about["sha256"])
        taken["milliseconds"] = saved.latency(model, about, data.test.raw)
        tracking.tag(mine, {"trainyard.milliseconds": f"{taken['milliseconds']:.3g}"})
    held: gate.Floats | str | None = None
    try:
        held = tracking.scores_on(other, data).to_numpy() if other else None
    except BadInput as error:
        whom = "the champion that it beat" if reigns else "the champion"
        held = f"{whom} cannot be compared: {error} (`trainyard rollback {name} VERSION` names another)"
    columns = kinds.told_apart(data, asked.slices)
    sample = evaluation.draws(data.objective, data.test.rows, data.test.target)
    checks = gate.judged(data.objective, metrics, scores, taken, asked.model_dump(), held, columns, sample)

    passed = all(check.passed for check in checks)
    crowned = passed and not os.environ.get(APPROVAL) and not tracking.withdrawn(mine)
    decision: Literal["champion", "challenger"] = "champion" if reigns or crowned else "challenger"
    against = other.content if other else ""
    before = None
    if other and held is not None and not isinstance(held, str):
        before = Before(round(abs(float(held.mean())), 6), tracking.changed(mine, other, data.name))
    waits = f"Whether it is champion is left to a person: `trainyard promote {name}` makes it that."
    remark = waits if passed and decision == "challenger" else ""
    basis = files.sha256(report / "metrics.json"), asked.model_dump(mode="json")
    verdict = Verdict(name, spec.dataset, mine.content, against, *basis, checks, passed, decision, remark, before)
    page = card.written(about, metrics, data, taken["megabytes"], asked.use, verdict)
    tracking.set_aliases(mine, verdict, page, looked)
    files.write_json(report / "verdict.json", asdict(verdict))
    files.write_text(report / "card.md", page)
    log.info("%s: version %s is %s", name, mine.version, decision)
    for check in checks:
        log.info("  %s %s: %s", "passed" if check.passed else "FAILED", check.name, check.reason)
