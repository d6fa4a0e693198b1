import numpy as np
import pandas as pd
import pytest

from trainyard.quality import evaluation, intervals
from trainyard.quality.baselines import Baseline
from trainyard.quality.objectives import BINARY, FORECAST, MULTICLASS, REGRESSION

ROWS = pd.DataFrame({"label": ["a", "b", "b", "a"]}, index=pd.Index(["2", "3", "4", "5"], name="example"))
TARGET = np.array([0, 1, 1, 0])
ANSWER = np.array([[0.25], [0.75], [0.25], [0.0]])
NAIVE = Baseline("shares of the classes", np.full((4, 1), 0.5))  # says b, always
CLASSICAL = Baseline("logistic regression", np.array([[0.0], [1.0], [1.0], [0.0]]))


@pytest.mark.parametrize(
    ("objective", "n", "horizon", "groups", "units"),
    [
        (BINARY, 6, 1, None, [1] * 6),
        (BINARY, 6, 1, ["x", "x", "y", "z", "z", "z"], [2, 1, 3]),
        (REGRESSION, 6, 1, None, [1] * 6),
        (FORECAST, 12, 5, None, [5, 5, 2]),
        (FORECAST, 27, 1, None, [3] * 9),  # the cube root of the rows
    ],
)
def test_examples_that_hang_together_are_drawn_together(objective, n, horizon, groups, units):
    rows = pd.DataFrame({"label": ["a"] * n} | ({"group": groups} if groups else {}))
    sample = evaluation.draws(objective, rows, np.zeros((n, horizon)), 1)
    assert [len(unit) for unit in sample.units] == units


def test_metrics_hold_model_baselines_and_paired_differences():
    sample = intervals.draws(4, 1)
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
    found = evaluation.metrics(REGRESSION, target, target, baseline, baseline, intervals.draws(3, 1))
    assert found["naive"] == {"name": "mean", "mae": 0, "rmse": 0, "r2": None}
    assert found["test"]["r2"] == {"value": None, "low": None, "high": None}


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
