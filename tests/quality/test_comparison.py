import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.signal import lfilter
from statsmodels.stats.contingency_tables import mcnemar

from trainyard.quality import comparison, gate, intervals

# === Against other libraries ===


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_that_of_statsmodels(better, worse):
    difference = np.repeat([1.0, -1.0, 0.0], [better, worse, 50])
    ours = comparison.mcnemar(difference)
    theirs = mcnemar([[50, better], [worse, 0]], exact=True).pvalue
    if better > worse:
        assert 2 * ours == pytest.approx(theirs, abs=1e-9)
    else:
        assert ours >= 0.5  # one-sided: the second is no worse


@given(st.integers(0, 99))
def test_diebold_mariano_one_step_ahead_is_students_test_with_all_examples_in_the_variance(seed):
    difference = np.random.default_rng(seed).normal(0.1, 1, 60)
    theirs = stats.ttest_1samp(difference, 0, alternative="greater").pvalue
    assert comparison.diebold_mariano(difference, 1) == pytest.approx(theirs, abs=1e-9)


def test_diebold_mariano_has_the_long_run_variance_of_statsmodels():
    """Ordinary least squares on a constant with HAC errors of uniform weights, by the correction of Harvey et al."""
    import statsmodels.api as sm

    n, horizon = 100, 4
    difference = np.convolve(np.random.default_rng(0).normal(0.1, 1, n + 3), np.ones(4), "valid")
    uniform = {"maxlags": horizon - 1, "kernel": "uniform", "use_correction": False}
    t = sm.OLS(difference, np.ones(n)).fit(cov_type="HAC", cov_kwds=uniform).tvalues[0]
    corrected = t * np.sqrt((n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n)
    assert comparison.diebold_mariano(difference, horizon) == pytest.approx(stats.t.sf(corrected, n - 1), abs=1e-9)


@pytest.mark.parametrize("difference", [np.zeros(20), np.tile([1.0, -1.0], 10), np.ones(1)])
def test_a_test_that_cannot_tell_says_so(difference):
    assert comparison.diebold_mariano(difference, 2) == 1


@pytest.mark.parametrize(
    ("scores", "groups", "horizon", "name"),
    [
        ([1.0, 0, 1, 1, 0, 1], None, 0, "McNemar's exact test"),
        ([0.5, 0, 1, 1, 0, 1], None, 0, "paired t test"),  # of two that tie each is right by half
        ([-1.0, -0.2, -3, -0.4, -5, -6], None, 0, "paired t test"),
        ([1.0, 0, 1, 1, 0, 1], ["a", "a", "b", "c", "d", "e"], 0, "paired t test of 5 groups"),
        ([-1.0, -0.2, -3, -0.4, -5, -6], None, 1, "Diebold-Mariano test"),
    ],
)
def test_the_test_fits_how_the_rows_were_drawn(scores, groups, horizon, name):
    sample = intervals.draws(6, None if groups is None else pd.Series(groups), horizon)
    found, p = comparison.p_value(np.array(scores), np.zeros(6), sample)
    assert found == name
    assert 0 <= p <= 1


# === Models that are equally good ===


def classes(rng, shift=0.0):
    hard = rng.normal(size=114)
    one, two = (hard + 0.7 * rng.normal(size=114) for _ in range(2))
    return (one < 1.5 + shift) * 1.0, (two < 1.5) * 1.0, intervals.draws(114)


def groups(rng, shift=0.0):
    glyphs = np.repeat(rng.normal(size=39), 5)
    one, two = (glyphs + np.repeat(0.5 * rng.normal(size=39), 5) + rng.normal(size=195) for _ in range(2))
    return (one < 1.3 + shift) * 1.0, (two < 1.3) * 1.0, intervals.draws(195, pd.Series(np.repeat(np.arange(39), 5)))


def forecasts(rng, shift=0.0):
    """Two models whose windows of six steps overlap, with errors in part in common."""
    shocks = rng.normal(size=122)
    losses = [
        np.convolve(np.abs(shocks + 0.5 * rng.normal(size=122)) - more, np.ones(6) / 6, "valid") for more in (shift, 0)
    ]
    return -losses[0], -losses[1], intervals.draws(117, horizon=6)


def slow_forecasts(rng, persistence=0.8):
    """Two models of which now one, now the other loses less, for a while."""
    shocks = rng.normal(size=322)
    differences = lfilter([1], [1, -persistence], shocks)[200:]
    return np.convolve(differences, np.ones(6) / 6, "valid"), np.zeros(117), intervals.draws(117, horizon=6)


@pytest.mark.slow
@pytest.mark.parametrize("contest", [classes, groups, forecasts, slow_forecasts])
def test_of_equal_models_at_most_one_in_forty_is_promoted(contest):
    promoted = 0
    for seed in range(1000):
        scores, champion, sample = contest(np.random.default_rng(seed))
        promoted += gate.better_than_champion(scores, champion, 0.0, sample).passed
    assert promoted <= stats.binom.ppf(0.99, 1000, 0.025)


@pytest.mark.slow
@pytest.mark.parametrize(("persistence", "share"), [(0.9, 0.04), (0.95, 0.07)])
def test_of_equal_forecasts_that_differ_in_slow_waves_more_are_promoted(persistence, share):
    """As `better_than_champion` says."""
    made = [slow_forecasts(np.random.default_rng(seed), persistence) for seed in range(1000)]
    promoted = np.mean([gate.better_than_champion(one, two, 0.0, sample).passed for one, two, sample in made])
    assert promoted == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize(("contest", "shift"), [(classes, 2.0), (groups, 1.5), (forecasts, 0.4)])
def test_of_better_models_most_are_promoted_and_of_worse_ones_none(contest, shift):
    for sign, least, most in [(1, 0.8, 1), (-1, 0, 0)]:
        made = [contest(np.random.default_rng(seed), sign * shift) for seed in range(60)]
        passed = np.mean([gate.better_than_champion(one, two, 0.0, sample).passed for one, two, sample in made])
        assert least <= passed <= most
