import subprocess
import sys

import pandas as pd
import pytest

from trainyard import kinds, params, validation
from trainyard.errors import BadInput
from trainyard.params import Expectation, Images, Series, Tables
from trainyard.validation import checks

GOOD = pd.DataFrame(
    {
        "age": [20.0 + i for i in range(12)],
        "city": ["Oslo", "Rome"] * 6,
        "code": [f"a{i}" for i in range(12)],
        "ill": ["no", "yes", "no"] * 4,
    },
    index=pd.Index(range(2, 14), name="row"),
)
EXPECT = [
    {"column": "age", "between": [18, 99]},
    {"column": "city", "one_of": ["Oslo", "Rome"], "not_null": True},
    {"column": "code", "matches": r"a\d+", "unique": True},
]


def tables(expect=(), **knobs):
    return Tables(
        kind="tables",
        objective="binary",
        path="data/people.csv",
        target="ill",
        expect=[Expectation(**block) for block in expect],
        **knobs,
    )


def with_value(column, row, value):
    changed = GOOD.copy()
    changed.loc[row, column] = value
    return changed


def failed(result):
    return {outcome.check.what: list(outcome.faults.index) for outcome in result.failed}


def test_good_data_passes():
    result = validation.check("people", tables(EXPECT, numeric=["age"], categorical=["city", "code"]), GOOD)
    assert result.passed
    assert result.faults().empty
    assert len(result.outcomes) > len(EXPECT)


@pytest.mark.parametrize(
    ("manifest", "what", "rows"),
    [
        (with_value("age", 5, 120.0), "`age` is between 18 and 99", [5]),
        (with_value("age", 5, -1.0), "`age` is between 18 and 99", [5]),
        (with_value("city", 3, "Paris"), "`city` is one of `Oslo`, `Rome`", [3]),
        (with_value("city", 3, None), "`city` has no missing value", [3]),
        (with_value("code", 4, "b2"), r"`code` matches `a\d+` as a whole", [4]),
        (with_value("code", 4, "a2x"), r"`code` matches `a\d+` as a whole", [4]),
        (with_value("code", 4, "a2\n"), r"`code` matches `a\d+` as a whole", [4]),
        (with_value("code", 4, "a5"), "`code` has no value twice", [4, 7]),
        (with_value("ill", 9, None), "`ill` has no missing value", [9]),
        (GOOD.assign(age=float("nan")), "`age` has values", list(GOOD.index)),
        (GOOD[:3], "there are 10 to 100,000,000 rows", []),
        (GOOD.drop(columns="ill"), "the columns include `ill`", []),
    ],
)
def test_a_planted_fault_is_found_in_its_rows(manifest, what, rows):
    assert failed(validation.check("people", tables(EXPECT), manifest)) == {what: rows}


def test_columns_that_are_all_named_are_all_there_may_be():
    spec = tables(numeric=["age"], categorical=["city"])
    result = validation.check("people", spec, GOOD)
    assert failed(result) == {"the columns are `ill`, `age`, `city`": []}
    assert result.refusal("page") == ["data/people.csv: column `code` is not expected (see page)"]


def test_groups_and_given_splits_may_not_be_missing():
    spec = tables(group="city", split={"given": "code"})
    manifest = with_value("city", 3, None)
    manifest.loc[4, "code"] = None
    assert failed(validation.check("people", spec, manifest)) == {
        "`city` has no missing value": [3],
        "`code` has no missing value": [4],
    }


VALUES = {
    "numbers": [1.0, 2.0, None, 2.0, 1e300],
    "whole numbers": [1, 2, 2, 3, 4],
    "text": ["a", "b", None, "b", "$PARAMETER"],
    "nothing": [None] * 5,
    "nothing known": [float("nan")] * 5,
    "times": pd.to_datetime(["2020-01-01", "2020-01-02", None, "2020-01-02", "2020-01-03"]),
}
ASKED = [
    {"between": [1, 3]},
    {"between": [None, 1]},
    {"between": [3, None]},
    {"between": [None, None], "not_null": True},
    {"one_of": ["1", "2"]},
    {"one_of": ["a", "b", "$PARAMETER"]},
    {"matches": "[ab]"},
    {"matches": r"(?=.)(\w)|\$[A-Z]+"},
    {"unique": True},
    {"not_null": True},
]


@pytest.mark.parametrize("name", VALUES)
def test_great_expectations_and_the_masks_agree(name):
    column = 'an "odd" $name.{of} a column'
    manifest = pd.DataFrame({column: VALUES[name]})
    suite = []
    for block in ASKED:
        try:
            suite += checks.of_values(Expectation(column=column, **block), manifest[column], "here")
        except BadInput:
            continue
    assert validation.run(suite, manifest) == [not len(check.faults(manifest)) for check in suite]


def test_a_suite_of_nothing_is_refused():
    with pytest.raises(ValueError, match="passes on anything"):
        validation.run([], GOOD)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (
            {"column": "agee", "between": [0, 1]},
            r"expect\.0\.column: the data has no column `agee`; did you mean `age`",
        ),
        ({"column": "city", "between": [0, 1]}, r"expect\.0\.between: column `city` holds text \(expected numbers\)"),
        ({"column": "age", "matches": "a"}, r"expect\.0\.matches: column `age` holds numbers \(expected text\)"),
        ({"column": "age", "one_of": ["old"]}, r"expect\.0\.one_of: .*'old'.*, and the column holds numbers"),
        ({"column": "code", "matches": "("}, r"expect\.0\.matches: no regular expression"),
    ],
)
def test_what_a_column_cannot_be_asked_is_refused(block, message):
    with pytest.raises(BadInput, match=r"^params\.yaml: datasets\.people\." + message):
        validation.check("people", tables([block]), GOOD)


def test_a_refusal_names_row_column_value_and_page():
    manifest = with_value("age", 5, 120.0)
    manifest.loc[[7, 8], "age"] = 121.5
    manifest.loc[4, "city"] = None
    refusal = validation.check("people", tables(EXPECT), manifest).refusal("page.html")
    assert refusal == [
        "data/people.csv:5: column age: 120 is not between 18 and 99 (3 rows in all; see page.html)",
        "data/people.csv:4: column city: the value is missing (see page.html)",
    ]


def test_a_refusal_has_at_most_twenty_lines():
    expect = [{"column": "age", "between": [0, i]} for i in range(15)]
    expect += [{"column": "city", "one_of": [str(i)]} for i in range(15)]
    lines = validation.check("people", tables(expect), GOOD).refusal("page")
    assert len(lines) == validation.MOST_LINES
    assert lines[-1] == "data/people.csv: 11 more expectations fail (see page)"


def test_a_refusal_names_the_file_of_a_folder_and_the_line_of_a_series():
    sizes = pd.DataFrame({"label": ["a", "b"], "width": [8, 1], "height": [8, 8]}, index=["a/1.png", "b/2.png"])
    images = Images(kind="images", objective="multiclass", path="data/tiles", rows=(1, 9))
    refusal = validation.check("tiles", images, sizes).refusal("page")
    assert refusal == ["data/tiles/b/2.png: column width: 1 is not at least 2 (see page)"]

    times = pd.date_range("2020-01-01", periods=3)
    steps = pd.DataFrame(
        {"time": times, "row": [2.0, None, 3.0], "level": [1.0, None, 9.0]}, index=times.map(pd.Timestamp.isoformat)
    )
    expect = [Expectation(column="level", between=(0, 5), not_null=True)]
    series = Series(
        kind="series", path="data/tide.csv", time="day", target="level", window=1, rows=(1, 9), expect=expect
    )
    assert validation.check("tide", series, steps).refusal("page") == [
        "data/tide.csv: 2020-01-02T00:00:00: column level: the value is missing (see page)",
        "data/tide.csv:3: column level: 9 is not between 0 and 5 (see page)",
    ]


def test_listed_faults_are_shared_among_the_checks_and_all_are_counted():
    rows = range(2, 3002)
    manifest = pd.DataFrame({"age": -1.0, "city": "Paris", "ill": "no"}, index=pd.Index(rows, name="row"))
    result = validation.check("people", tables(EXPECT[:2]), manifest)
    assert result.faults()["column"].value_counts().to_dict() == {"age": 500, "city": 500}
    assert result.as_dict()["faults"] == 6000


def test_a_formula_is_listed_as_text():
    manifest = with_value("city", 3, "=cmd|' /C calc'!A0")
    faults = validation.check("people", tables(EXPECT), manifest).faults()
    assert faults.loc["3", "value"] == "'=cmd|' /C calc'!A0"


@pytest.fixture(scope="module")
def shipped():
    loaded = params.load()
    return {name: (spec, kinds.of(spec).manifest(spec)) for name, spec in loaded.datasets.items()}


def test_the_shipped_data_passes(shipped):
    for name, (spec, manifest) in shipped.items():
        result = validation.check(name, spec, manifest)
        assert result.passed, result.refusal("page")
        assert result.as_dict()["rows"] == len(manifest)


def test_an_empty_and_an_all_null_frame_fail_every_suite(shipped):
    for name, (spec, manifest) in shipped.items():
        for worthless in (manifest[:0], manifest.mask(manifest.notna())):
            assert not validation.check(name, spec, worthless).passed


@pytest.mark.slow
def test_it_is_quiet_opens_no_socket_and_imports_late():
    program = """
import logging, socket, sys
logging.basicConfig(level=logging.INFO)
def refuse(*_, **__):
    raise AssertionError("a socket")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import pandas as pd
from trainyard import validation
from trainyard.validation import checks
assert "great_expectations" not in sys.modules
assert validation.run([checks.known("a")], pd.DataFrame({"a": [1.0, None]})) == [False]
assert "keras" not in sys.modules
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")
