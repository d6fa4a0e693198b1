"""Resume: what a training that is killed leaves, so that the next one ends in the same bits.

All that an epoch begins with is kept: weights, the states of random layers, the optimizer, the history, the best
weights and what callbacks count. Batches need not be, as they are a pure function of seed and epoch.
"""

import io
import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import keras
import numpy as np

import trainyard
from trainyard import files, guard
from trainyard.arrays import Array
from trainyard.files import NoRoom
from trainyard.params import Params

log = logging.getLogger(__name__)

ROOT = Path(".trainyard/resume")
STATES = ("one.state", "other.state")
HASH = 32
"""Bytes of the SHA-256 at the head of a state."""
EVERY = 5.0
"""Seconds of training that may be lost: an epoch that ends sooner after the last one that was kept is not kept."""


COUNTED = ("best", "best_epoch", "wait", "stopped_epoch", "cooldown_counter")
"""What Keras' callbacks count from epoch to epoch."""


class Resume:
    """The last two states of one training; while one is written the other is whole."""

    def __init__(self, folder: Path) -> None:
        """`folder` need not exist."""
        self.folder, self.every = folder, EVERY
        self._next = 0
        self._written = time.monotonic()

    def phase(self, name: str) -> "Resume":
        """That of a part of the training."""
        return Resume(self.folder / name)

    def due(self) -> bool:
        """Whether more would be lost than is worth writing."""
        return time.monotonic() - self._written >= self.every

    def write(self, epochs: int, arrays: Mapping[str, Array], told: Mapping[str, Any]) -> None:
        """Keep the state after so many epochs in place of the last but one."""
        archive = io.BytesIO()
        about = np.frombuffer(json.dumps({**told, "epochs": epochs}).encode(), np.uint8)
        np.savez(archive, allow_pickle=False, told=about, **arrays)
        content = archive.getbuffer()
        files.write_bytes(self.folder / STATES[self._next], sha256(content).digest(), content)
        self._next = 1 - self._next
        self._written = time.monotonic()

    def read(self) -> tuple[dict[str, Array], dict[str, Any]] | None:
        """The newest state that is whole; None where there is none. One line tells of one that is not."""
        found = []
        for number, name in enumerate(STATES):
            path = self.folder / name
            if not path.exists():
                continue
            content = path.read_bytes()
            if sha256(content[HASH:]).digest() != content[:HASH]:
                log.warning("%s: not whole: left aside", path)
                continue
            with np.load(io.BytesIO(content[HASH:]), allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            told = json.loads(bytes(arrays.pop("told")))
            found.append((told.pop("epochs"), number, arrays, told))
        if not found:
            return None
        epochs, number, arrays, told = max(found, key=lambda state: state[0])
        self._next = 1 - number
        log.info("goes on after epoch %d, to which a training that did not end had come (%s)", epochs, self.folder)
        return arrays, told

    def done(self) -> None:
        """Remove what the model's trainings left, those with other data or params too."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)


def of(name: str, params: Params) -> Resume:
    """What an interrupted training of this model, on the same data by the same params, code and device, left."""
    import tensorflow as tf

    spec = params.model(name)
    told = {
        "model": spec.model_dump(mode="json"),
        "dataset": params.dataset(spec.dataset).model_dump(mode="json"),
        "training": params.training.model_dump(mode="json"),
        "seed": params.seed,
        "versions": [keras.__version__, tf.__version__, np.__version__],
        "devices": [device.device_type for device in tf.config.get_visible_devices()],
    }
    package = Path(trainyard.__file__).parent
    inputs = [path for path in (Path("build") / spec.dataset, Path("backbones") / name) if path.exists()]
    hashes = [files.digest(inputs), files.digest(package.rglob("*.py"), package)]
    key = sha256(json.dumps([told, *hashes], sort_keys=True).encode()).hexdigest()[:16]
    return Resume(ROOT / name / key)


class Kept(keras.callbacks.Callback):
    """Brings a training back to where it was, and keeps its state after each epoch; the last of the callbacks."""

    def __init__(
        self, resume: Resume, others: Sequence[keras.callbacks.Callback], rows: list[dict[str, float]]
    ) -> None:
        """`others` are the callbacks that count; `rows` of the history, to which each epoch adds one."""
        super().__init__()
        self.resume, self.others, self.rows = resume, others, rows
        self.state = resume.read()
        self.over = False
        """Whether the training had come to its end."""
        if self.state is not None:
            rows.extend(self.state[1]["rows"])
            self.over = self.state[1]["over"]

    def on_train_begin(self, logs: Any = None) -> None:
        """Here, as the other callbacks forget all when a training begins."""
        if self.state is None:
            return
        (arrays, told), self.state = self.state, None
        for name, variables in self._variables().items():
            for number, variable in enumerate(variables):
                variable.assign(arrays[f"{name}.{number}"])
        for callback, numbers in zip(self.others, told["callbacks"], strict=True):
            vars(callback).update({name: number for name, number in numbers.items() if name in vars(callback)})
            best = [arrays[key] for key in sorted(arrays, key=_number) if key.startswith("best.")]
            if best and getattr(callback, "restore_best_weights", False):
                callback.best_weights = best

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Keep the state, and end where that was asked for; where it cannot be written, the training goes on."""
        over = self.model.stop_training or epoch + 1 == self.params["epochs"]
        if not over and not guard.ending() and not self.resume.due():
            return
        arrays = {
            f"{name}.{number}": keras.ops.convert_to_numpy(variable)
            for name, variables in self._variables().items()
            for number, variable in enumerate(variables)
        }
        for callback in self.others:
            for number, weight in enumerate(getattr(callback, "best_weights", None) or []):
                arrays[f"best.{number}"] = weight
        counted = [{name: _plain(vars(callback).get(name)) for name in COUNTED} for callback in self.others]
        try:
            self.resume.write(epoch + 1, arrays, {"rows": self.rows, "callbacks": counted, "over": over})
        except (OSError, NoRoom) as error:
            log.warning("%s: no state is kept (%s): a training that is killed begins anew", self.resume.folder, error)
        if guard.ending():
            guard.end()

    def _variables(self) -> dict[str, list[keras.Variable]]:
        optimizer = self.model.optimizer
        optimizer.build(self.model.trainable_variables)
        return {"model": self.model.variables, "optimizer": optimizer.variables}


def _number(key: str) -> int:
    return int(key.rpartition(".")[2])


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
