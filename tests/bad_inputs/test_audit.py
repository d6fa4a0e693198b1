"""Faults of a split and leaks of the answer, planted in data that is fine, against `trainyard prepare` itself."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from PIL import Image
from scipy.ndimage import gaussian_filter

from bad_inputs import planting
from trainyard import cli, files
from trainyard.quality import splits

PARAMS = """\
seed: 1
datasets:
  people: {kind: tables, path: people.csv, objective: binary, target: ill, split: {given: part}}
  houses: {kind: tables, path: houses.csv, objective: regression, target: price}
  pets: {kind: images, path: pets, objective: binary, split: {given: folder}}
  tides: {kind: series, path: tides.csv, time: day, target: level, columns: [level, wind], window: 6, horizon: 3}
  notes: {kind: text, path: notes.csv, objective: binary, text: note, target: about, split: {given: part}}
  calls: {kind: speech, path: calls, split: {given: part}}
train: {}
finetune: {}
evaluate: {}
training: {}
"""
PARTS = [*["train"] * 6, "validation", "validation", "test", "test"]


def photo(rng):
    blurred = gaussian_filter(rng.normal(size=(64, 64, 3)), (6, 6, 0))
    return Image.fromarray((127 + 50 * blurred / blurred.std()).clip(0, 255).astype(np.uint8))


@pytest.fixture
def project(here):
    """A set of each kind in which nothing is wrong."""
    rng = np.random.default_rng(0)
    n = 200
    people = pd.DataFrame(rng.normal(size=(n, 5)).round(6), columns=["age", "pulse", "weight", "height", "sugar"])
    people.insert(0, "colour", rng.choice(["red", "green"], n))
    people["part"] = (PARTS * n)[:n]
    people["ill"] = np.where(people["pulse"] + people["sugar"] + rng.normal(size=n) > 0, "yes", "no")
    people.to_csv("people.csv", index=False)
    houses = pd.DataFrame({"rooms": rng.integers(1, 9, n), "area": rng.uniform(20, 200, n), "age": rng.normal(size=n)})
    houses["price"] = 3 * houses["area"] + 40 * houses["rooms"] + rng.normal(0, 20, n)
    houses.to_csv("houses.csv", index=False)
    for part, each in {"train": 6, "validation": 2, "test": 2}.items():
        for name in ("cat", "dog"):
            (here / "pets" / part / name).mkdir(parents=True)
            for i in range(each):
                photo(rng).save(f"pets/{part}/{name}/{i}.jpg", quality=95)
    days = pd.date_range("2020-01-01", periods=n)
    level = np.cumsum(rng.normal(size=n)).round(4)
    pd.DataFrame({"day": days, "level": level, "wind": level + rng.normal(size=n)}).to_csv("tides.csv", index=False)
    words = ["rain", "wind", "sun", "hail", "fog", "soup", "bread", "salt", "milk", "rice"]
    notes = [" ".join(rng.choice(words, 12)) for i in range(n)]
    about = ["weather" if i // 10 % 2 else "food" for i in range(n)]
    pd.DataFrame({"note": notes, "part": (PARTS * n)[:n], "about": about}).to_csv("notes.csv", index=False)
    (here / "calls").mkdir()
    said = [("yes", "no")[i % 2] for i in range(20)]
    for i in range(20):
        sound = gaussian_filter(rng.normal(size=4000), rng.uniform(0, 4)) * np.interp(
            np.arange(4000), np.linspace(0, 4000, 9), rng.uniform(0.1, 1, 9)
        )
        soundfile.write(f"calls/{i}.wav", 0.3 * sound / np.abs(sound).max(), 8000)
    table = pd.DataFrame({"file": [f"{i}.wav" for i in range(20)], "transcript": said, "part": (PARTS * 2)[:20]})
    table.to_csv("calls/transcripts.csv", index=False)
    Path("params.yaml").write_text(PARAMS)
    for name in ("people", "houses", "pets", "tides", "notes", "calls"):
        files.write_json(here / "reports/data" / name / "verdict.json", {"passed": True})
    return here


def changed(path, change):
    """Plants `change(frame)` into a CSV file."""

    def plant():
        frame = pd.read_csv(path, dtype=str)
        change(frame)
        frame.to_csv(path, index=False)

    return plant


def as_other_row(frame, **but):
    """What row 2, of training, says once more in row 20, of the test, `but` for this."""
    frame.loc[18, frame.columns.drop("part")] = frame.loc[0, frame.columns.drop("part")]
    for column, value in but.items():
        frame.loc[18, column] = value(frame.loc[0, column])


def saved_anew(quality, size=64):
    def plant():
        image = Image.open("pets/train/cat/3.jpg").resize((size, size))
        image.save("pets/test/cat/1.jpg", quality=quality)

    return plant


def louder(gain, noise):
    def plant():
        sound, rate = soundfile.read("calls/3.wav")
        sound = gain * sound + np.random.default_rng(1).normal(0, noise * gain * sound.std(), len(sound))
        soundfile.write("calls/19.wav", sound, rate)

    return plant


def contradicted(count):
    def change(frame):
        for i in range(count):  # 0, 1, ... of each ten are of training
            first, second = 10 * (i // 3) + 2 * (i % 3), 10 * (i // 3) + 2 * (i % 3) + 1
            frame.loc[second] = frame.loc[first]
            frame.loc[second, "ill"] = "no" if frame.loc[first, "ill"] == "yes" else "yes"

    return change


def put(column, of):
    """A new column, made of the frame."""

    def change(frame):
        frame.insert(1, column, of(frame))

    return change


def coded(frame):
    return frame["ill"].map({"yes": "Z51", "no": "Z00"})


def measured_after(frame):
    return np.where(frame["ill"] == "yes", 3, -3) + np.random.default_rng(1).normal(size=len(frame)).clip(-2, 2)


def numbered(frame):
    put("number", lambda rows: [f"n{i}" for i in range(len(rows))])(frame)
    as_other_row(frame, number=lambda _: "n999")


def ahead(frame):
    frame["wind"] = 1.8 * frame["level"].astype(float).shift(-2) + 32


def formats():
    for file in Path("pets").rglob("dog/*.jpg"):
        Image.open(file).save(file.with_suffix(".png"))
        file.unlink()
    rng = np.random.default_rng(1)
    for name, suffix in {"cat": "jpg", "dog": "png"}.items():
        for i in range(20):
            photo(rng).save(f"pets/train/{name}/1{i}.{suffix}")


def heard_before(frame):
    """A speaker a split, but for one recording of the test."""
    frame["voice"] = frame["part"]
    frame.loc[18, "voice"] = "train"


CASES = {
    "a row copied": (
        "people",
        changed("people.csv", as_other_row),
        "the same content in 2 splits: 2 (train), 20 (test)",
    ),
    "a row copied and rounded": (
        "people",
        changed("people.csv", lambda frame: as_other_row(frame, pulse=lambda cell: str(float(cell) + 2e-6))),
        "nearly the same content in 2 splits: 2 (train), 20 (test)",
    ),
    "a row copied under another label": (
        "people",
        changed("people.csv", lambda frame: as_other_row(frame, ill=lambda cell: "no" if cell == "yes" else "yes")),
        "the same content in 2 splits: 2 (train), 20 (test)",
    ),
    "a row copied under another number": (
        "people",
        changed(
            "people.csv",
            numbered,
        ),
        "nearly the same content in 2 splits: 2 (train), 20 (test)",
    ),
    "labels that contradict each other": (
        "people",
        changed("people.csv", contradicted(11)),
        "equal examples with different labels: 2 (",
    ),
    "a code for each class": (
        "people",
        changed("people.csv", put("code", coded)),
        "column `code` alone gives the answer away: 100.00% right, the next best, `",
    ),
    "a code for each class, and another": (
        "people",
        changed("people.csv", lambda frame: [put("code", coded)(frame), put("mark", coded)(frame)]),
        "column `mark` alone gives the answer away: 100.00% right",
    ),
    "a number that is measured after": (
        "people",
        changed("people.csv", put("dose", measured_after)),
        "column `dose` alone gives the answer away: 100.00% right",
    ),
    "missing where the answer is no": (
        "people",
        changed("people.csv", put("dose", lambda frame: np.where(frame["ill"] == "yes", frame["age"], ""))),
        "column `dose` alone gives the answer away: 100.00% right",
    ),
    "the price in another currency": (
        "houses",
        changed("houses.csv", put("dollars", lambda frame: (1.09 * frame["price"].astype(float)).round(2))),
        "column `dollars` alone gives the answer away: 99.",
    ),
    "an image copied": (
        "pets",
        lambda: Path("pets/test/cat/1.jpg").write_bytes(Path("pets/train/cat/3.jpg").read_bytes()),
        "the same content in 2 splits: train/cat/3.jpg (train), test/cat/1.jpg (test)",
    ),
    "an image saved anew": (
        "pets",
        saved_anew(50),
        "nearly the same content in 2 splits: train/cat/3.jpg (train), test/cat/1.jpg (test)",
    ),
    "an image in another size": (
        "pets",
        lambda: [saved_anew(90, 48)(), with_params("kind: images", "kind: images, size: [64, 64]")()],
        "nearly the same content in 2 splits: train/cat/3.jpg (train), test/cat/1.jpg (test)",
    ),
    "a format for each class": ("pets", formats, "column `format` alone gives the answer away: 100.00% right"),
    "the future in another unit": (
        "tides",
        changed("tides.csv", ahead),
        "column `wind` holds `level` of 2 row(s) later",
    ),
    "a recording made louder": (
        "calls",
        louder(2.5, 0.01),
        "nearly the same content in 2 splits: 3.wav (train), 19.wav (test)",
    ),
    "a speaker in two splits": (
        "calls",
        lambda: [
            changed("calls/transcripts.csv", heard_before)(),
            with_params("path: calls, split", "path: calls, group: voice, split")(),
        ],
        "the same group in 2 splits: 0.wav (train), 18.wav (test)",
    ),
    "a text edited": (
        "notes",
        changed("notes.csv", lambda frame: as_other_row(frame, note=lambda note: f"{note.upper()}!! Fwd")),
        "nearly the same content in 2 splits: 2 (train), 20 (test)",
    ),
}

LISTED = {
    "a code for each class": 34,
    "a number that is measured after": 34,
    "the price in another currency": 34,
    "a format for each class": 34,
    "an image copied": 49,
    "an image saved anew": 49,
    "an image in another size": 49,
    "a speaker in two splits": 62,
}
"""Numbers of docs/reliability.md."""


def with_params(old, new):
    def plant():
        text = Path("params.yaml").read_text()
        assert old in text
        Path("params.yaml").write_text(text.replace(old, new))

    return plant


def refusal(name, capsys):
    assert cli.main(["prepare", name]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert not Path("build").exists()
    return line.removeprefix("error: ")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case,
            marks=pytest.mark.bad_input(number=LISTED[case], what=case, then=planting.refusal(told))
            if case in LISTED
            else (),
        )
        for case, (_, _, told) in CASES.items()
    ],
)
def test_a_planted_fault_is_refused(project, capsys, case):
    name, plant, told = CASES[case]
    plant()
    line = refusal(name, capsys)
    assert f" finding(s) of the audit, all in reports/audits/{name}.json; first: {told}" in line
    assert line.endswith("; or say `audit: warn`)")
    listed = [one for one in files.read_json(Path(f"reports/audits/{name}.json"))["findings"] if one["grave"]]
    assert listed[0]["told"].startswith(told)
    assert f": {len(listed)} finding(s)" in line


@pytest.mark.parametrize("name", ["people", "houses", "pets", "tides", "notes", "calls"])
def test_data_without_a_fault_passes(project, name):
    assert cli.main(["prepare", name]) == 0
    found = files.read_json(Path(f"reports/audits/{name}.json"))
    assert found["findings"] == []
    assert set(found["checks"].values()) == {0}


def test_a_column_that_is_allowed_passes_and_others_do_not_hide_behind_it(project, capsys):
    changed("people.csv", put("code", coded))()
    with_params("target: ill", "target: ill, audit_allow: [code]")()
    assert cli.main(["prepare", "people"]) == 0
    changed("people.csv", put("mark", coded))()
    with_params("audit_allow: [code]", "audit_allow: [cod]")()
    assert cli.main(["prepare", "people"]) == 2
    assert "people.csv:1: no column `cod` (did you mean `code`?)" in capsys.readouterr().err
    with_params("audit_allow: [cod]", "audit_allow: [code]")()
    assert cli.main(["prepare", "people"]) == 2
    told = capsys.readouterr().err
    assert "column `mark` alone gives the answer away: 100.00% right" in told
    assert (
        "(keep it from the model, in tables by `ignore`, in series by `columns`, or list it under `audit_allow`" in told
    )


def test_few_contradictions_are_told_and_go_on(project, caplog):
    changed("people.csv", contradicted(3))()
    assert cli.main(["prepare", "people"]) == 0
    assert "equal examples with different labels: 2 (" in caplog.text
    (found,) = files.read_json(Path("reports/audits/people.json"))["findings"]
    assert not found["grave"]
    assert "; 3 example(s), 1.50% of all, are such, 5.00% may be" in found["told"]


def test_rows_out_of_order_are_refused(project, capsys):
    frame = pd.read_csv("tides.csv", dtype=str)
    frame.iloc[[5, 150]] = frame.iloc[[150, 5]].to_numpy()
    frame.to_csv("tides.csv", index=False)
    assert refusal("tides", capsys).startswith("tides.csv:8: column `day`: 2020-01-07 is not later than the row before")


@pytest.mark.bad_input(
    number=70,
    what="windows of two splits that share a time",
    then="exit 2: the audit's finding `forecasts until ..., ... begins at`",
)
@pytest.mark.parametrize(
    ("parts", "told"),
    [
        (np.repeat(["test", "validation", "train"], [40, 120, 40]), "2020-07-15T00:00:00 (train) forecasts until"),
        (np.repeat(["train", "validation", "train", "test"], 50), "2020-05-26T00:00:00 (train) forecasts until"),
    ],
    ids=["the test comes first", "training goes on after validation"],
)
def test_splits_that_are_not_in_time_order_are_refused(project, capsys, monkeypatch, parts, told):
    """However a split came about, what is audited is the split."""
    monkeypatch.setattr(splits, "in_time", lambda n, validation, test: parts)
    line = refusal("tides", capsys)
    assert told in line
    assert "(let each split end before the next one begins; or say `audit: warn`)" in line


def test_look_alikes_stay_in_one_split_where_it_is_drawn(project):
    """A drawn split without groups needs no refusal."""
    changed("people.csv", lambda frame: as_other_row(frame, pulse=lambda cell: str(float(cell) + 2e-6)))()
    with_params(", target: ill, split: {given: part}", ", target: ill, ignore: [part]")()
    assert cli.main(["prepare", "people"]) == 0
    rows = {part: pd.read_csv(f"build/people/{part}/rows.csv")["example"] for part in splits.SPLITS}
    assert sum(rows[part].isin([2, 20]).any() for part in rows) == 1
