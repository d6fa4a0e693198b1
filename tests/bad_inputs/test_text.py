"""Texts that no model should learn from: cases 72 to 74."""

import pandas as pd
import pytest

from bad_inputs.planting import NOTES, change, refused, write
from trainyard import cli

REFUSED = [
    refused(
        72,
        "an empty text",
        change(NOTES, "\n", "\n,food\n"),
        f"{NOTES}:2: column `note`: the text is empty; 1 such row(s)",
    ),
    refused(
        72,
        "white space alone",
        change(NOTES, "\n", "\n \t\u00a0,food\n"),
        f"{NOTES}:2: column `note`: the text is empty; 1 such row(s)",
    ),
    refused(
        72,
        "nothing that one can see",
        change(NOTES, "\n", "\n\u200b\u2060 \ufeff,food\n"),
        f"{NOTES}:2: column `note`: the text is empty; 1 such row(s)",
    ),
    refused(
        73,
        "a text of 100,000 characters",
        change(NOTES, "soup", "soup" * 25_000),
        f"{NOTES}:2: column `note`: more than 100,000 characters; 1 such row(s)",
    ),
    refused(
        73, "a text of a megabyte", change(NOTES, "soup", "soup" * 262_144), f"{NOTES}:2: field larger than field limit"
    ),
    refused(
        74,
        "bytes that are not UTF-8",
        write(NOTES, b"note,about\nfine,food\nnot \xff,food\n"),
        f"{NOTES}:3: not UTF-8 at byte 25 (save the file as UTF-8)",
    ),
    refused(
        74,
        "half a surrogate pair",
        write(NOTES, b"note,about\n\xed\xa0\x80,food\n"),
        f"{NOTES}:2: not UTF-8 at byte 11",
    ),
    refused(
        74,
        "a mark that turns the direction of reading",
        change(NOTES, "rain", "\u202erain"),
        f"{NOTES}:3: column `note`: a mark that turns the direction of reading, which hides text; 1 such row(s)",
    ),
    refused(
        74,
        "a control character",
        change(NOTES, "rain", "ra\bin"),
        f"{NOTES}:3: column `note`: a control character (is the file text, and UTF-8?); 1 such row(s)",
    ),
    refused(
        28,
        "a text without a label",
        change(NOTES, "soup,food", "soup,"),
        f"{NOTES}:2: column `about`: the label is missing; 1 such row(s)",
    ),
    refused(
        30,
        "the same text over and over",
        write(NOTES, b"note,about\n" + b"So.,food\nso,weather\n" * 9),
        f"{NOTES}: about `food` has 1 example(s) that are neither equal nor of one group",
    ),
]


@pytest.mark.parametrize(("plant", "told", "verbs"), REFUSED)
def test_a_bad_text_is_refused(project, refuses, plant, told, verbs):
    plant()
    refuses(told, *([verb, "notes"] for verb in verbs))


@pytest.mark.bad_input(
    number=74, what="the same text with a mark of no width", then="taken, and kept in one split with the other"
)
def test_marks_of_no_width_make_no_other_text(project):
    change(NOTES, "\n", "\nsoup of the day and bread,food\nso\u200bup of the\u00ad day and bread\u200d,food\n")()
    assert cli.main(["prepare", "notes"]) == 0
    parts = {
        part: set(pd.read_csv(f"build/notes/{part}/rows.csv")["example"]) for part in ("train", "validation", "test")
    }
    assert sum({2, 3} <= rows for rows in parts.values()) == 1
