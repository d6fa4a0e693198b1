"""The fit: one for every family. Batches are a pure function of seed, epoch and place; the best epoch is kept."""

import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainyard import kinds, models
from trainyard.errors import BadInput, TrainingFailed
from trainyard.kinds import Examples, Prepared, Preprocessing
from trainyard.models import Features, ctc
from trainyard.models.saved import at_once, predict
from trainyard.params import RNN, Model, Optimizer, Schedule

Array = NDArray[Any]
Pair = tuple[Any, Array]
OnEpoch = Callable[[int, Mapping[str, float]], None]

log = logging.getLogger(__name__)


class Batches(keras.utils.PyDataset):
    """Features and what is to be learnt of them, in an order that (seed, epoch) alone decide.

    Where the examples have lengths, those of alike lengths come together, cut to one of four, so that little of what
    is learnt is padding and few shapes are compiled.
    """

    def __init__(self, x: Any, y: Array, batch_size: int, seed: int | None, lengths: Array | None = None) -> None:
        """`x` `[n, ...]` may lie on the disk; without a seed the order is always the same.

        `lengths` int `[n]`: the steps of `x` `[n, steps, ...]` that are not padding.
        """
        super().__init__()
        self.x, self.y, self.batch_size, self.seed = x, y, batch_size, seed
        self.cut = None
        if lengths is not None:
            ends = np.quantile(lengths, (0.25, 0.5, 0.75, 1), method="higher")
            self.cut = ends[np.searchsorted(ends, lengths)]
        # the longest first, then the shortest: of two first batches alike Keras takes the length for fixed
        *others, last = self._divided(np.arange(len(y)))
        self.batches = [last, *others]

    def __len__(self) -> int:
        return math.ceil(len(self.y) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[Array, Array]:
        chosen = self.batches[index]
        x = np.asarray(self.x[chosen])
        return (x if self.cut is None else x[:, : self.cut[chosen].max()]), self.y[chosen]

    def shuffle(self, epoch: int) -> None:
        """Lay down the order of an epoch, counted from 0."""
        if self.seed is not None:
            rng = np.random.default_rng([self.seed, epoch])
            self.batches = self._divided(rng.permutation(len(self.y)))
            if self.cut is not None:
                rng.shuffle(self.batches)

    def _divided(self, order: Array) -> list[Array]:
        if self.cut is not None:
            order = order[np.argsort(self.cut[order], kind="stable")]
        return np.split(order, range(self.batch_size, len(order), self.batch_size))


class Watch(keras.callbacks.Callback):
    """Shuffles before each epoch; after it refuses what is not finite, keeps the row of the history and tells of it."""

    def __init__(self, batches: Batches, first: int, epochs: int, on_epoch: OnEpoch) -> None:
        """`first` is the number of the first epoch, 1 but for a second phase."""
        super().__init__()
        self.batches, self.first, self.epochs, self.on_epoch = batches, first, epochs, on_epoch
        self.rows: list[dict[str, float]] = []
        self.began = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Lay down the epoch's order."""
        self.batches.shuffle(self.first - 1 + epoch)
        self.began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Raises TrainingFailed for a figure that is not finite, before anything keeps this epoch's weights."""
        number = self.first + epoch
        row = {name: float(np.mean(value)) for name, value in (logs or {}).items()}  # F1Score gives one a class
        row["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        for name, value in row.items():
            if not np.isfinite(value):
                raise TrainingFailed(
                    f"epoch {number}: {name} is {value} (lower the learning rate, or look for extreme values)"
                )
        self.rows.append({"epoch": number, **row})
        self.on_epoch(number, row)
        if not sys.stderr.isatty():
            told = " ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "learning_rate")
            log.info(
                "epoch %d/%d %s (%.1f s)", number, self.first - 1 + self.epochs, told, time.monotonic() - self.began
            )


def train(
    spec: Model, data: Prepared, seed: int, on_epoch: OnEpoch = lambda epoch, row: None
) -> tuple[keras.Model, pd.DataFrame]:
    """Build a model, fit it from scratch; gives it as it is saved, taking raw values, and its history, as of `fit`."""
    preprocessing = kinds.of(data.spec).preprocessing(data.spec, data.facts, data.train)
    core = models.build(spec, seen(preprocessing), data.objective, data.units)
    with pairs(data, preprocessing) as (training, validation):
        history = fit(core, training, validation, spec, data, seed, on_epoch)
    return preprocessing.join(core), history


def _lengths(spec: Model, folder: Path, part: Examples, frames: Any, letters: Array) -> Array:
    """How many frames `[n, frames, bands]` of each recording are not the padding at its end.

    Raises BadInput for a recording with fewer steps than its transcript takes: no loss is defined for it.
    """
    lengths = np.array([np.flatnonzero(np.any(rows, axis=-1)).max(initial=-1) + 1 for rows in frames])
    steps = -(-lengths // spec.stride) if isinstance(spec, RNN) else lengths
    if (short := np.flatnonzero(steps < ctc.needed(letters))).size:
        told = f"{steps[short[0]]} steps for {np.count_nonzero(letters[short[0]])} letters"
        raise BadInput(
            f"{folder / part.rows.index[short[0]]}: {told}; {short.size} such recording(s) (lower the model's `stride` "
            "or the dataset's `step`, or mend the transcript)"
        )
    return lengths


def fit(
    core: keras.Model,
    training: Pair,
    validation: Pair,
    spec: Model,
    data: Prepared,
    seed: int,
    on_epoch: OnEpoch = lambda epoch, row: None,
    *,
    optimizer: Optimizer | None = None,
    epochs: int | None = None,
    first: int = 1,
) -> pd.DataFrame:
    """Train `core` on features and what it learns of them; it ends with the weights of the kept epoch.

    Gives the history, a row an epoch (index `epoch`, from `first` on): loss, metrics, the same of the validation split
    as `val_...`, learning_rate, and `kept`, 1 in the row of the kept epoch. Raises TrainingFailed for a loss that is
    not finite, BadInput for an optimizer, loss or metric that Keras refuses.
    """
    epochs = epochs or spec.epochs
    compile_core(core, spec, data, optimizer or spec.optimizer)
    # two of them: what ends a training, and what is the best of it, are two questions
    best = keras.callbacks.EarlyStopping("val_loss", patience=epochs, restore_best_weights=spec.best_epoch)
    early = (
        [keras.callbacks.EarlyStopping("val_loss", **spec.early_stopping.model_dump())] if spec.early_stopping else []
    )
    lengths: list[Array | None] = [None, None]
    if data.objective.name == "transcription":
        parts = ((data.train, training), (data.validation, validation))
        lengths = [_lengths(spec, Path(data.spec.path), part, *pair) for part, pair in parts]
    batches = Batches(*training, spec.batch_size, seed, lengths[0])
    watch = Watch(batches, first, epochs, on_epoch)
    try:
        core.fit(
            batches,
            validation_data=Batches(*validation, max(spec.batch_size, 256), None, lengths[1]),
            epochs=epochs,
            shuffle=False,  # Batches does it, so that an epoch's order can be had again
            class_weight=_class_weight(spec, data),
            callbacks=[watch, *early, best],
            verbose=1 if sys.stderr.isatty() else 0,
        )
    except (TypeError, ValueError) as error:  # a name that Keras knows, and that does not fit: told at the first step
        raise _refused(spec, error) from error
    history = pd.DataFrame(watch.rows).set_index("epoch")
    kept = first + best.best_epoch if spec.best_epoch else history.index[-1]
    history["kept"] = (history.index == kept).astype(int)
    log.info(
        "kept epoch %d of %d, %s", kept, history.index[-1], "least validation loss" if spec.best_epoch else "the last"
    )
    return history


def compile_core(core: keras.Model, spec: Model, data: Prepared, optimizer: Optimizer) -> None:
    """Optimizer, loss and metrics by their names in params; raises BadInput where Keras refuses one."""
    metrics = list(dict.fromkeys([*data.objective.training_metrics, *spec.metrics]))
    try:
        loss = ctc.loss if data.objective.name == "transcription" else spec.loss or data.objective.loss
        core.compile(optimizer=keras_optimizer(optimizer), loss=loss, metrics=metrics)
    except (TypeError, ValueError) as error:
        raise _refused(spec, error) from error


def _refused(spec: Model, error: Exception) -> BadInput:
    told = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return BadInput(f"params.yaml: {spec.family} on `{spec.dataset}`: Keras refuses it: {told}")  # type: ignore[attr-defined]


def keras_optimizer(spec: Optimizer) -> keras.Optimizer:
    """The Keras optimizer that a block of params describes."""
    rate: Any = spec.learning_rate
    if isinstance(rate, Schedule):
        rate = keras.optimizers.schedules.deserialize({"class_name": rate.name, "config": dict(rate.model_extra or {})})
    classes = {name.lower(): made for name, made in vars(keras.optimizers).items() if isinstance(made, type)}
    return classes[spec.name](learning_rate=rate, **(spec.model_extra or {}))


@contextmanager
def pairs(data: Prepared, preprocessing: Preprocessing) -> Iterator[list[Pair]]:
    """Of the training and the validation split: what the core sees, `[n, ...]`, and what it learns of it.

    The features are computed once and lie on the disk, so that memory stays flat.
    """
    model = preprocessing.model()
    with TemporaryDirectory(prefix="trainyard-") as scratch:
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


def _class_weight(spec: Model, data: Prepared) -> dict[int, float] | None:
    if spec.class_weight is None:
        return None
    if spec.class_weight == "balanced":
        counts = np.bincount(data.train.target, minlength=len(data.classes))
        return {number: len(data.train) / (len(counts) * max(int(count), 1)) for number, count in enumerate(counts)}
    if unknown := set(spec.class_weight) - set(data.classes):
        raise BadInput(f"params.yaml: class_weight: no class `{min(unknown)}` (classes: {', '.join(data.classes)})")
    return {number: spec.class_weight.get(name, 1.0) for number, name in enumerate(data.classes)}


def _features(model: keras.Model, part: Examples, path: Path) -> Any:
    stored, rows = None, at_once(part.raw, 1024)
    for start in range(0, len(part), rows):
        chunk = predict(model, {name: values[start : start + rows] for name, values in part.raw.items()}, rows)
        if stored is None:
            stored = np.lib.format.open_memmap(path, "w+", chunk.dtype, (len(part), *chunk.shape[1:]))
        stored[start : start + rows] = chunk
    return stored
