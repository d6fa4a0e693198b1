"""Sweeps: the trials of one, and whether its winner is better than what there was by more than chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

LEVEL = 0.05
"""Chance at most that a winner is believed which is no better."""


@dataclass(frozen=True)
class Trial:
    """One training of a sweep that has ended."""

    number: int
    knobs: Mapping[str, Any]
    """What it had in place of the block's own, by knob."""
    rows: Sequence[Mapping[str, float]]
    """The history, a row an epoch: `epoch`, the losses, metrics."""
    value: float | None
    """Validation loss of the kept epoch; None where the training was broken off."""
    why: str
    """Why it was broken off; nothing where it was not."""
    began: datetime
    ended: datetime


@dataclass(frozen=True)
class Comparison:
    """Validation losses of the winner and of the present block under the same seeds; infinite where one failed."""

    winner: Sequence[float]
    present: Sequence[float]

    @property
    def chance(self) -> float:
        """One-sided p of the paired t test (Student, 1908) that the winner is no better."""
        from scipy import stats

        if np.isinf([*self.winner, *self.present]).any():  # a winner that fails is none, else whatever ends is better
            return 1.0 if np.isinf(self.winner).any() else 0.0
        gains = np.subtract(self.present, self.winner)
        if np.ptp(gains) == 0:  # the t of equal gains is not defined
            return 0.0 if gains[0] > 0 else 1.0
        return float(stats.ttest_1samp(gains, 0.0, alternative="greater").pvalue)

    @property
    def believed(self) -> bool:
        """Whether the winner is better by more than chance."""
        return self.chance < LEVEL

    def __str__(self) -> str:
        if np.isinf(self.winner).any():
            return "not believed: the winner fails under other seeds"
        if np.isinf(self.present).any():
            return "believed: the present block fails under other seeds"
        if self.believed:
            return f"believed: the winner is better by more than chance (paired t test, p = {self.chance:.2g})"
        if np.mean(self.winner) >= np.mean(self.present):
            return "not believed: under other seeds the winner is no better than the present block"
        return f"not believed: so much better may be chance (paired t test, p = {self.chance:.2g})"


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation, or how often the training failed."""
    if failed := np.count_nonzero(np.isinf(values)):
        return f"failed {failed} of {len(values)} times"
    return f"{np.mean(values):.4g} ± {np.std(values, ddof=1):.2g}"
