"""Arrays on the disk: the bytes of NumPy's own files, the rows of NumPy's own look-ups, and flat memory."""

import subprocess
import sys

import numpy as np
import pytest
from yard import APART

from trainyard import arrays


@pytest.mark.parametrize(
    "array",
    [
        np.arange(60, dtype=np.float32).reshape(20, 3),
        np.arange(20, dtype=np.int64),
        np.array(["a", "bcd"] * 10)[:, None],
        np.zeros((20, 0), np.float32),
        np.arange(160, dtype=np.uint8).reshape(20, 2, 4)[:, ::-1],
    ],
    ids=["table", "numbers", "text", "no columns", "turned round"],
)
def test_what_is_written_part_by_part_is_what_numpy_saves(tmp_path, array):
    stored = arrays.write(tmp_path / "ours.npy", arrays.in_parts(array, 7))
    np.save(tmp_path / "numpy.npy", np.ascontiguousarray(array))
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()
    assert (len(stored), stored.shape, stored.dtype) == (20, array.shape, array.dtype)
    for index in (3, slice(5, 9), slice(None), np.array([7, 0, 7]), np.arange(20) % 2 == 0, np.array([], int)):
        np.testing.assert_array_equal(stored[index], array[index])


def test_a_column_is_stored_within_the_others(tmp_path):
    table = np.arange(60, dtype=np.float32).reshape(20, 3)
    arrays.write(tmp_path / "table.npy", [table])
    column = arrays.Stored(tmp_path / "table.npy", slice(1, 2))
    assert column.shape == (20, 1)
    np.testing.assert_array_equal(column[np.array([4, 2])], table[[4, 2], 1:2])


@pytest.mark.parametrize("room", [10_000, 100])
def test_what_memory_does_not_hold_lies_in_a_file(tmp_path, monkeypatch, room):
    monkeypatch.setattr(arrays, "RESIDENT", room)
    array = np.arange(600, dtype=np.float32).reshape(200, 3)
    held = arrays.held(tmp_path / "held.npy", 200, arrays.in_parts(array, 64))
    assert isinstance(held, np.ndarray) == (room == 10_000) == arrays.resident(array)
    assert (tmp_path / "held.npy").exists() == (room == 100)
    np.testing.assert_array_equal(held[:], array)


def test_moments_are_numpys_without_what_is_missing():
    table = np.random.default_rng(0).normal(50, 3, size=(1000, 4)).astype(np.float32)
    table[::7, 1], table[:, 3] = np.nan, np.nan
    mean, variance, count = arrays.moments(lambda: arrays.in_parts(table, 64))
    exact = table[:, :3].astype(np.float64)
    np.testing.assert_allclose(mean[:3], np.nanmean(exact, axis=0), rtol=1e-12)
    np.testing.assert_allclose(variance[:3], np.nanvar(exact, axis=0), rtol=1e-12)
    assert count.tolist() == [1000, 857, 1000, 0]
    assert (mean[3], variance[3]) == (0, 0)


def test_rows_that_were_read_take_no_memory(tmp_path):
    """The peak of all pages of a process, mapped ones among them, while it writes and reads 256 MiB."""
    script = """
import resource, sys
from pathlib import Path
import numpy as np
from trainyard import arrays
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
stored = arrays.write(Path(sys.argv[1]), (np.full((2**18, 16), i, np.float32) for i in range(16)))
for part in arrays.in_parts(stored):
    part.sum()
for start in range(0, len(stored), 2**19):  # as an epoch does, pool after pool
    for rows in np.split(start + np.random.default_rng(0).permutation(2**19), 32):
        stored[rows]
print(len(stored), peak() - before)
"""
    command = [*APART, sys.executable, "-c", script, str(tmp_path / "a.npy")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    rows, grown = map(int, told)
    assert rows == 2**22
    assert grown < 96 * 1024  # KiB
