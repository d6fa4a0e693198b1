import difflib
import logging
import os
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from ruamel.yaml import YAML

from trainyard import cli, draft, params
from trainyard.errors import BadInput
from trainyard.stages.prepare import prepare
from trainyard.stages.validate import validate

REPOSITORY = Path(__file__).parent.parent
REAL = os.environ.get("TRAINYARD_REAL_SETS")


PARAMS = """\
# mine
datasets:
  old: {kind: images, path: old, objective: binary}   # cats and dogs

train:
  first: {family: cnn, dataset: old}
finetune: {}
evaluate:
  first: {dataset: old}
"""


@pytest.fixture
def project(here):
    """Params, and no data."""
    (here / "params.yaml").write_text(PARAMS)
    return here


@pytest.fixture
def drafted(project, caplog):
    """Drafts a path, runs validate and prepare on it, and gives dataset block, model block and the lines told."""

    def run(path, name=None):
        known = {section: set(names) for section, names in blocks().items() if isinstance(names, dict)}
        with caplog.at_level(logging.INFO):
            draft.init(Path(path), name, params.load())
        told = [record.getMessage() for record in caplog.records if record.name == "trainyard.draft"]
        (new,) = set(blocks()["datasets"]) - known["datasets"]
        loaded = params.load()
        validate(new, loaded)
        prepare(new, loaded)
        model = blocks()["train"].get(new) or blocks()["finetune"].get(new)
        assert blocks()["evaluate"][new] == {"dataset": model["dataset"]} == {"dataset": new}
        return blocks()["datasets"][new], model, [line.removeprefix(f"{new}: ") for line in told]

    return run


def blocks():
    return YAML(typ="safe").load(Path("params.yaml"))


def csv(path, columns, delimiter=",", header=True):
    pd.DataFrame(columns).to_csv(path, index=False, sep=delimiter, header=header)
    return path


def hours(n, start="2020-01-01"):
    return pd.date_range(start, periods=n, freq="h").strftime("%Y-%m-%dT%H:%M:%SZ")


def wave(n, step=0.0):
    return (np.sin(np.arange(n) / 4) * 10 + step).round(2)


def picture(path, size=(32, 32), mode="RGB", seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)).save(path)


def recording(path, seed=0, rate=8000, seconds=0.5):
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.5, 0.5, int(rate * seconds)), rate)


# === Tables ===


def test_grades_are_a_regression_whatever_the_delimiter(drafted):
    rng = np.random.default_rng(0)
    acid, sugar = rng.uniform(4, 15, 60).round(1), np.where(np.arange(60) == 7, np.nan, rng.uniform(1, 9, 60).round(2))
    csv("Wine Quality (red).csv", {"acid": acid, "sugar": sugar, "quality": rng.integers(3, 9, 60)}, ";")
    dataset, model, told = drafted("Wine Quality (red).csv")
    expected = {column["column"]: column for column in dataset.pop("expect")}
    assert dataset == {
        "kind": "tables",
        "path": "Wine Quality (red).csv",
        "delimiter": ";",
        "target": "quality",
        "objective": "regression",
    }
    assert model["dataset"] == "wine-quality-red"
    assert (model["family"], model["epochs"], model["early_stopping"]) == ("mlp", 60, {"patience": 10})
    assert expected["acid"]["not_null"]
    assert "not_null" not in expected["sugar"]
    low, high = expected["sugar"]["between"]
    assert 0 <= low <= np.nanmin(sugar) < np.nanmax(sugar) <= high <= 20
    assert told[:-2] == [
        "kind tables: 3 of 3 columns are numbers, and there is neither a series nor free text",
        "delimiter ';': it cuts all rows into 3 cells",
        "target `quality`: by its name",
        "objective regression: 6 whole numbers with an order, by the name (or multiclass, with no `between` expected)",
        "3 expectation(s), ranges wide around what is there, lists of just that: adjust them",
    ]
    assert told[-1].startswith("params.yaml: added datasets.wine-quality-red, train.wine-quality-red and evaluate.")


def test_what_a_model_cannot_learn_from_is_ignored_and_expected(drafted):
    n = 120
    columns = {
        "id": np.arange(5, 5 + n),
        "name": [f"name of {i}" for i in range(n)],
        "age": [20 + i % 37 + i / 100 for i in range(n)],
        "colour": ["red" if i % 3 else "green" for i in range(n)],
        "code": [f"{i}" if i % 9 else "x7" for i in range(n)],
        "blank": [""] * n,
        "city": [f"c{i % 80}" for i in range(n)],
        "weight": [f"{i / 7:.2f}" if i % 11 else "?" for i in range(n)],
        "smokes": ["yes" if i % 4 else "no" for i in range(n)],
    }
    csv("people.csv", columns)
    dataset, _, told = drafted("people.csv")
    assert dataset["ignore"] == ["id", "name", "code", "blank", "city"]
    assert dataset["missing"] == ["", "NA", "?"]
    assert (dataset["target"], dataset["objective"], dataset["positive"]) == ("smokes", "binary", "yes")
    assert "missing: also cells of `?`" in told
    assert "target `smokes`: the last column that is not ignored and has no missing cell" in told
    assert "objective binary: two values; positive `yes`: by its name" in told
    assert (
        "ignored: `id` (an id in each row), `name` (an id in each row), `code` (not all are numbers), `blank` (empty), "
        "`city` (80 texts)"
    ) in told
    suite = {column["column"]: column for column in dataset["expect"]}
    assert suite["name"] == {"column": "name", "unique": True, "not_null": True}
    assert suite["colour"] == {"column": "colour", "one_of": ["green", "red"], "not_null": True}
    assert "blank" not in suite
    assert "not_null" not in suite["weight"]


@pytest.mark.parametrize(
    ("name", "values", "objective", "told"),
    [
        ("class", [f"k{i % 3}" for i in range(60)], "multiclass", "objective multiclass: 3 values"),
        ("kind", [str(i % 4) for i in range(60)], "multiclass", "4 whole numbers (if they have an order: regression)"),
        ("price", [f"{i}.5" for i in range(60)], "regression", "objective regression: 60 different numbers"),
        ("flag", [i % 7 == 0 for i in range(60)], "binary", "two values; positive `True`: by its name"),
        ("side", ["ab"[i % 5 == 0] for i in range(60)], "binary", "two values; positive `b`: the rarer"),
    ],
)
def test_the_objective_is_told_by_the_values(drafted, name, values, objective, told):
    csv("d.csv", {"x": np.arange(60) % 13 + np.arange(60) / 100, name: values})
    dataset, _, lines = drafted("d.csv")
    assert (dataset["target"], dataset["objective"]) == (name, objective)
    assert any(told in line for line in lines)


def test_a_column_that_says_the_split_is_taken_with_what_both_parts_share(drafted):
    rows = [(i % 7, "ab"[i % 2], "train" if i % 3 else "test") for i in range(60)]
    csv("adult.csv", dict(zip(("x", "class", "part"), zip(*rows, strict=True), strict=True)))
    dataset, _, told = drafted("adult.csv")
    assert dataset["split"] == {"given": "part"}
    assert dataset["audit"] == "warn"
    assert "split as given, by column `part`" in told
    assert any(line.startswith("audit warn: it would be refused for ") for line in told)


def test_people_that_come_again_are_groups(drafted):
    n = 120
    csv("visits.csv", {"patient": [f"p{i // 3}" for i in range(n)], "x": wave(n), "ill": np.arange(n) % 2})
    dataset, _, told = drafted("visits.csv")
    assert dataset["group"] == "patient"
    assert "ignore" not in dataset
    assert "group `patient`, by its name: none of the 40 is in two splits" in told


def test_a_file_without_a_header_gets_names(drafted):
    csv("iris.data", {"a": wave(60), "b": wave(60, 1), "c": [f"k{i % 3}" for i in range(60)]}, header=False)
    dataset, _, told = drafted("iris.data")
    assert dataset["names"] == ["column1", "column2", "column3"]
    assert dataset["target"] == "column3"
    assert "names: the first row is data, not a header" in told


def test_years_are_names(drafted):
    rows = {f"{2019 + i}": wave(40, i) for i in range(3)}
    csv("growth.csv", {"country": [f"c{i % 4}" for i in range(40)], **rows})
    dataset, _, _ = drafted("growth.csv")
    assert "names" not in dataset
    assert dataset["target"] == "2021"


def test_a_name_in_quotation_marks_stays_one_cell(drafted):
    rows = [f'"Smith, {"ABCD"[i % 4]}",{i * 7 % 11}.5,{"ab"[i % 2]}' for i in range(40)]
    Path("people.csv").write_text("\n".join(["name,size,class", *rows]))
    dataset, _, _ = drafted("people.csv")
    assert (dataset["kind"], dataset["target"], "names" in dataset) == ("tables", "class", False)
    assert dataset["expect"][0]["one_of"] == [f"Smith, {letter}" for letter in "ABCD"]


def test_dates_that_make_no_series_are_told(drafted):
    days = pd.date_range("2020-01-01", periods=80).strftime("%Y-%m-%d")[::-1]
    csv("stocks.csv", {"Date": days, "volume": wave(80), "up": np.arange(80) * 7 % 3 % 2})
    dataset, _, told = drafted("stocks.csv")
    assert (dataset["kind"], dataset["ignore"]) == ("tables", ["Date"])
    assert any(line.startswith("`Date` holds dates, and no series: they do not ascend") for line in told)


def test_a_column_that_says_train_and_test_is_no_label_of_texts(drafted):
    review = [f"a long and quiet review with number {i} of a film that I saw" for i in range(60)]
    part = ["train", "train", "validation", "test"] * 15
    csv("films.csv", {"review": review, "stars": wave(60), "score": np.arange(60) / 7, "part": part})
    dataset, _, _ = drafted("films.csv")
    assert (dataset["kind"], dataset["target"], dataset["split"]) == ("tables", "score", {"given": "part"})


def test_what_grows_by_more_than_one_a_row_is_no_counter(drafted):
    csv("cases.csv", {"date": hours(300), "total_cases": np.cumsum(np.arange(300) % 5 + 1)})
    dataset, _, _ = drafted("cases.csv")
    assert (dataset["kind"], dataset["target"]) == ("series", "total_cases")


def test_ids_in_any_order_and_blanks_among_numbers(drafted):
    ids = np.random.default_rng(0).permutation(60) + 1000
    size = [" " if i == 7 else f"{i * 7 % 11}.5" for i in range(60)]
    csv("cells.csv", {"id": ids, "size": size, "diagnosis": np.where(np.arange(60) % 2, "B", "M")})
    dataset, _, _ = drafted("cells.csv")
    assert (dataset["ignore"], dataset["missing"]) == (["id"], ["", "NA", " "])


def test_a_place_has_a_y_that_is_no_answer(drafted):
    csv("stones.csv", {"price": wave(60), "x": wave(60, 1), "y": wave(60, 2), "z": wave(60, 3)})
    assert drafted("stones.csv")[0]["target"] == "z"


def test_many_examples_get_fewer_epochs(drafted, monkeypatch):
    monkeypatch.setattr(draft, "MOST_SEEN", 500)
    csv("d.csv", {"x": wave(60), "y": wave(60, 1)})
    _, model, told = drafted("d.csv")
    assert model["epochs"] == 13
    assert "epochs 13: 36 training examples are many for two cores" in told


# === Series ===


def test_one_station_of_several_with_gaps(drafted):
    n = 24 * 30
    parts = [
        pd.DataFrame(
            {
                "station": name,
                "hour": np.arange(n) % 24,
                "temp": wave(n, shift),
                "gust": ["NA" if i % 3 else "5.5" for i in range(n)],
                "pressure": wave(n, 1000),
                "time_hour": hours(n),
            }
        ).drop(index=dropped)
        for name, shift, dropped in [("A", 0.0, [5, 90, 91]), ("B", 5.0, [100])]
    ]
    pd.concat(parts).to_csv("weather.csv", index=False)
    dataset, model, told = drafted("weather.csv")
    suite = dataset.pop("expect")
    assert dataset == {
        "kind": "series",
        "path": "weather.csv",
        "time": "time_hour",
        "where": {"station": "B"},
        "step": "h",
        "window": 48,
        "horizon": 6,
        "target": "temp",
        "columns": ["temp", "pressure"],
        "fill": 3,
    }
    assert [column["column"] for column in suite] == ["temp", "pressure"]
    assert not any("not_null" in column for column in suite)
    assert (model["family"], model["cell"]) == ("rnn", "gru")
    assert told[:-3] == [
        "kind series: `time_hour` holds times in order, one step (`h`) apart",
        "where station B: times come again for each of them, and this one has the most rows",
        "step h: the usual time between two rows; rows that are not there are missing",
        "window 48, horizon 6: a day is 24 rows",
        "target `temp`: by its name",
        "columns: 2 with numbers; left out: `gust` (67% missing)",
        "fill 3: short gaps take the last known value; windows with longer ones are left out",
    ]


@pytest.mark.parametrize(
    ("start", "frequency", "n", "dropped", "expected"),
    [
        ("1990-01-01", "MS", 360, [], {"window": 24, "horizon": 6}),
        ("1990-01-01", "MS", 360, [9], {"window": 24, "horizon": 6, "step": "MS", "fill": 3}),
        ("2020-01-01", "D", 400, [50], {"window": 28, "horizon": 7, "step": "D", "fill": 3}),
        ("2020-01-06", "B", 400, [50], {"window": 20, "horizon": 5, "step": "B", "fill": 3}),
        ("2015-01-04", "W", 800, [50], {"window": 52, "horizon": 4, "step": "W-SUN", "fill": 3}),
        ("2020-01-01", "10min", 4000, [], {"window": 144, "horizon": 36, "season": 144}),
        ("2020-01-01", "h", 200, [], {"window": 12, "horizon": 1}),
    ],
)
def test_window_and_step_go_by_the_time_between_rows(drafted, start, frequency, n, dropped, expected):
    times = pd.date_range(start, periods=n, freq=frequency)
    pd.DataFrame({"date": times, "level": wave(n)}).drop(index=dropped).to_csv("s.csv", index=False)
    dataset, _, _ = drafted("s.csv")
    found = {key: dataset.get(key) for key in ("window", "horizon", "step", "season", "fill") if key in dataset}
    assert found == expected
    assert dataset["target"] == "level"


@pytest.mark.parametrize("broken", ["no step", "no order", "classes"])
def test_times_alone_make_no_series(drafted, broken):
    rng = np.random.default_rng(0)
    times = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.cumsum(rng.integers(1, 10**6, 60)), unit="s")
    if broken == "classes":
        times = pd.date_range("2020-01-01", periods=60, freq="D")
    columns = {"at": times, "x": wave(60), "y" if broken != "classes" else "class": [f"k{i % 2}" for i in range(60)]}
    if broken == "no order":
        columns["at"] = times[rng.permutation(60)]
    dataset, _, told = drafted(csv("d.csv", columns))
    assert dataset["kind"] == "tables"
    assert any("ignored: `at`" in line for line in told)


# === Text ===


def test_messages_without_a_header_and_with_stray_marks(drafted):
    rng = np.random.default_rng(0)
    lines = []
    for i in range(60):
        words = ["".join(rng.choice(list("abcdefgh"), 5)) for _ in range(13)]
        mark = '"' if i % 7 == 0 else ""
        lines.append(f"{'ham' if i % 5 else 'spam'}\t{mark}{' '.join(words)}")
    Path("sms.tsv").write_text("\n".join(lines) + "\n")
    dataset, model, told = drafted("sms.tsv")
    suite = dataset.pop("expect")
    assert dataset == {
        "kind": "text",
        "path": "sms.tsv",
        "names": ["label", "text"],
        "delimiter": "\t",
        "text": "text",
        "target": "label",
        "objective": "binary",
        "positive": "spam",
        "tokens": "trigrams",
        "quoting": False,
    }
    assert suite[0] == {"column": "label", "one_of": ["ham", "spam"], "not_null": True}
    assert suite[1]["column"] == "characters"
    assert (model["family"], model["bidirectional"]) == ("rnn", True)
    assert told[:-3] == [
        "kind text: `column2` is free text, 13.0 words on average",
        "names: the first row is data, not a header",
        "delimiter '\\t': it cuts all rows into 2 cells",
        "target `column1`: the only column of a few values, none missing",
        "objective binary: two values; positive `spam`: the rarer",
        "tokens trigrams: texts of 8 to 60 words on average are read in overlapping pieces of three characters",
        "quoting false: quotation marks do not come in pairs around cells",
    ]


@pytest.mark.parametrize(("count", "tokens"), [(5, "characters"), (30, "trigrams"), (90, "words")])
def test_the_longer_the_texts_the_larger_the_tokens(drafted, count, tokens):
    rng = np.random.default_rng(0)
    texts = [" ".join("".join(rng.choice(list("abcdefgh"), 5)) for _ in range(count)) for _ in range(60)]
    pd.DataFrame({"said": texts, "about": [f"class {i % 3}" for i in range(60)]}).to_csv("said.csv", index=False)
    dataset, model, _ = drafted("said.csv")
    assert (dataset["kind"], dataset["tokens"]) == ("text", tokens)
    assert model.get("stride", 1) == (4 if tokens == "trigrams" else 1)


def remarks(n=60):
    rng = np.random.default_rng(0)
    return [" ".join("".join(rng.choice(list("abcdefgh"), 5)) for _ in range(10)) for _ in range(n)]


def test_a_text_beside_columns_that_tell_something_is_left_out_of_their_table(drafted):
    columns = {
        "id": [f"C{i}" for i in range(60)],
        "since": [f"2024-0{i % 3 + 1}-01" for i in range(60)],
        "age": ["" if i % 7 == 0 else 20 + i * 7 % 43 for i in range(60)],
        "plan": ["" if i % 9 == 0 else ("basic", "plus")[i * 5 % 3 % 2] for i in range(60)],
        "comment": remarks(),
        "churned": np.where(np.arange(60) % 4, "no", "yes"),
    }
    csv("churn.csv", columns)
    dataset, _, told = drafted("churn.csv")
    assert (dataset["kind"], dataset["target"]) == ("tables", "churned")
    assert dataset["ignore"] == ["id", "since", "comment"]
    assert told[0] == "kind tables: 1 of 6 columns are numbers, and there is no series"
    assert "ignored: `id` (an id in each row), `since` (dates), `comment` (free text)" in told
    assert (
        "the free text `comment` is left out, as other columns tell something (`age`, `plan`); for a model of the "
        "text: `trainyard init` a CSV of `comment` and `churned` alone"
    ) in told
    assert {"column": "comment", "not_null": True} in dataset["expect"], "the next `thank you` may come twice"
    assert told[-1].endswith("(then: dvc repro register@churn)")


def test_what_a_model_of_texts_does_not_see_is_told(drafted):
    days = [f"2024-01-{i % 28 + 1:02}" for i in range(60)]
    columns = {"id": range(60), "day": days, "age": wave(60), "said": remarks(), "mood": ["up", "down"] * 30}
    csv("moods.csv", columns)
    dataset, _, told = drafted("moods.csv")
    assert (dataset["kind"], dataset["text"], dataset["target"]) == ("text", "said", "mood")
    assert "not used: `id`, `day`, `age`; a model of texts sees `said` alone" in told


def test_short_texts_are_read_letter_by_letter(drafted):
    rng = np.random.default_rng(0)
    phrases = ["".join(rng.choice(list("abcdefghij"), 9)) for _ in range(90)]
    csv("sayings.csv", {"id": np.arange(90), "phrase": phrases, "language": [f"l{i % 3}" for i in range(90)]})
    dataset, _, told = drafted("sayings.csv")
    assert (dataset["kind"], dataset["text"], dataset["target"]) == ("text", "phrase", "language")
    assert (dataset["objective"], dataset["tokens"]) == ("multiclass", "characters")
    assert "tokens characters: the texts are short" in told


# === Images ===


def test_colour_photos_are_fine_tuned_at_one_size(drafted):
    for i in range(12):
        picture(Path(f"my photos/{'cat' if i % 2 else 'dog'}/{i}.jpg"), (160 + i, 200), seed=i)
    Path("my photos/README.md").write_text("of pets")
    dataset, model, told = drafted("my photos")
    suite = dataset.pop("expect")
    assert dataset == {
        "kind": "images",
        "path": "my photos",
        "objective": "binary",
        "channels": 3,
        "size": [128, 128],
    }
    assert [column["column"] for column in suite] == ["label", "width", "height"]
    assert suite[0]["one_of"] == ["cat", "dog"]
    assert model["family"] == "mobilenet"
    assert "my-photos" in blocks()["finetune"]
    del told[-3]  # of the suite
    assert told[:-1] == [
        "kind images: 12 PNG or JPEG files in 2 class folders",
        "channels 3: there is colour",
        "size [128, 128]: images have 12 size(s), median of the shorter sides 165; 128 is all the network sees",
        "family mobilenet: a pretrained network, as colour photos are few",
    ]


def test_images_of_several_sizes_are_brought_to_a_multiple_of_8(drafted):
    for i in range(12):
        picture(Path(f"shapes/{'cat' if i % 2 else 'dog'}/{i}.jpg"), (60 + i, 90), seed=i)
    dataset, _, told = drafted("shapes")
    assert dataset["size"] == [64, 64]
    assert "size [64, 64]: images have 12 size(s), median of the shorter sides 65; a multiple of 8" in told


def test_grey_pictures_in_given_parts_are_trained_from_scratch(drafted):
    for i in range(60):
        part = ("train", "train", "test")[i % 3]
        picture(Path(f"digits/{part}/{i // 3 % 3}/{i}.png"), (8, 8), "L", seed=i)
    dataset, model, told = drafted("digits", "mine")
    assert dataset["split"] == {"given": "folder"}
    assert (dataset["channels"], dataset["objective"]) == (1, "multiclass")
    assert "size" not in dataset
    assert model["family"] == "cnn"
    assert "split as given, by the folders train, test" in told
    assert "channels 1: all is grey" in told
    assert "family cnn: from scratch, as images are many or plain" in told


# === Speech ===

WORDS = ("yes", "no")


def test_recordings_whose_names_tell_get_transcripts(drafted):
    for i in range(24):
        word = ("0", "7", *WORDS)[i % 4]
        recording(Path(f"voices/recordings/{word}_s{i // 4 % 4}_{i}.wav"), seed=i)
    dataset, model, told = drafted("voices")
    suite = dataset.pop("expect")
    assert dataset == {"kind": "speech", "path": "voices", "group": "speaker"}
    assert [column["column"] for column in suite] == ["seconds"]
    assert (model["family"], model["words"]) == ("rnn", "known")
    table = pd.read_csv("voices/transcripts.csv")
    assert list(table) == ["file", "transcript", "speaker"]
    assert set(table["transcript"]) == {"zero", "seven", "yes", "no"}
    assert table["file"][0] == "recordings/0_s0_0.wav"
    assert told[:-3] == [
        "wrote voices/transcripts.csv: all 24 names have the shape WORD_SPEAKER_TAKE, as 0_s0_0.wav",
        "kind speech: there is a transcripts.csv",
        "group `speaker`, by its name: none of the 4 is in two splits",
        "words known: the 4 of the transcripts are few, and the model hears no other",
    ]


def test_of_many_words_any_may_be_heard(drafted):
    rows = [(f"{i}.wav", f"{'abcdefghijklmnop'[i // 16]}{'abcdefghijklmnop'[i % 16]}") for i in range(120)]
    for i, (name, _) in enumerate(rows):
        recording(Path(f"voices/{name}"), seed=i)
    csv("voices/transcripts.csv", dict(zip(("file", "transcript"), zip(*rows, strict=True), strict=True)))
    _, model, told = drafted("voices")
    assert "words" not in model
    assert "beam" not in model
    assert not any("words known" in line for line in told)


def test_transcripts_that_are_there_are_taken_as_they_are(drafted):
    rows = []
    for i in range(12):
        recording(Path(f"voices/{i}.wav"), seed=i, rate=6000 if i == 3 else 16000, seconds=31 if i == 5 else 0.5)
        rows.append((f"{i}.wav", WORDS[i % 2], f"v{i % 2}"))
    csv("voices/transcripts.csv", dict(zip(("file", "transcript", "voice"), zip(*rows, strict=True), strict=True)))
    before = Path("voices/transcripts.csv").read_bytes()
    dataset, _, told = drafted("voices")
    assert {key: dataset[key] for key in ("rate", "mixed", "longest")} == {"rate": 6000, "mixed": True, "longest": 31}
    assert "group" not in dataset  # two voices are too few for three splits
    assert "rate 6000: some recordings have no more samples a second" in told
    assert "mixed: the recordings differ in rate or channels" in told
    assert "longest 31: so many seconds has the longest one" in told
    assert Path("voices/transcripts.csv").read_bytes() == before


# === params.yaml ===


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_not_a_byte_of_the_params_that_ship_changes(here, end):
    path = here / "params.yaml"
    before = (REPOSITORY / "params.yaml").read_bytes().replace(b"\n", end.encode()).removesuffix(end.encode())
    path.write_bytes(before)
    csv("d.csv", {"x": wave(60), "class": [f"k{i % 2}" for i in range(60)]})
    draft.init(Path("d.csv"), None, params.load())
    lines = before.decode().splitlines(keepends=True)
    after = path.read_bytes().decode().splitlines(keepends=True)
    lines[-1] += end
    changes = list(difflib.ndiff(lines, after))
    assert not [line for line in changes if line.startswith(("-", "?"))]
    added = [line[2:] for line in changes if line.startswith("+")]
    assert "".join(added).replace("\r", "") == (
        "  d:\n    kind: tables\n    path: d.csv\n    target: class\n    objective: binary\n    positive: k1\n"
        "    expect:\n      - {column: x, between: [-20, 20], not_null: true}\n"
        "      - {column: class, one_of: [k0, k1], not_null: true}\n"
        "  d:\n    family: mlp\n    dataset: d\n    epochs: 60\n    early_stopping: {patience: 10}\n"
        "  d: {dataset: d}\n"
    )
    assert all(line.endswith(end) for line in after)


PLAIN = """\
datasets:
    old: {kind: tables, path: old.csv, objective: binary, target: "yes"}   # mine
    # a remark on the last one

# of models
train: {}   # none yet
evaluate: {}
"""


def test_empty_and_absent_sections_are_filled_with_the_indent_of_the_others(here):
    Path("params.yaml").write_text(PLAIN)
    csv("d.csv", {"x": wave(60), "class": [f"k{i % 2}" for i in range(60)]})
    draft.init(Path("d.csv"), None, params.load())
    text = Path("params.yaml").read_text()
    assert "last one\n    d:\n      kind: tables\n" in text
    assert "\n\n# of models\ntrain:   # none yet\n  d:\n    family: mlp\n" in text
    assert text.endswith("evaluate:\n  d: {dataset: d}\n")
    for i in range(12):
        picture(Path(f"photos/{'cat' if i % 2 else 'dog'}/{i}.jpg"), seed=i)
    draft.init(Path("photos"), None, params.load())
    assert "\n\nfinetune:\n  photos:\n    family: mobilenet\n" in Path("params.yaml").read_text()


def test_what_a_yaml_reader_would_take_for_something_else_is_quoted(drafted):
    columns = {
        "a: b": wave(60),
        "#": wave(60, 1),
        "[x, y]": wave(60, 2),
        "class": ["no" if i % 2 else "1" for i in range(60)],
    }
    dataset, _, _ = drafted(csv("odd {name}, null.csv", columns))
    assert [column["column"] for column in dataset["expect"]] == list(columns)
    assert dataset["expect"][-1]["one_of"] == ["1", "no"]
    assert dataset["path"] == "odd {name}, null.csv"


# === Refusals ===


TABLE = "x,class\n" + "".join(f"{i}.5,k{i % 2}\n" for i in range(40))


def table(name="d.csv", text=TABLE):
    return lambda: Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())


def nothing():
    pass


REFUSED = {
    "not there": (nothing, ["d.csv"], "d.csv: not found"),
    "name of a dataset": (
        table("old.csv"),
        ["old.csv"],
        "params.yaml: datasets.old: is there already (choose another name: --name NAME)",
    ),
    "name of a model": (table(), ["d.csv", "--name", "first"], "params.yaml: train.first: is there already"),
    "no name": (table("Ж.csv"), ["Ж.csv"], "`` is no name: small letters, digits, - and _ (name it yourself: --name"),
    "bad name": (table(), ["d.csv", "--name", "A b"], "`A b` is no name: small letters, digits, - and _"),
    "other file": (table("d.xlsx"), ["d.xlsx"], "d.xlsx: of no kind that is known (expected .csv, .tsv"),
    "empty file": (table(text=""), ["d.csv"], "d.csv: is empty (expected a header and rows)"),
    "header alone": (table(text="x,class\n"), ["d.csv"], "d.csv: has a header but no rows"),
    "one column": (table(text="x\n1\n2\n"), ["d.csv"], "d.csv:1: one column, `x` (expected several, between"),
    "a row too wide": (table(text="x,y\n1,2\n1,2,3\n"), ["d.csv"], "d.csv:3: 3 cells (expected 2, as in the header)"),
    "not UTF-8": (table(text=b"x,y\n1,2\n\xff,3\n"), ["d.csv"], "d.csv:3: not UTF-8 at byte 8"),
    "few rows": (table(text="x,y\n1.5,2.5\n3.5,4.5\n5,6\n"), ["d.csv"], "d.csv: 3 example(s) (expected 10 or more)"),
    "no target": (
        table(text="n,t\n" + "".join(f"{i},a{i}\n" for i in range(40))),
        ["d.csv"],
        "d.csv: no column can be the target: all are ids or free text, or have missing cells",
    ),
    "one class": (
        table(text="x,class\n" + "".join(f"{i}.5,k\n" for i in range(40))),
        ["d.csv"],
        "d.csv: one class only, `k`",
    ),
    "a number for a name": (table("2024.csv"), ["2024.csv"], "`2024` is no name: small letters, digits, - and _"),
    "decimal commas": (
        table(text="price;amount;quality\n" + "".join(f"{i},25;{i * 7 % 9};{i % 3}\n" for i in range(40))),
        ["d.csv"],
        "d.csv:2: column `price`: '0,25' has a comma in a number; 40 such cell(s) (write 1234.5)",
    ),
    "dates alone beside the target": (
        table(text="when,sales\n" + "".join(f"{i % 28 + 1:02}.{i // 28 + 1:02}.2020,{i * 7 % 9}\n" for i in range(40))),
        ["d.csv"],
        "d.csv: `when` holds dates, and no series: they do not ascend by a step as YYYY-MM-DD (sort and write them so)",
    ),
    "a stray quotation mark in a table": (
        table(text="a\tb\tclass\n" + "".join(f"{i}.5\t{chr(34) * (i == 5)}x\t{i % 2}\n" for i in range(40))),
        ["d.csv"],
        "d.csv: quotation marks do not come in pairs around cells (in tables they must: take them out",
    ),
    "what holds a set": (
        lambda: (recording(Path("d/calls/yes_anna_1.wav")), table("d/calls/transcripts.csv", "file,transcript\n")()),
        ["d"],
        "d: no set, but what holds one (name that folder: d/calls)",
    ),
    "names of one word": (
        lambda: [recording(Path(f"d/take_anna_{i}.wav"), seed=i) for i in range(12)],
        ["d"],
        "d: all 12 names begin with `take`, which tells nothing of what is said (write a transcripts.csv",
    ),
    "empty folder": (lambda: Path("d").mkdir(), ["d"], "d: folder with no files, in no layout that is known"),
    "folder of tables": (
        lambda: (Path("d").mkdir(), table("d/a.csv")()),
        ["d"],
        "d: folder with files of type .csv, in no layout that is known",
    ),
    "folders of texts": (
        lambda: [Path(f"d/{name}").mkdir(parents=True) or Path(f"d/{name}/1.txt").write_text("hi") for name in "ab"],
        ["d"],
        (
            "d: folder with files of type .txt, in no layout that is known (expected one folder a class with PNG or "
            "JPEG files, also in train/ and test/, or recordings with a transcripts.csv; for a table name the file, "
            "and for texts a CSV with a column of text and one of labels)"
        ),
    ),
    "val": (
        lambda: [picture(Path(f"d/{part}/a/0.png")) for part in ("train", "val", "test")],
        ["d"],
        "d/val: unknown part (rename it to `validation`, beside train and test)",
    ),
    "broken image": (
        lambda: (picture(Path("d/a/0.png")), Path("d/a/1.png").write_bytes(b"x")),
        ["d"],
        "d/a/1.png: no readable PNG or JPEG",
    ),
    "names that do not tell": (
        lambda: (recording(Path("d/yes_anna_1.wav")), recording(Path("d/take 7.wav"))),
        ["d"],
        "d/take 7.wav: recording without transcripts.csv (write one in d, with columns file and transcript",
    ),
    "other transcripts": (
        lambda: (recording(Path("d/yes_anna_1.wav")), table("d/transcripts.csv", "name,text\na,b\n")()),
        ["d"],
        "d/transcripts.csv:1: no column `file`",
    ),
    "broken recording": (
        lambda: (recording(Path("d/yes_anna_1.wav")), Path("d/no_anna_1.wav").write_bytes(b"x")),
        ["d"],
        "d/no_anna_1.wav: no readable WAV, FLAC or OGG",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_is_one_line_and_nothing_is_written(project, capsys, case):
    plant, arguments, told = REFUSED[case]
    plant()
    before = {path: path.is_dir() or path.read_bytes() for path in project.rglob("*")}
    assert cli.main(["init", *arguments]) == BadInput.exit_code
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {told}")
    assert {path: path.is_dir() or path.read_bytes() for path in project.rglob("*")} == before


def test_a_section_between_braces_is_refused(here, capsys):
    text = PLAIN.replace("train: {}", "train: {m: {family: mlp, dataset: old}}").replace(
        "evaluate: {}", "evaluate: {m: {dataset: old}}"
    )
    Path("params.yaml").write_text(text)
    table()()
    assert cli.main(["init", "d.csv"]) == BadInput.exit_code
    assert "params.yaml: nothing can be added to it as it is written" in capsys.readouterr().err
    assert Path("params.yaml").read_text() == text


# === Real data ===


@pytest.mark.slow
@pytest.mark.parametrize("path", ["tumours.csv", "climate.csv", "phrases.csv", "digits", "pictograms"])
def test_the_data_that_ships(drafted, path):
    kinds = {"tumours": "tables", "climate": "series", "phrases": "text", "digits": "images", "pictograms": "images"}
    dataset, _, _ = drafted(REPOSITORY / "data" / path, f"my-{path.removesuffix('.csv')}")
    assert dataset["kind"] == kinds[path.removesuffix(".csv")]


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="TRAINYARD_REAL_SETS names no folder")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("winequality-red.csv", {"kind": "tables", "target": "quality", "objective": "regression", "delimiter": ";"}),
        ("winequality-white.csv", {"kind": "tables", "target": "quality", "objective": "regression", "delimiter": ";"}),
        ("nyc-airport-weather-2013.csv", {"kind": "series", "time": "time_hour", "target": "temp", "step": "h"}),
        ("sms-spam.tsv", {"kind": "text", "positive": "spam", "tokens": "trigrams", "quoting": False}),
        ("clothing-photos.tar.gz", {"kind": "images", "split": {"given": "folder"}, "size": [128, 128]}),
        ("free-spoken-digits.tar.gz", {"kind": "speech", "group": "speaker"}),
    ],
)
def test_real_sets(drafted, name, expected):
    path = next(Path(REAL).rglob(name))
    if name.endswith(".tar.gz"):
        with tarfile.open(path) as archive:
            archive.extractall(filter="data")
        path = Path(name.removesuffix(".tar.gz"))
    dataset, _, _ = drafted(path)
    assert {key: dataset.get(key) for key in expected} == expected
