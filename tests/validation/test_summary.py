import json

import pandas as pd
import pytest

from trainyard.params import Images, Tables
from trainyard.validation import summary

SPEC = Tables(kind="tables", objective="multiclass", path="data/people.csv", target="class")


def of(**columns):
    length = max(len(values) for values in columns.values())
    columns = {"x": [float(i) for i in range(length)], "class": ["a", "b"] * (length // 2)} | columns
    return summary.of(SPEC, pd.DataFrame(columns, index=pd.Index(range(2, 2 + length), name="row")))


@pytest.mark.parametrize(
    ("columns", "remark"),
    [
        ({"y": [None] * 6}, "`y`: no value at all"),
        ({"y": [3.0] * 6}, "`y`: the same value wherever there is one"),
        ({"y": [1.0, 2.0, None, None, None, None]}, "`y`: no value in most of the rows"),
        ({"y": ["p", "q", "r", "s", "t", "u"]}, "`y`: another text in every row"),
        ({"y": [f"2024-01-0{i}" for i in range(1, 7)]}, "`y`: dates, each a category of its own; put them under `ig"),
        ({"y": ["2024-01-01T10:00", "2024-02-01 10:00", None] * 2}, "`y`: dates, each a category of its own"),
        ({"class": ["a"] * 5 + ["b"]}, "the classes are not balanced, 5 rows are `a` and 1 are `b`"),
        ({"x": [1.0, 2.0, 1.0, 2.0, 5.0, 6.0]}, "2 of 6 examples repeat an earlier one; such examples stay"),
    ],
)
def test_what_is_odd_is_told(columns, remark):
    remarks = of(**columns)["remarks"]
    assert len(remarks) == 1
    assert remarks[0].startswith(remark)


def test_ordinary_data_has_no_remarks():
    assert of(y=["p", "q"] * 3)["remarks"] == []


def test_examples_that_contradict_each_other_are_told():
    (remark,) = of(x=[1.0, 1.0, 2.0, 2.0, 3.0, 4.0], **{"class": ["a", "b", "a", "a", "b", "b"]})["remarks"]
    assert remark.endswith("such examples stay in one split, and 1 of them have more than one `class`")


def test_classes_that_are_numbers_come_in_their_order():
    labels = of(**{"class": ["10", "9", "10", "9", "2", "2"]})["labels"]
    assert labels == [["2", 2], ["9", 2], ["10", 2]]


def test_columns_are_told_by_what_they_hold():
    told = {column["name"]: column for column in of(x=[-1e308, 1e308, 0.0, 0.0], y=["p", None, "p", "q"])["columns"]}
    assert set(told) == {"x", "y"}
    assert (told["x"]["least"], told["x"]["mean"], told["x"]["greatest"]) == (-1e308, 0.0, 1e308)
    assert sum(told["x"]["histogram"]) == 4
    assert told["y"] == {"name": "y", "type": "text", "missing": 1, "distinct": 2, "values": [["p", 2]]}
    json.dumps(told, allow_nan=False)


def test_images_that_are_there_twice_are_told():
    manifest = pd.DataFrame({"label": ["a", "b", "b"], "sha256": ["1", "1", "2"]}, index=["a/1", "b/1", "b/2"])
    spec = Images(kind="images", objective="multiclass", path="data/tiles")
    told = summary.of(spec, manifest)
    assert told["labels"] == [["a", 1], ["b", 2]]
    (remark,) = told["remarks"]
    assert remark.startswith("1 of 3 examples repeat an earlier one")
    assert remark.endswith("1 of them have more than one `label`")
