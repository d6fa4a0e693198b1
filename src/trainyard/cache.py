"""What DVC keeps: is every byte that dvc.lock names there, in the cache and the workspace, or in a remote?

DVC (3.67) goes by names: `dvc push` ends well where the cache lacks a file, and `dvc pull` and `dvc checkout` hand out
whatever a bucket or a cache holds under a name. Here all of it is read and hashed again.
"""

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from trainyard.errors import BadInput, EnvironmentFailed

log = logging.getLogger(__name__)

READERS = 16
"""Files read at once; a remote is mostly waited for."""


@dataclass(frozen=True)
class Copy:
    """The copy of one file of an output that one place holds, or should."""

    output: str
    name: str
    """The file's path in the project; of what lists a folder's files, the folder's."""
    files: Any
    """The file system of DVC that it lies in."""
    path: str
    md5: str

    def fault(self) -> str:
        """What is wrong with it, in words; "" where nothing is."""
        from dvc_data.hashfile.hash import file_md5

        try:
            actual = file_md5(self.path, self.files)
        except FileNotFoundError:
            return "is missing"
        except Exception as error:  # noqa: BLE001  # each cloud's library has errors of its own
            return f"cannot be read ({' '.join(str(error).split())[:200]})"
        return "" if actual == self.md5 else "is damaged"


def verify(remote: str | None = None) -> None:
    """Hash again what dvc.lock and *.dvc files name: in cache and workspace, or in a remote, "" for the default one.

    Raises BadInput where there is no project of DVC or no such remote, EnvironmentFailed with a line for each output
    of which something is missing or damaged.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            made = [out for out in repo.index.outs if out.hash_info and not out.stage.is_repo_import]
            cached = [out for out in made if out.use_cache]
            if remote is None:
                _hash(
                    "the cache",
                    _stored(cached, repo.cache.local),
                    "delete {path} and {name}, then `dvc pull` or `dvc repro`",
                )
                _hash("the workspace", _laid_out(made, repo.cache.local), "delete it, then `dvc checkout`")
            else:
                place = repo.cloud.get_remote(remote or None, command="push")
                pushed = _stored([out for out in cached if out.can_push], place.odb)
                _hash(f"the remote {place.name}", pushed, "delete {path} there, then `dvc push` from where it is whole")
    except DvcException as error:
        raise BadInput(f"DVC: {' '.join(str(error).split())}") from error


def _stored(outputs: Iterable[Any], held: Any) -> Iterator[Copy]:
    """Copies that a cache or a remote, `held`, is to hold of outputs: of a folder its list, and what that names."""
    for out in outputs:
        value = out.hash_info.value
        listed = Copy(str(out), str(out), held.fs, held.oid_to_path(value), value.removesuffix(".dir"))
        yield listed
        if out.hash_info.isdir and not listed.fault():
            for name, md5 in _files(out, held):
                yield Copy(str(out), name, held.fs, held.oid_to_path(md5), md5)


def _laid_out(outputs: Iterable[Any], held: Any) -> Iterator[Copy]:
    """Copies that the workspace is to hold of outputs; what folders consist of is read from the cache, `held`.

    What DVC does not cache is git's to bring, or the next `dvc repro`'s: it need not be there.
    """
    for out in outputs:
        if out.use_cache and out.hash_info.isdir:
            for name, md5 in _files(out, held):
                yield Copy(str(out), name, out.fs, f"{out.fs_path}{name.removeprefix(str(out))}", md5)
        elif out.use_cache or out.isfile():
            yield Copy(str(out), str(out), out.fs, out.fs_path, out.hash_info.value)


def _files(out: Any, held: Any) -> Iterator[tuple[str, str]]:
    """Path and MD5 of each file of a folder."""
    from dvc_data.hashfile.tree import Tree

    for key, _, found in Tree.load(held, out.hash_info):
        yield "/".join((str(out), *key)), found.value


def _hash(place: str, copies: Iterable[Copy], mend: str) -> None:
    from dvc.ui import ui

    expected = list(copies)
    with ThreadPoolExecutor(READERS) as readers:
        found = readers.map(Copy.fault, expected)
        faults = list(ui.progress(found, total=len(expected), desc=f"Hashing what is in {place}", unit="file"))
    wrong: dict[str, list[tuple[Copy, str]]] = {}
    for copy, fault in zip(expected, faults, strict=True):
        if fault:
            wrong.setdefault(copy.output, []).append((copy, fault))
    if wrong:
        raise EnvironmentFailed(*(_told(place, those, mend) for those in wrong.values()))
    log.info("%s: %d files of %d outputs are whole", place, len(expected), len({copy.output for copy in expected}))


def _told(place: str, wrong: list[tuple[Copy, str]], mend: str) -> str:
    (first, fault), *rest = wrong
    more = f", and {len(rest)} more of `{first.output}` are not whole" if rest else ""
    return f"{first.name}: {fault} in {place}{more} ({mend.format(path=first.path, name=first.name)})"
