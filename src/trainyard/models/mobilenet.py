"""MobileNet: a pretrained backbone under a new head (Howard et al., 2017 and 2019; Sandler et al., 2018)."""

import keras
from keras import layers

from trainyard.models import Features, Head, pretrained
from trainyard.models.augmentation import augmentation
from trainyard.params import Backbone, MobileNet, Thaw

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

    Batch normalisation of the backbone does not train unless `thaw` lets it, which in Keras keeps it in inference mode:
    its statistics are worth more than those of a small new set. To call the backbone with `training=False`, as guides
    say, is not enough: a functional model that is itself called with `training=True` passes that on.
    """
    inputs = keras.Input(features.shape)
    trunk = _trunk(spec.backbone, features.shape)
    top = _top(spec, trunk.output_shape[1:], head)
    return keras.Model(inputs, top(trunk(augmentation(spec.augment, features.shape)(inputs))), name="mobilenet")


def thaw(core: keras.Model, spec: Thaw) -> list[keras.Layer]:
    """Let the top of the backbone train, batch normalisation where params ask for it; gives the layers that do."""
    trunk = core.get_layer("trunk")
    trunk.trainable = True
    every = _inner(trunk.get_layer("backbone"))
    chosen = every if spec.layers == "all" else every[-spec.layers :]
    _let_train(every, chosen, spec.batch_normalization == "trained")
    return [layer for layer in every if layer.trainable_weights]


def rates(core: keras.Model, decay: float) -> list[float]:
    """The share of the learning rate that each trainable variable of a core has, in their order.

    1 in the head, and `decay` times as much with each layer further down; batch normalisation is a part of what it
    normalises.
    """
    share, shares = 1.0, {}
    for layer in reversed(_inner(core.get_layer("trunk").get_layer("backbone"))):
        below = share * decay
        if layer.trainable_variables and not isinstance(layer, layers.BatchNormalization):
            share = below
        shares.update({id(variable): below for variable in layer.trainable_variables})
    return [shares.get(id(variable), 1.0) for variable in core.trainable_variables]


def _inner(model: keras.Model) -> list[keras.Layer]:
    """The layers of a model from input to output, those of models in it one by one."""
    return [one for layer in model.layers for one in (_inner(layer) if hasattr(layer, "layers") else [layer])]


def _let_train(every: list[keras.Layer], chosen: list[keras.Layer], normalisation: bool = False) -> None:
    for layer in every:
        layer.trainable = layer in chosen and (normalisation or not isinstance(layer, layers.BatchNormalization))


def _trunk(spec: Backbone, shape: tuple[int, ...]) -> keras.Model:
    inputs = x = keras.Input(shape)
    if shape[-1] == 1:
        x = layers.Concatenate()([x] * 3)
    backbone = pretrained.own(spec) if spec.own else None
    shorter, fixed = min(shape[:2]), backbone.input_shape[1:3] if backbone else (None, None)
    resolution = spec.resolution or max(LEAST, shorter)
    sides = tuple(own or round(side * resolution / shorter) for own, side in zip(fixed, shape[:2], strict=True))
    if sides != shape[:2]:
        x = layers.Resizing(*sides, antialias=True)(x)
    backbone = backbone or network(spec, x.shape[1:])
    _let_train(every := _inner(backbone), every)
    black, white = spec.black_white
    x = backbone(layers.Rescaling(white - black, black)(x))
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(x) if len(x.shape) == 4 else x, name="trunk")


def _top(spec: MobileNet, shape: tuple[int, ...], head: Head) -> keras.Model:
    inputs = x = keras.Input(shape)
    for units in spec.dense:
        x = layers.Dropout(spec.dropout)(x)
        x = layers.Dense(units, activation=spec.activation)(x)
    x = layers.Dropout(spec.dropout)(x)
    return keras.Model(inputs, head(x), name="top")
