"""What each kind measures of old and later data, and how it reads data whose labels nobody knows yet."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import soundfile
from contracts.samples import SAMPLES
from PIL import Image

from trainyard import kinds
from trainyard.kinds import images, series, speech, text
from trainyard.params import Images, Series, Speech, Tables, Text

OBJECTIVE = {"series": "forecast", "speech": "transcription"}


@pytest.fixture(params=SAMPLES)
def sample(request, here):
    """A kind's block, its facts, and the manifests of what is trained on and of what is compared."""
    spec = SAMPLES[request.param](here, OBJECTIVE.get(request.param, "multiclass"))
    manifest = kinds.of(spec).manifest(spec)
    splits, facts = kinds.of(spec).split(spec, manifest, 1), kinds.of(spec).facts(spec, manifest)
    return spec, facts, manifest[splits == "train"], manifest[splits != "train"]


# === The contract ===


def test_every_example_is_measured(sample):
    spec, facts, train, held = sample
    found = kinds.of(spec).measures(spec, facts, train, held)
    assert found
    for name, values in found.items():
        assert isinstance(name, str)
        assert values.index.equals(held.index), name
        assert values.notna().to_numpy().mean() > 0.4, name
        if isinstance(values, pd.DataFrame):
            np.testing.assert_allclose(values.sum(axis=1), 1)


def test_what_is_measured_of_an_example_hangs_on_no_other(sample):
    spec, facts, train, held = sample
    if spec.kind == "series":
        pytest.skip("a row's error is measured by the one a season before")
    some = held.iloc[::3]
    whole, part = (kinds.of(spec).measures(spec, facts, train, rows) for rows in (held, some))
    for name, values in part.items():
        assert values.equals(whole[name].loc[some.index]), name


def test_its_own_data_is_read_as_data_that_came_later(sample):
    spec, facts, train, held = sample
    found = kinds.of(spec).fresh(spec, facts)
    whole = pd.concat([train, held]).loc[found.index]
    for column in found:
        if column != "split":
            pd.testing.assert_series_equal(found[column], whole[column], check_dtype=False)


def test_units_are_the_groups_or_else_what_is_alike(sample):
    spec, _, _, held = sample
    units = kinds.units(spec, held)
    assert units.index.equals(held.index)
    assert units.nunique() == (held["who"].nunique() if spec.kind == "speech" else len(held))


# === Tables ===


def people(path, **columns):
    pd.DataFrame(columns).to_csv(path, index=False)
    return Tables(kind="tables", objective="binary", path=str(path), target="ill", group="house", ignore=["id"])


def later(old, path):
    manifest = kinds.of(old).manifest(old)
    return kinds.later(old, kinds.of(old).facts(old, manifest), manifest, Path(path))


@pytest.fixture
def old_people(here):
    rng = np.random.default_rng(0)
    age, colour = rng.normal(40, 9, 60).round(1), rng.choice(["red", "green"], 60)
    house, ill = np.arange(60) // 2, rng.choice(["yes", "no"], 60)
    return people("people.csv", id=np.arange(60), age=age, colour=colour, house=house, ill=ill)


def test_rows_without_a_label_or_a_column_that_is_ignored_are_read(old_people):
    people("new.csv", colour=["red", "blue", None], house=[1, 2, 3], age=[1, None, 3])
    block, found = later(old_people, "new.csv")
    assert block.path == "new.csv"
    assert found["age"].tolist() == pytest.approx([1, np.nan, 3], nan_ok=True)
    assert found["colour"].tolist()[:2] == ["red", "blue"]
    assert found["colour"].isna().tolist() == [False, False, True]
    measured = kinds.of(block).measures(block, {"numeric": ["age"], "categorical": ["colour"]}, found, found)
    assert set(measured) == {"age", "colour", "age missing", "colour missing"}
    assert measured["age missing"].tolist() == [0, 1, 0]


def test_labels_that_are_known_are_measured_those_that_are_not_are_unknown(old_people):
    people("new.csv", id=[1, 2], colour=["red", "red"], house=[1, 2], age=[1, 2], ill=["yes", None])
    block, found = later(old_people, "new.csv")
    measured = kinds.of(block).measures(block, {"numeric": ["age"], "categorical": ["colour"]}, found, found)
    assert measured["ill"].isna().tolist() == [False, True]


def test_a_column_of_numbers_stays_one_and_is_refused_where_it_is_none(old_people, refusal):
    people("new.csv", colour=["red"] * 3, house=[1, 2, 3], age=["old", "young", "12"])
    told = refusal(lambda: later(old_people, "new.csv"))
    assert told.startswith("new.csv:2: column `age`: 'old' is no number; 2 such cells")
    people("new.csv", colour=["red"], house=[1])
    assert refusal(lambda: later(old_people, "new.csv")).startswith("new.csv:1: no column `age`")
    people("new.csv", colour=["red"], age=[1])
    assert refusal(lambda: later(old_people, "new.csv")).startswith("new.csv:1: no column `house`")


# === Images ===


def painted(folder, *levels, size=(12, 10)):
    """Files of one colour each, red, green and blue from 0 to 255."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, colour in enumerate(levels):
        Image.new("RGB", size[::-1], colour).save(folder / f"{number}.png")


def pets(here, **knobs):
    painted(here / "pets/cat", *[(i, 0, 0) for i in range(12)])
    painted(here / "pets/dog", *[(0, i, 9) for i in range(12)])
    return Images(**{"kind": "images", "objective": "binary", "path": "pets"} | knobs)


def test_images_are_measured_as_they_look(here):
    spec = pets(here)
    painted(here / "new/cat", (255, 0, 0), (51, 51, 51))
    board = np.indices((12, 10)).sum(axis=0) % 2 * 255
    Image.fromarray(np.repeat(board[..., None], 3, axis=2).astype(np.uint8)).save(here / "new/cat/2.jpg", quality=100)
    block, found = later(spec, "new")
    measured = images.measures(block, {"shape": [12, 10, 3]}, found, found)
    red, grey, checked = (pd.DataFrame(measured).loc[f"cat/{name}"] for name in ("0.png", "1.png", "2.jpg"))
    assert red[["brightness", "contrast", "saturation", "warmth"]].tolist() == pytest.approx([1 / 3, 0, 1, 1])
    assert grey[["brightness", "contrast", "saturation", "warmth"]].tolist() == pytest.approx([0.2, 0, 0, 0])
    assert checked["brightness"] == pytest.approx(0.5, abs=0.01)
    assert checked["contrast"] == pytest.approx(0.5, abs=0.01)
    assert checked["sharpness"] > red["sharpness"] == pytest.approx(np.log(1e-6))
    assert red[["width", "height", "format", "label"]].tolist() == [10, 12, "PNG", "cat"]
    assert checked["format"] == "JPEG"


def test_grey_images_have_no_colour(here):
    spec = pets(here, channels=1)
    _, found = later(spec, "pets")
    assert {"saturation", "warmth"}.isdisjoint(images.measures(spec, {"shape": [12, 10, 1]}, found, found))


def test_images_without_class_folders_are_read_and_have_no_label(here, refusal):
    spec = pets(here, group=r"(\d)\.png")
    painted(here / "new", (1, 2, 3), (4, 5, 6))
    block, found = later(spec, "new")
    assert found.index.tolist() == ["0.png", "1.png"]
    assert "label" not in found
    assert kinds.units(block, found).tolist() == ["0", "1"]
    (here / "new/notes.txt").write_text("a note")
    assert "new/notes.txt: expected PNG or JPEG files only" in refusal(lambda: later(spec, "new"))


def test_images_of_another_size_are_refused_where_all_have_one(here, refusal):
    spec = pets(here)
    painted(here / "new", (1, 2, 3), size=(5, 5))
    block, found = later(spec, "new")
    told = refusal(lambda: images.measures(block, {"shape": [12, 10, 3]}, found, found))
    assert told == "new/0.png: 5x5 pixels (expected 12x10)"


# === Series ===


def tides(path, start, values, **columns):
    days = pd.date_range(start, periods=len(values), freq="D").strftime("%Y-%m-%d")
    pd.DataFrame({"day": days, "level": values, **columns}).to_csv(path, index=False)
    return Series(kind="series", path=str(path), time="day", target="level", window=4, season=7)


def test_a_series_is_measured_against_its_season_in_training(here):
    week = np.arange(7.0)
    old = tides("old.csv", "2024-01-01", np.tile(week, 20))
    manifest = series.manifest(old)
    tides("new.csv", "2024-05-25", [*(np.tile(week, 3) + 10)[5:], 99])  # a gap of five days, and in the same phase
    block, found = later(old, "new.csv")
    measured = series.measures(block, series.facts(old, manifest), manifest[:84], found)
    assert measured["level level"].tolist()[:-1] == pytest.approx([10] * 16)
    error = measured["level error of the seasonal naive"]
    assert error[:7].isna().all()
    assert error[7:].tolist() == pytest.approx([0] * 9 + [99 - 10])


def test_only_rows_later_than_the_old_ones_are_new(here, refusal):
    old = tides("old.csv", "2024-01-01", np.arange(30.0))
    tides("grown.csv", "2024-01-01", np.arange(35.0))
    _, found = later(old, "grown.csv")
    assert found["level"].tolist() == [30, 31, 32, 33, 34]
    told = refusal(lambda: later(old, "old.csv"))
    assert told == "old.csv: no row is later than 2024-01-30T00:00:00, the last one of old.csv"


def test_gaps_of_a_series_are_measured(here):
    old = tides("old.csv", "2024-01-01", np.arange(30.0))
    tides("new.csv", "2024-02-01", [1, None, 3, None, 5, 6, 7, 8])
    block, found = later(old, "new.csv")
    measured = series.measures(block, {"season": 1, "step": None}, series.manifest(old), found)
    assert measured["level missing"].tolist() == [0, 1, 0, 1, 0, 0, 0, 0]


# === Text ===


def notes(path, texts, **columns):
    pd.DataFrame({"note": texts, **columns}).to_csv(path, index=False)


def test_texts_are_measured_by_the_words_of_training(here):
    notes("old.csv", ["The sun, the sea", "the rain"] * 9, about=["a", "b"] * 9)
    spec = Text(kind="text", objective="binary", path="old.csv", text="note", target="about", tokens="words")
    notes("new.csv", ["The snow!", "sea SEA ice", "..."])
    block, found = later(spec, "new.csv")
    assert "about" not in found
    measured = text.measures(block, {}, text.manifest(spec), found)
    assert measured["number of words"].tolist() == [2, 3, 0]
    assert measured["unknown words"].tolist() == pytest.approx([1 / 2, 1 / 3, 0])
    shares = measured["which words"]
    assert list(shares) == ["the", "rain", "sea", "sun", "any other"]
    assert shares["sea"].tolist() == pytest.approx([0, 2 / 3, 0])
    assert shares["any other"].tolist() == pytest.approx([1 / 2, 1 / 3, 0])


@pytest.mark.parametrize("how", ["characters", "trigrams", "words"])
def test_tokens_are_those_that_keras_reads(how):
    spec = Text(kind="text", objective="binary", path="a.csv", text="note", target="about", tokens=how)
    said = "Ein ÄFFCHEN, e-mail: 3.50€!  \nHäuser & “Dächer” um 10\u00a0000\u2003Schritte"
    layer = keras.layers.TextVectorization(output_mode="int", ragged=True, **text.TOKENS[how])
    layer.adapt([said])
    known = np.array(layer.get_vocabulary())
    theirs = [known[number] for number in np.asarray(layer([said]).to_list()[0])]
    ours = text._tokens(spec, said)
    assert [" ".join(token) if how == "trigrams" else token for token in ours] == theirs


# === Speech ===


def recordings(folder, *sounds, rows="file,who"):
    folder.mkdir()
    lines = [rows]
    for number, sound in enumerate(sounds):
        soundfile.write(folder / f"{number}.wav", sound, 8000, subtype="FLOAT")
        lines.append(f"{number}.wav,p{number}")
    (folder / "transcripts.csv").write_text("\n".join(lines) + "\n")


def tone(hertz, seconds, power):
    """A tone of this mean power, in decibels of full scale."""
    return 10 ** (power / 20) * np.sqrt(2) * np.sin(2 * np.pi * hertz * np.arange(round(8000 * seconds)) / 8000)


def test_recordings_without_transcripts_are_measured_as_they_sound(here):
    spec = Speech(kind="speech", path="new", group="who")
    quiet = np.concatenate([tone(1000, 0.5, -60), tone(1000, 0.5, -10)])
    recordings(here / "new", tone(500, 1, -20), quiet, np.zeros(4000))
    found = speech.fresh(spec, {})
    assert speech.groups(spec, found).tolist() == ["p0", "p1", "p2"]
    measured = pd.DataFrame(speech.measures(spec, {}, found, found))
    assert measured["loudness"].tolist() == pytest.approx([-20, -13, -120], abs=0.1)
    assert measured["noise floor"].tolist() == pytest.approx([-20, -60, -120], abs=0.2)
    assert measured["spectral centroid"].tolist() == pytest.approx([500, 1000, 0], abs=20)
    assert measured["seconds"].tolist() == [1, 1, 0.5]


def test_recordings_whose_speaker_is_not_named_are_refused_where_speakers_are_groups(here, refusal):
    recordings(here / "new", tone(500, 1, -20), rows="file,person")
    told = refusal(lambda: speech.fresh(Speech(kind="speech", path="new", group="who"), {}))
    assert told.startswith("new/transcripts.csv:1: no column `who`")
