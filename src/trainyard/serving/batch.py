"""Verb `predict`: the answers of a registered model to all rows of a file or a folder, in bounded memory.

In:   a version of the registry, pinned; a CSV or Parquet file, or a folder (`serving.rows`)
Out:  OUTPUT.csv or OUTPUT.parquet: `example` and the answers as scores.csv has them, and columns that are to be kept
Exit: 2 rows that cannot be read, 5 MLflow does not answer or the disk is full

Until it is whole the output is a hidden folder beside its place, with a file for each part that is answered. A process
that was killed leaves it, and the next one goes on after the last part: the parts of a source are always the same.
"""

import io
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import count, takewhile
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from trainyard import files, tracking
from trainyard.arrays import Array
from trainyard.errors import BadInput, EnvironmentFailed
from trainyard.kinds.series import NoWindow
from trainyard.params import Params, Series
from trainyard.quality.evaluation import named_answers
from trainyard.serving.champion import Champion
from trainyard.serving.rows import Source, opened
from trainyard.tracking import Pinned
from trainyard.training import device

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

CSV, PARQUET = ".csv", ".parquet"
LEAST = 3
"""Rows of a series that are looked at again with the next part: by fewer no step between rows is told."""
EXAMPLE = "example"
EVERY = 10.0
"""Seconds between two lines that tell how far it is, where there is no terminal to draw a bar on."""
FORMULA = r"^[=+\-@\t\r\n\x{ff1d}\x{ff0b}\x{ff0d}\x{ff20}]"
"""How a text begins that a spreadsheet may run (OWASP, CSV injection), the wide forms of these signs among them."""
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"

Question = tuple[int, Mapping[str, Array], pd.Index, "Mapping[str, pa.Array]"]
"""How many rows were read, what the model takes of them, a name for each answer, and what goes with the answers."""


def predict(asked: str, path: Path, output: Path, params: Params, keep: Sequence[str] = ()) -> None:
    """Write to `output` what the version NAME, NAME@ALIAS or NAME/VERSION answers to the rows at `path`.

    Raises BadInput for rows that the model cannot answer, and leaves nothing then.
    """
    _refuse(path, output)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="trainyard-") as place:
        pinned = _pinned(asked, Path(place))
        device.start(params.training, params.seed)
        champion = Champion(pinned)
    source = opened(path, champion.spec, champion.facts, keep)
    stamps = _stamps(source)
    about = {
        "model": f"version {pinned.version} of {pinned.model}, SHA-256 {pinned.sha256}",
        "input": files.digest(source.paths, path if path.is_dir() else path.parent),
        "columns kept": ", ".join(keep) or "none",
        "rows of a part": str(source.most),  # another release may take others
    }
    with _alone(output) as work:
        done = _done(work, about, output)
        try:
            _answer(champion, source, output, work, done)
            if _stamps(source) != stamps:
                raise BadInput(f"{path}: has changed while it was read (run it again)")
        except BadInput:
            shutil.rmtree(work)
            raise
        rows = _put(work, output)
        shutil.rmtree(work)
    told = "%s: %d answers of version %s of %s (SHA-256 %s…), %.0f s"
    log.info(told, output, rows, pinned.version, pinned.model, pinned.sha256[:12], time.monotonic() - began)


def _refuse(path: Path, output: Path) -> None:
    if not path.exists():
        raise BadInput(f"{path}: not found")
    if output.suffix.lower() not in (CSV, PARQUET) or output.is_dir():
        raise BadInput(f"{output}: no place for the answers (expected a file that ends in {CSV} or {PARQUET})")
    if not output.parent.is_dir():
        raise BadInput(f"{output.parent}: no such folder (make it, for {output.name})")
    if output.exists() and output.samefile(path):
        raise BadInput(f"{output}: is what is to be read (name another output)")


def _pinned(asked: str, place: Path) -> Pinned:
    """`tracking.pin` in a process of its own: a hundred megabytes of MLflow are gone before TensorFlow is there."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        try:
            return pool.submit(tracking.pin, asked, place).result()
        except BrokenProcessPool:
            raise EnvironmentFailed(f"{asked}: what asks MLflow for it was killed (is there memory enough?)") from None


def _stamps(source: Source) -> list[tuple[int, int] | None]:
    """By which a file that is written to while it is read is found."""
    stats = (path.stat() if path.exists() else None for path in source.paths)
    return [stat and (stat.st_size, stat.st_mtime_ns) for stat in stats]


@contextmanager
def _alone(output: Path) -> Iterator[Path]:
    """The folder of what is done of `output`; raises EnvironmentFailed where another process is at it."""
    work = output.with_name(f".{output.name}.begun")
    lock = FileLock(work / "lock")
    while not lock.is_locked:
        work.mkdir(exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except FileNotFoundError:  # another one has just put its output there, and has removed the folder
            continue
        except Timeout:
            raise EnvironmentFailed(f"{output}: another process writes it (wait for its end)") from None
    try:
        yield work
    finally:
        lock.release()


def _done(work: Path, about: Mapping[str, str], output: Path) -> int:
    """How many parts are done of the same work; what was begun of another goes, and a line says why."""
    begun = work / "begun.json"
    before = files.read_json(begun) if begun.is_file() else about
    if other := [key for key in about if before.get(key) != about[key]]:
        told = "; ".join(f"its {key} was {before.get(key):.60}, is {about[key]:.60}" for key in other)
        log.warning("%s: what was begun of it is dropped: %s", output, told)
        for part in work.glob("*.parquet"):
            part.unlink()
    files.write_json(begun, about)
    return len(_parts(work))


def _part(work: Path, number: int) -> Path:
    return work / f"{number}.parquet"


def _parts(work: Path) -> list[Path]:
    """The files of the parts that are done, in order."""
    return list(takewhile(Path.is_file, (_part(work, number) for number in count())))


def _answer(champion: Champion, source: Source, output: Path, work: Path, done: int) -> None:
    """Write the file of each part after the first `done`."""
    from pyarrow import parquet
    from tqdm import tqdm

    reached, told = sum(parquet.read_metadata(part).num_rows for part in _parts(work)), time.monotonic()
    if done:
        log.info("%s: goes on after %s rows that were answered", output, f"{reached:,}")
    questions = (_windows if isinstance(champion.spec, Series) else _rows)(champion, source, done)
    with tqdm(
        desc=output.name, total=source.count, initial=reached, unit=" rows", unit_scale=True, disable=None
    ) as bar:
        for number, (read, raw, names, kept) in enumerate(questions, done):
            table = _table(champion, source, raw, names, kept)
            if output.suffix.lower() == CSV:
                _refuse_shapes(table.schema, source.path)
            with files.replacing(_part(work, number)) as draft:
                parquet.write_table(table, draft)
            reached += read
            bar.update(read)
            if bar.disable and time.monotonic() - told > EVERY:
                told = time.monotonic()
                log.info("%s: %s of %s rows", output, f"{reached:,}", f"{source.count:,}")


def _rows(champion: Champion, source: Source, done: int) -> Iterator[Question]:
    """Each part after the first `done`."""
    for rows, kept in source.parts(done):
        try:
            raw, names = champion.decode(rows)
        except BadInput as error:
            raise source.placed(error) from None
        yield len(rows), raw, names, kept


def _windows(champion: Champion, source: Source, done: int) -> Iterator[Question]:
    """Of a series: the windows that end in each part, of which some begin in the part before."""
    spec: Any = champion.spec
    before: list[pd.DataFrame] = []
    answered, found, lacks = pd.Index([]), 0, BadInput(f"{source.path}: no row is of the series {dict(spec.where)}")
    for number, (part, _) in enumerate(source.parts(0)):
        rows = part
        for column, value in spec.where.items():
            rows = rows[rows[column].astype(str) == value] if column in rows else rows
        raw: Mapping[str, Array] = {}
        names, new = pd.Index([]), np.zeros(0, bool)
        if len(rows):
            rows = pd.concat([*before, rows])
            before = [rows[-max(spec.window + spec.fill - 1, LEAST) :]]
            try:
                raw, names = champion.decode(rows)
            except NoWindow as error:
                lacks = source.placed(error)
            except BadInput as error:
                raise source.placed(error) from None
            new = ~names.isin(answered)
            answered = names
        found += len(names[new])
        if number >= done:
            yield len(part), {name: values[new] for name, values in raw.items()}, names[new], {}
    if not found:
        raise lacks


def _table(
    champion: Champion, source: Source, raw: Mapping[str, Array], names: pd.Index, kept: "Mapping[str, pa.Array]"
) -> "pa.Table":
    """What the output says of a part."""
    import pyarrow as pa

    if not len(names):
        return pa.table({})
    answer = champion.answers(raw)
    try:
        champion.named(answer, names)
    except BadInput as error:  # no finite answer
        raise source.placed(error) from None
    found = named_answers(champion.objective, champion.about["classes"], answer)
    if twice := kept.keys() & {EXAMPLE, *found}:
        raise BadInput(f"{source.path}: column `{twice.pop()}` cannot be kept: one of the answers is called so")
    columns = {EXAMPLE: pa.array(names.tolist()), **kept}
    return pa.table(columns | {name: pa.array(values) for name, values in found.items()})


def _put(work: Path, output: Path) -> int:
    """All parts as one file, which is put in its place once it is whole; gives how many rows it has."""
    from pyarrow import csv, parquet

    parts = [part for part in _parts(work) if parquet.read_metadata(part).num_rows]
    schema, whole = parquet.read_schema(parts[0]), work / "whole"
    with files.replacing(whole) as draft:
        if output.suffix.lower() == CSV:
            safe = _safe(schema.empty_table()).schema
            with csv.CSVWriter(draft, safe, write_options=csv.WriteOptions(quoting_style="needed")) as writer:
                for part in parts:
                    writer.write_table(_safe(parquet.read_table(part)))
        else:
            with parquet.ParquetWriter(draft, schema) as writer:
                for part in parts:
                    writer.write_table(parquet.read_table(part))
    whole.replace(output)  # not by `replacing`, whose own draft beside it a death would leave
    files.sync_folder(output.parent)
    return sum(parquet.read_metadata(part).num_rows for part in parts)


def _refuse_shapes(schema: "pa.Schema", path: Path) -> None:
    """Raises BadInput for a column that has no place in a CSV: bytes too, in which no formula would be seen."""
    import pyarrow as pa
    from pyarrow import csv, types

    binary = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    for name, field in zip(schema.names, _safe(schema.empty_table()).schema, strict=True):
        try:
            if any(of(field.type) for of in binary):
                raise pa.ArrowTypeError
            csv.CSVWriter(io.BytesIO(), pa.schema([field])).close()
        except pa.ArrowException:
            raise BadInput(f"{path}: column `{name}`: {field.type} has no place in a CSV (write {PARQUET})") from None


def _safe(table: "pa.Table") -> "pa.Table":
    """Texts that a spreadsheet would run with an apostrophe before them, but for numbers; of whatever type they are."""
    import pyarrow as pa
    from pyarrow import compute

    def plain(column: Any) -> Any:
        values = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        text = any(of(values.type) for of in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))
        return values.cast(pa.string()) if text else values

    def safe(texts: Any) -> Any:
        if not pa.types.is_string(texts.type):
            return texts
        runs = compute.and_not(
            compute.match_substring_regex(texts, FORMULA), compute.match_substring_regex(texts, NUMBER)
        )
        return compute.if_else(runs, compute.binary_join_element_wise("'", texts, ""), texts)

    columns = [safe(plain(column)) for column in table.columns]
    return pa.table(columns, names=safe(pa.array(table.column_names)).to_pylist())
