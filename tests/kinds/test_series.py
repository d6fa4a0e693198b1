from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainyard import figures, kinds
from trainyard.kinds import series
from trainyard.kinds.series import Windows
from trainyard.params import Series, Split
from trainyard.quality import baselines, leaks

TIDES = Path("tides.csv")
DAYS = pd.date_range("2020-01-01", periods=60, freq="D").strftime("%Y-%m-%d").tolist()
MONTHS = pd.date_range("2000-01-01", periods=60, freq="MS").strftime("%Y-%m-%d").tolist()


def tides(times=DAYS, level=None, path=TIDES, **columns):
    """A file of tides: `level` and further columns give the text of each cell by its row, counted from 0."""
    made = {"level": level or (lambda i: f"{5 + np.sin(i / 3) + i / 50:.4f}")} | columns
    frame = pd.DataFrame({"day": times} | {name: [cell(i) for i in range(len(times))] for name, cell in made.items()})
    frame.to_csv(path, index=False)


def spec(**knobs):
    return Series(**{"kind": "series", "path": str(TIDES), "time": "day", "target": "level", "window": 4} | knobs)


def levels(asked):
    return series.manifest(asked)["level"].tolist()


# === Windows ===

VALUES = np.arange(20.0, dtype=np.float32).reshape(10, 2)


@pytest.mark.parametrize(
    ("index", "first"),
    [
        (0, 0),
        (-1, 6),
        (np.int64(2), 5),
        (slice(None), [0, 2, 5, 6]),
        (slice(1, 3), [2, 5]),
        (slice(None, None, -2), [6, 2]),
        ([3, 0], [6, 0]),
        (np.array([1, 1]), [2, 2]),
        (np.array([True, False, False, True]), [0, 6]),
        (np.array([], int), []),
        (np.array([[0, 1], [2, 3]]), [[0, 2], [5, 6]]),
    ],
)
def test_windows_are_cut_as_an_array_of_them_would_be(index, first):
    windows = Windows(VALUES, np.array([0, 2, 5, 6]), 4)
    whole = np.stack([VALUES[start : start + 4] for start in (0, 2, 5, 6)])
    assert (len(windows), windows.shape, windows.dtype) == (4, whole.shape, whole.dtype)
    assert np.array_equal(windows[index], whole[index])
    assert np.array_equal(windows[index][..., 0, 0], np.array(first, float) * 2)


def test_a_window_beyond_the_last_is_an_index_error():
    with pytest.raises(IndexError):
        Windows(VALUES, np.array([0, 2]), 4)[2]


# === What is read ===


def test_the_manifest_has_a_row_a_time(here):
    tides(level=lambda i: "" if i == 3 else str(i), wind=lambda i: str(-i), note=lambda i: "x")
    manifest = series.manifest(spec(columns=["wind"]))
    assert list(manifest) == ["time", "row", "wind", "level"]
    assert list(manifest.index[:2]) == ["2020-01-01T00:00:00", "2020-01-02T00:00:00"]
    assert manifest["row"].tolist() == list(range(2, 62))
    assert manifest["wind"].tolist() == [-float(i) for i in range(60)]
    assert np.flatnonzero(manifest["level"].isna()).tolist() == [3]


@pytest.mark.parametrize(
    ("times", "first"),
    [
        (DAYS, "2020-01-01T00:00:00"),
        (pd.date_range("2020-01-01T05:30", periods=60, freq="h").map(pd.Timestamp.isoformat), "2020-01-01T05:30:00"),
        ([f"{day} 12:00" for day in DAYS], "2020-01-01T12:00:00"),
        ([f"{day}T12:00Z" for day in DAYS], "2020-01-01T12:00:00"),
        ([f"{day}T00:30:00+02:00" for day in DAYS], "2019-12-31T22:30:00"),
        ([f"{day}T00:30:00-0230" for day in DAYS], "2020-01-01T03:00:00"),
        ([day.replace("-", "") for day in DAYS], "2020-01-01T00:00:00"),
        ([day[:7] for day in MONTHS], "2000-01-01T00:00:00"),
        ([str(1960 + i) for i in range(60)], "1960-01-01T00:00:00"),
    ],
)
def test_times_are_iso_8601_and_those_with_a_zone_become_utc(here, times, first):
    tides(times)
    assert series.manifest(spec()).index[0] == first


def test_an_hour_that_summer_time_repeats_is_two_hours(here):
    times = pd.date_range("2024-10-26T12:00", periods=60, freq="h", tz="Europe/Berlin")
    tides([time.isoformat() for time in times])
    assert {time[-6:] for time in pd.read_csv(TIDES)["day"]} == {"+02:00", "+01:00"}
    assert series.facts(spec(), series.manifest(spec()))["step"] == "h"


def test_where_takes_the_rows_of_one_station(here):
    tides([day for day in DAYS for _ in "ab"], station=lambda i: "ab"[i % 2], level=str)
    asked = spec(where={"station": "b"})
    assert levels(asked) == list(range(1, 120, 2))
    assert series.manifest(asked)["row"].tolist() == list(range(3, 122, 2))


def changed(place, value, times=DAYS):
    return [*times[:place], *([value] if value else []), *times[place + 1 :]]


BAD = {
    "not sorted": (
        {"times": [*DAYS[:5], DAYS[6], DAYS[5], *DAYS[7:]]},
        {},
        "tides.csv:8: column `day`: 2020-01-06 is not",
    ),
    "backwards": ({"times": DAYS[::-1]}, {}, "tides.csv:3: column `day`: 2020-02-28 is not later than the row before"),
    "twice": (
        {"times": changed(9, DAYS[8])},
        {},
        "tides.csv:11: column `day`: 2020-01-09 is not later than the row before",
    ),
    "no such day": (
        {"times": changed(5, "2020-13-01")},
        {},
        "tides.csv:7: column `day`: '2020-13-01' is no time (expected",
    ),
    "day first": ({"times": changed(0, "31/01/2020")}, {}, "tides.csv:2: column `day`: '31/01/2020' is no time"),
    "a number": ({"times": changed(0, "1577836800")}, {}, "tides.csv:2: column `day`: '1577836800' is no time"),
    "no time": ({"times": [*changed(7, "")[:7], "", *DAYS[8:]]}, {}, "tides.csv:9: column `day`: '' is no time"),
    "some with a zone": (
        {"times": [f"{day}T00:00" + "Z" * (i > 8) for i, day in enumerate(DAYS)]},
        {},
        "tides.csv:11: column `day`: '2020-01-10T00:00Z' has a time zone, unlike the rows before",
    ),
    "some without a zone": (
        {"times": [f"{day} 00:00" + "+02" * (i < 9) for i, day in enumerate(DAYS)]},
        {},
        "tides.csv:11: column `day`: '2020-01-10 00:00' lacks a time zone, unlike the rows before",
    ),
    "a day left out": (
        {"times": changed(30, None)},
        {},
        "tides.csv:32: 2 days 00:00:00 after the row before, elsewhere 1 days 00:00:00 (name the `step`, and rows that",
    ),
    "a month left out": (
        {"times": changed(30, None, MONTHS)},
        {},
        "tides.csv:32: 61 days 00:00:00 after the row before, elsewhere 31 days 00:00:00 (name the `step`",
    ),
    "an hour too much": (
        {"times": changed(30, "2020-01-31T01:00")},
        {},
        "tides.csv:32: 1 days 01:00:00 after the row before, elsewhere 1 days 00:00:00",
    ),
    "off the grid": (
        {"times": changed(30, "2020-01-31T01:00")},
        {"step": "D"},
        "tides.csv:32: 2020-01-31T01:00:00 is not on the grid of step `D` from 2020-01-01T00:00:00",
    ),
    "another grid": (
        {},
        {"step": "MS"},
        "tides.csv:3: 2020-01-02T00:00:00 is not on the grid of step `MS` from 2020-01-01T00:00:00",
    ),
    "no step": ({}, {"step": "dayly"}, "tides.csv: step `dayly` is no pandas offset (h, D, W-SAT, MS ...)"),
    "a step of nothing": ({}, {"step": "0h"}, "tides.csv: step `0h` is no pandas offset (h, D, W-SAT, MS ...)"),
    "a word": (
        {"level": lambda i: "high" if i in (4, 5) else "1"},
        {},
        "tides.csv:6: column `level`: 'high' is no number; 2 such cells (mend it)",
    ),
    "no such column": ({}, {"target": "levle"}, "tides.csv:1: no column `levle` (did you mean `level`?)"),
    "no such time": ({}, {"time": "date"}, "tides.csv:1: no column `date` (it has: day, level)"),
    "no such other column": ({}, {"columns": ["wind"]}, "tides.csv:1: no column `wind` (it has: day, level)"),
    "no such station column": (
        {},
        {"where": {"station": "a"}},
        "tides.csv:1: no column `station` (it has: day, level)",
    ),
    "no such station": (
        {"station": lambda i: "a"},
        {"where": {"station": "b"}},
        "tides.csv: no row has `b` in column `station`",
    ),
    "no future at all": (
        {"times": DAYS[:4]},
        {},
        "tides.csv: 4 known value(s) of `level`: no future to predict (window 4 + horizon 1 take 5 rows in each split)",
    ),
    "hardly a value": (
        {"level": lambda i: "1" if i < 4 else ""},
        {},
        "tides.csv: 4 known value(s) of `level`: no future to predict",
    ),
    "no future in the validation part": (
        {"times": DAYS[:20]},
        {},
        "tides.csv: the validation part has 4 rows and no future to predict (window 4 + horizon 1 take 5 rows",
    ),
    "no future in the test part": (
        {"times": DAYS[:40]},
        {"horizon": 5, "split": Split(validation=0.4, test=0.2)},
        "tides.csv: the test part has 8 rows and no future to predict (window 4 + horizon 5 take 9 rows without a gap)",
    ),
    "gaps everywhere": (
        {"level": lambda i: "" if i % 4 == 0 else "1"},
        {},
        "tides.csv: the train part has 36 rows and no future to predict",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_series_are_refused_with_file_and_row(prepared, refusal, case):
    data, knobs, told = BAD[case]
    tides(**data)
    assert refusal(lambda: prepared(spec(**knobs))).startswith(told)
    assert not Path("build/data").exists()


def test_rows_may_come_at_any_time_where_params_say_so(prepared):
    times = [f"{1900 + i * i // 10}" for i in range(3, 63)]
    tides(times)
    data = prepared(spec(regular=False))
    assert data.facts == {"columns": ["level"], "step": None, "season": 1}
    assert len(data.train) == 36 - 4


# === Steps, seasons and what is missing ===


@pytest.mark.parametrize(
    ("freq", "step", "season"),
    [
        ("s", "s", 60),
        ("min", "min", 60),
        ("15min", "15min", 4),
        ("7min", "7min", 1),
        ("h", "h", 24),
        ("2h", "2h", 12),
        ("5h", "5h", 1),
        ("D", "D", 7),
        ("B", "B", 5),
        ("W-SAT", "W-SAT", 52),
        ("MS", "MS", 12),
        ("ME", "ME", 12),
        ("QE-DEC", "QE-DEC", 4),
        ("YS-JAN", "YS-JAN", 1),
    ],
)
def test_the_season_follows_from_the_step_between_rows(here, freq, step, season):
    tides(pd.date_range("2020-01-01", periods=60, freq=freq).map(pd.Timestamp.isoformat))
    assert series.facts(spec(), series.manifest(spec())) == {"columns": ["level"], "step": step, "season": season}


def test_params_may_name_step_and_season(here):
    tides()
    asked = spec(step="D", season=30)
    assert series.facts(asked, series.manifest(asked)) == {"columns": ["level"], "step": "D", "season": 30}


def test_rows_that_the_file_leaves_out_count_as_missing(here):
    tides([day for i, day in enumerate(DAYS) if i not in (10, 11, 20)], level=str)
    manifest = series.manifest(spec(step="D"))
    assert len(manifest) == 60
    assert np.flatnonzero(manifest["level"].isna()).tolist() == [10, 11, 20]
    assert manifest["row"].isna().tolist() == manifest["level"].isna().tolist()
    assert list(manifest.index) == [f"{day}T00:00:00" for day in DAYS]


def starts(asked):
    """Where windows begin, in a series that is one split."""
    return series._starts(asked, series.manifest(asked)).tolist()


@pytest.mark.parametrize(
    ("missing", "knobs", "expected"),
    [
        ([], {}, range(16)),  # 20 rows, a window of 4 and 1 ahead
        ([], {"horizon": 3}, range(14)),
        ([10], {}, [0, 1, 2, 3, 4, 5, 11, 12, 13, 14, 15]),
        ([10], {"fill": 1}, [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15]),  # the answer is never filled
        ([10, 11], {"fill": 1}, [0, 1, 2, 3, 4, 5, 12, 13, 14, 15]),  # row 11 is one too far
        ([10, 11], {"fill": 2}, [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15]),
        ([0, 1], {"fill": 5}, range(2, 16)),  # nothing to fill with
        ([19], {}, range(15)),
        ([10], {"horizon": 3}, [0, 1, 2, 3, 11, 12, 13]),
    ],
)
def test_windows_hold_no_missing_value_and_answers_are_never_filled(here, missing, knobs, expected):
    tides(DAYS[:20], level=lambda i: "" if i in missing else str(i))
    assert starts(spec(**knobs)) == list(expected)


def test_a_missing_value_of_another_column_is_no_missing_answer(here):
    tides(DAYS[:12], level=str, wind=lambda i: "" if i == 6 else "1")
    # windows of rows 0 to 5 and 7 to 11; row 6 itself is an answer
    assert starts(spec(columns=["level", "wind"])) == [0, 1, 2, 7]


def test_what_is_filled_is_the_last_known_value(here):
    tides(DAYS[:8], level=lambda i: "" if i in (3, 4) else str(i))
    asked = spec(fill=2)
    assert series._filled(asked, series.manifest(asked))[:, 0].tolist() == [0, 1, 2, 2, 2, 5, 6, 7]


@given(
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(0, 2),
    st.sets(st.integers(0, 39), max_size=6),
    st.floats(0.15, 0.3),
    st.floats(0.15, 0.3),
)
def test_windows_lie_wholly_in_their_split_and_hold_what_the_rows_say(
    tmp_path_factory, window, horizon, fill, missing, validation, test
):
    folder = tmp_path_factory.mktemp("series")
    tides(DAYS[:40], level=lambda i: "" if i in missing else str(i), path=folder / "tides.csv")
    asked = spec(
        path=str(folder / "tides.csv"), window=window, horizon=horizon, fill=fill,
        split=Split(validation=validation, test=test),
    )  # fmt: skip
    manifest = series.manifest(asked)
    try:
        parts = series.split(asked, manifest, 1)
    except series.BadInput:
        return  # a part holds no whole window
    assert list(parts) == sorted(parts, key=["train", "validation", "test"].index)
    facts = series.facts(asked, manifest)
    for part in ("train", "validation", "test"):
        (folder / part).mkdir()
        series.write(asked, facts, manifest[parts == part], folder / part)
        examples = series.read(asked, facts, folder / part)
        places = np.flatnonzero(parts == part)
        for example in range(len(examples)):
            seen, came = examples.raw["window"][example][:, 0], examples.target[example]
            last = manifest.index.get_loc(examples.rows.index[example])
            rows = range(last - window + 1, last + horizon + 1)
            assert set(rows) <= set(places)
            assert not missing & set(rows[window:])
            assert came.tolist() == list(rows[window:])
            for value, row in zip(seen, rows, strict=False):
                assert value == row or (row in missing and row - fill <= value < row)


# === What is written is what is read, and what decode gives ===

SHAPES = {
    "one column": ({}, {}),
    "several steps ahead": ({}, {"horizon": 3}),
    "two columns": ({"wind": lambda i: str(i / 3)}, {"columns": ["wind", "level"]}),
    "the target is among the columns": ({"wind": lambda i: str(i / 3)}, {"columns": ["wind"]}),
    "months": ({"times": MONTHS}, {}),
    "gaps": ({"level": lambda i: "" if i % 13 == 5 else str(i / 7)}, {}),
    "filled gaps": ({"level": lambda i: "NA" if i % 13 in (5, 6) else str(i / 7)}, {"fill": 2}),
    "marks of missing": ({"level": lambda i: "-99" if i % 13 == 5 else str(i / 7)}, {"missing": ["-99"]}),
    "left out rows": ({"times": [day for i, day in enumerate(DAYS) if i % 13 != 5]}, {"step": "D"}),
    "zones": ({"times": [f"{day}T00:00+02:00" for day in DAYS]}, {}),
    "one of two stations": (
        {"times": [day for day in DAYS for _ in "ab"], "station": lambda i: "ab"[i % 2]},
        {"where": {"station": "a"}},
    ),
    "a station with a number": (
        {"times": [day for day in DAYS for _ in "ab"], "station": lambda i: str(i % 2)},
        {"where": {"station": "1"}},
    ),
    "a window of one row": ({}, {"window": 1}),
}


def rows_of(asked, manifest, split):
    """The rows of one split, as anybody reads them who wants text."""
    lines = manifest["row"][split].dropna().astype(int)
    return pd.read_csv(asked.path, dtype=str, keep_default_na=False).iloc[lines - 2]


@pytest.mark.parametrize("case", SHAPES)
def test_what_is_written_is_what_is_read_and_what_decode_gives(prepared, case):
    data, knobs = SHAPES[case]
    tides(**data)
    asked = spec(**knobs)
    found = prepared(asked)
    manifest = series.manifest(asked)
    parts = series.split(asked, manifest, 1)
    place = found.facts["columns"].index("level")
    for name in ("train", "validation", "test"):
        part = getattr(found, name)
        rows = rows_of(asked, manifest, parts == name)
        raw, names = series.decode(asked, found.facts, rows[rows.columns[::-1]].assign(extra=[[1]] * len(rows)))
        own = np.isin(names, part.rows.index)  # it answers the last rows too, whose future nobody knows
        assert list(names[own]) == list(part.rows.index) == list(part.rows["time"])
        assert raw["window"].dtype == part.raw["window"].dtype == np.float32
        assert np.array_equal(raw["window"][own], part.raw["window"][:])
        values = manifest["level"][parts == name].to_numpy(np.float32)
        at = manifest.index[parts == name].get_indexer(part.rows.index)
        assert np.array_equal(part.target, values[at[:, None] + 1 + np.arange(asked.horizon)])
        assert part.target.shape == (len(part), asked.horizon)
        last = part.raw["window"][:][:, -1, place]
        assert asked.fill or np.array_equal(last, values[at])


@pytest.mark.parametrize("case", SHAPES)
def test_decode_takes_a_frame_as_pandas_reads_it(prepared, case):
    data, knobs = SHAPES[case]
    tides(**data)
    asked = spec(**knobs)
    found = prepared(asked)
    frame = pd.read_csv(TIDES)
    frame["day"] = pd.to_datetime(frame["day"])
    as_text, names = series.decode(asked, found.facts, pd.read_csv(TIDES, dtype=str, keep_default_na=False))
    as_read, others = series.decode(asked, found.facts, frame.set_index(frame["day"].astype(str) + " row"))
    assert list(names) == list(others)
    assert np.array_equal(as_text["window"], as_read["window"])


def test_rows_of_one_station_need_not_say_so(prepared):
    tides(station=lambda i: "a")
    asked = spec(where={"station": "a"})
    found = prepared(asked)
    raw, names = series.decode(asked, found.facts, pd.read_csv(TIDES)[["day", "level"]].tail(4))
    assert raw["window"].shape == (1, 4, 1)
    assert list(names) == [f"{DAYS[-1]}T00:00:00"]


@pytest.mark.parametrize(
    ("rows", "knobs", "told"),
    [
        ({"level": [1.0]}, {}, "no column `day` in the rows to answer"),
        ({"day": DAYS[:4]}, {}, "no column `level` in the rows to answer"),
        ({"day": [], "level": []}, {}, "no rows to answer"),
        ({"day": [], "level": []}, {"step": "D"}, "no rows to answer"),
        (
            {"day": DAYS[:3], "level": 1.0},
            {},
            "3 rows hold no whole window (expected 4 rows in a row without a missing value)",
        ),
        (
            {"day": DAYS[:1], "level": 1.0},
            {"step": "D"},
            "1 rows hold no whole window (expected 4 rows in a row without",
        ),
        (
            {"day": DAYS[:5], "level": [1, 1, None, 1, 1]},
            {},
            "5 rows hold no whole window (expected 4 rows in a row without a missing value); missing: `level` in 1",
        ),
        ({"day": DAYS[:4], "level": [1, 2, "x", 4]}, {}, "rows:9: column `level`: 'x' is no number (mend it)"),
        (
            {"day": DAYS[:4], "level": [1, 2, 3, float("inf")]},
            {},
            "rows:10: column `level`: inf is too large for float32",
        ),
        ({"day": DAYS[3::-1], "level": 1.0}, {}, "rows:8: column `day`: 2020-01-03 is not later than the row before"),
        ({"day": [*DAYS[:3], "soon"], "level": 1.0}, {}, "rows:10: column `day`: 'soon' is no time"),
        ({"day": [*DAYS[:3], None], "level": 1.0}, {}, "rows:10: column `day`: "),
        ({"day": [*DAYS[:4], DAYS[9]], "level": 1.0}, {}, "rows:11: 6 days 00:00:00 after the row before"),
        (
            {"day": DAYS[:4], "level": 1.0, "station": "b"},
            {"where": {"station": "a"}},
            "rows: no row has `a` in column `sta",
        ),
    ],
)
def test_rows_that_cannot_be_answered_are_refused(refusal, rows, knobs, told):
    frame = pd.DataFrame(rows, index=pd.RangeIndex(7, 7 + len(rows.get("day", [1]))))
    assert refusal(lambda: series.decode(spec(**knobs), {"columns": ["level"]}, frame)).startswith(told)


def test_splits_of_a_series_hold_no_leak_and_a_planted_one_is_found(here):
    tides()
    manifest = series.manifest(spec())
    parts = series.split(spec(), manifest, 1)
    assert not kinds.audit(spec(), manifest, parts)
    twice = series.contents(spec(), manifest)
    twice.iloc[50] = twice.iloc[3]
    assert [finding.told for finding in leaks.shared(parts, twice)] == [
        "the same content in 2 splits: 2020-01-04T00:00:00 (train), 2020-02-20T00:00:00 (test)"
    ]


def test_the_split_is_that_of_time_whatever_the_seed(here):
    tides()
    manifest = series.manifest(spec())
    one, two = (series.split(spec(split=Split(validation=0.3, test=0.2)), manifest, seed) for seed in (1, 2))
    assert one.equals(two)
    assert one.tolist() == ["train"] * 30 + ["validation"] * 18 + ["test"] * 12


# === Preprocessing ===


def joined(data, core_output):
    """Features of the test split, what the core learns there, and the answers to a core that says `core_output`."""
    import keras

    preprocessing = series.preprocessing(data.spec, data.facts, data.train)
    windows = {"window": data.test.raw["window"][:]}
    core = keras.Sequential([
        keras.Input(preprocessing.features.shape[1:]), keras.layers.Flatten(), keras.layers.Dense(data.units, "linear"),
    ])  # fmt: skip
    kernel, _ = core.layers[-1].get_weights()
    core.layers[-1].set_weights([kernel * 0, np.array(core_output)])
    features = keras.ops.convert_to_numpy(preprocessing.model()(windows))
    return features, preprocessing.learns(data.test), keras.ops.convert_to_numpy(preprocessing.join(core)(windows))


def test_columns_are_scaled_and_the_core_learns_the_scaled_change_from_the_last_value(prepared):
    tides(wind=lambda i: str(1000 + 7 * (i % 5)), same=lambda i: "3")
    data = prepared(spec(columns=["wind", "level", "same"], horizon=2))
    features, learned, answers = joined(data, [1.0, -2.0])
    train = np.asarray(data.train.raw["window"].values, np.float64)
    spread = train.std(axis=0)
    expected = (data.test.raw["window"][:] - train.mean(axis=0)) / np.where(spread > 0, spread, 1)
    np.testing.assert_allclose(features, expected, atol=1e-4)
    change = data.train.target - data.train.raw["window"][:][:, -1, 1:2]
    last = data.test.raw["window"][:][:, -1, 1:2]
    np.testing.assert_allclose(learned, (data.test.target - last) / change.std(), rtol=1e-5)
    np.testing.assert_allclose(answers, last + change.std() * np.array([[1.0, -2.0]]), rtol=1e-5)


@pytest.mark.bad_input(
    number=71, what="other values after the training part", then="scales stay bit for bit as they were"
)
def test_preprocessing_is_fitted_on_the_training_split_alone(prepared):
    import keras

    probe = np.arange(8.0, dtype=np.float32).reshape(2, 4, 1)
    parts = {"none": (), "validation": range(36, 48), "test": range(48, 60), "train": range(36)}
    found = {}
    for name, rows in parts.items():
        tides(level=lambda i, rows=rows: str((5 + np.sin(i / 3)) * (100 if i in rows else 1)))
        data = prepared(spec())
        preprocessing = series.preprocessing(data.spec, data.facts, data.train)
        zero = preprocessing.features[:, -1] * 0
        scaled = keras.Model(preprocessing.inputs, [preprocessing.features, preprocessing.answer(zero + 1)])
        found[name] = [keras.ops.convert_to_numpy(output) for output in scaled({"window": probe})]
    for name in parts:
        same = name != "train"
        assert [np.array_equal(one, two) for one, two in zip(found[name], found["none"], strict=True)] == [same, same]


@pytest.mark.bad_input(
    number=69, what="a constant series, whose scale is nothing", then="trained and answered by its value"
)
def test_a_constant_series_is_answered_by_its_value(prepared):
    tides(level=lambda i: "7")
    features, learned, answers = joined(prepared(spec()), [0.0])
    assert not features.any()
    assert not learned.any()
    assert (answers == 7).all()


# === Baselines and figures ===


def test_baselines_answer_the_test_split_from_all_that_is_known_then(prepared):
    tides(wind=str)
    data = prepared(spec(columns=["wind"], horizon=2, season=5))
    naive, classical = series.compared(data.spec, data)
    whole = np.array(levels(data.spec), np.float32).astype(np.float64)
    origins = np.arange(48 + 3, 60 - 2)
    assert naive.name == "seasonal naive (5)"
    assert classical.name == "ETS"
    assert naive.answer.tolist() == [[whole[o - 4], whole[o - 3]] for o in origins]
    assert np.array_equal(classical.answer, baselines.ets(whole, 48, origins, 2, 5))
    figure = series.mistakes(data.spec, data.facts, data.test, naive.answer)
    figures.save(figure, Path("mistakes.png"))
    assert len(figure.axes) == 6
    error = np.abs(data.test.target - naive.answer).mean(axis=1)
    assert figure.axes[0].get_title() == f"after {data.test.rows.index[error.argmax()]}".removesuffix("T00:00:00")


def test_what_the_kind_expects(here):
    tides()
    (expected,) = series.expectations(spec(), series.manifest(spec()))
    assert (expected.column, expected.not_null, expected.unique) == ("time", True, True)
