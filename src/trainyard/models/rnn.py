"""RNN: recurrent layers (Elman, 1990; Hochreiter & Schmidhuber, 1997; Cho et al., 2014)."""

import keras
from keras import layers

from trainyard.models import Head
from trainyard.params import RNN

CELLS = {"simple": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}


def build(spec: RNN, shape: tuple[int, ...], head: Head) -> keras.Model:
    """Recurrent layers on sequences `[n, steps, columns]`; the last one gives its last state."""
    inputs = x = keras.Input(shape)
    for depth, units in enumerate(spec.units):
        cell = CELLS[spec.cell](
            units,
            activation=spec.activation,
            dropout=spec.dropout,
            recurrent_dropout=spec.recurrent_dropout,
            return_sequences=depth < len(spec.units) - 1,
        )
        x = (layers.Bidirectional(cell) if spec.bidirectional else cell)(x)
    for units in spec.dense:
        x = layers.Dense(units, activation="relu")(x)
    return keras.Model(inputs, head(x), name="rnn")
