import numpy as np
import pytest

from trainyard.quality.objectives import BINARY, FORECAST, MULTICLASS, OBJECTIVES, REGRESSION, TRANSCRIPTION

CLASSES_OF_TWO = (np.array([0, 1, 1, 0]), np.array([[0.4], [0.6], [0.3], [0.5]]))
CLASSES_OF_THREE = (np.array([0, 2, 1]), np.array([[0.5, 0.3, 0.2], [0.5, 0.1, 0.4], [0.1, 0.8, 0.1]]))
NUMBERS = (np.array([[1.0], [-2.0]], np.float32), np.array([[1.5], [2.0]], np.float32))
SAID = (np.array(["one two", "three"]), np.array(["one", "four three"], object))
STEPS = (np.array([[1.0, 2], [3, 4]], np.float32), np.array([[1.0, 3], [0, 0]], np.float32))


@pytest.mark.parametrize(
    ("objective", "example", "scores"),
    [
        (BINARY, CLASSES_OF_TWO, [1, 1, 0, 0]),
        (MULTICLASS, CLASSES_OF_THREE, [1, 0, 1]),
        (REGRESSION, NUMBERS, [-0.5, -4]),
        (FORECAST, STEPS, [-0.5, -3.5]),
        (TRANSCRIPTION, SAID, [-1 / 1.5, -1 / 1.5]),
    ],
)
def test_the_mean_score_is_the_main_metric_negative_for_errors(objective, example, scores):
    assert objective.score(*example).tolist() == scores
    sign = -1 if objective.main in objective.lower_is_better else 1
    assert sign * np.mean(scores) == pytest.approx(objective.metrics[objective.main](*example))


@pytest.mark.parametrize(
    ("objective", "target", "answer"),
    [
        (BINARY, np.array([0, 1, 1, 1], np.int32), [[0.75]] * 2),
        (MULTICLASS, np.array([0, 2, 2, 1], np.int32), [[0.25, 0.25, 0.5]] * 2),
        (REGRESSION, NUMBERS[0], [[-0.5]] * 2),
        (FORECAST, STEPS[0], [[2, 3]] * 2),
        (TRANSCRIPTION, np.array(["two", "one", "two", "one two"]), ["two"] * 2),
    ],
)
def test_the_naive_answer_is_what_the_training_targets_say(objective, target, answer):
    assert objective.naive(target, 2).tolist() == answer


@pytest.mark.parametrize(
    ("objective", "target", "classes", "units", "activation", "main"),
    [
        (BINARY, CLASSES_OF_TWO[0], 2, 1, "sigmoid", "accuracy"),
        (MULTICLASS, CLASSES_OF_THREE[0], 3, 3, "softmax", "accuracy"),
        (REGRESSION, NUMBERS[0], 0, 1, "linear", "mae"),
        (FORECAST, STEPS[0], 0, 2, "linear", "mae"),
        (TRANSCRIPTION, SAID[0], 0, 1, "linear", "word_error"),
    ],
)
def test_the_head_fits_the_target(objective, target, classes, units, activation, main):
    assert (objective.units(target, classes), objective.activation, objective.main) == (units, activation, main)
    assert objective.classifies == (classes > 0)


@pytest.mark.parametrize(
    ("metric", "value", "floor", "reaches"),
    [
        ("accuracy", 0.9, 0.9, True),
        ("accuracy", 0.89, 0.9, False),
        ("accuracy", float("nan"), 0.0, False),
        ("log_loss", 0.1, 0.2, True),
        ("log_loss", 0.3, 0.2, False),
        ("brier", float("nan"), 1.0, False),
    ],
)
def test_an_error_must_not_exceed_its_floor_and_the_rest_must_reach_it(metric, value, floor, reaches):
    assert BINARY.reaches(metric, value, floor) is reaches


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_a_right_answer_is_better_than_a_wrong_one_by_every_metric(objective):
    examples = {"binary": CLASSES_OF_TWO, "multiclass": CLASSES_OF_THREE, "regression": NUMBERS, "forecast": STEPS}
    target, wrong = {**examples, "transcription": SAID}[objective.name]
    right = np.eye(3)[target] if objective is MULTICLASS else target.reshape(wrong.shape)
    for name, metric in objective.metrics.items():
        best, worse = metric(target, right), metric(target, wrong)
        assert objective.reaches(name, best, worse), name
        assert not objective.reaches(name, worse, best), name
