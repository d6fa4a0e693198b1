"""Features: what a core sees and what it learns, computed once from a prepared dataset and held on the disk."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np

from trainyard.arrays import Array, Rows, held, in_parts, resident
from trainyard.errors import BadInput
from trainyard.kinds import Examples, Prepared, Preprocessing
from trainyard.models import Features, ctc
from trainyard.models.saved import at_once, predict
from trainyard.params import RNN, Model

Pair = tuple[Rows, Array]


class Computed:
    """Features that are computed when they are asked for."""

    def __init__(self, model: keras.Model, part: Examples) -> None:
        """`model` takes what `part` has."""
        self.model, self.raw = model, part.raw
        first = self[:1]
        self.shape, self.dtype = (len(part), *first.shape[1:]), first.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Array:
        return predict(self.model, {name: values[index] for name, values in self.raw.items()}, 8192)


@contextmanager
def pairs(data: Prepared, preprocessing: Preprocessing, folder: Path | None = None) -> Iterator[list[Pair]]:
    """Of the training and the validation split: what the core sees, `[n, ...]`, and what it learns of it.

    The features are computed once. Where memory does not hold them they lie on the disk: below `folder`, where what a
    killed training left is removed first, or else where temporary files lie.
    """
    for left in folder.glob("features-*") if folder else ():
        shutil.rmtree(left, ignore_errors=True)
    with scratch(folder) as path:
        yield [
            (_features(preprocessing, part, path / f"{i}.npy"), learnt(data, preprocessing, part))
            for i, part in enumerate((data.train, data.validation))
        ]


@contextmanager
def scratch(folder: Path | None) -> Iterator[Path]:
    """A folder that is removed in the end: below `folder`, or else where temporary files lie."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="features-", dir=folder) as path:
        yield Path(path)


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
    found = np.concatenate([_ends(chunk) for chunk in in_parts(frames, 256)])
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
    numbers = target.argmax(axis=1) if target.shape[1] > 1 else (target[:, 0] > 0.5).astype(int)  # may be smoothed
    return of_classes[numbers].astype(np.float32)


def _features(preprocessing: Preprocessing, part: Examples, path: Path) -> Rows:
    computed = Computed(preprocessing.model(), part)
    if preprocessing.anew and not resident(computed):
        return computed
    return held(path, len(part), in_parts(computed, at_once(part.raw, 8192)))


def _ends(frames: Array) -> Array:
    there: Array = np.any(frames, axis=-1)
    return np.where(there.any(axis=-1), there.shape[1] - there[:, ::-1].argmax(axis=1), 0)
