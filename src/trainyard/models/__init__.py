"""Model families, one file each, all of the same shape: `build(spec, features, head)`.

Keras layers and `keras.ops` alone, so that each trains under every backend of Keras.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from trainyard.errors import BadInput
from trainyard.params import Model
from trainyard.quality.objectives import Objective

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import keras

RECURRENT = {"SimpleRNN", "LSTM", "GRU"}
"""Keras' names of the layers with a state."""


@dataclass(frozen=True)
class Features:
    """What a core sees: float32 `[n, *shape]`, or int32 numbers of tokens `[n, *shape]`, 0 where there is none."""

    shape: tuple[Any, ...]
    """Without the examples; None for a side that is not the same for all, as the steps of speech."""
    tokens: int = 0
    """How many tokens are told apart; 0 where the features are not tokens."""


@dataclass(frozen=True)
class Head:
    """The last layer, as the objective wants it."""

    units: int
    activation: str
    every_step: bool = False
    """An answer for each step of a sequence, not one for the whole."""

    def __call__(self, x: "keras.KerasTensor") -> "keras.KerasTensor":
        """A dense layer on features `[n, features]`."""
        from keras import layers

        return layers.Dense(self.units, activation=self.activation, name="head")(x)


class Family(Protocol):
    """What each file in this folder that bears a family's name offers."""

    def build(self, spec: Model, features: Features, head: Head) -> "keras.Model":
        """The core: from features to what the head gives; weights are random."""


def family(spec: Model) -> Family:
    """The file that a model block names."""
    return cast("Family", import_module(f"trainyard.models.{spec.family}"))  # type: ignore[attr-defined]  # every one has it


def compilable(core: "keras.Model") -> None:
    """Let JAX compile a network whose layers turn images: they decline XLA, but it is TensorFlow's that fails at them.

    Else JAX computes all of the network op by op, each compiled by itself.
    """
    import keras

    if keras.backend.backend() == "jax":
        for layer in layers(core):
            layer.supports_jit = True


def layers(layer: "keras.Layer") -> "Iterator[keras.Layer]":
    """A layer and all that are nested in it."""
    yield layer
    inner = [layer.forward_layer] if hasattr(layer, "forward_layer") else getattr(layer, "layers", [])
    for one in inner:
        yield from layers(one)


def build(spec: Model, features: Features, objective: Objective, units: int) -> "keras.Model":
    """The core of a model, for an objective that needs so many units."""
    return family(spec).build(spec, features, Head(units, objective.activation, objective.name == "transcription"))


def assign(model: "keras.Model", values: "Iterable[Any]") -> None:
    """Give the variables of a model, in their order, other values; `Normalization` counts with copies of its own."""
    import keras

    for variable, value in zip(model.variables, values, strict=True):
        variable.assign(value)
    for layer in layers(model):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def finite(model: "keras.Model", path: Path) -> None:
    """Raises BadInput where a weight that came from `path` is not finite."""
    import keras

    for variable in model.variables:
        values = keras.ops.convert_to_numpy(variable)
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise BadInput(f"{path}: the weights of `{variable.path}` are not finite (train the model again)")
