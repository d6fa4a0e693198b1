import numpy as np
import pandas as pd
import pytest

from trainyard.quality import importance, intervals
from trainyard.quality.importance import Part
from trainyard.quality.objectives import OBJECTIVES

N = 80
TARGET = np.arange(N) % 2
RIGHT = np.where(TARGET == 1, 0.9, 0.1)[:, None]
ROWS = pd.DataFrame({"label": TARGET})
ALL = np.arange(N)


def wrong_on(places):
    answer = RIGHT.copy()
    answer[places] = 1 - answer[places]
    return answer


def told(parts, rows=ROWS, answer=RIGHT):
    return importance.table(OBJECTIVES["binary"], rows, TARGET, answer, parts)


def test_the_part_without_which_most_is_lost_comes_first():
    table = told([Part("idle", ALL, RIGHT), Part("some", ALL, wrong_on(ALL[:8])), Part("all", ALL, 1 - RIGHT)])
    assert table.index.tolist() == ["all", "some", "idle"]
    assert table["drop"].tolist() == [1, 0.1, 0]
    assert 0.9 < table.loc["all", "low"] < table.loc["all", "high"] == 1
    assert table.loc["idle", "low"] < 0 < table.loc["idle", "high"] < 0.05
    assert 0 < table.loc["some", "low"] < 0.1 < table.loc["some", "high"]
    assert table.index.name == "part"


def test_the_interval_is_that_of_the_paired_differences():
    """Both answers err on half of the examples, nearly the same: what is lost is known better than either."""
    before, after = wrong_on(ALL[:40]), wrong_on(ALL[:44])
    drop = told([Part("part", ALL, after)], answer=before).loc["part"]
    lost = np.isin(ALL, ALL[40:44]) * 1.0
    assert drop[["drop", "low", "high"]].tolist() == pytest.approx(
        [*vars(intervals.of_mean(lost, intervals.draws(N))).values()], abs=1e-6
    )
    assert drop["high"] - drop["low"] < 0.12  # that of two independent shares of a half is 0.3


def test_a_part_that_some_examples_have_is_told_of_these_alone():
    some = np.array([1, 4, 6, 9, 40, 77])
    drop = told([Part("word", some, 1 - RIGHT[some])]).loc["word"]
    assert drop[["drop", "high", "examples"]].tolist() == [1, 1, 6]
    few = told([Part("word", some[:4], 1 - RIGHT[some[:4]])]).loc["word"]
    assert few["drop"] == 1
    assert few[["low", "high"]].isna().all()  # of four examples nothing is sure


def test_examples_that_hang_together_are_drawn_together():
    after = wrong_on(ALL[:16])
    grouped = ROWS.assign(group=(ALL // 8).astype(str))
    single, together = (told([Part("part", ALL, after)], rows).loc["part"] for rows in (ROWS, grouped))
    assert together["drop"] == single["drop"]
    assert together["high"] - together["low"] > 2 * (single["high"] - single["low"])


def test_of_equal_drops_the_order_is_that_of_the_parts_and_a_part_may_do_harm():
    before = wrong_on(ALL[:8])
    table = told([Part("harm", ALL, RIGHT), Part("b", ALL, before), Part("a", ALL, before)], answer=before)
    assert table["drop"].to_dict() == {"b": 0, "a": 0, "harm": -0.1}
    assert table.index.tolist() == ["b", "a", "harm"]


def test_without_parts_the_table_is_empty():
    assert told([]).empty
    assert list(told([])) == ["drop", "low", "high", "examples"]


def test_errors_are_lost_in_the_target_s_units():
    target = np.zeros((N, 2))
    parts = [Part("lag 1", ALL, target + 3)]
    table = importance.table(OBJECTIVES["forecast"], ROWS, target, target + 1, parts)
    assert table.loc["lag 1", ["drop", "low", "high"]].tolist() == [2, 2, 2]
