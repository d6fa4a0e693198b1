"""What a job on GitHub is told: values for its later steps, and its summary. Elsewhere nothing is told."""

import os
from pathlib import Path


def output(name: str, *, value: bool) -> None:
    """`true` or `false`, as `steps.ID.outputs.NAME`."""
    _append("GITHUB_OUTPUT", f"{name}={str(value).lower()}\n")


def summary(page: str) -> None:
    """Markdown, after what the job's summary has already."""
    _append("GITHUB_STEP_SUMMARY", page)


def _append(variable: str, text: str) -> None:
    if path := os.environ.get(variable):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)
