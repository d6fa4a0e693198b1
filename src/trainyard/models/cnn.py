"""CNN: convolution and pooling blocks, then dense layers (LeCun et al., 1998)."""

import keras
from keras import layers

from trainyard.models import Features, Head
from trainyard.models.augmentation import augmentation
from trainyard.params import CNN


def build(spec: CNN, features: Features, head: Head) -> keras.Model:
    """A classifier of images `[n, height, width, channels]`, float32 in [0, 1]."""
    inputs = keras.Input(features.shape)
    x = augmentation(spec.augment, features.shape)(inputs)
    for filters in spec.filters:
        for _ in range(spec.convolutions):
            x = layers.Conv2D(filters, spec.kernel, padding="same", use_bias=False)(x)
            x = layers.BatchNormalization(momentum=0.9)(x)  # Keras' 0.99 takes longer to settle than small data trains
            x = layers.Activation(spec.activation)(x)
        x = layers.MaxPooling2D(padding="same")(x)
    x = layers.GlobalAveragePooling2D()(x) if spec.pooling == "average" else layers.Flatten()(x)
    for units in spec.dense:
        x = layers.Dropout(spec.dropout)(x)
        x = layers.Dense(units, activation=spec.activation)(x)
    x = layers.Dropout(spec.dropout)(x)
    return keras.Model(inputs, head(x), name="cnn")
