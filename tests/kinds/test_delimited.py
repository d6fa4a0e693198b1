from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trainyard.kinds import delimited

FILE = Path("a.csv")
READ = {
    "plain": (b"x,y\n1,a\n2,b\n", ",", {2: ["1", "a"], 3: ["2", "b"]}),
    "no line end at the end": (b"x,y\n1,a", ",", {2: ["1", "a"]}),
    "Windows line ends": (b"x,y\r\n1,a\r\n2,b\r\n", ",", {2: ["1", "a"], 3: ["2", "b"]}),
    "mark of the byte order": (b"\xef\xbb\xbfx,y\n1,a\n", ",", {2: ["1", "a"]}),
    "semicolon": (b"x;y\n1,5;a\n", ";", {2: ["1,5", "a"]}),
    "tab": (b"x\ty\n1\ta b\n", "\t", {2: ["1", "a b"]}),
    "empty lines": (b"x,y\n\n1,a\n\n\n2,b\n\n", ",", {3: ["1", "a"], 6: ["2", "b"]}),
    "empty cells": (b"x,y\n,\n", ",", {2: ["", ""]}),
    "a cell of several lines": (
        b'x,y\n"1\n2",a\n"3\n\n4",b\n5,c\n',
        ",",
        {3: ["1\n2", "a"], 6: ["3\n\n4", "b"], 7: ["5", "c"]},
    ),
    "quotes": (b'x,y\n"a, ""b""",c\n', ",", {2: ['a, "b"', "c"]}),
    "UTF-8": ("x,y\né,猫\n".encode(), ",", {2: ["é", "猫"]}),
    "what pandas takes for missing": (b"x,y\nNA,null\nnan,None\n", ",", {2: ["NA", "null"], 3: ["nan", "None"]}),
    "a formula": (b"x,y\n=cmd|'/c calc',a\n", ",", {2: ["=cmd|'/c calc'", "a"]}),
}


@pytest.mark.parametrize("case", READ)
def test_cells_are_text_named_by_the_line_at_which_they_end(here, case):
    content, delimiter, rows = READ[case]
    FILE.write_bytes(content)
    table = delimited.read(FILE, delimiter)
    assert list(table) == ["x", "y"]
    assert table.index.name == "row"
    assert dict(zip(table.index, table.to_numpy().tolist(), strict=True)) == rows


REFUSED = {
    "zero bytes": (b"", "a.csv: is empty (expected a header and rows)"),
    "an empty line": (b"\nx,y\n1,a\n", "a.csv: begins with an empty line (expected a header and rows)"),
    "header alone": (b"x,y\n", "a.csv: has a header but no rows"),
    "UTF-16": ("x,y\n1,a\n".encode("utf-16"), "a.csv:1: not UTF-8 at byte 0 (save the file as UTF-8)"),
    "Latin-1": (b"x,y\n1,a\n2,\xe9\n", "a.csv:3: not UTF-8 at byte 10 (save the file as UTF-8)"),
    "Latin-1, far down": (
        b"x,y\n" + b"1,a\n" * 9000 + b"\xe9,b\n",
        "a.csv:9002: not UTF-8 at byte 36004 (save the file as UTF",
    ),
    "NUL": (b"x,y\n1,a\n2,b\0\n", "a.csv:3: holds a NUL byte (the file is broken, or no text)"),
    "a spreadsheet": (b"PK\x03\x04\x14\0\x06\0", "a.csv: is a spreadsheet, or another ZIP archive (export it as CSV"),
    "many columns": (b"x," * 100_001 + b"y\n", "a.csv:1: 100,002 columns (at most 100,000)"),
    "a longer row": (b"x,y\n1,a\n2,b,c\n", "a.csv:3: 3 cells (expected 2, as in the header)"),
    "a shorter row": (b"x,y\n1,a\n2\n", "a.csv:3: 1 cells (expected 2, as in the header)"),
    "all rows longer": (b"x,y\n1,a,\n2,b,\n", "a.csv:2: 3 cells (expected 2, as in the header)"),
    "an open quote": (b'x,y\n1,"a\n2,b\n', "a.csv:3: unexpected end of data"),
    "a quote in a cell": (b'x,y\n1,"a"b\n', "a.csv:2: ',' expected after '\"'"),
    "a huge cell": (b"x,y\n1," + b"a" * 1_000_001 + b"\n", "a.csv:2: field larger than field limit (1000000)"),
    "a column twice": (b"x,y,x\n1,2,3\n", "a.csv:1: column `x` occurs twice"),
    "a column without a name": (b",x,y\n0,1,2\n", "a.csv:1: column 1 of 3 has no name (give it one)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_broken_file_is_refused_with_its_row(here, refusal, case):
    content, told = REFUSED[case]
    FILE.write_bytes(content)
    assert refusal(lambda: delimited.read(FILE, ",")).startswith(told)


def test_what_is_no_file_is_refused(here, refusal, monkeypatch):
    assert refusal(lambda: delimited.read(FILE, ",")) == "a.csv: not found"
    FILE.mkdir()
    assert refusal(lambda: delimited.read(FILE, ",")) == "a.csv: is a folder (expected a CSV file)"

    def deny(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    assert refusal(lambda: delimited.read(Path("b.csv"), ",")) == "b.csv: cannot be read (Permission denied)"


@pytest.mark.parametrize(
    ("header", "delimiter", "told"),
    [
        ("age,height,ill", ",", "a.csv:1: no column `hight` (did you mean `height`?)"),
        ("age,ill", ",", "a.csv:1: no column `hight` (it has: age, ill)"),
        ("age,Hight ,ill", ",", "a.csv:1: no column `hight` (did you mean `Hight `?)"),
        ("age;hight;ill", ",", "a.csv:1: no column `hight` (found 1 column; delimiter ';'?)"),
        ("age\thight", ",", "a.csv:1: no column `hight` (found 1 column; delimiter '\\t'?)"),
        ("age,hight", ";", "a.csv:1: no column `hight` (found 1 column; delimiter ','?)"),
        ("age", ",", "a.csv:1: no column `hight` (found 1 column)"),
    ],
)
def test_a_column_that_is_not_there_is_told_before_any_row_is_read(here, refusal, header, delimiter, told):
    FILE.write_text(f"{header}\nfar too few cells\n")
    assert refusal(lambda: delimited.read(FILE, delimiter, columns=["hight"])) == told
    FILE.write_text(f"{header}{delimiter}hight\n{header}{delimiter}1\n")
    assert delimited.read(FILE, delimiter, columns=["hight"])["hight"].tolist() == ["1"]


def cells(*values):
    return pd.Series(values, index=pd.RangeIndex(2, 2 + len(values), name="row"), name="x", dtype=object)


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        (["1", "-2.5", "1e-3", " 4 ", "+5", ".5"], [1, -2.5, 0.001, 4, 5, 0.5]),
        (["", "NA", "1"], [None, None, 1]),
        (["", ""], [None, None]),
        (["1e22", "10000000000000000000000", "9007199254740992", "9007199254740993.5"], [1e22, 1e22, 2**53, 2**53 + 2]),
        (["3.4028234e38", "-3.4028234e38"], [3.4028234e38, -3.4028234e38]),
        ([1, 2.5, None, float("nan"), "4", np.float32(0.1)], [1, 2.5, None, None, 4, 0.10000000149011612]),
    ],
)
def test_numbers_are_what_the_cells_say_and_missing_is_nan(values, numbers):
    found = delimited.numbers(FILE, cells(*values), ["", "NA"])
    assert found.dtype == np.float64
    assert [None if np.isnan(value) else value for value in found] == numbers


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (["1", "x"], "a.csv:3: column `x`: 'x' is no number (mend it)"),
        (["1", "1,5", "2", "1,6"], "a.csv:3: column `x`: '1,5' is no number; 2 such cells (mend it)"),
        (["nan"], "a.csv:2: column `x`: 'nan' is no number (mend it)"),
        (["null"], "a.csv:2: column `x`: 'null' is no number (mend it)"),
        (["0x1F"], "a.csv:2: column `x`: '0x1F' is no number (mend it)"),
        (["inf"], "a.csv:2: column `x`: 'inf' is too large for float32 (mend it)"),
        (["1e400"], "a.csv:2: column `x`: '1e400' is too large for float32 (mend it)"),
        (["1e39"], "a.csv:2: column `x`: '1e39' is too large for float32 (mend it)"),
        (
            ["9007199254740992", "+9007199254740993"],
            "a.csv:3: column `x`: '+9007199254740993' has digits that no number keeps (mend it)",
        ),
        ([2**53 + 1], "a.csv:2: column `x`: 9007199254740993 has digits that no number keeps (mend it)"),
        ([1.0, float("-inf")], "a.csv:3: column `x`: -inf is too large for float32 (mend it)"),
    ],
)
def test_a_cell_that_is_no_number_is_told_with_its_row_and_how_many(refusal, values, told):
    assert refusal(lambda: delimited.numbers(FILE, cells(*values), [""])) == told


@pytest.mark.parametrize(
    ("values", "missing", "there"),
    [
        (["", "NA", "a", None], ["", "NA"], [False, False, True, False]),
        (["-999", "1"], ["-999"], [False, True]),
        ([-999.0, -999, 1.0, float("nan")], ["-999"], [False, False, True, False]),
        (["-999.0"], ["-999"], [True]),  # another text
        (["", "a"], [], [True, True]),
    ],
)
def test_a_mark_of_missing_is_known_as_text_and_as_a_number(values, missing, there):
    assert delimited.known(cells(*values), missing).tolist() == there


@pytest.mark.parametrize(
    ("values", "share"), [(["1", "2", "x", "y"], 0.5), (["1", "", "NA"], 1), (["", "NA"], 0), (["a"], 0), (["nan"], 0)]
)
def test_the_share_of_numbers_is_of_the_cells_that_are_known(values, share):
    assert delimited.share_of_numbers(cells(*values), ["", "NA"]) == share


@pytest.mark.parametrize("missing", [["", "NA"], ["-9999", "NA"]])
def test_columns_that_are_numbers_already_are_read_as_a_whole_as_they_are_one_by_one(missing):
    table = pd.DataFrame({"a": [1.5, np.nan, -9999.0], "b": [1, 2, -9999], "c": [0.1, 2.0**52, -1e-30]})
    found = delimited.block(table, missing)
    for place, column in enumerate(table):
        one = delimited.numbers(Path("rows"), table[column], missing).to_numpy(np.float32)
        np.testing.assert_array_equal(found[:, place], one)


@pytest.mark.parametrize("column", [["1", "2"], [True, False], [1e39, 1.0], [np.inf, 1.0], [2**60 + 1, 1]])
def test_what_is_no_such_column_is_left_to_be_read_and_refused_one_by_one(column):
    assert delimited.block(pd.DataFrame({"a": [1.0, 2.0], "b": column}), ["", "NA"]) is None


def test_parts_are_those_of_the_whole_and_can_be_left_out(here):
    FILE.write_text("x,y\n" + "".join(f'{i},"a\n{i}"\n\n' for i in range(20)))
    parts = list(delimited.parts(FILE, ",", most=7))
    assert [len(part) for part in parts] == [7, 7, 6]
    assert pd.concat(parts).equals(delimited.read(FILE, ","))
    (last,) = delimited.parts(FILE, ",", most=7, skip=2)
    assert last.equals(parts[2])
    assert list(delimited.parts(FILE, ",", most=7, skip=3)) == []
    assert delimited.lines(FILE) == 61


@pytest.mark.parametrize("odd", ["1", " 1", "+.5", "1e400", "nan", "1_000", "\u0661", "x"])
def test_numbers_are_those_of_pandas_to_the_last_bit(here, odd):
    rng = np.random.default_rng(0)
    cells = pd.Series([*map(repr, (rng.normal(size=1000) * 10.0 ** rng.integers(-30, 30, 1000)).tolist()), "", odd])
    expected = pd.to_numeric(cells.where(cells != "", None), errors="coerce").astype(float)
    assert delimited._parsed(cells.where(cells != "", None)).equals(expected)
