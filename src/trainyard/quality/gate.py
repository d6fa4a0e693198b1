"""The gate of `register`: may this model be champion? Each check says its figures and its reason in words."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainyard.quality import comparison, evaluation, intervals
from trainyard.quality.intervals import LEVEL, Draws, Interval
from trainyard.quality.objectives import Objective
from trainyard.quality.verdict import Check

Floats = NDArray[np.floating]
BETTER = "better than the champion"


def judged(
    objective: Objective,
    metrics: Mapping[str, Any],
    scores: pd.DataFrame,
    taken: Mapping[str, float],
    asked: Mapping[str, Any],
    champion: Floats | str | None,
    columns: pd.DataFrame,
    sample: Draws,
) -> tuple[Check, ...]:
    """All checks of a model that params ask for, in order, whether one before failed or not.

    `metrics` are those of metrics.json, `scores` has `score` and `naive_score` of each test row, `taken` is what the
    model takes by the units of its budget, `asked` its block of `evaluate`. `champion` holds that one's scores on the
    same rows `[n]`, in words why it cannot be compared, or None where there is none; `columns` tell the slices apart.
    """
    values = {metric: np.nan if ends["value"] is None else ends["value"] for metric, ends in metrics["test"].items()}
    own = scores["score"].to_numpy()
    checks = [*floors(objective, values, asked["floor"])]
    checks.append(better_than_naive(own, scores["naive_score"].to_numpy(), sample))
    if asked["calibration"] is not None:
        checks.append(calibrated(metrics["test"]["calibration_error"], asked["calibration"]))
    checks += within_budget(taken, {unit: bound for unit, bound in asked["budget"].items() if bound is not None})
    if isinstance(champion, str):
        return (*checks, Check(BETTER, False, champion))
    checks.append(better_than_champion(own, champion, asked["margin"], sample))
    if asked["slices"]:
        checks.append(no_slice_worse(own, champion, columns, asked["slice_margin"], sample))
    return tuple(checks)


def floors(objective: Objective, values: Mapping[str, float], floor: Mapping[str, float]) -> list[Check]:
    """Each metric that params name must reach its floor (errors: must not exceed it)."""
    checks = []
    for metric, bound in floor.items():
        value, passed = values[metric], objective.reaches(metric, values[metric], bound)
        word = "at most" if metric in objective.lower_is_better else "at least"
        checks.append(
            Check(f"floor {metric}", passed, f"{value:.4g} {'is' if passed else 'is not'} {word} {bound:.4g}")
        )
    return checks


def better_than_naive(scores: Floats, naive: Floats, sample: Draws) -> Check:
    """The mean per-example score must be surely above that of the naive baseline, on the same rows."""
    difference = intervals.of_mean(scores - naive, sample)
    passed = difference.low > 0
    return Check(
        "better than naive",
        passed,
        f"mean score differs by {difference}; its lower end {'is' if passed else 'is not'} above 0",
    )


def calibrated(error: Mapping[str, float | None], bound: float) -> Check:
    """The calibration error, with its interval as in metrics.json, must not surely exceed the bound."""
    interval = Interval(**{end: np.nan if value is None else value for end, value in error.items()})
    passed = not interval.low > bound
    told = f"the calibration error is {interval}, {'not ' if passed else ''}surely above {bound:.4g}"
    return Check("calibrated", passed, told)


def within_budget(taken: Mapping[str, float], budget: Mapping[str, float]) -> list[Check]:
    """What the model takes, by unit, must not exceed the budget; not told how much: a time is never twice the same."""
    checks = []
    for unit, bound in budget.items():
        passed = taken[unit] <= bound
        checks.append(
            Check(f"budget {unit}", passed, f"{'' if passed else 'not '}within the budget of {bound:.4g} {unit}")
        )
    return checks


def better_than_champion(scores: Floats, champion: Floats | None, margin: float, sample: Draws) -> Check:
    """The mean per-example score must surely be above the champion's by more than the margin: a tie keeps the champion.

    Both the test of `comparison` and the paired interval must say so: one-sided, so that of models that are equally
    good at most 1 in 40 is promoted (2.5%). Of forecasts whose losses differ in slow waves there are more: in trials
    with 117 rows, 4% where the differences follow each other with a persistence of 0.9, and 7% of 0.95. `champion`
    holds its scores on the same rows `[n]`, None where there is no champion.
    """
    if champion is None:
        return Check(BETTER, True, "there was no champion")
    difference = intervals.of_mean(scores - champion, sample)
    test, p = comparison.p_value(scores, champion, sample)
    passed = p <= (1 - LEVEL) / 2 and difference.low > margin
    told = f"on the same {len(scores)} rows the mean score differs by {difference}; {test}, p = {p:.2g}"
    better = "surely better" + (f" by more than {margin:.4g}" if margin else "")
    end = better if passed else f"{'a tie' if (scores == champion).all() else f'not {better}'}, so the champion stays"
    return Check(BETTER, passed, f"{told}: {end}")


def no_slice_worse(
    scores: Floats, champion: Floats | None, columns: pd.DataFrame, margin: float, sample: Draws
) -> Check:
    """No slice of the rows may surely be worse than the champion's by more than the margin, in the mean score.

    Slices are judged by paired intervals as much wider as there are slices (Bonferroni; Dunn, 1961): of models that are
    as good in all of them at most 1 in 40 is refused, however many there are.
    """
    name, worse = "no slice is worse than the champion", []
    if champion is None:
        return Check(name, True, "there was no champion")
    slices = list(evaluation.each_slice(columns))
    level = 1 - (1 - LEVEL) / max(1, sum(sample.of(chosen).enough for _, _, chosen in slices))
    for column, value, chosen in slices:
        difference = intervals.of_mean((scores - champion)[chosen], sample.of(chosen), level)
        if difference.high < -margin:
            worse.append(f"`{value}` of `{column}` differs by {difference} on {chosen.sum()} rows")
    more = f" by more than {margin:.4g}" if margin else ""
    return Check(name, not worse, "; ".join(worse) or f"of {len(slices)} none is surely worse{more}")
