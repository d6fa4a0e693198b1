"""Random changes of training images, as layers that do nothing when a model answers."""

import keras
from keras import layers

from trainyard.params import Augment


def augmentation(spec: Augment, shape: tuple[int, ...]) -> keras.Sequential:
    """Layers on images `[n, height, width, channels]`, float32 in [0, 1]; edges are filled with the nearest pixel."""
    steps: list[keras.Layer] = []
    if spec.flip != "none":
        steps.append(layers.RandomFlip("horizontal_and_vertical" if spec.flip == "both" else spec.flip))
    if spec.rotate:
        steps.append(layers.RandomRotation(spec.rotate, fill_mode="nearest"))
    if spec.shift:
        steps.append(layers.RandomTranslation(spec.shift, spec.shift, fill_mode="nearest"))
    if spec.zoom:
        steps.append(layers.RandomZoom(spec.zoom, fill_mode="nearest"))
    if spec.contrast:
        steps.append(layers.RandomContrast(spec.contrast, value_range=(0, 1)))
    if spec.brightness:
        steps.append(layers.RandomBrightness(spec.brightness, value_range=(0, 1)))
    if spec.hue and shape[-1] == 3:
        steps.append(layers.RandomHue(spec.hue, value_range=(0, 1)))
    return keras.Sequential([keras.Input(shape), *steps], name="augmentation")
