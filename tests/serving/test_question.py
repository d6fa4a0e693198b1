"""What is asked is read as it must be, and a refusal repeats nothing of it, whatever stands there."""

import json

import pytest

from trainyard import kinds
from trainyard.errors import BadInput
from trainyard.params import Images, Series, Tables, Text
from trainyard.serving.question import Reader, Refused

TABLE = Tables(kind="tables", objective="binary", path="x", target="y")
FACTS = {"numeric": ["a", "b"], "categorical": ["c"], "categories": {"c": ["x"]}}
READER = Reader(TABLE, FACTS, 10)
UNNAMED = Reader(TABLE.model_copy(update={"names": ["a", "b", "c"]}), FACTS, 10)
TIDE = Reader(
    Series(kind="series", path="x", time="day", target="level", window=2, horizon=1), {"columns": ["level"]}, 10
)
WORDS = Reader(Text(kind="text", objective="binary", path="x", text="said", target="y"), {}, 10)
SECRET = "Zx9"  # noqa: S105  # three letters, as short as a column's name
FORM = "multipart/form-data; boundary=limit"


def form(*contents, end=b"\r\n--limit--\r\n"):
    head = b'Content-Disposition: form-data; name="file"; filename="rows.csv"\r\n\r\n'
    return b"--limit\r\n" + b"\r\n--limit\r\n".join(head + content for content in contents) + end


def refused(reader, content):
    """What becomes of a question whose rows `decode` is given too."""
    try:
        table = reader.read(content, FORM).table
        kinds.of(reader.spec).decode(reader.spec, reader.facts, table)
    except Refused as found:
        return found
    except BadInput as error:
        return reader.refusal(error)
    pytest.fail("it was read")


CASES = {
    "a header twice": (READER, f"{SECRET},{SECRET},a,b,c\n1,2,3,4,5\n", "occurs twice", None, None),
    "a column of the model twice": (READER, "a,a,b,c\n1,2,3,4\n", "occurs twice", "a", None),
    "a column less": (READER, f"a,{SECRET},c\n1,2,3\n", "no column", "b", None),
    "one column": (READER, f"{SECRET}\n1\n", "no column", "a", None),
    "no number": (READER, f"a,b,c\n1,2,x\n1,{SECRET},x\n", "is no number", "b", 1),
    "a size": (READER, "a,b,c\n1,4111x1111,x\n", "is no number", "b", 0),
    "quotes in a cell": (READER, f'a,b,c\n1,"it\'s ""{SECRET}""",x\n', "is no number", "b", 0),
    "both quotes": (READER, f'a,b,c\n1,"\'{SECRET}\'"" {SECRET}",x\n', "is no number", "b", 0),
    "a number too large": (READER, "a,b,c\n1,123e45,x\n", "is too large for float32", "b", 0),
    "a row too wide": (READER, f"a,b,c\n1,2,x\n1,2,x,{SECRET}\n", "4 cells (expected 3)", None, 1),
    "a row too wide, no header": (UNNAMED, f"1,2,x\n1,2,x,{SECRET}\n", "4 cells (expected 3)", None, 1),
    "a NUL, no header": (UNNAMED, f"1,2,{SECRET}\0\n", "holds a NUL byte", None, 0),
    "no end of a quotation": (READER, f'a,b,c\n1,2,"{SECRET}\n', "unexpected end of data", None, 0),
    "no time": (TIDE, f"day,level\n{SECRET},1\n", "is no time (expected ISO 8601)", "day", 0),
    "a time of before": (TIDE, "day,level\n2026-01-02,1\n2026-01-01,1\n", "is not later than the row before", "day", 1),
    "no step": (
        TIDE,
        "day,level\n2026-01-02,1\n2026-01-03,1\n2026-01-07,1\n",
        "after the row before, elsewhere",
        None,
        2,
    ),
    "too few rows": (
        TIDE,
        "day,level\n2026-01-02,1\n",
        "1 rows hold no whole window (expected 2 rows in a row without a missing value)",
        None,
        None,
    ),
    "no row": (WORDS, "said\n", "has a header but no rows", None, None),
}


@pytest.mark.parametrize(("reader", "content", "error", "field", "row"), CASES.values(), ids=CASES)
def test_a_refusal_says_what_and_where_in_words_of_its_own(reader, content, error, field, row):
    found = refused(reader, form(content.encode()))
    assert found.told == {"error": error, "field": field, "row": row}
    for word in (SECRET, "2026", "123e45", "4111"):
        assert word not in json.dumps(found.told)


# === Forms ===

PICTURES = Reader(Images(kind="images", objective="multiclass", path="x"), {"shape": [2, 2, 1]}, 10)


def test_an_image_of_another_size_is_told_so():
    found = PICTURES.refusal(BadInput("row 0: 3x4 pixels (expected 2x2; name the `size`)"))
    assert found.told["error"] == "3x4 pixels (expected 2x2)"


def test_a_form_that_is_cut_short_is_refused_wherever_it_is():
    whole = form(b"first", b"second")
    assert [row["image"] for row in PICTURES.read(whole, FORM).rows] == [b"first", b"second"]
    assert len(PICTURES.read(form(b"first", end=b"\r\n--limit--"), FORM)) == 1  # without a line end
    for cut in range(1, len(whole) - 3):
        with pytest.raises(Refused) as found:
            PICTURES.read(whole[:cut], FORM)
        assert found.value.status == 400, whole[:cut]


def test_what_reads_forms_logs_no_word_of_them(caplog):
    encoded = form(b"x").replace(b"\r\n\r\n", f"\r\nContent-Transfer-Encoding: {SECRET}\r\n\r\n".encode(), 1)
    assert len(PICTURES.read(encoded, FORM)) == 1
    assert SECRET.lower() not in caplog.text.lower()
