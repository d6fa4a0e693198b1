"""Arrays on the disk: written part by part and read row by row, so that memory stays flat however large they are."""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

RESIDENT = 2**25
"""Bytes that may lie in memory as a whole: of what is larger, only the rows in use do."""


class Rows(Protocol):
    """What an array is to training: a length and a look-up; windows of a series are cut when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Like an array's."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Like an array's."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Array: ...


class Stored:
    """A `.npy` file whose rows are read when they are asked for.

    It is mapped anew from time to time: pages that stay mapped are memory of the process, in the end as much as the
    file has. Not each time, as the rows of a few batches lie on the same pages.
    """

    def __init__(self, path: Path, columns: slice | None = None) -> None:
        """`columns` are those of an array `[n, columns]` that are wanted, by default all of what there is."""
        self.path, self.columns = path, columns
        self._rows = self._mapped()
        self._given = 0
        self.shape, self.dtype = self._rows.shape, self._rows.dtype

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, index: Any) -> Array:
        if self._given > RESIDENT // 2:
            self._rows, self._given = self._mapped(), 0
        found = self._rows[index]
        self._given += found.nbytes
        return np.array(found) if found.base is not None else found

    def _mapped(self) -> Array:
        mapped: Array = np.asarray(np.load(self.path, mmap_mode="r"))
        return mapped if self.columns is None else mapped[:, self.columns]


def write(path: Path, parts: Iterable[Array]) -> Stored:
    """Write a `.npy` file of at least one part `[any, ...]`, one after the other; the bytes are those of `np.save`."""
    count = 0
    with path.open("wb") as file:
        for part in parts:
            if not file.tell():
                _head(file, part, 0)
            file.write(np.ascontiguousarray(part).data)
            count += len(part)
        file.seek(0)
        _head(file, part, count)  # as long as the first one: NumPy leaves room for a count that grows
    return Stored(path)


def held(path: Path, count: int, parts: Iterable[Array]) -> Rows:
    """Parts of `count` rows in all as one array: in memory where that is small enough, else in a `.npy` file."""
    parts = iter(parts)
    first = next(parts)
    every = chain([first], parts)
    return np.concatenate([*every]) if row_bytes(first) * count <= RESIDENT else write(path, every)


def row_bytes(*arrays: Any) -> int:
    """The bytes of a row of each of these together."""
    return sum(math.prod(array.shape[1:]) * array.dtype.itemsize for array in arrays)


def resident(*arrays: Any) -> bool:
    """Whether arrays of as many rows are small enough to lie in memory."""
    return row_bytes(*arrays) * len(arrays[0]) <= RESIDENT


def in_parts(rows: Any, size: int = 2**14) -> Iterator[Any]:
    """Rows of an array or a table in their order, `size` of them together."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


def moments(parts: Callable[[], Iterable[Array]]) -> tuple[Array, Array, Array]:
    """Mean, variance and count of each column of parts `[any, columns]`, without what is NaN: float64 `[columns]`."""

    def total(of: Callable[[Array], Array]) -> Array:
        return np.sum([of(np.asarray(part, np.float64)) for part in parts()], axis=0)

    count = total(lambda part: (~np.isnan(part)).sum(axis=0))
    known = np.maximum(count, 1)
    mean = total(lambda part: np.nansum(part, axis=0)) / known
    return mean, total(lambda part: np.nansum((part - mean) ** 2, axis=0)) / known, count


def _head(file: BinaryIO, part: Array, count: int) -> None:
    layout = {"descr": np.lib.format.dtype_to_descr(part.dtype), "fortran_order": False}
    np.lib.format.write_array_header_1_0(file, {**layout, "shape": (count, *part.shape[1:])})
