"""Twins: the networks of the benchmarks in PyTorch, with the weights that Keras begins with."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class Recurrent(nn.Module):
    """An LSTM or GRU layer of Keras; `every_step` gives all its states, else the last alone."""

    def __init__(self, cell: str, inputs: int, units: int, every_step: bool = False) -> None:
        super().__init__()
        self.layer = {"lstm": nn.LSTM, "gru": nn.GRU}[cell](inputs, units, batch_first=True)
        self.every_step = every_step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[n, steps, inputs]` to `[n, units]`, or to `[n, steps, units]`."""
        states = self.layer(x)[0]
        return states if self.every_step else states[:, -1]

    def take(self, weights: Iterator[torch.Tensor]) -> None:
        """Gates lie in another order in Keras' GRU, and its LSTM has one bias where PyTorch has two."""
        gates = [1, 0, 2] if isinstance(self.layer, nn.GRU) else [0, 1, 2, 3]

        def ordered(weight: torch.Tensor) -> torch.Tensor:
            parts = weight.chunk(len(gates), dim=-1)
            return torch.cat([parts[gate] for gate in gates], dim=-1)

        self.layer.weight_ih_l0.copy_(ordered(next(weights)).T)
        self.layer.weight_hh_l0.copy_(ordered(next(weights)).T)
        bias = ordered(next(weights))
        if len(gates) == 4:
            self.layer.bias_ih_l0.copy_(bias)
            self.layer.bias_hh_l0.zero_().requires_grad_(False)
        else:
            self.layer.bias_ih_l0.copy_(bias[0])
            self.layer.bias_hh_l0.copy_(bias[1])


class Convolved(nn.Module):
    """A convolution of Keras, `padding="same"`, with batch normalisation and perhaps an activation."""

    def __init__(self, before: int, after: int, side: int, relu: str = "none", stride: int = 1, **more: object) -> None:
        """`more` are arguments of `Conv2d` and, as `frozen`, whether batch normalisation keeps its statistics."""
        super().__init__()
        self.frozen = bool(more.pop("frozen", False))
        self.convolution = nn.Conv2d(before, after, side, stride, 0 if stride > 1 else side // 2, bias=False, **more)
        self.normalisation = nn.BatchNorm2d(after, eps=1e-3)
        self.normalisation.requires_grad_(not self.frozen)
        self.relu = {"relu": nn.ReLU(), "relu6": nn.ReLU6(), "none": nn.Identity()}[relu]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[n, before, height, width]` to `[n, after, height / stride, width / stride]`."""
        if self.convolution.stride[0] > 1:  # where a side is even, Keras pads its end alone
            x = functional.pad(x, (0, 1, 0, 1))
        return self.relu(self.normalisation(self.convolution(x)))

    def train(self, mode: bool = True) -> "Convolved":
        """Frozen batch normalisation stays in inference mode."""
        super().train(mode)
        self.normalisation.train(mode and not self.frozen)
        return self

    def take(self, weights: Iterator[torch.Tensor]) -> None:
        """A depthwise kernel has its filters in the third place."""
        kernel = next(weights)
        self.convolution.weight.copy_(
            kernel.permute(2, 3, 0, 1) if self.convolution.groups > 1 else kernel.permute(3, 2, 0, 1)
        )
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(self.normalisation, name).copy_(next(weights))


class Dense(nn.Linear):
    """A dense layer of Keras."""

    def take(self, weights: Iterator[torch.Tensor]) -> None:
        """Keras has the transposed matrix."""
        self.weight.copy_(next(weights).T)
        self.bias.copy_(next(weights))


class Bottleneck(nn.Sequential):
    """An inverted residual block (Sandler et al., 2018)."""

    def __init__(self, before: int, after: int, stride: int, expansion: int) -> None:
        inner = before * expansion
        layers = [Convolved(before, inner, 1, "relu6", frozen=True)] if expansion > 1 else []
        super().__init__(
            *layers,
            Convolved(inner, inner, 3, "relu6", stride, groups=inner, frozen=True),
            Convolved(inner, after, 1, frozen=True),
        )
        self.residual = stride == 1 and before == after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[n, before, height, width]` to `[n, after, height / stride, width / stride]`."""
        return x + super().forward(x) if self.residual else super().forward(x)


def mlp(sizes: list[int]) -> list[nn.Module]:
    """Dense layers with ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [Dense(before, after), nn.ReLU()]
    return layers[:-1]


def cnn() -> list[nn.Module]:
    """Two blocks of convolution and pooling, the mean over the image, two dense layers."""
    blocks = [Convolved(1, 32, 3, "relu"), nn.MaxPool2d(2), Convolved(32, 64, 3, "relu"), nn.MaxPool2d(2)]
    return [*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *mlp([64, 64, 10])]


def lstm() -> list[nn.Module]:
    """A layer of LSTM and a number."""
    return [Recurrent("lstm", 10, 64), Dense(64, 1)]


def ctc() -> list[nn.Module]:
    """Two layers of GRU, and the probabilities of blank and letters at each step."""
    return [Recurrent("gru", 48, 96, True), Recurrent("gru", 96, 96, True), Dense(96, 29), nn.LogSoftmax(-1)]


def mobilenet() -> list[nn.Module]:
    """MobileNetV2 with ten classes; batch normalisation does not train."""
    layers: list[nn.Module] = [Convolved(3, 32, 3, "relu6", 2, frozen=True)]
    before = 32
    for expansion, filters, count, stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for number in range(count):
            layers.append(Bottleneck(before, filters, 1 if number else stride, expansion))
            before = filters
    layers += [Convolved(before, 1280, 1, "relu6", frozen=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), Dense(1280, 10)]
    return layers


NETWORKS = {"mlp": lambda: mlp([30, 64, 32, 1]), "cnn": cnn, "lstm": lstm, "ctc": ctc, "mobilenet": mobilenet}


def made(name: str, weights: Path) -> nn.Sequential:
    """The network of that name with the weights of a file, in the order in which Keras has them."""
    network = nn.Sequential(*NETWORKS[name]())
    left = (torch.tensor(weight) for weight in np.load(weights).values())
    with torch.no_grad():
        for layer in network.modules():
            if hasattr(layer, "take"):
                layer.take(left)
    if next(left, None) is not None:
        raise ValueError(f"{name}: weights are left over")
    return network.train().to(memory_format=torch.channels_last)


def loss(name: str, answer: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The mean loss of a batch, from logits, numbers or log probabilities."""
    if name == "mlp":
        return functional.binary_cross_entropy_with_logits(answer, y)
    if name == "lstm":
        return functional.mse_loss(answer, y)
    if name != "ctc":
        return functional.cross_entropy(answer, y)
    steps = torch.full((len(y),), answer.shape[1])
    letters = (y != 0).sum(dim=1)
    return functional.ctc_loss(answer.transpose(0, 1), y, steps, letters, reduction="none").mean()
