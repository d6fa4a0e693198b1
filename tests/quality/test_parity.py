"""What counts as the same answers, by hand."""

import numpy as np
import pytest

from trainyard.quality import parity
from trainyard.quality.objectives import OBJECTIVES
from trainyard.quality.parity import Bound

FLOATS, INT8 = Bound(1e-3, 0.001, 0.99, 0.01), Bound(None, 0.01, 0.95, 0.25)


def of(objective, target, ours, theirs):
    ours, theirs = np.asarray(ours, np.float32), np.asarray(theirs, np.float32)
    return parity.compare(OBJECTIVES[objective], np.asarray(target), (ours, theirs), (ours, theirs))


def test_probabilities_of_classes():
    found = of(
        "multiclass",
        [0, 1, 1, 0],
        [[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]],
        [[0.9, 0.1], [0.2, 0.8], [0.55, 0.45], [0.7, 0.3]],
    )
    assert (found.examples, found.metric, found.model, found.file, found.same) == (4, "accuracy", 1, 0.75, 0.75)
    assert found.difference == pytest.approx(0.15)
    assert found.loss == pytest.approx(0.25)
    assert "an output differs by 0.15 (at most 0.001)" in found.broken(FLOATS)
    assert "accuracy is 0.75, the model's 1: worse by 0.25 (at most 0.01)" in found.broken(INT8)


def test_a_file_that_is_better_by_chance_is_another_model_all_the_same():
    found = of("binary", [0, 1], [[0.6], [0.9]], [[0.4], [0.9]])
    assert (found.same, found.loss) == (0.5, -0.5)
    assert found.broken(INT8) == "50.0% of the answers are the same (at least 95%)"


def test_a_file_that_never_names_a_rare_class_is_refused():
    """Of its answers 99 in 100 are the model's, and as many are right."""
    rare = np.arange(100) == 7
    ours = np.where(rare, 0.9, 0.1)[:, None]
    found = of("binary", rare.astype(int), ours, np.full((100, 1), ours.mean()))
    assert (found.same, found.apart) == (0.99, pytest.approx(1))
    assert found.loss == pytest.approx(0.01)
    told = "outputs lie 100.0% of the model's spread from it (at most 25%)"
    assert found.broken(Bound(None, 0.02, 0.95, 0.25)) == told


def test_a_model_that_hardly_varies_takes_a_file_that_follows_it():
    ours = 0.3 + 1e-5 * np.random.default_rng(0).normal(size=(50, 1))
    target = np.arange(50) % 2
    assert of("binary", target, ours, ours + 1e-8).broken(INT8) == ""
    assert "outputs lie 100.0%" in of("binary", target, ours, np.full((50, 1), ours.mean())).broken(FLOATS)


def test_numbers_are_told_as_parts_of_their_spread():
    found = of("forecast", [[0.0], [200.0]], [[10.0], [210.0]], [[10.0], [220.0]])
    assert found.spread == 100
    assert found.difference == pytest.approx(0.1)
    assert found.same == 0.5
    assert found.apart == pytest.approx(0.1 / np.sqrt(2))
    assert found.loss == pytest.approx(0.5)  # a mean error of 15 for one of 10


def test_transcripts_are_compared_as_probabilities_and_as_text():
    ours = np.log(np.array([[[0.9, 0.1]], [[0.2, 0.8]]], np.float32))
    heard = np.array(["one", "two"], object), np.array(["one", "tow"], object)
    found = parity.compare(OBJECTIVES["transcription"], np.array(["one", "two"]), (ours, ours), heard)
    assert (found.metric, found.difference, found.same, found.loss) == ("word_error", 0, 0.5, 0.5)
    assert found.broken(FLOATS)


@pytest.mark.parametrize("bound", [FLOATS, INT8])
def test_a_model_that_says_the_same_to_all_proves_nothing(bound):
    found = of("multiclass", [0, 1], [[0.2, 0.8]] * 2, [[0.2, 0.8]] * 2)
    assert "the same outputs" in found.broken(bound)


@pytest.mark.parametrize("bound", [FLOATS, INT8])
@pytest.mark.parametrize(
    ("objective", "target", "ours", "theirs"),
    [
        ("regression", [[0.0], [1.0]], [[0.0], [1.0]], [[0.0], [np.nan]]),
        ("binary", [0, 1], [[0.1], [0.9]], [[np.nan], [0.9]]),  # which passes for a probability below one half
        ("binary", [0, 1], [[0.1], [0.9]], [[0.1], [np.inf]]),
        ("multiclass", [0, 1], [[0.9, 0.1], [0.2, 0.8]], [[np.nan, np.nan], [0.2, 0.8]]),
    ],
)
def test_what_is_not_a_number_is_refused(bound, objective, target, ours, theirs):
    assert of(objective, target, ours, theirs).broken(bound) == "an output is not a finite number"
