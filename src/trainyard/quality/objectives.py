"""Objectives: what a model is asked for. Each names its head, loss, metrics, per-example score and naive baseline.

Shapes: `target` is what the examples say, `answer` what a model says, both with one row an example.
Binary: target int 0 or 1 `[n]`, answer the probability of 1 `[n, 1]`. Multiclass: target int class `[n]`, answer
probabilities `[n, classes]`. Regression: both float `[n, 1]`. Forecast: both float `[n, horizon]`. Transcription: both
text `[n]`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainyard.arrays import Array
from trainyard.quality import metrics

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Objective:
    """One thing that a model can be asked for."""

    name: str
    activation: str
    """Keras activation of the head."""
    loss: str
    """Keras loss, where params name no other."""
    training_metrics: tuple[str, ...]
    """Keras metrics shown while training."""
    metrics: Mapping[str, Callable[[Array, Floats], float]]
    """Metrics of the test split by name, the main one first: function of target and answer."""
    score: Callable[[Array, Floats], Floats]
    """Per-example score `[n]`, higher is better; its mean is the main metric, negative for errors."""
    naive: Callable[[Array, int], Floats]
    """The answers `[n, ...]` of someone who knows the training targets alone."""
    lower_is_better: frozenset[str] = frozenset(
        {"mae", "rmse", "log_loss", "brier", "calibration_error", "word_error", "character_error"}
    )

    @property
    def main(self) -> str:
        """The metric that a floor and a gate speak of first."""
        return next(iter(self.metrics))

    @property
    def classifies(self) -> bool:
        """True where the answer is one of several classes."""
        return self.name in ("binary", "multiclass")

    def units(self, target: Array, classes: int) -> int:
        """Units of the head."""
        if self.name == "transcription":
            return classes + 1  # the blank of CTC
        return classes if self.name == "multiclass" else 1 if target.ndim == 1 else target.shape[1]

    def reaches(self, metric: str, value: float, floor: float) -> bool:
        """True where `value` is at least as good as `floor`."""
        return value <= floor if metric in self.lower_is_better else value >= floor


def _closeness(target: Array, answer: Floats) -> Floats:
    return -np.abs(target - answer).mean(axis=1, dtype=np.float64)


def _prevalence(target: Array, n: int) -> Floats:
    return np.full((n, 1), target.astype(np.float64).mean())


def _shares(target: Array, n: int) -> Floats:
    return np.tile(np.bincount(target.astype(np.intp)) / len(target), (n, 1))


def _faithfulness(target: Array, answer: Array) -> Floats:
    words = np.array([len(said.split()) for said in target])
    return -np.array([metrics.word_errors(*pair) for pair in zip(target, answer, strict=True)]) / words.mean()


def _most_frequent(target: Array, n: int) -> Array:
    said, counts = np.unique(target.astype(str), return_counts=True)
    return np.full(n, said[counts.argmax()], object)


def _mean(target: Array, n: int) -> Floats:
    return np.tile(target.mean(axis=0, dtype=np.float64), (n, 1))


BINARY = Objective(
    name="binary",
    activation="sigmoid",
    loss="binary_crossentropy",
    training_metrics=("accuracy",),
    metrics={
        "accuracy": metrics.accuracy,
        "auc": metrics.auc,
        "precision": metrics.precision,
        "recall": metrics.recall,
        "f1": metrics.f1,
        "log_loss": metrics.log_loss,
        "brier": metrics.brier,
        "calibration_error": metrics.calibration_error,
    },
    score=metrics.right,
    naive=_prevalence,
)

MULTICLASS = Objective(
    name="multiclass",
    activation="softmax",
    loss="categorical_crossentropy",
    training_metrics=("accuracy",),
    metrics={
        "accuracy": metrics.accuracy,
        "balanced_accuracy": metrics.balanced_accuracy,
        "macro_f1": metrics.macro_f1,
        "log_loss": metrics.log_loss,
        "brier": metrics.brier,
        "calibration_error": metrics.calibration_error,
    },
    score=metrics.right,
    naive=_shares,
)

REGRESSION = Objective(
    name="regression",
    activation="linear",
    loss="mean_squared_error",
    training_metrics=("mean_absolute_error",),
    metrics={"mae": metrics.mae, "rmse": metrics.rmse, "r2": metrics.r2},
    score=_closeness,
    naive=_mean,
)

FORECAST = Objective(
    name="forecast",
    activation="linear",
    loss="mean_squared_error",
    training_metrics=("mean_absolute_error",),
    metrics={"mae": metrics.mae, "rmse": metrics.rmse},
    score=_closeness,
    naive=_mean,  # a kind that knows the season gives a better one
)

TRANSCRIPTION = Objective(
    name="transcription",
    activation="linear",
    loss="ctc",
    training_metrics=(),
    metrics={"word_error": metrics.word_error, "character_error": metrics.character_error},
    score=_faithfulness,
    naive=_most_frequent,
)

OBJECTIVES = {objective.name: objective for objective in (BINARY, MULTICLASS, REGRESSION, FORECAST, TRANSCRIPTION)}
