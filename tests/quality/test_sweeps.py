"""A winner is believed where it is better under every seed by more than seeds differ, as SciPy's paired t test says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trainyard.quality.sweeps import Comparison, spread

LOSSES = st.lists(st.floats(0.01, 10), min_size=3, max_size=6)


@given(LOSSES, st.integers(0, 99))
def test_the_chance_is_that_of_the_paired_t_test(winner, seed):
    present = np.add(winner, np.random.default_rng(seed).normal(0.1, 0.2, len(winner)))
    expected = stats.ttest_rel(winner, present, alternative="less").pvalue
    found = Comparison(winner, present)
    assert found.chance == pytest.approx(expected)
    assert found.believed == (expected < 0.05)


@pytest.mark.parametrize(
    ("winner", "present", "told"),
    [
        ([0.10, 0.11, 0.10], [0.20, 0.22, 0.21], "believed: the winner is better by more than chance"),
        ([0.10, 0.30, 0.20], [0.20, 0.28, 0.21], "not believed: so much better may be chance"),
        ([0.30, 0.31, 0.30], [0.20, 0.22, 0.21], "not believed: under other seeds the winner is no better"),
        ([0.20, 0.20], [0.20, 0.20], "not believed: under other seeds the winner is no better"),
        ([0.25, 0.25], [0.5, 0.5], "believed: the winner is better"),
        ([0.25, 0.25], [0.5, np.inf], "believed: the present block fails under other seeds"),
        ([0.25, np.inf], [0.5, 0.5], "not believed: the winner fails under other seeds"),
        ([np.inf, 0.25], [np.inf, np.inf], "not believed: the winner fails under other seeds"),
    ],
)
def test_it_is_told_in_words(winner, present, told):
    found = Comparison(winner, present)
    assert str(found).startswith(told)
    assert found.believed == told.startswith("believed")


def test_the_spread_is_mean_and_standard_deviation():
    assert spread([1.0, 2.0, 3.0]) == "2 ± 1"
    assert spread([1.0, np.inf, np.inf]) == "failed 2 of 3 times"
