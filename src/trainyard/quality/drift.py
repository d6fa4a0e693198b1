"""Drift: is new data still like the data that models were tested on? All that was measured, in one randomisation test.

How far new examples are from old ones is told by a contrast, the mean of the new less that of the old: of a measure's
distribution function (Kolmogorov-Smirnov), of the shares of its values (chi-square), of what a classifier that is
trained to tell new from old says of examples that it has not seen (Lopez-Paz & Oquab, 2017). Where nothing has drifted
that contrast is one like others, and how the examples were drawn says like which:

- One by one, or in groups: like that of any other division of the units, as many called new (Fisher, 1935).
- One after another in time: like any turn of it among the slowest waves, which hold what neighbours have in common
  (rotation tests; Wedderburn, 1975; Langsrud, 2005). Of a single mean it is the t test that `intervals` has.

The same contrasts are taken of all measures, so that the greatest of all says how great one may be by chance, whatever
the measures have to do with each other (step-down, Westfall & Young, 1993).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainyard.arrays import Array
from trainyard.quality import intervals, metrics
from trainyard.quality.intervals import Draws
from trainyard.quality.objectives import Objective

Floats = NDArray[np.floating]
Measures = Mapping[str, pd.Series | pd.DataFrame]
"""Numbers, NaN where there is none, or texts, None where there is none, a row an example; or shares, a column each."""

MOST = 4000
"""Examples of a side that are compared: of so many, differences that matter are seen."""
MOST_VALUES = 20
"""Values of a text that are told apart, the most frequent ones."""
FOLDS = 5
COMPONENTS = 16
"""Principal components of which the classifier sees the products: what hangs together otherwise than it did."""
STIFFNESS = 0.1
"""Penalty of the classifier's weights, as a share of the examples."""
BINS = 24
FEW = 30
"""New groups of which fewer show none but large shifts."""
NAMED = 5


@dataclass(frozen=True)
class Sample:
    """What was measured of some examples, in their order in time where they have one."""

    measures: Measures
    units: pd.Series
    """What each example was drawn with: its group, or else itself."""
    embedding: Array | None = None
    """What a network sees in them, `[n, features]`."""


@dataclass(frozen=True)
class Shift:
    """One measure of old and new data."""

    measure: str
    of: str
    """What `old` and `new` are: the median, or the mean where there are two values alone; the share of the value that
    changed most; or the AUC of the classifier."""
    old: float
    new: float
    effect: float
    """From 0 to 1. Numbers: the greatest difference of the shares below some value. Values: the share of the examples
    that would have to have another one. The classifier: 2 AUC - 1."""
    p: float = math.nan
    """How often one of all measures would be so far off by chance."""
    moved: bool = False
    low: float = math.nan
    high: float = math.nan
    """Ends of the 95% interval of the AUC; NaN of other measures."""
    bars: tuple[list[int], list[int]] | None = None
    """Of numbers, how many old and how many new examples lie in each of `BINS` spans."""


@dataclass(frozen=True)
class Drift:
    """What came of a comparison."""

    shifts: Sequence[Shift]
    """Those that moved first."""
    examples: tuple[int, int]
    """Old and new ones that were compared."""
    units: tuple[int, int]
    """Groups of them."""
    level: float
    least: float

    @property
    def moved(self) -> list[Shift]:
        """The measures that are further off than chance would bring any, and far enough to matter."""
        return [shift for shift in self.shifts if shift.moved]

    @property
    def too_few(self) -> bool:
        """Whether so few groups can be divided in so few ways that nothing is beyond chance."""
        return math.comb(sum(self.units), self.units[1]) < 1 / self.level

    @property
    def told(self) -> str:
        """What came of it, in a sentence."""
        if self.too_few:
            return f"{self.units[1]} new and {self.units[0]} old groups are too few to tell drift from chance."
        first = ", ".join(f"`{shift.measure}`" for shift in self.moved[:NAMED]) + " ..." * (len(self.moved) > NAMED)
        told = f"{len(self.moved)} of {len(self.shifts)} measures moved" + (f": {first}" if self.moved else "")
        told += f" (level {self.level:g} for all at once, effect of {self.least:g} at least)."
        return told + f" Of {self.units[1]} new ones only a large shift shows." * (self.units[1] < FEW)

    def as_dict(self) -> dict[str, Any]:
        """As it stands in drift.json; null for what is not defined."""
        shifts = [
            {key: _rounded(value) for key, value in vars(shift).items() if key != "bars"} for shift in self.shifts
        ]
        return {**vars(self), "drift": bool(self.moved), "too_few": self.too_few, "shifts": shifts}


def alike(old: pd.Series, new: pd.Series, seed: int) -> tuple[pd.Index, pd.Index]:
    """Which examples to compare, given their units: `MOST` of a side, and of each unit as many as both sides have.

    The median of the side that has fewer: where one side has six photos of a thing and the other has one, what a thing
    looks like on average would differ.
    """
    size = min(int(side.value_counts().median()) for side in (old, new))
    kept = []
    for side in (old, new):
        drawn = side.sample(frac=1, random_state=seed)
        drawn = drawn.groupby(drawn).head(size).head(MOST)
        kept.append(side.index[side.index.isin(drawn.index)])
    return kept[0], kept[1]


def compare(old: Sample, new: Sample, *, level: float, least: float, horizon: int = 0, seed: int = 1) -> Drift:
    """Hold all measures that both sides have against each other; with a `horizon` the examples are in time order.

    At most `level` of the calls on data that has not drifted find any that moved; one that moved has an effect of at
    least `least`.
    """
    if horizon:
        old, new = (_thinned(side, (len(old.units) + len(new.units)) // (2 * MOST) + 1) for side in (old, new))
    is_new = np.arange(len(old.units) + len(new.units)) >= len(old.units)
    units = pd.concat([old.units.astype(str) + " old", new.units.astype(str) + " new"])
    sample = intervals.draws(len(units), None if horizon else units.reset_index(drop=True), horizon)
    rng = np.random.default_rng(seed)
    contrasts = _contrasts(is_new, sample, round(10 / level) - 1, rng)
    both = dict(_together(old.measures, new.measures, is_new))
    found = [
        _of_numbers(name, values, is_new, contrasts)
        if isinstance(values, pd.Series)
        else _of_shares(name, values, is_new, contrasts)
        for name, values in both.items()
    ]
    seen = {"all measures together": _seen(both)} if both else {}
    if old.embedding is not None and new.embedding is not None:
        seen["embedding"] = np.concatenate([old.embedding, new.embedding])
    folds = np.arange(len(units)) // sample.stretch % FOLDS if horizon else rng.permutation(sample.count)[sample.units]
    for name, values in seen.items():
        found.append(_of_classifier(name, _features(values), is_new, contrasts, folds % FOLDS, sample))
    chances = _chances(np.stack([far for _, far in found], axis=1)) if found else np.zeros(0)
    shifts = [
        replace(shift, p=float(p), moved=bool(p <= level and shift.effect >= least))
        for (shift, _), p in zip(found, chances, strict=True)
    ]
    shifts.sort(key=lambda shift: (not shift.moved, shift.of == "AUC", shift.p, -shift.effect))
    counts = (len(old.units), len(new.units)), (old.units.nunique(), new.units.nunique())
    return Drift(shifts, *counts, level, least)


def of_answers(objective: Objective, answers: pd.DataFrame, known: pd.Series | None = None) -> Measures:
    """What is measured of a model's answers, as `evaluation.named_answers` names them; None where it gave none.

    Of forecasts, `known` has the values of the series at the same times: the change that is foretold, and the error.
    """
    if objective.classifies:
        return {"answer": answers, "sureness": answers.max(axis=1)}
    if objective.name == "transcription":
        letters = pd.DataFrame([pd.Series(list(said), dtype=str).value_counts() for said in answers["answer"]])
        shares = letters.div(letters.sum(axis=1), axis=0).fillna(0.0).set_axis(answers.index)
        return {"letters": shares, "length": answers["answer"].str.len().astype(float)}
    if known is None:
        return {"answer": answers.iloc[:, 0]}
    ahead = pd.concat([known.shift(-step) for step in range(1, answers.shape[1] + 1)], axis=1).to_numpy()
    error = pd.Series(np.abs(ahead - answers.to_numpy()).mean(axis=1), answers.index)
    return {"change": answers.mean(axis=1) - known, "error": error}


# === Contrasts ===


def _contrasts(is_new: NDArray[np.bool_], sample: Draws, draws: int, rng: np.random.Generator) -> Floats:
    """`[draws + 1, n]`: what tells old from new, then as many that would do as well had nothing drifted."""
    if not sample.horizon:
        units = np.zeros(sample.count, bool)
        units[sample.units[is_new]] = True
        divided = np.concatenate([units[None], rng.permuted(np.tile(units, (draws, 1)), axis=1)])[:, sample.units]
        return _contrast(divided)
    n, step = len(is_new), _contrast(is_new)
    slow = max(1, sample.freedom // 2)  # all of them alarm 9 times in 100 at 5% where 0.9 of each row persists
    waves = np.cos(np.pi * np.outer(np.arange(n) + 0.5, np.arange(1, slow + 1)) / n)
    basis = np.linalg.qr(np.column_stack([np.ones(n), step, waves]))[0][:, 1:]
    turned = rng.normal(size=(draws, basis.shape[1]))
    turned *= np.linalg.norm(step) / np.linalg.norm(turned, axis=1, keepdims=True)
    return np.vstack([step, turned @ basis.T])


def _contrast(is_new: NDArray[np.bool_]) -> Floats:
    """Weights `[..., n]` that make the mean of the new less that of the old."""
    many = is_new.sum(axis=-1, keepdims=True)
    return np.where(is_new, 1 / many, -1 / (is_new.shape[-1] - many))


def _chances(far: Floats) -> Floats:
    """P values `[tests]`, of all tests at once, from statistics `[draws, tests]` of which the first are the data's."""
    spread = far.std(axis=0)
    far = (far - far.mean(axis=0)) / np.where(spread > 0, spread, 1)
    order = np.argsort(-far[0], kind="stable")
    greatest = np.maximum.accumulate(far[:, order[::-1]], axis=1)[:, ::-1]
    chances = np.empty(len(order))
    chances[order] = np.maximum.accumulate((greatest >= far[0, order] - 1e-9).mean(axis=0))
    return chances


# === Statistics: of each contrast `[draws, n]` one number ===


def _of_numbers(name: str, values: pd.Series, is_new: NDArray[np.bool_], contrasts: Floats) -> tuple[Shift, Floats]:
    """Kolmogorov-Smirnov: the greatest difference of the distribution functions of those that are known."""
    order = np.argsort(values.to_numpy(), kind="stable")[: values.notna().sum()]  # NaN comes last
    x, new = values.to_numpy()[order], is_new[order]
    ends = np.flatnonzero(np.append(np.diff(x) > 0, True))
    sums = np.cumsum(contrasts[:, order], axis=1)
    far = np.abs(sums[:, ends] - sums[:, -1:] * (ends + 1) / len(x)).max(axis=1)
    effect = float(np.abs(np.cumsum(_contrast(new))[ends]).max())
    spans = np.histogram_bin_edges(np.clip(x, *np.quantile(x, (0.005, 0.995))), BINS)
    old_bars, new_bars = (
        np.histogram(np.clip(x[side], spans[0], spans[-1]), spans)[0].tolist() for side in (~new, new)
    )
    middle = "median" if len(ends) > 2 else "mean"
    old_value, new_value = (float(getattr(np, middle)(x[side])) for side in (~new, new))
    return Shift(name, middle, old_value, new_value, effect, bars=(old_bars, new_bars)), far


def _of_shares(name: str, shares: pd.DataFrame, is_new: NDArray[np.bool_], contrasts: Floats) -> tuple[Shift, Floats]:
    """Chi-square: the squared differences of the shares, each by the share of all."""
    known = shares.notna().all(axis=1).to_numpy()
    values, new = shares.to_numpy()[known], is_new[known]
    mean = values.mean(axis=0)
    far = np.sqrt(((contrasts[:, known] @ (values - mean)) ** 2 / np.where(mean > 0, mean, 1)).sum(axis=1))
    before, after = values[~new].mean(axis=0), values[new].mean(axis=0)
    most = int(np.abs(after - before).argmax())
    effect = float(np.abs(after - before).sum() / 2)
    return Shift(name, f"share of `{shares.columns[most]}`", float(before[most]), float(after[most]), effect), far


def _of_classifier(
    name: str, features: Floats, is_new: NDArray[np.bool_], contrasts: Floats, folds: NDArray[np.intp], sample: Draws
) -> tuple[Shift, Floats]:
    """How far what a ridge regression foretells of the contrast, of examples that it has not seen, agrees with it."""
    told = np.empty_like(contrasts)
    for fold in range(FOLDS):
        held = folds == fold
        x = features[~held]
        weights = np.linalg.solve(x.T @ x + STIFFNESS * len(x) * np.eye(x.shape[1]), x.T @ contrasts[:, ~held].T)
        told[:, held] = (features[held] @ weights).T
    sizes = np.linalg.norm(told, axis=1) * np.linalg.norm(contrasts, axis=1)
    far = (told * contrasts).sum(axis=1) / np.where(sizes > 0, sizes, 1)
    auc = intervals.of_metrics({"auc": metrics.auc}, is_new.astype(int), told[0][:, None], sample)["auc"]
    return Shift(name, "AUC", 0.5, auc.value, max(0.0, 2 * auc.value - 1), low=auc.low, high=auc.high), far


# === What is compared ===


def _together(old: Measures, new: Measures, is_new: NDArray[np.bool_]) -> Iterator[tuple[str, Any]]:
    """Each measure that both sides know and that is not the same everywhere, old examples first; texts as shares."""
    for name in old:
        if name not in new:
            continue
        parts: list[Any] = [old[name], new[name]]
        values: Any = pd.concat(parts, ignore_index=True)
        if isinstance(values, pd.DataFrame):
            missing = values.isna().all(axis=1)
            values = values.fillna(0.0)
            values.loc[missing] = np.nan
        elif not pd.api.types.is_numeric_dtype(values):
            values = _values(values)
        known = values.notna() if isinstance(values, pd.Series) else values.notna().all(axis=1)
        if not (known[is_new].any() and known[~is_new].any()):
            continue
        if values.shape[1] > 1 if isinstance(values, pd.DataFrame) else values.nunique() > 1:
            yield name, values


def _values(texts: pd.Series) -> pd.DataFrame:
    """1 in the column of the value that each text has; the rarer ones are one."""
    frequent = texts.value_counts().index[:MOST_VALUES]
    told = texts.where(texts.isin(frequent) | texts.isna(), "any other")
    found = pd.get_dummies(told, dtype=float)
    found.loc[told.isna()] = np.nan
    return found


def _thinned(side: Sample, step: int) -> Sample:
    embedding = None if side.embedding is None else side.embedding[::step]
    return Sample({name: values[::step] for name, values in side.measures.items()}, side.units[::step], embedding)


def _seen(both: Mapping[str, Any]) -> Floats:
    """All measures as a classifier takes them, `[n, columns]`: numbers by rank, what is not known in the middle."""
    columns = [
        (values.rank(pct=True) if isinstance(values, pd.Series) else values - values.mean())
        .to_numpy()
        .reshape(len(values), -1)
        for values in both.values()
    ]
    return np.hstack(columns)


def _features(values: Floats) -> Floats:
    """Columns `[n, columns]`, then products of two of their principal components each; all of mean 0 and variance 1."""
    scaled = _scaled(values)
    directions, sizes, _ = np.linalg.svd(scaled, full_matrices=False)
    components = directions[:, sizes > 1e-6 * sizes[0]][:, :COMPONENTS]
    one, other = np.triu_indices(components.shape[1])
    return np.hstack([scaled, _scaled(components[:, one] * components[:, other])])


def _scaled(values: Floats) -> Floats:
    centred = np.nan_to_num(values - np.nanmean(values, axis=0))
    spread = centred.std(axis=0)
    return centred[:, spread > 1e-12] / spread[spread > 1e-12]


def _rounded(value: Any) -> Any:
    return value if not isinstance(value, float) else None if math.isnan(value) else round(value, 6)
