"""The runtime of a champion: what computes its answers, TensorFlow, or another where that is faster at equal answers.

The file that another runtime reads, and what was found of it, lie beside the pinned files: a process that takes the
place of one that was ended makes and measures nothing.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainyard import exporting, files
from trainyard.arrays import Array
from trainyard.errors import BadInput

if TYPE_CHECKING:
    import keras

NAMES = {"onnx": "ONNX Runtime", "litert": "LiteRT"}
ROWS = (1, 32)
"""How many rows are asked at once to compare: one question, and as many as wait together under load."""
NEAR = 1e-5
"""By which answers may differ, of values up to 1; of greater ones this share of them."""
CALLS = 20

Ask = Callable[[Mapping[str, Any]], Array]
"""Gives what a model does for raw values `[n, ...]` by name."""


def choose(
    to: str, model: "keras.Model", about: Mapping[str, Any], examples: Mapping[str, Any], ours: Ask, folder: Path
) -> tuple[Ask, str]:
    """Who answers, and its name with the reason: `ours`, TensorFlow, unless `to` is faster at equal answers.

    Both are asked `examples`, raw values of a few rows.
    """
    place = folder / to
    if not place.is_dir():
        with files.replacing_folder(place) as draft:
            files.write_json(draft / "found.json", _found(to, model, about, examples, ours, draft))
    found = files.read_json(place / "found.json")
    if not found["faster"]:
        return ours, f"TensorFlow: {found['why']}"
    return exporting.opened(to, place, about, found["inputs"]).outputs, f"{NAMES[to]}: {found['why']}"


def _found(
    to: str, model: "keras.Model", about: Mapping[str, Any], examples: Mapping[str, Any], ours: Ask, folder: Path
) -> dict[str, Any]:
    try:
        file = exporting.written(to, model, about, folder)
    except BadInput as error:
        return {"faster": False, "why": str(error)}
    told = []
    for rows in ROWS:
        raw = {name: array[np.arange(rows) % len(array)] for name, array in examples.items()}
        if not equal(*(exporting.read(about, ask(raw)) for ask in (ours, file.outputs))):
            return {"faster": False, "why": f"{NAMES[to]} answers {rows} of its examples otherwise"}
        taken = np.array([[_milliseconds(ask, raw) for ask in (ours, file.outputs)] for _ in range(CALLS)])
        before, after = np.median(taken, axis=0)
        told.append(f"{after:.3g} ms for {before:.3g} ms of TensorFlow at {rows} {'row' if rows == 1 else 'rows'}")
        if after >= before:
            return {"faster": False, "why": f"{NAMES[to]} takes {told[-1]}"}
    return {"faster": True, "why": ", ".join(told), "inputs": file.inputs}


def equal(found: Array, expected: Array) -> bool:
    """Whether answers are the same: numbers but for rounding, texts letter for letter."""
    if expected.dtype.kind in "fiu":
        return bool(np.allclose(found, expected, rtol=NEAR, atol=NEAR))
    return found.tolist() == expected.tolist()


def _milliseconds(ask: Ask, raw: Mapping[str, Any]) -> float:
    began = time.perf_counter()
    ask(raw)
    return 1000 * (time.perf_counter() - began)
