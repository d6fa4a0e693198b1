"""Model families, one file each, all of the same shape: `build(spec, shape, head)`.

Keras layers and `keras.ops` alone, so that each trains under every backend of Keras.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from trainyard.params import Model
from trainyard.quality.objectives import Objective

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Head:
    """The last layer, as the objective wants it."""

    units: int
    activation: str

    def __call__(self, x: "keras.KerasTensor") -> "keras.KerasTensor":
        """A dense layer on features `[n, features]`."""
        from keras import layers

        return layers.Dense(self.units, activation=self.activation, name="head")(x)


class Family(Protocol):
    """What each file in this folder that bears a family's name offers."""

    def build(self, spec: Model, shape: tuple[int, ...], head: Head) -> "keras.Model":
        """The core: from features `[n, *shape]`, float32, to what the head gives; weights are random."""


def family(spec: Model) -> Family:
    """The file that a model block names."""
    return cast("Family", import_module(f"trainyard.models.{spec.family}"))  # type: ignore[attr-defined]  # every one has it


def build(spec: Model, shape: tuple[int, ...], objective: Objective, units: int) -> "keras.Model":
    """The core of a model, for features `[n, *shape]` and an objective that needs so many units."""
    return family(spec).build(spec, shape, Head(units, objective.activation))
