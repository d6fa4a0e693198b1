"""Verb `gate`: may the model that was registered last be champion? Its verdict, for a terminal or a CI job.

In:   models/MODEL, reports/models/MODEL/verdict.json from `register`, the champion in MLflow
Exit: 2 a verdict on another model, 4 it did not pass, or not against the present champion, 5 MLflow does not answer
"""

import sys
from pathlib import Path

from trainyard import files, tracking
from trainyard.errors import BadInput
from trainyard.params import Params
from trainyard.quality.verdict import Verdict


def gate(name: str, params: Params) -> None:
    """Print each check of the verdict on `models/NAME`; raises GateRefused where it may not be champion."""
    params.model(name)
    folder, path = Path("models") / name, Path("reports/models") / name / "verdict.json"
    verdict, content = files.read_as(Verdict, path), tracking.content_of(folder)
    if verdict.content != content:
        raise BadInput(f"{path}: not about {folder} as it is (run `trainyard register {name}`)")
    for check in verdict.checks:
        sys.stdout.write(f"{'passed' if check.passed else 'FAILED'} {check.name}: {check.reason}\n")
    sys.stdout.flush()
    tracking.gate(verdict)
