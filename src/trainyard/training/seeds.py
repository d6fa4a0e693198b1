"""Seeds: a model trained again with other initial weights and another order, on the same split.

What comes of it is in no registry: it tells how much of a figure is the seed's. It lies in `.trainyard/seeds` as long
as `models/MODEL` has the same bits, so that another floor or slice trains nothing.
"""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import pandas as pd

from trainyard import files
from trainyard.arrays import Array
from trainyard.errors import BadInput
from trainyard.kinds import Prepared
from trainyard.models import saved
from trainyard.params import PARAMS_FILE, MobileNet, Params
from trainyard.training import engine, finetune, fit, package, precision, resume
from trainyard.training.fit import Fit, OnEpoch
from trainyard.training.resume import Resume

ROOT = Path(".trainyard/seeds")

log = logging.getLogger(__name__)


def train(
    name: str,
    params: Params,
    data: Prepared,
    seed: int,
    learns: Fit,
    on_epoch: OnEpoch = lambda epoch, row: None,
    state: Resume | None = None,
) -> tuple[keras.Model, pd.DataFrame]:
    """Train a model under a seed as the line does; gives it as it is saved, and its history."""
    spec = params.model(name)
    keras.utils.clear_session()  # what earlier trainings left
    keras.utils.set_random_seed(seed)
    if isinstance(spec, MobileNet):
        return finetune.train(spec, data, seed, Path("backbones") / name, on_epoch, state, learns)
    return fit.train(spec, data, seed, on_epoch, state, learns)


def answers(name: str, params: Params, data: Prepared, about: Mapping[str, Any]) -> dict[int, Array]:
    """What the model answers on the test split under each of the seeds that params ask for beside the first.

    `about` is its model.json. A training that was killed goes on where it was. Raises BadInput where params are no
    longer those of the model: the seeds would be of another one.
    """
    if about["params"] != params.model(name).model_dump(mode="json"):
        told = f"models/{name}: trained by other params than {PARAMS_FILE} has now"
        raise BadInput(f"{told}, which its seeds would be trained by (run `dvc repro`, or train it again)")
    found, kept = {}, ROOT / name / about["sha256"][:16]
    for other in set((ROOT / name).glob("*")) - {kept}:
        shutil.rmtree(other)
    for seed in range(params.seed + 1, params.seed + (params.evaluate[name].seeds or 1)):
        folder = kept / str(seed)
        if not folder.is_dir():
            _write(name, params.model_copy(update={"seed": seed}), data, folder)
        its = files.read_json(folder / "model.json")
        found[seed] = saved.answers(saved.load(folder / "model.keras", its["sha256"]), its, data.test.raw)
    return found


def _write(name: str, params: Params, data: Prepared, folder: Path) -> None:
    log.info("%s: seed %d, for the interval over seeds", name, params.seed)
    learns, state = precision.of(params.training, engine.of(params.training)), resume.of(name, params)
    model, history = train(name, params, data, params.seed, learns, state=state)
    package.write(name, params.model(name), data, model, history, folder=folder)
    state.done()
