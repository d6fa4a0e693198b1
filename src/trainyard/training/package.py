"""What a training leaves: `models/MODEL` with the model that takes raw values, its history and what it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from trainyard import files
from trainyard.kinds import Prepared
from trainyard.models import saved
from trainyard.params import RNN, Model
from trainyard.training.temperature import calibrate

if TYPE_CHECKING:
    import keras


def write(
    name: str,
    spec: Model,
    data: Prepared,
    model: "keras.Model",
    history: pd.DataFrame,
    backbone: Mapping[str, Any] | None = None,
    folder: Path | None = None,
) -> None:
    """Write `models/NAME`; the model is calibrated, then reloaded and compared on a batch before it takes its place.

    `backbone` says which pretrained weights it stands on, with their hash; None where it was trained from scratch.
    `folder` is written in place of `models/NAME`.
    """
    temperature = calibrate(model, spec, data)
    with files.replacing_folder(folder or Path("models") / name) as draft:
        sample = {key: np.asarray(values[:32]) for key, values in data.validation.raw.items()}
        sha256 = saved.save(model, draft / "model.keras", sample)
        files.write_csv(draft / "history.csv", history)
        more = {"model": name, "backbone": backbone, "parameters": model.count_params(), "sha256": sha256}
        more["temperature"] = temperature
        files.write_json(draft / "model.json", {**about(spec, data), **more})


def about(spec: Model, data: Prepared) -> dict[str, Any]:
    """What one must know to ask a model: its data, its params, and the words that it knows where it hears no others."""
    known = isinstance(spec, RNN) and spec.words == "known"
    return {
        "family": spec.family,  # type: ignore[attr-defined]  # every family's block has one
        "dataset": data.name,
        "kind": data.spec.kind,  # type: ignore[attr-defined]  # every kind's block has one
        "objective": data.objective.name,
        "classes": data.classes,
        "facts": dict(data.facts),
        "spec": data.spec.model_dump(mode="json"),
        "params": spec.model_dump(mode="json"),
        "words": sorted(set(" ".join(data.train.target).split())) if known else None,
    }
