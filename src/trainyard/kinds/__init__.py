"""Kinds of data, one file each, all of the same shape; `of` finds the one that a dataset block names.

The manifest is what validation, splits, leak audits and per-example scores all speak about: one row an example (a time
step, for series), the index says where it stands in the data.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainyard import files
from trainyard.arrays import Array, Rows, row_bytes
from trainyard.errors import BadInput
from trainyard.params import PARAMS_FILE, AnyDataset, Dataset, Expectation, Series, Split, nearest
from trainyard.quality import leaks
from trainyard.quality.baselines import Baseline
from trainyard.quality.importance import Part
from trainyard.quality.leaks import Finding
from trainyard.quality.objectives import OBJECTIVES, Objective

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

FEW, FEW_BYTES = 256, 2**26
"""Examples, and bytes of their raw values, that are asked again without each part of them."""


Measures = dict[str, pd.Series | pd.DataFrame]
"""By name: numbers, NaN where there is none, or texts, None where there is none; or shares, a column each."""
UNKNOWN = "not known"
"""What the slice of missing cells is called."""
MOST_SLICES = 50
"""Values of a column that are told apart: of more none has the examples to say something."""


@dataclass(frozen=True)
class Examples:
    """One prepared split."""

    raw: Mapping[str, Rows]
    """What the saved model takes, by input name."""
    target: Array
    """As the objective says: int `[n]`, or float32 `[n, 1]` or `[n, horizon]`, or text `[n]`."""
    rows: pd.DataFrame
    """The examples' rows of the manifest, at least their label or time and their group."""

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True)
class Prepared:
    """A prepared dataset."""

    name: str
    spec: Dataset
    facts: Mapping[str, Any]
    """What `prepare` found and the model must know: classes, columns, season."""
    train: Examples
    validation: Examples
    test: Examples
    folder: Path
    """Where it lies: `build/DATASET`."""

    @property
    def objective(self) -> Objective:
        """What is asked of the data."""
        return OBJECTIVES[self.spec.objective]  # type: ignore[attr-defined]  # every kind has one

    @property
    def classes(self) -> list[str]:
        """Names of the classes, or letters of the alphabet, by their number; none for regression and forecasts."""
        return list(self.facts.get("classes", []))

    @property
    def units(self) -> int:
        """Units of the model's head."""
        return self.objective.units(self.train.target, len(self.classes))


@dataclass(frozen=True)
class Preprocessing:
    """The layers around the core: what it sees, what it learns, and how its answer comes back to the data's units."""

    inputs: Mapping[str, "keras.KerasTensor"]
    features: "keras.KerasTensor"
    answer: Callable[["keras.KerasTensor"], "keras.KerasTensor"] = field(default=lambda output: output)
    learns: Callable[[Examples], Array] = field(default=lambda examples: examples.target)
    """What the core learns to give, from the examples' targets."""
    tokens: int = 0
    """How many tokens the features are numbers of; 0 where they are not."""
    anew: bool = False
    """Whether to compute features each time costs less than to keep more of them than memory holds."""

    def model(self) -> "keras.Model":
        """Raw values to features: what is computed once, before the core is trained."""
        import keras

        return keras.Model(dict(self.inputs), self.features, name="preprocessing")

    def join(self, core: "keras.Model") -> "keras.Model":
        """Raw values to answers: what is saved and served."""
        import keras

        return keras.Model(dict(self.inputs), self.answer(core(self.features)), name=core.name)


@dataclass(frozen=True)
class Masked:
    """Examples without one part of them, which is replaced by what says nothing of the example."""

    part: str
    places: NDArray[np.intp]
    """Which examples of the split these are, `[m]`."""
    raw: Mapping[str, Array]
    """What the saved model takes, by input name, `[m, ...]`."""


class Kind(Protocol):
    """What each file in this folder offers."""

    def manifest(self, spec: Any) -> pd.DataFrame:
        """Read the source; one row an example, with all facts that can be checked. Raises BadInput."""

    def expectations(self, spec: Any, manifest: pd.DataFrame) -> list[Expectation]:
        """What the kind always expects, beside the user's own."""

    def split(self, spec: Any, manifest: pd.DataFrame, seed: int) -> pd.Series:
        """Train, validation or test for each row of the manifest. Raises BadInput."""

    def contents(self, spec: Any, manifest: pd.DataFrame) -> pd.Series:
        """A hash of each example, to find the same one twice."""

    def likeness(self, spec: Any, manifest: pd.DataFrame) -> pd.Series:
        """The cluster of each example, of those that are equal or nearly so; at least as `contents` say."""

    def groups(self, spec: Any, manifest: pd.DataFrame) -> pd.Series | None:
        """What belongs together, as the user says; None where nothing does."""

    def audit(self, spec: Any, manifest: pd.DataFrame, parts: pd.Series) -> Iterator[Finding]:
        """What is wrong with a split as only this kind can have it; all else is asked by `audit` below."""

    def facts(self, spec: Any, manifest: pd.DataFrame) -> dict[str, Any]:
        """What the model must know beside the arrays: classes, columns, season."""

    def write(self, spec: Any, facts: Mapping[str, Any], manifest: pd.DataFrame, folder: Path) -> None:
        """Write one split into an empty folder, example by example."""

    def read(self, spec: Any, facts: Mapping[str, Any], folder: Path) -> Examples:
        """Open a split that `write` wrote; the arrays stay on the disk."""

    def decode(self, spec: Any, facts: Mapping[str, Any], table: pd.DataFrame) -> tuple[dict[str, Array], pd.Index]:
        """Raw rows, as a user has them, to what the saved model takes, and a name for each answer. Raises BadInput."""

    def preprocessing(self, spec: Any, facts: Mapping[str, Any], train: Examples) -> Preprocessing:
        """Layers fitted on the training split alone."""

    def compared(self, spec: Any, data: Prepared) -> tuple[Baseline, Baseline]:
        """The answers on the test split of the naive and of the classical baseline."""

    def mistakes(self, spec: Any, facts: Mapping[str, Any], test: Examples, answer: Array) -> "Figure":
        """The most telling mistakes of the test split."""

    def masked(
        self, spec: Any, facts: Mapping[str, Any], train: Examples, test: Examples, seed: int
    ) -> Iterator[Masked]:
        """A few test examples without one part of them, part after part; those that have it, where not all do."""

    def without(
        self, spec: Any, facts: Mapping[str, Any], raw: Mapping[str, Array]
    ) -> Iterator[tuple[str, dict[str, Array]]]:
        """One example without one part of it, part after part, by what it says itself: what its own answer rests on."""

    def importances(
        self, spec: Any, test: Examples, answer: Array, parts: Sequence[Part], table: pd.DataFrame
    ) -> "Figure":
        """What the answers rest on: `importance.table` of the parts, drawn."""

    def fresh(self, spec: Any, facts: Mapping[str, Any]) -> pd.DataFrame:
        """The manifest of data that came later, read as `manifest` does; labels may be missing. Raises BadInput."""

    def measures(self, spec: Any, facts: Mapping[str, Any], train: pd.DataFrame, manifest: pd.DataFrame) -> Measures:
        """What is compared of old and later data: numbers, texts, or shares a column each; a row an example.

        `train` is the manifest of what models were trained on, of which no example is measured: what it says of words
        or seasons is as new to the old examples as to the later ones.
        """


def of(spec: Dataset) -> Kind:
    """The kind that a dataset block names."""
    return cast("Kind", import_module(f"trainyard.kinds.{spec.kind}"))  # type: ignore[attr-defined]  # every kind has one


def audit(spec: Dataset, manifest: pd.DataFrame, splits: pd.Series) -> list[Finding]:
    """What is wrong with a split, whoever made it; what is looked for stands in `leaks.REMEDIES`."""
    kind = of(spec)
    contents, likeness = kind.contents(spec, manifest), kind.likeness(spec, manifest)
    found = [*leaks.shared(splits, contents, kind.groups(spec, manifest), likeness)]
    if spec.objective != "regression":  # type: ignore[attr-defined]  # every kind has one
        found += leaks.contradictions(contents, manifest[spec.label], spec.contradicting)
    return [*found, *kind.audit(spec, manifest, splits)]


def write_prepared(spec: Dataset, manifest: pd.DataFrame, splits: pd.Series, folder: Path) -> None:
    """Write `build/DATASET`: a folder a split, and the facts."""
    kind = of(spec)
    facts = kind.facts(spec, manifest)
    files.write_json(folder / "facts.json", facts)
    for split in ("train", "validation", "test"):
        (folder / split).mkdir()
        kind.write(spec, facts, manifest[splits == split], folder / split)


def open_prepared(name: str, spec: Dataset, build: Path = Path("build")) -> Prepared:
    """Open `build/NAME`; the arrays stay on the disk until they are asked for."""
    folder = build / name
    facts = files.read_json(folder / "facts.json")
    kind = of(spec)
    train, validation, test = (kind.read(spec, facts, folder / split) for split in ("train", "validation", "test"))
    return Prepared(name, spec, facts, train, validation, test, folder)


def units(spec: Dataset, manifest: pd.DataFrame) -> pd.Series:
    """What each example was drawn with: its group, where the user names one, or else those that are nearly equal."""
    groups = of(spec).groups(spec, manifest)
    return of(spec).likeness(spec, manifest) if groups is None else groups


def later(
    spec: AnyDataset, facts: Mapping[str, Any], manifest: pd.DataFrame, path: Path
) -> tuple[AnyDataset, pd.DataFrame]:
    """The block and the manifest of data that came later than a dataset's own; of a series, of the rows after its last.

    Raises BadInput where it cannot be read, or has no such row.
    """
    block = spec.model_copy(update={"path": path.as_posix(), "split": Split()})
    found = of(block).fresh(block, facts)
    if isinstance(spec, Series):
        last = manifest["time"].max()
        found = found[found["time"] > last]
        if found.empty:
            raise BadInput(f"{path}: no row is later than {last.isoformat()}, the last one of {spec.path}")
    return block, found


def few(examples: Examples, seed: int, most: int = FEW) -> NDArray[np.intp]:
    """Places of at most so many examples in their order, drawn by the seed; fewer where they would fill `FEW_BYTES`."""
    most = min(most, len(examples), FEW_BYTES // max(row_bytes(*examples.raw.values()), 1))
    return np.sort(np.random.default_rng(seed).choice(len(examples), max(most, 1), replace=False))


def class_numbers(labels: Sequence[str] | pd.Series, classes: Sequence[str]) -> NDArray[np.int32]:
    """Class names to their numbers `[n]`, int32."""
    return pd.Index(classes).get_indexer(pd.Index(labels)).astype(np.int32)


def class_names(where: str, labels: pd.Series, objective: str, positive: str | None) -> list[str]:
    """The classes in the order of their numbers: numbers by value, else by name, `positive` last. Raises BadInput."""
    names = sorted(labels.unique(), key=lambda name: (0, float(name), name) if _is_number(name) else (1, 0.0, name))
    if len(names) < 2:
        raise BadInput(f"{where}: one class only, `{names[0]}` (a classifier takes two or more)")
    if objective == "binary" and len(names) != 2:
        raise BadInput(
            f"{where}: {len(names)} classes (objective binary takes two; `objective: multiclass` takes more)"
        )
    if positive is not None:
        if positive not in names:
            raise BadInput(f"{where}: no class `{positive}`, named by `positive`; {nearest(positive, names)}")
        names = [name for name in names if name != positive] + [positive]
    return names


def read_rows(folder: Path) -> pd.DataFrame:
    """The examples' rows of the manifest, as text, indexed by `example`."""
    return pd.read_csv(folder / "rows.csv", index_col="example", dtype=str, keep_default_na=False)


def told_apart(data: Prepared, columns: Sequence[str]) -> pd.DataFrame:
    """Columns of the test rows by which figures are sliced, as text. Raises BadInput where there is no such one.

    Those of the manifest that `prepare` keeps, and the inputs of tables.
    """
    rows, found = data.test.rows, pd.DataFrame(index=data.test.rows.index)
    inputs = {name.partition("column ")[2].replace("%2F", "/"): values for name, values in data.test.raw.items()}
    known = {*rows, *inputs} - {""}
    for column in columns:
        if column not in known:
            told = f"the test rows of `{data.name}` have no column `{column}`; {nearest(column, known)}"
            raise BadInput(f"{PARAMS_FILE}: slices: {told}")
        if column in rows:
            found[column] = rows[column]
        else:
            cells = pd.Series(inputs[column][:][:, 0], rows.index)
            found[column] = cells.astype(str).mask(cells.isna() | cells.eq(""), UNKNOWN)  # a category may be called nan
        if (count := found[column].nunique()) > MOST_SLICES:
            told = (
                f"`{column}` has {count} values in the test rows of `{data.name}` (at most {MOST_SLICES} can be told)"
            )
            raise BadInput(f"{PARAMS_FILE}: slices: {told}")
    return found


def _is_number(name: str) -> bool:
    try:
        return bool(np.isfinite(float(name)))
    except ValueError:
        return False
