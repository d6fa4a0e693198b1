"""What a pretrained network sees in images, without any training of ours."""

from collections.abc import Iterable

import keras
import numpy as np

from trainyard.arrays import Array
from trainyard.models import Features, Head, mobilenet, pretrained
from trainyard.params import Backbone, MobileNet

RESOLUTION = 96


def of_images(parts: Iterable[Array], shape: tuple[int, int, int]) -> Array:
    """Features float32 `[n, 256]` of images uint8 `[any, *shape]`, by the MobileNet whose weights ship."""
    backbone = Backbone(version="v1", width=0.25, resolution=RESOLUTION, weights="embedded")
    spec = MobileNet(family="mobilenet", dataset="any", backbone=backbone)
    trunk = mobilenet.build(spec, Features(shape), Head(1, "linear")).get_layer("trunk")
    trunk.get_layer("backbone").set_weights(pretrained.resolve(backbone)[0].get_weights())
    seen = [trunk(part.astype(np.float32) / 255, training=False) for part in parts]
    return np.concatenate([keras.ops.convert_to_numpy(features) for features in seen])
