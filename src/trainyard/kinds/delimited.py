"""Delimited text files (CSV) under a contract: UTF-8, one header, every row as wide as the header, all cells text."""

import csv
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd

from trainyard.errors import BadInput

csv.field_size_limit(1_000_000)  # a longer cell is a broken quote, not a value


def read(path: Path, delimiter: str) -> pd.DataFrame:
    """All cells as text, indexed by `row`, the line of the file at which it ends. Raises BadInput, naming the row."""
    if path.is_dir():
        raise BadInput(f"{path}: is a folder (expected a CSV file)")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = next(reader, None)
            if not header:
                raise BadInput(f"{path}: is empty (expected a header and rows)")
            lines, rows = [], []
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise BadInput(
                        f"{path}:{reader.line_num}: {len(cells)} cells (expected {len(header)}, as in the header)"
                    )
                lines.append(reader.line_num)
                rows.append(cells)
    except FileNotFoundError:
        raise BadInput(f"{path}: not found") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 at byte {error.start} (save the file as UTF-8)") from None
    except csv.Error as error:
        raise BadInput(f"{path}:{reader.line_num}: {error}") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise BadInput(f"{path}:1: column `{repeated[0]}` occurs twice")
    if not rows:
        raise BadInput(f"{path}: has a header but no rows")
    return pd.DataFrame(rows, columns=header, index=pd.Index(lines, name="row"), dtype=object)


def require(path: Path, table: pd.DataFrame, columns: Iterable[str], delimiter: str) -> None:
    """Raises BadInput where the table lacks one of the columns, with the nearest name that it has."""
    for column in columns:
        if column not in table.columns:
            if table.shape[1] == 1:
                other = next((mark for mark in ";\t|," if mark != delimiter and mark in table.columns[0]), None)
                hint = f"found 1 column; delimiter {other!r}?" if other else "found 1 column"
            else:
                close = get_close_matches(column, table.columns, n=1)
                hint = f"did you mean `{close[0]}`?" if close else f"it has: {', '.join(table.columns)}"
            raise BadInput(f"{path}:1: no column `{column}` ({hint})")


def numbers(path: Path, cells: pd.Series, missing: list[str]) -> pd.Series:
    """Text to float64, NaN for missing cells; raises BadInput at the first cell that is no finite number."""
    known = ~cells.isin(missing)
    values = pd.to_numeric(cells.where(known, None), errors="coerce").astype(np.float64)
    bad = known & ~np.isfinite(values)
    if bad.any():
        total = int(bad.sum())
        more = f"; {total} such cells" if total > 1 else ""
        raise BadInput(
            f"{path}:{first(bad)}: column `{cells.name}`: {cells[bad].iloc[0]!r} is no number{more} "
            "(mend it, or name the column under `categorical` or `ignore`)"
        )
    return values


def share_of_numbers(cells: pd.Series, missing: list[str]) -> float:
    """Share of the cells that are not missing which are numbers; 0 where all are missing."""
    known = cells[~cells.isin(missing)]
    return float(pd.to_numeric(known, errors="coerce").notna().mean()) if len(known) else 0.0


def first(marked: pd.Series) -> str:
    """The row of the file at which the first mark stands."""
    return str(marked.index[marked.to_numpy(bool)][0])
