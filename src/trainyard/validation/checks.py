"""What can be expected of a manifest: checks as Great Expectations asks them, and as pandas finds the rows at fault."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import pandas as pd

from trainyard.errors import BadInput
from trainyard.params import Expectation

MOST_NAMES = 8
"""Names that a sentence lists."""


@dataclass(frozen=True)
class Check:
    """One thing that is expected of the table, or of the values of one column."""

    type: str
    """Class in `great_expectations.expectations`."""
    arguments: dict[str, Any]
    """What the class takes."""
    holds: str
    """What is said where it holds: `is between 0 and 50`."""
    fails: str
    """What is said of a value, or of the table, where it fails: `is not between 0 and 50`."""
    column: str | None = None
    at_fault: Callable[[pd.Series], pd.Series] | None = None
    """True for each value of the column that is at fault."""

    @property
    def what(self) -> str:
        """The whole sentence."""
        return f"`{self.column}` {self.holds}" if self.column else self.holds

    def faults(self, manifest: pd.DataFrame) -> pd.Series:
        """The values at fault, indexed as the manifest is; none where the table is at fault."""
        if self.at_fault is None:
            return pd.Series(dtype=object)
        values = manifest[self.column]
        return values[self.at_fault(values)]


def listed(names: Sequence[str]) -> str:
    """Names in a sentence, the first `MOST_NAMES` of them."""
    shown = ", ".join(f"`{name}`" for name in names[:MOST_NAMES])
    return shown if len(names) <= MOST_NAMES else f"{shown} and {len(names) - MOST_NAMES} more"


def of_table(manifest: pd.DataFrame, rows: tuple[int, int], columns: Sequence[str], only: bool) -> Iterator[Check]:
    """How many rows there are, and that the columns are there; with `only` there are no others."""
    least, most = rows
    yield Check(
        "ExpectTableRowCountToBeBetween",
        {"min_value": least, "max_value": most},
        holds=f"there are {least:,} to {most:,} rows",
        fails=f"{len(manifest):,} rows (expected {least:,} to {most:,}, by `rows`)",
    )
    lacking = [f"no column `{column}`" for column in columns if column not in manifest]
    others = [f"column `{column}` is not expected" for column in manifest if only and column not in columns]
    yield Check(
        "ExpectTableColumnsToMatchSet",
        {"column_set": list(columns), "exact_match": only},
        holds=f"the columns {'are' if only else 'include'} {listed(columns)}",
        fails="; ".join(lacking + others),
    )


def known(column: str) -> Check:
    """No value is missing."""
    return Check(
        "ExpectColumnValuesToNotBeNull",
        {"column": column},
        holds="has no missing value",
        fails="is missing",
        column=column,
        at_fault=pd.Series.isna,
    )


def not_empty(column: str) -> Check:
    """Not all values are missing; of a column of nothing Great Expectations takes every other expectation to hold."""
    return Check(
        "ExpectColumnValuesToNotBeNull",
        {"column": column, "mostly": 1e-9},  # less than one row of the most that a dataset may have
        holds="has values",
        fails="is missing, and so are all",
        column=column,
        at_fault=lambda values: values.isna() & bool(values.isna().all()),
    )


def of_values(expected: Expectation, values: pd.Series, where: str) -> Iterator[Check]:
    """What a kind or a user expects of one column; what is missing is at fault only where `not_null` is asked for.

    Raises BadInput, beginning with `where`, for what a column of such values cannot be asked.
    """
    column, holds = expected.column, _content(values)
    yield known(column) if expected.not_null else not_empty(column)
    if expected.unique:
        yield Check(
            "ExpectColumnValuesToBeUnique",
            {"column": column},
            holds="has no value twice",
            fails="is there more than once",
            column=column,
            at_fault=lambda values: values.notna() & values.duplicated(keep=False),
        )
    if expected.between not in (None, (None, None)):
        if holds not in ("numbers", "nothing"):
            raise BadInput(f"{where}.between: column `{column}` holds {holds} (expected numbers)")
        low, high = _ends(expected.between)
        span = _span(low, high)
        yield Check(
            "ExpectColumnValuesToBeBetween",
            {"column": column, "min_value": low, "max_value": high},
            holds=f"is {span}",
            fails=f"is not {span}",
            column=column,
            at_fault=lambda values: values.notna() & ~values.between(low, high),
        )
    if expected.one_of is not None:
        if holds == "times":
            raise BadInput(f"{where}.one_of: column `{column}` holds times (expected text or numbers)")
        allowed = _numbers(expected.one_of, where) if holds == "numbers" else expected.one_of
        yield Check(
            "ExpectColumnValuesToBeInSet",
            {"column": column, "value_set": allowed},
            holds=f"is one of {listed(expected.one_of)}",
            fails=f"is not one of {listed(expected.one_of)}",
            column=column,
            at_fault=lambda values: values.notna() & ~values.isin(allowed),
        )
    if expected.matches is not None:
        if holds not in ("text", "nothing"):
            raise BadInput(f"{where}.matches: column `{column}` holds {holds} (expected text)")
        pattern = _whole(expected.matches, where)
        yield Check(
            "ExpectColumnValuesToMatchRegex",
            {"column": column, "regex": pattern.pattern},
            holds=f"matches `{expected.matches}` as a whole",
            fails=f"does not match `{expected.matches}` as a whole",
            column=column,
            at_fault=lambda values: values.notna() & ~values.fillna("").map(pattern.match).astype(bool),
        )


def _content(values: pd.Series) -> str:
    if pd.api.types.is_numeric_dtype(values):
        return "numbers"
    if pd.api.types.is_datetime64_any_dtype(values):
        return "times"
    return "text" if values.notna().any() else "nothing"


def _ends(between: tuple[float | None, float | None]) -> tuple[float, float]:
    low, high = between
    return -inf if low is None else low, inf if high is None else high


def _span(low: float, high: float) -> str:
    if low == -inf:
        return f"at most {high:.10g}"
    return f"at least {low:.10g}" if high == inf else f"between {low:.10g} and {high:.10g}"


def _numbers(names: Sequence[str], where: str) -> list[float]:
    try:
        return [float(name) for name in names]
    except ValueError as error:
        raise BadInput(f"{where}.one_of: {error}, and the column holds numbers") from None


def _whole(pattern: str, where: str) -> re.Pattern[str]:
    """The pattern, to be found from the first to the last character."""
    try:
        return re.compile(rf"\A(?:{pattern})\Z")
    except re.error as error:
        raise BadInput(f"{where}.matches: no regular expression: {error.msg}") from None
