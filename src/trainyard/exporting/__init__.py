"""Exported models: files for LiteRT and ONNX Runtime, each held against the Keras model that it was made of.

https://ai.google.dev/edge/litert, https://onnx.ai
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainyard.arrays import Array
from trainyard.errors import BadInput, EnvironmentFailed
from trainyard.exporting import graphs, litert, onnx
from trainyard.exporting.graphs import Graph, Inputs, Session
from trainyard.quality.parity import Bound

if TYPE_CHECKING:
    from trainyard.kinds import Examples

CALIBRATED = 200
"""Training examples that int8 is calibrated on."""
WARM, CALLS = 5, 40
"""Calls before a time is taken, and those whose time is taken."""


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


def checked(family: str, to: str) -> Format:
    """The format `to`.

    Raises BadInput where no model of this family can be written in it, EnvironmentFailed where what writes it is not
    installed.
    """
    if why := CANNOT.get((family, to)):
        others = " or ".join(name for name in FORMATS if (family, name) not in CANNOT)
        raise BadInput(f"--to {to}: not of family {family}: {why} (take {others})")
    if missing := [name for name in FORMATS[to].needs if find_spec(name) is None]:
        raise EnvironmentFailed(f"--to {to}: {missing[0]} is not installed (pip install 'trainyard[export]')")
    return FORMATS[to]


def write(form: Format, graph: Graph, about: Mapping[str, Any], train: "Examples", seed: int, path: Path) -> list[str]:
    """Write a file; gives the training examples that it was calibrated on, drawn by the seed."""
    form.convert(graph, path)
    if not form.calibrated:
        return []
    places = np.sort(np.random.default_rng(seed).permutation(len(train))[:CALIBRATED])
    rows = ({name: values[place : place + 1] for name, values in train.raw.items()} for place in places)
    litert.quantize(graph, path, [graphs.fed(about, graph.inputs, row) for row in rows])
    return [str(example) for example in train.rows.index[places]]


def outputs(form: Format, session: Session, about: Mapping[str, Any], inputs: Inputs, raw: Mapping[str, Any]) -> Array:
    """What a file gives for raw values, in as many calls as it takes."""
    from trainyard.models import saved

    count, rows = len(next(iter(raw.values()))), saved.at_once(raw, form.rows)
    batches = ({name: values[start : start + rows] for name, values in raw.items()} for start in range(0, count, rows))
    return np.concatenate([session(graphs.fed(about, inputs, batch)) for batch in batches])


def read(about: Mapping[str, Any], found: Array) -> Array:
    """The answers in a model's outputs: those themselves, or the text of a transcription."""
    if about["objective"] != "transcription":
        return found
    from trainyard.models import ctc

    return ctc.read(found, about["classes"], about["params"]["beam"], about["words"])


def milliseconds(answer: Callable[[], Any]) -> float:
    """The median of `CALLS` answers, after a few that prepare."""
    taken = []
    for _ in range(WARM + CALLS):
        began = time.perf_counter()
        answer()
        taken.append(1000 * (time.perf_counter() - began))
    return float(np.median(taken[WARM:]))


def versions(form: Format) -> dict[str, str]:
    """The packages that made a file."""
    return {name: metadata.version(name.replace("_", "-")) for name in ("keras", *form.needs)}
