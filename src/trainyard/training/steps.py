"""Steps: many ordinary training steps in one compiled loop, so that Python is asked once for all of them.

For small networks most of a step is the way from Python to TensorFlow and back. Here a call is given the numbers of the
examples of many batches; each turn of the loop gathers its batch and makes Keras' own `train_step` of it, so that loss,
metrics, weights and optimizer are those of plain `fit`.
"""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainyard.arrays import Array, resident, row_bytes
from trainyard.training.batches import Batches

MOST_BYTES = 2**22
"""Of features and targets in a call, where those of the next batches alone lie in memory."""


class Steps(keras.Model):
    """A model that shares all layers of `core`, and whose `train_step` makes a step for each batch that it is given."""

    def __init__(self, core: keras.Model, fetch: Callable[..., tuple[Any, ...]], compiled: bool) -> None:
        """`fetch` gives the batch of one turn: features, what is learnt of them, perhaps weights.

        `compiled` has XLA compile the loop. It is asked here and not by `compile`: there Keras declines it where
        operations must be deterministic, since XLA lacks some of them, of which no dense or recurrent layer is one.
        """
        super().__init__(core.inputs, core.outputs)
        self.fetch = fetch
        self.loop = tf.function(self._loop, jit_compile=compiled, reduce_retracing=True)

    def train_step(self, data: Any) -> dict[str, Any]:
        """Make the first `count` of the steps that the stacked batches `[steps, size, ...]` would make."""
        self.loop(*data)
        return self.get_metrics_result()

    def _loop(self, stacked: tuple[tf.Tensor, ...], count: tf.Tensor) -> None:
        step = super().train_step

        def turn(number: tf.Tensor) -> tuple[tf.Tensor]:
            step(self.fetch(*(part[number] for part in stacked)))
            return (number + 1,)

        tf.while_loop(lambda number: number < count, turn, (tf.constant(0),), parallel_iterations=1)


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
        calls = tf.data.Dataset.from_generator(self._stacked, output_signature=(signature, tf.TensorSpec((), tf.int32)))
        return calls.apply(tf.data.experimental.assert_cardinality(self.calls)).prefetch(1)

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
