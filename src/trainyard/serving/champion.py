"""A registered model in memory, that answers rows as `evaluate` did: the same reading of them, compiled.

TensorFlow compiles one signature a number of rows, the powers of two up to `MOST_ROWS`; what is asked is filled up to
the next one. So nothing is compiled for a question, once it has been asked in that size.
"""

import json
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from pydantic import TypeAdapter

from trainyard import files, kinds
from trainyard.arrays import Array
from trainyard.errors import BadInput
from trainyard.params import AnyDataset
from trainyard.quality.evaluation import named_answers
from trainyard.quality.objectives import OBJECTIVES
from trainyard.serving import runtime
from trainyard.serving.question import Reader
from trainyard.tracking import Pinned

MOST_ROWS = 256
"""Rows that are answered together."""
SOUND = 4096
"""Samples to which recordings are filled up at least; from there on by powers of two."""


class Champion:
    """A pinned version: `ask` it rows as a user has them. One process asks it, from one thread at a time."""

    def __init__(self, pinned: Pinned) -> None:
        """Load the model; raises BadInput where its files are not those that were pinned."""
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        from trainyard.exporting.compiled import Compiled
        from trainyard.models import saved

        self.pinned = pinned
        pinned.refuse_changed()
        self.about: dict[str, Any] = files.read_json(pinned.folder / "model.json")
        self.golden: dict[str, Any] = files.read_json(pinned.folder / "golden.json")
        self.spec = TypeAdapter(AnyDataset).validate_json(json.dumps(self.about["spec"]))
        self.facts: dict[str, Any] = self.about["facts"]
        self.objective = OBJECTIVES[self.about["objective"]]
        self.model = saved.load(pinned.folder / "model.keras", pinned.sha256)
        self._compiled = Compiled(self.model)
        self._ask: runtime.Ask = self._by_tensorflow
        self.runtime = "TensorFlow"
        """What computes the answers, and why."""

    @property
    def example(self) -> dict[str, Any]:
        """A question of JSON that was answered when the version was registered."""
        return {"rows": self.golden["rows"]}

    @cached_property
    def _example(self) -> tuple[dict[str, Array], pd.Index]:
        reader = Reader(self.spec, self.facts, len(self.golden["rows"]))
        question = reader.read(json.dumps(self.example).encode(), "application/json")
        return self.decode(reader.table(question.rows) if question.table is None else question.table)

    def ask(self, table: pd.DataFrame) -> pd.DataFrame:
        """Answers to raw rows, with the columns of scores.csv and, of numbers, the ends of their 95% intervals.

        Indexed as `table` is; of series by the time of each row that ends a whole window. Raises BadInput for rows that
        `kinds.KIND.decode` refuses, and where an answer is not finite.
        """
        values, names = self.decode(table)
        return self.named(self.answers(values), names)

    def decode(self, table: pd.DataFrame) -> tuple[dict[str, Array], pd.Index]:
        """What the model takes of raw rows, and a name for each answer. Raises BadInput."""
        return kinds.of(self.spec).decode(self.spec, self.facts, table)

    def answers(self, values: Mapping[str, Any]) -> Array:
        """Answers `[n, ...]` to raw values, as the objective has them."""
        from trainyard.models import saved

        return saved.answers(self.model, self.about, values, self._ask)

    def named(self, answer: Array, names: pd.Index) -> pd.DataFrame:
        """Answers by name; raises BadInput for one that is not finite, or has no finite interval."""
        found = pd.DataFrame(named_answers(self.objective, self.about["classes"], answer), index=names)
        for name, width in self.golden["within"].items():
            found[f"{name}_low"], found[f"{name}_high"] = found[name] - width, found[name] + width
        finite = np.isfinite(found.select_dtypes("number").to_numpy()).all(axis=1)
        if not finite.all():
            row = names[int(np.argmin(finite))]
            raise BadInput(f"row {row}: the model has no finite answer to it (is a value far out of range?)")
        return found

    def without_parts(self, row: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
        """Each part of one raw row, or of the rows of one window, and the answer without it."""
        values, names = self.decode(row)
        last = {name: array[-1:] for name, array in values.items()}
        for part, without in kinds.of(self.spec).without(self.spec, self.facts, last):
            yield part, self.named(self.answers(without), names[-1:])

    def prove(self) -> None:
        """Ask the example; raises BadInput where it is not answered as it was when the version was registered.

        Where that is not known, as the model answers it that is not compiled.
        """
        from trainyard.models import saved

        values, names = self._example
        found = self.named(self.answers(values), names)
        if known := self.golden["answers"]:
            expected = pd.DataFrame(known).set_index("example")
            found = found.loc[expected.index] if self.about["kind"] == "series" else found[: len(expected)]
        else:
            expected = self.named(saved.answers(self.model, self.about, values), names)
        same = [runtime.equal(found[name].to_numpy(), expected[name].to_numpy()) for name in expected]
        if not all(same):
            where = f"{self.pinned.model}: version {self.pinned.version}"
            raise BadInput(f"{where} does not answer its example as it did when it was registered")

    def run(self, by: str) -> None:
        """Answer by another runtime from now on, where that is faster at equal answers."""
        values, _ = self._example
        self._ask, self.runtime = runtime.choose(
            by, self.model, self.about, values, self._by_tensorflow, self.pinned.folder
        )

    def warm(self, rows: int = MOST_ROWS) -> None:
        """Compile what questions of up to so many rows need."""
        values, _ = self._example
        size = 1
        while size <= min(rows, self._most(values)):
            self._ask({name: array[np.arange(size) % len(array)] for name, array in values.items()})
            size *= 2

    def _most(self, values: Mapping[str, Any]) -> int:
        from trainyard.models import saved

        return 1 << saved.at_once(values, MOST_ROWS).bit_length() - 1

    def _by_tensorflow(self, values: Mapping[str, Any]) -> Array:
        values = self._padded(values)
        count, most = len(next(iter(values.values()))), self._most(values)
        found = []
        for start in range(0, count, most):
            part = {name: array[start : start + most] for name, array in values.items()}
            rows = min(most, count - start)
            size = 1 << (rows - 1).bit_length()
            if size > rows:  # filled up with the last one
                places = np.minimum(np.arange(size), rows - 1)
                part = {name: array[places] for name, array in part.items()}
            found.append(self._compiled(part)[:rows])
        return np.concatenate(found)

    def _padded(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Recordings to one of few lengths: silence after the end changes no answer."""
        if "samples" not in values:
            return values
        samples = values["samples"]
        length = max(SOUND, 1 << max(samples.shape[1] - 1, 0).bit_length())
        return {**values, "samples": np.pad(samples.astype(np.float32), ((0, 0), (0, length - samples.shape[1])))}
