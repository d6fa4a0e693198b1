"""Leaks between splits: an example or a group that training and test both hold makes every figure too good."""

import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def audit(splits: pd.Series, contents: pd.Series, groups: pd.Series | None = None) -> Iterator[str]:
    """A line a leak: `contents` hash the examples, `groups` say what belongs together; all indexed by example."""
    for what, keys in [("content", contents), ("group", groups)]:
        if keys is None:
            continue
        spread = splits.groupby(keys).nunique()
        leaky = keys.isin(spread.index[spread > 1])
        for _, members in splits[leaky].groupby(keys[leaky]):
            first = members.groupby(members).head(1)
            places = ", ".join(f"{example} ({split})" for example, split in first.items())
            yield f"the same {what} in {len(first)} splits: {places}"


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
