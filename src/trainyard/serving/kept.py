"""Requests that are kept, so that `trainyard drift DATASET NEW_DATA` can hold them against what was trained on.

`.trainyard/requests/MODEL` is NEW_DATA of images and recordings, whose files are named by their hash; of other kinds it
is rows.csv in there, with the columns that the model sees. Whether an example is kept its hash decides, so that the
same one is kept once or never; of a series all rows are kept, as one with gaps is none.
"""

import json
import time
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from trainyard import files
from trainyard.kinds import speech
from trainyard.params import Dataset, Keep, Series
from trainyard.serving.question import FILES

FOLDER = Path(".trainyard/requests")
EVERY = 10.0
"""Seconds between two writings."""
SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"fLaC": ".flac", b"OggS": ".ogg", b"RIFF": ".wav"}
"""By how files begin."""
ROWS = "rows.csv"


class Kept:
    """The requests of one model; what an earlier server kept is gone on with."""

    def __init__(self, model: str, spec: Dataset, keep: Keep) -> None:
        self.spec, self.keep, self.folder = spec, keep, FOLDER / model
        self.group = getattr(spec, "group", None)
        self._new: dict[str, Mapping[str, Any]] = {}
        self._written = 0.0

    def take(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Keep some of the raw rows that were answered."""
        for row in rows:
            name = self._hash(row)
            if isinstance(self.spec, Series) or int(name[:8], 16) < self.keep.share * 2**32:
                self._new[name] = row

    def write(self, *, now: bool = False) -> None:
        """Write what is new, each file whole or not at all, if the last time is long ago."""
        if not self._new or not (now or time.monotonic() - self._written > EVERY):
            return
        new, self._new, self._written = self._new, {}, time.monotonic()
        if type(self.spec) in FILES:
            self._write_files({name: row[FILES[type(self.spec)][0]] for name, row in new.items()})
        else:
            self._write_rows(pd.DataFrame.from_dict(new, orient="index"))

    def _hash(self, row: Mapping[str, Any]) -> str:
        content = row.get("image") or row.get("recording")
        if isinstance(self.spec, Series):
            content = str(row[self.spec.time]).encode()
        elif not isinstance(content, bytes):
            content = json.dumps(row, sort_keys=True, default=str).encode()
        return sha256(content).hexdigest()

    def _write_rows(self, new: pd.DataFrame) -> None:
        path = self.folder / ROWS
        if self.group:
            new[self.group] = new.index  # each its own
        mark = getattr(self.spec, "delimiter", ",")
        if path.is_file():
            old = pd.read_csv(path, sep=mark, index_col="request", dtype=str, keep_default_na=False)
            new = pd.concat([old.drop(new.index, errors="ignore"), new.astype(object)])
        if isinstance(self.spec, Series):
            new = new.sort_values(self.spec.time)
        most, text = self.keep.megabytes * 1e6, ""
        while len(text := new.to_csv(sep=mark, index_label="request", lineterminator="\n")) > most and len(new):
            new = new.iloc[-int(len(new) * min(most / len(text), 0.9)) :] if len(new) > 1 else new.iloc[:0]
        files.write_text(path, text)

    def _write_files(self, new: Mapping[str, bytes]) -> None:
        for name, content in new.items():
            suffix = next((suffix for begin, suffix in SUFFIXES.items() if content.startswith(begin)), "")
            files.write_bytes(self.folder / f"{name}{suffix}", content)
        there = sorted(self.folder.glob("[0-9a-f]*.*"), key=lambda path: path.stat().st_mtime_ns)
        size = sum(path.stat().st_size for path in there)
        gone = []
        while there and size > self.keep.megabytes * 1e6:
            gone.append(there.pop(0))
            size -= gone[-1].stat().st_size
        if FILES[type(self.spec)][0] == "recording":
            table = pd.DataFrame({"file": [path.name for path in there]})
            if self.group:
                table[self.group] = [path.stem for path in there]
            files.write_text(self.folder / speech.TRANSCRIPTS, table.to_csv(index=False, lineterminator="\n"))
        for path in gone:
            path.unlink()
