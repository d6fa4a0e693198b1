"""Metrics of answers against targets; the shapes are those of `objectives`. Fast, since intervals call them often.

Definitions as in scikit-learn, which the tests compare them with; where a metric is not defined (an AUC of one class)
it is NaN.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from trainyard.arrays import Array

Floats = NDArray[np.floating]

MOST_BINS, LEAST_IN_BIN = 15, 25
"""Of `reliability`: the first is that of Guo et al., 2017."""


def chosen(answer: Floats) -> NDArray[np.intp]:
    """The class `[n]` that probabilities `[n, 1]` (of class 1) or `[n, classes]` speak for."""
    return (answer[:, 0] >= 0.5).astype(np.intp) if answer.shape[1] == 1 else answer.argmax(axis=1)


def right(target: Array, answer: Floats) -> Floats:
    """1 where the most probable class `[n]` is the right one, else 0; of several that tie each is right in part."""
    if answer.shape[1] == 1:
        return (chosen(answer) == target).astype(np.float64)
    most = answer == answer.max(axis=1, keepdims=True)
    return most[np.arange(len(target)), target.astype(np.intp)] / most.sum(axis=1)


def of_target(target: Array, answer: Floats) -> Floats:
    """The probability `[n]` that was given to the right class."""
    if answer.shape[1] == 1:
        return np.where(target == 1, answer[:, 0], 1 - answer[:, 0])
    return np.take_along_axis(answer, target.astype(np.intp)[:, None], axis=1)[:, 0]


def accuracy(target: Array, answer: Floats) -> float:
    """Share of examples whose most probable class is the right one."""
    return float(np.mean(right(target, answer)))


def precision(target: Array, answer: Floats) -> float:
    """Share of right ones among the examples said to be 1; 0 where none is."""
    said = chosen(answer) == 1
    return float(np.mean(target[said] == 1)) if said.any() else 0.0


def recall(target: Array, answer: Floats) -> float:
    """Share of the examples that are 1 which are said to be 1; 0 where none is."""
    true = target == 1
    return float(np.mean(chosen(answer)[true] == 1)) if true.any() else 0.0


def f1(target: Array, answer: Floats) -> float:
    """Harmonic mean of precision and recall."""
    return float(_f1_by_class(target, chosen(answer), 2)[1])


def balanced_accuracy(target: Array, answer: Floats) -> float:
    """Mean recall over the classes that occur."""
    right = np.bincount(target[chosen(answer) == target].astype(np.intp), minlength=answer.shape[1])
    all_of = np.bincount(target.astype(np.intp), minlength=answer.shape[1])
    return float(np.mean(right[all_of > 0] / all_of[all_of > 0]))


def macro_f1(target: Array, answer: Floats) -> float:
    """Mean F1 over the classes that occur or are answered."""
    classes = chosen(answer)
    occurs = np.isin(np.arange(answer.shape[1]), np.concatenate([target.astype(np.intp), classes]))
    return float(np.mean(_f1_by_class(target, classes, answer.shape[1])[occurs]))


def auc(target: Array, answer: Floats) -> float:
    """Area under the receiver operating characteristic, by ranks (Mann-Whitney)."""
    from scipy.stats import rankdata  # half a second that most stages need not spend

    positives = int(np.sum(target == 1))
    negatives = len(target) - positives
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(answer[:, 0])
    return float((ranks[target == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def auc_examples(target: Array, answer: Floats) -> float:
    """Of how many examples a share would be as uncertain as this AUC (Newcombe, 2006, method 5); both classes occur."""
    value, positives = auc(target, answer), int(np.sum(target == 1))
    negatives = len(target) - positives
    more = (positives + negatives) / 2 - 1
    return positives * negatives / (1 + more * ((1 - value) / (2 - value) + value / (1 + value)))


def log_loss(target: Array, answer: Floats) -> float:
    """Mean negative natural logarithm of the probability given to the right class, clipped at float32 resolution."""
    return float(-np.log(np.clip(of_target(target, answer), np.finfo(np.float32).eps, 1)).mean())


def brier(target: Array, answer: Floats) -> float:
    """Mean squared distance between the probability of 1 and the truth; of several classes their sum (Brier, 1950)."""
    answer = answer.astype(np.float64)
    if answer.shape[1] == 1:
        return float(np.mean((answer[:, 0] - (target == 1)) ** 2))
    return float(np.mean(np.sum(answer**2, axis=1) - 2 * of_target(target, answer) + 1))


def calibration_error(target: Array, answer: Floats) -> float:
    """Expected calibration error: how far the sureness of the most probable class is from how often that is right.

    Guo et al., 2017, with bins of as many examples each, and as many bins as `reliability` makes. It is not debiased:
    of few examples it is above 0 by chance (Kumar, Liang & Ma, 2019), which is why no bin has less than `LEAST_IN_BIN`.
    """
    sure, share, count = reliability(target, answer)
    return float(np.sum(count * np.abs(share - sure)) / len(target))


def calibration_chance(target: Array, answer: Floats) -> float:
    """The calibration error by chance alone, in the mean, of a model whose answers are as often right as it is sure.

    Of a bin's share of right answers, nearly normal, it is the mean absolute deviation: sqrt(2 p (1 - p) / (pi count)).
    """
    sure, _, count = reliability(target, answer)
    return float(np.sum(count * np.sqrt(2 * sure * (1 - sure) / (np.pi * count))) / len(target))


def reliability(target: Array, answer: Floats) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """Mean sureness, share of right answers and number of examples `[bins]` of bins with as many examples each.

    There are `MOST_BINS`, or fewer where they would have less than `LEAST_IN_BIN` examples; equally sure answers are in
    the same one.
    """
    sure = (np.maximum(answer[:, 0], 1 - answer[:, 0]) if answer.shape[1] == 1 else answer.max(axis=1)).astype(float)
    bins = max(1, min(MOST_BINS, len(sure) // LEAST_IN_BIN))
    edges = np.sort(sure)[len(sure) * np.arange(1, bins) // bins]
    place = np.searchsorted(edges, sure, side="right")
    count = np.bincount(place)
    there = count > 0
    mean, share = (np.bincount(place, values)[there] / count[there] for values in (sure, right(target, answer)))
    return mean, share, count[there]


def mae(target: Array, answer: Floats) -> float:
    """Mean absolute error, in the target's units."""
    return float(np.mean(np.abs(target - answer)))


def rmse(target: Array, answer: Floats) -> float:
    """Root of the mean squared error, in the target's units."""
    return float(np.sqrt(np.mean((target - answer) ** 2)))


def r2(target: Array, answer: Floats) -> float:
    """Share of the target's variance that is explained; NaN for a constant target."""
    spread = np.sum((target - target.mean(axis=0)) ** 2)
    return float(1 - np.sum((target - answer) ** 2) / spread) if spread > 0 else float("nan")


def word_error(target: Array, answer: Array) -> float:
    """Words put in, left out or replaced, as a share of the words that were said."""
    errors = sum(word_errors(said, heard) for said, heard in zip(target, answer, strict=True))
    return errors / sum(len(said.split()) for said in target)


def character_error(target: Array, answer: Array) -> float:
    """Letters put in, left out or replaced, spaces among them, as a share of the letters that were said."""
    errors = sum(character_errors(said, heard) for said, heard in zip(target, answer, strict=True))
    return errors / sum(len(said) for said in target)


@lru_cache(maxsize=100_000)  # intervals ask for the same pairs again and again
def word_errors(said: str, heard: str) -> int:
    """Fewest words to put in, leave out or replace."""
    import jiwer

    found = jiwer.process_words(said, heard)
    return found.substitutions + found.deletions + found.insertions


@lru_cache(maxsize=100_000)
def character_errors(said: str, heard: str) -> int:
    """Fewest letters to put in, leave out or replace."""
    import jiwer

    found = jiwer.process_characters(said, heard)
    return found.substitutions + found.deletions + found.insertions


def _f1_by_class(target: Array, classes: NDArray[np.intp], count: int) -> Floats:
    right = np.bincount(classes[classes == target], minlength=count)
    total = np.bincount(classes, minlength=count) + np.bincount(target.astype(np.intp), minlength=count)
    return 2 * right / np.maximum(total, 1)


COUNTS: Mapping[Callable[..., float], Callable[[Array, Floats], float]] = {
    accuracy: lambda target, answer: len(target),
    precision: lambda target, answer: np.sum(chosen(answer) == 1),
    recall: lambda target, answer: np.sum(target == 1),
    f1: lambda target, answer: np.sum((chosen(answer) == 1) | (target == 1)),
}
"""Metrics that a plain share among so many of the examples gives; F1 is 2J / (1 + J) of Jaccard's share J."""

SHARES = frozenset({accuracy, precision, recall, f1, balanced_accuracy, macro_f1, auc, word_error, character_error})
"""Metrics that are 0 at least and, but for very wrong transcripts, 1 at most, as shares are."""
