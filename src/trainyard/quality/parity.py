"""Parity: whether a file that was exported answers as the model that it was made of, on the same examples."""

from dataclasses import dataclass

import numpy as np

from trainyard.arrays import Array
from trainyard.quality import metrics
from trainyard.quality.objectives import Objective

ALIKE = 1e-6
"""Spread of outputs up to which a model says the same to all: whatever the file is, it would agree."""
NEAR = 0.01
"""Part of the spread within which two numbers count as the same answer."""


@dataclass(frozen=True)
class Bound:
    """How far a file may lie from its model."""

    difference: float | None
    """Of any one output; None: only the loss counts."""
    loss: float
    """Of the main metric."""


@dataclass(frozen=True)
class Parity:
    """How a file's answers lie beside its model's."""

    examples: int
    spread: float
    """The largest standard deviation of any one of the model's outputs over examples."""
    difference: float
    """The largest of any one output: a probability, or a number as a part of `spread`."""
    same: float
    """Share of examples to which both say the same class or text, or numbers that are `NEAR`."""
    metric: str
    model: float
    file: float
    loss: float
    """By how much the file is worse in the metric: of a share so much, of an error in units so much of the model's."""

    def broken(self, bound: Bound) -> str:
        """What does not hold, in words; "" where all does."""
        if not self.spread > ALIKE:
            return "the model gives all test examples the same outputs, with which any file would agree"
        if bound.difference is not None and not self.difference <= bound.difference:
            return f"an output differs by {self.difference:.2g} (at most {bound.difference:g})"
        if not self.loss <= bound.loss:
            return (
                f"{self.metric} is {self.file:.4g}, the model's {self.model:.4g}:"
                f" worse by {self.loss:.2g} (at most {bound.loss:g})"
            )
        return ""


def compare(objective: Objective, target: Array, outputs: tuple[Array, Array], answers: tuple[Array, Array]) -> Parity:
    """The model's and the file's `outputs` `[n, ...]` for the same examples, and the `answers` that are read of them.

    Of transcriptions outputs are logarithms of probabilities and answers text; else both are the same.
    """
    spoken = objective.name == "transcription"
    ours, theirs = (np.exp(found) if spoken else found for found in outputs)
    spread = float(ours.std(axis=0).max(initial=0))
    scale = 1.0 if spoken or objective.classifies else max(spread, ALIKE)
    difference = np.abs(ours - theirs).reshape(len(ours), -1).max(axis=1) / scale
    if objective.classifies:
        same = metrics.chosen(ours) == metrics.chosen(theirs)
    else:
        same = answers[0] == answers[1] if spoken else difference <= NEAR
    metric = objective.metrics[objective.main]
    model, file = (float(metric(target, answer)) for answer in answers)
    loss = file - model if objective.main in objective.lower_is_better else model - file
    if objective.name in ("regression", "forecast"):
        loss /= max(model, ALIKE)
    return Parity(len(target), spread, float(difference.max()), float(np.mean(same)), objective.main, model, file, loss)
