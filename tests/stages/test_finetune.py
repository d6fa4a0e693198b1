"""Stages `backbone` and `finetune`, on a network of the user's own."""

from pathlib import Path

import keras
import numpy as np
from contracts.samples import images

from trainyard import cli, files
from trainyard.models import saved

BLOCK = """
datasets:
  d: {{kind: images, objective: binary, path: images}}
finetune:
  m:
    family: mobilenet
    dataset: d
    backbone: {{weights: mine.keras, sha256: {sha256}, black_white: [0, 1]}}
    copies: 1
    epochs: 60
    dropout: 0
    augment: {{flip: horizontal}}
    optimizer: {{name: adam, learning_rate: 0.1}}
    thaw: {{layers: 4, epochs: 10, learning_rate: 0.01}}
evaluate:
  m: {{dataset: d, floor: {{accuracy: 0.5}}}}
training: {{device: cpu}}
"""


def test_a_network_of_the_users_own_is_fine_tuned_and_no_longer_needed_then(here, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:none")  # what is tracked is asked elsewhere
    images(here, "binary")
    steps = [keras.layers.Conv2D(8, 3, 2, activation="relu"), keras.layers.BatchNormalization()]
    keras.Sequential([keras.Input((None, None, 3)), *steps, keras.layers.Conv2D(8, 3, 2)]).save("mine.keras")
    Path("params.yaml").write_text(BLOCK.format(sha256=files.sha256(Path("mine.keras"))))
    for command in ("validate d", "prepare d", "backbone m", "finetune m"):
        assert cli.main(command.split()) == 0, command
    Path("mine.keras").unlink()
    assert cli.main(["evaluate", "m"]) == 0
    assert files.read_json(Path("models/m/model.json"))["backbone"]["weights"] == "mine.keras"
    assert files.read_json(Path("reports/models/m/metrics.json"))["test"]["accuracy"]["value"] > 0.7
    model = saved.load(Path("models/m/model.keras"), files.sha256(Path("models/m/model.keras")))
    assert np.shape(model({"image": np.zeros((2, 32, 32, 3), np.uint8)})) == (2, 1)
