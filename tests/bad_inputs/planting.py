"""A small project in which nothing is wrong, and what plants a fault in it, by the numbers of docs/reliability.md."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

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
finetune:
  mobilenet: {family: mobilenet, dataset: pets, backbone: {weights: none, width: 0.25}}
evaluate:
  mlp: {dataset: people, floor: {accuracy: 0.5}}
  cnn: {dataset: pets}
  rnn: {dataset: tides}
  mobilenet: {dataset: pets}
training: {}
"""
LOCK = """\
schema: '2.0'
stages:
  validate@people: {cmd: trainyard validate people}
"""
DATASETS = ("people", "pets", "tides", "notes", "calls")
PEOPLE, PETS, TIDES, NOTES = "data/people.csv", "data/pets", "data/tides.csv", "data/notes.csv"
CALLS, SAID = "data/calls", "data/calls/transcripts.csv"


def build(here):
    """The project: a dataset of each kind, validated before any fault came."""
    rng = np.random.default_rng(0)
    (here / "data").mkdir()
    people = [
        f"{20 + i / 3:.2f},{'red' if i % 2 else 'green'},f{i // 2},{'yes' if i // 2 % 2 else 'no'}" for i in range(40)
    ]
    (here / PEOPLE).write_text("\n".join(["age,colour,family,ill", *people]) + "\n")
    for name in ("cat", "dog"):
        (here / PETS / name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)).save(here / f"{PETS}/{name}/{i}.png")
    days = [f"2020-{1 + i // 28:02d}-{1 + i % 28:02d},{i / 7:.3f}" for i in range(28)]
    (here / TIDES).write_text("\n".join(["day,level", *days]) + "\n")
    notes = [f"{rng.integers(10**9)} {'rain' if i % 2 else 'soup'},{'weather' if i % 2 else 'food'}" for i in range(24)]
    (here / NOTES).write_text("\n".join(["note,about", *notes]) + "\n")
    calls = [f"{i}.wav,{'yes' if i % 2 else 'no'},voice {i % 4}" for i in range(12)]
    (here / CALLS).mkdir()
    (here / SAID).write_text("\n".join(["file,transcript,voice", *calls]) + "\n")
    for i in range(12):
        soundfile.write(here / f"{CALLS}/{i}.wav", rng.normal(0, 0.1, 4000), 8000)
    (here / "params.yaml").write_text(PARAMS)
    (here / "dvc.lock").write_text(LOCK)
    for name in DATASETS:
        (here / "reports/data" / name).mkdir(parents=True)
        (here / "reports/data" / name / "verdict.json").write_text('{"passed": true}')


def tree(folder):
    """All that lies below a folder: bytes of files, size and time of huge ones, and where links lead to."""
    return {path.relative_to(folder).as_posix(): _content(path) for path in folder.rglob("*")}


def _content(path):
    if path.is_symlink():
        return str(path.readlink())
    if not path.is_file():
        return "no file"
    about = path.stat()
    return path.read_bytes() if about.st_size < 2**20 else (about.st_size, about.st_mtime_ns)


# === Cases, by the numbers of the list ===


def case(number, what, *values, then):
    """Values of a parametrised test with its number, what is planted and what comes of it."""
    return pytest.param(
        *values, id=f"{number}: {what}", marks=pytest.mark.bad_input(number=number, what=what, then=then)
    )


def refused(number, what, plant, told, *verbs):
    """A fault that these verbs, by default `prepare` and `validate`, refuse: exit code 2, a line that begins so."""
    return case(number, what, plant, told, verbs or ("prepare", "validate"), then=refusal(told))


def refusal(line):
    """How the page tells of a refusal; the line may have code in it."""
    return f"exit 2: `` {line} ``"


# === What plants a fault, in the working folder ===


def change(path, old, new, count=1):
    """Another text in the first place of a file, or in as many as that; -1 is all."""

    def plant():
        text = Path(path).read_text(encoding="utf-8")
        assert old in text
        Path(path).write_text(text.replace(old, new, count), encoding="utf-8")

    return plant


def write(path, content):
    def plant():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())

    return plant


def copy(source, target):
    def plant():
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(target).write_bytes(Path(source).read_bytes())

    return plant


def link(target, to):
    return lambda: Path(target).symlink_to(to)


def remove(path):
    return lambda: Path(path).unlink()


def lines(path, keep):
    """Only these lines of a file, counted from 1."""

    def plant():
        kept = [line for number, line in enumerate(Path(path).read_text().splitlines(), start=1) if keep(number)]
        Path(path).write_text("\n".join(kept) + "\n")

    return plant


def rewrite(path, row):
    """Each line of a file by its number, counted from 1, and its cells."""

    def plant():
        made = [row(number, line.split(",")) for number, line in enumerate(Path(path).read_text().splitlines(), 1)]
        Path(path).write_text("".join(f"{','.join(cells)}\n" for cells in made))

    return plant


def cut(path, end):
    return lambda: Path(path).write_bytes(Path(path).read_bytes()[:end])


def huge(path, size):
    """A file that claims so many bytes and takes no room."""

    def plant():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with Path(path).open("ab") as file:
            file.truncate(size)

    return plant


def both(*plants):
    return lambda: [plant() for plant in plants]


def params(old, new):
    return change("params.yaml", old, new)
