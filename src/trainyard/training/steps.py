"""Steps: many ordinary training steps in one call, and what XLA compiles of them.

For small networks most of a step is the way from Python to TensorFlow and back. Here a call is given the numbers of the
examples of many batches; each turn of a loop gathers its batch and makes Keras' own `train_step` of it, so that loss,
metrics, weights and optimizer are those of plain `fit`.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

import keras
import numpy as np
import tensorflow as tf

from trainyard import models
from trainyard.arrays import Array, resident, row_bytes
from trainyard.training import piped
from trainyard.training.batches import Batches, Fed

DENSE, OTHERS = 1500, 300
"""Steps from which on a compiled loop saves more than its compilation takes, of dense layers and of others."""
TOGETHER = {"dense": 4096, "others": 64}
"""Steps in a call: a fraction of a second's."""
UNCOMPILED = {"RandomTranslation"}
"""Layers that XLA does not compile."""
DRAWN = ("rate", "dropout", "recurrent_dropout", "stddev")
"""What makes a layer draw at random as it learns."""
MOST_BYTES = 2**24
"""Of features and targets in a call, where those of the next batches alone lie in memory."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """How the steps of a training are made."""

    together: int = 1
    """Steps in a call."""
    compiled: Literal["nothing", "step", "loop"] = "nothing"
    """What XLA compiles: a loop of recurrent steps it would compile to a slower one than it does each of them."""
    halves: bool = False
    """Whether the two halves of a batch are gone through side by side, each on a core."""


def made(
    core: keras.Model, batches: Batches, arrays: tuple[Any, ...], epochs: int
) -> "tuple[keras.Model, Fed | Stream]":
    """The model to fit in place of `core`, which has the same layers, and what it is fed of `arrays` `[count, ...]`."""
    chosen = plan(core, batches, arrays, epochs)
    source = Fed(batches, *arrays) if chosen.together == 1 else Stream(batches, chosen.together, *arrays)
    if chosen == Plan():
        return core, source
    return Steps(core, chosen, source.fetch() if isinstance(source, Stream) else None), source


def plan(core: keras.Model, batches: Batches, arrays: tuple[Any, ...], epochs: int) -> Plan:
    """How the steps are made; printed with its reason. As plain `fit` makes them where nothing else gains."""
    layers = [*models.layers(core)]
    names = {type(layer).__name__ for layer in layers}
    convolutions, recurrent = any("Conv" in name for name in names), not names.isdisjoint(models.RECURRENT)
    dense = not convolutions and not recurrent
    steps, least = len(batches) * epochs, DENSE if dense else OTHERS
    most = min(TOGETHER["dense" if dense else "others"], batches.count // batches.size, most_together(batches, *arrays))
    if convolutions and recurrent:
        reason = "a step takes far longer than a call"
    elif tf.config.get_visible_devices("GPU") and not dense:
        reason = "on a GPU the next one is called while a step runs"
    elif steps < least:
        reason = f"{steps} steps are fewer than the {least} from which on it saves what it takes to compile more"
    elif not names.isdisjoint(UNCOMPILED):
        reason = f"XLA does not compile {min(names & UNCOMPILED)}"
    elif recurrent:
        drawn = any(getattr(layer, knob, 0) for layer in layers for knob in DRAWN)
        chosen = Plan(1 if batches.cut is not None else max(most, 1), "step", halves=not drawn)
        sides = "the batch as a whole, as each half would draw at random anew" if drawn else "two halves side by side"
        log.info("steps: up to %d a call, each compiled by XLA, %s", chosen.together, sides)
        return chosen
    elif most < 2:
        reason = f"one would hold a single batch of {batches.size}"
    else:
        how = "not compiled by XLA, which is slow at convolutions there" if convolutions else "compiled by XLA"
        log.info("steps: up to %d a call, in a loop %s", most, how)
        return Plan(most, "nothing" if convolutions else "loop")
    log.info("steps: one a call, %s", reason)
    return Plan()


class Steps(keras.Model):
    """A model that shares all layers of `core`, and whose `train_step` makes a step for each batch that it is given.

    XLA is asked here and not by `compile`: there Keras declines it where operations must be deterministic, since XLA
    lacks some of them, of which no dense or recurrent layer is one.
    """

    def __init__(self, core: keras.Model, plan: Plan, fetch: Callable[..., tuple[Any, ...]] | None = None) -> None:
        """`fetch` gives the batch of one turn: features, what is learnt of them, perhaps weights.

        Without it the model is given one batch, not many stacked ones.
        """
        super().__init__(core.inputs, core.outputs)
        self.fetch = fetch
        step = self._halved if plan.halves else super().train_step
        self.step = tf.function(step, jit_compile=True) if plan.compiled == "step" and not plan.halves else step
        self.loop = tf.function(self._loop, jit_compile=plan.compiled == "loop", reduce_retracing=True)
        self.gradients = tf.function(self._gradients, jit_compile=True, reduce_retracing=True)
        self.learn = tf.function(self._learn, jit_compile=True, reduce_retracing=True)

    def train_step(self, data: Any) -> dict[str, Any]:
        """Make the step of one batch, or the first `count` of those of the stacked batches `[steps, size, ...]`."""
        if self.fetch is None:
            self.step(data)
        else:
            self.loop(*data)
        return self.get_metrics_result()

    def _loop(self, stacked: tuple[tf.Tensor, ...], count: tf.Tensor) -> None:
        fetch = cast("Callable[..., tuple[Any, ...]]", self.fetch)

        def turn(number: tf.Tensor) -> tuple[tf.Tensor]:
            self.step(fetch(*(part[number] for part in stacked)))
            return (number + 1,)

        tf.while_loop(lambda number: number < count, turn, (tf.constant(0),), parallel_iterations=1)

    def _halved(self, batch: tuple[tf.Tensor, ...]) -> None:
        """As Keras' `train_step`, for a network in which nothing but the weights changes as it learns.

        A recurrent step is a chain of products too small for two cores to share. Two halves of a batch are two chains,
        which TensorFlow runs at the same time; the mean of their gradients is that of the batch.
        """
        middle = tf.shape(batch[0])[0] // 2
        # a batch of one example is the first half, and the second once more, which then weighs nothing
        halves = [[part[: tf.maximum(middle, 1)] for part in batch], [part[middle:] for part in batch]]
        # as tensors: a variable is locked while a program of XLA has it, and one half would wait for the other
        weights = [tf.convert_to_tensor(weight) for weight in self.trainable_weights]
        self.learn(batch, [self.gradients(weights, *half) for half in halves])

    def _gradients(
        self, weights: list[tf.Tensor], x: tf.Tensor, y: tf.Tensor, weight: tf.Tensor | None = None
    ) -> "Half":
        stand_for = zip(self.trainable_weights, weights, strict=True)
        with keras.StatelessScope([*stand_for]), tf.GradientTape() as tape:
            tape.watch(weights)
            answer = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=answer, sample_weight=weight, training=True)
        return answer, loss, tape.gradient(loss, weights)

    def _learn(self, batch: tuple[tf.Tensor, ...], halves: "list[Half]") -> None:
        (one, one_loss, ones), (other, other_loss, others) = halves
        count = tf.shape(batch[0])[0]
        part = tf.cast(tf.shape(one)[0] / count, one.dtype)
        gradients = [_mean(part, *pair) for pair in zip(ones, others, strict=True)]
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        self._loss_tracker.update_state(_mean(part, one_loss, other_loss), sample_weight=count)
        self.compute_metrics(batch[0], batch[1], tf.concat([one, other], 0)[:count], *batch[2:])


Half = tuple[tf.Tensor, tf.Tensor, list[Any]]
"""Of a half of a batch: answers, loss, the gradient of each weight."""


def _mean(part: tf.Tensor, one: Any, other: Any) -> Any:
    """The mean of two, where `one` is `part` of it all; of the slices of an embedding all slices, as Keras has them."""
    if not isinstance(one, tf.IndexedSlices):
        return other + part * (one - other)
    values = tf.concat([part * one.values, (1 - part) * other.values], 0)
    return tf.IndexedSlices(values, tf.concat([one.indices, other.indices], 0), one.dense_shape)


def most_together(batches: Batches, *arrays: Any) -> int:
    """How many batches of `arrays` `[count, ...]` a call may be given."""
    return len(batches) if resident(*arrays) else MOST_BYTES // (row_bytes(*arrays) * batches.size)


class Stream:
    """Batches of an epoch, stacked for `Steps`: their numbers where all features lie in memory, else themselves."""

    def __init__(self, batches: Batches, most: int, *arrays: Any) -> None:
        """At most `most` batches in a call; `arrays` `[count, ...]` as in `Fed`."""
        self.batches, self.arrays, self.epoch = batches, arrays, 0
        self.resident = resident(*arrays)
        full = batches.count // batches.size
        calls = -(-full // most)
        self.together = -(-full // calls)
        """Batches in a call: as many in each, so that none is nearly empty."""
        self.calls = calls + (batches.count > full * batches.size)

    def start(self, epoch: int) -> None:
        """Lay down the order of an epoch, counted from 0."""
        self.epoch = epoch

    def fetch(self) -> Callable[..., tuple[Any, ...]]:
        """How a turn of the loop comes by its batch."""
        if not self.resident:
            return lambda *parts: parts
        held = [tf.constant(np.asarray(array[:])) for array in self.arrays]
        return lambda numbers: tuple(tf.gather(part, numbers) for part in held)

    def dataset(self) -> tf.data.Dataset:
        """The calls of an epoch: stacked batches, of which the last ones may be fill, and how many are none."""
        parts = self.arrays
        if self.resident:
            parts = (np.zeros(0, np.int32),)
        signature = tuple(tf.TensorSpec((None, None, *part.shape[1:]), part.dtype) for part in parts)
        return piped.piped(self._stacked, (signature, tf.TensorSpec((), tf.int32)), self.calls)

    def _stacked(self) -> Iterator[tuple[tuple[Array, ...], int]]:
        size, order = self.batches.size, self.batches.order(self.epoch)
        full = len(order) // size
        whole = order[: full * size].reshape(full, size)
        for start in range(0, full, self.together):
            numbers = whole[start : start + self.together]
            # filled up, since each shape is compiled anew
            yield self._parts(np.resize(numbers, (self.together, size))), len(numbers)
        if full * size < len(order):
            yield self._parts(order[None, full * size :]), 1

    def _parts(self, numbers: Array) -> tuple[Array, ...]:
        if self.resident:
            return (numbers.astype(np.int32),)
        return tuple(
            np.asarray(array[numbers.ravel()]).reshape(*numbers.shape, *array.shape[1:]) for array in self.arrays
        )
