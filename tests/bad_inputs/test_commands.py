"""Planted faults against the real commands: exit code 2, one line that names file and row or param, nothing written."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from trainyard import cli, files

PARAMS = """\
seed: 1
datasets:
  people:
    kind: tables
    path: data/people.csv
    objective: binary
    target: ill
    group: family
  pets:
    kind: images
    path: data/pets
    objective: binary
  tides:
    kind: series
    path: data/tides.csv
    time: day
    target: level
    window: 4
  notes:
    kind: text
    path: data/notes.csv
    objective: binary
    text: note
    target: about
  calls:
    kind: speech
    path: data/calls
    group: voice
train:
  mlp: {family: mlp, dataset: people, epochs: 2}
  cnn: {family: cnn, dataset: pets, epochs: 2}
  rnn: {family: rnn, dataset: tides, epochs: 2}
finetune: {}
evaluate:
  mlp: {dataset: people, floor: {accuracy: 0.5}}
  cnn: {dataset: pets}
  rnn: {dataset: tides}
training: {}
"""


@pytest.fixture
def project(here):
    """A small project in which nothing is wrong."""
    rng = np.random.default_rng(0)
    (here / "data").mkdir()
    people = [
        f"{20 + i / 3:.2f},{'red' if i % 2 else 'green'},f{i // 2},{'yes' if i // 2 % 2 else 'no'}" for i in range(40)
    ]
    (here / "data/people.csv").write_text("\n".join(["age,colour,family,ill", *people]) + "\n")
    for name in ("cat", "dog"):
        (here / "data/pets" / name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)).save(here / f"data/pets/{name}/{i}.png")
    days = [f"2020-{1 + i // 28:02d}-{1 + i % 28:02d},{i / 7:.3f}" for i in range(28)]
    (here / "data/tides.csv").write_text("\n".join(["day,level", *days]) + "\n")
    notes = [f"{rng.integers(10**9)} {'rain' if i % 2 else 'soup'},{'weather' if i % 2 else 'food'}" for i in range(24)]
    (here / "data/notes.csv").write_text("\n".join(["note,about", *notes]) + "\n")
    calls = [f"{i}.wav,{'yes' if i % 2 else 'no'},voice {i % 4}" for i in range(12)]
    (here / "data/calls").mkdir()
    (here / "data/calls/transcripts.csv").write_text("\n".join(["file,transcript,voice", *calls]) + "\n")
    for i in range(12):
        soundfile.write(here / f"data/calls/{i}.wav", rng.normal(0, 0.1, 4000), 8000)
    (here / "params.yaml").write_text(PARAMS)
    for name in ("people", "pets", "tides", "notes", "calls"):  # validated before the fault came
        (here / "reports/data" / name).mkdir(parents=True)
        (here / "reports/data" / name / "verdict.json").write_text('{"passed": true}')
    return here


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.is_dir() or path.read_bytes() for path in folder.rglob("*")}


def change(path, old, new):
    def plant():
        text = Path(path).read_text()
        assert old in text
        Path(path).write_text(text.replace(old, new, 1))

    return plant


def write(path, content):
    def plant():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content)

    return plant


def copy(source, target):
    def plant():
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(target).write_bytes(Path(source).read_bytes())

    return plant


def remove(path):
    return lambda: Path(path).unlink()


def lines(path, keep):
    """Only these lines of a file, counted from 1."""

    def plant():
        kept = [line for number, line in enumerate(Path(path).read_text().splitlines(), start=1) if keep(number)]
        Path(path).write_text("\n".join(kept) + "\n")

    return plant


def cut(path, end):
    return lambda: Path(path).write_bytes(Path(path).read_bytes()[:end])


def sound(count, channels=1, rate=8000):
    """Noise in place of one recording."""
    return lambda: soundfile.write(f"{CALLS}/3.wav", np.random.default_rng(0).normal(0, 0.1, (count, channels)), rate)


def both(*plants):
    return lambda: [plant() for plant in plants]


def params(old, new):
    return change("params.yaml", old, new)


CHECK = {
    "unknown param": (
        params("epochs: 2", "epoch: 2"),
        ": train.mlp.epoch: unknown param `epoch`; did you mean `epochs`?",
    ),
    "unknown block": (params("evaluate:", "evalute:"), ": evalute: unknown param `evalute`; did you mean `evaluate`?"),
    "unknown metric": (
        params("accuracy", "acuracy"),
        ": evaluate.mlp.floor.acuracy: not a metric of binary; did you mean",
    ),
    "unknown kind": (
        params("kind: tables", "kind: table"),
        ": datasets.people.kind: unknown name `table`; did you mean",
    ),
    "wrong type": (
        params("window: 4", "window: '4'"),
        ": datasets.tides.window: input should be a valid integer, got '4'",
    ),
    "out of range": (
        params("window: 4", "window: 0"),
        ": datasets.tides.window: input should be greater than or equal to",
    ),
    "no number": (
        params("accuracy: 0.5", "accuracy: .nan"),
        ": evaluate.mlp.floor.accuracy: input should be a finite number",
    ),
    "missing": (params("    target: ill\n", ""), ": datasets.people.target: missing"),
    "missing twin": (
        params("  rnn: {dataset: tides}\n", ""),
        ": evaluate.rnn: missing; train.rnn needs its twin there",
    ),
    "missing section": (params("finetune: {}\n", ""), ": finetune: missing (dvc.yaml draws its stages from it"),
    "no data": (params("data/people.csv", "data/peple.csv"), ": datasets.people.path: data/peple.csv: not found"),
    "misfit": (
        params("rnn, dataset: tides", "cnn, dataset: tides"),
        ": train.rnn.dataset: `tides` is of kind series; this",
    ),
    "key twice": (params("window: 4", "window: 4\n    window: 5"), ":19: no valid YAML: found duplicate key"),
    "tab": (params("  people:", "\tpeople:"), ":3: no valid YAML: found character '\\t'"),
    "empty": (write("params.yaml", b""), ": expected a mapping"),
    "not UTF-8": (write("params.yaml", b"seed: \xff"), ": not UTF-8 at byte 6"),
    "no file": (remove("params.yaml"), ": not found (run from the project's folder)"),
}

PEOPLE, PETS, TIDES, NOTES = "data/people.csv", "data/pets", "data/tides.csv", "data/notes.csv"
CALLS, SAID = "data/calls", "data/calls/transcripts.csv"
PREPARE = {
    ("people", PEOPLE): {
        "no file": (remove(PEOPLE), ": not found"),
        "zero bytes": (write(PEOPLE, b""), ": is empty (expected a header and rows)"),
        "header alone": (lines(PEOPLE, lambda n: n == 1), ": has a header but no rows"),
        "UTF-16": (write(PEOPLE, "a,b".encode("utf-16")), ":1: not UTF-8 at byte 0"),
        "Latin-1": (write(PEOPLE, b"age,ill\n1,\xe9\n"), ":2: not UTF-8 at byte 10"),
        "NUL": (change(PEOPLE, "red", "r\0d"), ":3: holds a NUL byte"),
        "quoted semicolons": (write(PEOPLE, b'"age";"ill"\n1;yes\n'), ":1: ',' expected after '\"'; delimiter ';'?"),
        "semicolons": (write(PEOPLE, b"age;ill\n1;yes\n"), ":1: no column `ill` (found 1 column; delimiter ';'?)"),
        "longer row": (change(PEOPLE, "red,", "red,,"), ":3: 5 cells (expected 4, as in the header)"),
        "shorter row": (change(PEOPLE, "red,", ""), ":3: 3 cells (expected 4, as in the header)"),
        "open quote": (change(PEOPLE, "red", '"red'), ":41: unexpected end of data"),
        "column twice": (change(PEOPLE, "colour", "age"), ":1: column `age` occurs twice"),
        "unnamed column": (change(PEOPLE, "colour", ""), ":1: column 2 of 4 has no name (give it one)"),
        "wrong column": (
            params("target: ill", "target: sick"),
            ":1: no column `sick` (it has: age, colour, family, ill)",
        ),
        "misspelt column": (change(PEOPLE, "ill", "Ill"), ":1: no column `ill` (did you mean `Ill`?)"),
        "no number": (change(PEOPLE, "20.33", "n/a"), ":3: column `age`: 'n/a' is no number (mend it, list it under"),
        "too large": (change(PEOPLE, "20.33", "1e400"), ":3: column `age`: '1e400' is too large for float32"),
        "thousands": (change(PEOPLE, "20.33", '"1,234"'), ":3: column `age`: '1,234' is no number"),
        "no label": (change(PEOPLE, "f3,yes", "f3,"), ":8: column `ill`: the target is missing; 1 such row(s)"),
        "no group": (change(PEOPLE, "f3,", ","), ":8: column `family`: the group is missing"),
        "one class": (lines(PEOPLE, lambda n: n == 1 or n % 4 > 1), ": one class only, `no`"),
        "few rows": (lines(PEOPLE, lambda n: n < 9), ": ill `no` has 2 example(s) that are neither equal nor of one"),
        "a leak": (
            change(PEOPLE, "20.00,green,f0", "24.00,green,f0"),
            ": 1 finding(s) of the audit; first: the same content in 2 splits: ",
        ),
    },
    ("pets", PETS): {
        "no folder": (
            lambda: Path(PETS).rename("elsewhere"),
            ": not found (expected a folder with one folder a class)",
        ),
        "empty class": (
            lambda: Path(PETS, "emu").mkdir(),
            "/emu: class folder without images (remove it, or put images",
        ),
        "HTML": (write(f"{PETS}/cat/x.jpg", b"<html>404</html>"), "/cat/x.jpg: no readable PNG or JPEG"),
        "cut image": (cut(f"{PETS}/cat/3.png", 100), "/cat/3.png: broken image ("),
        "empty image": (write(f"{PETS}/cat/3.png", b""), "/cat/3.png: no readable PNG or JPEG"),
        "nested folder": (
            copy(f"{PETS}/cat/3.png", f"{PETS}/cat/more/3.png"),
            "/cat/more: expected PNG or JPEG files only",
        ),
        "split already": (
            lambda: [Path(PETS).rename("all"), Path(PETS).mkdir(), Path("all").rename(f"{PETS}/train")],
            "/train/cat: expected PNG or JPEG files only in a class folder (`split: {given: folder}`?)",
        ),
        "stray image": (copy(f"{PETS}/cat/3.png", f"{PETS}/3.png"), "/3.png: image outside of the class folders"),
        "wrong suffix": (copy(f"{PETS}/cat/3.png", f"{PETS}/cat/3.gif"), "/cat/3.gif: expected PNG or JPEG files only"),
        "third class": (
            both(
                copy(f"{PETS}/cat/3.png", f"{PETS}/emu/3.png"),
                params("kind: images", "kind: images\n    contradicting: 1.0"),
            ),
            ": 3 classes (objective binary takes two; `objective: multiclass` takes more)",
        ),
    },
    ("tides", TIDES): {
        "no future": (lines(TIDES, lambda n: n < 5), ": 3 known value(s) of `level`: no future to predict"),
        "no future in a part": (lines(TIDES, lambda n: n < 15), ": the validation part has 2 rows and no future to"),
        "no time": (change(TIDES, "2020-01-09", "2020-13-09"), ":10: column `day`: '2020-13-09' is no time"),
        "not sorted": (change(TIDES, "2020-01-09", "2020-01-29"), ":11: column `day`: 2020-01-10 is not later than"),
        "time twice": (change(TIDES, "2020-01-09", "2020-01-08"), ":10: column `day`: 2020-01-08 is not later than"),
        "gap": (lines(TIDES, lambda n: n != 10), ":10: 2 days 00:00:00 after the row before, elsewhere 1 days"),
        "no number": (change(TIDES, "0.143", "high"), ":3: column `level`: 'high' is no number (mend it)"),
    },
    ("notes", NOTES): {
        "blank text": (change(NOTES, "\n", "\n  ,food\n"), ":2: column `note`: the text is empty; 1 such row(s)"),
        "no label": (change(NOTES, "soup,food", "soup,"), ":2: column `about`: the label is missing; 1 such row(s)"),
        "long text": (change(NOTES, "soup", "soup" * 25_000), ":2: column `note`: more than 100,000 characters; 1"),
        "a document": (change(NOTES, "soup", "soup" * 262_144), ":2: field larger than field limit"),
        "control character": (change(NOTES, "rain", "ra\bin"), ":3: column `note`: a control character"),
        "hidden direction": (change(NOTES, "rain", "\u202erain"), ":3: column `note`: a mark that turns the direction"),
        "lone surrogate": (write(NOTES, b"note,about\n\xed\xa0\x80,food\n"), ":2: not UTF-8 at byte 11"),
        "one text": (write(NOTES, b"note,about\n" + b"So.,food\nso,weather\n" * 9), ": about `food` has 1 example(s)"),
        "misspelt column": (change(NOTES, "note", "notes"), ":1: no column `note` (did you mean `notes`?)"),
    },
    ("calls", CALLS): {
        "no folder": (lambda: Path(CALLS).rename("elsewhere"), ": not found (expected a folder with transcripts.csv"),
        "untold": (write(f"{CALLS}/12.wav", b"RIFF"), "/12.wav: has no transcript in transcripts.csv; 1 such"),
        "another format": (write(f"{CALLS}/3.wav", b"ID3" + bytes(99)), "/3.wav: no readable WAV, FLAC or OGG"),
        "empty file": (write(f"{CALLS}/3.wav", b""), "/3.wav: no readable WAV, FLAC or OGG"),
        "cut": (cut(f"{CALLS}/3.wav", 30), "/3.wav: no readable WAV, FLAC or OGG"),
        "no samples": (sound(0), "/3.wav: holds no sound (0 samples)"),
        "two hours": (sound(800 * 7200, rate=800), "/3.wav: 800 samples a second (expected 8000 or more"),
        "too long": (sound(40 * 8000), "/3.wav: 40 s (at most 30: cut it, or raise `longest`)"),
        "44.1 kHz stereo": (
            sound(22_050, 2, 44_100),
            "/3.wav: 44100 Hz and 2 channel(s), most have 8000 and 1; 1 such",
        ),
    },
    ("calls", SAID): {
        "no file": (remove(SAID), ": not found"),
        "empty text": (change(SAID, "3.wav,yes", "3.wav,"), ":5: column `transcript`: is empty"),
        "missing recording": (remove(f"{CALLS}/3.wav"), ":5: column `file`: '3.wav' is not there"),
        "two transcripts": (change(SAID, "4.wav", "3.wav"), ":6: column `file`: '3.wav' has a transcript in row 5"),
        "another place": (change(SAID, "3.wav", "../3.wav"), ":5: column `file`: '../3.wav' (expected a WAV, FLAC or"),
        "unknown letter": (
            both(params("group: voice", "group: voice\n    alphabet: enosy"), change(SAID, "3.wav,yes", "3.wav,yés")),
            ":5: column `transcript`: letter 'é' is not in `alphabet`",
        ),
        "too much text": (change(SAID, "3.wav,yes", "3.wav," + "yes" * 30), ":5: '3.wav' has 0.50 s, too few for a"),
    },
    ("people", "params.yaml"): {
        "unknown param": (params("group", "gruop"), ": datasets.people.gruop: unknown param `gruop`; did you mean"),
        "two roles": (
            params("group: family", "group: ill"),
            ": datasets.people: column `ill` is named twice, by target",
        ),
    },
    ("peple", "params.yaml"): {
        "unknown dataset": (lambda: None, ": there is no dataset `peple`; did you mean `people`?"),
    },
    ("people", "reports/data/people/verdict.json"): {
        "not validated": (remove("reports/data/people/verdict.json"), ": not found (run `dvc repro`, or the stage"),
    },
}
CASES = [(name, f"{path}{end}", plant) for (name, path), faults in PREPARE.items() for plant, end in faults.values()]
IDS = [f"{path}: {case}" for (name, path), faults in PREPARE.items() for case in faults]


def refused(folder, arguments, capsys):
    """Runs a command that must refuse; gives its one line."""
    before = tree(folder)
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert tree(folder) == before
    assert out == ""
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in err
    return line.removeprefix("error: ")


@pytest.mark.parametrize(("plant", "told"), CHECK.values(), ids=CHECK)
def test_check_refuses_bad_params(project, capsys, plant, told):
    plant()
    assert refused(project, ["check"], capsys).startswith(f"params.yaml{told}")


@pytest.mark.parametrize(("name", "told", "plant"), CASES, ids=IDS)
def test_prepare_refuses_bad_data_and_writes_nothing(project, capsys, name, told, plant):
    plant()
    assert refused(project, ["prepare", name], capsys).startswith(told)


@pytest.mark.parametrize(
    ("name", "told", "plant"),
    [
        pytest.param(*case, id=name)
        for case, name in zip(CASES, IDS, strict=True)
        if not case[1].startswith("reports/") and "finding" not in case[1]
    ],
)
def test_validate_refuses_it_first(project, capsys, name, told, plant):
    plant()
    assert cli.main(["validate", name]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {told.partition(':')[0]}")
    assert not (project / "build").exists()


@pytest.mark.parametrize("name", ["people", "pets", "tides", "notes", "calls"])
def test_what_was_prepared_before_stays_as_it_was(project, capsys, name):
    assert cli.main(["prepare", name]) == 0
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("path: data/", "path: nowhere/"))
    capsys.readouterr()
    assert refused(project, ["prepare", name], capsys).startswith("nowhere/")
    assert (project / "build" / name / "facts.json").is_file()


def test_the_project_without_a_fault_passes(project):
    assert cli.main(["check"]) == 0
    for name in ("people", "pets", "tides", "notes", "calls"):
        assert cli.main(["prepare", name]) == 0
        assert {path.name for path in (project / "build" / name).iterdir()} == {
            "facts.json",
            "train",
            "validation",
            "test",
        }
    assert not list(project.glob("build/.*"))


def test_a_leak_that_is_only_warned_of_does_not_stop(project, capsys):
    change(PEOPLE, "20.00,green,f0,no", "24.00,green,f0,no")()
    params("target: ill", "target: ill\n    audit: warn")()
    assert cli.main(["prepare", "people"]) == 0
    told = files.read_json(Path("reports/audits/people.json"))
    assert told["checks"]["duplicates"] == 1
    assert told["findings"][0]["told"].startswith("the same content in 2 splits: ")


@pytest.mark.parametrize("command", [["train", "mlp"], ["evaluate", "mlp"], ["register", "mlp"], ["report"]])
def test_a_stage_whose_inputs_are_not_there_says_which(project, capsys, command):
    if command == ["report"]:  # as in a fresh clone: verdicts and metrics are in git, scores are not
        (project / "reports/models/mlp").mkdir(parents=True)
        for name, text in {"verdict": "{}", "metrics": '{"dataset": "people"}'}.items():
            (project / f"reports/models/mlp/{name}.json").write_text(text)
    assert "not found" in refused(project, command, capsys)


def test_debug_shows_where_a_refusal_comes_from(project):
    remove("params.yaml")()
    with pytest.raises(cli.BadInput):
        cli.main(["--debug", "check"])


@pytest.mark.parametrize(
    ("arguments", "plant", "told"),
    [
        (
            ["check"],
            change("params.yaml", "epochs: 2", "epoch: 2"),
            "params.yaml: train.mlp.epoch: unknown param `epoch`; did y",
        ),
        (["prepare", "people"], change(PEOPLE, "20.33", "n/a"), f"{PEOPLE}:3: column `age`: 'n/a' is no number"),
    ],
    ids=["check", "prepare"],
)
def test_the_command_itself_says_one_line_and_exits_with_2(project, arguments, plant, told):
    plant()
    before = tree(project)
    run = subprocess.run(
        [sys.executable, "-m", "trainyard.cli", *arguments], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout) == (2, "")
    (line,) = run.stderr.splitlines()
    assert line.startswith(f"error: {told}")
    assert tree(project) == before
