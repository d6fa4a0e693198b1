"""Requests that are kept, so that `trainyard drift DATASET NEW_DATA` can hold them against what was trained on.

`.trainyard/requests/MODEL` is NEW_DATA of images and recordings, whose files are named by their hash; of other kinds it
is rows.csv in there, written as the dataset's own, with the columns that the model sees. Whether an example is kept its
hash decides, so that the same one is kept once or never; of a series all rows are kept, as one with gaps is none. What
a model answers and `drift` would refuse (an empty text, say) is not kept: one such row would cost all the others.
"""

import csv
import io
import logging
import re
import shutil
import threading
import time
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pandas.tseries.frequencies import to_offset

from trainyard import files
from trainyard.errors import TrainyardError
from trainyard.kinds import delimited, speech, text
from trainyard.params import Dataset, Keep, Series, Speech, Text
from trainyard.serving.question import FILES

FOLDER = Path(".trainyard/requests")
EVERY = 10.0
"""Seconds between two writings."""
MOST = 2**18
"""Examples of a model, whatever they take."""
PENDING = 2**24
"""Bytes that wait to be written: what comes meanwhile is not kept."""
SUFFIXES = {"WAV": ".wav", "WAVEX": ".wav", "FLAC": ".flac", "OGG": ".ogg"}
"""By format, as libsndfile calls it."""
NAMED = re.compile(r"[0-9a-f]{64}(\.\w+)?")
ROWS, BEFORE = "rows.csv", "rows-before.csv"

Row = Mapping[str, Any]

log = logging.getLogger(__name__)


class Kept:
    """The requests of one model; what an earlier server kept is gone on with.

    Nothing here raises: where requests cannot be kept, a line of the log says so, and answers go on.
    """

    def __init__(self, model: str, spec: Dataset, keep: Keep) -> None:
        self.model, self.spec, self.keep, self.folder = model, spec, keep, FOLDER / model
        self.group: str | None = getattr(spec, "group", None)
        self.most = round(keep.megabytes * 1e6)
        self._there: dict[str, int] = {}
        self._new: dict[str, bytes] = {}
        self._pending, self._written, self._begun = 0, 0.0, False
        self._writer = threading.Thread(target=self._write, args=({},))
        self._writer.start()
        self._writer.join()

    def take(self, rows: Sequence[Row]) -> None:
        """Keep some of the raw rows that were answered."""
        try:
            self._take(rows)
        except Exception as error:  # noqa: BLE001  # an answer that is there is given
            self._tell(error)

    def write(self, *, now: bool = False) -> None:
        """Begin to write what is new, beside the answers, if the last time is long ago; `now` waits for its end."""
        if now:
            self._writer.join()
        if self._new and not self._writer.is_alive() and (now or time.monotonic() - self._written > EVERY):
            new, self._new, self._pending, self._written = self._new, {}, 0, time.monotonic()
            self._writer = threading.Thread(target=self._write, args=(new,))
            self._writer.start()
        if now:
            self._writer.join()

    def _take(self, rows: Sequence[Row]) -> None:
        for row in rows:
            name, content = self._entry(row)
            chosen = content and int(name[:8], 16) < self.keep.share * 2**32
            if chosen and name not in self._there and self._pending + len(content) <= PENDING:
                self._pending += len(content) if name not in self._new else 0
                self._new[name] = content

    def _write(self, new: Mapping[str, bytes]) -> None:
        try:
            if not self._begun:
                self._begin()
                self._begun = True
            if new:
                self._put(new)
        except Exception as error:  # noqa: BLE001  # as above
            self._begun = False  # what is there now is seen the next time
            self._tell(error)

    def _tell(self, error: Exception) -> None:
        told = error if isinstance(error, TrainyardError | OSError) else type(error).__name__  # no word of a request
        log.error("%s: requests are not kept: %s", self.model, told)

    def _entry(self, row: Row) -> tuple[str, bytes]:
        """A name in hexadecimal, by the contents, and what is written; nothing of what `drift` would refuse."""
        raise NotImplementedError

    def _begin(self) -> None:
        """See what is there, and bring it in order."""
        raise NotImplementedError

    def _put(self, new: Mapping[str, bytes]) -> None:
        """Write what is new; the oldest gives way."""
        raise NotImplementedError


class Files(Kept):
    """Images or recordings."""

    def __init__(self, model: str, spec: Dataset, keep: Keep, example: Sequence[Row]) -> None:
        (self.column, _) = FILES[type(spec)]
        self.usual: list[Any] | None = None
        if isinstance(spec, Speech) and not spec.mixed:  # then all recordings are as the example is
            self.usual = _sound(b64decode(example[0][self.column]))[1:]
        super().__init__(model, spec, keep)

    def _entry(self, row: Row) -> tuple[str, bytes]:
        content: bytes = row[self.column]
        if self.column == "image":
            suffix = ".png" if content.startswith(b"\x89PNG") else ".jpg"
        else:
            suffix, *shape = _sound(content)
            if self.usual is not None and shape != self.usual:
                content = b""
        return sha256(content).hexdigest() + suffix, content

    def _begin(self) -> None:
        for path in self.folder.glob(".*"):  # what a death left half written
            shutil.rmtree(path, ignore_errors=True)
        if self.folder.is_dir():
            self._put({})

    def _put(self, new: Mapping[str, bytes]) -> None:
        for name, content in new.items():
            files.write_bytes(self.folder / name, content)
        stats = {path: path.stat() for path in self.folder.glob("[0-9a-f]*")}  # of a server before a reload, too
        named = sorted((path for path in stats if NAMED.fullmatch(path.name)), key=lambda path: stats[path].st_mtime_ns)
        there = {path.name: stats[path].st_size for path in named if path.suffix}
        gone, size = [path for path in named if not path.suffix], sum(there.values())
        while there and (size > self.most or len(there) > MOST):
            gone.append(self.folder / next(iter(there)))
            size -= there.pop(gone[-1].name)
        self._there = there
        self._list()
        for path in gone:
            path.unlink(missing_ok=True)

    def _list(self) -> None:
        """Each recording stands in transcripts.csv, in a group of its own."""
        if self.column == "recording":
            table = pd.DataFrame({"file": list(self._there)})
            if self.group:
                table[self.group] = [name[:64] for name in self._there]
            files.write_text(self.folder / speech.TRANSCRIPTS, table.to_csv(index=False, lineterminator="\n"))


class Rows(Kept):
    """Rows of a table, or texts: lines are added to the file, and where it is full its older half goes."""

    def __init__(self, model: str, spec: Dataset, keep: Keep, columns: Sequence[str]) -> None:
        named: Sequence[str] | None = getattr(spec, "names", None)
        group = getattr(spec, "group", None)
        self.columns = named or [*columns, *([group] if group else [])]
        self.seen = set(columns)
        self.mark: str = getattr(spec, "delimiter")  # noqa: B009  # of kinds that are a CSV file
        self.quoting: bool = getattr(spec, "quoting", True)
        self.missing: Sequence[str] = getattr(spec, "missing", [""])
        self.header = b"" if named else self._line(self.columns)
        super().__init__(model, spec, keep)

    @property
    def path(self) -> Path:
        """Where they are."""
        return self.folder / ROWS

    def _entry(self, row: Row) -> tuple[str, bytes]:
        cells = {column: self._cell(row[column]) for column in self.columns if column in self.seen}
        if any(cell is None or not self._is_read(column, cell) for column, cell in cells.items()):
            return "0" * 8, b""
        name = sha256(repr(cells).encode()).hexdigest()[:16]
        unknown = next(iter(self.missing), "")
        more = {column: name if column == self.group else unknown for column in self.columns}
        line = self._line([str((more | cells)[column]) for column in self.columns])
        return name, line if len(line) < delimited.LONGEST and not line.startswith(tuple(delimited.NO_TEXT)) else b""

    def _cell(self, value: Any) -> str | None:
        """As text; None for a missing one, where params name no mark for it."""
        if value is None or value != value:  # noqa: PLR0124  # NaN
            return next(iter(self.missing), None)
        return str(value)

    def _is_read(self, column: str, cell: str) -> bool:
        """Whether `delimited`, and of a text its kind, takes a cell."""
        if "\0" in cell or (not self.quoting and re.search(f"[\r\n{re.escape(self.mark)}]", cell)):
            return False
        if not isinstance(self.spec, Text) or column != self.spec.text:
            return True
        strange = text.CONTROL.search(cell) or text.BIDIRECTIONAL.search(cell)
        return not strange and bool(text.INVISIBLE.sub("", cell).split())

    def _line(self, cells: Iterable[str]) -> bytes:
        if self.quoting:
            cells = ('"' + cell.replace('"', '""') + '"' for cell in cells)
        return (self.mark.join(cells) + "\n").encode()

    def _lines(self) -> tuple[list[list[str]], list[bytes]]:
        """Cells and bytes of what is there; what is not as it was written here, or half written, is laid aside."""
        if not self.path.is_file():
            return [], []
        content, place = self.path.read_bytes(), len(self.header)
        rows, found = [], []
        if content.startswith(self.header):
            rest = io.StringIO(content[place:].decode(errors="replace"), newline="")
            how: Literal[0, 3] = csv.QUOTE_MINIMAL if self.quoting else csv.QUOTE_NONE
            try:
                for cells in csv.reader(rest, delimiter=self.mark, quoting=how, strict=True):
                    line = self._line(cells)
                    if len(cells) != len(self.columns) or not content.startswith(line, place):
                        break
                    rows.append(cells)
                    found.append(line)
                    place += len(line)
            except csv.Error:
                pass
        if place < len(content):
            self.path.replace(self.folder / BEFORE)
            if found:
                files.write_bytes(self.path, self.header, *found)
            log.error("%s: not all of it is as it was kept; it is %s now", self.path, BEFORE)
        return rows, found

    def _begin(self) -> None:
        rows, lines = self._lines()
        kept: dict[str, bytes] = {}
        for cells, line in zip(rows, lines, strict=True):
            name, found = self._entry(dict(zip(self.columns, cells, strict=True)))
            if found:
                kept.setdefault(name, line)
        if len(kept) < len(lines):
            files.write_bytes(self.path, self.header, *kept.values())
        self._there = {name: len(line) for name, line in kept.items()}

    def _put(self, new: Mapping[str, bytes]) -> None:
        before = sum(self._there.values())
        if (self.path.stat().st_size if self.path.is_file() else 0) != (before and before + len(self.header)):
            self._begin()  # somebody has removed it, or a server before a reload has written more
            before = sum(self._there.values())
        new = {name: line for name, line in new.items() if name not in self._there}  # some came while it was written
        sizes = self._there | {name: len(line) for name, line in new.items()}
        size = sum(sizes.values()) + len(self.header)
        if before and size <= self.most and len(sizes) <= MOST:
            with self.path.open("ab") as file:
                file.write(b"".join(new.values()))
            self._there = sizes
            return
        old = self.path.read_bytes()[-before:] if before else b""
        lines, start = old + b"".join(new.values()), 0
        if size > self.most or len(sizes) > MOST:
            while sizes and (size > self.most or (len(sizes) > 1 and max(size / self.most, len(sizes) / MOST) > 0.5)):
                gone = sizes.pop(next(iter(sizes)))
                size, start = size - gone, start + gone
        files.write_bytes(self.path, self.header, memoryview(lines)[start:])
        self._there = sizes


class Run(Rows):
    """Rows of a series in the order of time: later ones that do not go on from what is there take its place."""

    def __init__(self, model: str, spec: Series, keep: Keep, facts: Mapping[str, Any]) -> None:
        self.time, self.where, self.fills = spec.time, spec.where, spec.step is not None
        self.step = to_offset(facts["step"]) if facts["step"] else None
        self._run: dict[str, bytes] = {}
        self._saved = False
        super().__init__(model, spec, keep, list(dict.fromkeys([spec.time, *facts["columns"], *spec.where])))

    def _take(self, rows: Sequence[Row]) -> None:
        rows = [row for row in rows if all(str(row.get(name, told)) == told for name, told in self.where.items())]
        told = pd.Series([str(row[self.time]) for row in rows], dtype=str)
        times = pd.DatetimeIndex(pd.to_datetime(told, format="ISO8601", utc=True).dt.tz_localize(None))
        block = {}
        for at, row in zip(times, rows, strict=True):  # zones and short forms are brought to one
            name = at.isoformat()
            block[name] = self._entry({**self.where, **row, self.time: name})[1]
        if not block or not all(block.values()) or not self._is_regular(times):
            return
        if self._saved and not self.path.is_file():  # somebody has removed it
            self._run = {}
        run = self._run
        if run and not self._goes_on(times, block):
            if next(reversed(block)) <= next(reversed(run)):
                return
            run = {}
        late = next((name for name in block if name not in run), None)
        in_order = not run or late is None or late > next(reversed(run))  # to sort a long one takes long
        run = run | block if in_order else dict(sorted((run | block).items()))
        size = sum(map(len, run.values()))
        while len(run) > 1 and (size > self.most or len(run) > MOST):
            size -= len(run.pop(next(iter(run))))
        self._run = self._new = run

    def _is_regular(self, times: pd.DatetimeIndex) -> bool:
        """Whether rows have the step of those that were trained on; where gaps are filled, `decode` has seen to it."""
        if self.step is None or self.fills:
            return True
        return bool((times == pd.date_range(times[0], periods=len(times), freq=self.step)).all())

    def _goes_on(self, times: pd.DatetimeIndex, block: Mapping[str, bytes]) -> bool:
        """Whether rows share a time with those that are there, or are a step before or after them."""
        first, last = next(iter(self._run)), next(reversed(self._run))
        if self.step is None or not self._run.keys().isdisjoint(block):
            return True
        return bool(pd.Timestamp(last) + self.step == times[0] or times[-1] + self.step == pd.Timestamp(first))

    def _begin(self) -> None:
        rows, lines = self._lines()
        self._run = {cells[0]: line for cells, line in zip(rows, lines, strict=True)} | self._run

    def _put(self, new: Mapping[str, bytes]) -> None:
        files.write_bytes(self.path, self.header, *new.values())
        self._saved = True


def keeper(
    model: str, spec: Dataset, facts: Mapping[str, Any], keep: Keep, columns: Sequence[str], example: Sequence[Row]
) -> Kept:
    """Keeps requests to a model that sees these columns; `example` are raw rows of its data, as JSON has them."""
    if type(spec) in FILES:
        return Files(model, spec, keep, example)
    return Run(model, spec, keep, facts) if isinstance(spec, Series) else Rows(model, spec, keep, columns)


def _sound(content: bytes) -> list[Any]:
    """Ending, rate and channels of a recording."""
    import soundfile

    with soundfile.SoundFile(io.BytesIO(content)) as file:
        return [SUFFIXES[file.format], file.samplerate, file.channels]
