"""Parity: whether a file that was exported answers as the model that it was made of, on the same examples."""

import math
from dataclasses import dataclass

import numpy as np

from trainyard.arrays import Array
from trainyard.quality import metrics
from trainyard.quality.objectives import Objective

ALIKE = 1e-6
"""Spread of outputs up to which a model says the same to all: whatever the file is, it would agree."""
NEAR = 0.05
"""Part of the spread within which two numbers count as the same answer: twice a step of 8 bits over all of them."""


@dataclass(frozen=True)
class Bound:
    """How far a file may lie from its model."""

    difference: float | None
    """Of any one output; None: only the others count."""
    loss: float
    """Of the main metric."""
    same: float
    """Share of examples with the same answer, at least."""
    apart: float
    """Of all outputs, as `Parity.apart`. Where a class is rare, a file that never names it has most answers right."""


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
    apart: float
    """The root mean square of the differences, as a part of that of the model's outputs around their means: 1 for a
    file that gives these means whatever it is asked."""
    metric: str
    model: float
    file: float
    loss: float
    """By how much the file is worse in the metric: of a share so much, of an error in units so much of the model's."""

    def broken(self, bound: Bound) -> str:
        """What does not hold, in words; "" where all does."""
        most = math.inf if bound.difference is None else bound.difference
        worse = f"{self.metric} is {self.file:.4g}, the model's {self.model:.4g}: worse by {self.loss:.2g}"
        checks = {
            "an output is not a finite number": math.isfinite(self.difference),
            "the model gives all test examples the same outputs, with which any file would agree": self.spread > ALIKE,
            f"an output differs by {self.difference:.2g} (at most {most:g})": self.difference <= most,
            f"{worse} (at most {bound.loss:g})": self.loss <= bound.loss,
            f"{self.same:.1%} of the answers are the same (at least {bound.same:.0%})": self.same >= bound.same,
            f"outputs lie {self.apart:.1%} of the model's spread from it (at most {bound.apart:.0%})": (
                self.apart <= bound.apart
            ),
        }
        return next((told for told, holds in checks.items() if not holds), "")


def compare(objective: Objective, target: Array, outputs: tuple[Array, Array], answers: tuple[Array, Array]) -> Parity:
    """The model's and the file's `outputs` `[n, ...]` for the same examples, and the `answers` that are read of them.

    Of transcriptions outputs are logarithms of probabilities and answers text; else both are the same.
    """
    spoken = objective.name == "transcription"
    ours, theirs = (np.exp(found) if spoken else found for found in outputs)
    spread = float(ours.std(axis=0).max(initial=0))
    scale = 1.0 if spoken or objective.classifies else max(spread, ALIKE)
    apart = np.sqrt(np.mean((ours - theirs) ** 2) / max(np.mean((ours - ours.mean(axis=0)) ** 2), ALIKE**2))
    difference = np.abs(ours - theirs).reshape(len(ours), -1).max(axis=1) / scale
    if objective.classifies:
        same = metrics.chosen(ours) == metrics.chosen(theirs)
    else:
        same = answers[0] == answers[1] if spoken else difference <= NEAR
    metric = objective.metrics[objective.main]
    with np.errstate(invalid="ignore"):  # what is no number is refused, not warned of
        model, file = (float(metric(target, answer)) for answer in answers)
    loss = file - model if objective.main in objective.lower_is_better else model - file
    if objective.name in ("regression", "forecast"):
        loss /= max(model, ALIKE)
    lies = float(difference.max()), float(np.mean(same)), float(apart)
    return Parity(len(target), spread, *lies, objective.main, model, file, loss)
