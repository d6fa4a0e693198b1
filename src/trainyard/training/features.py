"""Features: what a core sees and what it learns, computed once from a prepared dataset and held on the disk."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np

from trainyard.errors import BadInput
from trainyard.kinds import Examples, Prepared, Preprocessing
from trainyard.models import Features, ctc
from trainyard.models.saved import at_once, predict
from trainyard.params import RNN, Model
from trainyard.training.batches import Array

Pair = tuple[Any, Array]


@contextmanager
def pairs(data: Prepared, preprocessing: Preprocessing, folder: Path | None = None) -> Iterator[list[Pair]]:
    """Of the training and the validation split: what the core sees, `[n, ...]`, and what it learns of it.

    The features are computed once and lie on the disk, so that memory stays flat: below `folder`, where what a killed
    training left is removed first, or else where temporary files lie.
    """
    model = preprocessing.model()
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob("features-*"):
            shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix="features-", dir=folder) as scratch:
        yield [
            (_features(model, part, Path(scratch) / f"{i}.npy"), learnt(data, preprocessing, part))
            for i, part in enumerate((data.train, data.validation))
        ]


def seen(preprocessing: Preprocessing) -> Features:
    """What the core sees of what the preprocessing gives."""
    return Features(tuple(preprocessing.features.shape[1:]), preprocessing.tokens)


def learnt(data: Prepared, preprocessing: Preprocessing, part: Examples) -> Array:
    """What the core learns, float32: one-hot `[n, classes]`, 0 or 1 `[n, 1]`, or numbers in the core's units.

    Of transcriptions the numbers of the letters, int32 `[n, longest]`, padded with 0.
    """
    if data.objective.name == "multiclass":
        return np.eye(len(data.classes), dtype=np.float32)[part.target]
    found = preprocessing.learns(part)
    return found if data.objective.name == "transcription" else found.astype(np.float32).reshape(len(part), -1)


def lengths(spec: Model, folder: Path, part: Examples, frames: Any, letters: Array) -> Array:
    """How many frames `[n, frames, bands]` of each recording are not the padding at its end.

    Raises BadInput for a recording with fewer steps than its transcript takes: no loss is defined for it.
    """
    found = np.array([np.flatnonzero(np.any(rows, axis=-1)).max(initial=-1) + 1 for rows in frames])
    steps = -(-found // spec.stride) if isinstance(spec, RNN) else found
    if (short := np.flatnonzero(steps < ctc.needed(letters))).size:
        told = f"{steps[short[0]]} steps for {np.count_nonzero(letters[short[0]])} letters"
        raise BadInput(
            f"{folder / part.rows.index[short[0]]}: {told}; {short.size} such recording(s) (lower the model's `stride` "
            "or the dataset's `step`, or mend the transcript)"
        )
    return found


def weights(spec: Model, data: Prepared, target: Array) -> Array | None:
    """The weight of each example in the loss, float32 `[n]`, from `class_weight` and the classes `[n, ...]` as learnt.

    None where all weigh the same. Raises BadInput for a class that is not there.
    """
    if spec.class_weight is None:
        return None
    if spec.class_weight == "balanced":
        counts = np.bincount(data.train.target, minlength=len(data.classes))
        of_classes = len(data.train) / (len(counts) * np.maximum(counts, 1))
    else:
        if unknown := set(spec.class_weight) - set(data.classes):
            raise BadInput(f"params.yaml: class_weight: no class `{min(unknown)}` (classes: {', '.join(data.classes)})")
        of_classes = np.array([spec.class_weight.get(name, 1.0) for name in data.classes])
    numbers = target.argmax(axis=1) if target.shape[1] > 1 else target[:, 0].astype(int)
    return of_classes[numbers].astype(np.float32)


def _features(model: keras.Model, part: Examples, path: Path) -> Any:
    stored, rows = None, at_once(part.raw, 1024)
    for start in range(0, len(part), rows):
        chunk = predict(model, {name: values[start : start + rows] for name, values in part.raw.items()}, rows)
        if stored is None:
            stored = np.lib.format.open_memmap(path, "w+", chunk.dtype, (len(part), *chunk.shape[1:]))
        stored[start : start + rows] = chunk
    return stored
