"""A small dataset of each kind: a new kind brings one, and gets every contract test for it."""

from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from PIL import Image

from trainyard import kinds
from trainyard.kinds import Prepared
from trainyard.params import Images, Series, Speech, Split, Tables, Text


def tables(folder: Path, objective: str) -> Tables:
    rng = np.random.default_rng(0)
    size = rng.normal(size=90)
    frame = pd.DataFrame({"size": size, "weight": rng.normal(size=90), "colour": rng.choice(["red", "green", ""], 90)})
    frame.loc[::7, "weight"] = np.nan
    bins = {"binary": [-9, 0, 9], "multiclass": [-9, -0.5, 0.5, 9]}
    frame["answer"] = 3 * size if objective == "regression" else pd.cut(size, bins[objective], labels=False).astype(str)
    frame.to_csv(folder / "table.csv", index=False)
    return Tables(kind="tables", objective=objective, path=str(folder / "table.csv"), target="answer")


def images(folder: Path, objective: str) -> Images:
    rng = np.random.default_rng(0)
    for number, name in enumerate(["dark", "light"] + ["grey"] * (objective == "multiclass")):
        (folder / "images" / name).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 60, (32, 32, 3)) + 90 * number
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / name / f"{i}.png")
    return Images(kind="images", objective=objective, path=str(folder / "images"))


def series(folder: Path, objective: str) -> Series:
    rng = np.random.default_rng(0)
    time = pd.date_range("2020-01-01", periods=160, freq="D")
    level = np.sin(np.arange(160) / 5) + rng.normal(0, 0.05, 160)
    pd.DataFrame({"day": time, "level": level, "wind": rng.normal(size=160)}).to_csv(folder / "series.csv", index=False)
    return Series(
        kind="series",
        objective=objective,
        path=str(folder / "series.csv"),
        time="day",
        target="level",
        columns=["level", "wind"],
        window=12,
        horizon=3,
        split=Split(validation=0.2, test=0.2),
    )


def text(folder: Path, objective: str) -> Text:
    rng = np.random.default_rng(0)
    words = [["sun", "sea", "sand"], ["Schnee", "Eis", "Frost"], ["дождь", "ветер", "туман"]]
    classes = 2 if objective == "binary" else 3
    texts = [" ".join([*rng.choice(words[i % classes], 3), str(rng.integers(1000, 9999))]) for i in range(90)]
    frame = pd.DataFrame({"said": texts, "place": [f"place {i % classes}" for i in range(90)]})
    frame.to_csv(folder / "text.csv", index=False)
    return Text(kind="text", objective=objective, path=str(folder / "text.csv"), text="said", target="place")


def speech(folder: Path, objective: str) -> Speech:
    """A language of three letters, each a tone of its own, spoken by six."""
    rng, rows = np.random.default_rng(0), []
    (folder / "speech").mkdir()
    for i in range(36):
        said = "".join(rng.choice(list("abc"), 3))
        time = np.arange(800) / 8000
        tones = [np.sin(2 * np.pi * (400 + 700 * "abc".index(letter)) * time) * np.hanning(800) for letter in said]
        sound = 0.3 * np.concatenate(tones) + rng.normal(0, 0.003, 2400)
        soundfile.write(folder / "speech" / f"{i}.flac", sound[: 2400 - 20 * (i % 5)], 8000)
        rows.append((f"{i}.flac", said, f"speaker {i % 6}"))
    pd.DataFrame(rows, columns=["file", "transcript", "who"]).to_csv(folder / "speech" / "transcripts.csv", index=False)
    return Speech(kind="speech", objective=objective, path=str(folder / "speech"), group="who", bands=12)


SAMPLES = {"tables": tables, "images": images, "series": series, "text": text, "speech": speech}


def prepared(folder: Path, kind: str, objective: str) -> Prepared:
    """The sample of a kind, split, written and opened as the line does it."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = SAMPLES[kind](folder, objective)
    manifest = kinds.of(spec).manifest(spec)
    (folder / "build" / "sample").mkdir(parents=True)
    kinds.write_prepared(spec, manifest, kinds.of(spec).split(spec, manifest, 1), folder / "build" / "sample")
    return kinds.open_prepared("sample", spec, folder / "build")
