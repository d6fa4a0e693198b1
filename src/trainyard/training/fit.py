"""The fit: one for every family. It makes the steps of Keras' `fit` in its own order, and keeps the best epoch."""

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pandas as pd

from trainyard import guard, kinds, models
from trainyard.arrays import resident, row_bytes
from trainyard.errors import BadInput, EnvironmentFailed, TrainingFailed
from trainyard.kinds import Prepared
from trainyard.models import ctc
from trainyard.params import Mix, Model, Optimizer, Schedule
from trainyard.training.batches import Batches, Fed, Mixing
from trainyard.training.features import Pair, lengths, pairs, seen, weights
from trainyard.training.resume import Kept, Resume

if TYPE_CHECKING:
    from trainyard.training.replicas import Shares
    from trainyard.training.steps import Stream

    Source = Fed | Stream | Shares

OnEpoch = Callable[[int, Mapping[str, float]], None]
Fit = Callable[..., pd.DataFrame]
"""`fit`, or what does the same with another engine."""

TOGETHER = 32
"""Steps that JAX makes before callbacks are told of a batch."""

REFUSALS: tuple[type[Exception], ...] = (TypeError, ValueError)
"""What Keras raises for a name that it knows and that does not fit."""
EXHAUSTED: tuple[type[Exception], ...] = (MemoryError,)
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    from trainyard.training import piped, replicas, steps

    REFUSALS += (tf.errors.InvalidArgumentError,)
    EXHAUSTED += (tf.errors.ResourceExhaustedError,)
elif keras.backend.backend() == "jax":
    from trainyard.training import scan

log = logging.getLogger(__name__)


class Watch(keras.callbacks.Callback):
    """Lays down an epoch's order; after it refuses what is not finite, adds a row to the history and tells of it."""

    def __init__(
        self, source: "Source", first: int, epochs: int, on_epoch: OnEpoch, rows: list[dict[str, float]]
    ) -> None:
        """`first` is the number of the first epoch, 1 but for a second phase."""
        super().__init__()
        self.source, self.first, self.epochs, self.on_epoch, self.rows = source, first, epochs, on_epoch, rows
        self.began = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Lay down the epoch's order."""
        self.source.start(self.first - 1 + epoch)
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
    resume: Resume | None = None,
    rates: Sequence[float] | None = None,
    mix: Mix | None = None,
) -> pd.DataFrame:
    """Train `core` on features and what it learns of them; it ends with the weights of the kept epoch.

    Gives the history, a row an epoch (index `epoch`, from `first` on): loss, metrics, the same of the validation split
    as `val_...`, learning_rate, and `kept`, 1 in the row of the kept epoch. With `resume` it goes on where a training
    that was killed had come to. `rates` are shares of the learning rate, one for each trainable variable of the core;
    `mix` blends batches. Raises TrainingFailed for a loss that is not finite, BadInput for an optimizer, loss or metric
    that Keras refuses, EnvironmentFailed where memory does not suffice. In the scope of a strategy of TensorFlow each
    batch is shared out among its devices.
    """
    epochs = epochs or spec.epochs
    cut, validation_cut = None, None
    if data.objective.name == "transcription":
        parts = ((data.train, training), (data.validation, validation))
        cut, validation_cut = (lengths(spec, Path(data.spec.path), part, *pair) for part, pair in parts)
    weight = weights(spec, data, training[1])
    arrays = training if weight is None else (*training, weight)
    on_disk = None if resident(*arrays) else row_bytes(*arrays)
    batches = Batches(len(training[1]), spec.batch_size, seed, cut, on_disk)
    asked = Batches(len(validation[1]), max(spec.batch_size, 256), None, validation_cut)
    trained: keras.Model = core
    source: Source = Fed(batches, *arrays)
    checked: Source = Fed(asked, *validation)
    compiled: bool | str = "auto"
    shared = keras.backend.backend() == "tensorflow" and tf.distribute.has_strategy()
    if shared:
        trained, compiled = replicas.Replicated(core, arrays), False
        source, checked = replicas.Shares(batches, *arrays), replicas.Shares(asked, *validation)
    elif mix:
        source = Fed(batches, *arrays, mixing=Mixing(mix, seed))
    elif keras.backend.backend() == "tensorflow":
        trained, source = steps.made(core, batches, arrays, epochs)
        compiled = "auto" if trained is core else False
    elif keras.backend.backend() == "jax":
        trained, source = scan.made(core, batches, arrays)
    models.compilable(core)
    compile_core(trained, spec, data, optimizer or spec.optimizer, compiled, rates)

    counting = _counting(spec, epochs)
    rows: list[dict[str, float]] = []
    kept = Kept(resume, counting, rows) if resume else None
    told = len(rows)
    for row in rows:
        on_epoch(int(row["epoch"]), {name: value for name, value in row.items() if name != "epoch"})
    try:
        with guard.epochs():
            trained.fit(
                _given(source),
                validation_data=_given(checked),
                steps_per_epoch=len(batches) if shared else None,  # shares have no end
                validation_steps=len(asked) if shared else None,
                epochs=epochs,
                initial_epoch=epochs if kept and kept.over else len(rows),
                shuffle=False,  # Batches does it, so that an epoch's order can be had again
                callbacks=[Watch(source, first, epochs, on_epoch, rows), *counting, *([kept] if kept else [])],
                verbose=1 if sys.stderr.isatty() and log.isEnabledFor(logging.INFO) else 0,
            )
    except EXHAUSTED as error:
        remedy = "in params.yaml a smaller `batch_size` takes less"
        raise EnvironmentFailed(f"out of memory with batches of {spec.batch_size} ({remedy})") from error
    except REFUSALS as error:
        if len(rows) > told:  # not a name that Keras knows and that does not fit: that is told at the first step
            raise
        raise _refused(spec, error) from error
    history = pd.DataFrame(rows).set_index("epoch")
    chosen = first + counting[0].best_epoch if spec.best_epoch else history.index[-1]
    history["kept"] = (history.index == chosen).astype(int)
    log.info(
        "kept epoch %d of %d, %s", chosen, history.index[-1], "least validation loss" if spec.best_epoch else "the last"
    )
    return history


def _given(source: "Source") -> Any:
    """What Keras' `fit` takes."""
    if not isinstance(source, Fed):
        return source.dataset()
    return piped.batches(source) if keras.backend.backend() == "tensorflow" else source


def _counting(spec: Model, epochs: int) -> list[Any]:
    # the first finds the best epoch, the second ends a training: those are two questions
    counting = [keras.callbacks.EarlyStopping("val_loss", patience=epochs, restore_best_weights=spec.best_epoch)]
    if spec.early_stopping:
        counting.append(keras.callbacks.EarlyStopping("val_loss", **spec.early_stopping.model_dump()))
    if spec.plateau:
        counting.append(keras.callbacks.ReduceLROnPlateau("val_loss", **spec.plateau.model_dump()))
    return counting


def train(
    spec: Model,
    data: Prepared,
    seed: int,
    on_epoch: OnEpoch = lambda epoch, row: None,
    resume: Resume | None = None,
    engine: Fit = fit,
) -> tuple[keras.Model, pd.DataFrame]:
    """Build a model, fit it from scratch; gives it as it is saved, taking raw values, and its history, as of `fit`."""
    preprocessing = kinds.of(data.spec).preprocessing(data.spec, data.facts, data.train)
    core = models.build(spec, seen(preprocessing), data.objective, data.units)
    with pairs(data, preprocessing, resume.folder if resume else None) as (training, validation):
        history = engine(core, training, validation, spec, data, seed, on_epoch, resume=resume)
    return preprocessing.join(core), history


def remade(change: Callable[[Any], Any], learns: Fit) -> Fit:
    """A fit that makes a core anew, by its changed config, and brings back what that learns."""

    def by_another(core: keras.Model, *arguments: Any, **more: Any) -> pd.DataFrame:
        other = keras.saving.deserialize_keras_object(change(keras.saving.serialize_keras_object(core)))
        models.assign(other, core.variables)
        history = learns(other, *arguments, **more)
        models.assign(core, other.variables)
        return history

    return by_another


def compile_core(
    core: keras.Model,
    spec: Model,
    data: Prepared,
    optimizer: Optimizer,
    compiled: bool | str = "auto",
    rates: Sequence[float] | None = None,
) -> None:
    """Optimizer, loss and metrics by their names in params; raises BadInput where Keras refuses one."""
    own = {"accuracy": accuracy} if data.objective.name == "binary" else {}
    metrics = [own.get(name, name) for name in dict.fromkeys([*data.objective.training_metrics, *spec.metrics])]
    try:
        loss = ctc.loss if data.objective.name == "transcription" else spec.loss or data.objective.loss
        one_by_one = keras.backend.backend() == "jax" and not isinstance(core, scan.Scan)
        core.compile(
            optimizer=keras_optimizer(optimizer, rates),
            loss=loss,
            metrics=metrics,
            jit_compile=compiled,
            steps_per_execution=TOGETHER if one_by_one else 1,
        )
    except (TypeError, ValueError) as error:
        raise _refused(spec, error) from error


def accuracy(true: Any, answer: Any) -> Any:
    """Share of right answers `[n]`, of what is true `[n, 1]`; Keras' own finds none where labels are shares."""
    return keras.ops.mean(keras.ops.cast(keras.ops.equal(true > 0.5, answer > 0.5), "float32"), axis=-1)


def _refused(spec: Model, error: Exception) -> BadInput:
    told = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return BadInput(f"params.yaml: {spec.family} on `{spec.dataset}`: Keras refuses it: {told}")  # type: ignore[attr-defined]


def keras_optimizer(spec: Optimizer, rates: Sequence[float] | None = None) -> keras.Optimizer:
    """The Keras optimizer that a block of params describes, with a share of its rate for each trainable variable."""
    rate: Any = spec.learning_rate
    if isinstance(rate, Schedule):
        rate = keras.optimizers.schedules.deserialize({"class_name": rate.name, "config": dict(rate.model_extra or {})})
    classes = {name.lower(): made for name, made in vars(keras.optimizers).items() if isinstance(made, type)}
    chosen = classes[spec.name] if rates is None else _by_variable(classes[spec.name], rates)
    return chosen(learning_rate=rate, **(spec.model_extra or {}))


def _by_variable(optimizer: type[keras.Optimizer], rates: Sequence[float]) -> type[keras.Optimizer]:
    class ByVariable(optimizer):
        share = 1.0

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            super().update_step(gradient, variable, learning_rate * rates[self._get_variable_index(variable)])

        def _apply_weight_decay(self, variables: Any) -> None:
            for variable in variables:  # one by one, as Keras takes the rate of all for it
                self.share = rates[self._get_variable_index(variable)]
                super()._apply_weight_decay([variable])
            self.share = 1.0

        def _get_current_learning_rate(self) -> Any:
            return super()._get_current_learning_rate() * self.share

    return ByVariable
