"""`trainyard drift`: planted shifts of each kind are found, clean samples of the data that ships are left alone."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from contracts.samples import SAMPLES
from PIL import Image, ImageEnhance, ImageFilter
from ruamel.yaml import YAML
from scipy import stats

from trainyard import cli, kinds, params
from trainyard.quality import drift
from trainyard.quality.drift import Sample
from trainyard.stages import drift as stage

ROOT = Path(__file__).parents[2]
SHIPPED = params.load(ROOT / "params.yaml")
PARAMS = """\
seed: 3
datasets:
  d: {kind: tables, objective: binary, path: table.csv, target: answer}
train:
  m: {family: mlp, dataset: d, layers: [8], epochs: 4, batch_size: 16}
evaluate:
  m: {dataset: d}
"""


@pytest.fixture(scope="session")
def database(tmp_path_factory):
    """A registry in which nothing is, for all tests here: it takes seconds to make."""
    from trainyard.tracking import store

    address = f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"
    before = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = address
    with store.connected():
        pass
    if before is None:
        del os.environ["MLFLOW_TRACKING_URI"]
    else:
        os.environ["MLFLOW_TRACKING_URI"] = before
    return address


@pytest.fixture
def project(here, monkeypatch, database):
    """A table, and no models that anybody trained."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    for variable in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(variable, raising=False)
    SAMPLES["tables"](here, "binary")
    Path("params.yaml").write_text(PARAMS)
    return here


def table(path, n=80, by=0.0, drop=(), seed=9):
    """A table as the sample's, `by` heavier."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"size": rng.normal(size=n), "weight": rng.normal(by, 1, n)})
    frame["colour"] = rng.choice(["red", "green", ""], n)
    frame.loc[::7, "weight"] = np.nan
    frame["answer"] = (frame["size"] > 0).astype(int)
    frame.drop(columns=list(drop)).to_csv(path, index=False)


def report(folder=".trainyard/drift/d"):
    return json.loads((Path(folder) / "drift.json").read_text())


def test_new_data_that_is_like_the_old_is_no_drift(project, capsys, caplog):
    table("new.csv")
    assert cli.main(["drift", "d", "new.csv"]) == 0
    told = capsys.readouterr().out
    assert "0 of 7 measures moved (level 0.01 for all at once, effect of 0.02 at least)." in told
    assert "m: no champion to ask" in caplog.messages
    assert not report()["drift"]


def test_a_column_that_moved_is_drift_though_nobody_knows_the_labels(project, capsys):
    table("new.csv", by=1.5, drop=["answer"])
    assert cli.main(["drift", "d", "new.csv"]) == 1
    out = capsys.readouterr().out
    assert re.search(r"DRIFT +weight +median +-?0\.\d+ +1\.\d+ +0\.\d+ +0\.00", out)
    found = report()
    assert found["drift"]
    assert {"dataset": "d", "kind": "tables", "new": "new.csv", "path": "table.csv"}.items() <= found.items()
    assert "answer" not in [shift["measure"] for shift in found["shifts"]]


def test_the_report_is_read_without_a_network_and_says_what_moved(project):
    table("new.csv", by=1.5)
    Path("new.csv").write_text(Path("new.csv").read_text().replace("red", "<b>|</b>").replace("green", "<b>|</b>"))
    assert cli.main(["drift", "d", "new.csv", "--out", "elsewhere"]) == 1
    assert {path.name for path in Path("elsewhere").iterdir()} == {"drift.json", "drift.md", "page.html"}
    page, markdown = Path("elsewhere/page.html").read_text(), Path("elsewhere/drift.md").read_text()
    assert "http" not in page
    assert "<b>|</b>" not in page + markdown
    assert "&lt;b&gt;" in page
    assert page.count('<svg class="histogram"') >= 4
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({row.replace("\\|", "").count("|") for row in rows}) == 1
    assert "| **moved** | weight | median |" in markdown
    assert not Path(".trainyard/drift").exists()


@pytest.mark.parametrize(("by", "told"), [(0.0, "false"), (1.5, "true")])
def test_a_workflow_reads_what_came_of_it(project, monkeypatch, capsys, by, told):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_OUTPUT", str(project / "output"))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project / "summary.md"))
    Path("output").write_text("before=1\n")
    table("new.csv", by=by)
    assert cli.main(["drift", "d", "new.csv"]) == int(told == "true")
    assert Path("output").read_text() == f"before=1\ndrift={told}\n"
    assert Path("summary.md").read_text() == Path(".trainyard/drift/d/drift.md").read_text()
    out = capsys.readouterr().out
    assert bool(re.search(r"^::error title=Drift::new\.csv is not like d: .*\.$", out, re.MULTILINE)) == (
        told == "true"
    )


def test_params_say_how_sure_and_how_far(project):
    table("new.csv", by=1.5)
    Path("params.yaml").write_text(f"{PARAMS}drift: {{least: 0.9}}\n")
    assert cli.main(["drift", "d", "new.csv"]) == 0
    Path("params.yaml").write_text(f"{PARAMS}drift: {{level: 0.05}}\n")
    assert cli.main(["drift", "d", "new.csv"]) == 1
    assert report()["level"] == 0.05


def csv(text):
    return lambda: Path("new.csv").write_bytes(text)


@pytest.mark.parametrize(
    ("name", "plant", "told"),
    [
        ("d", lambda: None, "new.csv: not found"),
        ("e", lambda: table("new.csv"), "params.yaml: there is no dataset `e`; valid: d"),
        ("d", lambda: table("new.csv", drop=["size"]), "new.csv:1: no column `size` (it has: "),
        ("d", csv(b"size,weight,colour\n1,heavy,red\n"), "new.csv:2: column `weight`: 'heavy' is no number"),
        ("d", csv(b"size,\xff"), "new.csv:1: not UTF-8 at byte 5"),
        ("d", csv(b"size,weight,colour\n"), "new.csv: has a header but no rows"),
        ("d", lambda: Path("new.csv").mkdir(), "new.csv: is a folder (expected a CSV file)"),
    ],
)
def test_bad_new_data_gets_one_line_and_nothing_is_written(project, capsys, name, plant, told):
    plant()
    assert cli.main(["drift", name, "new.csv"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {told}")
    assert not Path(".trainyard").exists()


@pytest.mark.slow
def test_the_champions_answers_are_compared_with_those_to_the_old_data(project, caplog):
    for stage_of_line, name in [
        ("validate", "d"),
        ("prepare", "d"),
        ("train", "m"),
        ("evaluate", "m"),
        ("register", "m"),
    ]:
        Path("params.yaml").write_text(PARAMS.replace("epochs: 4", "epochs: 30, optimizer: {learning_rate: 0.03}"))
        assert cli.main([stage_of_line, name]) == 0
    table("new.csv")
    assert cli.main(["drift", "d", "new.csv"]) == 0
    assert {"m: answer", "m: sureness"} <= {shift["measure"] for shift in report()["shifts"]}
    larger = pd.read_csv("new.csv").assign(size=lambda rows: rows["size"].abs()).drop(columns="answer")
    larger.to_csv("new.csv", index=False)
    assert cli.main(["drift", "d", "new.csv"]) == 1
    moved = {shift["measure"]: shift for shift in report()["shifts"] if shift["moved"]}
    assert {"size", "m: answer"} <= set(moved)
    assert abs(moved["m: answer"]["new"] - 0.5) > 0.3
    # one that cannot answer is told of, and all else is compared
    raw = YAML(typ="safe").load(PARAMS)
    raw["datasets"]["d"]["categorical"] = ["size", "colour"]
    with Path("params.yaml").open("w") as file:
        YAML().dump(raw, file)
    pd.read_csv("new.csv", dtype={"size": str}).assign(size="large").to_csv("new.csv", index=False)
    caplog.clear()
    assert cli.main(["drift", "d", "new.csv"]) == 1
    told = r"m: its champion, version 1, is not asked: new.csv:2: column `size`: 'large' is no number"
    assert any(re.match(told, message) for message in caplog.messages)


# === The data that ships ===

KEPT = {name: spec for name, spec in SHIPPED.datasets.items() if spec.kind != "series"}


def halves(name, folder):
    """A shipped dataset without a fifth of its units, and that fifth as new data; both below `folder`."""
    spec = SHIPPED.dataset(name).model_copy(update={"path": str(ROOT / SHIPPED.dataset(name).path)})
    manifest = kinds.of(spec).manifest(spec)
    units = kinds.units(spec, manifest)
    drawn = np.random.default_rng(4).permutation(units.unique())
    new = units.isin(drawn[: len(drawn) // 5])
    source, cut = Path(spec.path), {}
    for side, rows in (("old", manifest.index[~new]), ("new", manifest.index[new])):
        cut[side] = folder / side / source.name
        if source.is_file():
            cut[side].parent.mkdir(parents=True)
            lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
            cut[side].write_text("".join([lines[0], *(lines[row - 1] for row in rows)]), encoding="utf-8")
            continue
        for example in rows:
            (cut[side] / example).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / example, cut[side] / example)
        if spec.kind == "speech":
            head, *lines = (source / "transcripts.csv").read_text().splitlines()
            there = [line for line in lines if line.split(",")[0] in set(rows)]
            (cut[side] / "transcripts.csv").write_text("\n".join([head, *there]) + "\n")
    return cut["old"], cut["new"]


def larger_cells(path):
    rows = pd.read_csv(path)
    rows["mean_radius"] *= 1.25
    rows.to_csv(path, index=False)


def each_image(change):
    def plant(path):
        for file in path.rglob("*.*"):
            image = Image.open(file)
            change(image).save(file)

    return plant


def quieter(path):
    for file in path.rglob("*.flac"):
        sound, rate = soundfile.read(file)
        soundfile.write(file, sound / 3, rate)


def noisier(path):
    for file in path.rglob("*.flac"):
        sound, rate = soundfile.read(file)
        soundfile.write(file, np.clip(sound + np.random.default_rng(0).normal(0, 0.01, sound.shape), -1, 1), rate)


def in_capitals(path):
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([head, *(line.replace("a", "ⓐ") for line in lines)]) + "\n", encoding="utf-8")


def of_two_languages(path):
    rows = pd.read_csv(path)
    rows[rows["language"].isin(sorted(rows["language"].unique())[:2])].drop(columns="language").to_csv(
        path, index=False
    )


PLANTED = {
    ("tumours", "size"): (larger_cells, "mean_radius"),
    ("digits", "blurred"): (each_image(lambda image: image.filter(ImageFilter.BoxBlur(0.7))), "sharpness"),
    ("digits", "pale"): (each_image(lambda image: image.point(lambda level: level // 2)), "contrast"),
    ("digits", "upside down"): (each_image(lambda image: image.transpose(Image.Transpose.ROTATE_180)), "embedding"),
    ("pictograms", "dark"): (each_image(lambda image: ImageEnhance.Brightness(image).enhance(0.6)), "brightness"),
    ("pictograms", "grey"): (each_image(lambda image: ImageEnhance.Color(image).enhance(0.1)), "saturation"),
    ("phrases", "other letters"): (in_capitals, "unknown characters"),
    ("phrases", "two languages"): (of_two_languages, "which characters"),
    ("spoken", "quiet"): (quieter, "loudness"),
    ("spoken", "noise"): (noisier, "noise floor"),
}


@pytest.fixture
def shipped(project):
    """A shipped dataset whose new part was drawn by chance, under the project's own params."""

    def cut(name):
        old, new = halves(name, project)
        raw = {"seed": 1, "datasets": {name: SHIPPED.dataset(name).model_dump(mode="json", exclude_none=True)}}
        raw["datasets"][name]["path"] = str(old)
        raw["evaluate"] = {}
        with Path("params.yaml").open("w") as file:
            YAML().dump(raw, file)
        return new

    return cut


@pytest.mark.slow
@pytest.mark.parametrize("name", KEPT)
def test_a_shift_that_is_planted_in_the_shipped_data_is_found(shipped, name):
    new = shipped(name)
    assert cli.main(["drift", name, str(new)]) == 0
    kept = new.with_name("kept")
    new.rename(kept)
    for plant, measure in [planted for (of, _), planted in PLANTED.items() if of == name]:
        (shutil.copytree if kept.is_dir() else shutil.copy)(kept, new)
        plant(new)
        assert cli.main(["drift", name, str(new)]) == 1
        moved = [shift["measure"] for shift in report(f".trainyard/drift/{name}")["shifts"] if shift["moved"]]
        assert measure in moved, moved
        shutil.rmtree(new) if new.is_dir() else new.unlink()


MOST_ALARMS = stats.binom.ppf(0.999, 200, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", KEPT)
def test_of_200_clean_samples_of_the_shipped_data_no_more_than_the_level_alarm(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    spec = SHIPPED.dataset(name)
    kind = kinds.of(spec)
    manifest = kind.manifest(spec)
    splits, facts = kind.split(spec, manifest, 1), kind.facts(spec, manifest)
    held = manifest[splits != "train"]
    units = kinds.units(spec, held)
    chosen, _ = drift.alike(units, units, 1)
    held, units = held.loc[chosen], units.loc[chosen]
    measures = kind.measures(spec, facts, manifest[splits == "train"], held)
    seen = stage._embedding(spec, facts, held)
    rng, alarms = np.random.default_rng(7), 0
    for _ in range(200):
        drawn = rng.permutation(units.unique())
        new = units.isin(drawn[: len(drawn) // 3]).to_numpy()
        sides = [
            Sample(
                {name: values[part] for name, values in measures.items()},
                units[part],
                seen if seen is None else seen[part],
            )
            for part in (~new, new)
        ]
        alarms += bool(drift.compare(*sides, level=0.05, least=0.0, seed=int(rng.integers(10**6))).moved)
    assert 1 <= alarms <= MOST_ALARMS


@pytest.mark.slow
def test_of_12_clean_halves_of_shipped_data_no_more_than_the_level_alarm_by_the_command_with_a_champion(project):
    rows, alarms = pd.read_csv(ROOT / SHIPPED.dataset("tumours").path), 0
    block = SHIPPED.dataset("tumours").model_dump(mode="json", exclude_none=True) | {"path": "old.csv"}
    trained = {"family": "mlp", "layers": [8], "epochs": 10, "optimizer": {"learning_rate": 0.01}}
    for number in range(12):
        shuffled = rows.sample(frac=1, random_state=number)
        shuffled.iloc[::2].to_csv("old.csv", index=False)
        shuffled.iloc[1::2].to_csv("new.csv", index=False)
        d, m = f"d{number}", f"m{number}"
        raw = {"seed": number, "datasets": {d: block}, "train": {m: trained | {"dataset": d}}}
        raw |= {"evaluate": {m: {"dataset": d}}, "drift": {"level": 0.05, "least": 0.0}}
        with Path("params.yaml").open("w") as file:
            YAML().dump(raw, file)
        for verb, name in (("validate", d), ("prepare", d), ("train", m), ("evaluate", m), ("register", m)):
            assert cli.main([verb, name]) == 0
        code = cli.main(["drift", d, "new.csv"])
        assert code in (0, 1)
        assert f"{m}: answer" in {shift["measure"] for shift in report(f".trainyard/drift/{d}")["shifts"]}
        alarms += code
    assert alarms <= stats.binom.ppf(0.999, 12, 0.05)


# === Series ===


def months(path, start, values):
    times = pd.date_range(start, periods=len(values), freq="MS").strftime("%Y-%m-%d")
    pd.DataFrame({"month": times, "sea_temperature": values.round(2)}).to_csv(path, index=False)


def weather(rng, n):
    """A year's course, and what persists for some months."""
    noise = rng.normal(0, 0.3, n + 30)
    for step in range(1, n + 30):
        noise[step] += 0.7 * noise[step - 1]
    return 20 + 3 * np.sin(2 * np.pi * np.arange(n) / 12) + noise[30:]


def climate(path):
    return SHIPPED.dataset("climate").model_copy(update={"path": str(path)})


@pytest.mark.slow
def test_of_200_series_that_go_on_as_before_no_more_than_the_level_alarm(here):
    rng, alarms = np.random.default_rng(2), 0
    for _ in range(200):
        values = weather(rng, 660)
        months("old.csv", "1950-01-01", values[:600])
        months("new.csv", "2000-01-01", values[600:])
        alarms += bool(series_drift(level=0.05).moved)
    assert 1 <= alarms <= MOST_ALARMS


def series_drift(level):
    old = climate("old.csv")
    kind = kinds.of(old)
    manifest = kind.manifest(old)
    splits, facts = kind.split(old, manifest, 1), kind.facts(old, manifest)
    block, new = kinds.later(old, facts, manifest, Path("new.csv"))
    train, held = manifest[splits == "train"], manifest[splits != "train"]
    sides = [
        Sample(kind.measures(spec, facts, train, part), kinds.units(spec, part))
        for spec, part in [(old, held), (block, new)]
    ]
    return drift.compare(*sides, level=level, least=0.0, horizon=old.horizon)


def restless(values):
    return values + np.random.default_rng(0).normal(0, 2, len(values))


@pytest.mark.parametrize(
    ("change", "measure"),
    [
        (lambda values: values + 1.5, "sea_temperature level"),
        (restless, "sea_temperature error of the seasonal naive"),
    ],
)
def test_a_series_that_goes_on_otherwise_is_found(project, change, measure):
    values = weather(np.random.default_rng(0), 660)
    months("old.csv", "1950-01-01", values[:600])
    raw = {"datasets": {"d": climate("old.csv").model_dump(mode="json", exclude_none=True)}, "evaluate": {}}
    with Path("params.yaml").open("w") as file:
        YAML().dump(raw, file)
    months("new.csv", "1950-01-01", values)  # the file has grown
    assert cli.main(["drift", "d", "new.csv"]) == 0
    months("new.csv", "2000-01-01", change(values[600:]))
    assert cli.main(["drift", "d", "new.csv"]) == 1
    assert measure in [shift["measure"] for shift in report()["shifts"] if shift["moved"]]
