"""What else is worth telling of a manifest: its columns in figures, its classes, and remarks that block nothing.

Figures are rounded to six digits, so that verdict.json is the same bytes on every machine.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from trainyard import kinds
from trainyard.params import Dataset, Series, Tables, Text
from trainyard.quality.objectives import OBJECTIVES
from trainyard.validation import checks

BINS = 24
"""Bars of a histogram."""
MOST_VALUES = 8
"""Values of a text column that are counted by name."""
MOST_CHARACTERS = 200
"""Characters of a value that is counted by name."""
IMBALANCE = 3
"""How many times as many rows the largest class may have as the smallest."""


def of(spec: Dataset, manifest: pd.DataFrame) -> dict[str, Any]:
    """Kind, objective, rows, labels, columns and remarks, as they stand in verdict.json."""
    objective = OBJECTIVES[spec.objective]  # type: ignore[attr-defined]  # every kind has one
    labels = _labels(manifest[spec.label]) if objective.classifies and spec.label in manifest else []
    told_elsewhere = {spec.label} if labels else {"row"} if isinstance(spec, Series) else set()
    return {
        "kind": spec.kind,  # type: ignore[attr-defined]  # every kind has one
        "objective": objective.name,
        "path": spec.path,
        "rows": len(manifest),
        "labels": labels,
        "columns": [_column(manifest[column]) for column in manifest if column not in told_elsewhere],
        "remarks": list(_remarks(spec, manifest, labels)),
    }


def _labels(labels: pd.Series) -> list[list[Any]]:
    """Each class with its rows; numbers by value, else by name."""
    counts = labels.value_counts().sort_index()
    as_numbers = pd.to_numeric(counts.index.to_series(), errors="coerce")
    if as_numbers.notna().all():
        counts = counts.iloc[np.argsort(as_numbers.to_numpy(), kind="stable")]
    return [[str(label), int(rows)] for label, rows in counts.items()]


def _column(values: pd.Series) -> dict[str, Any]:
    known = values.dropna()
    told: dict[str, Any] = {"name": values.name, "missing": len(values) - len(known), "distinct": known.nunique()}
    if known.empty:
        return told | {"type": "nothing"}
    if pd.api.types.is_datetime64_any_dtype(values):
        return told | {"type": "time", "least": known.min().isoformat(), "greatest": known.max().isoformat()}
    if pd.api.types.is_numeric_dtype(values):
        numbers = known.to_numpy(np.float64)
        scale = np.abs(numbers).max() or 1.0  # sums and spans of the greatest numbers overflow
        figures = {"least": numbers.min(), "mean": (numbers / scale).mean() * scale, "greatest": numbers.max()}
        told |= {name: float(f"{figure:.6g}") for name, figure in figures.items()}
        return told | {"type": "number", "histogram": np.histogram(numbers / scale, BINS)[0].tolist()}
    counts = known.astype(str).str[:MOST_CHARACTERS].value_counts()
    counts = counts[counts > 1].sort_index().sort_values(ascending=False, kind="stable").head(MOST_VALUES)
    return told | {"type": "text", "values": [[value, int(rows)] for value, rows in counts.items()]}


def _remarks(spec: Dataset, manifest: pd.DataFrame, labels: list[list[Any]]) -> Iterator[str]:
    seen = _seen(spec, manifest)
    distinct, missing = manifest[seen].nunique(), manifest[seen].isna().mean()
    dates: pd.Series = pd.Series({column: _holds_dates(manifest[column]) for column in seen}, dtype=bool)
    for remark, columns in [
        ("no value at all; a model learns nothing from it", missing == 1),
        ("the same value wherever there is one; a model learns nothing from it", distinct == 1),
        ("no value in most of the rows", (missing > 0.5) & (missing < 1)),
        (
            "another text in every row; if that names the rows, put it under `ignore`",
            _names_rows(manifest[seen], distinct) & ~dates,
        ),
        (
            "dates, each a category of its own; put them under `ignore`, or write numbers (a month, days since)",
            dates,
        ),
    ]:
        if found := [column for column in seen if columns[column]]:
            yield f"{checks.listed(found)}: {remark}"
    yield from _same(spec, manifest)
    if labels:
        (rare, few), (common, many) = min(labels, key=lambda label: label[1]), max(labels, key=lambda label: label[1])
        if many >= IMBALANCE * few:
            yield (
                f"the classes are not balanced, {many:,} rows are `{common}` and {few:,} are `{rare}`: look beyond "
                "accuracy, and try `class_weight: balanced`"
            )


def _same(spec: Dataset, manifest: pd.DataFrame) -> Iterator[str]:
    """Examples that are there more than once, texts that are much alike among them, and whether their answers agree."""
    kind = kinds.of(spec)
    contents = (kind.likeness if isinstance(spec, Text) else kind.contents)(spec, manifest)
    repeated = int(contents.duplicated().sum())
    if not repeated:
        return
    answers = manifest[spec.label].groupby(contents).nunique() if spec.label in manifest else pd.Series(dtype=int)
    contradicted = int((answers > 1).sum())
    yield (
        f"{repeated:,} of {len(manifest):,} examples repeat an earlier one; such examples stay in one split"
        + (f", and {contradicted:,} of them have more than one `{spec.label}`" if contradicted else "")
    )


def _names_rows(columns: pd.DataFrame, distinct: pd.Series) -> pd.Series:
    texts = pd.Series({column: not pd.api.types.is_numeric_dtype(columns[column]) for column in columns}, dtype=bool)
    return texts & (distinct == len(columns)) & (len(columns) > 1)


def _holds_dates(values: pd.Series) -> bool:
    known = values.dropna()
    iso = r"\d{4}-\d\d-\d\d([T ].*)?"
    return not pd.api.types.is_numeric_dtype(values) and len(known) > 0 and bool(known.str.fullmatch(iso).all())


def _seen(spec: Dataset, manifest: pd.DataFrame) -> list[str]:
    """The columns that a model sees one by one."""
    if isinstance(spec, Tables):
        unseen = (spec.target, spec.group, spec.split.given, *spec.ignore)
        return [str(column) for column in manifest if column not in unseen]
    if isinstance(spec, Series):
        return [str(column) for column in manifest if column not in (spec.time, "time", "row")]
    return []
