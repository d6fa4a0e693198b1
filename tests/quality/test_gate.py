import numpy as np
import pytest

from trainyard.quality import gate, intervals
from trainyard.quality.gate import Check, Verdict
from trainyard.quality.objectives import BINARY, REGRESSION

N = 100
SAMPLE = intervals.draws(N, 1)
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
    assert check.reason.endswith(f"; its lower end {'is' if passed else 'is not'} above {margin:.4g}")


def test_the_first_model_has_no_champion_to_beat():
    check = gate.better_than_champion(HALF, None, 0.5, SAMPLE)
    assert check == Check("better than the champion", True, "there is no champion")


def test_paired_scores_find_a_difference_that_separate_intervals_hide():
    base = np.random.default_rng(1).normal(0, 5, N)
    check = gate.better_than_champion(base + 0.05 + NOISE, base, 0.0, SAMPLE)
    one, two = (intervals.of_mean(scores, SAMPLE) for scores in (base + 0.05 + NOISE, base))
    assert check.passed
    assert one.low < two.high


@pytest.mark.parametrize(("passed", "verdict"), [([True, True], True), ([True, False], False), ([], True)])
def test_a_verdict_takes_every_check(passed, verdict):
    checks = tuple(Check(f"check {i}", one, "so it is") for i, one in enumerate(passed))
    found = Verdict(checks)
    assert found.passed is verdict
    assert found.as_dict() == {
        "passed": verdict,
        "checks": [{"name": one.name, "passed": one.passed, "reason": "so it is"} for one in checks],
    }
