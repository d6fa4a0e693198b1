"""How far a figure can be trusted: 95% intervals, whose coverage the tests simulate at the sizes of the shipped data.

What a metric owes to each example, or to each group of them, is told by leaving that one out: the pseudo-values of the
jackknife (Tukey, 1958), whose mean the metric is, or nearly so. How far that mean can be trusted depends on how they
were drawn:

- One by one: Wilson's interval (1927) for shares of a count, F1 by Jaccard's share among them. For others, such as AUC,
  Student's t of the logarithm of the odds, by the delta method (of AUC that is DeLong's standard error, 1988, on the
  scale of Pepe, 2003). Errors and losses are skewed: Hall's transformation (1992) of Student's t. (In trials with the
  log loss of 114 examples it held the truth 94 to 95 times in 100, Student's t of its logarithm 87 to 94, bootstrap-t
  90 to 95, BCa at most 80.)
- The calibration error, which is biased upwards: its lower end is lowered by what a calibrated model's would be by
  chance. That is more than it must be: in trials it held the truth 98 to 100 times in 100, and without it 68 to 98.
- In groups: the same of the groups' pseudo-values, with a degree of freedom less than there are groups.
- One after another in time: Student's t, with the standard error that the slowest waves show, as neighbours that say
  the same hide in the fast ones (equal-weighted cosines; Müller, 2007; Lazarus, Lewis, Stock & Watson, 2018).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainyard.arrays import Array
from trainyard.quality.metrics import (
    COUNTS,
    SHARES,
    auc,
    auc_examples,
    brier,
    calibration_chance,
    calibration_error,
    f1,
    log_loss,
    mae,
    rmse,
)

Floats = NDArray[np.floating]
Metric = Callable[[Array, Floats], float]

LEVEL = 0.95
LEAST_UNITS = 5
"""Of fewer examples, groups or stretches of time nothing is known: their intervals are not defined."""
MOST_PARTS = 1000
"""Of more examples or groups several are left out at once: a metric need not be computed more often."""
NEVER_NEGATIVE = SHARES | {brier, calibration_error, log_loss, mae, rmse}
"""Metrics whose intervals end at 0, which costs no coverage: no truth lies below."""


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
    """How n examples were drawn from all that there could have been: one by one, in groups, or one after another."""

    units: NDArray[np.intp]
    """The number of what each example was drawn with, `[n]`: its own, or its group's."""
    horizon: int = 0
    """Steps that each example looks ahead; 0 where examples do not follow each other in time."""

    @cached_property
    def count(self) -> int:
        """How many units there are."""
        return int(self.units.max(initial=-1)) + 1

    @property
    def independent(self) -> bool:
        """True where each example was drawn by itself."""
        return not self.horizon and self.count == len(self.units)

    @property
    def stretch(self) -> int:
        """Over how many units neighbours hang together: as far as a forecast reaches, at least the cube root of all."""
        return max(self.horizon, round(self.count ** (1 / 3))) if self.horizon else 1

    @property
    def enough(self) -> bool:
        """True where there is something to say."""
        return self.count // self.stretch >= LEAST_UNITS

    @property
    def freedom(self) -> int:
        """Degrees of freedom of Student's t: one less than units; or the waves, eight horizons long at least."""
        if not self.horizon:
            return self.count - 1
        return max(1, min(round(0.4 * self.count ** (2 / 3)), self.count // (4 * self.horizon)))

    def of(self, chosen: NDArray[np.bool_]) -> "Draws":
        """How the chosen examples alone were drawn."""
        return Draws(pd.factorize(self.units[chosen])[0], self.horizon)

    def standard_error(self, pseudo: Floats) -> float:
        """Standard error of the mean of pseudo-values of the units, in their order."""
        if not self.horizon:
            return float(pseudo.std(ddof=1) / np.sqrt(len(pseudo)))
        from scipy.fft import dct

        waves = dct(pseudo - pseudo.mean(), norm="ortho")[1 : self.freedom + 1]
        return float(np.sqrt(np.mean(waves**2) / len(pseudo)))


def draws(n: int, groups: pd.Series | None = None, horizon: int = 0) -> Draws:
    """How n examples were drawn: one by one, by group, or one after another, each looking `horizon` steps ahead."""
    return Draws(np.arange(n) if groups is None else pd.factorize(groups)[0], horizon)


def of_metrics(metrics: Mapping[str, Metric], target: Array, answer: Floats, sample: Draws) -> dict[str, Interval]:
    """Each metric with its interval."""
    return {name: _of_metric(metric, target, answer, sample) for name, metric in metrics.items()}


def half_width(errors: "Floats | pd.Series") -> float | None:
    """How far from an answer 95 of 100 new truths are at most, by the errors `[n]` of others; None of too few.

    Split conformal prediction (Vovk, Gammerman & Shafer, 2005; Lei et al., 2018): it holds whatever the model is, if
    what is asked is drawn as the test examples were.
    """
    distances = np.sort(np.abs(np.asarray(errors, np.float64)))
    place = int(np.ceil((len(distances) + 1) * LEVEL)) - 1
    return float(distances[place]) if place < len(distances) else None


def of_mean(differences: Floats, sample: Draws, level: float = LEVEL) -> Interval:
    """The mean difference of paired scores `[n]` with its interval, which holds the truth `level` of the times.

    Where each example is right or wrong by itself, Bonett & Price's (2012): Wald's with an example more for each side.
    """
    value = float(differences.mean())
    if not sample.enough:
        return Interval(value, np.nan, np.nan)
    if sample.independent and np.isin(differences, (-1, 0, 1)).all():
        more = np.append(differences, (-1, 1))
        reach = _quantile(level=level) * more.std() / np.sqrt(len(more))
        return Interval(value, max(-1.0, float(more.mean() - reach)), min(1.0, float(more.mean() + reach)))
    reach = _quantile(sample.freedom, level) * sample.standard_error(_of_means(differences, sample))
    return Interval(value, value - reach, value + reach)


def of_seeds(values: Floats) -> Interval:
    """The mean of a metric over trainings `[n]` that differ in their seed alone, two or more, with Student's t."""
    value, reach = values.mean(), _quantile(len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return Interval(float(value), float(value - reach), float(value + reach))


def above_zero(differences: Floats, sample: Draws) -> float:
    """One-sided p value of a mean difference of paired scores that is not above 0, by the t of `of_mean`."""
    from scipy.stats import t

    value, error = differences.mean(), sample.standard_error(_of_means(differences, sample)) if sample.enough else 0.0
    if error == 0:
        return 0.0 if value > 0 and sample.enough else 1.0
    return float(t.sf(value / error, sample.freedom))


def _of_metric(metric: Metric, target: Array, answer: Floats, sample: Draws) -> Interval:
    value = metric(target, answer)
    nothing = Interval(value, np.nan, np.nan)
    if not sample.enough or np.isnan(value):
        return nothing
    if sample.independent and metric in COUNTS:
        return _of_count(value, COUNTS[metric](target, answer), jaccard=metric is f1)
    pseudo = _pseudo(metric, value, target, answer, sample)
    if np.isnan(pseudo).any():
        return nothing  # without some example the metric is not defined
    error, quantile = sample.standard_error(pseudo), _quantile(sample.freedom)
    if metric in SHARES and value <= 1:
        same = min(sample.count, auc_examples(target, answer)) if metric is auc else sample.count
        return _logit(value, error, quantile, same)
    if sample.horizon and value > 0:  # an error: its logarithm is less skewed
        return Interval(value, *(float(value * np.exp(end * error / value)) for end in (-quantile, quantile)))
    interval = _hall(value, pseudo, error, quantile)
    if metric is calibration_error:
        interval = replace(interval, low=interval.low - calibration_chance(target, answer))
    return replace(interval, low=max(0.0, interval.low)) if metric in NEVER_NEGATIVE else interval


def _of_means(values: Floats, sample: Draws) -> Floats:
    """Pseudo-values of a mean, a unit each: those of examples drawn by themselves are the values."""
    sums, sizes = np.bincount(sample.units, values), np.bincount(sample.units)
    without = (values.sum() - sums) / (len(values) - sizes)
    return sample.count * values.mean() - (sample.count - 1) * without


def _pseudo(metric: Metric, value: float, target: Array, answer: Floats, sample: Draws) -> Floats:
    """Pseudo-values of a metric, of each unit or of as many parts as may be left out.

    In time these are neighbours; elsewhere they are drawn, as neighbours in a file are often of one class.
    """
    count, units = min(sample.count, MOST_PARTS), sample.units
    if count < sample.count and not sample.horizon:
        units = np.random.default_rng(0).permutation(sample.count)[units]
    part = units * count // sample.count
    without = np.array([metric(target[part != left], answer[part != left]) for left in range(count)])
    return count * value - (count - 1) * without


def _wilson(share: float, size: float, quantile: float) -> Interval:
    """Wilson (1927), of a share of `size` examples, which need not be a whole number."""
    square = quantile**2 / size
    middle, reach = share + square / 2, np.sqrt(square * (share * (1 - share) + square / 4))
    ends = np.clip(np.array([middle - reach, middle + reach]) / (1 + square), 0, 1)
    return Interval(share, min(share, float(ends[0])), max(share, float(ends[1])))


def _of_count(value: float, size: float, *, jaccard: bool) -> Interval:
    """Wilson's, of a share of `size` examples, or of the F1 that such a share J gives: 2J / (1 + J)."""
    if size < LEAST_UNITS:
        return Interval(value, np.nan, np.nan)
    if not jaccard:
        return _wilson(value, size, _quantile())
    share = _wilson(value / (2 - value), size, _quantile())
    return Interval(value, 2 * share.low / (1 + share.low), 2 * share.high / (1 + share.high))


def _logit(share: float, error: float, quantile: float, same: float) -> Interval:
    """Student's t of the logarithm of the odds, its standard error by the delta method.

    Where no unit differs from another there is none: Wilson's, of `same` of them.
    """
    from scipy.special import expit, logit

    if error == 0 or not 0 < share < 1:
        return _wilson(share, same, quantile)
    reach = quantile * error / (share * (1 - share))
    low, high = expit(logit(share) + np.array([-reach, reach]))
    return Interval(share, float(low), float(high))


def _hall(value: float, pseudo: Floats, error: float, quantile: float) -> Interval:
    """Hall (1992): Student's t, transformed by a cubic that takes its skewness away, and back."""
    n = len(pseudo)
    if error <= np.finfo(float).eps * abs(value):
        return Interval(value, value, value)
    lean = float(np.sum((pseudo - pseudo.mean()) ** 3)) / error**3 / (n * (n - 1) * (n - 2))  # skewness by root n
    if abs(lean) < 1e-6:
        return Interval(value, value - quantile * error, value + quantile * error)
    high, low = ((np.cbrt(1 + lean * (end - lean / 6)) - 1) * 3 / lean for end in (-quantile, quantile))
    return Interval(value, float(value - error * low), float(value - error * high))


def _quantile(freedom: int | None = None, level: float = LEVEL) -> float:
    """Upper end of the middle 95% of Student's t, or of the normal distribution; or of another share than 95%."""
    from scipy.stats import norm, t  # half a second that most stages need not spend

    return float(norm.ppf((1 + level) / 2) if freedom is None else t.ppf((1 + level) / 2, freedom))
