"""RNN: recurrent layers (Elman, 1990; Hochreiter & Schmidhuber, 1997; Cho et al., 2014)."""

from typing import Any

import keras
from keras import layers, ops

from trainyard.models import Features, Head, ctc
from trainyard.models.augmentation import disturbance
from trainyard.params import RNN

CELLS = {"simple": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}


def build(spec: RNN, features: Features, head: Head) -> keras.Model:
    """Recurrent layers on sequences of numbers `[n, steps, columns]` or of tokens `[n, steps]`.

    The last layer gives its last state, or with `head.every_step` that of each step. What is all 0 at the end of such
    a sequence, and token 0, is padding: the recurrent layers do not see it.
    """
    inputs = x = keras.Input(features.shape, dtype="int32" if features.tokens else "float32")
    there = None
    if features.tokens:
        there = ops.not_equal(x, 0)
        x = _padded(layers.Embedding(features.tokens, spec.embedding)(x), there, 0.0)
    elif head.every_step:
        there = ops.any(ops.not_equal(x, 0), axis=-1)
        x = _padded(disturbance(spec.disturb, features.shape)(x), there, 0.0)
    for place, filters in enumerate(spec.filters):
        stride = spec.stride if place == len(spec.filters) - 1 else 1
        sizes = spec.kernel if isinstance(spec.kernel, list) else [spec.kernel]
        side_by_side = [_convolved(x, filters, size, stride) for size in sizes]
        x = layers.Concatenate()(side_by_side) if len(sizes) > 1 else side_by_side[0]
        there = None if there is None else there[:, ::stride]
        x = layers.BatchNormalization(momentum=0.9)(x, mask=there)
        x = _padded(layers.ReLU()(x), there, 0.0)
    every_step = head.every_step or spec.pooling == "max"
    for depth, units in enumerate(spec.units):
        cell = CELLS[spec.cell](
            units,
            activation=spec.activation,
            dropout=spec.dropout,
            recurrent_dropout=spec.recurrent_dropout,
            return_sequences=every_step or depth < len(spec.units) - 1,
        )
        x = (layers.Bidirectional(cell) if spec.bidirectional else cell)(x, mask=there)
    if every_step and not head.every_step:
        x = ops.max(_padded(x, there, ops.min(x, axis=1, keepdims=True)), axis=1)
    for units in spec.dense:
        x = layers.Dense(units, activation="relu")(_dropped(x, spec.head_dropout))
    x = _dropped(x, spec.head_dropout)
    return keras.Model(inputs, ctc.head(x, there, head.units) if head.every_step else head(x), name="rnn")


def _padded(x: keras.KerasTensor, there: keras.KerasTensor | None, value: Any) -> keras.KerasTensor:
    return x if there is None else ops.where(ops.expand_dims(there, -1), x, value)


def _convolved(x: keras.KerasTensor, filters: int, size: int, stride: int) -> keras.KerasTensor:
    # not padding="same", by which steps lie otherwise where their number is odd
    padded = layers.ZeroPadding1D(((size - 1) // 2, size // 2))(x)
    return layers.Conv1D(filters, size, stride, use_bias=False)(padded)


def _dropped(x: keras.KerasTensor, share: float) -> keras.KerasTensor:
    return layers.Dropout(share)(x) if share else x
