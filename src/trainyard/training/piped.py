"""What TensorFlow is fed: batches from a generator, as one of its datasets.

Without its tuner of pipelines. That has a thread for each epoch, which sleeps for up to a minute at a time, and now and
then an epoch's end waits until it wakes.
"""

from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf

from trainyard.training.batches import Fed


def piped(made: Callable[[], Iterable[Any]], signature: Any, count: int, ahead: int = 1) -> tf.data.Dataset:
    """`count` elements of what `made` gives for each epoch, so many of them made ahead."""
    options = tf.data.Options()
    options.autotune.enabled = False
    elements = tf.data.Dataset.from_generator(made, output_signature=signature)
    return elements.apply(tf.data.experimental.assert_cardinality(count)).prefetch(ahead).with_options(options)


def examples(fed: Fed) -> tuple[tf.TensorSpec, ...]:
    """What a batch is: `[n, ...]`, and of examples that are cut `[n, length, ...]`, of as many as it may have."""
    shapes = [(None, *part.shape[1:]) for part in fed.arrays]
    if fed.batches.cut is not None:
        shapes[0] = (None, None, *fed.arrays[0].shape[2:])
    return tuple(tf.TensorSpec(*spec) for spec in zip(shapes, [part.dtype for part in fed.arrays], strict=True))


def batches(fed: Fed) -> tf.data.Dataset:
    """The batches of an epoch."""
    return piped(lambda: (fed[index] for index in range(len(fed))), examples(fed), len(fed), 2)
