import pandas as pd
import pytest

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
    told = list(leaks.audit(series(splits), series(contents), None if groups is None else series(groups)))
    assert told == found
