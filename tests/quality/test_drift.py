"""Statistics as SciPy and scikit-learn have them; what moved is found, and what has not moved is left alone."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from trainyard.quality import drift, intervals
from trainyard.quality.drift import Sample
from trainyard.quality.objectives import BINARY, FORECAST, MULTICLASS, REGRESSION, TRANSCRIPTION

RNG = np.random.default_rng(5)


def one_by_one(**measures):
    """Examples that were drawn by themselves."""
    measures = {name: pd.Series(values) if np.ndim(values) == 1 else values for name, values in measures.items()}
    return Sample(measures, pd.Series(np.arange(len(next(iter(measures.values()))))))


def contrasts(old, new, draws=4999):
    is_new = np.arange(old + new) >= old
    return is_new, drift._contrasts(is_new, intervals.draws(old + new), draws, np.random.default_rng(0))


def alone(far):
    """The p value of one statistic by itself."""
    return drift._chances(far[:, None])[0]


def error(p, draws=4999):
    """Four standard errors of a p value that so many draws tell."""
    return 4 * np.sqrt(p * (1 - p) / draws) + 1 / draws


def moved(old, new, **knobs):
    return [shift.measure for shift in drift.compare(old, new, **{"level": 0.01, "least": 0.0} | knobs).moved]


# === Against other libraries ===


@given(st.integers(0, 10**6), st.integers(5, 40), st.integers(5, 40), st.sampled_from([0, 1, 9]))
def test_the_distance_of_numbers_is_that_of_kolmogorov_and_smirnov(seed, n, m, digits):
    rng = np.random.default_rng(seed)
    old, new = rng.normal(size=n).round(digits), rng.normal(0.4, 1.3, m).round(digits)
    is_new, drawn = contrasts(n, m, 9)
    shift, far = drift._of_numbers("x", pd.Series([*old, *new]), is_new, drawn)
    expected = stats.ks_2samp(old, new, method="asymp").statistic
    assert shift.effect == pytest.approx(expected)
    assert far[0] == pytest.approx(expected)
    assert (shift.old, shift.new) == pytest.approx((np.median(old), np.median(new)))
    assert [sum(bars) for bars in shift.bars] == [n, m]


@pytest.mark.parametrize("by", [0.0, 0.25, 0.5, 0.7])
def test_its_chance_is_that_of_the_exact_test(by):
    rng = np.random.default_rng(1)
    old, new = rng.normal(size=60), rng.normal(by, 1, 45)
    is_new, drawn = contrasts(60, 45)
    expected = stats.ks_2samp(old, new, method="exact").pvalue
    found = alone(drift._of_numbers("x", pd.Series([*old, *new]), is_new, drawn)[1])
    assert found == pytest.approx(expected, abs=error(expected))


def test_unknown_numbers_are_left_out():
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=80), rng.normal(0.5, 1, 70)
    is_new, drawn = contrasts(100, 100)
    gaps = np.full(20, np.nan), np.full(30, np.nan)
    shift, far = drift._of_numbers("x", pd.Series([*gaps[0], *old, *gaps[1], *new]), is_new, drawn)
    expected = stats.ks_2samp(old, new)
    assert shift.effect == pytest.approx(expected.statistic)
    assert alone(far) == pytest.approx(expected.pvalue, abs=0.01)


@pytest.mark.parametrize("share", [0.3, 0.42, 0.5])
def test_the_distance_of_values_is_that_of_the_chi_square_test(share):
    rng = np.random.default_rng(2)
    old = rng.choice(["a", "b", "c"], 300, p=[0.3, 0.3, 0.4])
    new = rng.choice(["a", "b", "c"], 120, p=[share, 0.3, 0.7 - share])
    is_new, drawn = contrasts(300, 120)
    shift, far = drift._of_shares("x", drift._values(pd.Series([*old, *new])), is_new, drawn)
    table = pd.crosstab(is_new, np.array([*old, *new]))
    expected = stats.chi2_contingency(table, correction=False)
    assert far[0] ** 2 * 300 * 120 / 420 == pytest.approx(expected.statistic)
    assert alone(far) == pytest.approx(expected.pvalue, abs=error(expected.pvalue))
    shares = table.div(table.sum(axis=1), axis=0)
    assert shift.effect == pytest.approx((shares.loc[True] - shares.loc[False]).abs().sum() / 2)
    value = shift.of.split("`")[1]
    assert (shift.old, shift.new) == pytest.approx((shares.loc[False, value], shares.loc[True, value]))


def test_the_share_of_gaps_has_the_chance_of_fishers_exact_test():
    is_new, drawn = contrasts(60, 40)
    missing = np.isin(np.arange(100), [1, 2, 60, 61, 62, 63, 64, 65, 66, 67]).astype(float)
    shift, far = drift._of_numbers("x missing", pd.Series(missing), is_new, drawn)
    expected = stats.fisher_exact(pd.crosstab(is_new, missing)).pvalue
    assert shift.effect == pytest.approx(8 / 40 - 2 / 60)
    assert alone(far) == pytest.approx(expected, abs=error(expected))


def test_the_classifier_is_a_ridge_regression_that_is_asked_of_other_folds():
    is_new, drawn = contrasts(90, 60, 19)
    features = drift._features(RNG.normal(size=(150, 3)) + 0.5 * is_new[:, None])
    folds = np.arange(150) % drift.FOLDS
    shift, far = drift._of_classifier("all", features, is_new, drawn, folds, intervals.draws(150))
    told = np.empty(150)
    for fold in range(drift.FOLDS):
        train, held = folds != fold, folds == fold
        fitted = Ridge(alpha=drift.STIFFNESS * train.sum(), fit_intercept=False).fit(features[train], drawn[0, train])
        told[held] = fitted.predict(features[held])
    assert shift.new == pytest.approx(roc_auc_score(is_new, told))
    assert far[0] == pytest.approx(told @ drawn[0] / np.linalg.norm(told) / np.linalg.norm(drawn[0]))
    assert shift.low < shift.new < shift.high
    assert shift.effect == pytest.approx(2 * shift.new - 1)


@given(st.integers(0, 10**6), st.integers(20, 90), st.integers(3, 30), st.integers(1, 3))
def test_in_time_the_chance_of_a_mean_is_that_of_students_t_on_the_slowest_waves(seed, n, m, horizon):
    values = np.random.default_rng(seed).normal(size=n + m)
    is_new, sample = np.arange(n + m) >= n, intervals.draws(n + m, horizon=horizon)
    drawn = drift._contrasts(is_new, sample, 1999, np.random.default_rng(0))
    assert drawn.sum(axis=1) == pytest.approx(0, abs=1e-9)
    steps = np.arange(n + m) + 0.5
    slow = max(1, sample.freedom // 2)
    waves = [np.cos(np.pi * j * steps / (n + m)) for j in range(1, slow + 1)]
    basis = np.linalg.qr(np.column_stack([np.ones(n + m), is_new, *waves]))[0].T[1:]
    step, *others = basis @ values
    t = step / np.sqrt(np.mean(np.square(others)))
    found = np.mean(np.abs(drawn @ values) >= abs(drawn[0] @ values) - 1e-12)
    assert found == pytest.approx(2 * stats.t.sf(abs(t), slow), abs=5 * np.sqrt(0.25 / 1999))


@given(st.integers(0, 10**6), st.integers(1, 6))
def test_chances_are_those_of_the_step_down_procedure(seed, tests):
    far = np.random.default_rng(seed).normal(size=(50, tests)) ** 2
    scaled = (far - far.mean(axis=0)) / far.std(axis=0)
    left, expected, least = list(range(tests)), {}, 0.0
    while left:  # Westfall & Young (1993), algorithm 2.8
        first = max(left, key=lambda test: scaled[0, test])
        least = max(least, np.mean(scaled[:, left].max(axis=1) >= scaled[0, first] - 1e-9))
        expected[first] = least
        left.remove(first)
    assert drift._chances(far) == pytest.approx([expected[test] for test in range(tests)])


# === What has moved is found ===


def clean(rng, n):
    frame = {"a": rng.normal(size=n), "b": rng.normal(size=n), "c": rng.choice(["red", "green", None], n)}
    frame["a"][::9] = np.nan
    return {name: pd.Series(values) for name, values in frame.items()}


def side(measures):
    return Sample(measures, pd.Series(np.arange(len(measures["a"]))))


def flipped(rng, n, sign):
    first = rng.normal(size=n)
    return {"a": pd.Series(first), "b": pd.Series(sign * first + 0.5 * rng.normal(size=n))}


def tokens(rng, n, share):
    drawn = rng.multinomial(12, [0.5, 0.5 - share, share], n) / 12
    return pd.DataFrame(drawn, columns=["the", "a", "new"])


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda rng, frame: frame | {"b": frame["b"] + 1}, "b"),
        (lambda rng, frame: frame | {"b": frame["b"] * 2.5}, "b"),
        (lambda rng, frame: frame | {"c": pd.Series(rng.choice(["red", "green"], 200, p=[0.9, 0.1]))}, "c"),
        (lambda rng, frame: frame | {"c": pd.Series(rng.choice(["blue", "green"], 200))}, "c"),
        (lambda rng, frame: frame | {"which": tokens(rng, 200, 0.3)}, "which"),
    ],
    ids=["level", "spread", "shares", "a new value", "tokens"],
)
def test_what_moved_is_named(change, found):
    rng = np.random.default_rng(3)
    old, new = (clean(rng, 200) | {"which": tokens(rng, 200, 0.2)} for _ in range(2))
    assert moved(side(old), side(new)) == []
    names = moved(side(old), side(change(rng, new)))
    assert found in names
    assert set(names) <= {found, "all measures together"}


def test_columns_that_hang_together_otherwise_are_told_apart_though_none_moved():
    rng = np.random.default_rng(4)
    old, new = flipped(rng, 300, 1), flipped(rng, 300, -1)
    assert moved(side(old), side(new)) == ["all measures together"]


def test_values_that_go_missing_everywhere_are_found():
    rng = np.random.default_rng(0)
    old, new = clean(rng, 100), clean(rng, 100)
    new["b"][:] = np.nan
    gaps = [{**part, "b missing": part["b"].isna().astype(float)} for part in (old, new)]
    assert moved(side(gaps[0]), side(gaps[1])) == ["b missing", "all measures together"]


def test_an_embedding_is_told_apart_by_itself():
    rng = np.random.default_rng(0)
    sides = [
        Sample(clean(rng, 150), pd.Series(np.arange(150)), rng.normal(size=(150, 64)) + by) for by in (0.0, 0.0, 0.3)
    ]
    assert moved(sides[0], sides[1]) == []
    assert moved(sides[0], sides[2]) == ["embedding"]


def test_what_is_sure_but_small_is_no_drift():
    rng = np.random.default_rng(0)
    old, new = ({"a": pd.Series(rng.normal(by, 1, 2000))} for by in (0.0, 0.2))
    assert "a" in moved(side(old), side(new))
    assert moved(side(old), side(new), least=0.2) == []


def test_of_few_it_is_told_that_only_a_large_shift_shows():
    rng = np.random.default_rng(0)
    old, few, enough = (clean(rng, count) for count in (200, 29, 30))
    told = [drift.compare(side(old), side(new), level=0.05, least=0.02).told for new in (few, enough)]
    assert told[0].endswith("Of 29 new ones only a large shift shows.")
    assert told[1].endswith("at least).")


def test_it_is_told_in_a_sentence_and_as_json():
    rng = np.random.default_rng(0)
    old, new = clean(rng, 200), clean(rng, 200)
    new["b"] += 2
    found = drift.compare(side(old), side(new), level=0.05, least=0.02)
    assert found.told == (
        "2 of 4 measures moved: `b`, `all measures together` (level 0.05 for all at once, effect of 0.02 at least)."
    )
    told = found.as_dict()
    assert told["drift"]
    assert not told["too_few"]
    assert (told["examples"], told["units"]) == ((200, 200), (200, 200))
    assert told["shifts"][0] == {
        "measure": "b",
        "of": "median",
        "old": pytest.approx(old["b"].median(), abs=1e-6),
        "new": pytest.approx(new["b"].median(), abs=1e-6),
        "effect": pytest.approx(stats.ks_2samp(old["b"], new["b"]).statistic, abs=1e-6),
        "p": 0.005,
        "moved": True,
        "low": None,
        "high": None,
    }


def test_the_same_call_gives_the_same_figures():
    rng = np.random.default_rng(0)
    old, new = side(clean(rng, 60)), side(clean(rng, 60))
    assert drift.compare(old, new, level=0.05, least=0) == drift.compare(old, new, level=0.05, least=0)


def test_where_nothing_can_be_compared_nothing_is():
    same = {"a": pd.Series(np.ones(9)), "b": pd.Series([None] * 9, dtype=object)}
    assert drift.compare(side(same), side(same), level=0.05, least=0).shifts == []


# === What has not moved is left alone ===


def alarms(draw, times=200, **knobs):
    """How many of so many pairs of samples, both of which `draw` makes, are said to have drifted, at a level of 5%."""
    rng = np.random.default_rng(8)
    return sum(bool(moved(*draw(rng), **{"level": 0.05} | knobs)) for _ in range(times))


MOST_ALARMS = stats.binom.ppf(0.999, 200, 0.05)


@pytest.mark.slow
def test_examples_that_were_drawn_by_themselves_alarm_no_more_often_than_the_level():
    def draw(rng):
        counts = {n: {"d": pd.Series(rng.poisson(1.0, n) * 1.0), "e": tokens(rng, n, 0.1)} for n in (90, 50)}
        return [side(clean(rng, n) | more) for n, more in counts.items()]

    assert 1 <= alarms(draw) <= MOST_ALARMS


def grouped(rng, groups, size):
    """Groups that differ much more than what is in them."""
    of_group = np.repeat(np.arange(groups), size)
    level, colour = rng.normal(size=groups), rng.choice(["red", "green"], groups)
    measures = {"a": level[of_group] + 0.2 * rng.normal(size=groups * size), "c": colour[of_group]}
    return Sample({name: pd.Series(values) for name, values in measures.items()}, pd.Series(of_group))


@pytest.mark.slow
def test_groups_that_differ_are_no_drift():
    assert alarms(lambda rng: [grouped(rng, 20, 6), grouped(rng, 9, 6)]) <= MOST_ALARMS

    def without_groups(rng):
        return [
            Sample(part.measures, pd.Series(np.arange(len(part.units))))
            for part in (grouped(rng, 20, 6), grouped(rng, 9, 6))
        ]

    assert alarms(without_groups, 50) > 25  # or the groups above would prove nothing


def waves(rng, n, persistence):
    noise = rng.normal(size=n + 50)
    for step in range(1, n + 50):
        noise[step] += persistence * noise[step - 1]
    return pd.Series(noise[50:])


def in_time(rng, n, m, persistence):
    both = {"level": waves(rng, n + m, persistence)}
    both["error"] = (both["level"] - both["level"].shift(1)).abs()
    cut = [{name: values[part] for name, values in both.items()} for part in (slice(0, n), slice(n, None))]
    return [Sample(part, pd.Series(part["level"].index)) for part in cut]


@pytest.mark.slow
@pytest.mark.parametrize("persistence", [0.0, 0.7, 0.9])
def test_neighbours_in_time_that_hang_together_are_no_drift(persistence):
    assert alarms(lambda rng: in_time(rng, 300, 80, persistence), horizon=6) <= MOST_ALARMS
    if persistence:
        assert alarms(lambda rng: in_time(rng, 300, 80, persistence), 50) > 10  # as if neighbours had nothing in common


def test_a_step_and_a_restless_end_of_a_series_are_found():
    rng = np.random.default_rng(0)
    old, new = in_time(rng, 300, 80, 0.5)
    assert moved(old, new, horizon=6) == []
    higher = Sample({**new.measures, "level": new.measures["level"] + 3}, new.units)
    assert "level" in moved(old, higher, horizon=6)
    restless = Sample({**new.measures, "error": new.measures["error"] * 3}, new.units)
    assert "error" in moved(old, restless, horizon=6)


# === Which examples are compared ===


def test_of_a_group_as_many_are_compared_as_both_sides_have():
    old = pd.Series(np.repeat(list("abcde"), 6), index=np.arange(100, 130))
    new = pd.Series(["f", "f", "g", "h", "i"], index=np.arange(5))
    kept, kept_new = drift.alike(old, new, seed=1)
    assert old[kept].value_counts().tolist() == [1] * 5
    assert new[kept_new].value_counts().tolist() == [1] * 4
    assert list(kept) == sorted(kept)
    assert list(kept) == list(drift.alike(old, new, seed=1)[0])
    assert list(kept) != list(drift.alike(old, new, seed=2)[0])


def test_of_many_examples_some_are_compared(monkeypatch):
    monkeypatch.setattr(drift, "MOST", 30)
    kept, kept_new = drift.alike(pd.Series(np.arange(100)), pd.Series(np.arange(20)), seed=1)
    assert (len(kept), len(kept_new)) == (30, 20)
    rng = np.random.default_rng(0)
    found = drift.compare(*in_time(rng, 100, 30, 0.5), level=0.05, least=0, horizon=2)
    assert sum(found.examples) == 44  # each third


def test_a_group_that_is_on_both_sides_is_one_of_each():
    rng = np.random.default_rng(0)
    found = drift.compare(grouped(rng, 8, 3), grouped(rng, 6, 3), level=0.05, least=0)
    assert found.units == (8, 6)


def test_two_groups_tell_nothing():
    rng = np.random.default_rng(0)
    old, new = grouped(rng, 8, 5), grouped(rng, 1, 5)
    new.measures["a"][:] += 50
    found = drift.compare(old, new, level=0.01, least=0)
    assert found.too_few
    assert not found.moved
    assert found.told == "1 new and 8 old groups are too few to tell drift from chance."


def test_thousands_of_examples_are_never_too_few():
    assert not drift.Drift([], (2000, 2000), (2000, 2000), 0.01, 0.0).too_few  # in more ways than a float can count


# === Answers ===


def test_of_a_classifiers_answers_the_shares_and_the_sureness_are_measured():
    answers = pd.DataFrame({"p_a": [0.9, 0.2], "p_b": [0.1, 0.8]})
    for objective in (BINARY, MULTICLASS):
        found = drift.of_answers(objective, answers)
        assert found["answer"].equals(answers)
        assert found["sureness"].tolist() == [0.9, 0.8]
    assert drift.of_answers(REGRESSION, pd.DataFrame({"answer": [1.5, 2]}))["answer"].tolist() == [1.5, 2]


def test_of_forecasts_the_change_and_the_error_are_measured():
    known = pd.Series([1.0, 2.0, 4.0, 8.0], index=list("abcd"))
    answers = pd.DataFrame(
        {"answer_1": [np.nan, 5.0, 6.0, 7.0], "answer_2": [np.nan, 7.0, 6.0, 7.0]}, index=list("abcd")
    )
    found = drift.of_answers(FORECAST, answers, known)
    assert found["change"].tolist() == pytest.approx([np.nan, 4.0, 2.0, -1.0], nan_ok=True)
    assert found["error"].tolist() == pytest.approx([np.nan, 1.0, np.nan, np.nan], nan_ok=True)


def test_of_transcripts_letters_and_length_are_measured():
    found = drift.of_answers(TRANSCRIPTION, pd.DataFrame({"answer": ["abba", "", "b"]}))
    assert found["length"].tolist() == [4, 0, 1]
    assert found["letters"][["a", "b"]].to_numpy().tolist() == [[0.5, 0.5], [0, 0], [0, 1]]
