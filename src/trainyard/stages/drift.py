"""Verb `drift`: is new data still like the data that the models of a dataset were tested on? No DVC stage.

In:   the dataset's own data, the new data, the params blocks of the dataset and `drift`, the champions in MLflow
Out:  .trainyard/drift/DATASET/{drift.json, drift.md, page.html}, or the folder that is named; a table; for a workflow
      `drift=true` or `drift=false` in GITHUB_OUTPUT, the Markdown in GITHUB_STEP_SUMMARY, and drift as an error
Exit: 0 it is, 1 it has drifted, 2 bad params, or data that cannot be read, 5 MLflow does not answer
"""

import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from trainyard import files, job, kinds, reporting, tracking
from trainyard.arrays import Array, in_parts
from trainyard.errors import BadInput
from trainyard.params import AnyDataset, Images, Params, Series
from trainyard.quality import drift as quality
from trainyard.quality.drift import Drift, Measures, Sample
from trainyard.quality.objectives import OBJECTIVES
from trainyard.quality.splits import TRAIN
from trainyard.tracking import Registered, raw
from trainyard.training import device

log = logging.getLogger(__name__)

Side = tuple[AnyDataset, pd.DataFrame]
"""A block and the rows of its manifest that are compared."""
SHOWN = 20


def drift(name: str, path: Path, params: Params, out: Path | None = None) -> bool:
    """Write how the data at `path` differs from that of `params.datasets[name]`; gives whether it has drifted."""
    spec = params.dataset(name)
    kind = kinds.of(spec)
    old = kind.manifest(spec)
    splits, facts = kind.split(spec, old, params.seed), kind.facts(spec, old)
    block, new = kinds.later(spec, facts, old, path)
    train, held = old[splits == TRAIN], old[splits != TRAIN]
    units = kinds.units(spec, held), kinds.units(block, new)
    horizon = spec.horizon if isinstance(spec, Series) else 0
    chosen = (held.index, new.index) if horizon else quality.alike(*units, params.seed)
    sides = (spec, held.loc[chosen[0]]), (block, new.loc[chosen[1]])
    log.info("%s: %d new examples are compared with %d old ones", path, len(sides[1][1]), len(sides[0][1]))
    models = [model for model, about in params.models.items() if about.dataset == name]
    champions = {model: tracking.champion(model) for model in models}
    if any(champions.values()) or isinstance(spec, Images):
        device.start(params.training, params.seed)
    answers = _answers(champions, sides)
    samples = [
        Sample(
            {**kind.measures(one, facts, train, part), **told}, of_side.loc[part.index], _embedding(one, facts, part)
        )
        for (one, part), of_side, told in zip(sides, units, answers, strict=True)
    ]
    found = quality.compare(*samples, **params.drift.model_dump(), horizon=horizon, seed=params.seed)
    if not found.shifts:
        raise BadInput(
            f"{path}: nothing of it can be compared with {spec.path}: no value is known in both, or all are one"
        )
    about = {"dataset": name, "kind": spec.kind, "path": spec.path, "new": path.as_posix()}
    _write(out or Path(".trainyard/drift") / name, about, found)
    return bool(found.moved)


def _answers(champions: Mapping[str, Registered | None], sides: tuple[Side, Side]) -> tuple[Measures, Measures]:
    """What is measured of the answers of each model's champion, of both sides; one that cannot answer is told of."""
    measured: tuple[dict[str, Any], dict[str, Any]] = {}, {}
    for model, champion in champions.items():
        if champion is None:
            log.info("%s: no champion to ask", model)
            continue
        try:
            for (spec, part), found in zip(sides, measured, strict=True):
                examples = part.index.astype(str)
                told = tracking.answers(champion, spec.path, examples).reindex(examples).set_axis(part.index)
                known = part[spec.target] if isinstance(spec, Series) else None
                of_model = quality.of_answers(OBJECTIVES[spec.objective], told, known)
                found |= {f"{model}: {measure}": values for measure, values in of_model.items()}
        except BadInput as error:
            log.warning("%s: its champion, version %s, is not asked: %s", model, champion.version, error)
    return measured


def _embedding(spec: AnyDataset, facts: Mapping[str, Any], part: pd.DataFrame) -> Array | None:
    """What a pretrained network sees in images; None of other kinds."""
    if not isinstance(spec, Images):
        return None
    from trainyard.models import embedding  # Keras, once the device is chosen

    read, decode = raw.reader(spec, facts), kinds.of(spec).decode
    images = (decode(spec, facts, read(examples))[0]["image"] for examples in in_parts(part.index, 256))
    return embedding.of_images(images, tuple(facts["shape"]))


def _write(folder: Path, about: Mapping[str, Any], found: Drift) -> None:
    page = reporting.render("drift.md", about=about, drift=found)
    with files.replacing_folder(folder) as draft:
        files.write_json(draft / "drift.json", {**about, **found.as_dict()})
        files.write_text(draft / "drift.md", page)
        files.write_text(draft / "page.html", reporting.render("drift.html", about=about, drift=found))
    lines = list(_lines(found))
    sys.stdout.write("".join(f"{line}\n" for line in [*lines, f"{folder.as_posix()}/page.html shows all"]))
    job.output("drift", value=bool(found.moved))
    job.summary(page)
    if found.moved:
        job.note("error", "Drift", f"{about['new']} is not like {about['dataset']}: {found.told}")


def _lines(found: Drift) -> Iterator[str]:
    rows = [
        {
            "": "DRIFT" if shift.moved else "",
            "measure": shift.measure,
            "of": shift.of,
            "old": reporting.brief(shift.old),
            "new": reporting.brief(shift.new),
            "effect": f"{shift.effect:.3f}",
            "p": f"{shift.p:.3f}",
        }
        for shift in found.shifts[: max(SHOWN, len(found.moved))]
    ]
    yield pd.DataFrame(rows).to_string(index=False)
    yield found.told
