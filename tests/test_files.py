from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainyard import files
from trainyard.errors import BadInput


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.is_dir() or path.read_bytes() for path in folder.rglob("*")}


def fill(path, kind, content):
    if kind == "folder":
        path.mkdir()
        path = path / "inside.txt"
    path.write_text(content)


@pytest.mark.parametrize("old", ["file", "folder", None])
@pytest.mark.parametrize("new", ["file", "folder"])
def test_a_replacement_takes_the_place_of_what_was_there(tmp_path, old, new):
    target = tmp_path / "deep" / "target"
    if old and (old, new) != ("file", "folder"):
        target.parent.mkdir()
        fill(target, old, "old")
        (tmp_path / "deep" / "neighbour").write_text("stays")
    with files.replacing(target) as draft:
        fill(draft, new, "new")
    expected = {"target": b"new"} if new == "file" else {"target": True, "target/inside.txt": b"new"}
    found = tree(target.parent)
    found.pop("neighbour", None)
    assert found == expected


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_what_was_there_and_nothing_else(tmp_path, kind, failure):
    fill(tmp_path / "target", kind, "old")
    before = tree(tmp_path)

    def write():
        with files.replacing(tmp_path / "target") as draft:
            fill(draft, kind, "half")
            raise failure

    with pytest.raises(failure):
        write()
    assert tree(tmp_path) == before


def test_an_exception_leaves_no_folders_on_the_way(tmp_path):
    def write():
        with files.replacing_folder(tmp_path / "new" / "newer" / "target"):
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        write()
    assert tree(tmp_path) == {}


def test_a_folder_does_not_take_the_place_of_a_file(tmp_path):
    (tmp_path / "target").write_text("old")
    with pytest.raises(NotADirectoryError), files.replacing_folder(tmp_path / "target"):
        pass
    assert tree(tmp_path) == {"target": b"old"}


def test_nothing_written_replaces_nothing(tmp_path):
    (tmp_path / "target").write_text("old")
    with pytest.raises(FileNotFoundError), files.replacing(tmp_path / "target"):
        pass
    assert tree(tmp_path) == {"target": b"old"}


def test_a_link_to_a_folder_is_replaced_and_the_folder_stays(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with files.replacing(tmp_path / "link") as draft:
        draft.write_text("new")
    assert tree(tmp_path) == {"real": True, "link": b"new"}
    assert not (tmp_path / "link").is_symlink()


def test_a_replaced_folder_holds_its_own_folders(tmp_path):
    with files.replacing_folder(tmp_path / "target") as draft:
        (draft / "train").mkdir()
        (draft / "train" / "a.npy").write_bytes(b"1")
    assert tree(tmp_path) == {"target": True, "target/train": True, "target/train/a.npy": b"1"}


def test_text_is_utf8_with_unix_line_ends(tmp_path):
    files.write_text(tmp_path / "a.txt", "é\nb\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa9\nb\n"


def test_json_is_the_same_bytes_for_the_same_value(tmp_path):
    files.write_json(tmp_path / "a.json", {"b": [1, 0.1], "a": "é"})
    files.write_json(tmp_path / "b.json", {"a": "é", "b": [1, 0.1]})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert files.read_json(tmp_path / "a.json") == {"a": "é", "b": [1, 0.1]}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_refuses_what_is_not_finite(tmp_path, value):
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(tmp_path / "a.json", {"loss": value})
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "a.json: not found (run `dvc repro`"), (b'{"a": 1', "a.json: no valid JSON"), (b"\xff", "no valid JSON")],
    ids=["missing", "cut", "not UTF-8"],
)
def test_json_that_cannot_be_read_is_told_in_a_line(here, content, told):
    if content is not None:
        (here / "a.json").write_bytes(content)
    with pytest.raises(BadInput) as refusal:
        files.read_json(Path("a.json"))
    assert told in str(refusal.value)
    assert "\n" not in str(refusal.value)


@given(
    st.lists(
        st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=True), min_size=1, max_size=20
    ).map(lambda values: np.array(values, np.float32))
)
def test_csv_brings_every_float32_back(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    files.write_csv(path, pd.DataFrame({"x": values}, index=pd.RangeIndex(len(values), name="row")))
    back = pd.read_csv(path, index_col="row")["x"].to_numpy(np.float64).astype(np.float32)
    assert np.array_equal(back, values)


def test_the_sha256_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert files.sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_digest_does_not_depend_on_where_or_in_which_order_files_lie(tmp_path):
    for base, names in [("one", ["b/2", "a", "b/1"]), ("two", ["a", "b/1", "b/2"])]:
        for name in names:
            path = tmp_path / base / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
    one, two = tmp_path / "one", tmp_path / "two"
    assert files.digest([one], one) == files.digest([two], two)
    assert files.digest([one / "b", one / "a"], one) == files.digest([two / "a", two / "b"], two)
    # pinned: a registered model names its data by this figure
    assert files.digest([one], one) == "399235ae755b84700cd94d664f470d71a7ebd890d97c57bb4c7aaa83ff0d528f"


CHANGES = {
    "bytes": lambda folder: (folder / "a").write_text("x"),
    "name": lambda folder: (folder / "a").rename(folder / "z"),
    "folder": lambda folder: (folder / "b" / "1").rename(folder / "1"),
    "one less": lambda folder: (folder / "b" / "1").unlink(),
    "one more": lambda folder: (folder / "b" / "2").write_text(""),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_digest_tells_every_change_of_names_and_bytes(tmp_path, change):
    (tmp_path / "b").mkdir()
    (tmp_path / "a").write_text("")
    (tmp_path / "b" / "1").write_text("1")
    before = files.digest([tmp_path], tmp_path)
    change(tmp_path)
    assert files.digest([tmp_path], tmp_path) != before
