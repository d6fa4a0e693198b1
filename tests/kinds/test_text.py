from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trainyard import kinds
from trainyard.kinds import text
from trainyard.models import saved
from trainyard.params import Split, Text

NOTES = Path("notes.csv")
ROWS = 60
WORDS = {"weather": ["sun", "rain", "wind", "Schnee"], "food": ["bread", "soup", "Käse", "хлеб"]}


def notes(path=NOTES, **columns):
    """A file of notes: `columns` gives the text of each cell by its row, counted from 0."""
    rng = np.random.default_rng(0)
    about = ["weather", "food"]
    made = {
        "note": lambda i: f"{' and '.join(rng.choice(WORDS[about[i % 2]], 3))}, {rng.integers(10**6, 10**7)}",
        "about": lambda i: about[i % 2],
    }
    made = made | columns
    pd.DataFrame({name: [made[name](i) for i in range(ROWS)] for name in made}).to_csv(path, index=False)


def spec(**knobs):
    return Text(
        **{"kind": "text", "objective": "binary", "path": str(NOTES), "text": "note", "target": "about"} | knobs
    )


def vocabulary(data):
    return text.preprocessing(data.spec, data.facts, data.train).model().get_layer("tokens").get_vocabulary()


def tokens(data, *asked):
    """What the core sees of some texts."""
    raw, _ = text.decode(data.spec, data.facts, pd.DataFrame({"note": asked}, dtype=object))
    return saved.predict(text.preprocessing(data.spec, data.facts, data.train).model(), raw)


# === What is read ===


def test_the_manifest_tells_how_long_each_text_is(here):
    notes(note=lambda i: "two words\nand  more \t" if i == 1 else f"note {i}", who=lambda i: f"w{i // 2}")
    manifest = text.manifest(spec(group="who"))
    assert list(manifest) == ["note", "about", "who", "characters", "words"]
    assert list(manifest.index) == [2, 4, *range(5, ROWS + 3)]  # the second text has two lines
    assert manifest.loc[4, ["characters", "words"]].tolist() == [21.0, 4.0]
    assert text.groups(spec(group="who"), manifest).tolist() == [f"w{i // 2}" for i in range(ROWS)]
    assert text.groups(spec(), manifest) is None


def test_a_file_without_header_and_quoting_is_read_as_it_stands(here):
    NOTES.write_text('food\tsay "cheese\nweather\t"fog\n' * 20)
    manifest = text.manifest(spec(delimiter="\t", names=["about", "note"], quoting=False))
    assert manifest["note"].tolist()[:2] == ['say "cheese', '"fog']
    assert manifest.index[0] == 1


BAD = {
    "no such text": ({}, {"text": "notes"}, "notes.csv:1: no column `notes` (did you mean `note`?)"),
    "no such target": ({}, {"target": "abuot"}, "notes.csv:1: no column `abuot` (did you mean `about`?)"),
    "no such group": ({}, {"group": "author"}, "notes.csv:1: no column `author` (it has: note, about)"),
    "empty": ({"note": lambda i: "" if i in (3, 5) else f"n{i}"}, {}, ":5: column `note`: the text is empty; 2 such"),
    "blank": ({"note": lambda i: " \t\u00a0" if i == 3 else f"n{i}"}, {}, ":5: column `note`: the text is empty; 1"),
    "no label": ({"about": lambda i: " " if i == 4 else f"a{i % 2}"}, {}, ":6: column `about`: the label is missing"),
    "too long": (
        {"note": lambda i: "x" * 100_001 if i == 2 else f"n{i}"},
        {},
        ":4: column `note`: more than 100,000 characters; 1 such row(s)",
    ),
    "a document": ({"note": lambda i: "x" * 1_100_000 if i == 2 else f"n{i}"}, {}, ":4: field larger than field limit"),
    "control": ({"note": lambda i: "a\x07b" if i == 2 else f"n{i}"}, {}, ":4: column `note`: a control character"),
    "bidi override": (
        {"note": lambda i: "a\u202eb" if i == 2 else f"n{i}"},
        {},
        ":4: column `note`: a mark that turns",
    ),
    "bidi isolate": ({"note": lambda i: "\u2066b" if i == 2 else f"n{i}"}, {}, ":4: column `note`: a mark that turns"),
    "one class": ({"about": lambda i: "food"}, {}, "notes.csv: one class only, `food`"),
    "three classes": ({"about": lambda i: "abc"[i % 3]}, {}, "notes.csv: 3 classes (objective binary takes two"),
    "positive": ({}, {"positive": "foot"}, "notes.csv: no class `foot`, named by `positive`; did you mean `food`?"),
    "no group": (
        {"who": lambda i: "" if i == 4 else f"w{i}"},
        {"group": "who"},
        "notes.csv:6: column `who`: the group is missing",
    ),
    "alike": (
        {"note": lambda i: f"Buy one, get one free {'!' * i}"},
        {},
        "notes.csv: about `food` has 1 example(s) that are neither equal nor of one group",
    ),
}


@pytest.mark.parametrize(("columns", "knobs", "told"), BAD.values(), ids=BAD)
def test_bad_data_is_refused_with_its_place(here, prepared, refusal, columns, knobs, told):
    notes(**columns)
    assert told in refusal(lambda: prepared(spec(**knobs)))


def test_half_a_surrogate_pair_in_a_file_is_refused(here, refusal):
    NOTES.write_bytes(b"note,about\nfine,food\n\xed\xa0\x80,food\n")
    assert refusal(lambda: text.manifest(spec())) == "notes.csv:3: not UTF-8 at byte 21 (save the file as UTF-8)"


@pytest.mark.parametrize("knobs", [{"target": "note"}, {"group": "words"}, {"split": Split(given="about")}])
def test_a_column_has_one_role(knobs):
    with pytest.raises(ValueError, match="is named twice"):
        spec(**knobs)


# === Splits ===


def test_texts_that_are_alike_are_never_in_two_splits(here):
    rng = np.random.default_rng(0)
    told = ["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz "), 40)) for _ in range(18)]
    changed = [str, str.upper, "{}!\u200b".format, "{} 7".format]
    notes(note=lambda i: changed[i // 2 % 4](told[i // 8 * 2 + i % 2]) if i < 56 else told[i - 42])
    manifest = text.manifest(spec())
    clusters = text.likeness(spec(), manifest)
    assert clusters.nunique() == len(told)
    for seed in range(5):
        splits = text.split(spec(), manifest, seed)
        assert (splits.groupby(clusters).nunique() == 1).all()
        assert set(splits) == {"train", "validation", "test"}


def test_a_given_split_that_parts_what_is_alike_is_found(here):
    rng = np.random.default_rng(0)
    notes(
        note=lambda i: ["See you at SEVEN, then!", "see you at seven then"][i] if i < 2 else str(rng.integers(10**9)),
        part=lambda i: ["train", "test"][i % 2],
        about=lambda i: ["food", "weather"][i // 2 % 2],
    )
    asked = spec(split=Split(given="part"))
    manifest = text.manifest(asked)
    (leak,) = kinds.audit(asked, manifest, text.split(asked, manifest, 1))
    assert leak.told.startswith("the same content in 2 splits: 2 (")


def test_groups_are_wholly_in_one_split(here):
    notes(who=lambda i: f"w{i // 4}")
    manifest = text.manifest(spec(group="who"))
    assert (text.split(spec(group="who"), manifest, 1).groupby(manifest["who"]).nunique() == 1).all()


# === What is written, and read again ===


def test_texts_come_back_as_they_were(here, prepared):
    notes(who=lambda i: f"w{i}")
    manifest = text.manifest(spec(group="who"))
    data = prepared(spec(group="who"))
    for part in (data.train, data.validation, data.test):
        rows = part.rows.index.astype(int)
        assert part.raw["text"][:][:, 0].tolist() == manifest["note"][rows].tolist()
        assert part.raw["text"][np.array([2, 0])][:, 0].tolist() == manifest["note"][rows[[2, 0]]].tolist()
        assert part.raw["text"].shape == (len(part), 1)
        assert part.raw["text"][:0].shape == (0, 1)
        assert [data.classes[number] for number in part.target] == part.rows["label"].tolist()
        assert part.rows["group"].tolist() == manifest["who"][rows].tolist()


# === What the model sees ===


def parts(i):
    return ["train", "train", "train", "train", "validation", "test"][i // 2 % 6]


@pytest.mark.parametrize("sort", ["characters", "trigrams", "words"])
def test_vocabulary_and_length_are_those_of_the_training_split_alone(here, prepared, sort):
    asked = spec(tokens=sort, split=Split(given="part"))
    notes(part=parts)
    data = prepared(asked)
    before, seen = vocabulary(data), tokens(data, "sun").shape
    table = pd.read_csv(NOTES, dtype=str)
    table["note"] = [f"Ωmega {'long ' * 9}{i}" if parts(i) != "train" else table["note"][i] for i in range(ROWS)]
    table.to_csv(NOTES, index=False)
    assert vocabulary(prepared(asked)) == before
    assert tokens(prepared(asked), "sun").shape == seen
    table["note"] = [f"Ωmega {i * 7919:09d}" if i == 0 else table["note"][i] for i in range(ROWS)]
    table.to_csv(NOTES, index=False)
    assert vocabulary(prepared(asked)) != before


@pytest.mark.bad_input(number=75, what="tokens beyond the vocabulary", then="one token for all of them")
def test_the_most_frequent_tokens_come_first_and_all_others_are_one(here, prepared):
    notes(
        note=lambda i: f"{'b' * i}{'a' * 99} {'xyz'[i % 3]}{i * 7919:07d}", about=lambda i: ["food", "weather"][i % 2]
    )
    data = prepared(spec(vocabulary=2))
    assert vocabulary(data) == ["", "[UNK]", "a", "b"]
    assert tokens(data, "AbΩ!")[0, :5].tolist() == [2, 3, 1, 1, 0]
    assert text.preprocessing(data.spec, data.facts, data.train).tokens == 4


def test_words_are_seen_without_case_and_punctuation(here, prepared):
    notes()
    data = prepared(spec(tokens="words", length=4))
    assert tokens(data, "Sun, RAIN!").tolist() == tokens(data, "  sun\nrain").tolist()
    assert tokens(data, "unheard-of  thing and and and and")[0, :2].tolist() == [1, 1]
    assert tokens(data, "sun sun sun sun sun").shape == (1, 4)


def test_trigrams_overlap_and_tell_numbers_and_signs(here, prepared):
    notes(note=lambda i: f"{'£50!' * 9} {i * 7919:07d}")
    data = prepared(spec(tokens="trigrams", length=4))
    assert vocabulary(data)[:2] == ["", "[UNK]"]
    found = [vocabulary(data)[number] for number in tokens(data, "£50!£5")[0]]
    assert found == ["£ 5 0", "5 0 !", "0 ! £", "! £ 5"]
    assert tokens(data, "£50ß")[0].tolist() == [vocabulary(data).index("£ 5 0"), 1, 0, 0]
    assert not tokens(data, "£5").any(), "two characters make no trigram"


def test_the_length_is_enough_for_nearly_all_training_texts_and_says_so(here, prepared, caplog):
    notes(note=lambda i: f"{i * 7919:09d}" + "!" * (i % 2) * 7)
    caplog.set_level("INFO")
    assert tokens(prepared(spec()), "x").shape == (1, 16)
    assert "notes.csv: the first 16 characters are read, enough for 99% of the training texts" in caplog.text


@pytest.mark.parametrize("sort", ["characters", "trigrams"])
def test_what_was_never_seen_and_what_is_empty_get_an_answer_that_is_saved_too(here, prepared, tmp_path, sort):
    from trainyard import models
    from trainyard.params import RNN
    from trainyard.training import features

    notes(
        note=lambda i: f"line {i * 7919:09d}\nand\ttab \u00a0\u2028 '\"{'sun' if i % 2 else 'rain'}"
    )  # line ends are tokens
    data = prepared(spec(tokens=sort))
    preprocessing = text.preprocessing(data.spec, data.facts, data.train)
    block = RNN(family="rnn", dataset="data", units=[4], bidirectional=True)
    model = preprocessing.join(models.build(block, features.seen(preprocessing), data.objective, data.units))
    asked = pd.DataFrame({"note": ["", "   ", "Ω" * 500, "猫犬", "sun\nrain"]})
    raw, _ = text.decode(data.spec, data.facts, asked)
    answer = saved.predict(model, raw)
    assert answer.shape == (5, 1)
    assert np.isfinite(answer).all()
    sha256 = saved.save(model, tmp_path / "one.keras", raw)
    assert saved.save(model, tmp_path / "two.keras", raw) == sha256
    reloaded = saved.load(tmp_path / "one.keras", sha256)
    assert reloaded.get_layer("tokens").get_vocabulary() == vocabulary(data)
    assert {"\n", "\t"} <= set("".join(vocabulary(data)))
    np.testing.assert_array_equal(saved.predict(reloaded, raw), answer)


# === What is asked ===


def test_rows_to_answer_are_decoded_by_their_column():
    table = pd.DataFrame({"about": ["?"] * 2, "note": ["", "so"]}, index=[7, 9])
    for frame in (table, table.astype(object)):
        raw, names = text.decode(spec(), {}, frame)
        assert raw["text"].tolist() == [[""], ["so"]]
        assert list(names) == [7, 9]
    assert text.decode(spec(), {}, table[:0])[0]["text"].shape == (0, 1)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"text": ["a"]}, "no column `note` in the rows to answer"),
        ({"note": ["a", None]}, "row 1: column `note`: "),
        ({"note": ["a", float("nan")]}, "row 1: column `note`: float (expected text)"),
        ({"note": [3]}, "row 0: column `note`: int (expected text)"),
        ({"note": ["a" * 100_001]}, "row 0: column `note`: more than 100,000 characters"),
        ({"note": ["a", "b\ud800"]}, "row 1: column `note`: half a surrogate pair, which is no text"),
    ],
)
def test_rows_that_cannot_be_answered_are_refused(refusal, table, told):
    assert told in refusal(lambda: text.decode(spec(), {}, pd.DataFrame(table, dtype=object)))


# === What it is compared with ===


def test_the_baselines_answer_the_test_split_and_mistakes_are_drawn(here, prepared):
    notes()
    data = prepared(spec())
    naive, classical = text.compared(data.spec, data)
    assert naive.answer.shape == classical.answer.shape == (len(data.test), 1)
    assert ((classical.answer[:, 0] > 0.5) == data.test.target).all()
    figure = text.mistakes(data.spec, data.facts, data.test, 1 - classical.answer)
    assert (
        figure.axes[0].get_title(loc="left") == f"{len(data.test)} of {len(data.test)} wrong answers, the surest first"
    )
