"""Layers that LiteRT and ONNX lack, as products and convolutions by constants, which they have."""

from typing import Any

import keras
from keras import layers, ops


def portable(model: keras.Model) -> keras.Model:
    """A model that shares all weights with `model`, and has such layers in the place of those that are lacking."""

    def instead(layer: Any) -> Any:
        if isinstance(layer, keras.Model):
            return portable(layer)
        if isinstance(layer, layers.Resizing) and layer.antialias:
            return Resized(layer)
        return MelBands(layer) if isinstance(layer, layers.MelSpectrogram) else layer

    return keras.models.clone_model(model, clone_function=instead)


def still(model: keras.Model) -> None:
    """Take the dropout from recurrent layers: they draw it even where it is not used, from a state that files lack."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            still(layer)
        ways = [layer.forward_layer, layer.backward_layer] if isinstance(layer, layers.Bidirectional) else [layer]
        for way in ways:
            if isinstance(way, layers.RNN):
                way.cell.dropout = way.cell.recurrent_dropout = 0.0


class Resized(layers.Layer):
    """`Resizing` of images of one size with `antialias`: each side is a product with a matrix."""

    def __init__(self, of: layers.Resizing) -> None:
        super().__init__(name=of.name)
        self.of = of

    def build(self, shape: tuple[int, ...]) -> None:
        """How each side is mixed, as the layer itself mixes unit vectors."""
        sides = [(shape[1], self.of.height), (shape[2], self.of.width)]
        self.rows, self.columns = (_mixed(old, new, self.of.interpolation) for old, new in sides)

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Images `[n, height, width, channels]` to those of the new size."""
        _, height, width, channels = x.shape
        x = ops.matmul(self.rows, ops.reshape(x, (-1, height, width * channels)))
        return ops.matmul(self.columns, ops.reshape(x, (-1, len(self.rows), width, channels)))


class MelBands(layers.Layer):
    """`MelSpectrogram` without decibels: the Fourier transform is a convolution with windowed waves."""

    def __init__(self, of: layers.MelSpectrogram) -> None:
        super().__init__(name=of.name)
        self.of, length = of, of.fft_length
        units = ops.eye(length)  # of which each is one frame
        parts = ops.stft(units, of.sequence_length, of.sequence_stride, length, of.window, center=False)
        self.waves = ops.convert_to_numpy(ops.concatenate(parts, axis=-1))
        matrix = of.linear_to_mel_weight_matrix(
            of.num_mel_bins, length // 2 + 1, of.sampling_rate, of.min_freq, of.max_freq
        )
        self.bands = ops.convert_to_numpy(matrix)

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Samples `[n, samples]` to the power of each band `[n, bands, frames]`."""
        half = self.of.fft_length // 2
        x = ops.expand_dims(ops.pad(x, ((0, 0), (half, half)), mode="reflect"), -1)
        cosine, sine = ops.split(ops.conv(x, self.waves, strides=self.of.sequence_stride), 2, axis=-1)
        power = ops.square(cosine) + ops.square(sine)
        return ops.transpose(ops.matmul(power, self.bands), (0, 2, 1))


def _mixed(old: int, new: int, interpolation: str) -> Any:
    """The matrix `[new, old]` by which a side is resized."""
    unit = ops.expand_dims(ops.eye(old), -1)
    resized = ops.image.resize(unit, (new, old), interpolation, antialias=True)
    return ops.convert_to_numpy(resized)[..., 0]
