from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler

from trainyard import figures
from trainyard.kinds import tables
from trainyard.params import Split, Tables
from trainyard.quality import leaks

PEOPLE = Path("people.csv")
ROWS = 60


def people(path=PEOPLE, **columns):
    """A file of people: `columns` gives the text of each cell by its row, counted from 0."""
    made = {
        "age": lambda i: str(20 + i * 37 % 50 + i / 8),
        "colour": lambda i: ["red", "green", "blue"][i * 5 % 3],
        "ill": lambda i: "yes" if i % 3 == 0 else "no",
    }
    made = made | columns
    frame = pd.DataFrame({name: [made[name](i) for i in range(ROWS)] for name in made if made[name]})
    frame.to_csv(path, index=False)


def spec(**knobs):
    return Tables(**{"kind": "tables", "objective": "binary", "path": str(PEOPLE), "target": "ill"} | knobs)


def source(delimiter=","):
    """The file as anybody reads it who wants text."""
    return pd.read_csv(PEOPLE, sep=delimiter, dtype=str, keep_default_na=False)


# === What is read ===


def test_the_manifest_is_the_table_with_numbers_and_text_told_apart(here):
    people(age=lambda i: "" if i == 3 else str(i), colour=lambda i: "NA" if i == 4 else "red")
    manifest = tables.manifest(spec())
    assert list(manifest) == ["age", "colour", "ill"]
    assert list(manifest.index) == list(range(2, ROWS + 2))
    assert manifest["age"].dtype == np.float64
    assert np.isnan(manifest["age"][5])
    assert pd.isna(manifest["colour"][6])
    assert manifest["colour"][7] == "red"


@pytest.mark.parametrize(
    ("cells", "knobs", "sort"),
    [
        (str, {}, "numeric"),
        (str, {"categorical": ["x"]}, "categorical"),
        (lambda i: "" if i % 5 else str(i), {}, "numeric"),
        (lambda i: "x" if i % 2 else str(i), {"categorical": ["x"]}, "categorical"),
        (lambda i: "x" if i % 3 else str(i), {}, "categorical"),
        (lambda i: "", {}, "categorical"),
        (lambda i: "", {"numeric": ["x"]}, "numeric"),
        (lambda i: "-" if i % 5 else str(i), {"missing": ["-"]}, "numeric"),
        (lambda i: "True" if i % 2 else "False", {}, "categorical"),
        (lambda i: "x", {"ignore": ["x"]}, None),
        (lambda i: f"{i % 20}", {"group": "x"}, None),
    ],
)
def test_columns_are_told_apart_by_most_of_their_cells_or_by_params(here, cells, knobs, sort):
    people(x=cells)
    asked = spec(**knobs)
    facts = tables.facts(asked, tables.manifest(asked))
    assert {name for name in ("numeric", "categorical") if "x" in facts[name]} == ({sort} if sort else set())
    assert "ill" not in facts["numeric"] + facts["categorical"]
    assert facts["classes"] == ["no", "yes"]


def test_regression_has_no_classes(here):
    people(ill=None, weight=lambda i: str(i / 4))
    asked = spec(objective="regression", target="weight")
    manifest = tables.manifest(asked)
    assert manifest["weight"].dtype == np.float64
    assert "classes" not in tables.facts(asked, manifest)


def test_a_target_of_numbers_can_be_classes_in_their_order(here):
    people(ill=lambda i: ["10", "9", "1"][i % 3])
    asked = spec(objective="multiclass")
    assert tables.facts(asked, tables.manifest(asked))["classes"] == ["1", "9", "10"]


BAD = {
    "no such column": ({}, {"target": "il"}, "people.csv:1: no column `il` (did you mean `ill`?)"),
    "no such group": ({}, {"group": "who"}, "people.csv:1: no column `who` (it has: age, colour, ill)"),
    "no such column to ignore": ({}, {"ignore": ["ages"]}, "people.csv:1: no column `ages` (did you mean `age`?)"),
    "no such split": ({}, {"split": Split(given="part")}, "people.csv:1: no column `part` (it has: age, colour, ill)"),
    "no such number": ({}, {"numeric": ["agee"]}, "people.csv:1: no column `agee` (did you mean `age`?)"),
    "delimiter": ({}, {"delimiter": ";"}, "people.csv:1: no column `ill` (found 1 column; delimiter ','?)"),
    "a word among numbers": (
        {"age": lambda i: "old" if i in (5, 9) else str(i)},
        {},
        "people.csv:7: column `age`: 'old' is no number; 2 such cells (mend it, list it under `missing`, or name the",
    ),
    "a word in every second row": (
        {"age": lambda i: "old" if i % 2 else str(i)},
        {},
        f"people.csv:3: column `age`: 'old' is no number; {ROWS // 2} such cells",
    ),
    "a comma for a point": (
        {"age": lambda i: '"1,5"' if i == 5 else str(i)},
        {},
        "people.csv:7: column `age`: '\"1,5\"' is no number (mend it",
    ),
    "a word in a column of numbers": (
        {},
        {"numeric": ["colour"]},
        f"people.csv:2: column `colour`: 'red' is no number; {ROWS} such cells",
    ),
    "no answer": (
        {"ill": lambda i: "" if i in (7, 8) else "yes"},
        {},
        "people.csv:9: column `ill`: the target is missing; 2 such row(s)",
    ),
    "no answer of a regression": (
        {"ill": lambda i: "NA" if i == 7 else str(i)},
        {"objective": "regression"},
        "people.csv:9: column `ill`: the target is missing; 1 such row(s)",
    ),
    "a word for a number to predict": (
        {"ill": lambda i: "much" if i == 7 else str(i)},
        {"objective": "regression"},
        "people.csv:9: column `ill`: 'much' is no number",
    ),
    "one class": ({"ill": lambda i: "yes"}, {}, "people.csv: one class only, `yes`"),
    "three classes": ({"ill": lambda i: "abc"[i % 3]}, {}, "people.csv: 3 classes (objective binary takes two"),
    "positive": ({}, {"positive": "ye"}, "people.csv: no class `ye`, named by `positive`; did you mean `yes`?"),
    "nothing to see": ({}, {"ignore": ["age", "colour"]}, "people.csv: no column is left for the model to see"),
    "a rare class": (
        {"ill": lambda i: "yes" if i < 2 else "no"},
        {},
        "people.csv: ill `yes` has 2 example(s) that are neither equal nor of one group (a split in 3 takes",
    ),
    "all rows equal": (
        {"age": lambda i: "1", "colour": lambda i: "red"},
        {},
        "people.csv: ill `no` has 1 example(s) that are neither equal nor of one group",
    ),
    "a row without a group": (
        {"who": lambda i: "" if i == 9 else str(i % 20)},
        {"group": "who"},
        "people.csv:11: column `who`: the group is missing",
    ),
    "two groups": (
        {"who": lambda i: str(i % 2), "ill": str},
        {"group": "who", "objective": "regression"},
        "people.csv: stratum `all rows` has 2 example(s) that are neither equal nor of one group",
    ),
    "a split of another name": (
        {"part": lambda i: "train" if i < 40 else "tset"},
        {"split": Split(given="part")},
        "people.csv:42: split `tset` (expected train, validation or test)",
    ),
    "no test given": (
        {"part": lambda i: "train"},
        {"split": Split(given="part")},
        "people.csv: nothing is given as test",
    ),
    "a class given to the test alone": (
        {"part": lambda i: "test" if i % 3 == 0 else "train" if i % 3 == 1 else "validation"},
        {"split": Split(given="part")},
        "people.csv: ill `yes` has no example in the training part",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_are_refused_with_file_and_row(prepared, refusal, case):
    columns, knobs, told = BAD[case]
    people(**columns)
    assert refusal(lambda: prepared(spec(**knobs))).startswith(told)
    assert not Path("build/data").exists()


def test_a_hundred_columns_and_more_cost_no_warning(prepared):
    people(**{f"x{place}": (lambda i, place=place: str(i * place % 7)) for place in range(150)})
    assert len(prepared(spec()).train.raw) == 152


# === Splits ===


def test_rows_that_the_model_cannot_tell_apart_are_in_one_split(here):
    people(age=lambda i: str(i // 3), colour=lambda i: "red", ill=lambda i: "no" if i % 2 else "yes")
    asked = spec()
    manifest = tables.manifest(asked)
    parts = tables.split(asked, manifest, 1)
    assert (parts.groupby(manifest["age"]).nunique() == 1).all()
    assert set(parts) == {"train", "validation", "test"}
    assert not list(leaks.shared(parts, tables.contents(asked, manifest)))


def test_columns_that_the_model_does_not_see_do_not_tell_rows_apart(here):
    people(age=lambda i: str(i // 3), colour=None, name=lambda i: f"n{i}", who=lambda i: f"w{i % 30}")
    asked = spec(ignore=["name"], group="who")
    manifest = tables.manifest(asked)
    assert tables.contents(asked, manifest).nunique() == 20
    assert tables.contents(spec(group="who"), tables.manifest(spec(group="who"))).nunique() == ROWS


def test_a_group_is_in_one_split_and_the_model_does_not_see_it(prepared):
    people(who=lambda i: f"w{i // 4}", ill=lambda i: "yes" if i // 4 % 2 else "no")
    data = prepared(spec(group="who"))
    parts = {name: set(getattr(data, name).rows["group"]) for name in ("train", "validation", "test")}
    assert set.union(*parts.values()) == {f"w{i}" for i in range(15)}
    assert sum(map(len, parts.values())) == 15
    assert set(data.train.raw) == {"column age", "column colour"}


def test_a_given_split_is_taken_and_the_model_does_not_see_it(prepared):
    people(part=lambda i: ["train", "validation", "train", "test"][i % 4])
    data = prepared(spec(split=Split(given="part")))
    assert list(data.test.rows.index) == [str(i + 2) for i in range(3, ROWS, 4)]
    assert list(data.validation.rows.index) == [str(i + 2) for i in range(1, ROWS, 4)]
    assert set(data.test.raw) == {"column age", "column colour"}


def test_a_planted_duplicate_in_a_given_split_is_a_leak(here):
    people(
        age=lambda i: "77" if i in (10, 50) else str(i),
        colour=lambda i: "red",
        part=lambda i: "train" if i < 30 else "validation" if i < 45 else "test",
        who=lambda i: "w" if i in (20, 40) else f"w{i}",
    )
    asked = spec(split=Split(given="part"), group="who")
    manifest = tables.manifest(asked)
    parts = tables.split(asked, manifest, 1)
    found = leaks.shared(parts, tables.contents(asked, manifest), tables.groups(asked, manifest))
    assert [finding.told for finding in found] == [
        "the same content in 2 splits: 12 (train), 52 (test)",
        "the same group in 2 splits: 22 (train), 42 (validation)",
    ]


# === What is written is what is read, and what decode gives ===

SHAPES = {
    "plain": ({}, {}),
    "missing values": ({"age": lambda i: "" if i % 4 == 0 else str(i), "colour": lambda i: "NA" if i % 5 else "é"}, {}),
    "numbers alone": ({"colour": None}, {}),
    "categories alone": ({"age": lambda i: f"a{i}"}, {}),
    "a column wholly missing": ({"empty": lambda i: ""}, {}),
    "a column of numbers wholly missing": ({"empty": lambda i: "NA"}, {"numeric": ["empty"]}),
    "a column with a slash": ({"km/h": str, "a/b": lambda i: "xy"[i % 2]}, {}),
    "marks of missing": ({"age": lambda i: "-999" if i % 4 == 0 else str(i)}, {"missing": ["-999", "?"]}),
    "cells of several lines": ({"colour": lambda i: f"two\nlines {i % 3}"}, {}),
    "categories of numbers": ({"code": lambda i: f"0{i % 3}"}, {"categorical": ["code"]}),
    "groups": ({"who": lambda i: f"w{i % 30}"}, {"group": "who"}),
    "classes": ({"ill": lambda i: "abc"[i % 3]}, {"objective": "multiclass"}),
    "numbers to predict": ({"ill": lambda i: str(i / 7)}, {"objective": "regression"}),
}


@pytest.mark.parametrize("case", SHAPES)
def test_what_is_written_is_what_is_read_and_what_decode_gives(prepared, case):
    columns, knobs = SHAPES[case]
    people(**columns)
    data = prepared(spec(**knobs))
    rows = source()
    rows.index = tables.manifest(data.spec).index.astype(str)
    seen = []
    for part in (data.train, data.validation, data.test):
        own = rows.loc[part.rows.index]
        raw, names = tables.decode(data.spec, data.facts, own[own.columns[::-1]].assign(extra="x"))
        assert list(names) == list(part.rows.index)
        assert set(raw) == set(part.raw)
        for name, values in raw.items():
            assert values.shape == part.raw[name].shape == (len(part), 1)
            assert values.dtype.kind == part.raw[name].dtype.kind
            assert np.array_equal(values, part.raw[name][:], equal_nan=values.dtype.kind == "f")
        if data.classes:
            assert [data.classes[number] for number in part.target] == list(own["ill"]) == list(part.rows["label"])
            assert part.target.dtype == np.int32
        else:
            assert np.array_equal(part.target[:, 0], own["ill"].astype(np.float32))
        if data.spec.group:
            assert list(part.rows["group"]) == list(own["who"])
        seen += list(names)
    assert sorted(seen, key=int) == list(rows.index)


@pytest.mark.parametrize("case", SHAPES)
def test_decode_takes_a_frame_as_pandas_reads_it(prepared, case):
    columns, knobs = SHAPES[case]
    people(**columns)
    data = prepared(spec(**knobs))
    frame = pd.read_csv(PEOPLE, dtype={"code": str})
    as_text, _ = tables.decode(data.spec, data.facts, source())
    as_read, _ = tables.decode(data.spec, data.facts, frame)
    for name, values in as_text.items():
        assert np.array_equal(values, as_read[name], equal_nan=values.dtype.kind == "f"), name


def test_categories_of_whole_numbers_are_the_same_where_one_is_missing(prepared):
    people(code=lambda i: "" if i == 3 else str(i % 4))
    data = prepared(spec(categorical=["code"]))
    frame = pd.read_csv(PEOPLE)
    assert frame["code"].dtype == np.float64
    raw, _ = tables.decode(data.spec, data.facts, frame)
    assert raw["column code"][:5, 0].tolist() == ["0", "1", "2", "", "0"]


@pytest.mark.parametrize(
    ("age", "number"),
    [(5, 5), (True, 1), (None, None), (pd.NA, None), (np.float32(0.1), np.float32(0.1)), (" 7 ", 7), ("", None)],
)
def test_decode_takes_numbers_of_any_type(prepared, age, number):
    people()
    data = prepared(spec())
    raw, names = tables.decode(data.spec, data.facts, pd.DataFrame({"age": [age], "colour": ["red"]}, index=["one"]))
    assert raw["column age"].dtype == np.float32
    assert (None if np.isnan(raw["column age"][0, 0]) else raw["column age"][0, 0]) == number
    assert list(names) == ["one"]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ({"colour": ["red"]}, "no column `age` in the rows to answer"),
        ({"age": [1.0]}, "no column `colour` in the rows to answer"),
        ({"age": [1, "x"], "colour": "red"}, "rows:1: column `age`: 'x' is no number (mend it)"),
        ({"age": [1, float("inf")], "colour": "red"}, "rows:1: column `age`: inf is too large for float32 (mend it)"),
        ({"age": [1e39], "colour": "red"}, "rows:0: column `age`: 1e+39 is too large for float32 (mend it)"),
    ],
)
def test_rows_that_cannot_be_answered_are_refused(prepared, refusal, rows, told):
    people()
    data = prepared(spec())
    assert refusal(lambda: tables.decode(data.spec, data.facts, pd.DataFrame(rows))) == told


def test_the_same_data_and_seed_give_the_same_bytes(prepared):
    people(who=lambda i: f"w{i % 30}")
    written = []
    for _ in range(2):
        prepared(spec(group="who"))
        written.append({path: path.read_bytes() for path in Path("build/data").rglob("*") if path.is_file()})
    assert written[0] == written[1]
    assert len(written[0]) == 1 + 3 * 4


# === Preprocessing ===


def features(data, examples):
    import keras

    model = tables.preprocessing(data.spec, data.facts, data.train).model()
    raw = {name: keras.ops.convert_to_tensor(values[:]) for name, values in examples.items()}
    return keras.ops.convert_to_numpy(model(raw))


def test_numbers_are_scaled_as_scikit_learn_does(prepared):
    people(tall=lambda i: str(1e6 + i), same=lambda i: "7", colour=None)
    data = prepared(spec())
    assert data.facts["numeric"] == ["age", "tall", "same"]
    values = np.concatenate([data.test.raw[f"column {name}"] for name in data.facts["numeric"]], axis=1)
    train = np.concatenate([data.train.raw[f"column {name}"] for name in data.facts["numeric"]], axis=1)
    expected = StandardScaler().fit(train.astype(np.float64)).transform(values)
    np.testing.assert_allclose(features(data, data.test.raw), expected, atol=2e-5)


def test_missing_numbers_are_zero_and_told_so_and_statistics_leave_them_out(prepared):
    people(age=lambda i: "" if i % 4 == 0 else str(i), colour=None, tall=lambda i: str(i * i))
    data = prepared(spec())
    found = features(data, data.test.raw)
    age = data.test.raw["column age"][:, 0]
    train = data.train.raw["column age"][:].astype(np.float64)
    expected = (age - np.nanmean(train)) / np.nanstd(train)
    assert found.shape == (len(data.test), 4)  # age, tall, is age missing, is tall missing
    np.testing.assert_allclose(found[:, 0], np.nan_to_num(expected), atol=1e-5)
    assert np.array_equal(found[:, 2], np.isnan(age))
    assert not found[:, 3].any()


def test_nothing_missing_in_training_means_no_mark_of_it(prepared):
    people(colour=None, part=lambda i: "test" if i > 40 else "train", age=lambda i: "" if i == 50 else str(i))
    data = prepared(spec(split=Split(given="part")))
    found = features(data, data.test.raw)
    assert found.shape == (len(data.test), 1)
    assert found[50 - 41, 0] == 0


def test_categories_are_one_hot_with_a_place_for_what_training_has_not_seen(prepared):
    people(colour=lambda i: ["red", "", "green"][i % 3])
    data = prepared(spec())
    colours = np.array([["red"], ["green"], [""], ["blue"]])
    found = features(data, {"column age": np.zeros((4, 1), np.float32), "column colour": colours})
    # the vocabulary: what is new, missing, green, red
    assert found[:, 1:].tolist() == [[0, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0]]


def test_categories_need_no_numbers_beside_them(prepared):
    people(age=None, colour=lambda i: f"colour {i}")
    data = prepared(spec())
    found = features(data, data.test.raw)  # all of them are new
    assert found.shape == (len(data.test), len(data.train) + 1)
    assert found[:, 0].all()


def test_a_category_may_be_called_as_keras_calls_what_is_new(prepared):
    people(colour=lambda i: ["Red", "[UNK]"][i % 2])  # sorted, it is not the first
    data = prepared(spec())
    assert features(data, data.test.raw)[:, 1:].sum() == len(data.test)


def test_columns_of_any_name_come_through(prepared):
    people(**{"km/h": str, "a b:c": lambda i: str(i * 2), "é": lambda i: "xy"[i % 2], "[UNK]": lambda i: "z"})
    data = prepared(spec())
    assert set(data.train.raw) == {f"column {name}" for name in ("age", "colour", "km%2Fh", "a b:c", "é", "[UNK]")}
    assert features(data, data.test.raw).shape == (len(data.test), 3 + 4 + 3 + 2)


def test_wholly_missing_columns_come_through(prepared):
    people(empty=lambda i: "", void=lambda i: "NA")
    data = prepared(spec(numeric=["void"]))
    found = features(data, data.test.raw)
    assert np.isfinite(found).all()
    assert found.shape == (len(data.test), 2 + 2 + 4 + 2)


def test_preprocessing_is_fitted_on_the_training_split_alone(prepared):
    part = {"part": lambda i: ["train", "validation", "train", "test"][i % 4]}
    probe = {"column age": np.array([[30.0], [50]], np.float32), "column colour": np.array([["red"], ["green"]])}
    found = {}
    for changed in ("nothing", "validation", "test", "train"):
        places = {"validation": 1, "test": 3, "train": 2}.get(changed, 9)
        people(
            age=lambda i, places=places: str(i * (1000 if i % 4 == places else 1)),
            colour=lambda i, places=places: "new" if i % 4 == places and i > 30 else "red" if i % 3 else "green",
            **part,
        )
        found[changed] = features(prepared(spec(split=Split(given="part"))), probe)
    assert np.array_equal(found["validation"], found["nothing"])
    assert np.array_equal(found["test"], found["nothing"])
    assert found["train"].shape[1] == found["nothing"].shape[1] + 1
    assert not np.allclose(found["train"][:, 0], found["nothing"][:, 0])


def test_answers_of_a_regression_come_back_in_the_targets_units(prepared):
    import keras

    people(ill=lambda i: str(1000 + 10 * i))
    data = prepared(spec(objective="regression"))
    preprocessing = tables.preprocessing(data.spec, data.facts, data.train)
    learned = preprocessing.learns(data.train)
    assert abs(learned.mean()) < 1e-5
    assert learned.std() == pytest.approx(1)
    core = keras.Sequential([keras.Input(preprocessing.features.shape[1:]), keras.layers.Dense(1, "linear", name="d")])
    core.layers[0].set_weights([np.zeros((preprocessing.features.shape[1], 1)), np.array([1.0])])
    answer = preprocessing.join(core)({name: values[:4] for name, values in data.test.raw.items()})
    np.testing.assert_allclose(answer, np.full((4, 1), data.train.target.mean() + data.train.target.std()), rtol=1e-5)


def test_a_constant_target_is_learned_as_it_is(prepared):
    people(ill=lambda i: "5")
    data = prepared(spec(objective="regression"))
    assert not tables.preprocessing(data.spec, data.facts, data.train).learns(data.train).any()


# === Baselines and figures ===


@pytest.mark.parametrize(
    ("objective", "ill", "names", "width"),
    [
        ("binary", lambda i: "yes" if i % 3 == 0 else "no", ("shares of the classes", "logistic regression"), 1),
        ("multiclass", lambda i: "abc"[i % 3], ("shares of the classes", "logistic regression"), 3),
        ("regression", str, ("mean", "gradient boosting"), 1),
    ],
)
def test_baselines_answer_the_test_split(prepared, objective, ill, names, width):
    people(ill=ill, age=lambda i: "" if i % 9 == 0 else str(i))
    data = prepared(spec(objective=objective))
    naive, classical = tables.compared(data.spec, data)
    assert (naive.name, classical.name) == names
    assert naive.answer.shape == classical.answer.shape == (len(data.test), width)
    assert np.isfinite(classical.answer).all()
    figure = tables.mistakes(data.spec, data.facts, data.test, classical.answer)
    figures.save(figure, Path("mistakes.png"))
    assert {text.get_text() for text in figure.axes[0].texts} <= set(data.test.rows.index)


def test_what_the_kind_expects(here):
    people()
    (expected,) = tables.expectations(spec(), tables.manifest(spec()))
    assert (expected.column, expected.not_null) == ("ill", True)


# === What users do to rows ===


def test_a_column_may_bear_the_name_of_a_layer(here, prepared):
    import keras

    people(units=lambda i: str(i * 7 % 11), concatenate=lambda i: "ab"[i % 2], age=lambda i: str(i / 3))
    asked = spec(objective="regression", target="age")
    data = prepared(asked)
    preprocessing = tables.preprocessing(asked, data.facts, data.train)
    core = keras.Sequential([keras.Input(preprocessing.features.shape[1:]), keras.layers.Dense(1)])
    assert preprocessing.join(core).output_shape == (None, 1)


def test_categories_that_a_reader_rewrote_are_refused(here, prepared, refusal):
    people(colour=lambda i: ["007", "true", "1.0"][i % 3], ill=lambda i: "yes" if i % 2 else "no")
    asked = spec(categorical=["colour"])
    facts = prepared(asked).facts
    rows = source().drop(columns="ill").astype({"age": float})
    tables.decode(asked, facts, rows)
    for cells in ([7, 7], [True, True]):
        told = refusal(lambda: tables.decode(asked, facts, rows[:2].assign(colour=cells)))  # noqa: B023  # called at once
        assert "dtype=str" in told
    raw, _ = tables.decode(asked, facts, rows[:2].assign(colour=["pink", "blue"]))  # never seen, and that is no fault
    assert raw["column colour"].tolist() == [["pink"], ["blue"]]


def test_an_ignored_column_is_checked_and_not_seen(here, prepared):
    people(number=lambda i: str(1000 + i))
    asked = spec(ignore=["number"])
    assert tables.manifest(asked)["number"].iloc[0] == "1000"
    data = prepared(asked)
    assert data.facts["numeric"] + data.facts["categorical"] == ["age", "colour"]


def test_decimal_commas_are_no_categories(here, refusal):
    people(age=lambda i: f"{i},{i % 7}")
    told = refusal(lambda: tables.manifest(spec()))
    assert told.startswith("people.csv:2: column `age`: '0,0' has a comma in the number (write points")
    assert tables.manifest(spec(categorical=["age"]))["age"].iloc[0] == "0,0"


def test_words_for_a_number_to_predict_are_told_as_that(here, refusal):
    people()
    told = refusal(lambda: tables.manifest(spec(objective="regression")))
    assert told.endswith("(mend it: objective regression takes numbers)")
