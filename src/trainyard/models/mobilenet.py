"""MobileNet: a pretrained backbone under a new head (Howard et al., 2017 and 2019; Sandler et al., 2018)."""

import keras
from keras import layers

from trainyard.models import Features, Head
from trainyard.models.augmentation import augmentation
from trainyard.params import Backbone, MobileNet

NETWORKS = {
    "v1": keras.applications.MobileNet,
    "v2": keras.applications.MobileNetV2,
    "v3-small": keras.applications.MobileNetV3Small,
    "v3-large": keras.applications.MobileNetV3Large,
}
LEAST = 32
"""Pixels a side, below which nothing is left of an image after five halvings."""


def network(spec: Backbone, shape: tuple[int, ...], weights: str | None = None) -> keras.Model:
    """The network without its top: images `[n, height, width, 3]` in [-1, 1] to `[n, height/32, width/32, filters]`.

    `weights` is None (random), `imagenet` or a file. Raises ValueError where they do not fit.
    """
    # v3 would scale by itself; here all versions see the same range
    own = {"include_preprocessing": False} if spec.version.startswith("v3") else {}
    return NETWORKS[spec.version](
        input_shape=shape, alpha=spec.width, include_top=False, weights=weights, name="backbone", **own
    )


def build(spec: MobileNet, features: Features, head: Head) -> keras.Model:
    """Augmentation, `trunk` (images `[n, height, width, channels]` in [0, 1] to features), `top` (features to answers).

    Batch normalisation of the backbone never trains, which in Keras keeps it in inference mode: its statistics are
    worth more than those of a small new set. To call the backbone with `training=False`, as guides say, is not enough:
    a functional model that is itself called with `training=True` passes that on.
    """
    inputs = keras.Input(features.shape)
    trunk = _trunk(spec.backbone, features.shape)
    top = _top(spec, trunk.output_shape[1:], head)
    return keras.Model(inputs, top(trunk(augmentation(spec.augment, features.shape)(inputs))), name="mobilenet")


def thaw(core: keras.Model, count: int) -> list[keras.Layer]:
    """Let the last `count` layers of the backbone train, batch normalisation never; gives the layers that do."""
    backbone = core.get_layer("trunk").get_layer("backbone")
    _let_train(backbone, backbone.layers[-count:])
    return [layer for layer in backbone.layers if layer.trainable_weights]


def _let_train(backbone: keras.Model, chosen: list[keras.Layer]) -> None:
    for layer in backbone.layers:
        layer.trainable = layer in chosen and not isinstance(layer, layers.BatchNormalization)


def _trunk(spec: Backbone, shape: tuple[int, ...]) -> keras.Model:
    inputs = x = keras.Input(shape)
    if shape[-1] == 1:
        x = layers.Concatenate()([x] * 3)
    shorter = min(shape[:2])
    if (resolution := spec.resolution or max(LEAST, shorter)) != shorter:
        height, width = (round(side * resolution / shorter) for side in shape[:2])
        x = layers.Resizing(height, width, antialias=True)(x)
    backbone = network(spec, x.shape[1:])
    _let_train(backbone, backbone.layers)
    x = backbone(layers.Rescaling(2.0, -1.0)(x))
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(x), name="trunk")


def _top(spec: MobileNet, shape: tuple[int, ...], head: Head) -> keras.Model:
    inputs = x = keras.Input(shape)
    for units in spec.dense:
        x = layers.Dropout(spec.dropout)(x)
        x = layers.Dense(units, activation=spec.activation)(x)
    x = layers.Dropout(spec.dropout)(x)
    return keras.Model(inputs, head(x), name="top")
