"""How far a figure can be trusted: percentile bootstrap intervals (Efron & Tibshirani, 1993).

Examples that hang together are drawn together: whole groups where the data has groups (a patient, a glyph), blocks of
neighbours in time for series (Kunsch, 1989). Draws depend on the seed alone.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainyard.arrays import Array

Floats = NDArray[np.floating]

DRAWS = 1000
LEVEL = 0.95
LEAST_UNITS = 5
"""Of fewer examples, groups or blocks the bootstrap says nothing: their intervals are not defined."""


@dataclass(frozen=True)
class Interval:
    """A figure with the ends of its 95% interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float | None]:
        """As it stands in metrics.json; null for what is not defined."""
        return {key: None if np.isnan(value) else round(value, 6) for key, value in vars(self).items()}

    def __str__(self) -> str:
        if np.isnan(self.low):
            return f"{self.value:.4g} (of too few independent examples for an interval)"
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


@dataclass(frozen=True)
class Draws:
    """Bootstrap draws of n examples, the same for every metric and model that is compared on them."""

    units: tuple[NDArray[np.intp], ...]
    """Examples that are drawn together."""
    seed: int

    def __iter__(self) -> Iterator[NDArray[np.intp]]:
        """Gives `DRAWS` arrays of indices into the examples; none where there are fewer than `LEAST_UNITS` units."""
        if len(self.units) < LEAST_UNITS:
            return
        rng = np.random.default_rng(self.seed)
        single = all(len(unit) == 1 for unit in self.units)
        flat = np.concatenate(self.units)
        for _ in range(DRAWS):
            picks = rng.integers(0, len(self.units), len(self.units))
            yield flat[picks] if single else np.concatenate([self.units[pick] for pick in picks])


def draws(n: int, seed: int, groups: pd.Series | None = None, block: int = 1) -> Draws:
    """Draws of n examples: one by one, by group, or by `block` neighbours."""
    if groups is not None:
        codes, names = pd.factorize(groups)
        units = tuple(np.flatnonzero(codes == code) for code in range(len(names)))
    elif block > 1:
        units = tuple(np.arange(start, min(start + block, n)) for start in range(0, n, block))
    else:
        units = tuple(np.arange(n)[:, None])
    return Draws(units, seed)


def of_metrics(
    metrics: Mapping[str, Callable[[Array, Floats], float]], target: Array, answer: Floats, sample: Draws
) -> dict[str, Interval]:
    """Each metric with its interval; draws in which one is not defined are left out of its interval."""
    values = {name: metric(target, answer) for name, metric in metrics.items()}
    drawn = {name: np.full(DRAWS, np.nan) for name in metrics}
    for i, picks in enumerate(sample):
        for name, metric in metrics.items():
            drawn[name][i] = metric(target[picks], answer[picks])
    return {name: _percentile(values[name], drawn[name]) for name in metrics}


def of_mean(values: Floats, sample: Draws) -> Interval:
    """The mean with its interval; with values that are differences of paired scores, the paired bootstrap."""
    return _percentile(float(values.mean()), np.array([values[picks].mean() for picks in sample]))


def _percentile(value: float, drawn: Floats) -> Interval:
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return Interval(value, np.nan, np.nan)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))
