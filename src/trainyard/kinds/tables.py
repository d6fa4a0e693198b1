"""Tables: a CSV file, one example a row, numeric and categorical columns.

Raw is one input `[n, 1]` a column: float32 with NaN for missing, or string with "" for missing.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from trainyard import arrays, files
from trainyard.arrays import Array
from trainyard.errors import BadInput
from trainyard.kinds import (
    Examples,
    Masked,
    Measures,
    Prepared,
    Preprocessing,
    class_names,
    class_numbers,
    delimited,
    few,
    read_rows,
)
from trainyard.params import Expectation, Tables
from trainyard.quality import baselines, leaks, splits
from trainyard.quality.baselines import Baseline
from trainyard.quality.importance import Part
from trainyard.quality.leaks import Finding
from trainyard.quality.objectives import OBJECTIVES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

MOST_PARTS = 64
"""How many columns are masked, or left out, one by one."""


def manifest(spec: Tables) -> pd.DataFrame:
    """The table itself: float64 with NaN, or text with None for missing; indexed by the row of the file."""
    path = Path(spec.path)
    single = [column for column in (spec.target, spec.group, spec.split.given) if column is not None]
    named = [*single, *(spec.numeric or []), *(spec.categorical or []), *spec.ignore, *spec.audit_allow]
    cells = delimited.read(path, spec.delimiter, spec.names, columns=named)
    table = _typed(spec, cells)
    for column in table.select_dtypes(exclude="number"):
        known = table[column].dropna().astype(str)
        commas = known.str.fullmatch(r"-?\d+(,\d+)+(\.\d+)?")
        if column not in (*(spec.categorical or []), *spec.ignore, *single) and commas.mean() > 0.5:
            told = f"{known[commas].iloc[0]!r} has a comma in the number"
            hint = "write points, and nothing between thousands, or name the column under `categorical`"
            raise BadInput(f"{path}:{delimited.first(commas)}: column `{column}`: {told} ({hint})")
    unlabelled = table[spec.target].isna()
    if unlabelled.any():
        told = f"the target is missing; {unlabelled.sum()} such row(s)"
        raise BadInput(f"{path}:{delimited.first(unlabelled)}: column `{spec.target}`: {told}")
    return table


def expectations(spec: Tables, manifest: pd.DataFrame) -> list[Expectation]:
    """The target is known."""
    return [Expectation(column=spec.target, not_null=True)]


def split(spec: Tables, manifest: pd.DataFrame, seed: int) -> pd.Series:
    """Stratified by class; groups, or else rows that are equal or nearly so, stay together."""
    classifies = OBJECTIVES[spec.objective].classifies
    strata = manifest[spec.target] if classifies else pd.Series("all rows", index=manifest.index, name="stratum")
    given = manifest[spec.split.given] if spec.split.given else None
    together, shares = groups(spec, manifest), spec.split
    same = likeness(spec, manifest) if together is None else contents(spec, manifest)
    return splits.draw(strata, together, same, shares.validation, shares.test, given, seed, spec.path)


def contents(spec: Tables, manifest: pd.DataFrame) -> pd.Series:
    """What makes two examples the same: all that the model may see."""
    return (
        pd.util.hash_pandas_object(manifest[_features(spec, manifest)], index=False)
        .set_axis(manifest.index)
        .astype(str)
    )


def likeness(spec: Tables, manifest: pd.DataFrame) -> pd.Series:
    """Clusters of rows that are nearly the same; those of the same contents where more may be alike by chance."""
    features = manifest[_features(spec, manifest)]
    clusters = leaks.rows_alike(features)
    return contents(spec, manifest) if clusters is None else pd.Series(clusters, manifest.index).astype(str)


def groups(spec: Tables, manifest: pd.DataFrame) -> pd.Series | None:
    """The column that the user names."""
    return manifest[spec.group] if spec.group else None


def audit(spec: Tables, manifest: pd.DataFrame, parts: pd.Series) -> Iterator[Finding]:
    """Columns that alone give the target away."""
    columns = manifest[_features(spec, manifest)]
    classifies = OBJECTIVES[spec.objective].classifies
    return leaks.giveaways(columns, manifest[spec.target], parts, spec.audit_allow, classifies=classifies)


def facts(spec: Tables, manifest: pd.DataFrame) -> dict[str, Any]:
    """Classes, and which columns are numbers and which are categories."""
    features = _features(spec, manifest)
    numeric = [column for column in features if pd.api.types.is_float_dtype(manifest[column])]
    categorical = [column for column in features if column not in numeric]
    told = f" ({', '.join(categorical)})" if categorical else ""
    reason = "by what most cells are where params do not say"
    log.info("%s: %d numeric and %d categorical columns%s, %s", spec.path, len(numeric), len(categorical), told, reason)
    found: dict[str, Any] = {"numeric": numeric, "categorical": categorical}
    found["categories"] = {column: sorted(manifest[column].dropna().unique()) for column in categorical}
    if OBJECTIVES[spec.objective].classifies:
        found["classes"] = class_names(spec.path, manifest[spec.target], spec.objective, spec.positive)
    return found


def write(spec: Tables, facts: Mapping[str, Any], manifest: pd.DataFrame, folder: Path) -> None:
    """`numeric.npy` float32 `[n, columns]`, `categorical.npy` text `[n, columns]`, `target.npy`, `rows.csv`."""
    width = max((len(name) for names in facts["categories"].values() for name in names), default=1)
    numeric = (part.to_numpy(np.float32) for part in arrays.in_parts(manifest[facts["numeric"]]))
    categorical = (part.fillna("").to_numpy(f"<U{width}") for part in arrays.in_parts(manifest[facts["categorical"]]))
    arrays.write(folder / "numeric.npy", numeric)
    arrays.write(folder / "categorical.npy", categorical)
    labels = manifest[spec.target]
    target = class_numbers(labels, facts["classes"]) if "classes" in facts else labels.to_numpy(np.float32)[:, None]
    np.save(folder / "target.npy", target)
    rows = pd.DataFrame({"label": labels}, index=manifest.index.rename("example"))
    if spec.group:
        rows["group"] = manifest[spec.group]
    files.write_csv(folder / "rows.csv", rows)


def read(spec: Tables, facts: Mapping[str, Any], folder: Path) -> Examples:
    """Each column `[n, 1]`."""
    raw = {
        _input(column): arrays.Stored(folder / f"{name}.npy", slice(place, place + 1))
        for name in ("numeric", "categorical")
        for place, column in enumerate(facts[name])
    }
    return Examples(raw, np.load(folder / "target.npy"), read_rows(folder))


def decode(spec: Tables, facts: Mapping[str, Any], table: pd.DataFrame) -> tuple[dict[str, Array], pd.Index]:
    """Rows as a CSV or a DataFrame has them; more columns than needed do no harm."""
    raw: dict[str, Array] = {}
    numeric, there = facts["numeric"], set(table.columns)
    for column in (*numeric, *facts["categorical"]):
        if column not in there:
            raise BadInput(f"no column `{column}` in the rows to answer")
    block = delimited.block(table if list(table) == numeric else table[numeric], spec.missing)
    for place, column in enumerate((*numeric, *facts["categorical"])):
        if place < len(numeric) and block is not None:
            raw[_input(column)] = block[:, place : place + 1]
            continue
        cells = table[column]
        if place < len(numeric):
            numbers = delimited.numbers(Path("rows"), cells, spec.missing)
            raw[_input(column)] = numbers.to_numpy(np.float32)[:, None]
        else:
            if pd.api.types.is_float_dtype(cells):  # categories such as 1 and 2, where one is missing
                cells = cells.map(lambda cell: np.format_float_positional(cell, trim="-"), na_action="ignore")
            known = delimited.known(cells, spec.missing)
            text = cells.where(known, "").astype(str)
            strange = known.any() and not text[known].isin(facts["categories"][column]).any()
            if strange and not pd.api.types.is_string_dtype(table[column]):  # `007` read as 7, `true` as True
                told = f"column `{column}`: none of its values ({text[known].iloc[0]} ...) was ever seen"
                raise BadInput(f"{told} (read the CSV with dtype=str)")
            raw[_input(column)] = text.to_numpy(np.str_)[:, None]
    return raw, table.index


def preprocessing(spec: Tables, facts: Mapping[str, Any], train: Examples) -> Preprocessing:
    """Numbers scaled to mean 0, variance 1; missing ones 0, and told so; categories one-hot, with one for others."""
    import keras
    from keras import layers, ops

    numeric, categorical = facts["numeric"], facts["categorical"]
    inputs = {name: keras.Input((1,), name=name) for name in map(_input, numeric)}
    inputs |= {name: keras.Input((1,), dtype="string", name=name) for name in map(_input, categorical)}
    parts = []
    if numeric:
        columns = [train.raw[_input(column)] for column in numeric]
        mean, variance, known = arrays.moments(lambda: map(np.hstack, zip(*map(arrays.in_parts, columns), strict=True)))
        x = (
            layers.Concatenate()([inputs[_input(column)] for column in numeric])
            if len(numeric) > 1
            else inputs[_input(numeric[0])]
        )
        scaled = layers.Normalization(mean=mean, variance=np.where(variance > 0, variance, 1))(x)
        parts.append(ops.where(ops.isnan(x), 0.0, scaled))
        if (known < len(train)).any():
            parts.append(ops.cast(ops.isnan(x), "float32"))
    for column in categorical:
        seen = sorted({name for part in arrays.in_parts(train.raw[_input(column)]) for name in part[:, 0].tolist()})
        parts.append(layers.StringLookup(vocabulary=seen, output_mode="one_hot")(inputs[_input(column)]))
    features = layers.Concatenate()(parts) if len(parts) > 1 else parts[0]
    if OBJECTIVES[spec.objective].classifies:
        return Preprocessing(inputs, features)
    center, scale = float(train.target.mean()), float(train.target.std()) or 1.0
    return Preprocessing(
        inputs,
        features,
        answer=layers.Rescaling(scale, center, name="units"),
        learns=lambda examples: (examples.target - center) / scale,
    )


def compared(spec: Tables, data: Prepared) -> tuple[Baseline, Baseline]:
    """The training targets alone; logistic regression or gradient boosting."""

    def table(examples: Examples) -> pd.DataFrame:
        columns = [*data.facts["numeric"], *data.facts["categorical"]]
        return pd.DataFrame({column: examples.raw[_input(column)][:, 0] for column in columns})

    naive = baselines.naive(data.objective, data.train.target, len(data.test))
    return naive, baselines.of_table(data.objective, table(data.train), data.train.target, table(data.test))


def mistakes(spec: Tables, facts: Mapping[str, Any], test: Examples, answer: Array) -> "Figure":
    """Each test row by its answer, the wrong ones named by their row in the file."""
    from trainyard import figures

    return figures.answers_by_row(test.rows.index, test.target, answer, facts.get("classes", []))


def masked(spec: Tables, facts: Mapping[str, Any], train: Examples, test: Examples, seed: int) -> Iterator[Masked]:
    """Each column with the values of other rows (Breiman, 2001); of many columns, neighbours together."""
    places = few(test, seed)
    raw = {name: values[places] for name, values in test.raw.items()}
    others = np.random.default_rng(seed).permutation(len(places))
    for name, together in _parts(facts):
        yield Masked(name, places, {**raw, **{_input(column): raw[_input(column)][others] for column in together}})


def without(spec: Tables, facts: Mapping[str, Any], raw: Mapping[str, Array]) -> Iterator[tuple[str, dict[str, Array]]]:
    """One example as if a column were not known, of many columns neighbours together: a number then is the mean."""
    numeric = set(facts["numeric"])
    for name, together in _parts(facts):
        lacking = dict(raw)
        for column in together:
            unknown: Any = np.float32(np.nan) if column in numeric else ""
            lacking[_input(column)] = np.full_like(raw[_input(column)], unknown)
        yield name, lacking


def importances(spec: Tables, test: Examples, answer: Array, parts: Sequence[Part], table: pd.DataFrame) -> "Figure":
    """A bar a column."""
    from trainyard import figures

    return figures.importances(table, "without the column")


def fresh(spec: Tables, facts: Mapping[str, Any]) -> pd.DataFrame:
    """The columns that a model sees, the group, and the target where it is there; no other column need be."""
    path = Path(spec.path)
    columns = [*facts["numeric"], *facts["categorical"], *([spec.group] if spec.group else [])]
    cells = delimited.read(path, spec.delimiter, spec.names, columns=columns)
    as_before = {"numeric": facts["numeric"], "categorical": facts["categorical"]}
    columns += [spec.target] if spec.target in cells else []
    return _typed(spec.model_copy(update=as_before), cells[columns])


def measures(spec: Tables, facts: Mapping[str, Any], train: pd.DataFrame, manifest: pd.DataFrame) -> Measures:
    """Each column and where it is missing; the target, where it is known."""
    columns = [*facts["numeric"], *facts["categorical"]]
    missing = {f"{column} missing": manifest[column].isna().astype(float) for column in columns}
    known = [spec.target] if spec.target in manifest else []
    return {**{column: manifest[column] for column in columns + known}, **missing}


def _parts(facts: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Columns one by one or, where there are more than `MOST_PARTS`, with their neighbours; each part by name."""
    columns = [*facts["numeric"], *facts["categorical"]]
    for part in np.array_split(np.arange(len(columns)), min(len(columns), MOST_PARTS)):
        together = [columns[place] for place in part]
        yield together[0] if len(together) == 1 else f"{together[0]} ... {together[-1]}", together


def _typed(spec: Tables, cells: pd.DataFrame) -> pd.DataFrame:
    """Numbers float64 with NaN for missing ones, others text with None."""
    path = Path(spec.path)
    hint = "mend it, list it under `missing`, or name the column under `categorical` or `ignore`"
    hints = {spec.target: f"mend it: objective {spec.objective} takes numbers"}
    return pd.DataFrame(
        {
            column: delimited.numbers(path, cells[column], spec.missing, hints.get(column, hint))
            if _is_numeric(spec, cells[column])
            else cells[column].where(~cells[column].isin(spec.missing), None)
            for column in map(str, cells)
        }
    )


def _is_numeric(spec: Tables, cells: pd.Series) -> bool:
    if cells.name == spec.target:
        return not OBJECTIVES[spec.objective].classifies
    if cells.name in (spec.group, spec.split.given, *(spec.categorical or []), *spec.ignore):
        return False
    return cells.name in (spec.numeric or []) or delimited.share_of_numbers(cells, spec.missing) >= 0.5


def _input(column: str) -> str:
    """The name of a column's input: no layer bears such a one, and Keras takes any without a slash."""
    return f"column {column.replace('/', '%2F')}"


def _features(spec: Tables, manifest: pd.DataFrame) -> list[str]:
    unseen = (spec.target, spec.group, spec.split.given, *spec.ignore)
    if features := [column for column in map(str, manifest) if column not in unseen]:
        return features
    raise BadInput(f"{spec.path}: no column is left for the model to see")
