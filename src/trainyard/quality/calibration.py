"""Calibration: one temperature by which logits are divided, so that probabilities are as often right as they say."""

import numpy as np
from numpy.typing import NDArray

from trainyard.arrays import Array

Floats = NDArray[np.floating]

LEAST_EXAMPLES, LEAST_WRONG = 50, 10
"""Fewer examples, or fewer wrong answers among them, say nothing of a temperature."""
RANGE = (0.05, 20.0)
"""Temperatures that are looked at; beyond them a model is not to be mended by one."""


def temperature(logits: Floats, target: Array) -> tuple[float, str]:
    """The temperature of least log loss (Guo et al., 2017), and why it is that, in words; 1 changes nothing.

    `logits` `[n, 1]` of class 1, or `[n, classes]`; `target` int `[n]`. It is 1 for fewer than `LEAST_EXAMPLES`
    examples, for one class, for fewer than `LEAST_WRONG` wrong answers (with none, the loss would fall with the
    temperature down to 0), and where no other in `RANGE` lowers the loss.
    """
    from scipy.optimize import minimize_scalar

    logits = np.asarray(logits, np.float64)
    chosen = logits[:, 0] >= 0 if logits.shape[1] == 1 else logits.argmax(axis=1)
    if len(target) < LEAST_EXAMPLES:
        return 1.0, f"{len(target)} validation examples are too few for another"
    if len(np.unique(target)) < 2:
        return 1.0, "the validation examples are of one class"
    if (wrong := np.count_nonzero(chosen != target)) < LEAST_WRONG:
        return 1.0, f"{wrong} wrong answers to {len(target)} validation examples are too few for another"
    ends = np.log(RANGE)
    # of 1 / temperature the loss is convex, so of its logarithm it has one minimum
    least = minimize_scalar(lambda power: log_loss(logits / np.exp(power), target), bounds=ends, method="bounded")
    found = round(float(np.exp(least.x)), 4)
    before, after = log_loss(logits, target), log_loss(logits / found, target)
    if after >= before:
        return 1.0, f"no other has less than its validation log loss {before:.4g}"
    return found, f"validation log loss {after:.4g} instead of {before:.4g}"


def undone(answer: Floats, temperature: float) -> Floats:
    """The probabilities, `[n, 1]` of class 1 or `[n, classes]`, before their logits were divided by a temperature."""
    both = np.hstack([1 - answer, answer]) if answer.shape[1] == 1 else answer
    odds = both.astype(np.float64) ** temperature
    return (odds / odds.sum(axis=1, keepdims=True))[:, -answer.shape[1] :]


def log_loss(logits: Floats, target: Array) -> float:
    """Mean negative logarithm of the probability of the right class; no logit is too great for it."""
    if logits.shape[1] == 1:
        return float(np.logaddexp(0, np.where(target == 1, -logits[:, 0], logits[:, 0])).mean())
    right = np.take_along_axis(logits, np.asarray(target, np.intp)[:, None], axis=1)[:, 0]
    return float((np.logaddexp.reduce(logits, axis=1) - right).mean())
