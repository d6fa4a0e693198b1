from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trainyard import params
from trainyard.quality import gate, intervals
from trainyard.quality.objectives import BINARY, MULTICLASS, REGRESSION
from trainyard.quality.verdict import Check

SHIPPED = params.load(Path(__file__).parents[2] / "params.yaml")
N = 100
SAMPLE = intervals.draws(N)
HALF = np.tile([0.0, 1.0], N // 2)
NOISE = np.random.default_rng(0).normal(0, 0.1, N)


@pytest.mark.parametrize(
    ("objective", "values", "floor", "checks"),
    [
        (BINARY, {"accuracy": 0.9}, {}, []),
        (BINARY, {"accuracy": 0.9}, {"accuracy": 0.9}, [("floor accuracy", True, "0.9 is at least 0.9")]),
        (BINARY, {"accuracy": 0.89}, {"accuracy": 0.9}, [("floor accuracy", False, "0.89 is not at least 0.9")]),
        (BINARY, {"auc": float("nan")}, {"auc": 0.5}, [("floor auc", False, "nan is not at least 0.5")]),
        (REGRESSION, {"mae": 2.0}, {"mae": 2.5}, [("floor mae", True, "2 is at most 2.5")]),
        (REGRESSION, {"mae": 3.0}, {"mae": 2.5}, [("floor mae", False, "3 is not at most 2.5")]),
        (
            REGRESSION,
            {"mae": 3.0, "r2": 0.5},
            {"r2": 0.4, "mae": 2.5},
            [("floor r2", True, "0.5 is at least 0.4"), ("floor mae", False, "3 is not at most 2.5")],
        ),
    ],
)
def test_a_floor_is_reached_or_not_and_says_why(objective, values, floor, checks):
    found = gate.floors(objective, values, floor)
    assert [(check.name, check.passed, check.reason) for check in found] == checks


@pytest.mark.parametrize(
    ("difference", "passed"),
    [
        (np.ones(N), True),
        (0.05 + NOISE, True),
        (np.zeros(N), False),  # as good as naive
        (NOISE - NOISE.mean() + 0.001, False),  # better, but not surely
        (-np.ones(N), False),
    ],
    ids=["much", "surely", "equal", "by chance", "worse"],
)
def test_a_model_must_surely_be_better_than_naive(difference, passed):
    check = gate.better_than_naive(HALF + difference, HALF, SAMPLE)
    assert (check.name, check.passed) == ("better than naive", passed)
    interval = intervals.of_mean(difference, SAMPLE)
    assert check.reason == f"mean score differs by {interval}; its lower end {'is' if passed else 'is not'} above 0"


@pytest.mark.parametrize(
    ("difference", "margin", "passed"),
    [
        (np.full(N, 0.1), 0.0, True),
        (0.05 + NOISE, 0.0, True),
        (np.zeros(N), 0.0, False),  # a tie keeps the champion
        (np.full(N, 0.125), 0.125, False),  # so does a tie with the margin
        (np.full(N, 0.1), 0.05, True),
        (0.05 + NOISE, 0.06, False),
        (-np.ones(N), 0.0, False),
    ],
    ids=["much", "surely", "tie", "tie with the margin", "above the margin", "below the margin", "worse"],
)
def test_a_challenger_must_surely_be_better_by_more_than_the_margin(difference, margin, passed):
    check = gate.better_than_champion(HALF + difference, HALF, margin, SAMPLE)
    assert (check.name, check.passed) == ("better than the champion", passed)
    assert check.reason.startswith("on the same 100 rows the mean score differs by ")
    more = f" by more than {margin:.4g}" if margin else ""
    end = f"surely better{more}" if passed else f"not surely better{more}, so the champion stays"
    end = end if difference.any() else "a tie, so the champion stays"
    assert check.reason.endswith(f": {end}")


def test_the_first_model_has_no_champion_to_beat():
    check = gate.better_than_champion(HALF, None, 0.5, SAMPLE)
    assert check == Check("better than the champion", True, "there was no champion")


def test_paired_scores_find_a_difference_that_separate_intervals_hide():
    base = np.random.default_rng(1).normal(0, 5, N)
    check = gate.better_than_champion(base + 0.05 + NOISE, base, 0.0, SAMPLE)
    one, two = (intervals.of_mean(scores, SAMPLE) for scores in (base + 0.05 + NOISE, base))
    assert check.passed
    assert one.low < two.high


RIGHT = np.array([1.0] * 80 + [0.0] * 20)
BETTER = np.array([1.0] * 90 + [0.0] * 10)


@pytest.mark.parametrize(
    ("scores", "margin", "passed", "figures", "decision"),
    [
        (BETTER, 0.0, True, ("0.1 [0.03425, 0.1618]", "0.00098"), "surely better"),
        (BETTER, 0.05, False, ("0.1 [0.03425, 0.1618]", "0.00098"), "not surely better by more than 0.05"),
        (RIGHT, 0.0, False, ("0 [-0.02717, 0.02717]", "1"), "a tie"),
    ],
    ids=["better", "not by the margin", "tie"],
)
def test_the_reason_says_test_interval_p_and_decision(scores, margin, passed, figures, decision):
    check = gate.better_than_champion(scores, RIGHT, margin, SAMPLE)
    (interval, p), end = figures, "" if passed else ", so the champion stays"
    told = f"on the same 100 rows the mean score differs by {interval}; McNemar's exact test, p = {p}: {decision}{end}"
    assert (check.passed, check.reason) == (passed, told)


def test_a_worse_model_is_refused():
    assert not gate.better_than_champion(RIGHT, BETTER, 0.0, SAMPLE).passed


SITES = pd.DataFrame({"site": ["north"] * 20 + ["south"] * 76 + ["west"] * 4})


@pytest.mark.parametrize(
    ("worse", "margin", "passed"),
    [(0, 0.0, True), (1, 0.0, True), (10, 0.0, False), (10, 0.15, False), (10, 0.6, True)],
    ids=["none", "by chance", "surely", "by more than is allowed", "by no more than is allowed"],
)
def test_a_model_that_is_better_on_average_may_be_surely_worse_on_no_slice(worse, margin, passed):
    champion = np.concatenate([np.ones(20), np.zeros(80)])
    scores = np.concatenate([np.zeros(worse), np.ones(20 - worse), np.ones(76), np.zeros(4)])
    assert gate.better_than_champion(scores, champion, 0.0, SAMPLE).passed
    check = gate.no_slice_worse(scores, champion, SITES, margin, SAMPLE)
    assert (check.name, check.passed) == ("no slice is worse than the champion", passed)
    if passed:
        assert check.reason == "of 3 none is surely worse" + (f" by more than {margin}" if margin else "")
    else:
        assert check.reason.startswith("`north` of `site` differs by -0.5 [")
        assert check.reason.endswith("] on 20 rows")


def test_a_slice_of_a_few_rows_refuses_nothing():
    champion = np.concatenate([np.zeros(96), np.ones(4)])
    assert gate.no_slice_worse(1 - champion, champion, SITES, 0.0, SAMPLE).passed


def test_of_models_that_are_as_good_in_each_of_many_slices_few_are_refused():
    """Judged each by itself, twelve slices would refuse one in four."""
    columns, sample = pd.DataFrame({"label": np.repeat([*"abcdefghijkl"], 50)}), intervals.draws(600)
    refused = 0
    for seed in range(300):
        scores, champion = np.random.default_rng(seed).normal(size=(2, 600))
        refused += not gate.no_slice_worse(scores, champion, columns, 0.0, sample).passed
    assert refused / 300 < 0.05


def test_slices_of_the_first_model_are_not_compared():
    check = gate.no_slice_worse(RIGHT, None, SITES, 0.0, SAMPLE)
    assert (check.passed, check.reason) == (True, "there was no champion")


def overconfident(times, n=500):
    """The calibration error, with its interval, of a model whose logits are so many times too large."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, n)
    target = (rng.random(n) < 1 / (1 + np.exp(-logits))).astype(int)
    answer = 1 / (1 + np.exp(-times * logits[:, None]))
    error = {"calibration_error": BINARY.metrics["calibration_error"]}
    return intervals.of_metrics(error, target, answer, intervals.draws(n))["calibration_error"]


@pytest.mark.parametrize(("times", "passed"), [(1.0, True), (8.0, False)], ids=["calibrated", "overconfident"])
def test_an_overconfident_model_is_refused(times, passed):
    error = overconfident(times)
    check = gate.calibrated(error.as_dict(), 0.08)
    assert (check.name, check.passed) == ("calibrated", passed)
    assert check.reason == f"the calibration error is {error}, {'not ' if passed else ''}surely above 0.08"


@pytest.mark.parametrize(
    ("sure", "failed"), [(None, []), (1.0, ["floor log_loss"]), (0.7, ["floor log_loss", "calibrated"])]
)
@pytest.mark.parametrize(("name", "objective", "n", "wrong"), [("mlp", BINARY, 113, 4), ("cnn", MULTICLASS, 359, 7)])
def test_a_shipped_model_is_refused_that_is_too_sure_or_not_sure_enough(name, objective, n, wrong, sure, failed):
    """By the bounds of params.yaml, however often it is right; one that is as sure as it is right passes."""
    target, classes = np.arange(n) % 2, 2 if objective is BINARY else 10
    chosen = np.where(np.arange(n) < wrong, 1 - target, target)
    sure = 1 - wrong / n if sure is None else sure
    answer = np.where(np.eye(classes)[chosen] == 1, sure, (1 - sure) / (classes - 1))[
        :, -(classes if classes > 2 else 1) :
    ]
    found, asked = intervals.of_metrics(objective.metrics, target, answer, intervals.draws(n)), SHIPPED.evaluate[name]
    checks = gate.floors(objective, {metric: interval.value for metric, interval in found.items()}, asked.floor)
    checks.append(gate.calibrated(found["calibration_error"].as_dict(), asked.calibration))
    assert [check.name for check in checks if not check.passed] == failed


@pytest.mark.parametrize("size", [1, 5])
def test_a_calibrated_model_is_seldom_refused_however_few_its_groups(size):
    """The error of few examples is above 0 by chance: 100 groups of as many equal examples, 200 times."""
    refused = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        probability = 1 / (1 + np.exp(-np.repeat(rng.normal(0, 1.5, 100), size)))
        target = (np.repeat(rng.random(100), size) < probability).astype(int)
        sample = intervals.draws(100 * size, pd.Series(np.repeat(np.arange(100), size)))
        error = {"calibration_error": BINARY.metrics["calibration_error"]}
        found = intervals.of_metrics(error, target, probability[:, None], sample)["calibration_error"]
        refused += not gate.calibrated(found.as_dict(), 0.1).passed
    assert refused / 200 < 0.05


def test_a_calibration_error_without_an_interval_is_not_surely_too_large():
    assert gate.calibrated({"value": 0.5, "low": None, "high": None}, 0.1).passed


@pytest.mark.parametrize(
    ("budget", "checks"),
    [
        ({}, []),
        ({"megabytes": 2}, [("budget megabytes", True, "within the budget of 2 megabytes")]),
        ({"megabytes": 1.9}, [("budget megabytes", False, "not within the budget of 1.9 megabytes")]),
        (
            {"megabytes": 3, "milliseconds": 100},
            [
                ("budget megabytes", True, "within the budget of 3 megabytes"),
                ("budget milliseconds", False, "not within the budget of 100 milliseconds"),
            ],
        ),
    ],
)
def test_a_model_that_takes_more_than_its_budget_is_refused_without_a_figure(budget, checks):
    found = gate.within_budget({"megabytes": 2.0, "milliseconds": 101.5}, budget)
    assert [(check.name, check.passed, check.reason) for check in found] == checks


# === The whole verdict ===

ASKED = {"floor": {}, "margin": 0.0, "calibration": None, "budget": {}, "slices": [], "slice_margin": 0.0}
ENDS = {"value": 0.75, "low": 0.1, "high": 0.2}
METRICS = {"test": {"accuracy": ENDS, "auc": dict.fromkeys(ENDS), "calibration_error": ENDS}}
BAR = "better than the champion"


def judged(champion=None, asked=None, own=HALF):
    scores = pd.DataFrame({"score": own, "naive_score": HALF - 1})
    columns = pd.DataFrame({"part": np.repeat(["a", "b"], N // 2)})
    return gate.judged(BINARY, METRICS, scores, {"megabytes": 2.0}, ASKED | (asked or {}), champion, columns, SAMPLE)


def outcome(checks):
    return [(check.name, check.passed) for check in checks]


@pytest.mark.parametrize(
    ("asked", "more"),
    [
        ({}, []),
        ({"floor": {"accuracy": 0.8, "auc": 0.1}}, [("floor accuracy", False), ("floor auc", False)]),
        ({"calibration": 0.15}, [("calibrated", True)]),
        ({"calibration": 0.05}, [("calibrated", False)]),
        ({"budget": {"megabytes": 1.0, "milliseconds": None}}, [("budget megabytes", False)]),
        ({"slices": ["part"]}, [("no slice is worse than the champion", True)]),
    ],
    ids=["nothing", "floors", "calibration", "too sure", "budget", "slices"],
)
def test_each_thing_that_params_ask_for_is_a_check_in_the_verdict(asked, more):
    found = outcome(judged(asked=asked))
    assert sorted(found) == sorted([("better than naive", True), (BAR, True), *more])


def test_all_checks_are_made_in_one_order_whatever_fails():
    asked = {"floor": {"accuracy": 0.9}, "calibration": 0.05, "budget": {"megabytes": 1.0}, "slices": ["part"]}
    found = outcome(judged(HALF + np.repeat([9.0, -9.0], N // 2), asked))
    assert found == [
        ("floor accuracy", False),
        ("better than naive", True),
        ("calibrated", False),
        ("budget megabytes", False),
        (BAR, False),
        ("no slice is worse than the champion", False),
    ]


def test_the_margins_are_those_of_params():
    for margin, passed in [(0.05, True), (0.5, False)]:
        assert judged(HALF - 0.1, {"margin": margin})[-1].passed == passed
    worse = HALF + np.repeat([0.1, -1.0], N // 2)
    for margin, passed in [(0.0, False), (0.2, True)]:
        assert judged(worse, {"slices": ["part"], "slice_margin": margin})[-1].passed == passed


def test_a_champion_that_cannot_be_compared_fails_with_the_words_why():
    found = judged("its classes are others", {"slices": ["part"]})
    assert found[-1] == Check(BAR, False, "its classes are others")
