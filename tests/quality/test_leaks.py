import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainyard.quality import leaks


def series(text):
    """A letter an example, indexed by the rows of a file; a dot is missing."""
    return pd.Series(
        [None if letter == "." else letter for letter in text], index=range(2, 2 + len(text)), dtype=object
    )


@pytest.mark.parametrize(
    ("splits", "contents", "groups", "found"),
    [
        ("TTVE", "abcd", None, []),
        ("TTVE", "abcd", "xxyz", []),
        ("TTVE", "aacd", None, []),  # twice in training is no leak
        ("TTVE", "abca", None, ["the same content in 2 splits: 2 (T), 5 (E)"]),
        ("TTVVE", "aaaaa", None, ["the same content in 3 splits: 2 (T), 4 (V), 6 (E)"]),
        ("TTVE", "abcd", "xyyz", ["the same group in 2 splits: 3 (T), 4 (V)"]),
        (
            "TTVE",
            "abbd",
            "xyyz",
            ["the same content in 2 splits: 3 (T), 4 (V)", "the same group in 2 splits: 3 (T), 4 (V)"],
        ),
        ("TVTV", "abab", None, []),
        (
            "TVVT",
            "abab",
            None,
            ["the same content in 2 splits: 2 (T), 4 (V)", "the same content in 2 splits: 3 (V), 5 (T)"],
        ),
        ("TVE", "a.b", "..x", []),  # what is not known is not the same
    ],
)
def test_each_leak_is_told_with_the_first_example_of_each_split(splits, contents, groups, found):
    told = leaks.shared(series(splits), series(contents), None if groups is None else series(groups))
    assert [finding.told for finding in told] == found


def by_comparing_each_with_each(texts, threshold):
    """Clusters as sets of places: joined as long as two hold texts that are alike."""
    compared = [leaks.letters(text) for text in texts]
    pieces = [{text[i : i + 3] for i in range(len(text) - 2)} for text in compared]
    clusters = [{place} for place in range(len(texts))]
    for one in range(len(texts)):
        for other in range(one):
            a, b = pieces[one], pieces[other]
            same = len(a & b) / len(a | b) >= threshold if a and b else compared[one] == compared[other]
            if same and clusters[one] is not clusters[other]:
                joined = clusters[one] | clusters[other]
                for place in joined:
                    clusters[place] = joined
    return {frozenset(cluster) for cluster in clusters}


@given(
    st.lists(st.text("abB \u200b\u00e9\u0301!1", max_size=9), min_size=1, max_size=14),
    st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]),
)
def test_clusters_are_those_of_comparing_each_with_each(texts, threshold):
    found = leaks.alike(texts, threshold)
    clusters = {frozenset(np.flatnonzero(found == number).tolist()) for number in found}
    assert clusters == by_comparing_each_with_each(texts, threshold)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Win a prize now!", "win a PRIZE, now", True),
        ("pri\u200bze\ufeff", "prize", True),
        ("\uff37\uff29\uff2e it", "win it", True),  # full-width letters
        ("stra\u00dfe", "STRASSE", True),
        ("caf\u00e9", "cafe\u0301", True),
        ("ok", "OK.", True),
        ("ok", "no", False),
        ("aaaa", "aaaaaaa", True),  # of the same pieces
        (":-)", ":-(", False),  # without letters: as they stand
        ("!!", "!!", True),
        ("\u0915\u093f\u0924", "\u0915\u0941\u0924", False),  # vowels are marks in Hindi
        ("call 0800 123 4567 now", "call 0800 765 4321 now", False),
    ],
)
def test_what_is_alike(one, other, same):
    first, second = leaks.alike([one, other], 0.8)
    assert (first == second) == same


def test_a_chain_of_texts_that_are_alike_is_one_cluster():
    chain = ["abcdefghij", "abcdefghijk", "abcdefghijkl", "abcdefghijklm", "something else"]
    assert len(set(leaks.alike(chain, 0.85))) == 2
    assert len(set(leaks.alike([chain[0], chain[3]], 0.85))) == 2
