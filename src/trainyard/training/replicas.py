"""Replicas: a batch that devices share, each with a copy of the core, in this process or in many.

Keras' own `fit` takes the mean over the devices of what each has in the mean, which is that of the batch only where
all shares are alike. Here each device is given as many examples as every other, some of them fill, and how many there
are in the batch: loss, gradient and metrics are those of one device, but for rounding.
"""

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainyard.arrays import Array
from trainyard.training import piped
from trainyard.training.batches import Batches, Fed

Share = tuple[tuple[Array, ...], Array, int]
"""Of a batch: examples, which of them are no fill `[n]`, and how many there are in the batch."""


class Shares:
    """The batches of epoch after epoch, without an end, in shares for the devices of a strategy."""

    def __init__(self, batches: Batches, *arrays: Any) -> None:
        """`arrays` `[count, ...]` as in `Fed`."""
        self.batches, self.fed, self.epoch = batches, Fed(batches, *arrays), 0

    def start(self, epoch: int) -> None:
        """The epoch, counted from 0, that is the first of a dataset which nobody has begun to read."""
        self.epoch = epoch

    def dataset(self) -> tf.distribute.DistributedDataset:
        """Shares as Keras' `fit` takes them; each process reads those of its own devices alone."""
        signature = (piped.examples(self.fed), tf.TensorSpec((None,), tf.bool), tf.TensorSpec((), tf.int32))

        def of_process(context: tf.distribute.InputContext) -> tf.data.Dataset:
            devices = context.num_replicas_in_sync // context.num_input_pipelines
            first = context.input_pipeline_id * devices
            shares = partial(self._of, context.num_replicas_in_sync, range(first, first + devices))
            return piped.piped(shares, signature, tf.data.INFINITE_CARDINALITY, devices)

        return tf.distribute.get_strategy().distribute_datasets_from_function(of_process)

    def _of(self, replicas: int, mine: range) -> Iterator[Share]:
        for epoch in itertools.count(self.epoch):
            for batch in self.batches.of(epoch):
                shares = np.resize(batch, (replicas, -(-len(batch) // replicas)))
                there = np.arange(shares.size).reshape(shares.shape) < len(batch)
                for number in mine:
                    yield self.fed.share(shares[number], batch), there[number], len(batch)


class Replicated(keras.Model):
    """A model that shares all layers of `core`, and whose steps take each device's share of a batch."""

    def __init__(self, core: keras.Model, arrays: tuple[Any, ...]) -> None:
        """`arrays` `[count, ...]`: what it is fed."""
        super().__init__(core.inputs, core.outputs)
        self.sample = [np.asarray(array[:2]) for array in arrays]
        self.devices = tf.distribute.get_strategy().num_replicas_in_sync

    def train_step(self, data: tuple[Any, ...]) -> dict[str, Any]:
        """The step of a batch: the gradients of all shares are summed when they are applied."""
        with tf.GradientTape() as tape:
            loss, answer = self._asked(data, training=True)
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        return self._told(data, loss, answer)

    def test_step(self, data: tuple[Any, ...]) -> dict[str, Any]:
        """As Keras' own."""
        return self._told(data, *self._asked(data, training=False))

    def _asked(self, data: tuple[Any, ...], *, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """The share's part of the batch's loss, and answers."""
        (x, y, *weight), there, count = data
        answer = self(x, training=training)
        # Keras divides by the examples of the share, fill or not, and by the number of devices
        part = tf.cast(tf.size(there) * self.devices / count, answer.dtype)
        weights = tf.cast(there, answer.dtype) * part * (weight[0] if weight else 1)
        return self.compute_loss(x=x, y=y, y_pred=answer, sample_weight=weights, training=training), answer

    def _told(self, data: tuple[Any, ...], loss: tf.Tensor, answer: tf.Tensor) -> dict[str, Any]:
        (x, y, *_), there, count = data
        self._loss_tracker.update_state(loss * self.devices, sample_weight=count / self.devices)
        self.compute_metrics(x, tf.boolean_mask(y, there), tf.boolean_mask(answer, there))
        # with a dimension to take the mean over: Keras takes it where there are many processes, and scalars have none
        return {name: tf.expand_dims(value, 0) for name, value in self.get_metrics_result().items()}

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """By a sample; Keras takes the mean of a batch over the devices, which many processes fail at (its #20585)."""
        with self.distribute_strategy.scope():
            self._symbolic_build(data_batch=tuple(self.sample))
