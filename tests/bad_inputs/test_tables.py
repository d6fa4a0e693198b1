"""Tables that no model should learn from: cases 1 to 36."""

import gzip
import logging
import os
from pathlib import Path

import pandas as pd
import pytest

from bad_inputs.planting import (
    PEOPLE,
    TIDES,
    both,
    case,
    change,
    cut,
    huge,
    lines,
    params,
    refused,
    remove,
    rewrite,
    write,
)
from trainyard import cli, files, kinds
from trainyard import params as parameters

PAGE = "(see reports/data/people/page.html)"
ALL_NAMED = params("    group: family\n", "    group: family\n    numeric: [age]\n    categorical: [colour]\n")


def cells(column, cell):
    """Another cell in a column of each row, by the number of its line."""

    def row(number, old):
        if number == 1:
            return old
        place = ["age", "colour", "family", "ill"].index(column)
        return [*old[:place], cell(number), *old[place + 1 :]]

    return rewrite(PEOPLE, row)


def added(name, cell):
    """One more column."""
    return rewrite(PEOPLE, lambda number, old: [*old, name if number == 1 else cell(number)])


def expects(**knobs):
    """An expectation of the user's own."""
    told = ", ".join(f"{knob}: {value}" for knob, value in knobs.items())
    return params("    target: ill\n", f"    target: ill\n    expect: [{{{told}}}]\n")


def instead(make):
    """Something else in place of the file."""
    return both(remove(PEOPLE), lambda: make(PEOPLE))


REFUSED = [
    refused(1, "no file", remove(PEOPLE), f"params.yaml: datasets.people.path: {PEOPLE}: not found"),
    refused(2, "zero bytes", write(PEOPLE, b""), f"{PEOPLE}: is empty (expected a header and rows)"),
    refused(3, "a header alone", lines(PEOPLE, lambda n: n == 1), f"{PEOPLE}: has a header but no rows"),
    refused(4, "a folder", instead(os.mkdir), f"{PEOPLE}: is a folder (expected a CSV file)"),
    refused(4, "a pipe", instead(os.mkfifo), f"{PEOPLE}: is no plain file (expected a CSV file)"),
    refused(
        6, "UTF-16", write(PEOPLE, "a,b".encode("utf-16")), f"{PEOPLE}:1: not UTF-8 at byte 0 (save the file as UTF-8)"
    ),
    refused(7, "a byte of Latin-1", write(PEOPLE, b"age,ill\n1,\xe9\n"), f"{PEOPLE}:2: not UTF-8 at byte 10"),
    refused(9, "a NUL byte in a cell", change(PEOPLE, "red", "r\0d"), f"{PEOPLE}:3: holds a NUL byte"),
    refused(
        10,
        "semicolons for commas",
        write(PEOPLE, b"age;ill\n1;yes\n"),
        f"{PEOPLE}:1: no column `ill` (found 1 column; delimiter ';'?)",
    ),
    refused(
        10,
        "quoted cells and semicolons",
        write(PEOPLE, b'"age";"ill"\n1;yes\n'),
        f"{PEOPLE}:1: ',' expected after '\"'; delimiter ';'?",
    ),
    refused(
        11,
        "a cell too many in each row",
        rewrite(PEOPLE, lambda number, row: row if number == 1 else ["0", *row]),
        f"{PEOPLE}:2: 5 cells (expected 4, as in the header)",
    ),
    refused(
        12,
        "a cell too many in one row",
        change(PEOPLE, "red,", "red,,"),
        f"{PEOPLE}:3: 5 cells (expected 4, as in the header)",
    ),
    refused(
        13,
        "a cell too few in one row",
        change(PEOPLE, "red,", ""),
        f"{PEOPLE}:3: 3 cells (expected 4, as in the header)",
    ),
    refused(
        14,
        "an open quotation mark",
        change(PEOPLE, "red", '"red'),
        f"{PEOPLE}:41: unexpected end of data; a quotation mark is not closed",
    ),
    refused(
        15,
        "a file cut in the middle of its last row",
        cut(PEOPLE, -8),
        f"{PEOPLE}:41: 3 cells (expected 4, as in the header)",
    ),
    refused(
        15, "a file cut in its last label", cut(PEOPLE, -2), f"{PEOPLE}: ill `ye` has 1 example(s) that are neither"
    ),
    refused(16, "two columns of one name", change(PEOPLE, "colour", "age"), f"{PEOPLE}:1: column `age` occurs twice"),
    refused(
        16,
        "a column without a name",
        change(PEOPLE, "colour", ""),
        f"{PEOPLE}:1: column 2 of 4 has no name (give it one)",
    ),
    refused(
        17, "a column in capitals", change(PEOPLE, "ill", "Ill"), f"{PEOPLE}:1: no column `ill` (did you mean `Ill`?)"
    ),
    refused(
        17,
        "a space before a column's name",
        change(PEOPLE, ",ill", ", ill"),
        f"{PEOPLE}:1: no column `ill` (did you mean ` ill`?)",
    ),
    refused(
        19,
        "a column that params do not name, where they name all others",
        both(ALL_NAMED, added("cured", lambda n: "no")),
        f"{PEOPLE}: column `cured` is not expected {PAGE}",
        "validate",
    ),
    refused(
        20,
        "no column of the target",
        params("target: ill", "target: sick"),
        f"{PEOPLE}:1: no column `sick` (it has: age, colour, family, ill)",
    ),
    refused(
        20,
        "no column that params name",
        both(ALL_NAMED, change(PEOPLE, "age", "height")),
        f"{PEOPLE}:1: no column `age` (it has: height, colour, family, ill)",
    ),
    refused(
        21,
        "a word among numbers",
        change(PEOPLE, "20.33", "n/a"),
        f"{PEOPLE}:3: column `age`: 'n/a' is no number (mend it, list it under `missing`, or name the column under",
    ),
    refused(
        21,
        "words in half of the rows",
        cells("age", lambda n: "old" if n % 2 else str(n)),
        f"{PEOPLE}:3: column `age`: 'old' is no number; 20 such cells (mend it",
    ),
    refused(
        22,
        "a number beyond float32",
        change(PEOPLE, "20.33", "1e400"),
        f"{PEOPLE}:3: column `age`: '1e400' is too large for float32",
    ),
    refused(
        22, "infinity", change(PEOPLE, "20.33", "-inf"), f"{PEOPLE}:3: column `age`: '-inf' is too large for float32"
    ),
    refused(
        23,
        "a comma between thousands",
        change(PEOPLE, "20.33", '"1,234"'),
        f"{PEOPLE}:3: column `age`: '1,234' is no number",
    ),
    refused(
        23,
        "decimal commas in a whole column",
        cells("age", lambda n: f'"{n},5"'),
        f"{PEOPLE}:2: column `age`: '2,5' has a comma in the number (write points, and nothing between thousands",
    ),
    refused(
        23,
        "thousands in a whole column",
        cells("age", lambda n: f'"1,{n:03d},000.5"'),
        f"{PEOPLE}:2: column `age`: '1,002,000.5' has a comma in the number",
    ),
    refused(
        24,
        "`null` among numbers",
        change(PEOPLE, "20.33", "null"),
        f"{PEOPLE}:3: column `age`: 'null' is no number (mend it, list it under `missing`",
    ),
    refused(
        25,
        "a whole number of 20 digits",
        cells("age", lambda n: f"123456789012345678{n:02d}"),
        f"{PEOPLE}:2: column `age`: '12345678901234567802' has digits that no number keeps",
    ),
    refused(
        26,
        "numbers out of the range that params name",
        both(expects(column="age", between="[18, 120]"), change(PEOPLE, "20.33", "-3"), change(PEOPLE, "21.00", "999")),
        f"{PEOPLE}:3: column age: -3 is not between 18 and 120 (2 rows in all; see reports/data/people/page.html)",
        "validate",
    ),
    refused(
        27,
        "a category that params do not name",
        both(expects(column="colour", one_of="[red, green]"), change(PEOPLE, "red", "mauve")),
        f"{PEOPLE}:3: column colour: 'mauve' is not one of `red`, `green` {PAGE}",
        "validate",
    ),
    refused(
        28,
        "a label is missing",
        change(PEOPLE, "f3,yes", "f3,"),
        f"{PEOPLE}:8: column `ill`: the target is missing; 1 such row(s)",
    ),
    refused(
        28,
        "a group is missing",
        change(PEOPLE, "f3,", ","),
        f"{PEOPLE}:8: column `family`: the group is missing",
        "prepare",
    ),
    refused(29, "one class only", cells("ill", lambda n: "no"), f"{PEOPLE}: one class only, `no`"),
    refused(
        29,
        "a class of one row",
        change(PEOPLE, "f0,no", "f0,maybe"),
        f"{PEOPLE}: ill `maybe` has 1 example(s) that are neither equal nor of one group (a split in 3 takes at least "
        "3: add others, or remove `maybe`)",
    ),
    refused(
        30,
        "the same row over and over",
        both(
            params("    group: family\n", ""),
            rewrite(PEOPLE, lambda number, row: row if number == 1 else ["20", "red", "f0", row[3]]),
        ),
        f"{PEOPLE}: ill `no` has 1 example(s) that are neither equal nor of one group",
    ),
    refused(
        30,
        "a number that names two rows",
        both(added("id", lambda n: str(min(n, 40))), expects(column="id", unique="true")),
        f"{PEOPLE}:40: column id: 40 is there more than once (2 rows in all; see reports/data/people/page.html)",
        "validate",
    ),
    refused(
        32,
        "fewer rows than `rows` asks for",
        params("    target: ill\n", "    target: ill\n    rows: [50, 1000]\n"),
        f"{PEOPLE}: 40 rows (expected 50 to 1,000, by `rows`) {PAGE}",
        "validate",
    ),
    refused(35, "two gigabytes", huge(PEOPLE, 2_000_000_001), f"{PEOPLE}: 2,000,000,001 bytes (at most 2,000,000,000"),
    refused(
        35,
        "a cell of ten megabytes",
        change(PEOPLE, "red", "red" * 3_500_000),
        f"{PEOPLE}:3: field larger than field limit (1000000) characters of a cell (is a quotation mark not closed?)",
    ),
    refused(
        35,
        "a line of sixteen megabytes",
        write(PEOPLE, b"age,ill\n" + b"1,yes\r" * 2_800_000),
        f"{PEOPLE}:2: a line of 16,777,216 bytes or more",
    ),
    refused(
        36, "a gzip bomb", write(PEOPLE, gzip.compress(bytes(50_000_000))), f"{PEOPLE}: is packed by gzip (unpack it)"
    ),
    refused(
        36,
        "a spreadsheet called .csv",
        write(PEOPLE, b"PK\x03\x04\x14\0\x06\0"),
        f"{PEOPLE}: is a spreadsheet, or another ZIP archive (export it as CSV, in UTF-8)",
    ),
    refused(
        36,
        "a Parquet file called .csv",
        write(PEOPLE, b"PAR1\x15\x04"),
        f"{PEOPLE}: is a Parquet file (write it as CSV)",
    ),
]


@pytest.mark.parametrize(("plant", "told", "verbs"), REFUSED)
def test_a_bad_table_is_refused(project, refuses, plant, told, verbs):
    plant()
    refuses(told, *([verb, "people"] for verb in verbs))


@pytest.mark.bad_input(number=5, what="a file that one may not read", then=f"exit 2: `{PEOPLE}: cannot be read`")
def test_a_file_that_one_may_not_read_is_refused(project, refuses, monkeypatch):
    opened = Path.open

    def deny(path, *arguments, **options):
        if path == Path(PEOPLE):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", deny)  # root may read anything
    refuses(f"{PEOPLE}: cannot be read (Permission denied)", ["prepare", "people"], ["validate", "people"])


def facts():
    return files.read_json(Path("build/people/facts.json"))


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        case(
            8,
            "a mark of the byte order",
            change(PEOPLE, "age", "\ufeffage"),
            {"numeric": ["age"]},
            then="taken, and is no part of the first column's name",
        ),
        case(
            18,
            "columns in another order",
            rewrite(PEOPLE, lambda number, row: row[::-1]),
            {"numeric": ["age"], "categorical": ["colour"]},
            then="taken: columns are found by name",
        ),
        case(
            19,
            "a column that params do not name",
            added("cured", lambda n: "no" if n % 3 else "yes"),
            {"numeric": ["age"], "categorical": ["colour", "cured"]},
            then="taken as an input, and told in a line",
        ),
        case(
            24,
            "`None`, `null`, `nan` and `N/A` as categories",
            cells("colour", lambda n: ["None", "null", "nan", "N/A", "NA"][n % 5]),
            {"categories": {"colour": ["N/A", "None", "nan", "null"]}},
            then="taken as they stand; what is missing says `missing`, by default nothing and `NA`",
        ),
        case(
            24,
            "`NA` as a category, as `missing` says nothing of it",
            both(
                cells("colour", lambda n: ["NA", "DE"][n % 2]),
                params("    target: ill\n", "    target: ill\n    missing: ['']\n"),
            ),
            {"categories": {"colour": ["DE", "NA"]}},
            then="taken as it stands",
        ),
    ],
)
def test_what_is_no_fault_is_taken(project, plant, found):
    plant()
    assert cli.main(["validate", "people"]) == 0
    assert cli.main(["prepare", "people"]) == 0
    assert {name: facts()[name] for name in found} == found


@pytest.mark.bad_input(
    number=15, what="a file cut in its last number", then="taken with the warning `the last line has no end`"
)
def test_a_last_line_without_an_end_is_told(project, caplog):
    cut(TIDES, -2)()
    assert cli.main(["prepare", "tides"]) == 0
    assert f"{TIDES}:29: the last line has no end (was the file cut short?)" in caplog.messages


@pytest.mark.bad_input(number=26, what="the rows at fault", then="listed in `faults.csv`")
def test_each_row_out_of_range_is_listed(project):
    both(expects(column="age", between="[18, 30]"))()
    assert cli.main(["validate", "people"]) == 2
    listed = pd.read_csv("reports/data/people/faults.csv", dtype=str)
    assert listed["example"].tolist() == [str(row) for row in range(33, 42)]
    assert set(listed["what"]) == {"`age` is between 18 and 30"}


@pytest.mark.bad_input(
    number=27, what="a category that training never saw, in a row to answer", then="taken, in the place of all such"
)
def test_an_unseen_category_gets_an_answer(project):
    assert cli.main(["prepare", "people"]) == 0
    data = kinds.open_prepared("people", parameters.load().dataset("people"))
    rows = pd.DataFrame({"age": ["20"], "colour": ["mauve"]})
    raw, _ = kinds.of(data.spec).decode(data.spec, data.facts, rows)
    assert raw["column colour"].tolist() == [["mauve"]]


@pytest.mark.bad_input(number=31, what="a column of one value", then="taken with the remark `the same value wherever`")
def test_a_constant_column_is_told(project, caplog):
    caplog.set_level(logging.INFO, "trainyard")
    cells("colour", lambda n: "red")()
    assert cli.main(["validate", "people"]) == 0
    assert (
        f"{PEOPLE}: `colour`: the same value wherever there is one; a model learns nothing from it" in caplog.messages
    )


@pytest.mark.bad_input(
    number=33, what="a formula in a cell", then="text for the model, and marked as text in `faults.csv`"
)
def test_a_formula_stays_text_and_opens_in_no_spreadsheet(project):
    both(change(PEOPLE, "red", "=cmd|' /C calc'!A0"), expects(column="colour", one_of="[red, green]"))()
    assert cli.main(["prepare", "people"]) == 0
    assert "=cmd|' /C calc'!A0" in facts()["categories"]["colour"]
    assert cli.main(["validate", "people"]) == 2
    assert pd.read_csv("reports/data/people/faults.csv")["value"].tolist() == ["'=cmd|' /C calc'!A0"]
