"""A small dataset of each kind: a new kind brings one, and gets every contract test for it."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from trainyard import kinds
from trainyard.kinds import Prepared
from trainyard.params import Images, Series, Split, Tables


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


SAMPLES = {"tables": tables, "images": images, "series": series}


def prepared(folder: Path, kind: str, objective: str) -> Prepared:
    """The sample of a kind, split, written and opened as the line does it."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = SAMPLES[kind](folder, objective)
    manifest = kinds.of(spec).manifest(spec)
    (folder / "build" / "sample").mkdir(parents=True)
    kinds.write_prepared(spec, manifest, kinds.of(spec).split(spec, manifest, 1), folder / "build" / "sample")
    return kinds.open_prepared("sample", spec, folder / "build")
