"""MLP: dense layers (Rumelhart, Hinton & Williams, 1986)."""

import keras
from keras import layers, regularizers

from trainyard.models import Features, Head
from trainyard.params import MLP


def build(spec: MLP, features: Features, head: Head) -> keras.Model:
    """Dense layers on features; what has more than one axis is laid flat."""
    inputs = x = keras.Input(features.shape)
    if len(features.shape) > 1:
        x = layers.Flatten()(x)
    for units in spec.layers:
        x = layers.Dense(units, kernel_regularizer=regularizers.L2(spec.l2) if spec.l2 else None)(x)
        if spec.batch_normalization:
            x = layers.BatchNormalization()(x)
        x = layers.Activation(spec.activation)(x)
        x = layers.Dropout(spec.dropout)(x)
    return keras.Model(inputs, head(x), name="mlp")
