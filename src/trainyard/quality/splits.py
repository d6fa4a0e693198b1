"""Which example is for training, which for choosing the epoch, which for the test."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainyard.errors import BadInput

TRAIN, VALIDATION, TEST = SPLITS = ("train", "validation", "test")


def draw(
    strata: pd.Series,
    groups: pd.Series | None,
    contents: pd.Series,
    validation: float,
    test: float,
    given: pd.Series | None,
    seed: int,
    where: str,
) -> pd.Series:
    """Split by strata and groups, or as `given`; a given split without validation gets one out of its training part.

    Without groups, examples of equal contents stay together, under the name of the first: a change of columns does not
    move it.

    Raises BadInput, beginning with `where`: for a row without a group, or a stratum that training would not see.
    """
    if groups is None:
        first = contents.drop_duplicates()
        groups = contents.map(pd.Series(first.index, index=first))
    if groups.isna().any():
        raise BadInput(f"{where}:{groups.index[groups.isna()][0]}: column `{groups.name}`: the group is missing")
    if given is None:
        splits = stratified(strata, groups, {TEST: test, VALIDATION: validation}, seed, where)
    else:
        splits = _as_given(given, strata, groups, validation, seed, where)
    if untaught := sorted(set(strata) - set(strata[splits == TRAIN])):
        lost = strata == untaught[0]
        tied = strata[groups.isin(groups[lost]) & ~lost]
        hint = "add some there"
        if len(tied):
            told = f"{lost.idxmax()} is equal to, or of one group with, {tied.index[0]} of `{tied.iloc[0]}`"
            hint = f"{told}: remove one of them, or add others"
        raise BadInput(f"{where}: {strata.name} `{untaught[0]}` has no example in the training part ({hint})")
    return splits


def _as_given(
    given: pd.Series, strata: pd.Series, groups: pd.Series, validation: float, seed: int, where: str
) -> pd.Series:
    given = given.astype(object)
    strange = given[~given.isin(SPLITS)]
    if len(strange):
        raise BadInput(f"{where}:{strange.index[0]}: split `{strange.iloc[0]}` (expected train, validation or test)")
    if lacking := {TRAIN, TEST} - set(given):
        raise BadInput(f"{where}: nothing is given as {' or '.join(sorted(lacking))}")
    if VALIDATION not in set(given):
        training = given == TRAIN
        given[training] = stratified(strata[training], groups[training], {VALIDATION: validation}, seed, where)
    return given


def stratified(strata: pd.Series, groups: pd.Series, shares: dict[str, float], seed: int, where: str) -> pd.Series:
    """Draw `shares` of every stratum, group by group, so that a group is wholly in one split; the rest is for training.

    A group that spans strata counts for the one it has most of. The order is that of a hash of seed and group, not of
    the place in the data, with validation between test and training: where the data grows, what was trained on is not
    tested on. Raises BadInput, beginning with
    `where`, when a stratum has fewer groups than there are splits.
    """
    sizes = groups.groupby(groups, sort=True).size()
    counts = strata.groupby([groups.to_numpy(), strata.to_numpy()], sort=True).size()
    stratum_of = counts.groupby(level=0, sort=True).idxmax().str[1]  # the commonest; of several, the first by name
    split_of = pd.Series(TRAIN, index=sizes.index, dtype=object)
    for stratum, members in stratum_of.groupby(stratum_of, sort=True):
        if len(members) <= len(shares):
            told = f"{strata.name} `{stratum}` has {len(members)} example(s) that are neither equal nor of one group"
            remedy = "add others" + (f", or remove `{stratum}`" if strata.nunique() > 1 else "")
            raise BadInput(f"{where}: {told} (a split in {len(shares) + 1} takes at least {len(shares) + 1}: {remedy})")
        keys = pd.util.hash_array(members.index.astype(str).to_numpy(object), hash_key=f"{seed:016d}")
        order = members.index.to_numpy()[np.argsort(keys, kind="stable")]
        ends = _ends(sizes[order].to_numpy(), list(shares.values()))
        for split, start, end in zip(shares, [0, *ends], ends, strict=False):
            split_of[order[start:end]] = split
    return groups.map(split_of)


def in_time(n: int, validation: float, test: float) -> NDArray[Any]:
    """First the training part, then validation, then test, of n rows in time order."""
    splits = np.full(n, TRAIN, dtype=object)
    splits[round(n * (1 - validation - test)) :] = VALIDATION
    splits[round(n * (1 - test)) :] = TEST
    return splits


def _ends(sizes: NDArray[Any], shares: list[float]) -> list[int]:
    """Where each share of the groups ends: nearest to its part of the examples, one group at least, and one is left."""
    filled = np.cumsum(sizes)
    ends: list[int] = []
    for i, wanted in enumerate(np.cumsum(shares) * filled[-1]):
        nearest = int(np.abs(filled - wanted).argmin()) + 1
        ends.append(min(max(nearest, (ends[-1] if ends else 0) + 1), len(sizes) - (len(shares) - i)))
    return ends
