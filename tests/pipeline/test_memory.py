"""Memory: a set five times as large is prepared, trained on and evaluated in the same room."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from yard import APART

pytestmark = pytest.mark.slow

PARAMS = """
datasets: {big: {kind: images, path: data, objective: multiclass, size: [128, 128]}}
train: {m: {family: cnn, dataset: big, filters: [4], dense: [], epochs: 1}}
evaluate: {m: {dataset: big}}
"""
STAGE = """
import resource, sys
from trainyard import arrays, cli
from trainyard.quality import baselines
arrays.RESIDENT = int(sys.argv[3])
baselines.MOST_ROWS = 500  # of whatever size: 5,000 as shipped, of which the smaller set has not so many
code = cli.main(sys.argv[1:3])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
sys.exit(code)
"""
STAGES = [("validate", "big"), ("prepare", "big"), ("train", "m"), ("evaluate", "m")]


def peaks(here, count, resident=2**25):
    """The most MiB that each stage had, mapped files among them, for `count` photographs of 48 KiB."""
    rng = np.random.default_rng(0)
    for name in ("dark", "light"):
        folder = here / "data" / name
        folder.mkdir(parents=True)
        for i in range(count // 2):
            pixels = rng.integers(0, 128, size=(8, 8, 3), dtype=np.uint8) + (128 if name == "light" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png", compress_level=1)
    Path(here, "params.yaml").write_text(PARAMS)
    return {stage: peak(here, stage, name, resident) for stage, name in STAGES}


def peak(here, stage, name, resident):
    command = [*APART, sys.executable, "-c", STAGE, stage, name, str(resident)]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_memory_does_not_grow_with_the_data(tmp_path):
    few, many = peaks(tmp_path / "few", 2000), peaks(tmp_path / "many", 10_000)
    grown = {stage: many[stage] - few[stage] for stage in few}
    assert max(grown.values()) < 100, f"{grown} MiB for 384 MiB more"
    held = peak(tmp_path / "many", "train", "m", 2**40)
    assert held - many["train"] > 300, "a training that holds all in memory would be seen here"
