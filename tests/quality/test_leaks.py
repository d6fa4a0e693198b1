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


# === What is nearly the same ===


@given(st.integers(1, 40), st.integers(1, 30), st.sampled_from([0.0, 0.123, 0.317, 1.03]), st.integers(0, 9))
def test_points_that_are_near_are_those_of_comparing_each_with_each(n, d, radius, seed):
    from scipy.cluster.hierarchy import fcluster, linkage

    points = np.random.default_rng(seed).normal(size=(n, d)).round(1)
    found = leaks.near(points, radius)
    if n > 1:
        expected = fcluster(linkage(points / np.sqrt(d), "single"), radius + 1e-9, "distance")
        assert len(set(zip(found, expected, strict=True))) == len(set(found)) == len(set(expected))


def test_rows_of_a_few_coarse_columns_may_be_alike_by_chance():
    rng = np.random.default_rng(0)
    coarse = pd.DataFrame(rng.integers(0, 5, (200, 3)).astype(float), columns=list("abc"))
    assert leaks.rows_alike(coarse) is None
    assert leaks.rows_alike(coarse[["a"]].assign(name=[f"n{i}" for i in range(200)])) is None


def test_rows_are_alike_whatever_number_they_bear():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(200, 5)), columns=list("abcde"))
    table.loc[::9, "c"] = np.nan
    table["colour"] = rng.choice(["red", None], 200)
    table.loc[150] = table.loc[3]
    table.loc[150, "a"] += 1e-5
    table.loc[151] = table.loc[4]
    table.loc[151, "c"] = np.nan if table.loc[4, "c"] == table.loc[4, "c"] else 0.0  # missing is not nearly known
    table["number"] = np.arange(200.0)
    found = leaks.rows_alike(table)
    assert len(set(found)) == 199
    assert found[150] == found[3]


# === What gives the answer away ===


def answers(n=400):
    rng = np.random.default_rng(0)
    labels = pd.Series(rng.choice(["a", "b"], n))
    splits = pd.Series(np.array(["train", "train", "validation", "test"])[np.arange(n) % 4])
    return rng, labels, splits, (labels == "b").to_numpy(float)


def giveaways(columns, labels, splits, allowed=(), classifies=True):
    return [
        finding.told.split("`")[1]
        for finding in leaks.giveaways(columns, labels, splits, allowed, classifies=classifies)
    ]


def test_a_column_that_is_good_but_not_perfect_gives_nothing_away():
    rng, labels, splits, code = answers()
    good = pd.DataFrame({"x": 4 * code + rng.normal(size=400), "y": rng.normal(size=400)})  # right in 98 of 100
    assert giveaways(good, labels, splits) == []
    assert giveaways(good.assign(x=8 * code + rng.normal(size=400).clip(-2, 2)), labels, splits) == ["x"]
    assert giveaways(good[:40].assign(x=code[:40]), labels[:40], splits[:40]) == []  # too few to tell


def test_an_easy_question_that_many_columns_answer_is_no_leak():
    rng, labels, splits, code = answers()
    wrong = np.isin(np.arange(400), [5, 205, 106, 306])  # one of a hundred
    easy = pd.DataFrame({"x": 12 * code + rng.normal(size=400), "y": 12 * np.abs(code - wrong) + rng.normal(size=400)})
    assert giveaways(easy, labels, splits) == []
    assert giveaways(easy.assign(code=labels.str.upper()), labels, splits) == ["code"]  # but a twin of the label is


def test_a_rare_class_is_not_answered_by_a_column_that_never_names_it():
    labels = pd.Series(["b" if i % 100 == 7 or i % 100 == 9 else "a" for i in range(1000)])
    splits = pd.Series(["train" if i % 2 and i % 100 != 7 else "test" for i in range(1000)])
    columns = pd.DataFrame({"x": np.arange(1000.0) % 13, "y": np.ones(1000)})
    assert giveaways(columns, labels, splits) == []


def test_names_that_come_once_give_nothing_away():
    _, labels, splits, _ = answers()
    assert giveaways(pd.DataFrame({"name": [f"n{i}" for i in range(400)]}), labels, splits) == []


def test_a_number_is_given_away_by_another_form_of_it():
    rng, _, splits, _ = answers()
    price, area = pd.Series(rng.lognormal(size=400)), rng.normal(size=400)
    columns = pd.DataFrame({"log": np.log(price), "area": area, "close": price * rng.uniform(0.8, 1.25, 400)})
    assert giveaways(columns, price, splits, classifies=False) == ["log"]
    assert giveaways(columns, price, splits, ["log"], classifies=False) == []


def futures(target, column, furthest=8, allowed=()):
    values = pd.DataFrame({"level": target, "other": column})
    return [finding.told for finding in leaks.futures(values, "level", furthest, allowed)]


def test_a_column_holds_the_future_of_the_target_or_follows_it():
    level = pd.Series(np.cumsum(np.random.default_rng(0).normal(size=300)))
    noise = np.random.default_rng(1).normal(size=300)
    assert futures(level, 3 - 2 * level.shift(-5)) == ["column `other` holds `level` of 5 row(s) later"]
    assert futures(level, level.shift(-5), allowed=["other"]) == []
    assert futures(level, level.shift(-9)) == []  # further than any window and its forecast
    assert futures(level, level.shift(5)) == []
    assert futures(level, level + 0.1 * noise) == []
    assert futures(level, level.shift(-1) + 0.5 * noise) == []  # a forecast, as weather services make
    assert futures(level * 0, level * 0) == []
    smooth = level.rolling(30).mean().rolling(30).mean()
    assert futures(smooth, smooth + 0.01 * noise) == []


# === Labels and time ===


@pytest.mark.parametrize(
    ("contents", "labels", "most", "told"),
    [
        ("abcd", "xyxy", 0.0, []),
        ("aacd", "xxyy", 0.0, []),
        ("aabb", "xyyy", 0.2, [(True, "2 (x), 3 (y); 1 example(s), 25.00% of all, are such, 20.00% may be")]),
        ("aaab", "xyyy", 0.25, [(False, "2 (x), 3 (y); 1 example(s), 25.00% of all, are such, 25.00% may be")]),
        ("aabb", "xyxy", 0.5, [(False, "2 (x), 3 (y); 2 example(s), 50.00% of all, are such, 50.00% may be")]),
    ],
)
def test_equal_examples_with_different_labels_are_counted(contents, labels, most, told):
    found = list(leaks.contradictions(series(contents), series(labels), most))
    assert [
        (finding.grave, finding.told.removeprefix("equal examples with different labels: ")) for finding in found
    ] == told


def test_splits_share_no_time():
    def spans(*rows):
        return pd.DataFrame(
            [(split, pd.Timestamp(2020, 1, first), pd.Timestamp(2020, 1, last)) for split, first, last in rows],
            columns=["split", "first", "last"],
            index=[f"e{i}" for i in range(len(rows))],
        )

    apart = [("train", 1, 3), ("train", 2, 4), ("validation", 5, 7), ("test", 8, 10)]
    assert list(leaks.overlaps(spans(*apart))) == []
    (found,) = leaks.overlaps(spans(*apart[:2], ("validation", 4, 7), apart[3]))
    assert found.told == "e1 (train) forecasts until 2020-01-04 00:00:00, e2 (validation) begins at 2020-01-04 00:00:00"
    (found,) = leaks.overlaps(spans(apart[1], apart[0], *apart[2:]))
    assert found.told == "train is not in time order: e1 comes after a later example"
