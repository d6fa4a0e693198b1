"""A verdict: what the gate found of a model, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Check:
    """One thing that was asked of the model."""

    name: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class Change:
    """A param, or the data, that is another than the champion's."""

    what: str
    was: str
    now: str


@dataclass(frozen=True)
class Before:
    """The champion that a model was held against."""

    value: float
    """Its main metric on the same test rows."""
    changed: tuple[Change, ...] | None
    """None where its run is gone, or was on other data by name."""


@dataclass(frozen=True)
class Verdict:
    """What stands in verdict.json."""

    model: str
    dataset: str
    content: str
    """Hash of models/MODEL."""
    against: str
    """Content of the champion that it was compared with; "" where there was none."""
    metrics: str
    """SHA-256 of the metrics.json that it is on."""
    asked: Mapping[str, Any]
    """The block of `evaluate` that it went by."""
    checks: tuple[Check, ...]
    passed: bool
    """Whether all checks did."""
    decision: Literal["champion", "challenger"]
    remark: str
    """What a challenger waits for that passed; "" of all others."""
    before: Before | None = None
    """None where there was no champion, or none that can be compared."""
