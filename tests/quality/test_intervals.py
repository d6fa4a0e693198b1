import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trainyard.quality import intervals
from trainyard.quality.intervals import DRAWS, Interval


def groups_of(sizes):
    return pd.Series([f"g{group}" for group, size in enumerate(sizes) for _ in range(size)])


# === Draws ===


@given(st.integers(1, 60), st.integers(1, 9), st.booleans(), st.integers(0, 5))
def test_the_units_hold_every_example_once(n, block, grouped, seed):
    groups = pd.Series(np.random.default_rng(seed).integers(0, 5, n).astype(str)) if grouped else None
    units = intervals.draws(n, seed, groups, block).units
    assert sorted(np.concatenate(units)) == list(range(n))


@pytest.mark.parametrize(
    ("groups", "block", "units"),
    [
        (None, 1, [[0], [1], [2], [3], [4]]),
        (None, 2, [[0, 1], [2, 3], [4]]),
        (None, 9, [[0, 1, 2, 3, 4]]),
        (["a", "b", "a", "", "b"], 1, [[0, 2], [1, 4], [3]]),
        (["a", "b", "a", "", "b"], 3, [[0, 2], [1, 4], [3]]),  # groups go before blocks
    ],
)
def test_units_are_examples_or_blocks_or_groups(groups, block, units):
    found = intervals.draws(5, 1, None if groups is None else pd.Series(groups), block).units
    assert [unit.tolist() for unit in found] == units


@pytest.mark.parametrize("sizes", [[1] * 6, [3, 1, 2, 1, 2]])
def test_a_draw_takes_as_many_units_as_there_are_and_each_wholly(sizes):
    groups = groups_of(sizes)
    sample = intervals.draws(len(groups), 1, groups)
    drawn = list(sample)
    assert len(drawn) == DRAWS
    for picks in drawn[:50]:
        times = np.bincount(picks, minlength=len(groups))
        assert (pd.Series(times).groupby(groups).nunique() == 1).all()
        assert pd.Series(times).groupby(groups).first().sum() == len(sizes)


def test_draws_depend_on_the_seed_alone():
    first, again, other = (list(intervals.draws(20, seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not all(np.array_equal(one, two) for one, two in zip(first, other, strict=True))


# === Intervals ===


@settings(max_examples=20)
@given(st.lists(st.floats(-100, 100), min_size=5, max_size=40), st.integers(0, 5))
def test_an_interval_of_a_mean_holds_the_mean_of_its_draws(values, seed):
    values = np.array(values)
    sample = intervals.draws(len(values), seed)
    found = intervals.of_mean(values, sample)
    drawn = [values[picks].mean() for picks in sample]
    assert found.value == pytest.approx(values.mean())
    assert found.low - 1e-9 <= np.mean(drawn) <= found.high + 1e-9
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))


def test_an_interval_is_that_of_scipy_but_for_chance():
    values = np.random.default_rng(0).gamma(2, size=200)
    found = intervals.of_mean(values, intervals.draws(200, 1))
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2))
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert found.low == pytest.approx(theirs.confidence_interval.low, abs=0.06 * width)
    assert found.high == pytest.approx(theirs.confidence_interval.high, abs=0.06 * width)


def test_an_interval_by_group_is_wider_where_a_group_says_the_same():
    rng = np.random.default_rng(0)
    groups = groups_of([5] * 30)
    values = np.repeat(rng.normal(size=30), 5) + rng.normal(0, 0.1, 150)
    single, grouped = (intervals.of_mean(values, intervals.draws(150, 1, by)) for by in (None, groups))
    # 30 independent values, not 150: wider by the root of 5
    assert (grouped.high - grouped.low) / (single.high - single.low) == pytest.approx(5**0.5, rel=0.15)


def test_an_interval_by_block_is_wider_where_neighbours_say_the_same():
    steps = np.random.default_rng(0).normal(size=400)
    values = np.convolve(steps, np.ones(8), "valid")
    single, blocks = (intervals.of_mean(values, intervals.draws(len(values), 1, block=by)) for by in (1, 16))
    assert (blocks.high - blocks.low) / (single.high - single.low) > 1.8


def coverage(draw, by_group, times=200):
    """Share of the times that the interval of a mean holds the true one, 0."""
    groups = groups_of([4] * 15)
    inside = 0
    for seed in range(times):
        values = draw(np.random.default_rng(seed))
        found = intervals.of_mean(values, intervals.draws(len(values), seed, groups if by_group else None))
        inside += found.low <= 0 <= found.high
    return inside / times


def independent(rng):
    return rng.normal(size=60)


def in_groups(rng):
    return np.repeat(rng.normal(size=15), 4) + rng.normal(0, 0.3, 60)


@pytest.mark.parametrize(
    ("draw", "by_group", "least", "most"),
    [
        (independent, False, 0.92, 0.98),
        (in_groups, True, 0.89, 0.97),  # percentile intervals of 15 units are a little short
        (in_groups, False, 0.5, 0.75),  # what is claimed where groups are not respected
    ],
    ids=["independent", "groups", "groups not respected"],
)
def test_intervals_hold_the_truth_about_as_often_as_they_say(monkeypatch, draw, by_group, least, most):
    monkeypatch.setattr(intervals, "DRAWS", 300)
    assert least <= coverage(draw, by_group) <= most


def test_metrics_are_drawn_together_with_their_targets():
    target, answer = np.arange(50.0), np.arange(50.0) + 3
    found = intervals.of_metrics({"error": lambda t, a: float((a - t).mean())}, target, answer, intervals.draws(50, 1))
    assert found == {"error": Interval(3.0, 3.0, 3.0)}


def test_draws_in_which_a_metric_is_not_defined_are_left_out():
    def share(target, answer):
        return float(answer[target == 1].mean()) if (target == 1).any() else float("nan")

    target, answer = np.array([1, 0, 0, 0, 0]), np.array([0.5, 9, 9, 9, 9])
    sample = intervals.draws(5, 1)
    undefined = sum(not (target[picks] == 1).any() for picks in sample)
    assert 200 < undefined < 450  # (4/5) ** 5 of 1,000
    assert intervals.of_metrics({"m": share}, target, answer, sample)["m"] == Interval(0.5, 0.5, 0.5)


def test_a_metric_that_is_nowhere_defined_is_null():
    found = intervals.of_metrics({"m": lambda t, a: float("nan")}, np.zeros(3), np.zeros(3), intervals.draws(3, 1))
    assert found["m"].as_dict() == {"value": None, "low": None, "high": None}


def test_an_interval_is_told_short():
    assert str(Interval(0.123456789, -1.0, 12345.678)) == "0.1235 [-1, 1.235e+04]"
    assert Interval(0.123456789, -1.0, 2.0).as_dict() == {"value": 0.123457, "low": -1.0, "high": 2.0}


@pytest.mark.parametrize(("n", "block", "known"), [(8, 12, False), (8, 2, False), (10, 2, True), (4, 1, False)])
def test_of_too_few_units_nothing_is_said(n, block, known):
    """One block drawn a thousand times is the same each time: an interval without width, which would be sure of all."""
    sample = intervals.draws(n, 1, block=block)
    values = np.arange(n, dtype=float)
    for found in (
        intervals.of_mean(values, sample),
        intervals.of_metrics({"m": lambda target, answer: float(answer.mean())}, values, values, sample)["m"],
    ):
        assert found.value == values.mean()
        assert np.isnan(found.low) != known
        assert np.isnan(found.high) != known
        assert ("too few" in str(found)) != known
