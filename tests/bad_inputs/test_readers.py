"""Whatever bytes come in, a reader takes or refuses them in a line: no traceback, no hang, no memory without end."""

import io
import resource
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bad_inputs import planting
from trainyard import cli, kinds, params
from trainyard.errors import BadInput
from trainyard.params import Images, Series, Speech, Tables, Text

SECONDS, ROOM = 20, 2**30
"""That one answer may take, and the bytes that all of them may take beside what is there."""


def encoded(image, kind, **how):
    content = io.BytesIO()
    image.save(content, kind, **how)
    return content.getvalue()


def pictures():
    """Small ones, of each kind that is taken."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3)).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    modes = [encoded(image.convert(mode), "PNG") for mode in ("RGB", "RGBA", "LA", "L", "1", "P", "I;16")]
    animated = encoded(image, "PNG", save_all=True, append_images=[image.rotate(90), image.rotate(180)])
    jpegs = [encoded(image, "JPEG", exif=exif), encoded(image.convert("CMYK"), "JPEG", progressive=True)]
    return [*modes, animated, *jpegs]


def recordings():
    """A tenth of a second in each format and width that is taken."""
    noise = np.random.default_rng(0).normal(0, 0.1, (800, 2))
    formats = [("WAV", "PCM_16"), ("WAV", "PCM_U8"), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM"), ("WAVEX", "PCM_24")]
    made = []
    for kind, subtype in [*formats, ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")]:
        content = io.BytesIO()
        soundfile.write(content, noise, 8000, format=kind, subtype=subtype)
        made.append(content.getvalue())
    return made


def files():
    """Of people, days and notes."""
    people = [f"{20 + i}.5,{'red' if i % 2 else 'green'},f{i // 2},{'yes' if i % 4 else 'no'}" for i in range(30)]
    days = [f"2020-01-{1 + i:02d},{i / 7:.3f}" for i in range(30)]
    notes = [f'"{i * 7919} ""rain"", or so",{"weather" if i % 2 else "food"}' for i in range(30)]
    tables = [["age,colour,family,ill", *people], ["day,level", *days], ["note,about", *notes]]
    return ["\n".join([*table, ""]).encode() for table in tables]


@st.composite
def damaged(draw, whole):
    """One of these with a few bytes changed, taken out, put in or doubled, near its begin more often than elsewhere."""
    content = bytearray(draw(st.sampled_from(whole)))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, min(len(content), 64)) | st.integers(0, len(content)))
        count = draw(st.integers(1, 8))
        match draw(st.sampled_from(["change", "cut", "put", "take", "double"])):
            case "change":
                content[place : place + count] = draw(st.binary(min_size=count, max_size=count))
            case "cut":
                del content[place:]
            case "put":
                content[place:place] = draw(
                    st.binary(max_size=count) | st.sampled_from([b"\n", b'"', b",", b"\xff" * 8])
                )
            case "take":
                del content[place : place + count]
            case "double":
                content[place:place] = content[: draw(st.integers(0, 200))]
    return bytes(content)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
CELLS = st.text('abe019.,;"-+\n\r\t\0 \ufeff\u2028\u0660NAinf|', max_size=300)


@st.composite
def blocks(draw):
    """The params of a good project with other values, at any place."""
    raw = params.YAML(typ="safe").load(planting.PARAMS)
    for _ in range(draw(st.integers(1, 3))):
        block = raw
        while True:
            key = draw(st.sampled_from(sorted(block)) | st.text(max_size=12))
            if isinstance(block.get(key), dict) and block[key] and draw(st.booleans()):
                block = block[key]
            else:
                block[key] = draw(VALUES)
                break
    return raw


@contextmanager
def or_refused(where, most=1):
    """A refusal in at most so many lines is an answer too."""
    try:
        yield
    except BadInput as refusal:
        lines = str(refusal).splitlines()
        if len(lines) > most or not all(line.startswith(where) for line in lines):
            pytest.fail(f"not told as it should be: {lines}")


def read_table(content):
    """By all kinds that read CSV files."""
    path = Path("any.csv")
    path.write_bytes(content)
    tables = {"kind": "tables", "objective": "binary", "path": str(path), "target": "ill"}
    for spec in (
        Tables(**tables),
        Tables(**{**tables, "objective": "regression", "target": "age"}),
        Series(kind="series", path=str(path), time="day", target="level", window=4),
        Series(kind="series", path=str(path), time="day", target="level", window=4, step="D", fill=2),
        Text(kind="text", objective="binary", path=str(path), text="note", target="about"),
    ):
        kind = kinds.of(spec)
        with or_refused("any.csv"):
            manifest = kind.manifest(spec)
            kind.split(spec, manifest, 1)
            kind.facts(spec, manifest)


def prepare(content):
    """By the command, which leaves all of its output or nothing of it."""
    Path(planting.PEOPLE).write_bytes(content)
    before = planting.tree(Path())
    code = cli.main(["prepare", "people"])
    assert code in (0, 2)
    if code:
        assert planting.tree(Path()) == before
    assert {path.name for path in Path("build").glob("*/*")} in (set(), {"facts.json", "train", "validation", "test"})
    assert not list(Path("build").glob(".*"))


def see(content):
    spec = Images(kind="images", objective="binary", path="pets", size=(4, 4))
    with or_refused("row 0: "):
        raw, _ = kinds.of(spec).decode(spec, {"shape": [4, 4, 3]}, pd.DataFrame({"image": [content]}))
        assert raw["image"].shape == (1, 4, 4, 3)


def hear(content):
    spec = Speech(kind="speech", path="calls")
    with or_refused("row 0: "):
        raw, _ = kinds.of(spec).decode(spec, {}, pd.DataFrame({"recording": [content]}))
        assert np.isfinite(raw["samples"]).all()
        assert raw["length"].tolist() == [[raw["samples"].shape[1]]]


def load(content):
    Path("params.yaml").write_bytes(content)
    with or_refused("params.yaml:", most=100):
        params.load()


def parse(raw):
    with or_refused("params.yaml:", most=100):
        params.parse(raw)


TEXTS = damaged(files()) | CELLS.map(str.encode) | st.binary(max_size=300)
READERS = {
    "a CSV file": (TEXTS, read_table),
    "a CSV file, by the command": (TEXTS, prepare),
    "an image": (damaged(pictures()) | st.binary(max_size=300), see),
    "a recording": (damaged(recordings()) | st.binary(max_size=300), hear),
    "params.yaml": (damaged([planting.PARAMS.encode()]) | CELLS.map(str.encode), load),
    "blocks of params": (blocks(), parse),
}


@contextmanager
def in_time():
    """Raises TimeoutError in the midst of an answer that takes too long."""

    def late(*_):
        raise TimeoutError(f"no answer within {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def in_room():
    """What is asked for beyond `ROOM` is a MemoryError, which no reader may answer with."""
    there = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (there + ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def ask(reader, count):
    """Asks a reader so many times; gives the times that it took, in seconds."""
    contents, read = READERS[reader]
    taken = []

    @settings(max_examples=count)
    @given(contents)
    def each(content):
        began = time.perf_counter()
        with in_time():
            read(content)
        taken.append(time.perf_counter() - began)

    with in_room():
        each()
    return taken


@pytest.mark.parametrize("reader", READERS)
def test_whatever_comes_is_taken_or_refused_in_a_line(project, reader):
    ask(reader, 30)


def broken(_):
    raise ValueError("planted")


PLANTED = {
    "a traceback": (broken, ValueError),
    "a hang": (lambda _: time.sleep(30), TimeoutError),
    "memory without end": (lambda _: bytes(2 * ROOM), MemoryError),
    "two lines": (lambda _: one_refusal("row 0: a", "row 0: b"), pytest.fail.Exception),
    "another file": (lambda _: one_refusal("elsewhere: a"), pytest.fail.Exception),
}


def one_refusal(*lines):
    with or_refused("row 0: "):
        raise BadInput(*lines)


@pytest.mark.parametrize(("read", "failure"), PLANTED.values(), ids=PLANTED)
def test_a_reader_that_does_otherwise_is_caught(monkeypatch, read, failure):
    monkeypatch.setitem(READERS, "planted", (st.just(b""), read))
    monkeypatch.setitem(globals(), "SECONDS", 1)
    with pytest.raises(failure):
        ask("planted", 1)


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_and_so_it_is_many_times(project, reader, capsys):
    taken = ask(reader, 3000)
    with capsys.disabled():
        told = f"{len(taken)} answers in {sum(taken):.0f} s, the slowest in {max(taken):.2f} s"
        sys.stderr.write(f"\n{reader}: {told}")
