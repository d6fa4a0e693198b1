"""The card of a model: what it is for, what it was made of, what it is worth and where not (Mitchell et al., 2019)."""

import re
from collections.abc import Mapping
from typing import Any

from trainyard import files
from trainyard.kinds import Prepared
from trainyard.quality.verdict import Verdict
from trainyard.reporting import render


def written(
    about: Mapping[str, Any],
    metrics: Mapping[str, Any],
    data: Prepared,
    megabytes: float,
    use: str | None,
    verdict: Verdict,
) -> str:
    """The card as Markdown, from model.json, metrics.json and the gate's verdict.

    Raises ValueError where a section of it is empty.
    """
    counts = {split: len(getattr(data, split)) for split in ("train", "validation", "test")}
    told = {"about": about, "metrics": metrics, "use": use, "verdict": verdict}
    page = render("card.md", counts=counts, hash=files.digest([data.folder], data.folder), megabytes=megabytes, **told)
    if empty := empty_sections(page):
        raise ValueError(f"card of {about['model']}: nothing under `{empty[0]}`")
    return page


def empty_sections(markdown: str) -> list[str]:
    """The headings `## ...` of a page that no text follows; the head of a table is none."""
    _, *sections = re.split(r"(?m)^## ", markdown)
    parts = [section.partition("\n") for section in sections]
    return [heading for heading, _, text in parts if not re.sub(r"\|.*\n\|[-|]+\|\n(?!\|)", "", text).strip()]
