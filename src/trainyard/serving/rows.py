"""Raw rows of a file or a folder, part by part, as `kinds.KIND.decode` takes them: the same parts each time.

A CSV file as the dataset's own, a Parquet file with the same columns, or a folder of images, recordings or .txt files.
One part is in memory at a time, however large the whole is.
"""

import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from trainyard.errors import BadInput
from trainyard.kinds import delimited, images, speech, text
from trainyard.params import AnyDataset, Images, Series, Speech, Tables, Text, nearest

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

MOST = {"tables": 2**16, "series": 2**16, "text": 2**10, "images": 2**8, "speech": 2**6}
"""Rows of a part, by kind: what is answered in seconds, and lost where a process is killed."""
PART = 2**25
"""Bytes of the files of a part, and of what they are decoded to, where that is fewer rows."""
PARQUET = b"PAR1"
UNTOLD = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""Control characters, and bytes that are no UTF-8: names with them are refused."""

Part = tuple[pd.DataFrame, "Mapping[str, pa.Array]"]
"""Rows that are answered together, and columns of the file that go with the answers.

Rows are indexed by the line of a CSV file, the place in a Parquet file from 0 on, or the path below the folder.
"""


@dataclass(frozen=True)
class Source:
    """Rows to be answered."""

    path: Path
    count: int
    """How many rows; of a CSV file with line ends in its cells, at most."""
    paths: Sequence[Path]
    """The files that are read."""
    parts: Callable[[int], Iterator[Part]]
    """All parts after so many; raises BadInput."""
    most: int
    """Rows of a part, at most."""
    where: str
    """What stands before the name of a row, to say where it is."""

    def placed(self, error: BadInput) -> BadInput:
        """A refusal of rows as `decode` tells it, with the file and the row."""
        lines = (re.fullmatch(r"(?:rows:|row )(.*)|(.*)", line, re.DOTALL) for line in str(error).splitlines())
        return BadInput(
            *(self.where + found[1] if found[1] else f"{self.path}: {found[2]}" for found in lines if found)
        )


def opened(path: Path, spec: AnyDataset, facts: Mapping[str, Any], keep: Sequence[str] = ()) -> Source:
    """What is at `path`, to be read as the model's own data; columns `keep` of a file go with the answers.

    Raises BadInput where there are no such rows.
    """
    if path.is_dir() or (isinstance(spec, Images | Speech) and path.suffix.lower() in _suffixes(spec)):
        if keep:
            raise BadInput(f"{path}: has no column `{keep[0]}` to keep (only CSV and Parquet files have columns)")
        return _of_files(path, spec, facts)
    if keep and isinstance(spec, Series):
        raise BadInput(f"{path}: column `{keep[0]}` cannot be kept: answers of a series are named by their time")
    try:
        with path.open("rb") as file:
            of = _of_parquet if file.read(len(PARQUET)) == PARQUET else _of_lines
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
    columns = _columns(spec, facts)
    return of(path, spec, columns, keep, max(min(at_once(spec, facts), delimited.TOGETHER // len(columns)), 1))


def _of_lines(path: Path, spec: AnyDataset, columns: Sequence[str], keep: Sequence[str], most: int) -> Source:
    import pyarrow as pa

    if isinstance(spec, Images | Speech):
        raise BadInput(f"{path}: no folder, and no Parquet file with a column `{columns[0]}`")
    names = spec.names if isinstance(spec, Tables | Text) else None
    quoting = spec.quoting if isinstance(spec, Text) else True
    asked = [*columns, *keep]

    def parts(skip: int) -> Iterator[Part]:
        for rows in delimited.parts(path, spec.delimiter, names, columns=asked, quoting=quoting, most=most, skip=skip):
            yield rows, {column: pa.array(rows[column].tolist(), pa.string()) for column in keep}

    return Source(path, delimited.lines(path) - (names is None), [path], parts, most, f"{path}:")


def _of_parquet(path: Path, spec: AnyDataset, columns: Sequence[str], keep: Sequence[str], most: int) -> Source:
    import pyarrow as pa
    from pyarrow import parquet

    def parts(skip: int) -> Iterator[Part]:
        first = 0
        with _readable(path), parquet.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:
            for number, part in enumerate(file.iter_batches(most, columns=[*{*asked, *keep}])):
                index = pd.RangeIndex(first, first := first + len(part))
                if number >= skip:
                    rows = pa.table({name: _plain(part[name]) for name in asked})
                    yield rows.to_pandas(integer_object_nulls=True).set_axis(index), {name: part[name] for name in keep}

    with _readable(path):
        header, count = parquet.read_schema(path).names, parquet.read_metadata(path).num_rows
    if lacking := [column for column in (*columns, *keep) if column not in header]:
        raise BadInput(f"{path}: no column `{lacking[0]}`; {nearest(lacking[0], header)}")
    if not count:
        raise BadInput(f"{path}: has no rows")
    asked = [*columns, *(column for column in (spec.where if isinstance(spec, Series) else ()) if column in header)]
    return Source(path, count, [path], parts, most, f"{path}:")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{path}: no readable Parquet: {' '.join(str(error).split())[:200]}") from None


def _plain(column: "pa.Array") -> "pa.Array":
    """Categories as what they stand for, and times as text: a number that a model knows is no time."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.string()) if pa.types.is_temporal(column.type) else column


def _of_files(path: Path, spec: AnyDataset, facts: Mapping[str, Any]) -> Source:
    suffixes, root = _suffixes(spec), path if path.is_dir() else path.parent
    if not suffixes:
        raise BadInput(f"{path}: is a folder (expected a CSV or a Parquet file)")
    there = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    names = {file: file.relative_to(root).as_posix() for file in there if file.suffix.lower() in suffixes}
    names = {file: name for file, name in names.items() if not name.startswith(".") and "/." not in name}
    if not names:
        raise BadInput(f"{path}: holds no file that ends in {' or '.join(sorted(suffixes))}")
    if untold := [file for file, name in names.items() if UNTOLD.search(name)]:
        raise BadInput(f"{str(untold[0])!a}: control characters, or bytes that are not UTF-8, in the name")
    if len(there) > len(names):
        log.info("%s: %d other file(s) are left out", path, len(there) - len(names))
    (column,), most = _columns(spec, facts), at_once(spec, facts)

    def parts(skip: int) -> Iterator[Part]:
        for group in islice(_groups([*names], most), skip, None):
            contents = [_content(spec, file) for file in group]
            yield pd.DataFrame({column: contents}, index=[names[file] for file in group]), {}

    return Source(path, len(names), [*names], parts, most, f"{root}/")


def _groups(paths: Sequence[Path], most: int) -> Iterator[list[Path]]:
    """At most `most` files together, and of more than one at most `PART` bytes."""
    group: list[Path] = []
    room = PART
    for path in paths:
        size = path.stat().st_size
        if group and (len(group) == most or size > room):
            yield group
            group, room = [], PART
        group.append(path)
        room -= size
    yield group


def _content(spec: AnyDataset, path: Path) -> bytes | str:
    most = {
        "images": images.MOST_BYTES,
        "text": 4 * text.MOST_CHARACTERS,
        "speech": round(8 * speech.MOST_RATE * spec.longest) if isinstance(spec, Speech) else 0,
    }[spec.kind]
    try:
        if (size := path.stat().st_size) > most:
            raise BadInput(f"{path}: {size:,} bytes (at most {most:,})")
        content = path.read_bytes()
        return content.decode("utf-8-sig").strip() if isinstance(spec, Text) else content
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 at byte {error.start} (save the file as UTF-8)") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None


def _suffixes(spec: AnyDataset) -> set[str]:
    return {"images": images.SUFFIXES, "speech": speech.SUFFIXES, "text": {".txt"}}.get(spec.kind, set())


def _columns(spec: AnyDataset, facts: Mapping[str, Any]) -> list[str]:
    """What a row has to have."""
    if isinstance(spec, Tables):
        return [*facts["numeric"], *facts["categorical"]]
    if isinstance(spec, Series):
        return list(dict.fromkeys([spec.time, *facts["columns"]]))
    return [spec.text if isinstance(spec, Text) else "image" if isinstance(spec, Images) else "recording"]


def at_once(spec: AnyDataset, facts: Mapping[str, Any]) -> int:
    """Rows that are decoded together, of which `PART` bytes come, or `MOST` where they are small."""
    size = 1
    if isinstance(spec, Images):
        size = math.prod(facts["shape"])
    elif isinstance(spec, Speech):
        size = round(4 * spec.longest * spec.rate)
    elif isinstance(spec, Series):
        size = 4 * spec.window * len(facts["columns"])
    return max(min(MOST[spec.kind], PART // size), 1)
