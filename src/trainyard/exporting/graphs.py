"""What is exported of a model: its graph from numbers on; and what turns raw values into these numbers.

Look-ups of words and categories stay outside, as neither LiteRT nor ONNX Runtime knows Keras' tables of strings. All
else of the saved model is inside: scaling, spectrograms, one-hot categories, the temperature. `fed` does what stays
outside by what the file's model.json says alone, so that the parity that is measured is that of anyone who reads it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from trainyard.arrays import Array
from trainyard.kinds.text import NO_PUNCTUATION, SMALL

if TYPE_CHECKING:
    import keras

WORD = re.compile(r"[^ \t\n\v\f\r]+")
Inputs = dict[str, dict[str, Any]]
"""By name: `dtype`, `shape` with None for a side of any length, `holds` in words, and what is looked up."""


Session = Callable[[Mapping[str, Array]], Array]
"""Gives the outputs of an opened file for some rows of its inputs."""


@dataclass(frozen=True)
class Graph:
    """A model that takes numbers alone."""

    model: "keras.Model"
    """It takes `inputs` by name and gives the saved model's outputs as `answer`."""
    inputs: Inputs
    core: str
    """The layer that was trained; what lies outside of it is preprocessing."""


def of(model: "keras.Model", about: Mapping[str, Any]) -> Graph:
    """The graph of a saved model, by what its model.json says `about` it."""
    import keras

    from trainyard.exporting.portable import still

    still(model)
    graph = _GRAPHS[about["kind"]](model, about)
    named = keras.Model(graph.model.input, {"answer": graph.model.output}, name="exported")
    return Graph(named, graph.inputs, graph.core)


def fed(about: Mapping[str, Any], inputs: Inputs, raw: Mapping[str, Array]) -> dict[str, Array]:
    """Raw values of the saved model as the graph's inputs; `inputs` may come from JSON."""
    return _FED.get(about["kind"], _as_they_are)(about, inputs, raw)


def _whole(holds: Mapping[str, str]) -> Callable[["keras.Model", Mapping[str, Any]], Graph]:
    """All of the saved model, whose inputs hold this."""

    def graph(model: "keras.Model", about: Mapping[str, Any]) -> Graph:
        inputs = {
            name: {"dtype": tensor.dtype, "shape": list(tensor.shape), "holds": holds[name]}
            for name, tensor in sorted(model.input.items())
        }
        from trainyard.exporting.portable import portable  # Keras

        return Graph(portable(model), inputs, model.name)

    return graph


def _tables(model: "keras.Model", about: Mapping[str, Any]) -> Graph:
    import keras
    from keras import layers, ops

    facts, inputs, given, cut = about["facts"], Inputs(), {}, {}
    if numeric := facts["numeric"]:
        given["numbers"] = keras.Input((len(numeric),), name="numbers")
        (scaling,) = (layer for layer in model.layers if isinstance(layer, layers.Normalization))
        cut[scaling.input] = given["numbers"]
        inputs["numbers"] = {
            "dtype": "float32",
            "shape": [None, len(numeric)],
            "holds": "the columns in this order, NaN for a missing value",
            "columns": numeric,
        }
    if categorical := facts["categorical"]:
        given["categories"] = keras.Input((len(categorical),), dtype="int32", name="categories")
        found = {_column(layer.input.name): layer for layer in model.layers if isinstance(layer, layers.StringLookup)}
        known = {column: found[column].get_vocabulary(include_special_tokens=False) for column in categorical}
        for place, (column, values) in enumerate(known.items()):
            cut[found[column].output] = ops.one_hot(given["categories"][:, place], len(values) + 1)
        inputs["categories"] = {
            "dtype": "int32",
            "shape": [None, len(categorical)],
            "holds": "for each column, in this order, the place of its value in the list, from 1; 0 for any other",
            "columns": [{"name": column, "values": values} for column, values in known.items()],
        }
    answers = keras.Model(list(cut), model.output)(list(cut.values()))
    return Graph(keras.Model(given, answers, name=model.name), inputs, model.name)


def _text(model: "keras.Model", about: Mapping[str, Any]) -> Graph:
    import keras

    core, how = model.get_layer(model.name), about["spec"]["tokens"]
    length = core.input_shape[1]
    tokens = keras.Input((length,), dtype="int32", name="tokens")
    vocabulary = model.get_layer("tokens").get_vocabulary(include_special_tokens=False)
    inputs: Inputs = {
        "tokens": {
            "dtype": "int32",
            "shape": [None, length],
            "holds": f"{_TOKENS[how]}: the place of each in the list, from 2; 1 for any other, 0 after the last",
            # Keras has spaces between the letters of a piece
            "vocabulary": [token[::2] for token in vocabulary] if how == "trigrams" else vocabulary,
        }
    }
    return Graph(keras.Model({"tokens": tokens}, core(tokens), name=model.name), inputs, model.name)


def _fed_tables(about: Mapping[str, Any], inputs: Inputs, raw: Mapping[str, Array]) -> dict[str, Array]:
    cells, fed = {_column(name): values[:, 0] for name, values in raw.items()}, {}
    if "numbers" in inputs:
        fed["numbers"] = np.stack([cells[column] for column in inputs["numbers"]["columns"]], axis=1)
    if "categories" in inputs:
        columns = inputs["categories"]["columns"]
        places = [pd.Index(column["values"]).get_indexer(cells[column["name"]]) + 1 for column in columns]
        fed["categories"] = np.stack(places, axis=1).astype(np.int32)
    return fed


def _fed_text(about: Mapping[str, Any], inputs: Inputs, raw: Mapping[str, Array]) -> dict[str, Array]:
    told = inputs["tokens"]
    places = {token: number for number, token in enumerate(told["vocabulary"], 2)}
    fed = np.zeros((len(raw["text"]), told["shape"][1]), np.int32)
    for row, said in zip(fed, raw["text"][:, 0], strict=True):
        read = [places.get(token, 1) for token in tokens(about["spec"]["tokens"], said)[: len(row)]]
        row[: len(read)] = read
    return {"tokens": fed}


def tokens(how: str, said: str) -> list[str]:
    """The tokens that Keras reads in a text: it knows the small letters, punctuation and white space of ASCII alone."""
    small = said.translate(SMALL)
    if how == "words":
        return WORD.findall(small.translate(NO_PUNCTUATION))
    size = 3 if how == "trigrams" else 1
    return [small[start : start + size] for start in range(len(small) - size + 1)]


def _column(name: str) -> str:
    """The column of an input of the saved model."""
    return name.removeprefix("column ").replace("%2F", "/")


def _as_they_are(about: Mapping[str, Any], inputs: Inputs, raw: Mapping[str, Array]) -> dict[str, Array]:
    return dict(raw)


_TOKENS = {
    "characters": "the characters, A to Z in small letters",
    "trigrams": "each three characters that follow one another, A to Z in small letters",
    "words": "the words between spaces, A to Z in small letters, without ASCII's punctuation",
}
_GRAPHS: Mapping[str, Callable[["keras.Model", Mapping[str, Any]], Graph]] = {
    "tables": _tables,
    "images": _whole(
        {"image": "pixels, 0 to 255, as `trainyard.kinds.images.decode` has them: the set's size and channels"}
    ),
    "series": _whole({"window": "rows in time order, the columns of `facts.columns`, in the data's units"}),
    "text": _text,
    "speech": _whole(
        {
            "samples": "sound of one channel, -1 to 1, at `spec.rate` samples a second, 0 after its end",
            "length": "how many samples are sound",
        }
    ),
}
_FED: Mapping[str, Callable[[Mapping[str, Any], Inputs, Mapping[str, Array]], dict[str, Array]]] = {
    "tables": _fed_tables,
    "text": _fed_text,
}
