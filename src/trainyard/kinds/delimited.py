"""Delimited text files (CSV) under a contract: UTF-8, one header, every row as wide as the header, all cells text."""

import csv
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from trainyard.errors import BadInput

csv.field_size_limit(1_000_000)  # a longer cell is a broken quote, not a value
TOGETHER = 2**18
"""Cells that are texts of their own at a time: in a column of a table they take a quarter of the memory."""


def read(path: Path, delimiter: str, names: list[str] | None = None, *, quoting: bool = True) -> pd.DataFrame:
    """All cells as text, indexed by `row`, the line of the file at which it ends. Raises BadInput, naming the row.

    `names` are those of the columns where the file has no header; without `quoting` a quotation mark is a letter.
    """
    _refuse_broken(path)
    how: Literal[0, 3] = csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, quoting=how, strict=True)
        try:
            header = names or next(reader, None)
            if not header:
                told = "is empty" if header is None else "begins with an empty line"
                raise BadInput(f"{path}: {told} (expected a header and rows)")
            parts = [_table(part, header) for part in _rows(path, reader, header, delimiter, named=names is not None)]
        except csv.Error as error:
            hint = _other(delimiter, _first_line(path))
            if str(error) == "unexpected end of data":
                hint = "; a quotation mark is not closed (mend it, or say `quoting: false` of a text)"
            raise BadInput(f"{path}:{reader.line_num}: {error}{hint}") from None
    if "" in header:
        raise BadInput(f"{path}:1: column {header.index('') + 1} of {len(header)} has no name (give it one)")
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise BadInput(f"{path}:1: column `{repeated[0]}` occurs twice")
    if not parts:
        raise BadInput(f"{path}: has a header but no rows")
    return pd.concat(parts)


def require(path: Path, table: pd.DataFrame, columns: Iterable[str], delimiter: str) -> None:
    """Raises BadInput where the table lacks one of the columns, with the nearest name that it has."""
    for column in columns:
        if column not in table.columns:
            if table.shape[1] == 1:
                hint = "found 1 column" + _other(delimiter, table.columns[0])
            else:
                close = get_close_matches(column, table.columns, n=1)
                hint = f"did you mean `{close[0]}`?" if close else f"it has: {', '.join(table.columns)}"
            raise BadInput(f"{path}:1: no column `{column}` ({hint})")


def _other(delimiter: str, header: str) -> str:
    """A hint, where another delimiter seems to divide a first line of one column."""
    found = next((mark for mark in ";\t|," if mark in header), None) if delimiter not in header else None
    return f"; delimiter {found!r}?" if found else ""


def known(cells: pd.Series, missing: list[str]) -> pd.Series:
    """True for each cell that is neither empty nor one of the marks of `missing`, as text or as a number."""
    marks = pd.to_numeric(pd.Series(missing, dtype=object), errors="coerce").dropna()
    return cells.notna() & ~cells.isin([*missing, *marks])


def numbers(path: Path, cells: pd.Series, missing: list[str], hint: str = "mend it") -> pd.Series:
    """Cells to float64, NaN for missing ones; raises BadInput at the first that is no number which float32 holds."""
    there = known(cells, missing)
    values = pd.to_numeric(cells.where(there, None), errors="coerce").astype(np.float64)
    bad = there & ~(values.abs() <= np.finfo(np.float32).max)
    if bad.any():
        cell = cells[bad].iloc[0]
        told = repr(cell) if isinstance(cell, str) else str(cell)
        what = "is no number" if np.isnan(values[bad].iloc[0]) else "is too large for float32"
        more = f"; {bad.sum()} such cells" if bad.sum() > 1 else ""
        raise BadInput(f"{path}:{first(bad)}: column `{cells.name}`: {told} {what}{more} ({hint})")
    return values


def share_of_numbers(cells: pd.Series, missing: list[str]) -> float:
    """Share of the cells that are not missing which are numbers; 0 where all are missing."""
    there = cells[known(cells, missing)]
    return float(pd.to_numeric(there, errors="coerce").notna().mean()) if len(there) else 0.0


def first(marked: pd.Series) -> str:
    """The row of the file at which the first mark stands."""
    return str(marked.index[marked.to_numpy(bool)][0])


def _rows(
    path: Path, reader: Any, header: list[str], delimiter: str, *, named: bool
) -> Iterator[tuple[list[int], list[list[str]]]]:
    """Lines at which rows end, and their cells, many rows together. Raises BadInput for a row of another width."""
    lines: list[int] = []
    rows: list[list[str]] = []
    for cells in reader:
        if not cells:
            continue
        if len(cells) != len(header):
            told = ("as named" if named else "as in the header") + _other(delimiter, _first_line(path))
            raise BadInput(f"{path}:{reader.line_num}: {len(cells)} cells (expected {len(header)}, {told})")
        lines.append(reader.line_num)
        rows.append(cells)
        if len(rows) * len(header) >= TOGETHER:
            yield lines, rows
            lines, rows = [], []
    if rows:
        yield lines, rows


def _table(part: tuple[list[int], list[list[str]]], header: list[str]) -> pd.DataFrame:
    lines, rows = part
    return pd.DataFrame(rows, columns=header, index=pd.Index(lines, name="row"), dtype="str")


def _refuse_broken(path: Path) -> None:
    """Raises BadInput for what is no UTF-8 text."""
    if path.is_dir():
        raise BadInput(f"{path}: is a folder (expected a CSV file)")
    place = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                line.decode()
                if b"\0" in line:
                    raise BadInput(f"{path}:{number}: holds a NUL byte (the file is broken, or no text)")
                place += len(line)
    except UnicodeDecodeError as error:
        told = f"not UTF-8 at byte {place + error.start} (save the file as UTF-8)"
        raise BadInput(f"{path}:{number}: {told}") from None
    except FileNotFoundError:
        raise BadInput(f"{path}: not found") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return file.readline()
