"""A model as a server asks it: compiled by TensorFlow, once for each size of question."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainyard.arrays import Array


class Compiled:
    """What a model gives for raw values, compiled by TensorFlow once for each size that it is asked."""

    def __init__(self, model: keras.Model) -> None:
        """`model` takes raw values by name."""
        self.model = model
        self.sizes: dict[tuple[Any, ...], Any] = {}

    def __call__(self, values: Mapping[str, Any]) -> Array:
        """Answers `[n, ...]`; a table's columns of numbers go to TensorFlow as one matrix."""
        columns = [name for name, array in values.items() if array.dtype == np.float32 and array.shape[1:] == (1,)]
        others = {name: array for name, array in values.items() if name not in columns}
        matrix = np.concatenate([values[name] for name in columns], axis=1) if columns else None
        given = [*([] if matrix is None else [matrix]), *others.values()]
        given = [array if array.dtype.kind in "fiu" else array.astype(object) for array in given]
        size = tuple(array.shape for array in given)
        if size not in self.sizes:

            def model(*tensors: Any) -> Any:
                split = tf.split(tensors[0], len(columns), axis=1) if columns else []
                rest = tensors[1:] if columns else tensors
                named = {**dict(zip(columns, split, strict=True)), **dict(zip(others, rest, strict=True))}
                return self.model(named, training=False)

            kinds_of = [tf.string if array.dtype == object else tf.as_dtype(array.dtype) for array in given]
            signature = [tf.TensorSpec(array.shape, dtype) for array, dtype in zip(given, kinds_of, strict=True)]
            self.sizes[size] = tf.function(model).get_concrete_function(*signature)
        answer: Array = self.sizes[size](*map(tf.constant, given)).numpy()
        return answer
