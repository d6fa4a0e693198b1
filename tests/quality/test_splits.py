import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainyard.errors import BadInput
from trainyard.quality import splits
from trainyard.quality.splits import SPLITS, TEST, TRAIN, VALIDATION

SHARES = st.floats(0.05, 0.4)
GROUPS_OF_A_CLASS = st.lists(st.integers(1, 6), min_size=3, max_size=15)
CLASSES = st.dictionaries(st.sampled_from(["cat", "dog", "10", "9", ""]), GROUPS_OF_A_CLASS, min_size=1)


def rows(classes, order=0):
    """Strata and groups, a row an example, in an order of its own; `classes` holds the sizes of each class's groups."""
    table = pd.DataFrame(
        [
            (stratum, f"{stratum}-{group}")
            for stratum, sizes in classes.items()
            for group, size in enumerate(sizes)
            for _ in range(size)
        ],
        columns=["label", "group"],
    )
    table = table.iloc[np.random.default_rng(order).permutation(len(table))].reset_index(drop=True)
    return table["label"], table["group"]


def drawn(strata, groups, validation=0.2, test=0.2, given=None, seed=1):
    return splits.draw(strata, groups, strata, validation, test, given, seed, "data.csv")


@given(CLASSES, SHARES, SHARES, st.integers(0, 9))
def test_every_row_is_in_one_split_and_every_group_wholly(classes, validation, test, seed):
    strata, groups = rows(classes)
    found = drawn(strata, groups, validation, test, seed=seed)
    assert list(found.index) == list(strata.index)
    assert found.isin(SPLITS).all()
    assert (found.groupby(groups).nunique() == 1).all()


@given(CLASSES, SHARES, SHARES, st.integers(0, 9))
def test_every_class_is_in_every_split(classes, validation, test, seed):
    strata, groups = rows(classes)
    found = drawn(strata, groups, validation, test, seed=seed)
    assert set(zip(strata, found, strict=True)) == {(stratum, split) for stratum in classes for split in SPLITS}


@given(CLASSES, SHARES, SHARES, st.integers(0, 9))
def test_shares_are_within_one_group_of_what_is_wanted(classes, validation, test, seed):
    strata, groups = rows(classes)
    found = drawn(strata, groups, validation, test, seed=seed)
    for stratum, sizes in classes.items():
        counts = found[strata == stratum].value_counts()
        for split, share in [(VALIDATION, validation), (TEST, test)]:
            assert abs(counts[split] - share * sum(sizes)) <= max(sizes)


@given(CLASSES, st.integers(0, 9))
def test_the_same_seed_gives_the_same_split_whatever_the_order_of_rows(classes, seed):
    first, second = rows(classes), rows(classes, order=1)
    where = [dict(zip(groups, drawn(strata, groups, seed=seed), strict=True)) for strata, groups in (first, second)]
    assert where[0] == where[1]


def test_another_seed_gives_another_split():
    strata, groups = rows({"a": [1] * 30, "b": [1] * 30})
    assert not drawn(strata, groups, seed=1).equals(drawn(strata, groups, seed=2))


def test_without_groups_shares_are_exact():
    strata, groups = rows({"a": [1] * 50, "b": [1] * 10})
    found = drawn(strata, groups, 0.2, 0.3)
    counts = pd.crosstab(strata, found)[list(SPLITS)]
    assert counts.loc["a"].tolist() == [25, 10, 15]
    assert counts.loc["b"].tolist() == [5, 2, 3]


@pytest.mark.parametrize(
    ("mixed", "counts_for_a"), [("aab", True), ("baa", True), ("ab", True), ("ba", True), ("bba", False), ("b", False)]
)
def test_a_group_of_several_classes_counts_for_its_commonest_and_a_tie_for_the_first(mixed, counts_for_a):
    strata, groups = rows({"a": [1, 1], "b": [1] * 6})  # a lacks one group for three splits
    strata = pd.concat([strata, pd.Series(list(mixed), name="label")], ignore_index=True)
    groups = pd.concat([groups, pd.Series(["mixed"] * len(mixed))], ignore_index=True)
    shares = {VALIDATION: 0.3, TEST: 0.3}
    if counts_for_a:
        found = splits.stratified(strata, groups, shares, 1, "data.csv")
        assert set(found[groups.isin(["mixed", "a-0", "a-1"])]) == set(SPLITS)
    else:
        with pytest.raises(BadInput, match="label `a` has 2 example"):
            splits.stratified(strata, groups, shares, 1, "data.csv")


@given(
    CLASSES.filter(lambda classes: len(classes) > 1),
    st.lists(st.sampled_from(["shared-1", "shared-2", "shared-3"]), min_size=1, max_size=8),
    st.integers(0, 9),
)
def test_groups_that_span_classes_stay_together(classes, shared, seed):
    strata, groups = rows(classes)
    for place, name in enumerate(shared):  # rows of any class
        groups[place * 7 % len(groups)] = name
    try:
        found = drawn(strata, groups, seed=seed)
    except BadInput:
        return  # a class has too few groups of its own left
    assert found.isin(SPLITS).all()
    assert (found.groupby(groups).nunique() == 1).all()


@pytest.mark.parametrize(("count", "fine"), [(1, False), (2, False), (3, True)])
def test_a_class_with_fewer_groups_than_splits_is_refused_by_name(count, fine):
    strata, groups = rows({"a": [5] * 9, "rare": [4] * count})
    if fine:
        assert drawn(strata, groups)[strata == "rare"].nunique() == 3
    else:
        with pytest.raises(BadInput, match=rf"^data.csv: label `rare` has {count} example\(s\) that are neither"):
            drawn(strata, groups)


def test_a_row_without_a_group_is_refused_and_not_left_out():
    strata, groups = rows({"a": [1] * 9, "b": [1] * 9})
    groups[7] = None
    with pytest.raises(BadInput, match=r"^data.csv:7: column `group`: the group is missing$"):
        drawn(strata, groups)


def test_a_class_that_is_a_minority_of_every_group_must_still_be_in_training():
    strata = pd.Series(["a"] * 12 + ["b"], name="label")
    groups = pd.Series([f"g{i}" for i in range(11)] + ["g11", "g11"], name="group")
    places = set()
    for seed in range(10):
        place = splits.stratified(strata, groups, {VALIDATION: 0.2, TEST: 0.2}, seed, "data.csv").iloc[12]
        places.add(place)
        if place == TRAIN:
            assert drawn(strata, groups, seed=seed).iloc[12] == TRAIN
        else:
            with pytest.raises(BadInput) as refusal:
                drawn(strata, groups, seed=seed)
            told, _, hint = str(refusal.value).partition(" (")
            assert told == "data.csv: label `b` has no example in the training part"
            assert hint == "12 is equal to, or of one group with, 11 of `a`: remove one of them, or add others)"
    assert len(places) > 1


# === Given ===


def with_given(*parts):
    strata = pd.Series(["a", "b"] * (len(parts) // 2), name="label")
    return strata, pd.Series([f"g{i}" for i in range(len(parts))], name="group"), pd.Series(parts, dtype=object)


def test_a_given_split_is_taken_as_it_is():
    strata, groups, parts = with_given(*["train"] * 6, *["validation"] * 2, *["test"] * 2)
    assert drawn(strata, groups, given=parts).tolist() == parts.tolist()


def test_validation_that_is_not_given_comes_out_of_training():
    strata, groups, parts = with_given(*["train"] * 20, *["test"] * 4)
    found = drawn(strata, groups, validation=0.3, given=parts)
    assert (found[parts == "test"] == TEST).all()
    assert found[parts == "train"].value_counts().to_dict() == {TRAIN: 14, VALIDATION: 6}
    assert parts.tolist() == ["train"] * 20 + ["test"] * 4


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        (["train"] * 6 + ["tset"] * 2, "data.csv:6: split `tset` (expected train, validation or test)"),
        (["train"] * 6 + [None] * 2, "data.csv:6: split `None` (expected train, validation or test)"),
        (["train"] * 8, "data.csv: nothing is given as test"),
        (["test"] * 8, "data.csv: nothing is given as train"),
        (["validation"] * 8, "data.csv: nothing is given as test or train"),
        (["train", "test"] * 4, "data.csv: label `b` has no example in the training part (add some there)"),
        (["train", "train"] + ["test"] * 4, "data.csv: label `a` has 1 example(s) that are neither equal nor of one g"),
    ],
)
def test_a_given_split_that_cannot_be_used_is_refused(parts, told):
    strata, groups, parts = with_given(*parts)
    with pytest.raises(BadInput) as refusal:
        drawn(strata, groups, given=parts)
    assert str(refusal.value).startswith(told)


# === Time ===


@given(st.integers(3, 400), SHARES, SHARES)
def test_time_is_cut_in_order_and_shares_are_within_a_row(n, validation, test):
    found = splits.in_time(n, validation, test)
    places = [SPLITS.index(split) for split in found]
    assert places == sorted(places)
    assert abs((found == TEST).sum() - n * test) <= 0.5 + 1e-9
    assert abs((found == VALIDATION).sum() - n * validation) <= 1


@pytest.mark.parametrize("more", [1, 10, 100, 1000])
@pytest.mark.parametrize("at", ["end", "start"])
def test_what_was_trained_on_is_never_tested_on_where_the_data_grows(more, at):
    old = pd.Series([f"example {i}" for i in range(1000)])
    new = pd.Series([f"later {i}" for i in range(more)])
    both = pd.concat([old, new] if at == "end" else [new, old], ignore_index=True)
    before, after = (drawn(groups.str[0].map(lambda _: "all"), groups) for groups in (old, both))
    trained, tested = set(old[before == TRAIN]), set(both[after == TEST])
    assert not trained & tested
    assert len(tested) == round(0.2 * len(both))


def test_another_seed_is_another_split():
    strata, groups = rows({"cat": [1] * 200})
    assert (drawn(strata, groups, seed=1) != drawn(strata, groups, seed=2)).mean() > 0.3


def test_equal_examples_stay_together_and_a_change_of_columns_moves_none():
    strata = pd.Series(["all"] * 300)
    columns = pd.DataFrame({"a": np.arange(300) // 2, "b": np.arange(300) // 6})
    by_both, by_one = (
        splits.draw(strata, None, contents.astype(str), 0.2, 0.2, None, 1, "data.csv")
        for contents in (columns["a"] * 1000 + columns["b"], columns["a"])
    )
    assert (by_both.groupby(columns["a"]).nunique() == 1).all()
    assert by_both.equals(by_one)
