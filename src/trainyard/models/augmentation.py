"""Random changes of training images and recordings, as layers that do nothing when a model answers."""

import keras
from keras import layers

from trainyard.params import Augment, Disturb


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


def disturbance(spec: Disturb, shape: tuple[int, ...]) -> keras.Sequential:
    """Layers on spectrograms `[n, frames, bands]`, float32, mean 0 and variance 1.

    In the manner of SpecAugment (Park et al., 2019), with dropout of single bands and frames in place of runs of them;
    as dropout does, what stays is scaled up.
    """
    bands = shape[-1]
    steps: list[keras.Layer] = []
    if spec.pitch:
        steps += [
            layers.Reshape((-1, bands, 1)),
            layers.RandomTranslation(0.0, spec.pitch, fill_mode="nearest"),
            layers.Reshape((-1, bands)),
        ]
    if spec.bands:
        steps.append(layers.Dropout(spec.bands, noise_shape=(None, 1, bands)))
    if spec.frames:
        steps.append(layers.Dropout(spec.frames, noise_shape=(None, None, 1)))
    if spec.noise:
        steps.append(layers.GaussianNoise(spec.noise))
    return keras.Sequential([keras.Input(shape), *steps], name="disturbance")
