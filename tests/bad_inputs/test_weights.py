"""Models and weights that are not what was trained: of case 81 what a file may be, beside what it may hold."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bad_inputs.planting import both, cut, huge, params, refused, remove, write
from trainyard import cli, files

MODEL, WEIGHTS = "models/mlp/model.keras", "mine.weights.h5"


def folder(path):
    return both(remove(path), lambda: Path(path).mkdir())


@pytest.fixture
def trained(project):
    """A model of `people`, as `train` leaves it but for what is inside: nothing of it may be read."""
    assert cli.main(["prepare", "people"]) == 0
    write(MODEL, "as it was trained")()
    files.write_json(Path("models/mlp/model.json"), {"sha256": files.sha256(Path(MODEL))})
    history = pd.DataFrame({"loss": [1.0], "val_loss": [1.0]}, index=pd.Index([1], name="epoch"))
    files.write_csv(Path("models/mlp/history.csv"), history)
    return project


@pytest.mark.parametrize(
    ("plant", "told", "verbs"),
    [
        refused(81, "no model", remove(MODEL), f"{MODEL}: not found (train the model first)"),
        refused(81, "a folder in its place", folder(MODEL), f"{MODEL}: not found (train the model first)"),
        refused(
            81, "an empty model", write(MODEL, b""), f"{MODEL}: not the file that was trained (SHA-256 e3b0c44298fc"
        ),
        refused(81, "a model cut short", cut(MODEL, 9), f"{MODEL}: not the file that was trained (SHA-256"),
        refused(81, "another file in its place", huge(MODEL, 99), f"{MODEL}: not the file that was trained (SHA-256"),
    ],
)
def test_a_model_that_was_not_trained_here_is_not_read(trained, refuses, plant, told, verbs):
    plant()
    refuses(told, ["evaluate", "mlp"])


NAMED = params("{weights: none, width: 0.25}", f"{{weights: {WEIGHTS}, width: 0.25, sha256: {'a' * 64}}}")


@pytest.mark.parametrize(
    ("plant", "told", "verbs"),
    [
        refused(81, "no file of weights", NAMED, f"{WEIGHTS}: not found (backbone.weights takes auto, imagenet, embed"),
        refused(
            81,
            "a folder in place of weights",
            both(NAMED, lambda: Path(WEIGHTS).mkdir()),
            f"{WEIGHTS}: not found (backbone.weights takes",
        ),
        refused(
            81,
            "weights with another hash",
            both(NAMED, write(WEIGHTS, np.random.default_rng(0).bytes(99))),
            f"{WEIGHTS}: its SHA-256 is ",
        ),
    ],
)
def test_weights_that_params_do_not_name_are_not_read(project, refuses, plant, told, verbs):
    plant()
    refuses(told, ["backbone", "mobilenet"])
