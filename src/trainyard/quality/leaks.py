"""Leaks, which make every figure too good: between splits, and from the answer into what the model sees."""

import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainyard.quality.splits import SPLITS, TRAIN

REMEDIES = {
    "contradictions": "mend the labels, or add what tells such examples apart",
    "duplicates": "leave one out, or put them in one split",
    "giveaways": "keep it from the model, in tables by `ignore`, in series by `columns`, or list it under "
    "`audit_allow` if it is known before the answer",
    "groups": "put the group in one split",
    "likeness": "leave one out, or put them in one split",
    "time": "let each split end before the next one begins",
}
"""What is looked for, and what to do about a finding."""
TOLERANCE = 1e-4
"""How far rows that are nearly the same differ: in standard deviations of the columns, root mean square."""
SURE, UNSURE = 0.995, 0.98
"""One column alone that answers so well gives the answer away, unless the best of the others reaches the second."""
FEWEST, MOST = 50, 20_000
"""Rows from which on a column is judged, as on fewer an honest one may be right by luck; rows that are enough."""
AHEAD = 0.01
"""Share of what its present leaves open of the target's future that is left by a column which holds that future."""


@dataclass(frozen=True)
class Finding:
    """One line of the audit."""

    check: str
    """One of REMEDIES."""
    told: str
    """What, and where."""
    grave: bool = True
    """Whether it refuses the data, where params do not say `audit: warn`."""

    def __str__(self) -> str:
        return f"{self.told} ({REMEDIES[self.check]})"


def told(findings: Sequence[Finding]) -> dict[str, Any]:
    """What was looked for, how often it was found, and every finding."""
    counts = Counter(finding.check for finding in findings)
    lines = [{"check": found.check, "told": str(found), "grave": found.grave} for found in findings]
    return {"checks": {check: counts[check] for check in REMEDIES}, "findings": lines}


# === Between splits ===


def shared(
    splits: pd.Series, contents: pd.Series, groups: pd.Series | None = None, likeness: pd.Series | None = None
) -> Iterator[Finding]:
    """What two splits have in common; all indexed by example.

    `contents` are the same for examples that are equal, `groups` for what belongs together, `likeness` for what is
    nearly equal.
    """
    checks = [("duplicates", "the same content", contents), ("groups", "the same group", groups)]
    for check, what, keys in [*checks, ("likeness", "nearly the same content", likeness)]:
        if keys is None:
            continue
        spread = splits.groupby(keys).nunique()
        leaky = keys.isin(spread.index[spread > 1])
        for _, members in splits[leaky].groupby(keys[leaky]):
            if check == "likeness" and contents[members.index].nunique() == 1:
                continue  # told above
            first = members.groupby(members).head(1)
            places = ", ".join(f"{example} ({split})" for example, split in first.items())
            yield Finding(check, f"{what} in {len(first)} splits: {places}")


def overlaps(spans: pd.DataFrame) -> Iterator[Finding]:
    """Splits that are not in time order, or not one after the other.

    `spans`, a row an example, has its `split`, the `first` time that the model sees and the `last` one that it
    forecasts: where no two splits share one of these, what is forecast in one is never seen in another.
    """
    parts = {split: spans[spans["split"] == split] for split in SPLITS}
    for split, part in parts.items():
        back = (part["first"].diff() <= pd.Timedelta(0)) | (part["last"] < part["first"])
        if back.any():
            yield Finding("time", f"{split} is not in time order: {back.idxmax()} comes after a later example")
    for earlier, later in pairwise(SPLITS):
        last, first = parts[earlier]["last"], parts[later]["first"]
        if len(last) and len(first) and last.max() >= first.min():
            told = f"{last.idxmax()} ({earlier}) forecasts until {last.max()}"
            yield Finding("time", f"{told}, {first.idxmin()} ({later}) begins at {first.min()}")


def near(points: NDArray[Any], radius: float) -> NDArray[Any]:
    """The cluster of each of the points `[n, d]`, int `[n]`: those bear one number that lie within the radius.

    The distance is the root mean square of the differences. Exact without comparing each with each: a projection on
    the directions in which the points differ most brings none of them further apart, and there a k-d tree finds those
    that may be near (Bentley, 1975).
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    points = np.ascontiguousarray(points, np.float64) + 0.0  # which makes a zero of a negative one
    row = np.dtype((np.void, points.shape[1] * points.itemsize))
    _, first, place = np.unique(points.view(row).ravel(), return_index=True, return_inverse=True)
    distinct = points[first] - points.mean(axis=0)
    distance = radius * math.sqrt(distinct.shape[1])
    directions = np.linalg.eigh(distinct.T @ distinct)[1][:, -6:]
    pairs = KDTree(distinct @ directions).query_pairs(distance * (1 + 1e-9), output_type="ndarray")
    parts = np.array_split(pairs, pairs.shape[0] * distinct.shape[1] // 2**20 + 1)
    close = [part[((distinct[part[:, 0]] - distinct[part[:, 1]]) ** 2).sum(axis=1) <= distance**2] for part in parts]
    one, other = np.concatenate(close).T
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(len(distinct), len(distinct)))
    clusters: NDArray[Any] = connected_components(graph, directed=False)[1][place]
    return clusters


def rows_alike(table: pd.DataFrame) -> NDArray[Any] | None:
    """The cluster of each row, int `[n]`: equal in all texts and nearly so in all numbers, whatever number it bears.

    A column that names rows, of texts or whole numbers that are all different, is left out. None where rows may be
    alike by chance: where so few columns, or columns of so few values, would give one such pair among all although
    half of what they tell is told by others.
    """
    names = [column for column in table if _names_rows(table[column])]
    evidence, points = 0.0, []
    for column in table.columns.difference(names, sort=False):
        values, numeric = table[column], pd.api.types.is_float_dtype(table[column])
        if numeric and (spread := float(values.std())) > 0:
            scaled = (values.fillna(values.mean()).to_numpy() - values.mean()) / spread
            points += [scaled, values.isna().to_numpy(np.float64)][: 1 + values.hasnans]
            ordered = np.sort(scaled)
            inside = np.searchsorted(ordered, ordered + TOLERANCE, "right") - np.arange(len(ordered)) - 1
            chance = 2 * inside.sum() / len(values) ** 2
        else:
            codes = pd.factorize(values)[0]
            points.append(codes.astype(np.float64))
            chance = float(((np.unique_counts(codes).counts / len(codes)) ** 2).sum())
        evidence -= math.log(max(chance, len(values) ** -2.0))
    if not points or evidence / 2 < math.log(len(table) ** 2 / 2):
        return None
    return near(np.stack(points, axis=1), TOLERANCE)


def _names_rows(values: pd.Series) -> bool:
    whole = not pd.api.types.is_float_dtype(values) or bool((values % 1 == 0).all())
    return whole and values.is_unique


def alike(texts: Sequence[str], threshold: float) -> NDArray[Any]:
    """The cluster of each text, int `[n]`: texts that are alike bear one number, and so do those alike to either.

    Two are alike where their three-letter pieces, of `letters` alone, have at least this Jaccard similarity; shorter
    ones where they are equal. Exact without comparing each with each: two sets of which at least a share t is common
    have one of the m - ceil(t * m) + 1 rarest of their m pieces in common (Chaudhuri, Ganti & Kaushik, 2006).
    """
    spellings, spelling_of = np.unique(np.array([letters(text) for text in texts], object), return_inverse=True)
    pieces = [{text[i : i + 3] for i in range(max(len(text) - 2, 1))} for text in spellings]
    counts = Counter(piece for found in pieces for piece in found)
    clusters = list(range(len(pieces)))  # each points to an earlier one of its cluster, the first to itself

    def first(number: int) -> int:
        while clusters[number] != number:
            clusters[number] = number = clusters[clusters[number]]
        return number

    having: defaultdict[str, list[int]] = defaultdict(list)
    for number, found in enumerate(pieces):
        rarest = sorted(found, key=lambda piece: (counts[piece], piece))
        rarest = rarest[: len(found) - math.ceil(threshold * len(found) - 1e-9) + 1]
        for other in {other for piece in rarest for other in having[piece]}:
            fewer, more = sorted((len(found), len(pieces[other])))
            if fewer < threshold * more - 1e-9 or first(other) == first(number):
                continue
            shared = len(found & pieces[other])
            if shared / (fewer + more - shared) >= threshold:
                low, high = sorted((first(other), first(number)))
                clusters[high] = low
        for piece in rarest:
            having[piece].append(number)
    return np.array([first(number) for number in range(len(pieces))])[spelling_of]


def letters(text: str) -> str:
    """What is compared of a text: its letters with their marks, and digits, without case; all where it has none."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(letter for letter in folded if unicodedata.category(letter)[0] in "LMN") or text


# === From the answer into what the model sees ===


def contradictions(contents: pd.Series, labels: pd.Series, most: float) -> Iterator[Finding]:
    """Equal examples with different labels: grave where more than this share cannot be answered right by any model."""
    counts = pd.DataFrame({"content": contents, "label": labels}).value_counts().groupby("content").agg(["sum", "max"])
    wrong = int((counts["sum"] - counts["max"]).sum())
    if wrong:
        several = labels.groupby(contents).transform("nunique") > 1
        first = labels[contents == contents[several].iloc[0]].drop_duplicates()
        places = ", ".join(f"{example} ({label})" for example, label in first.items())
        share = wrong / len(labels)
        told = f"equal examples with different labels: {places}; {wrong} example(s), {share:.2%} of all, are such"
        yield Finding("contradictions", f"{told}, {most:.2%} may be", grave=share > most)


def giveaways(
    columns: pd.DataFrame, labels: pd.Series, splits: pd.Series, allowed: Collection[str], *, classifies: bool
) -> Iterator[Finding]:
    """Columns that alone tell the answer: `columns`, numbers with NaN or texts, `labels` and `splits` a row an example.

    Such a one has a value of its own for each class, or a small decision tree answers by it (nearly) all training rows
    and all other rows right, and by none of the others. Right is the mean recall of the classes, or R2 of the labels'
    ranks, which their tails do not sway.
    """
    scores = {}
    if len(columns) >= FEWEST and labels.nunique() > 1:
        several = [column for column in map(str, columns) if columns[column].nunique(dropna=False) > 1]
        scores = {column: _score(columns[column], labels, splits == TRAIN, classifies) for column in several}
    sure = [column for column, score in scores.items() if score >= SURE]
    others = {column: score for column, score in scores.items() if score < SURE and column not in allowed}
    best = max(others, key=lambda column: others[column], default=None)
    for column in sure:
        twin = classifies and columns[column].nunique() == labels.nunique() == len(
            pd.DataFrame({"value": columns[column], "label": labels}).drop_duplicates()
        )
        if column not in allowed and (twin or (len(sure) == 1 if best is None else others[best] < UNSURE)):
            told = f"column `{column}` alone gives the answer away: {scores[column]:.2%} right"
            next_best = f", the next best, `{best}`, {max(others[best], 0):.2%}" if best is not None else ""
            yield Finding("giveaways", told + next_best)


def _score(values: pd.Series, labels: pd.Series, training: pd.Series, classifies: bool) -> float:
    """The worse of how well the column answers the training rows and the other ones."""
    from sklearn.metrics import r2_score, recall_score
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    numeric = pd.api.types.is_float_dtype(values)
    x = values.to_numpy(np.float32) if numeric else pd.factorize(values, sort=True)[0].astype(np.float32)
    answers = pd.factorize(labels)[0] if classifies else labels.rank().to_numpy()
    parts = [np.flatnonzero(training), np.flatnonzero(~training)]
    train, others = (part[:: len(part) // MOST + 1] for part in parts)
    leaves = (2 * labels.nunique() if classifies else 64) if numeric else None
    tree: Any = DecisionTreeClassifier if classifies else DecisionTreeRegressor
    balanced = {"class_weight": "balanced"} if classifies else {}
    fitted = tree(max_leaf_nodes=leaves, random_state=0, **balanced).fit(x[train, None], answers[train])

    def right(rows: NDArray[Any]) -> float:
        told, true = fitted.predict(x[rows, None]), answers[rows]
        if classifies:
            return float(recall_score(true, told, labels=np.unique(true), average="macro"))
        return float(r2_score(true, told))

    return min(right(train), right(others))


def futures(values: pd.DataFrame, target: str, furthest: int, allowed: Collection[str]) -> Iterator[Finding]:
    """Columns that hold the target of up to `furthest` rows later; `values`, a row a time step, are NaN where missing.

    Such a one tells that value by a straight line, but for a hundredth of what the target's own present leaves open.
    """
    known = values[target].to_numpy(np.float64)
    for column in map(str, values.columns.drop([target, *allowed], errors="ignore")):
        for lag in range(1, min(furthest, len(values) - FEWEST) + 1):
            rows = slice(0, len(values) - lag, len(values) // MOST + 1)
            future, present, own = known[lag:][rows], values[column].to_numpy(np.float64)[rows], known[rows]
            there = ~np.isnan(future + present + own)
            if there.sum() < FEWEST:
                continue
            open_by_own, open_by_column = (_unexplained(x[there], future[there]) for x in (own, present))
            if open_by_column <= AHEAD * open_by_own and open_by_own > 1e-6:
                yield Finding("giveaways", f"column `{column}` holds `{target}` of {lag} row(s) later")
                break


def _unexplained(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Share of the variance of y that a straight line on x leaves."""
    x, y = x - x.mean(), y - y.mean()
    both = float(x @ x) * float(y @ y)
    return 1 - float(x @ y) ** 2 / both if both > 0 else 1.0
