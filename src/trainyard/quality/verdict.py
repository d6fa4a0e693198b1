"""A verdict: what the gate found of a model, and what came of it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    """One thing that was asked of the model."""

    name: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class Verdict:
    """What stands in verdict.json."""

    model: str
    dataset: str
    content: str
    """Hash of models/MODEL."""
    against: str
    """Content of the champion that it was compared with; "" where there was none."""
    checks: tuple[Check, ...]
    passed: bool
    """Whether all checks did."""
    decision: Literal["champion", "challenger"]
