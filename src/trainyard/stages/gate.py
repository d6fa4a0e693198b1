"""Verb `gate`: may the model that was registered last be champion? Its verdict, for a terminal or a CI job.

In:   models/MODEL, its block in `evaluate`, reports/models/MODEL/{metrics.json, verdict.json}, the champion in MLflow
Exit: 2 a verdict on another model, other metrics or other params, 4 it did not pass, or not against the present
      champion, 5 MLflow does not answer
"""

import sys
from pathlib import Path

from trainyard import files, tracking
from trainyard.errors import BadInput
from trainyard.params import Params
from trainyard.quality.verdict import Verdict


def gate(name: str, params: Params) -> None:
    """Print each check of the verdict on `models/NAME`; raises GateRefused where it may not be champion."""
    block = f"{'train' if name in params.train else 'finetune'}.{name} of params.yaml"
    asked = params.model(name).model_dump(mode="json")
    folder, report = Path("models") / name, Path("reports/models") / name
    path, metrics = report / "verdict.json", report / "metrics.json"
    verdict = files.read_as(Verdict, path)
    for what, same in {
        folder: verdict.content == tracking.content_of(folder),
        block: files.read_json(folder / "model.json").get("params") == asked,
        metrics: verdict.metrics == files.sha256(metrics),
        f"evaluate.{name} of params.yaml": verdict.asked == params.evaluate[name].model_dump(mode="json"),
    }.items():
        if not same:
            raise BadInput(f"{path}: not about {what} as it is (run `dvc repro register@{name}`)")
    for check in verdict.checks:
        sys.stdout.write(f"{'passed' if check.passed else 'FAILED'} {check.name}: {check.reason}\n")
    sys.stdout.flush()
    tracking.gate(verdict)
