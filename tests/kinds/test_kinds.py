from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trainyard import kinds, params
from trainyard.kinds import images, series, tables


@pytest.mark.parametrize(
    ("labels", "objective", "positive", "names"),
    [
        (["b", "a", "b"], "binary", None, ["a", "b"]),
        (["b", "a", "b"], "binary", "a", ["b", "a"]),
        (["10", "9", "1"], "multiclass", None, ["1", "9", "10"]),  # by value, not by letter
        (["1.5", "-2", "01", "1"], "multiclass", None, ["-2", "01", "1", "1.5"]),
        (["b", "2", "nan", "10", ""], "multiclass", None, ["2", "10", "", "b", "nan"]),
        (["0", "1"], "binary", "0", ["1", "0"]),
    ],
)
def test_classes_are_numbered_by_value_then_by_name_and_positive_is_last(labels, objective, positive, names):
    assert kinds.class_names("data.csv", pd.Series(labels), objective, positive) == names
    numbers = kinds.class_numbers(labels, names)
    assert numbers.dtype == np.int32
    assert [names[number] for number in numbers] == labels


@pytest.mark.parametrize(
    ("labels", "objective", "positive", "told"),
    [
        (["a", "a"], "binary", None, "data.csv: one class only, `a` (a classifier takes two or more)"),
        (["a", "a"], "multiclass", None, "data.csv: one class only, `a` (a classifier takes two or more)"),
        (
            ["a", "b", "c"],
            "binary",
            None,
            "data.csv: 3 classes (objective binary takes two; `objective: multiclass` takes m",
        ),
        (["ill", "well"], "binary", "il", "data.csv: no class `il`, named by `positive`; did you mean `ill`?"),
    ],
)
def test_classes_that_do_not_fit_are_refused(refusal, labels, objective, positive, told):
    assert refusal(lambda: kinds.class_names("data.csv", pd.Series(labels), objective, positive)).startswith(told)


@pytest.mark.parametrize("kind", [tables, images, series])
def test_every_kind_offers_what_a_kind_is_asked_for(kind):
    asked = {name for name in vars(kinds.Kind) if not name.startswith("_")}
    assert {name for name in asked if callable(getattr(kind, name, None))} == asked


@pytest.mark.parametrize("spec", [params.Tables, params.Images, params.Series])
def test_every_block_of_data_names_its_kind(spec):
    name = spec.model_fields["kind"].annotation.__args__[0]
    assert kinds.of(spec.model_construct(kind=name)).__name__ == f"trainyard.kinds.{name}"


def test_what_was_not_prepared_is_told_with_what_to_do(here, refusal):
    spec = params.Tables(kind="tables", objective="binary", path="a.csv", target="ill")
    assert refusal(lambda: kinds.open_prepared("a", spec)) == (
        "build/a/facts.json: not found (run `dvc repro`, or the stage that writes it, first)"
    )


@pytest.fixture
def trees():
    rows = pd.DataFrame({"label": ["a", "b"], "group": ["x", "x"]}, index=pd.Index(["2", "3"], name="example"))
    raw = {"column sex": np.array([["f"], [""]]), "column age/years": np.array([[1.5], [np.nan]], np.float32)}
    examples = kinds.Examples(raw, np.array([0, 1]), rows)
    spec = params.Tables(kind="tables", path="t.csv", target="y", objective="binary")
    return kinds.Prepared("trees", spec, {}, examples, examples, examples, Path("build/trees"))


def test_figures_are_told_apart_by_what_is_kept_and_by_inputs_of_tables(trees):
    found = kinds.told_apart(trees, ["group", "sex", "age/years"])
    assert found.to_dict("list") == {"group": ["x", "x"], "sex": ["f", "not known"], "age/years": ["1.5", "not known"]}
    assert found.index.equals(trees.test.rows.index)
    assert kinds.told_apart(trees, []).shape == (2, 0)


def test_a_category_that_is_called_nan_is_known(trees):
    trees.test.raw["column sex"] = np.array([["nan"], [""]])
    assert kinds.told_apart(trees, ["sex"])["sex"].tolist() == ["nan", "not known"]


def test_a_column_that_is_not_there_or_has_too_many_values_is_refused(trees, refusal, monkeypatch):
    told = "params.yaml: slices: the test rows of `trees` have no column `lable`; did you mean `label`?"
    assert refusal(lambda: kinds.told_apart(trees, ["lable"])) == told
    monkeypatch.setattr(kinds, "MOST_SLICES", 1)
    told = "params.yaml: slices: `sex` has 2 values in the test rows of `trees` (at most 1 can be told)"
    assert refusal(lambda: kinds.told_apart(trees, ["group", "sex"])) == told
