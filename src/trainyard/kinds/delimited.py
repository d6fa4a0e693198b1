"""Delimited text files (CSV) under a contract: UTF-8, one header, every row as wide as the header, all cells text."""

import csv
import logging
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainyard.errors import BadInput

log = logging.getLogger(__name__)

csv.field_size_limit(1_000_000)  # a longer cell is a broken quote, not a value
MOST_BYTES = 2_000_000_000
"""Of a file: in memory its cells take some times as much."""
MOST_COLUMNS = 100_000
LONGEST = 2**24
"""Bytes of a line, which is read as a whole."""
NO_TEXT = {
    b"PK\x03\x04": "a spreadsheet, or another ZIP archive (export it as CSV, in UTF-8)",
    b"\xd0\xcf\x11\xe0": "a spreadsheet of old (export it as CSV, in UTF-8)",
    b"\x1f\x8b": "packed by gzip (unpack it)",
    b"PAR1": "a Parquet file (write it as CSV)",
}
"""How files begin that are often taken for a CSV."""
TOGETHER = 2**18
"""Cells that are texts of their own at a time: in a column of a table they take a quarter of the memory."""


def read(
    path: Path,
    delimiter: str,
    names: list[str] | None = None,
    *,
    columns: Iterable[str] = (),
    quoting: bool = True,
) -> pd.DataFrame:
    """All cells as text, indexed by `row`, the line of the file at which it ends. Raises BadInput, naming the row.

    `names` are those of the columns where the file has no header; `columns` must be among them. Without `quoting` a
    quotation mark is a letter. The header is looked at before any row.
    """
    lines(path, MOST_BYTES)
    return pd.concat(parts(path, delimiter, names, columns=columns, quoting=quoting))


def parts(
    path: Path,
    delimiter: str,
    names: list[str] | None = None,
    *,
    columns: Iterable[str] = (),
    quoting: bool = True,
    most: int = TOGETHER,
    skip: int = 0,
) -> Iterator[pd.DataFrame]:
    """What `read` reads of a file that `lines` has looked at, at most `most` rows together: the same ones each time.

    The first `skip` of these parts are left out.
    """
    how: Literal[0, 3] = csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE
    part = None
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, quoting=how, strict=True)
        try:
            header = names or next(reader, None)
            if not header:
                told = "is empty" if header is None else "begins with an empty line"
                raise BadInput(f"{path}: {told} (expected a header and rows)")
            _refuse_header(path, header)
            _require(path, header, columns, delimiter)
            for number, part in enumerate(_rows(path, reader, header, delimiter, most, named=names is not None)):
                if number >= skip:
                    yield _table(part, header)
        except csv.Error as error:
            hint = _other(delimiter, _first_line(path))
            if str(error) == "unexpected end of data":
                hint = "; a quotation mark is not closed (mend it, or say `quoting: false` of a text)"
            elif str(error).startswith("field larger"):
                hint = " characters of a cell (is a quotation mark not closed?)"
            raise BadInput(f"{path}:{reader.line_num}: {error}{hint}") from None
    if part is None:
        raise BadInput(f"{path}: has a header but no rows")


def lines(path: Path, most: float = math.inf) -> int:
    """How many lines a file has; a last one without an end costs a word.

    Raises BadInput for what is no UTF-8 text, or has more than `most` bytes.
    """
    place, number, line = 0, 0, b"\n"
    try:
        if path.exists() and not path.is_file():
            raise BadInput(f"{path}: is {'a folder' if path.is_dir() else 'no plain file'} (expected a CSV file)")
        with path.open("rb") as file:
            head, size = file.peek(4), os.fstat(file.fileno()).st_size
            if what := next((what for begin, what in NO_TEXT.items() if head.startswith(begin)), ""):
                raise BadInput(f"{path}: is {what}")
            if size > most:
                raise BadInput(f"{path}: {size:,} bytes (at most {most:,}: leave out rows or columns)")
            for number, line in enumerate(iter(lambda: file.readline(LONGEST), b""), 1):
                if len(line) == LONGEST:
                    raise BadInput(f"{path}:{number}: a line of {LONGEST:,} bytes or more (is there a row a line?)")
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
    if not line.endswith((b"\n", b"\r")):
        log.warning("%s:%d: the last line has no end (was the file cut short?)", path, number)
    return number


def _other(delimiter: str, header: str) -> str:
    """A hint, where another delimiter seems to divide a first line of one column."""
    found = next((mark for mark in ";\t|," if mark in header), None) if delimiter not in header else None
    return f"; delimiter {found!r}?" if found else ""


def known(cells: pd.Series, missing: list[str]) -> pd.Series:
    """True for each cell that is neither empty nor one of the marks of `missing`, as text or as a number."""
    return cells.notna() & ~cells.isin([*missing, *_numeric(tuple(missing))])


def numbers(path: Path, cells: pd.Series, missing: list[str], hint: str = "mend it") -> pd.Series:
    """Cells to float64, NaN for missing ones; raises BadInput at the first that is no number which float32 holds."""
    there = known(cells, missing)
    values = _parsed(cells.where(there, None))
    bad = there & ~(values.abs() <= np.finfo(np.float32).max)
    if (large := (there & ~bad & (values.abs() >= 2**53)).to_numpy(bool)).any():
        bad[large] = np.array([_rounded(cell) for cell in cells[large]])
    if bad.any():
        cell = cells[bad].iloc[0]
        told = repr(cell) if isinstance(cell, str) else str(cell)
        what, number = "has digits that no number keeps", values[bad].iloc[0]
        if not abs(number) <= np.finfo(np.float32).max:
            what = "is no number" if np.isnan(number) else "is too large for float32"
        more = f"; {bad.sum()} such cells" if bad.sum() > 1 else ""
        raise BadInput(f"{path}:{first(bad)}: column `{cells.name}`: {told} {what}{more} ({hint})")
    return values


def block(table: pd.DataFrame, missing: list[str]) -> NDArray[np.float32] | None:
    """Columns that hold numbers already, with NaN for missing: float32 `[n, columns]`, as `numbers` gives one by one.

    None where one of them holds something else, or a number to be refused.
    """
    if not all(isinstance(dtype, np.dtype) and dtype.kind in "fi" for dtype in table.dtypes):
        return None
    values = table.to_numpy(np.float64)
    if marks := _numeric(tuple(missing)):
        values = np.where(np.isin(values, marks), np.nan, values)
    return None if (np.abs(values) >= 2**53).any() else values.astype(np.float32)


@cache
def _numeric(marks: tuple[str, ...]) -> tuple[float, ...]:
    """The marks that are numbers."""
    return tuple(pd.to_numeric(pd.Series(marks, dtype=object), errors="coerce").dropna())


def _parsed(cells: pd.Series) -> pd.Series:
    """Float64, NaN for what is no number. Arrow has the same values ten times as fast, where all cells are plain."""
    if isinstance(cells.dtype, pd.StringDtype):
        with suppress(ValueError):
            return cells.astype("double[pyarrow]").astype(np.float64)
    return pd.to_numeric(cells, errors="coerce").astype(np.float64)


def _rounded(cell: Any) -> bool:
    """Whether float64 has no room for all digits of a whole number, most likely a name: two of them may become one."""
    digits = str(cell).strip().lstrip("+-")
    return digits.isdecimal() and int(digits) != int(float(digits))


def share_of_numbers(cells: pd.Series, missing: list[str]) -> float:
    """Share of the cells that are not missing which are numbers; 0 where all are missing."""
    there = cells[known(cells, missing)]
    return float(pd.to_numeric(there, errors="coerce").notna().mean()) if len(there) else 0.0


def first(marked: pd.Series) -> str:
    """The row of the file at which the first mark stands."""
    return str(marked.index[marked.to_numpy(bool)][0])


def _refuse_header(path: Path, header: list[str]) -> None:
    """Raises BadInput for a column without a name of its own."""
    if len(header) > MOST_COLUMNS:
        raise BadInput(f"{path}:1: {len(header):,} columns (at most {MOST_COLUMNS:,})")
    if "" in header:
        raise BadInput(f"{path}:1: column {header.index('') + 1} of {len(header)} has no name (give it one)")
    if repeated := [name for name, count in Counter(header).items() if count > 1]:
        raise BadInput(f"{path}:1: column `{repeated[0]}` occurs twice")


def _require(path: Path, header: list[str], columns: Iterable[str], delimiter: str) -> None:
    """Raises BadInput for one of the columns that the header lacks, with the nearest name that it has."""
    there = set(header)
    for column in columns:
        if column not in there:
            if len(header) == 1:
                hint = "found 1 column" + _other(delimiter, header[0])
            else:
                close = get_close_matches(column, header, n=1)
                hint = f"did you mean `{close[0]}`?" if close else f"it has: {', '.join(header)}"
            raise BadInput(f"{path}:1: no column `{column}` ({hint})")


def _rows(
    path: Path, reader: Any, header: list[str], delimiter: str, most: int, *, named: bool
) -> Iterator[tuple[list[int], list[list[str]]]]:
    """Lines at which rows end, and their cells, many rows together. Raises BadInput for a row of another width."""
    lines: list[int] = []
    rows: list[list[str]] = []
    most = max(min(most, TOGETHER // len(header)), 1)
    for cells in reader:
        if not cells:
            continue
        if len(cells) != len(header):
            told = ("as named" if named else "as in the header") + _other(delimiter, _first_line(path))
            raise BadInput(f"{path}:{reader.line_num}: {len(cells)} cells (expected {len(header)}, {told})")
        lines.append(reader.line_num)
        rows.append(cells)
        if len(rows) == most:
            yield lines, rows
            lines, rows = [], []
    if rows:
        yield lines, rows


def _table(part: tuple[list[int], list[list[str]]], header: list[str]) -> pd.DataFrame:
    lines, rows = part
    return pd.DataFrame(rows, columns=header, index=pd.Index(lines, name="row"), dtype="str")


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return file.readline()
