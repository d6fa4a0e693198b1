"""What is kept is what `fresh` of the kind reads, whatever is asked: one odd row costs no other; and it stays small."""

import io
import time
import tracemalloc
from base64 import b64encode
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trainyard import files, kinds
from trainyard.params import Keep, Series, Speech, Tables, Text
from trainyard.serving import kept
from trainyard.serving.kept import FOLDER, keeper

PLACE = FOLDER / "m"
ODD = ['say "hi"', "a,b", "two\nlines", "a lone\rreturn", "\ttab", " ", "NA", "", "'", "\u2028", "\ufeffmark", "a\x00b"]


@pytest.fixture
def texts(here):
    """Keeps texts as a dataset with these knobs; gives what is read of them."""

    def keep(said, share=1.0, megabytes=1.0, **knobs):
        knobs = {"text": "said", "target": "label", "objective": "binary", **knobs}
        spec = Text(kind="text", path=str(PLACE / "rows.csv"), **knobs)
        one = keeper("m", spec, {}, Keep(share=share, megabytes=megabytes), ["said"], [])
        one.take([{"said": text} for text in said])
        one.write(now=True)
        return kinds.of(spec).fresh(spec, {})["said"].tolist()

    return keep


UNREAD = ["", " ", "\u2028", "\u200b", "bell\x07", "nul\x00", "turned \u202e"]


def test_texts_that_drift_refuses_are_not_kept(texts):
    good = ['say "hi"', "a,b", "two\nlines", "a lone\rreturn", "plain", "'"]
    assert texts([*UNREAD, *good]) == good
    assert (PLACE / "rows.csv").read_bytes().startswith(b'"said"\n"say ""hi"""\n')


def test_they_are_written_as_the_dataset_is_without_quotes_and_without_a_header(texts):
    good = ['say "hi"', '"', "a,b", "plain"]
    bad = [*UNREAD, "two\nlines", "a lone\rreturn", "a\ttab"]
    knobs = {"delimiter": "\t", "quoting": False, "names": ["id", "said", "label", "who"], "group": "who"}
    assert texts([*bad, *good], **knobs) == good
    first = texts(["PAR1 and more", "plain"], **{**knobs, "names": ["said", "label"], "group": None})
    assert first == ["plain"]  # a file that begins with it would be taken for a Parquet file
    (PLACE / "rows.csv").unlink()
    assert texts([*bad, *good], **knobs) == good
    lines = (PLACE / "rows.csv").read_text().splitlines()
    assert [len(line.split("\t")) for line in lines] == [4] * 4
    assert len({line.split("\t")[3] for line in lines}) == 4  # a group each
    assert texts(good, **knobs) == good  # a later server has seen them


def test_rows_of_a_table_are_read_back_whatever_stands_in_their_cells(here):
    spec = Tables(kind="tables", objective="binary", path=str(PLACE / "rows.csv"), target="y", missing=["?", "NA"])
    facts = {"numeric": ["a"], "categorical": ["c"], "categories": {"c": ["x"]}}
    one = keeper("m", spec, facts, Keep(share=1.0), ["a", "c"], [])
    one.take([{"a": float("nan") if place % 2 else place / 3, "c": text} for place, text in enumerate(ODD)])
    one.take([{"a": 1.5, "c": None}])
    one.write(now=True)
    found = kinds.of(spec).fresh(spec, facts)
    whole = [text for text in ODD if "\x00" not in text]
    assert found["c"].fillna("none").tolist() == [{"NA": "none"}.get(text, text) for text in whole] + ["none"]
    assert found["a"].isna().tolist() == [place % 2 == 1 for place, text in enumerate(ODD) if text in whole] + [False]
    unnamed = spec.model_copy(update={"names": ["y", "c", "z", "a"], "path": str(FOLDER / "n" / "rows.csv")})
    one = keeper("n", unnamed, facts, Keep(share=1.0), ["a", "c"], [])
    one.take([{"a": 1.5, "c": "x"}])
    one.write(now=True)
    assert kinds.of(unnamed).fresh(unnamed, facts)[["a", "c"]].to_numpy().tolist() == [[1.5, "x"]]


# === Series ===

DAYS = pd.date_range("2026-01-01", periods=12)
FAR = ["2026-01-01", "2026-02-01"]


@pytest.fixture
def series(here):
    """Keeps blocks of a daily series; gives the times that are read of it."""

    def keep(*blocks, **knobs):
        knobs = {"time": "day", "target": "level", "window": 2, "horizon": 1, **knobs}
        spec = Series(kind="series", path=str(PLACE / "rows.csv"), **knobs)
        facts = {"columns": ["level"], "step": "D", "season": 7}
        one = keeper("m", spec, facts, Keep(share=0.1), ["day", "level"], [])
        for block in blocks:
            one.take([{"day": day, "level": 1.0} for day in block])
        one.write(now=True)
        return [str(day)[:10] for day in kinds.of(spec).fresh(spec, facts).index]

    return keep


def days(*places, form="%Y-%m-%d"):
    return [DAYS[place].strftime(form) for place in places]


def test_times_are_kept_in_one_form_and_once(series):
    blocks = [days(0, 1, 2), days(1, 2, 3, form="%Y-%m-%dT%H:%M"), days(3, 4, form="%Y-%m-%dT%H:%M:%SZ")]
    assert series(*blocks) == days(*range(5))
    assert series(days(5, 6, form="%Y-%m-%dT00:00:00+00:00")) == days(*range(7))  # a later server goes on


def test_rows_that_leave_a_gap_begin_anew_and_older_ones_are_left_out(series):
    assert series(days(0, 1, 2), days(5, 6, 7, 8)) == days(5, 6, 7, 8)
    assert series(days(0, 1, 2)) == days(5, 6, 7, 8)
    assert series(days(3, 4)) == days(*range(3, 9))
    assert series(days(2, 4, 6, 8, 10)) == days(*range(3, 9))  # of another step


def test_two_rows_far_apart_cost_nothing(here):
    """All seconds between them take twenty megabytes, and those of a thousand years what no machine has."""
    spec = Series(kind="series", path="x", time="day", target="level", window=2, horizon=1)
    facts, rows = {"columns": ["level"], "step": "s", "season": 1}, [{"day": day, "level": 1.0} for day in FAR]
    assert len(kinds.of(spec).decode(spec, facts, pd.DataFrame(rows))[1]) == 1  # so they are answered
    one = keeper("m", spec, facts, Keep(), ["day", "level"], [])
    tracemalloc.start()
    one.take(rows)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**20
    assert not one._new


def test_a_long_run_is_sorted_only_where_rows_come_before_its_end(here, monkeypatch):
    spec = Series(kind="series", path="x", time="day", target="level", window=2, horizon=1)
    one = keeper("m", spec, {"columns": ["level"], "step": "D", "season": 7}, Keep(), ["day", "level"], [])
    monkeypatch.setattr(kept, "sorted", lambda items: calls.append(1) or sorted(items), raising=False)
    calls = []
    for places, times in (((4, 5, 6), 0), ((5, 6, 7), 0), ((8, 9), 0), ((5, 6), 0), ((3, 4, 5), 1)):
        one.take([{"day": day, "level": 1.0} for day in days(*places)])
        assert len(calls) == times
    assert [name[:10] for name in one._run] == days(*range(3, 10))


def test_of_several_series_the_models_own_is_kept(here):
    spec = Series(
        kind="series", path=str(PLACE / "rows.csv"), time="day", target="level", window=2, horizon=1, where={"at": "n"}
    )
    facts = {"columns": ["level"], "step": "D", "season": 7}
    one = keeper("m", spec, facts, Keep(), ["day", "level"], [])
    one.take([{"day": day, "level": "2", "at": at} for at in "ns" for day in days(0, 1, 2)])
    one.take([{"day": day, "level": 3.0} for day in days(3, 4)])  # JSON does not name it
    one.write(now=True)
    assert kinds.of(spec).fresh(spec, facts)["level"].tolist() == [2, 2, 2, 3, 3]


# === Files ===


def sound(form="WAV", rate=8000, channels=1, seed=0, **knobs):
    import soundfile

    content = io.BytesIO()
    samples = np.random.default_rng(seed).normal(size=(800, channels)) / 10
    soundfile.write(content, samples, rate, format=form, **knobs)
    return content.getvalue()


@pytest.fixture
def recordings(here):
    def keep(*contents, megabytes=1.0, **knobs):
        spec = Speech(kind="speech", path=str(PLACE), **knobs)
        example = [{"recording": b64encode(sound()).decode()}]
        one = keeper("m", spec, {}, Keep(share=1.0, megabytes=megabytes), ["recording"], example)
        one.take([{"recording": content} for content in contents])
        one.write(now=True)
        return kinds.of(spec).fresh(spec, {})

    return keep


def test_recordings_of_each_kind_get_their_ending_and_are_counted(recordings):
    tag = b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10)
    contents = [sound(), sound(endian="BIG", seed=1), tag + sound("FLAC", seed=2), sound("OGG", seed=3)]
    assert contents[1].startswith(b"RIFX")
    found = recordings(*contents, group="who")
    assert [Path(name).suffix for name in found.index] == [".wav", ".wav", ".flac", ".ogg"]
    assert 0 < len(recordings(*contents, megabytes=0.007, group="who")) < 4
    there = [path for path in PLACE.iterdir() if path.suffix != ".csv"]
    assert sum(path.stat().st_size for path in there) <= 7000


def test_recordings_unlike_those_of_the_data_are_not_kept_unless_it_is_mixed(recordings):
    contents = [sound(), sound(rate=16_000, seed=1), sound(channels=2, seed=2)]
    assert len(recordings(*contents)) == 1
    assert len(recordings(*contents, mixed=True)) == 3


def test_what_a_death_has_left_is_put_in_order(recordings):
    recordings(sound())
    (PLACE / f"{'a' * 64}.wav").write_bytes(sound(seed=5))  # not in transcripts.csv yet
    (PLACE / ".b.flac.tmp").mkdir()
    (PLACE / ".b.flac.tmp" / "b.flac").write_bytes(b"half")
    assert len(recordings()) == 2


# === How much, and when it fails ===


def test_the_file_grows_by_what_is_new_until_it_is_full_and_then_halves(texts, monkeypatch):
    whole = []
    monkeypatch.setattr(
        files, "write_bytes", lambda path, *parts: whole.append(path) or path.write_bytes(b"".join(parts))
    )
    PLACE.mkdir(parents=True)
    for number in range(40):
        found = texts([f"{number:03d} \u00e9{'x' * 90}"], megabytes=0.001)
        assert found[-1].startswith(f"{number:03d}")
        assert (PLACE / "rows.csv").stat().st_size <= 1000  # bytes, not letters
    assert 4 < len(whole) < 12
    assert 3 <= len(found) < 10


def test_what_somebody_removes_does_not_come_back(here):
    spec = Text(kind="text", path="x", text="said", target="y", objective="binary")
    tide = Series(kind="series", path="x", time="day", target="level", window=2, horizon=1)
    facts, place = {"columns": ["level"], "step": "D", "season": 7}, FOLDER / "tide" / "rows.csv"
    one = keeper("m", spec, {}, Keep(share=1.0), ["said"], [])
    other = keeper("tide", tide, facts, Keep(), ["day", "level"], [])
    for number in range(2):
        one.take([{"said": f"text {number}"}])
        other.take([{"day": days(number)[0], "level": number}])
        one.write(now=True)
        other.write(now=True)
        for path in (PLACE / "rows.csv", place):
            assert len(path.read_text().splitlines()) == 2
            path.unlink()


def test_two_servers_of_a_model_write_beside_each_other(here):
    """As at a reload, where one begins before the other ends."""
    spec = Text(kind="text", path=str(PLACE / "rows.csv"), text="said", target="y", objective="binary")
    both = [keeper("m", spec, {}, Keep(share=1.0, megabytes=0.001), ["said"], []) for _ in range(2)]
    for number in range(40):
        both[number % 2].take([{"said": f"{number // 3:03d} {'x' * (90 - number)}"}])
        both[number % 2].write(now=True)
        found = kinds.of(spec).fresh(spec, {})["said"].tolist()
        assert len(found) == len(set(found))
    assert not (PLACE / "rows-before.csv").exists()
    call = Speech(kind="speech", path=str(FOLDER / "calls"))
    example = [{"recording": b64encode(sound()).decode()}]
    both = [keeper("calls", call, {}, Keep(share=1.0), ["recording"], example) for _ in range(2)]
    for number in range(4):
        both[number % 2].take([{"recording": sound(seed=number)}])
        both[number % 2].write(now=True)
        assert len(kinds.of(call).fresh(call, {})) == number + 1


def test_what_waits_to_be_written_is_bounded(here, monkeypatch):
    monkeypatch.setattr(kept, "PENDING", 1000)
    spec = Text(kind="text", path="x", text="said", target="y", objective="binary")
    one = keeper("m", spec, {}, Keep(share=1.0), ["said"], [])
    one.take([{"said": f"{number} {'x' * 90}"} for number in range(100)])
    assert 5 < len(one._new) < 12


def test_a_writing_keeps_no_answer_waiting(here, monkeypatch):
    spec = Text(kind="text", path="x", text="said", target="y", objective="binary")
    one = keeper("m", spec, {}, Keep(share=1.0), ["said"], [])
    put = one._put
    monkeypatch.setattr(one, "_put", lambda new: time.sleep(0.5) or put(new))
    one.take([{"said": "first"}])
    began = time.monotonic()
    one.write()
    one.take([{"said": "second"}])
    one.write()
    assert time.monotonic() - began < 0.3
    one.take([{"said": "first"}])  # which is not there yet
    one.write(now=True)
    assert (PLACE / "rows.csv").read_text() == '"said"\n"first"\n"second"\n'


@pytest.mark.parametrize("plant", ["a file where the folder is", "a folder where the file is"])
def test_where_nothing_can_be_written_a_line_says_so_and_no_more(here, caplog, plant):
    if plant == "a file where the folder is":
        FOLDER.parent.mkdir()
        FOLDER.write_text("")
    else:
        (PLACE / "rows.csv").mkdir(parents=True)
    spec = Text(kind="text", path="x", text="said", target="y", objective="binary")
    one = keeper("m", spec, {}, Keep(share=1.0), ["said"], [])
    one.take([{"said": "a-secret"}])
    one.take([{"unsaid": "a-secret"}])
    one.write(now=True)
    assert "m: requests are not kept: " in caplog.text
    assert "a-secret" not in caplog.text


@pytest.mark.parametrize("left", [b'"said"\n"one"\n"one"\n', b'"said"\n"one"\n" "\n'])
def test_what_is_there_twice_or_is_not_read_goes(texts, left):
    PLACE.mkdir(parents=True)
    (PLACE / "rows.csv").write_bytes(left)
    assert texts(["one", "two"]) == ["one", "two"]


@pytest.mark.parametrize("left", [b"", b'"said"\n"one"\n"tw', b'"said"\n"one"\n\xff', b"request,said\n1,one\n"])
def test_a_file_that_is_half_written_or_another_is_laid_aside(texts, caplog, left):
    PLACE.mkdir(parents=True)
    (PLACE / "rows.csv").write_bytes(left)
    assert texts(["two"]) == (["one", "two"] if b"one" in left and left.startswith(b'"said') else ["two"])
    assert (PLACE / "rows-before.csv").exists() == bool(left)
