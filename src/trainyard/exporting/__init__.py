"""Exported models: files for LiteRT and ONNX Runtime, each held against the Keras model that it was made of.

https://ai.google.dev/edge/litert, https://onnx.ai
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainyard import files
from trainyard.arrays import Array
from trainyard.errors import BadInput, EnvironmentFailed, TrainyardError
from trainyard.exporting import graphs, litert, onnx, page
from trainyard.exporting.graphs import Graph, Inputs, Session
from trainyard.quality.parity import Bound, Parity

if TYPE_CHECKING:
    import keras

    from trainyard.kinds import Examples

CALIBRATED = 200
"""Training examples that int8 is calibrated on."""


@dataclass(frozen=True)
class Format:
    """A way to write a model down, and how far its answers may lie from the model's own."""

    file: str
    bound: Bound
    needs: tuple[str, ...]
    """Packages of the extra `export`."""
    convert: Callable[[Graph, Path], None]
    session: Callable[[Path], Session]
    rows: int
    """How many a call takes at most."""
    calibrated: bool = False
    """Whether training examples say how it counts."""


FLOATS = Bound(difference=1e-3, loss=0.001, same=0.99, apart=0.01)
"""Rounding alone: what was measured stays below 1e-5, but for spectrograms, whose logarithm makes it larger."""
INT8 = Bound(difference=None, loss=0.01, same=0.95, apart=0.25)
"""One point, and a file that is nevertheless the same model."""
FORMATS = {
    "litert": Format("model.tflite", FLOATS, ("ai_edge_litert",), litert.convert, litert.session, 1),
    "litert-int8": Format(
        "model.tflite",
        INT8,
        ("ai_edge_litert", "ai_edge_quantizer"),
        litert.convert,
        litert.session,
        1,
        calibrated=True,
    ),
    "onnx": Format("model.onnx", FLOATS, ("tf2onnx", "onnxruntime"), onnx.convert, onnx.session, 256),
}
CANNOT = {
    ("rnn", "litert-int8"): "its recurrent layers are loops in LiteRT, in which nothing can be calibrated",
}
"""Families and formats that do not go together, and why; tests try all others."""


def check(family: str, to: str) -> None:
    """Raises BadInput where no model of this family can be written so, EnvironmentFailed where what does is missing."""
    if why := CANNOT.get((family, to)):
        others = " or ".join(name for name in FORMATS if (family, name) not in CANNOT)
        raise BadInput(f"--to {to}: not of family {family}: {why} (take {others})")
    need(to, "--to")


def need(to: str, asked_by: str) -> None:
    """Raises EnvironmentFailed where what writes and reads such files is missing."""
    if missing := [name for name in FORMATS[to].needs if find_spec(name) is None]:
        raise EnvironmentFailed(f"{asked_by} {to}: {missing[0]} is not installed (pip install 'trainyard[export]')")


@dataclass(frozen=True)
class Exported:
    """A file that was written, and what answers by it."""

    to: str
    path: Path
    about: Mapping[str, Any]
    """model.json of the model that it was made of."""
    inputs: Inputs
    calibrated_on: list[str]
    """Training examples."""
    session: Session

    @property
    def form(self) -> Format:
        """Its format."""
        return FORMATS[self.to]

    def outputs(self, raw: Mapping[str, Any]) -> Array:
        """What it gives for raw values, in as many calls as it takes."""
        from trainyard.models import saved

        count, rows = len(next(iter(raw.values()))), saved.at_once(raw, self.form.rows)
        parts = (
            {name: values[start : start + rows] for name, values in raw.items()} for start in range(0, count, rows)
        )
        return np.concatenate([self.session(graphs.fed(self.about, self.inputs, part)) for part in parts])

    def told(self, source: Mapping[str, Any], found: Parity, milliseconds: Mapping[str, float]) -> dict[str, Any]:
        """What its model.json says: also of the model's version, how it compares, and how long an answer takes."""
        return {
            "format": self.to,
            "file": self.form.file,
            "sha256": files.sha256(self.path),
            "bytes": self.path.stat().st_size,
            "made_by": versions(self.form),
            "source": source,
            "model": self.about,
            "inputs": self.inputs,
            "outputs": {"answer": page.holds(self.about)},
            "parity": {**asdict(found), "bound": asdict(self.form.bound)},
            "calibrated_on": self.calibrated_on,
            "milliseconds": milliseconds,
        }


def written(
    to: str,
    model: "keras.Model",
    about: Mapping[str, Any],
    folder: Path,
    train: "Examples | None" = None,
    seed: int = 0,
) -> Exported:
    """The model as a file, which if it counts in int8 is calibrated on examples of `train` that the seed draws.

    Raises BadInput for a model that the format cannot hold.
    """
    form = FORMATS[to]
    path = folder / form.file
    calibrated_on: list[str] = []
    try:
        graph = graphs.of(model, about)
        form.convert(graph, path)
        if form.calibrated and train:
            places = sorted(np.random.default_rng(seed).permutation(len(train))[:CALIBRATED])
            rows = ({name: values[place : place + 1] for name, values in train.raw.items()} for place in places)
            litert.quantize(graph, path, [graphs.fed(about, graph.inputs, row) for row in rows])
            calibrated_on = [str(train.rows.index[place]) for place in places]
        return Exported(to, path, about, graph.inputs, calibrated_on, form.session(path))
    except (OSError, MemoryError, TrainyardError):
        raise
    except Exception as error:  # noqa: BLE001  # converters raise whatever they stumble over
        told = " ".join(str(error).split())[:300] or type(error).__name__
        raise BadInput(f"{about['model']}: {to} cannot hold it: {told}") from None


def opened(to: str, folder: Path, about: Mapping[str, Any], inputs: Inputs) -> Exported:
    """A file that was written to a folder before."""
    path = folder / FORMATS[to].file
    return Exported(to, path, about, inputs, [], FORMATS[to].session(path))


def read(about: Mapping[str, Any], found: Array) -> Array:
    """The answers in a model's outputs: those themselves, or the text of a transcription."""
    if about["objective"] != "transcription":
        return found
    from trainyard.models import ctc

    return ctc.read(found, about["classes"], about["params"]["beam"], about["words"])


def versions(form: Format) -> dict[str, str]:
    """The packages that made a file."""
    return {name: metadata.version(name.replace("_", "-")) for name in ("keras", *form.needs)}
