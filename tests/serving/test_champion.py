"""A pinned champion answers as `evaluate` did, however many rows are asked at once, or is refused."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from served import SETS

from trainyard import files, tracking
from trainyard.errors import BadInput
from trainyard.serving.champion import Champion
from trainyard.tracking import pyfunc

NUMBERS = [name for name in SETS if name != "speech"]


@pytest.fixture
def champion(inside, tmp_path):
    return lambda name: Champion(tracking.pin(name, tmp_path))


def same(found, expected):
    if expected.dtypes.iloc[0].kind == "f":
        np.testing.assert_allclose(found.to_numpy(), expected.to_numpy(), rtol=1e-6, atol=1e-6)
        assert expected.std().min() > 1e-4  # answers that are all the same would agree with anything
    else:
        assert found.to_numpy().tolist() == expected.to_numpy().tolist()
        assert expected.nunique().min() > 1


@pytest.mark.parametrize("name", SETS)
def test_all_test_rows_are_answered_as_evaluate_did(champion, registry, name):
    asked, expected = champion(name), registry.answers(name)
    asked.prove()
    found = asked.ask(registry.rows(name)).loc[expected.index]
    same(found[expected.columns], expected)


@pytest.mark.parametrize("name", SETS)
def test_an_answer_is_the_same_alone_and_among_others(champion, registry, name):
    asked, expected = champion(name), registry.answers(name)
    raw, names = asked.decode(registry.rows(name))
    for count in (1, 2, 3, 7):
        part = {key: values[:count] for key, values in raw.items()}
        found = asked.named(asked.answers(part), names[:count])
        again = expected.loc[[label for label in names[:count] if label in expected.index]]
        if again.to_numpy().dtype.kind == "f":
            np.testing.assert_allclose(found.loc[again.index, again.columns], again, rtol=1e-6, atol=1e-6)
        else:
            assert found.loc[again.index, "answer"].tolist() == again["answer"].tolist()


def test_rows_that_fill_no_size_and_more_than_the_largest_are_all_answered(champion, registry):
    asked, rows = champion("tables"), registry.rows("tables")
    many = pd.concat([rows] * 40)[:600].reset_index(drop=True)
    found = asked.ask(many)
    assert len(found) == 600
    pd.testing.assert_frame_equal(found[: len(rows)], asked.ask(rows.reset_index(drop=True)), rtol=1e-6, atol=1e-6)


def test_after_the_sizes_are_warm_nothing_is_compiled(champion, registry):
    asked, rows = champion("tables"), registry.rows("tables")
    asked.warm()
    known = len(asked._compiled.sizes)
    for count in (1, 2, 5, 9, len(rows)):
        asked.ask(rows[:count])
    assert len(asked._compiled.sizes) == known == 9


def test_numbers_come_with_an_interval_in_which_19_of_20_test_examples_lie(champion, registry):
    scores, found = registry.scores["prices"], champion("prices").ask(registry.rows("prices"))
    inside = (found["answer_low"] <= scores["target"]) & (scores["target"] <= found["answer_high"])
    assert inside.mean() >= 0.95
    assert not inside.all()


def test_of_too_few_test_examples_no_interval_is_told(champion, registry):
    assert list(champion("series").ask(registry.rows("series"))) == list(registry.answers("series"))


@pytest.mark.parametrize("name", SETS)
def test_what_an_answer_rests_on_is_told_part_by_part(champion, registry, name):
    asked = champion(name)
    row = registry.rows(name, 1) if name != "series" else registry.rows(name, 3)
    parts, words = dict(asked.without_parts(row)), len(set(str(row.iloc[0, 0]).split()))
    assert len(parts) == {"tables": 3, "prices": 3, "images": 16, "series": 24, "text": words, "speech": 6}[name]
    whole = asked.ask(row).iloc[-1:]
    assert any(not np.array_equal(part.to_numpy(), whole.to_numpy()) for part in parts.values())
    assert all(list(part.columns) == list(whole.columns) for part in parts.values())


def test_a_row_whose_answer_is_not_finite_is_refused(champion, registry):
    rows = registry.rows("prices", 3).copy()
    rows.loc[rows.index[1], ["size", "age"]] = 3e38
    with pytest.raises(BadInput, match=f"row {rows.index[1]}: the model has no finite answer"):
        champion("prices").ask(rows)


# === Refusals ===


@pytest.fixture
def pinned(inside, tmp_path):
    return tracking.pin("tables", tmp_path)


def test_a_file_that_changed_since_it_was_pinned_is_refused(pinned):
    with (pinned.folder / "model.keras").open("ab") as file:
        file.write(b"more")
    with pytest.raises(BadInput, match="not the file that was trained"):
        Champion(pinned)


@pytest.mark.parametrize("name", ["model.json", "golden.json"])
def test_what_is_told_of_a_model_is_as_it_was_pinned(pinned, name):
    told = files.read_json(pinned.folder / name)
    files.write_json(pinned.folder / name, {**told, "more": 1})
    with pytest.raises(BadInput, match=r"tables: version 1: model\.json or golden\.json is not as it was pinned"):
        Champion(pinned)


def with_golden(pinned, golden):
    """As if it had been registered with it."""
    files.write_json(pinned.folder / "golden.json", golden)
    return replace(pinned, told=pyfunc.told(pinned.folder))


def test_a_champion_that_answers_its_example_otherwise_is_refused(pinned):
    golden = files.read_json(pinned.folder / "golden.json")
    golden["answers"][0]["p_0"] += 0.001
    with pytest.raises(BadInput, match="tables: version 1 does not answer its example as it did"):
        Champion(with_golden(pinned, golden)).prove()


def test_a_version_of_which_no_answers_are_known_is_held_against_itself(pinned):
    golden = files.read_json(pinned.folder / "golden.json")
    asked = Champion(with_golden(pinned, {**golden, "answers": []}))
    asked.prove()
    asked._compiled = lambda values: np.zeros((len(next(iter(values.values()))), 1), np.float32)
    with pytest.raises(BadInput, match="does not answer its example"):
        asked.prove()
