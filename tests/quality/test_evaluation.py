import numpy as np
import pandas as pd
import pytest
from scipy import stats

from trainyard.quality import evaluation, intervals
from trainyard.quality.baselines import Baseline
from trainyard.quality.objectives import BINARY, FORECAST, MULTICLASS, REGRESSION

ROWS = pd.DataFrame({"label": ["a", "b", "b", "a"]}, index=pd.Index(["2", "3", "4", "5"], name="example"))
TARGET = np.array([0, 1, 1, 0])
ANSWER = np.array([[0.25], [0.75], [0.25], [0.0]])
NAIVE = Baseline("shares of the classes", np.full((4, 1), 0.5))  # says b, always
CLASSICAL = Baseline("logistic regression", np.array([[0.0], [1.0], [1.0], [0.0]]))


@pytest.mark.parametrize(
    ("objective", "groups", "units", "horizon"),
    [
        (BINARY, None, [0, 1, 2, 3], 0),
        (REGRESSION, ["x", "x", "y", "x"], [0, 0, 1, 0], 0),
        (FORECAST, None, [0, 1, 2, 3], 5),
    ],
)
def test_examples_that_hang_together_are_drawn_together(objective, groups, units, horizon):
    rows = ROWS.assign(**({"group": groups} if groups else {}))
    sample = evaluation.draws(objective, rows, np.zeros((4, 5)))
    assert (sample.units.tolist(), sample.horizon) == (units, horizon)


def test_metrics_hold_model_baselines_and_paired_differences():
    sample = intervals.draws(4)
    found = evaluation.metrics(BINARY, TARGET, ANSWER, NAIVE, CLASSICAL, sample)
    assert list(found) == [
        "objective", "examples", "test", "naive", "better_than_naive", "classical", "better_than_classical",
    ]  # fmt: skip
    assert (found["objective"], found["examples"]) == ("binary", 4)
    assert {name: ends["value"] for name, ends in found["test"].items()} == pytest.approx(
        {
            "accuracy": 0.75,
            "auc": 0.875,
            "precision": 1,
            "recall": 0.5,
            "f1": 2 / 3,
            "log_loss": 0.490415,
            "brier": 0.171875,
            "calibration_error": 0.0625,
        },
        abs=1e-6,
    )
    assert found["naive"] == {
        "name": "shares of the classes", "accuracy": 0.5, "auc": 0.5, "precision": 0.5, "recall": 1.0, "f1": 0.666667,
        "log_loss": 0.693147, "brier": 0.25, "calibration_error": 0.0,
    }  # fmt: skip
    assert found["classical"]["accuracy"] == 1
    paired = intervals.of_mean(np.array([1.0, 0, -1, 1]), sample)
    assert found["better_than_naive"] == paired.as_dict()
    assert found["better_than_classical"]["value"] == -0.25


def test_a_metric_of_a_baseline_that_is_not_defined_is_null():
    target = np.ones((3, 1))
    baseline = Baseline("mean", np.ones((3, 1)))
    found = evaluation.metrics(REGRESSION, target, target, baseline, baseline, intervals.draws(3))
    assert found["naive"] == {"name": "mean", "mae": 0, "rmse": 0, "r2": None}
    assert found["test"]["r2"] == {"value": None, "low": None, "high": None}


def test_slices_hold_the_main_metric_of_their_examples():
    target, answer = np.tile(TARGET, 6), np.tile(ANSWER, (6, 1))
    columns = pd.DataFrame({"site": ["south"] * 12 + ["north"] * 8 + ["west"] * 4, "label": list("abba") * 6})
    found = evaluation.slices(BINARY, columns, target, answer, intervals.draws(24))
    assert {column: list(values) for column, values in found.items()} == {
        "site": ["north", "south", "west"],
        "label": ["a", "b"],
    }
    north = stats.binomtest(6, 8).proportion_ci(method="wilson")
    assert found["site"]["north"] == {
        "examples": 8, "value": 0.75, "low": round(north.low, 6), "high": round(north.high, 6),
    }  # fmt: skip
    assert found["site"]["west"] == {"examples": 4, "value": 0.75, "low": None, "high": None}
    assert [found["label"][name]["value"] for name in "ab"] == [1, 0.5]


def test_over_seeds_holds_each_seed_and_the_t_interval_of_all():
    answers = {1: ANSWER, 2: NAIVE.answer, 12: CLASSICAL.answer}  # 3, 2 and 4 of 4 are right
    found = evaluation.over_seeds(BINARY, TARGET, answers)
    assert list(found) == list(BINARY.metrics)
    low, high = stats.t.interval(0.95, 2, 0.75, stats.sem([0.75, 0.5, 1]))
    each = {"1": 0.75, "2": 0.5, "12": 1.0}
    assert found["accuracy"] == {"value": 0.75, "low": round(low, 6), "high": round(high, 6), "each": each}


def test_slices_keep_groups_together():
    columns = pd.DataFrame({"site": ["a"] * 12 + ["b"] * 12})
    sample = intervals.draws(24, pd.Series(np.arange(24) // 3))
    found = evaluation.slices(BINARY, columns, np.tile(TARGET, 6), np.tile(ANSWER, (6, 1)), sample)
    assert found["site"]["a"] == {"examples": 12, "value": 0.75, "low": None, "high": None}  # four groups


def test_scores_hold_a_row_an_example():
    found = evaluation.scores(BINARY, ["a", "b"], ROWS, TARGET, ANSWER, NAIVE, CLASSICAL)
    assert found.index.equals(ROWS.index)
    assert found.to_dict("list") == {
        "label": ["a", "b", "b", "a"],
        "p_a": [0.75, 0.25, 0.75, 1.0],
        "p_b": [0.25, 0.75, 0.25, 0.0],
        "score": [1, 1, 0, 1],
        "naive_score": [0, 1, 1, 0],
        "classical_score": [1, 1, 1, 1],
    }
    assert list(ROWS) == ["label"]


@pytest.mark.parametrize(("horizon", "ends"), [(1, [""]), (2, ["_1", "_2"])])
def test_scores_of_numbers_hold_target_and_answer_by_step(horizon, ends):
    target = np.arange(4.0 * horizon).reshape(4, horizon)
    mean = Baseline("mean", target * 0)
    found = evaluation.scores(FORECAST, [], ROWS, target, target + 1, mean, mean)
    assert list(found) == [
        "label", *(f"target{end}" for end in ends), *(f"answer{end}" for end in ends), "score", "naive_score",
        "classical_score",
    ]  # fmt: skip
    assert np.array_equal(found[[f"answer{end}" for end in ends]], target + 1)
    assert found["score"].tolist() == [-1] * 4
    assert found["naive_score"].tolist() == (-target.mean(axis=1)).tolist()


def test_answers_of_classes_are_a_column_each():
    found = evaluation.named_answers(MULTICLASS, ["a", "b", "c"], np.eye(3))
    assert {name: values.tolist() for name, values in found.items()} == {
        "p_a": [1, 0, 0],
        "p_b": [0, 1, 0],
        "p_c": [0, 0, 1],
    }
