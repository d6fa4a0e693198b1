"""A planted temperature comes out, and it is that of scikit-learn."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from trainyard.quality import calibration, metrics


def drawn(classes, n=20_000):
    """Logits, and targets that are drawn by the probabilities that they mean."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (n, 1 if classes == 2 else classes))
    probability = np.hstack([1 - expit(logits), expit(logits)]) if classes == 2 else softmax(logits, axis=1)
    return logits, (probability.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)


def answered(logits):
    return expit(logits) if logits.shape[1] == 1 else softmax(logits, axis=1)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("planted", [0.4, 3.0])
def test_the_temperature_that_was_planted_comes_out(classes, planted):
    logits, target = drawn(classes)
    found, why = calibration.temperature(planted * logits, target)
    assert found == pytest.approx(planted, rel=0.03)
    assert why.startswith("validation log loss 0.")
    before, after = answered(planted * logits), answered(planted * logits / found)
    assert metrics.calibration_error(target, before) > 0.05
    assert metrics.calibration_error(target, after) < 0.015
    assert metrics.accuracy(target, after) == metrics.accuracy(target, before)


class Logits(ClassifierMixin, BaseEstimator):
    """A classifier whose features are its logits."""

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, x):
        return self.classes_[x.argmax(axis=1) if x.shape[1] > 1 else (x[:, 0] > 0) * 1]

    def decision_function(self, x):
        return x[:, 0] if x.shape[1] == 1 else x


@pytest.mark.parametrize("classes", [2, 4])
def test_it_is_that_of_scikit_learn(classes):
    logits, target = drawn(classes, 300)
    found, _ = calibration.temperature(4 * logits, target)
    theirs = CalibratedClassifierCV(FrozenEstimator(Logits().fit(logits, target)), method="temperature", ensemble=False)
    expected = theirs.fit(4 * logits, target).predict_proba(4 * logits)
    np.testing.assert_allclose(answered(4 * logits / found), expected[:, -1:] if classes == 2 else expected, atol=1e-3)


@pytest.mark.parametrize("classes", [2, 4])
def test_its_log_loss_is_that_of_the_metrics(classes):
    logits, target = drawn(classes, 100)
    assert calibration.log_loss(logits, target) == pytest.approx(metrics.log_loss(target, answered(logits)))
    assert calibration.log_loss(1e6 * np.array([[1.0]]), np.array([0])) == 1e6


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("divided_by", [0.4, 1, 3.0])
def test_a_temperature_can_be_undone(classes, divided_by):
    logits, _ = drawn(classes, 100)
    found = calibration.undone(answered(logits / divided_by).astype(np.float32), divided_by)
    np.testing.assert_allclose(found, answered(logits), atol=1e-5)


def test_what_is_quite_sure_stays_so_without_its_temperature():
    np.testing.assert_array_equal(calibration.undone(np.array([[0.0], [1.0]]), 3), [[0], [1]])
    np.testing.assert_array_equal(calibration.undone(np.eye(3), 0.1), np.eye(3))


TWO_WAYS = np.tile([0, 1], 30)


@pytest.mark.parametrize(
    ("logits", "target", "why"),
    [
        (np.ones((49, 1)), np.arange(49) % 2, "49 validation examples are too few for another"),
        (np.eye(3)[[0] * 60], np.zeros(60, int), "the validation examples are of one class"),
        (np.eye(2)[TWO_WAYS], TWO_WAYS, "0 wrong answers to 60 validation examples are too few for another"),
        (TWO_WAYS[:, None] - 0.5, TWO_WAYS, "0 wrong answers to 60 validation examples are too few for another"),
        (np.zeros((60, 1)), TWO_WAYS, "no other has less than its validation log loss 0.6931"),
    ],
)
def test_where_nothing_can_be_found_it_is_one_and_says_why(logits, target, why):
    assert calibration.temperature(logits, target) == (1.0, why)
