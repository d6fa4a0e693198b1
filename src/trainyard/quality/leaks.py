"""Leaks between splits: an example or a group that training and test both hold makes every figure too good."""

from collections.abc import Iterator

import pandas as pd


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
