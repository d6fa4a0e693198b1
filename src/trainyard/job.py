"""What a job on GitHub is told: values for its later steps, its summary, and notes. Elsewhere nothing is told."""

import os
import sys
from pathlib import Path


def output(name: str, *, value: bool) -> None:
    """`true` or `false`, as `steps.ID.outputs.NAME`."""
    _append("GITHUB_OUTPUT", f"{name}={str(value).lower()}\n")


def summary(page: str) -> None:
    """Markdown, after what the job's summary has already."""
    _append("GITHUB_STEP_SUMMARY", page)


def note(kind: str, title: str, text: str) -> bool:
    """An `error` or a `warning` that GitHub's pages show, and an error its mails; whether this is a job."""
    if there := "GITHUB_ACTIONS" in os.environ:
        sys.stdout.write(f"::{kind} title={title}::{' '.join(text.split()).replace('%', '%25')}\n")
    return there


def _append(variable: str, text: str) -> None:
    if path := os.environ.get(variable):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)
