"""Is one model better than another on the same rows? One-sided tests.

A p value says how often a model that is only as good would come out as much better.
"""

import numpy as np
from numpy.typing import NDArray

from trainyard.quality import intervals
from trainyard.quality.intervals import Draws

Floats = NDArray[np.floating]


def p_value(scores: Floats, others: Floats, sample: Draws) -> tuple[str, float]:
    """Name and p value of the test that fits how the rows were drawn, of per-example scores `[n]` of two models."""
    difference = scores - others
    if sample.horizon:
        return "Diebold-Mariano test", diebold_mariano(difference, sample.horizon)
    if sample.independent and np.isin(difference, (-1, 0, 1)).all():
        return "McNemar's exact test", mcnemar(difference)
    name = "paired t test" if sample.independent else f"paired t test of {sample.count} groups"
    return name, intervals.above_zero(difference, sample)


def mcnemar(difference: Floats) -> float:
    """One-sided p value of McNemar's exact test (1947) of differences 1, 0 and -1.

    Of the examples that one model alone got right the first must have got more than a coin would give it.
    """
    from scipy.stats import binom

    better, worse = int(np.sum(difference > 0)), int(np.sum(difference < 0))
    return float(binom.sf(better - 1, better + worse, 0.5))


def diebold_mariano(difference: Floats, horizon: int) -> float:
    """One-sided p value of Diebold & Mariano (1995), corrected as by Harvey, Leybourne & Newbold (1997).

    `difference` `[n]` is how much less the first forecasts lost, in time order, each `horizon` steps ahead. 1 where the
    variance comes out as none or negative, so that the test cannot tell.
    """
    from scipy.stats import t

    n, centred = len(difference), difference - difference.mean()
    lags = [float(centred[lag:] @ centred[: n - lag]) / n for lag in range(min(horizon, n))]
    variance = (lags[0] + 2 * sum(lags[1:])) / n
    correction = (n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n
    if variance <= 0 or correction <= 0 or n < 2:
        return 1.0
    return float(t.sf(difference.mean() * np.sqrt(correction / variance), n - 1))
