"""Saved models: `.keras` files, the same bytes for the same weights, checked when they are written and when loaded.

Keras' safe mode is the second line: what is loaded has the hash that was written when the model was trained, and is
such an archive as `save` writes, which inflates nothing and names no file but its own.
"""

import json
import logging
import re
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainyard import files
from trainyard.arrays import Array, row_bytes
from trainyard.errors import BadInput, TrainingFailed
from trainyard.models import finite

if TYPE_CHECKING:
    import keras


MOST_BYTES = 2**25
"""Of raw values in a batch: a spectrogram takes ten times that of its recording."""
MEMBERS = re.compile(r"(config|metadata)\.json|model\.weights\.h5|assets/(?!.*\.\.)[\w./-]+")
"""What an archive may hold: config, weights, and vocabularies."""
WARM, CALLS = 5, 40
"""Calls before a time is taken, and those whose time is taken."""

Ask = Callable[[Mapping[str, Any]], Array]

log = logging.getLogger(__name__)


def save(model: "keras.Model", path: Path, sample: Mapping[str, Any]) -> str:
    """Write `path`, reload it and compare the answers on a raw sample; gives the SHA-256 of the file.

    Raises TrainingFailed where the reloaded model answers otherwise.
    """
    import keras

    draft = path.with_suffix(".draft.keras")
    try:
        model.save(draft)
        _normalise(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    reloaded = keras.models.load_model(path, compile=False)
    if not np.allclose(predict(model, sample), predict(reloaded, sample), rtol=0, atol=1e-5, equal_nan=False):
        raise TrainingFailed(f"{path}: the saved model does not answer as the trained one (are its answers finite?)")
    return files.sha256(path)


def load(path: Path, sha256: str) -> "keras.Model":
    """Load a model whose file has this SHA-256.

    Raises BadInput before anything in another file is read, and for what is no archive that `save` wrote, what Keras
    refuses, and weights that are not finite.
    """
    import keras

    if not path.is_file():
        raise BadInput(f"{path}: not found (train the model first)")
    if (found := files.sha256(path)) != sha256:
        raise BadInput(f"{path}: not the file that was trained (SHA-256 {found[:12]}…, expected {sha256[:12]}…)")
    try:
        with zipfile.ZipFile(path) as archive:
            odd = [one for one in archive.infolist() if one.compress_type or not MEMBERS.fullmatch(one.filename)]
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise BadInput(f"{path}: no .keras file: {error}") from None
    if odd:
        raise BadInput(f"{path}: no .keras file of trainyard: it holds `{odd[0].filename}`, or inflates it")
    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # noqa: BLE001  # what somebody else made can fail in any way
        raise BadInput(f"{path}: Keras refuses it: {' '.join(str(error).split())[:300]}") from None
    finite(model, path)
    return model


def predict(model: "keras.Model", raw: Mapping[str, Any], batch_size: int = 256) -> Array:
    """What the model gives for raw values; batch by batch, so that what lies on the disk stays there.

    Raises BadInput where it takes others.
    """
    import keras

    takes = set(model.input) if isinstance(model.input, dict) else {tensor.name for tensor in model.inputs}
    if takes != raw.keys():
        told = f"takes {', '.join(sorted(takes))}, here is {', '.join(sorted(raw))}"
        raise BadInput(f"the model `{model.name}` {told} (train it on this data)")
    count, batch_size = len(next(iter(raw.values()))), at_once(raw, batch_size)
    none = (0, *(side or 0 for side in model.output_shape[1:]))
    found = []
    for start in range(0, count, batch_size):
        batch = {name: keras.ops.convert_to_tensor(values[start : start + batch_size]) for name, values in raw.items()}
        found.append(keras.ops.convert_to_numpy(model(batch, training=False)))
    return np.concatenate(found) if found else np.zeros(none, np.float32)


def at_once(raw: Mapping[str, Any], most: int) -> int:
    """How many rows to take from the disk together: `most`, or fewer where their values fill `MOST_BYTES`."""
    return max(1, min(most, MOST_BYTES // max(row_bytes(*raw.values()), 1)))


def answers(model: "keras.Model", about: Mapping[str, Any], raw: Mapping[str, Any], ask: Ask | None = None) -> Array:
    """The model's answers as its objective has them, by what model.json says `about` it; transcriptions are read.

    `ask` gives what the model does for raw values, by default `predict` of it. Raises BadInput where it has another
    number of classes than model.json.
    """
    units, classes = model.output_shape[-1], len(about["classes"])
    expected = {"binary": 1, "multiclass": classes, "transcription": classes + 1}.get(about["objective"], units)
    if units != expected:
        raise BadInput(f"the model `{model.name}` has {units} outputs, model.json {classes} classes (train it again)")
    found = ask(raw) if ask else predict(model, raw)
    if about["objective"] != "transcription":
        return found
    from trainyard.models import ctc

    return ctc.read(found, about["classes"], about["params"]["beam"], about["words"])


def latency(
    model: "keras.Model", about: Mapping[str, Any], raw: Mapping[str, Any], ask: Ask | None = None, whose: str = "Keras"
) -> float:
    """Milliseconds of one of the `answers` to the first raw example: the median of `CALLS`; slow ones are printed."""
    one, taken = {name: np.asarray(values[:1]) for name, values in raw.items()}, []
    for _ in range(WARM + CALLS):
        began = time.perf_counter()
        answers(model, about, one, ask)
        taken.append(1000 * (time.perf_counter() - began))
    median, late = np.quantile(taken[WARM:], (0.5, 0.95))
    log.info("%s answers one example: median %.3g ms, 95%% of %d within %.3g ms", whose, median, CALLS, late)
    return float(median)


def _normalise(source: Path, target: Path) -> None:
    """Copy a `.keras` archive without what differs between two equal trainings, dates and memory addresses."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as fixed:
        for name in sorted(archive.namelist()):
            content = archive.read(name)
            if name == "metadata.json":
                content = json.dumps(
                    {**json.loads(content), "date_saved": "1980-01-01@00:00:00"}, sort_keys=True
                ).encode()
            elif name == "config.json":
                content = _number_objects(json.dumps(_untrained(json.loads(content)))).encode()
            fixed.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)


def _untrained(config: Any) -> Any:
    """The config without losses and optimizers: an answer needs none, and a loss of our own none could load."""
    if isinstance(config, dict):
        return {key: _untrained(value) for key, value in config.items() if key != "compile_config"}
    return [_untrained(value) for value in config] if isinstance(config, list) else config


def _number_objects(config: str) -> str:
    numbers: dict[str, int] = {}
    return re.sub(
        r'("shared_object_id": )(\d+)',
        lambda found: f"{found[1]}{numbers.setdefault(found[2], len(numbers) + 1)}",
        config,
    )
