"""The engine: what computes a training, TensorFlow in this process or JAX in one of its own.

Keras takes its backend once in the life of a process, and the preprocessing that a saved model begins with needs
TensorFlow: nothing else looks words up. So a core goes over to JAX as numbers, learns there, and its weights come back.
"""

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np
import pandas as pd

from trainyard import arrays, errors, guard, kinds, models
from trainyard.errors import EnvironmentFailed, TrainingFailed, TrainyardError
from trainyard.kinds import Prepared
from trainyard.params import AnyDataset, AnyModel, Mix, Model, Optimizer, Spec, Training
from trainyard.training import device
from trainyard.training.features import Pair, scratch
from trainyard.training.fit import Fit, OnEpoch, fit
from trainyard.training.resume import Resume

ARRAYS = ("x.npy", "y.npy", "validation-x.npy", "validation-y.npy")
Taught = Callable[[Path, OnEpoch], pd.DataFrame | None]
"""Has the core in a folder learn there, and gives the history; None where what taught it ended by itself."""

log = logging.getLogger("trainyard.training.engine")  # also where Python runs this file itself


class Lesson(Spec):
    """What another process is told beside the numbers."""

    name: str
    dataset: AnyDataset
    build: Path
    model: AnyModel
    seed: int
    optimizer: Optimizer
    epochs: int
    first: int
    resume: Path | None
    every: float
    how: Training
    rates: list[float] | None
    mix: Mix | None


def of(training: Training, used: dict[str, str] | None = None) -> Fit:
    """The fit by the engine that params ask for; printed with its reason.

    What JAX computes on replaces what is in `used`, the tags of a run. Raises EnvironmentFailed where JAX is asked for
    and not installed.
    """
    if training.engine != "auto":
        engine, reason = training.engine, "params ask for it"
    elif training.distribute != "none":
        engine, reason = "tensorflow", "which shares batches out"
    elif device.gpu_of_jax_alone(training):
        engine, reason = "jax", "it has a GPU, and TensorFlow has none"
    else:
        engine, reason = "tensorflow", "on a CPU no family trains 1.4 times as fast with JAX, its compilation included"
    log.info("engine: %s, %s", engine, reason)
    if engine == "tensorflow":
        return fit
    if find_spec("jax") is None:
        raise EnvironmentFailed(device.NO_JAX)
    return partial(elsewhere, training, partial(_taught_by_jax, training, {} if used is None else used))


def elsewhere(
    how: Training,
    taught: Taught,
    core: keras.Model,
    training: Pair,
    validation: Pair,
    spec: Model,
    data: Prepared,
    seed: int,
    on_epoch: OnEpoch = lambda epoch, row: None,
    *,
    optimizer: Optimizer | None = None,
    epochs: int | None = None,
    first: int = 1,
    resume: Resume | None = None,
    rates: Sequence[float] | None = None,
    mix: Mix | None = None,
) -> pd.DataFrame:
    """As `fit`, in other processes: the core lies in a folder as numbers, and `taught` has it learn there."""
    lesson = Lesson(
        name=data.name,
        dataset=cast("AnyDataset", data.spec),
        build=data.folder.parent.absolute(),
        model=cast("AnyModel", spec),
        seed=seed,
        optimizer=optimizer or spec.optimizer,
        epochs=epochs or spec.epochs,
        first=first,
        resume=resume.folder.absolute() if resume else None,
        every=resume.every if resume else 0.0,
        how=how,
        rates=None if rates is None else list(rates),
        mix=mix,
    )
    with scratch(resume.folder.absolute() if resume else None) as folder:
        (folder / "lesson.json").write_text(lesson.model_dump_json(), encoding="utf-8")
        (folder / "core.json").write_text(json.dumps(keras.saving.serialize_keras_object(core)), encoding="utf-8")
        _write_variables(core, folder)
        for name, part in zip(ARRAYS, (*training, *validation), strict=True):
            arrays.write(folder / name, arrays.in_parts(part, 1024))
        history = taught(folder, on_epoch)
        if history is None:
            raise TrainingFailed("the process that trains ended by itself (had it too little memory?)")
        _read_variables(core, folder)
    return history


def _taught_by_jax(how: Training, used: dict[str, str], folder: Path, on_epoch: OnEpoch) -> pd.DataFrame | None:
    command = [sys.executable, "-m", "trainyard.training.engine", str(folder)]
    environment = {**os.environ, **device.environment_of_jax(how)}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}  # the first ends as this process does
    with subprocess.Popen(command, env=environment, text=True, **pipes) as other:  # noqa: S603  # our own arguments
        try:
            return heard(map(json.loads, cast("Iterator[str]", other.stdout)), on_epoch, used)
        except SystemExit:  # told to end: so is the other, which keeps its state first
            other.terminate()
            other.wait()
            raise
        finally:
            other.kill()


def heard(messages: Iterable[Mapping[str, Any]], on_epoch: OnEpoch, used: dict[str, str]) -> pd.DataFrame | None:
    """What another process tells; gives the history, None where it never comes. Raises what was refused there."""
    for told in messages:
        if "refused" in told:
            raise getattr(errors, told["refused"])(*told["why"].splitlines())
        if "history" in told:
            return pd.DataFrame(told["history"]).set_index("epoch")
        if "used" in told:
            used.update(told["used"])
        elif "line" in told:
            log.info("%s", told["line"])
        else:
            on_epoch(told["epoch"], told["row"])
    return None


@contextmanager
def refusals(tell: Callable[..., None]) -> Iterator[None]:
    """Tell of a refusal instead of raising it."""
    try:
        yield
    except TrainyardError as error:
        tell(refused=type(error).__name__, why=str(error))


def asked(folder: Path) -> Lesson:
    """What the process that learns in a folder is asked for."""
    return Lesson.model_validate_json((folder / "lesson.json").read_text(encoding="utf-8"))


def learn(
    folder: Path, lesson: Lesson, tell: Callable[..., None], resume: Resume | None
) -> tuple[keras.Model, pd.DataFrame]:
    """Fit the core of a folder, and tell of each epoch; gives it with its history."""
    data = kinds.open_prepared(lesson.name, lesson.dataset, lesson.build)
    core = keras.saving.deserialize_keras_object(json.loads((folder / "core.json").read_text(encoding="utf-8")))
    _read_variables(core, folder)
    if resume:
        resume.every = lesson.every
    stored = [arrays.Stored(folder / name) for name in ARRAYS]
    x, y, *validation = (part[:] if arrays.resident(part) else part for part in stored)
    history = fit(
        core,
        (x, y[:]),
        (validation[0], validation[1][:]),
        lesson.model,
        data,
        lesson.seed,
        lambda epoch, row: tell(epoch=epoch, row=dict(row)),
        optimizer=lesson.optimizer,
        epochs=lesson.epochs,
        first=lesson.first,
        resume=resume,
        rates=lesson.rates,
        mix=lesson.mix,
    )
    return core, history


def leave(folder: Path, core: keras.Model, history: pd.DataFrame, tell: Callable[..., None]) -> None:
    """Leave the weights of a core in its folder, and tell of the history."""
    _write_variables(core, folder)
    tell(history=history.reset_index().to_dict("records"))


def _learn_by_jax(folder: Path, tell: Callable[..., None]) -> None:
    import jax

    lesson = asked(folder)
    if lesson.how.device == "gpu":
        _placed()
    found = jax.devices()[0]
    log.info("JAX %s on %s", jax.__version__, found.device_kind)
    build = f"JAX {jax.__version__}, {found.client.platform_version.splitlines()[-1]}"
    tell(used={"trainyard.device": found.device_kind, "trainyard.build": build, **device.driver()})
    leave(folder, *learn(folder, lesson, tell, Resume(lesson.resume) if lesson.resume else None), tell)


def _placed() -> None:
    """Raises EnvironmentFailed where JAX has no GPU, or computes elsewhere all the same."""
    import jax

    if not entry_points(group="jax_plugins"):
        raise EnvironmentFailed("training.device is gpu, but JAX is installed without CUDA (pip install 'jax[cuda13]')")
    if jax.devices()[0].platform == "cpu":
        raise EnvironmentFailed(device.NO_GPU_OF_JAX)
    for on in jax.numpy.ones((2, 2)).dot(jax.numpy.ones((2, 2))).devices():
        if on.platform == "cpu":
            raise EnvironmentFailed(f"training.device is gpu, but JAX computes on {on} (JAX_DEFAULT_DEVICE?)")


def _write_variables(core: keras.Model, folder: Path) -> None:
    np.savez(folder / "core.npz", *map(keras.ops.convert_to_numpy, core.variables), allow_pickle=False)


def _read_variables(core: keras.Model, folder: Path) -> None:
    with np.load(folder / "core.npz", allow_pickle=False) as held:
        models.assign(core, held.values())


def _main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("trainyard").setLevel(logging.INFO)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
    told = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # a progress bar is for people

    def tell(**what: Any) -> None:
        told.write(json.dumps(what) + "\n")

    with guard.in_order(b""), refusals(tell):  # the one that asks says it
        _learn_by_jax(Path(sys.argv[1]), tell)


if __name__ == "__main__":
    _main()
