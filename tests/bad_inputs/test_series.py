"""Series that no model should learn from: cases 63 to 68; others stand where series are read."""

import pandas as pd
import pytest

from bad_inputs.planting import TIDES, both, case, change, lines, params, refused, rewrite
from trainyard import cli


def times(time):
    """Another time in each row, by its place, counted from 0; rows of None are left out."""

    def row(number, cells):
        return cells if number == 1 else [time(number - 2), *cells[1:]]

    return rewrite(TIDES, row)


def october(zone):
    """Twenty-eight hours of Berlin in which the clocks go back, with or without what tells the two hours apart."""
    hours = pd.date_range("2026-10-24T18:00Z", periods=28, freq="h").tz_convert("Europe/Berlin")
    return times(lambda i: hours[i].isoformat() if zone else hours[i].tz_localize(None).isoformat())


def march():
    """Twenty-eight hours of Berlin in which the clocks go ahead, without a zone."""
    hours = pd.date_range("2026-03-28T18:00Z", periods=28, freq="h").tz_convert("Europe/Berlin").tz_localize(None)
    return times(lambda i: hours[i].isoformat())


REFUSED = [
    refused(
        63,
        "times that are not sorted",
        change(TIDES, "2020-01-09", "2020-01-29"),
        f"{TIDES}:11: column `day`: 2020-01-10 is not later than the row before (sort the file, or take one series of",
    ),
    refused(
        64,
        "a time twice",
        change(TIDES, "2020-01-09", "2020-01-08"),
        f"{TIDES}:10: column `day`: 2020-01-08 is not later than the row before",
    ),
    refused(
        65,
        "a day that is left out",
        lines(TIDES, lambda n: n != 10),
        f"{TIDES}:10: 2 days 00:00:00 after the row before, elsewhere 1 days 00:00:00 (name the `step`, and rows that",
    ),
    refused(
        65,
        "days, and then hours",
        times(lambda i: f"2020-01-{1 + i:02d}" if i < 20 else f"2020-01-20T{i - 19:02d}:00"),
        f"{TIDES}:22: 0 days 01:00:00 after the row before, elsewhere 1 days 00:00:00",
    ),
    refused(
        65,
        "a time that is off the grid",
        both(
            params("window: 4\n", "window: 4\n    step: D\n"),
            change(TIDES, "2020-01-09", "2020-01-09T12:00"),
        ),
        f"{TIDES}:10: 2020-01-09T12:00:00 is not on the grid of step `D` from 2020-01-01T00:00:00",
    ),
    refused(
        66,
        "some times with a zone",
        times(lambda i: f"2020-01-{1 + i:02d}T00:00{'Z' if i > 8 else ''}"),
        f"{TIDES}:11: column `day`: '2020-01-10T00:00Z' has a time zone, unlike the rows before",
    ),
    refused(
        66,
        "the hour that comes twice in October, without a zone",
        october(zone=False),
        f"{TIDES}:9: column `day`: 2026-10-25T02:00:00 is not later than the row before",
    ),
    refused(
        66,
        "the hour that is not there in March, without a zone",
        march(),
        f"{TIDES}:9: 0 days 02:00:00 after the row before, elsewhere 0 days 01:00:00",
    ),
    refused(
        67,
        "a month that is none",
        change(TIDES, "2020-01-09", "2026-13-01"),
        f"{TIDES}:10: column `day`: '2026-13-01' is no time (expected ISO 8601: 2026-01-31, 2026-01-31T12:00)",
    ),
    refused(
        67,
        "the day before the month",
        times(lambda i: f"{1 + i:02d}/01/2020"),
        f"{TIDES}:2: column `day`: '01/01/2020' is no time (expected ISO 8601",
    ),
    refused(
        67,
        "1970 in the midst",
        change(TIDES, "2020-01-09", "1970-01-01"),
        f"{TIDES}:10: column `day`: 1970-01-01 is not later than the row before",
    ),
    refused(
        67,
        "1970 at the begin",
        change(TIDES, "2020-01-01", "1970-01-01"),
        f"{TIDES}:3: 18263 days 00:00:00 after the row before, elsewhere 1 days 00:00:00",
    ),
    refused(
        67,
        "1970 at the begin, on a grid of seconds",
        both(params("window: 4\n", "window: 4\n    step: s\n"), change(TIDES, "2020-01-01", "1970-01-01")),
        f"{TIDES}: step `s` from 1970-01-01T00:00:00 to 2020-01-28T00:00:00 makes 1,580,169,600 rows, of which 28 are",
    ),
    refused(
        67, "a year of five digits", change(TIDES, "2020-01-09", "20200-01-09"), f"{TIDES}:10: column `day`: '20200-"
    ),
    refused(
        68,
        "fewer rows than a window takes",
        lines(TIDES, lambda n: n < 5),
        f"{TIDES}: 3 known value(s) of `level`: no future to predict (window 4 + horizon 1 take 5 rows in each split)",
    ),
    refused(
        68,
        "a part with fewer rows than a window takes",
        lines(TIDES, lambda n: n < 15),
        f"{TIDES}: the validation part has 2 rows and no future to predict (window 4 + horizon 1 take 5 rows without",
        "prepare",
    ),
    refused(
        21,
        "a word among a series' numbers",
        change(TIDES, "0.143", "high"),
        f"{TIDES}:3: column `level`: 'high' is no number (mend it)",
    ),
]


@pytest.mark.parametrize(("plant", "told", "verbs"), REFUSED)
def test_a_bad_series_is_refused(project, refuses, plant, told, verbs):
    plant()
    refuses(told, *([verb, "tides"] for verb in verbs))


@pytest.mark.parametrize(
    ("plant", "told"),
    [
        case(
            66,
            "the hour that comes twice in October, with its zone",
            october(zone=True),
            "season of 24 row(s), by the step h",
            then="taken, as two hours",
        ),
        case(
            67,
            "days that are yet to come",
            times(lambda i: f"2199-01-{1 + i:02d}"),
            f"{TIDES}:2: column `day`: '2199-01-01' is yet to come; 28 such row(s)",
            then="taken with the warning `is yet to come`: a clock may be wrong, and so may a year",
        ),
        case(
            69,
            "a series that never changes",
            rewrite(TIDES, lambda number, row: row if number == 1 else [row[0], "7"]),
            "`level`: the same value wherever there is one; a model learns nothing from it",
            then="taken with the remark `the same value wherever there is one`",
        ),
    ],
)
def test_what_may_be_right_is_taken_and_told(project, caplog, plant, told):
    caplog.set_level("INFO", "trainyard")
    plant()
    assert cli.main(["validate", "tides"]) == 0
    assert cli.main(["prepare", "tides"]) == 0
    assert told in caplog.text
