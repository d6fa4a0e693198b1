"""Every metric against scikit-learn's."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from trainyard.quality import metrics
from trainyard.quality.objectives import OBJECTIVES

TWO = np.array([0, 1])


def binary(seed, n, share=0.5, digits=9):
    rng = np.random.default_rng(seed)
    return (rng.random(n) < share).astype(np.int32), rng.random((n, 1)).round(digits).astype(np.float32)


def multiclass(seed, n, classes):
    rng = np.random.default_rng(seed)
    return rng.integers(0, classes, n).astype(np.int32), rng.dirichlet(np.ones(classes), n)


def gap(target, sure, told):
    """The calibration error of too few examples for more than one bin."""
    return abs(sure.mean(dtype=float) - np.mean(target == told))


BINARY = {
    "accuracy": lambda t, p: sk.accuracy_score(t, p >= 0.5),
    "auc": sk.roc_auc_score,
    "precision": lambda t, p: sk.precision_score(t, p >= 0.5, zero_division=0),
    "recall": lambda t, p: sk.recall_score(t, p >= 0.5, zero_division=0),
    "f1": lambda t, p: sk.f1_score(t, p >= 0.5, zero_division=0),
    "log_loss": lambda t, p: sk.log_loss(t, p, labels=TWO),
    "brier": lambda t, p: sk.brier_score_loss(t, p.astype(float), pos_label=1),
    "calibration_error": lambda t, p: gap(t, np.maximum(p, 1 - p), p >= 0.5),
}
MULTICLASS = {
    "accuracy": lambda t, p: sk.accuracy_score(t, p.argmax(1)),
    "balanced_accuracy": lambda t, p: sk.balanced_accuracy_score(t, p.argmax(1)),
    "macro_f1": lambda t, p: sk.f1_score(t, p.argmax(1), average="macro", zero_division=0),
    "log_loss": lambda t, p: sk.log_loss(t, p, labels=np.arange(p.shape[1])),
    "brier": lambda t, p: sk.brier_score_loss(t, p, labels=np.arange(p.shape[1]), scale_by_half=False),
    "calibration_error": lambda t, p: gap(t, p.max(axis=1), p.argmax(axis=1)),
}
NUMBERS = {
    "mae": sk.mean_absolute_error,
    "rmse": sk.root_mean_squared_error,
    "r2": lambda t, p: sk.r2_score(t, p, multioutput="variance_weighted"),
}


def test_every_metric_of_every_objective_is_compared():
    assert list(OBJECTIVES["binary"].metrics) == list(BINARY)
    assert list(OBJECTIVES["multiclass"].metrics) == list(MULTICLASS)
    assert list(OBJECTIVES["regression"].metrics) == list(NUMBERS)
    assert list(OBJECTIVES["forecast"].metrics) == list(NUMBERS)[:2]


@pytest.mark.parametrize("name", BINARY)
@given(st.integers(0, 1000), st.integers(2, 30), st.sampled_from([0.1, 0.5, 0.9]), st.sampled_from([1, 9]))
def test_binary_metrics_are_those_of_scikit_learn(name, seed, n, share, digits):
    target, answer = binary(seed, n, share, digits)
    target[:2] = TWO  # an AUC takes both
    expected = BINARY[name](target, answer[:, 0])
    assert OBJECTIVES["binary"].metrics[name](target, answer) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", MULTICLASS)
@given(st.integers(0, 1000), st.integers(1, 30), st.integers(2, 6))
def test_multiclass_metrics_are_those_of_scikit_learn(name, seed, n, classes):
    target, answer = multiclass(seed, n, classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of answers that no target has
        expected = MULTICLASS[name](target, answer)
    assert OBJECTIVES["multiclass"].metrics[name](target, answer) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", NUMBERS)
@given(st.integers(0, 1000), st.integers(2, 30), st.integers(1, 4))
def test_metrics_of_numbers_are_those_of_scikit_learn(name, seed, n, horizon):
    rng = np.random.default_rng(seed)
    target, answer = rng.normal(size=(n, horizon)), rng.normal(size=(n, horizon))
    expected = NUMBERS[name](target, answer)
    if name == "rmse":  # over all values, not the mean of the columns' roots
        expected = NUMBERS[name](target.ravel(), answer.ravel())
    assert OBJECTIVES["regression"].metrics[name](target, answer) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("metric", "target", "answer", "value"),
    [
        (metrics.precision, [1, 1], [0.1, 0.2], 0),  # nobody is said to be 1
        (metrics.recall, [0, 0], [0.9, 0.2], 0),  # nobody is 1
        (metrics.f1, [0, 0], [0.1, 0.2], 0),
        (metrics.accuracy, [1, 0], [0.5, 0.5], 0.5),  # one half is 1
        (metrics.auc, [1, 1], [0.1, 0.2], None),
        (metrics.auc, [0, 0], [0.1, 0.2], None),
        (metrics.auc, [0, 1], [0.3, 0.3], 0.5),
        (metrics.log_loss, [1, 0], [0.0, 1.0], -np.log(np.finfo(np.float32).eps)),
        (metrics.log_loss, [1, 0], [1.0, 0.0], 0),
    ],
)
def test_edges_of_binary_metrics(metric, target, answer, value):
    found = metric(np.array(target), np.array(answer)[:, None])
    assert np.isnan(found) if value is None else found == pytest.approx(value)


def test_a_share_of_the_variance_of_a_constant_is_not_defined():
    assert np.isnan(metrics.r2(np.ones((4, 1)), np.zeros((4, 1))))


def test_classes_that_neither_occur_nor_are_answered_count_for_nothing():
    target, answer = np.array([0, 2]), np.eye(4)[[0, 2]]
    assert metrics.macro_f1(target, answer) == 1
    assert metrics.balanced_accuracy(target, answer) == 1


def test_of_classes_that_tie_each_is_right_in_part():
    """Ten classes of one size: the naive answer is right once in ten, not as often as the first class occurs."""
    target, answer = np.array([0, 3, 9, 9]), np.full((4, 10), 0.1)
    assert metrics.right(target, answer).tolist() == pytest.approx([0.1] * 4)
    assert metrics.accuracy(target, answer) == pytest.approx(0.1)


def test_a_brier_score_is_that_of_scikit_learn_to_the_last_digits():
    target, answer = binary(0, 1000)
    assert metrics.brier(target, answer) == pytest.approx(
        sk.brier_score_loss(target, answer[:, 0].astype(float)), abs=1e-9
    )
    target, answer = multiclass(0, 1000, 5)
    assert metrics.brier(target, answer) == pytest.approx(sk.brier_score_loss(target, answer), abs=1e-9)


def test_bins_have_as_many_examples_each_and_the_error_is_their_mean_gap():
    """Bin after bin the model is 0.9 sure and right in half, or 0.6 sure and right in half."""
    target = np.tile([0, 1], 100)
    answer = np.repeat([0.9, 0.6], 100)[:, None] + np.linspace(0, 1e-6, 200)[:, None]
    sure, share, count = metrics.reliability(target, answer)
    assert count.tolist() == [25] * 8
    assert sure == pytest.approx([0.6] * 4 + [0.9] * 4, abs=1e-5)
    assert share == pytest.approx([0.5] * 8, abs=0.021)
    assert metrics.calibration_error(target, answer) == pytest.approx(0.25, abs=0.011)
    assert len(metrics.reliability(*multiclass(0, 1000, 3))[2]) == metrics.MOST_BINS


def test_equally_sure_answers_are_in_one_bin_whatever_their_order():
    target = np.repeat([0, 1], 100)
    assert metrics.reliability(target, np.full((200, 1), 0.5))[2].tolist() == [200]
    assert metrics.calibration_error(target, np.full((200, 1), 0.5)) == 0


@pytest.mark.parametrize("times", [1.0, 2.0, 5.0])
def test_the_calibration_error_is_how_much_surer_a_model_is_than_it_may_be(times):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 50_000)
    target = (rng.random(50_000) < 1 / (1 + np.exp(-logits))).astype(int)
    answer = 1 / (1 + np.exp(-times * logits[:, None]))
    surer = (1 / (1 + np.exp(-times * np.abs(logits))) - 1 / (1 + np.exp(-np.abs(logits)))).mean()
    assert metrics.calibration_error(target, answer) == pytest.approx(surer, abs=0.006)
