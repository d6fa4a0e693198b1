"""Each kind masks all that is there, part by part; what a model looks at is found where that is known."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import soundfile
from contracts.samples import SAMPLES
from contracts.samples import prepared as sample
from keras import layers, ops
from PIL import Image

from trainyard import figures, kinds, params
from trainyard.kinds import text
from trainyard.models import saved
from trainyard.quality import importance, intervals
from trainyard.quality.importance import Part

OBJECTIVE = {"series": "forecast", "speech": "transcription"}
RNG = np.random.default_rng(3)


def masked(data, seed=1):
    return list(kinds.of(data.spec).masked(data.spec, data.facts, data.train, data.test, seed))


# === The contract ===


@pytest.fixture(params=SAMPLES)
def data(request, tmp_path):
    return sample(tmp_path / "data", request.param, OBJECTIVE.get(request.param, "multiclass"))


def test_what_is_masked_is_what_the_saved_model_takes(data):
    for found in masked(data):
        assert found.raw.keys() == data.test.raw.keys()
        assert len(found.places)
        for name, values in found.raw.items():
            whole = data.test.raw[name][found.places]
            assert (values.shape, values.dtype) == (whole.shape, whole.dtype)


def test_one_example_is_asked_again_without_each_of_its_parts(data):
    kind = kinds.of(data.spec)
    one = {name: np.asarray(values[:1]) for name, values in data.test.raw.items()}
    before = {name: values.copy() for name, values in one.items()}
    found = dict(kind.without(data.spec, data.facts, one))
    words = len(set(str(one["text"][0, 0]).split())) if "text" in one else 0
    assert len(found) == {"tables": 3, "images": 16, "series": 24, "text": words, "speech": 6}[data.spec.kind]
    for without in found.values():
        assert without.keys() == one.keys()
        for name, values in without.items():
            assert (values.shape, values.dtype.kind) == (one[name].shape, one[name].dtype.kind)
    changed = [any(not np.array_equal(without[name], one[name]) for name in one) for without in found.values()]
    assert sum(changed) >= len(changed) - (data.spec.kind == "tables")  # a cell may be missing already
    for name, values in one.items():
        np.testing.assert_array_equal(values, before[name])


def test_masking_leaves_the_examples_as_they_are_and_is_the_same_each_time(data):
    before = {name: values[np.arange(len(values))] for name, values in data.test.raw.items()}
    first, again = masked(data), masked(data)
    for name, values in data.test.raw.items():
        np.testing.assert_array_equal(values[np.arange(len(values))], before[name])
    assert [part.part for part in first] == [part.part for part in again]
    assert len({part.part for part in first}) == len(first)
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.places, two.places)
        for name in one.raw:
            np.testing.assert_array_equal(one.raw[name], two.raw[name])


def test_the_parts_are_drawn_in_the_same_bytes(data, tmp_path):
    kind, answer = kinds.of(data.spec), given(data, np.arange(len(data.test)))
    parts = [Part(found.part, found.places, given(data, found.places)) for found in masked(data)]
    table = importance.table(data.objective, data.test.rows, data.test.target, answer, parts)
    for file in ("a.png", "b.png"):
        figures.save(kind.importances(data.spec, data.test, answer, parts, table), tmp_path / file)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def given(data, places):
    """An answer to these test examples, whatever it is."""
    if not data.objective.classifies:
        return data.test.target[places]
    return np.random.default_rng(len(places)).dirichlet(np.ones(len(data.classes)), len(places))


def test_a_few_examples_are_drawn_by_the_seed_within_their_room(data, monkeypatch):
    places = kinds.few(data.test, 1, 5)
    assert len(set(places)) == 5
    assert sorted(places) == list(places)
    assert (kinds.few(data.test, 1, 5) == places).all()
    assert (kinds.few(data.test, 2, 5) != places).any()
    assert kinds.few(data.test, 1).tolist() == list(range(len(data.test)))
    monkeypatch.setattr(kinds, "FEW_BYTES", 1)
    assert len(kinds.few(data.test, 1)) == 1


# === All that is there is masked, once ===


def test_each_column_of_a_table_has_the_values_of_other_rows(tmp_path):
    data = sample(tmp_path / "data", "tables", "binary")
    parts = masked(data)
    assert [part.part for part in parts] == ["size", "weight", "colour"]
    for part in parts:
        for name, values in part.raw.items():
            before = data.test.raw[name][part.places]
            assert sorted(map(str, values[:, 0])) == sorted(map(str, before[:, 0]))
            assert (not np.array_equal(values.astype(str), before.astype(str))) == (name == f"column {part.part}")


def test_of_many_columns_neighbours_are_masked_together(tmp_path, monkeypatch):
    monkeypatch.setattr("trainyard.kinds.tables.MOST_PARTS", 2)
    data = sample(tmp_path / "data", "tables", "binary")
    assert [part.part for part in masked(data)] == ["size ... weight", "colour"]
    one = {name: np.asarray(values[:1]) for name, values in data.test.raw.items()}
    without = dict(kinds.of(data.spec).without(data.spec, data.facts, one))
    assert list(without) == ["size ... weight", "colour"]
    both = without["size ... weight"]
    assert np.isnan([both["column size"][0, 0], both["column weight"][0, 0]]).all()
    assert both["column colour"] == one["column colour"]


@pytest.mark.parametrize(("shape", "count"), [((32, 32), 16), ((10, 7), 16), ((3, 2), 6)])
def test_each_pixel_is_in_one_patch(prepared, shape, count):
    for name in ("black", "white"):
        Path("images", name).mkdir(parents=True)
        for i in range(20):
            pixels = np.full((*shape, 3), 255 - i if name == "white" else i)
            Image.fromarray(pixels.astype(np.uint8)).save(f"images/{name}/{i}.png")
    data = prepared(params.Images(kind="images", objective="binary", path="images", group=r"(\d+)\.png"))
    parts, before = masked(data), data.test.raw["image"][:]
    changed = np.sum([(part.raw["image"] != before).all(axis=(0, 3)) for part in parts], axis=0)
    assert len(parts) == count
    np.testing.assert_array_equal(changed, np.ones(shape))


@pytest.mark.parametrize("most", [24, 7, 1])
def test_each_lag_of_each_column_is_in_one_part(tmp_path, monkeypatch, most):
    monkeypatch.setattr("trainyard.kinds.series.MOST_PARTS", most)
    data = sample(tmp_path / "data", "series", "forecast")
    parts = masked(data)
    changed = np.sum([(part.raw["window"] != data.test.raw["window"][:]).any(axis=0) for part in parts], axis=0)
    np.testing.assert_array_equal(changed, np.ones((12, 2)))
    assert len(parts) == {24: 24, 7: 6, 1: 2}[most]
    assert parts[0].part == {24: "level, lag 12", 7: "level, lags 9 to 12", 1: "level, lags 1 to 12"}[most]
    mean = data.train.raw["window"][:].mean(axis=0)
    np.testing.assert_allclose(parts[-1].raw["window"][:, -1, 1], mean[-1, 1], rtol=1e-5)


def test_the_bands_of_a_recording_are_all_of_its_sound(tmp_path):
    data = sample(tmp_path / "data", "speech", "transcription")
    parts, samples = masked(data), data.test.raw["samples"][:]
    taken = np.sum([samples - part.raw["samples"] for part in parts], axis=0)
    np.testing.assert_allclose(taken, samples, atol=1e-5)
    assert parts[0].part.startswith("0 to ")
    assert parts[-1].part.endswith(f" to {data.spec.rate // 2} Hz")
    beyond = np.arange(samples.shape[1]) >= data.test.raw["length"]
    assert beyond.any()
    assert all((part.raw["samples"][beyond] == 0).all() for part in parts)


def test_a_word_is_taken_out_wherever_it_stands(prepared):
    texts = ["Sun, sea and SUN!", "sunny (sun)", "the sun", "sun", " a  sun\n\tb "]
    pd.DataFrame({"said": [*texts, *"abcdefghijklmno"], "place": ["x", "y"] * 10, "part": "train"}).assign(
        part=["test"] * 5 + ["train"] * 10 + ["validation"] * 5
    ).to_csv("text.csv", index=False)
    spec = params.Text(
        kind="text", objective="binary", path="text.csv", text="said", target="place", split={"given": "part"}
    )
    (part,) = masked(prepared(spec))
    assert part.part == "sun"
    assert len(part.places) == text.LEAST_TEXTS == intervals.LEAST_UNITS
    assert part.raw["text"][:, 0].tolist() == ["sea and ", "sunny ", "the ", "", " a  b "]


# === Planted truth ===


def told(data, model):
    """The table of parts for a model that takes raw values; `model` is a Keras model or a function."""
    ask = (lambda raw: saved.predict(model, raw)) if isinstance(model, keras.Model) else model
    parts = [Part(found.part, found.places, ask(found.raw)) for found in masked(data)]
    answer = ask(data.test.raw)
    return importance.table(data.objective, data.test.rows, data.test.target, answer, parts)


def alone_matters(table, name):
    assert table.index[0] == name
    assert table["low"].iloc[0] > 0
    rest = table.iloc[1:]
    assert (rest["low"] <= 0).all()
    assert (rest["high"] >= 0).all()


def test_the_column_that_makes_the_label_is_found(prepared):
    frame = pd.DataFrame(RNG.normal(size=(600, 3)), columns=["signal", "noise", "unseen"])
    frame["ill"] = np.where(frame["signal"] > 0, "yes", "no")
    frame.to_csv("table.csv", index=False)
    data = prepared(params.Tables(kind="tables", objective="binary", path="table.csv", target="ill", positive="yes"))
    inputs = {name: keras.Input((1,), name=name) for name in data.test.raw}
    seen = inputs["column signal"] + 0.2 * inputs["column noise"]  # which errs by the noise, with it or another row's
    table = told(data, keras.Model(inputs, ops.sigmoid(9 * seen)))
    alone_matters(table, "signal")
    assert table.loc["noise", "low"] < 0 < table.loc["noise", "high"]
    assert table.loc["unseen", "drop"] == 0
    assert table.loc["unseen", "low"] < 0 < table.loc["unseen", "high"] < 0.05


@pytest.fixture
def spotted(prepared):
    """Images that are lit by a spot in the upper right corner, or not."""
    for name in ("dark", "lit"):
        Path("images", name).mkdir(parents=True)
        for i in range(60):
            pixels = RNG.integers(0, 60, (16, 16))
            pixels[1:3, 13:15] += 190 * (name == "lit")
            Image.fromarray(pixels.astype(np.uint8)).save(f"images/{name}/{i}.png")
    return prepared(params.Images(kind="images", objective="binary", path="images", channels=1, positive="lit"))


def test_the_patch_with_the_spot_is_found(spotted):
    image = keras.Input((16, 16, 1), dtype="uint8", name="image")
    spot = ops.mean(ops.cast(image, "float32")[:, 1:3, 13:15], axis=(1, 2))
    model = keras.Model({"image": image}, ops.sigmoid(spot - 127))
    alone_matters(told(spotted, model), "row 1, column 4")


def test_the_map_of_an_image_shows_where_its_answer_hangs(spotted):
    test = spotted.test
    places, target = np.arange(len(test)), test.target
    sure = np.where(target == 1, 0.9, 0.1)[:, None]
    parts = [Part(part.part, places, sure.copy()) for part in masked(spotted)]
    parts[5].answer[3] = 1 - sure[3]
    table = importance.table(spotted.objective, test.rows, target, sure, parts)
    mean, first, *_ = kinds.of(spotted.spec).importances(spotted.spec, test, sure, parts, table).axes
    assert first.get_title() == Path(test.rows.index[3]).name
    (shade,) = first.collections
    np.testing.assert_allclose(np.ravel(shade.get_alpha()), np.where(np.arange(16) == 5, 0.6 * 0.8, 0), atol=1e-9)
    assert [text.get_text() for text in mean.texts] == [
        f"{1 / len(places):.2f}" if i == 5 else "0.00" for i in range(16)
    ]


def test_the_last_lag_of_a_random_walk_is_found(prepared):
    level = np.cumsum(RNG.normal(size=400))
    frame = pd.DataFrame(
        {"day": pd.date_range("2020-01-01", periods=400), "level": level, "wind": RNG.normal(size=400)}
    )
    frame.to_csv("series.csv", index=False)
    columns = ["level", "wind"]
    spec = params.Series(
        kind="series", path="series.csv", time="day", target="level", columns=columns, window=6, horizon=2
    )
    window = keras.Input((6, 2), name="window")
    last = ops.tile(window[:, -1, :1], (1, 2))
    alone_matters(told(prepared(spec), keras.Model({"window": window}, last)), "level, lag 1")


def test_the_word_that_makes_the_class_is_found(prepared):
    others = ["the", "of", "and"]
    texts = [" ".join(RNG.permutation(["sun" if i % 2 else "rain", *others])) for i in range(80)]
    numbered = [f"{text} {i}" for i, text in enumerate(texts)]
    pd.DataFrame({"said": numbered, "sky": ["grey", "blue"] * 40}).to_csv("text.csv", index=False)
    spec = params.Text(
        kind="text", objective="binary", path="text.csv", text="said", target="sky", positive="blue", similar=1.0
    )
    said = keras.Input((1,), dtype="string", name="text")
    found = layers.TextVectorization(vocabulary=["sun"], output_mode="multi_hot")(said)
    blue = ops.sigmoid(9 * ops.cast(found, "float32")[:, -1:] - 4)
    table = told(prepared(spec), keras.Model({"text": said}, blue))
    alone_matters(table, "sun")
    assert table.loc["sun", "drop"] == 1
    assert table.loc["rain", "drop"] == 0  # what it takes for grey is that there is no sun
    assert set(table.index) == {"sun", "rain", *others}


def test_the_band_with_all_the_speech_is_found(prepared):
    Path("speech").mkdir()
    rows, time = [], np.arange(2400) / 8000
    for i in range(60):
        said = "a" if i % 2 else "b"
        hum = 0.3 * np.sin(2 * np.pi * 2500 * time) + RNG.normal(0, 0.003, 2400)
        soundfile.write(f"speech/{i}.flac", hum + (said == "a") * 0.3 * np.sin(2 * np.pi * 600 * time), 8000)
        rows.append((f"{i}.flac", said, i))
    pd.DataFrame(rows, columns=["file", "transcript", "take"]).to_csv("speech/transcripts.csv", index=False)

    def hear(raw):
        spectrum = np.abs(np.fft.rfft(raw["samples"][np.arange(len(raw["samples"]))]))
        hertz = np.fft.rfftfreq(raw["samples"].shape[1], 1 / 8000)
        return np.where(spectrum[:, (hertz > 500) & (hertz < 700)].max(axis=1) > 50, "a", "b").astype(object)

    table = told(prepared(params.Speech(kind="speech", path="speech", group="take")), hear)
    alone_matters(table, table.index[0])
    low, high = (float(end) for end in table.index[0].removesuffix(" Hz").split(" to "))
    assert low < 600 < high
    assert (table["drop"].iloc[1:] == 0).all()
