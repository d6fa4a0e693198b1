"""What a model's answers rest on: how much worse it is without a part of what it sees.

The part is a column, a patch, a lag, a band or a word. It is replaced by what says nothing of the example, and the same
examples are asked again: permutation importance (Breiman, 2001) of columns, occlusion (Zeiler & Fergus, 2014) of
patches. Parts that say the same stand in for each other: without one of them little is lost.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainyard.arrays import Array
from trainyard.quality import evaluation, intervals
from trainyard.quality.objectives import Objective


@dataclass(frozen=True)
class Part:
    """One part, and what was answered without it."""

    name: str
    places: NDArray[np.intp]
    """The test examples `[m]` that were asked again: those that have the part."""
    answer: Array
    """Their answers without it, `[m, ...]` as the objective has them."""


def table(
    objective: Objective, rows: pd.DataFrame, target: Array, answer: Array, parts: Iterable[Part]
) -> pd.DataFrame:
    """As it stands in importance.csv: a row a part, that without which most is lost first.

    `drop` is the mean of the examples' score less that without the part, `low` and `high` the ends of its paired
    interval, NaN where it is of too few independent examples, `examples` how many were asked. `rows`, `target` and
    `answer` are those of all test examples.
    """
    found = {}
    for part in parts:
        asked, known = rows.iloc[part.places], target[part.places]
        lost = objective.score(known, answer[part.places]) - objective.score(known, part.answer)
        drop = intervals.of_mean(lost, evaluation.draws(objective, asked, known))
        found[part.name] = {"drop": drop.value, "low": drop.low, "high": drop.high, "examples": len(asked)}
    told = pd.DataFrame.from_dict(found, orient="index", columns=["drop", "low", "high", "examples"])
    return told.rename_axis("part").round(6).sort_values("drop", ascending=False, kind="stable")
