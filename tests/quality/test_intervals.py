import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from statsmodels.stats.proportion import proportion_confint

from trainyard import files
from trainyard.quality import intervals, metrics
from trainyard.quality.intervals import Interval
from trainyard.quality.objectives import BINARY, FORECAST, MULTICLASS, REGRESSION, TRANSCRIPTION


def groups_of(sizes):
    return pd.Series([f"g{group}" for group, size in enumerate(sizes) for _ in range(size)])


# === How examples were drawn ===


@pytest.mark.parametrize(
    ("groups", "horizon", "units", "count", "stretch", "freedom"),
    [
        (None, 0, [0, 1, 2, 3, 4, 5], 6, 1, 5),
        (["a", "b", "a", "", "b", "c"], 0, [0, 1, 0, 2, 1, 3], 4, 1, 3),
        (None, 1, [0, 1, 2, 3, 4, 5], 6, 2, 1),
        (None, 3, [0, 1, 2, 3, 4, 5], 6, 3, 1),
    ],
)
def test_examples_were_drawn_one_by_one_or_in_groups_or_in_time(groups, horizon, units, count, stretch, freedom):
    found = intervals.draws(6, None if groups is None else pd.Series(groups), horizon)
    assert found.units.tolist() == units
    assert (found.count, found.stretch, found.freedom) == (count, stretch, freedom)
    assert found.independent == (groups is None and not horizon)


def test_a_part_of_the_examples_keeps_its_groups():
    found = intervals.draws(5, pd.Series(["a", "b", "b", "c", "c"])).of(np.array([False, True, True, False, True]))
    assert found.units.tolist() == [0, 0, 1]


def test_as_many_waves_as_the_literature_asks_for():
    assert intervals.draws(1000, horizon=1).freedom == round(0.4 * 1000 ** (2 / 3))  # Lazarus et al., 2018


# === Against other libraries ===


@given(st.integers(5, 300), st.data())
def test_plain_shares_are_wilsons_of_scipy_and_statsmodels(n, data):
    said, target = (np.array(data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))) for _ in range(2))
    found = intervals.of_metrics(BINARY.metrics, target, said[:, None] * 1.0, intervals.draws(n))
    right, both = int(np.sum(said == target)), int(np.sum(said & target))
    either = np.sum(said | target)
    counts = [("accuracy", right, n), ("precision", both, said.sum()), ("recall", both, target.sum())]
    for name, hits, size in [*counts, ("f1", both, either)]:
        interval = found[name]
        if size < intervals.LEAST_UNITS:
            assert np.isnan([interval.low, interval.high]).all()
            continue
        for theirs in (
            stats.binomtest(hits, int(size)).proportion_ci(method="wilson"),
            proportion_confint(hits, size, method="wilson"),
        ):
            ends = [2 * end / (1 + end) for end in theirs] if name == "f1" else list(theirs)  # by Jaccard's share
            assert [interval.low, interval.high] == pytest.approx(ends, abs=1e-9)


def test_the_standard_error_of_an_auc_is_delongs():
    """Of Brunner & Munzel's test, whose variance it is; the jackknife's is greater by a known factor of the counts."""
    target, answer = tumours(np.random.default_rng(0), n=300)
    target = np.sort(target)
    chosen = np.concatenate([np.flatnonzero(target == label)[:40] for label in (0, 1)])
    target, answer, n = target[chosen], answer[chosen], 80
    area, sample = metrics.auc(target, answer), intervals.draws(80)
    delong = (area - 0.5) / stats.brunnermunzel(answer[target == 0, 0], answer[target == 1, 0]).statistic
    error = sample.standard_error(intervals._pseudo(metrics.auc, area, target, answer, sample))
    assert error**2 == pytest.approx(delong**2 * (n - 1) / n * 40 / 39, abs=1e-9)


@pytest.mark.parametrize(("hits", "size"), [(30, 40), (1, 200), (99, 100)])
def test_the_logarithm_of_the_odds_has_the_interval_of_a_logistic_regression(hits, size):
    import statsmodels.api as sm

    outcome = np.arange(size) < hits
    share, quantile = hits / size, stats.norm.ppf(0.975)
    theirs = sm.GLM(outcome * 1.0, np.ones(size), family=sm.families.Binomial()).fit(tol=1e-14).conf_int()[0]
    found = intervals._logit(share, np.sqrt(share * (1 - share) / size), quantile, size)
    assert [found.low, found.high] == pytest.approx(list(special.expit(theirs)), abs=1e-9)


@settings(max_examples=20)
@given(st.lists(st.floats(-100, 100), min_size=5, max_size=40))
def test_a_mean_of_examples_drawn_by_themselves_has_the_interval_and_p_of_student(values):
    values = np.array(values) + np.linspace(0.1, 0.2, len(values))  # no plain rights and wrongs
    found, theirs = intervals.of_mean(values, intervals.draws(len(values))), stats.ttest_1samp(values, 0)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval()), rel=1e-9, abs=1e-9)
    ours = intervals.above_zero(values, intervals.draws(len(values)))
    assert ours == pytest.approx(stats.ttest_1samp(values, 0, alternative="greater").pvalue, abs=1e-9)


def test_a_mean_of_equal_groups_is_that_of_their_means():
    values = np.random.default_rng(0).normal(size=60) + np.repeat(np.arange(15), 4)
    sample = intervals.draws(60, groups_of([4] * 15))
    theirs = stats.ttest_1samp(values.reshape(15, 4).mean(axis=1), 0)
    found = intervals.of_mean(values, sample)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval()), abs=1e-9)


def test_a_mean_of_unequal_groups_is_nearly_that_of_a_regression_with_clusters():
    import statsmodels.api as sm

    rng = np.random.default_rng(0)
    groups = groups_of(rng.integers(2, 9, 40))
    codes = pd.factorize(groups)[0]
    values = rng.normal(size=40)[codes] + rng.normal(size=len(codes))
    fit = sm.OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": codes}, use_t=True)
    found = intervals.of_mean(values, intervals.draws(len(values), groups))
    assert (found.low, found.high) == pytest.approx(tuple(fit.conf_int()[0]), abs=0.03)


def test_the_pseudo_values_of_a_metric_in_groups_are_those_of_its_mean():
    rng = np.random.default_rng(1)
    target, answer, groups = rng.normal(size=(80, 1)), rng.normal(size=(80, 1)), groups_of([3, 5] * 10)
    sample, errors = intervals.draws(80, groups), np.abs(target - answer)[:, 0]
    pseudo = intervals._pseudo(metrics.mae, metrics.mae(target, answer), target, answer, sample)
    assert pseudo == pytest.approx(intervals._of_means(errors, sample), abs=1e-9)


def test_the_standard_error_in_time_is_that_of_its_cosines():
    values, n = np.random.default_rng(0).normal(size=50), 50
    sample = intervals.draws(n, horizon=2)
    steps, b = np.arange(n) + 0.5, sample.freedom
    waves = [np.sqrt(2 / n) * np.sum(values * np.cos(np.pi * j * steps / n)) for j in range(1, b + 1)]
    expected = np.sqrt(np.mean(np.square(waves)) / n)
    found = intervals.of_mean(values, sample)
    assert (found.high - found.value) / stats.t.ppf(0.975, b) == pytest.approx(expected, abs=1e-9)


# === Coverage ===

REPORTS = Path(__file__).parents[2] / "reports" / "models"
SIZES = {path.parent.name: files.read_json(path)["examples"] for path in REPORTS.glob("*/metrics.json")}
"""How many examples each shipped model was tested on."""
GLYPHS, VOICES = groups_of([5] * (SIZES["mobilenet"] // 5)), groups_of([16] * (SIZES["rnn-speech"] // 16))


def tumours(rng, apart=2.5, n=SIZES["mlp"]):
    target = (rng.random(n) < 0.37).astype(int)
    return target, special.expit(apart * (rng.normal(size=n) + (target - 0.5) * apart))[:, None]


def digits(rng, apart=4.0, n=SIZES["cnn"], classes=10):
    target = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), target] += apart
    odds = np.exp(apart * logits)
    return target, odds / odds.sum(axis=1, keepdims=True)


def phrases(rng, apart=2.5, n=SIZES["rnn-text"]):
    return digits(rng, apart, n, classes=12)


def prices(rng, wrong=0.5, n=120):
    target = rng.normal(size=(n, 1))
    return target, target + wrong * rng.gamma(2, size=(n, 1)) * rng.choice([-1, 1], (n, 1))


def pictograms(rng, apart=1.5, n=SIZES["mobilenet"]):
    """Glyphs, each harder or easier than others, five times."""
    target = np.repeat(rng.integers(0, 3, n // 5), 5)
    logits = rng.normal(size=(n, 3)) + np.repeat(rng.normal(size=(n // 5, 3)), 5, axis=0)
    logits[np.arange(n), target] += apart
    odds = np.exp(logits)
    return target, odds / odds.sum(axis=1, keepdims=True)


def spoken(rng, wrong=0.09, n=SIZES["rnn-speech"]):
    """Voices, each harder or easier to hear, 16 recordings of one word to three."""
    said = rng.integers(1, 4, n)
    errs = rng.random(n) < np.repeat(rng.beta(2, 2 / wrong - 2, n // 16), 16)
    target = np.array([" ".join(["one"] * count) for count in said], object)
    return target, np.where(errs, [" ".join(["one"] * (count - 1) + ["two"]) for count in said], target)


def climate(rng, memory=0.7, n=SIZES["rnn"], horizon=6):
    """Forecasts made month after month: the windows overlap, and the error of a month is in six of them."""
    shocks = rng.normal(size=n + horizon)
    errors = np.zeros((n, horizon))
    for step in range(horizon):
        for back in range(step + 1):
            errors[:, step] += memory**back * shocks[step - back : step - back + n]
    return np.zeros_like(errors), errors


def coverage(case, names=(), times=1200, whole=100_000, **drawn):
    """Share of the times that each metric's interval holds its value of a very large test split.

    Over models that err more or less: at a single one of them coverage depends on the few numbers of errors, of a dozen
    at most, that are likely there. `drawn` says otherwise than the case how examples were drawn.
    """
    draw, models, objective, known, groups, horizon = CASES[case]
    sample = {"groups": groups, "horizon": horizon} | drawn
    chosen = {name: objective.metrics[name] for name in names or known}
    inside = dict.fromkeys(chosen, 0)
    for place, model in enumerate(models):
        many = draw(np.random.default_rng(0), model, whole)
        truth = {name: metric(*many) for name, metric in chosen.items()}
        for seed in range(place + 1, times + 1, len(models)):
            target, answer = draw(np.random.default_rng(seed), model)
            found = intervals.of_metrics(chosen, target, answer, intervals.draws(len(target), **sample))
            for name, interval in found.items():
                inside[name] += interval.low <= truth[name] <= interval.high
    return {name: count / times for name, count in inside.items()}


CASES = {
    "tumours": (
        tumours, [2.5, 3.0, 3.5], BINARY,
        ["auc", "precision", "recall", "f1", "log_loss", "brier", "calibration_error"], None, 0,
    ),
    "digits": (
        digits, [3.2, 3.6, 4.0], MULTICLASS,
        ["balanced_accuracy", "macro_f1", "log_loss", "brier", "calibration_error"], None, 0,
    ),
    "phrases": (phrases, [2.0, 2.5], MULTICLASS, ["balanced_accuracy", "macro_f1", "calibration_error"], None, 0),
    "prices": (prices, [0.3, 0.6], REGRESSION, ["mae", "rmse", "r2"], None, 0),
    "pictograms": (
        pictograms, [1.0, 1.5, 2.0], MULTICLASS,
        ["accuracy", "balanced_accuracy", "macro_f1", "log_loss", "brier", "calibration_error"], GLYPHS, 0,
    ),
    "spoken": (spoken, [0.04, 0.09], TRANSCRIPTION, ["word_error", "character_error"], VOICES, 0),
    "climate": (climate, [0.5, 0.7, 0.85], FORECAST, ["mae", "rmse"], None, 6),
}  # fmt: skip
"""How each set is drawn, models that err more or less on it, and metrics whose intervals are no plain share's."""


@pytest.mark.parametrize("n", [SIZES[model] for model in ("mlp", "cnn", "rnn-text")])
def test_plain_shares_hold_the_truth_as_often_as_they_say_by_count(n):
    """Not simulated: of each number that may come out right the probability is known."""
    rights, target = np.arange(n + 1), np.ones(n)
    found = [
        intervals.of_metrics({"m": metrics.accuracy}, target, (np.arange(n) < right)[:, None] * 1.0, intervals.draws(n))
        for right in rights
    ]
    low, high = (np.array([getattr(one["m"], end) for one in found]) for end in ("low", "high"))
    truths = np.linspace(0.6, 0.99, 200)
    held = np.array([stats.binom.pmf(rights, n, p)[(low <= p) & (p <= high)].sum() for p in truths])
    assert 0.945 <= held.mean() <= 0.955
    assert np.mean((held > 0.93) & (held < 0.97)) > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_intervals_of_metrics_hold_the_truth_as_often_as_they_say(case):
    """93 to 97 times in 100, give or take one standard error; of a calibration error, which is cautious, more often.

    1,200 times, or fewer of a large split, whose intervals take longer.
    """
    times = min(1200, 200_000 // len(CASES[case][0](np.random.default_rng(0))[0]))
    chance = np.sqrt(0.95 * 0.05 / times)
    for name, share in coverage(case, times=times).items():
        most = 1 if name == "calibration_error" else 0.97 + chance
        assert 0.93 - chance <= share <= most, f"{name}: {share}"


@pytest.mark.parametrize(
    ("times", "n", "least"), [(1, 113, 0), (1, 359, 0), (2, 113, 0.3), (2, 359, 0.6), (4, 359, 0.9)]
)
def test_a_calibration_error_is_seldom_surely_above_the_truth(times, n, least):
    """Of a calibrated model, whose error is above 0 by chance alone, and of those whose logits are too large.

    Of these at least so many are surely not calibrated.
    """

    def drawn(seed, n):
        rng = np.random.default_rng(seed)
        logits = rng.normal(0, 2.5, n)
        return (rng.random(n) < special.expit(logits)).astype(int), special.expit(times * logits)[:, None]

    asked, truth = {"m": metrics.calibration_error}, metrics.calibration_error(*drawn(0, 100_000))
    found = [intervals.of_metrics(asked, *drawn(seed, n), intervals.draws(n))["m"] for seed in range(1, 101)]
    assert np.mean([one.low <= truth <= one.high for one in found]) >= 0.95
    assert np.mean([one.low > 0 for one in found]) >= least


@pytest.mark.parametrize(
    ("case", "name"), [("tumours", "accuracy"), ("tumours", "f1"), ("pictograms", "accuracy"), ("climate", "mae")]
)
def test_intervals_hold_the_truth_about_as_often_as_they_say(case, name):
    assert 0.92 <= coverage(case, [name], times=200, whole=20_000)[name] <= 0.98


def test_what_is_claimed_where_groups_or_time_are_not_respected():
    assert coverage("pictograms", ["accuracy"], times=200, whole=20_000, groups=None)["accuracy"] < 0.9
    assert coverage("climate", ["mae"], times=200, whole=20_000, horizon=0)["mae"] < 0.8


def differences(kind, rng):
    """Paired scores of two models that are equally good."""
    if kind == "groups":
        harder = rng.normal(size=(2, len(GLYPHS) // 5)).repeat(5, axis=1) + rng.normal(size=(2, len(GLYPHS)))
        return (harder[0] < 1) * 1.0 - (harder[1] < 1), intervals.draws(len(GLYPHS), GLYPHS)
    one, two = (np.abs(climate(rng)[1]).mean(axis=1) for _ in range(2))
    return one - two, intervals.draws(len(one), horizon=6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["groups", "forecasts"])
def test_intervals_of_paired_differences_hold_the_truth(kind):
    inside = 0
    for seed in range(1000):
        found = intervals.of_mean(*differences(kind, np.random.default_rng(seed)))
        inside += found.low <= 0 <= found.high
    assert 0.93 <= inside / 1000 <= 0.97


@pytest.mark.parametrize(("apart", "most"), [(0.03, 1), (0.06, 0.985), (0.1, 0.97), (0.15, 0.97), (0.2, 0.97)])
def test_paired_differences_of_classes_hold_the_truth_as_often_as_they_say_by_count(apart, most):
    """Not simulated. Where two models differ on a dozen answers or more; of fewer no finer steps can be had."""
    n = SIZES["mlp"]
    sample = intervals.draws(n)
    counts = np.array([(better, worse) for better in range(50) for worse in range(50)])
    found = [intervals.of_mean(np.repeat([1.0, -1.0, 0.0], [*pair, n - sum(pair)]), sample) for pair in counts]
    low, high = (np.array([getattr(one, end) for one in found]) for end in ("low", "high"))
    for share in (0.5, 0.6, 0.7, 0.8, 0.9):
        chances = apart * np.array([share, 1 - share])
        drawn = stats.multinomial.pmf(np.c_[counts, n - counts.sum(axis=1)], n, [*chances, 1 - apart])
        truth = chances[0] - chances[1]
        assert 0.93 <= drawn[(low <= truth) & (truth <= high)].sum() <= most


def test_an_interval_ends_at_0_where_nothing_lies_below_and_holds_the_truth_as_often(monkeypatch):
    """The calibration error of a model that is too sure: its interval as it would be begins below 0 now and then."""

    def sure(seed, n):
        target, answer = tumours(np.random.default_rng(seed), 1.5, n)
        return target, special.expit(3 * special.logit(answer))

    asked, truth = {"m": metrics.calibration_error}, metrics.calibration_error(*sure(0, 20_000))
    drawn = [sure(seed, 114) for seed in range(1, 201)]
    ends = [intervals.of_metrics(asked, *one, intervals.draws(114))["m"] for one in drawn]
    monkeypatch.setattr(intervals, "NEVER_NEGATIVE", frozenset())
    free = [intervals.of_metrics(asked, *one, intervals.draws(114))["m"] for one in drawn]
    below = [one.low < 0 for one in free]
    assert 5 < sum(below) < 195
    for one, other in zip(ends, free, strict=True):
        assert (one.value, one.low, one.high) == (other.value, max(0.0, other.low), other.high)
    held = [sum(one.low <= truth <= one.high for one in some) for some in (ends, free)]
    assert held[0] == held[1]


def test_a_share_of_explained_variance_may_lie_below_0():
    target, answer = np.random.default_rng(0).normal(size=(2, 20, 1))
    assert intervals.of_metrics(REGRESSION.metrics, target, answer, intervals.draws(20))["r2"].low < 0


# === Over seeds ===


@settings(max_examples=20)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=10))
def test_a_mean_over_seeds_has_the_t_interval_of_scipy(values):
    values = np.array(values) + np.linspace(0.1, 0.2, len(values))
    found = intervals.of_seeds(values)
    theirs = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    assert found.value == values.mean()
    assert (found.low, found.high) == pytest.approx(theirs, rel=1e-9, abs=1e-9)


def test_seeds_that_all_come_to_the_same_have_an_interval_without_width():
    assert intervals.of_seeds(np.array([0.5, 0.5])) == Interval(0.5, 0.5, 0.5)
    assert intervals.of_seeds(np.array([0.5, np.nan])).as_dict() == {"value": None, "low": None, "high": None}


# === Where there is little to say ===


def answers_of(objective, target, answer, how):
    """Targets and answers that are all right or all wrong, or of one class, or as they come."""
    if how == "one class":
        return np.repeat(target[:1], len(target), axis=0), answer
    if how == "drawn" or objective is BINARY or not objective.classifies:
        wrong = {"binary": lambda: 1 - target[:, None], "transcription": lambda: np.full(len(target), "", object)}
        truth = target[:, None] if objective is BINARY else target
        made = {
            "right": lambda: truth,
            "wrong": wrong.get(objective.name, lambda: truth + 9.0),
            "drawn": lambda: answer,
        }
        return target, made[how]()
    return target, np.eye(answer.shape[1])[(target + (how == "wrong")) % answer.shape[1]]


@pytest.mark.parametrize("how", ["right", "wrong", "one class", "drawn"])
@pytest.mark.parametrize("case", CASES)
def test_odd_test_splits_give_a_sensible_interval_or_none(case, how):
    draw, _, objective, *_, horizon = CASES[case]
    for n, groups in itertools.product([1, 3, 4, 5, 8], [None, 1, 4, 6]):
        target, answer = (values[:n] for values in draw(np.random.default_rng(0)))
        target, answer = answers_of(objective, target, answer, how)
        sample = intervals.draws(n, None if groups is None else pd.Series(np.arange(n) % groups), horizon)
        score = objective.score(target, answer)
        found = intervals.of_metrics(objective.metrics, target, answer, sample)
        assert 0 <= intervals.above_zero(score, sample) <= 1
        for interval in [*found.values(), intervals.of_mean(score, sample)]:
            assert np.isnan(interval.low) == np.isnan(interval.high)
            if not np.isnan(interval.low):
                assert interval.low - 1e-9 <= interval.value <= interval.high + 1e-9


@pytest.mark.parametrize(("groups", "units"), [(None, 40), (groups_of([4] * 10), 10)])
def test_all_right_is_not_surely_all_right(groups, units):
    target = np.arange(40) % 2
    found = intervals.of_metrics(BINARY.metrics, target, target[:, None] * 1.0, intervals.draws(40, groups))
    square = (1.959964 if groups is None else stats.t.ppf(0.975, 9)) ** 2
    assert found["accuracy"].low == pytest.approx(units / (units + square), abs=1e-6)
    for name in ("accuracy", "auc", "precision", "recall", "f1"):
        assert found[name].low < 0.97
        assert found[name].high == 1


def test_a_metric_that_is_nowhere_defined_is_null():
    found = intervals.of_metrics({"m": lambda t, a: float("nan")}, np.zeros(9), np.zeros(9), intervals.draws(9))
    assert found["m"].as_dict() == {"value": None, "low": None, "high": None}


def test_a_metric_that_one_example_decides_has_no_interval():
    def share(target, answer):
        return float(answer[target == 1].mean()) if (target == 1).any() else float("nan")

    found = intervals.of_metrics({"m": share}, np.array([1, 0, 0, 0, 0]), np.full(5, 0.5), intervals.draws(5))["m"]
    assert found.as_dict() == {"value": 0.5, "low": None, "high": None}


def test_an_interval_is_told_short():
    assert str(Interval(0.123456789, -1.0, 12345.678)) == "0.1235 [-1, 1.235e+04]"
    assert Interval(0.123456789, -1.0, 2.0).as_dict() == {"value": 0.123457, "low": -1.0, "high": 2.0}


@pytest.mark.parametrize(("n", "horizon", "known"), [(8, 12, False), (8, 2, False), (10, 2, True), (4, 0, False)])
def test_of_too_few_units_nothing_is_said(n, horizon, known):
    sample = intervals.draws(n, horizon=horizon)
    values = np.arange(n, dtype=float)
    for found in (
        intervals.of_mean(values, sample),
        intervals.of_metrics({"m": lambda target, answer: float(answer.mean())}, values, values, sample)["m"],
    ):
        assert found.value == values.mean()
        assert np.isnan(found.low) != known
        assert np.isnan(found.high) != known
        assert ("too few" in str(found)) != known


@pytest.mark.parametrize("order", ["drawn", "class by class", "every class in turn"])
def test_of_many_examples_several_are_left_out_at_once(order):
    """In whatever order they lie: the log loss is a mean, whose interval is Student's of all the examples."""
    rng = np.random.default_rng(0)
    target = rng.integers(0, 10, 5000)
    logits = rng.normal(size=(5000, 10))
    logits[np.arange(5000), target] += np.linspace(0.5, 5, 10)[target]  # some classes are far harder
    answer = special.softmax(logits, axis=1)
    sorts = np.argsort(target, kind="stable")
    places = {
        "drawn": np.arange(5000),
        "class by class": sorts,
        "every class in turn": sorts.reshape(1000, 5).T.ravel(),
    }
    target, answer, sample = target[places[order]], answer[places[order]], intervals.draws(5000)
    found = intervals.of_metrics({"m": metrics.log_loss}, target, answer, sample)["m"]
    assert len(intervals._pseudo(metrics.log_loss, 0.0, target, answer, sample)) == intervals.MOST_PARTS
    losses = -np.log(metrics.of_target(target, answer))
    reach = 1.96 * losses.std() / np.sqrt(5000)
    assert (found.high - found.low) / 2 == pytest.approx(reach, rel=0.06)


@pytest.mark.parametrize("n", [19, 20, 50, 200])
def test_nineteen_of_twenty_new_truths_are_within_the_half_width(n):
    rng, inside = np.random.default_rng(0), []
    for _ in range(3000):
        errors = rng.standard_exponential(n + 1) * rng.choice([-1, 1], n + 1)
        inside.append(abs(errors[-1]) <= intervals.half_width(errors[:-1]))
    assert 0.94 < np.mean(inside) < 0.95 + 1.3 / (n + 1) + 0.012


def test_of_fewer_than_nineteen_errors_no_half_width_holds_them():
    assert intervals.half_width(np.arange(18.0)) is None
    assert intervals.half_width(np.arange(19.0)) == 18
    assert intervals.half_width(pd.Series([-40.0] + [1.0] * 38)) == 1
