"""Files that are whole or not there: written beside their place, synced, renamed; and the hashes that prove them."""

import ctypes
import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from trainyard.errors import BadInput, EnvironmentFailed

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


Shape = TypeVar("Shape")
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""How systems say that there is no room: on the disk, for this user, in a file."""


class NoRoom(EnvironmentFailed):
    """There is no room for what was to be written; what was there before is whole."""


def reached(point: str, target: Path) -> None:
    """Called at each point of a replacement; tests put in its place what dies or fails there."""


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Gives a sibling temporary path to write a file or a folder to; on success it takes the place of `target`.

    On an exception nothing is left and `target` stays as it was. Raises NoRoom where the disk is full.
    """
    new = [folder for folder in target.parents if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    # a sibling: a rename across file systems is no rename
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    draft = scratch / target.name
    try:
        reached("begun", target)
        yield draft
        reached("written", target)
        _sync(draft)
        reached("synced", target)
        _put(draft, target)
        reached("renamed", target)
        sync_folder(target.parent)
    except (OSError, NoRoom) as error:
        if isinstance(error, OSError) and not _full(error, scratch):
            raise
        written = sum(file.stat().st_size for file in scratch.rglob("*") if file.is_file()) / 1e6
        free = shutil.disk_usage(scratch).free / 1e6
        told = f"no room for {target.name}: more than {written:.1f} MB are needed, {free:.1f} MB are free"
        raise NoRoom(f"{target.parent}: {told} (make room, and run it again)") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        with suppress(OSError):  # they hold something, as they should
            for folder in new:
                folder.rmdir()


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Like `replacing`, with the folder made already."""
    with replacing(target) as draft:
        draft.mkdir()
        yield draft


def write_bytes(path: Path, *parts: "ReadableBuffer") -> None:
    """Write a file of these bytes, one part after the other."""
    with replacing(path) as draft, draft.open("wb") as file:
        file.writelines(parts)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with Unix line ends."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write JSON that is the same bytes for the same value; NaN and infinity are refused with `ValueError`."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file that an earlier stage wrote."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path}: not found (run `dvc repro`, or the stage that writes it, first)") from None
    except ValueError as error:
        raise BadInput(f"{path}: no valid JSON: {error} (run the stage that writes it again)") from None


def read_as(shape: type[Shape], path: Path) -> Shape:
    """Read a JSON file that an earlier stage wrote of a dataclass; raises BadInput where it tells of none."""
    try:
        return TypeAdapter(shape).validate_python(read_json(path))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = "".join(f"{part}: " for part in fault["loc"])
        raise BadInput(f"{path}: {where}{fault['msg'].lower()} (run the stage that writes it again)") from None


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame with its index; nine significant digits bring every float32 back exactly."""
    with replacing(path) as draft:
        frame.to_csv(draft, float_format="%.9g", lineterminator="\n")


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(paths: Iterable[Path], base: Path = Path()) -> str:
    """One SHA-256 over the names (relative to `base`) and the contents of files and of all files in folders."""
    total = hashlib.sha256()
    for path in sorted(paths):
        for file in sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]:
            total.update(f"{file.relative_to(base).as_posix()}\0{sha256(file)}\n".encode())
    return total.hexdigest()


def _put(draft: Path, target: Path) -> None:
    """Rename a draft; a folder that is there changes places with it, so that at no moment there is none."""
    if target.is_dir() and not target.is_symlink():
        if _swapped(draft, target):
            return
        target.rename(draft.with_name("old"))
    draft.replace(target)


def _swapped(one: Path, other: Path) -> bool:
    """Whether two paths have changed places in one step, as Linux does it on most file systems."""
    exchange = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return exchange is not None and exchange(here, os.fsencode(one), here, os.fsencode(other), swap) == 0


def _full(error: OSError, folder: Path) -> bool:
    # NumPy says of a short write no more than how short it was
    return error.errno in FULL or (error.errno is None and shutil.disk_usage(folder).free < 2**20)


def _sync(path: Path) -> None:
    for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
        if file.is_dir():
            sync_folder(file)
        else:
            with file.open("rb") as opened:
                os.fsync(opened.fileno())


def sync_folder(path: Path) -> None:
    """Make renames in a folder outlive the machine."""
    if os.name == "posix":  # elsewhere a folder cannot be opened, and the rename itself is durable
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
