"""`trainyard predict`: the answers of `evaluate`, for all kinds, once for each row, whatever happens meanwhile."""

import csv
import json
import logging
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from contracts.samples import SAMPLES, prepared
from numpy_champion import NumpyChampion, predict
from pyarrow import csv as arrow
from pyarrow import parquet as pq
from ruamel.yaml import YAML
from served import crown
from yard import until

from trainyard import cli, kinds, params
from trainyard.errors import BadInput, EnvironmentFailed
from trainyard.files import read_json, sha256, write_json
from trainyard.models import saved
from trainyard.params import Series, Text
from trainyard.serving import batch, rows
from trainyard.stages.evaluate import evaluate
from trainyard.stages.register import register
from trainyard.tracking import Pinned, pyfunc

TESTS = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}


def table(count=100, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"id": [f"patient {i}" for i in range(count)], "a": rng.normal(size=count).round(4)})
    frame["b"] = np.where(rng.random(count) < 0.1, np.nan, rng.normal(size=count).round(4))
    return frame.assign(c=rng.choice(["x", "y", "z"], count))


def expected(frame):
    sums = frame["a"] + frame["b"].fillna(0) + (frame["c"] == "x")
    return 1 / (1 + np.exp(-sums))


@pytest.fixture
def small_parts(monkeypatch):
    """Seven rows a part."""
    monkeypatch.setattr(rows, "MOST", dict.fromkeys(rows.MOST, 7))


def left(folder="."):
    """What stands there beside files with a name of their own."""
    return [path.name for path in Path(folder).iterdir() if path.name.startswith(".")]


# === The answers of evaluate ===

FAMILY = {"tables": "mlp", "images": "cnn", "series": "mlp", "text": "rnn", "speech": "rnn"}
OBJECTIVE = {"tables": "multiclass", "images": "multiclass", "series": "forecast", "text": "binary"}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project of all kinds, whose models were evaluated; they are untrained, and answer each example otherwise."""
    folder = tmp_path_factory.mktemp("project")
    blocks = {}
    for kind in SAMPLES:
        data = prepared(folder, kind, OBJECTIVE.get(kind, "transcription"))
        blocks[kind] = data.spec.model_dump(mode="json")
        (folder / "build/sample").rename(folder / "build" / kind)
    models = {kind: {"family": family, "dataset": kind, "epochs": 1} for kind, family in FAMILY.items()}
    asked = {kind: {"dataset": kind} for kind in FAMILY}
    whole = {"seed": 1, "datasets": blocks, "train": models, "evaluate": asked}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        with Path("params.yaml").open("w") as file:
            YAML().dump(json.loads(params.parse(whole).model_dump_json(exclude_none=True)), file)
        loaded = params.load()
        for kind in FAMILY:
            leave_model(kind, loaded)
            evaluate(kind, loaded)
        yield folder


def leave_model(name, loaded):
    """What a training of no epoch leaves."""
    import keras

    from trainyard import models
    from trainyard.training import features, package

    spec = loaded.model(name)
    data = kinds.open_prepared(name, loaded.dataset(name))
    keras.utils.set_random_seed(1)
    preprocessing = kinds.of(data.spec).preprocessing(data.spec, data.facts, data.train)
    core = models.build(spec, features.seen(preprocessing), data.objective, data.units)
    history = pd.DataFrame({"loss": [1.0], "val_loss": [1.0], "kept": [1]}, index=pd.Index([1], name="epoch"))
    package.write(name, spec, data, preprocessing.join(core), history)


@pytest.fixture
def of_project(project, monkeypatch, tmp_path):
    """A champion by the name of a kind, as `evaluate` asked it."""
    monkeypatch.chdir(project)

    def pinned(name, place):
        within = {"answer_1": 1.0} if name == "series" else {}  # so that there are intervals, which scores.csv has not
        write_json(place / "golden.json", {"rows": [], "answers": {}, "within": within})
        for file in ("model.keras", "model.json"):
            shutil.copy(Path("models", name, file), place / file)
        return Pinned(name, "1", "c", sha256(place / "model.keras"), pyfunc.told(place), place)

    monkeypatch.setattr(batch, "_pinned", pinned)
    return lambda kind, path, output: batch.predict(kind, Path(path), tmp_path / output, params.load())


@pytest.mark.parametrize("kind", FAMILY)
def test_the_answers_are_those_of_evaluate(of_project, small_parts, tmp_path, kind):
    scores = pd.read_csv(
        f"reports/models/{kind}/scores.csv", index_col="example", dtype={"example": str, "answer": str}
    )
    of_project(kind, params.load().dataset(kind).path, "out.csv")
    found = pd.read_csv(tmp_path / "out.csv", index_col="example", dtype={"example": str, "answer": str})
    assert list(found) == [column for column in scores if column.startswith(("p_", "answer"))]
    assert found.index.is_unique
    assert len(found) > len(scores)  # all of the data, not the test split alone
    found, answers = found.loc[scores.index], scores[list(found)]
    if kind == "speech":
        assert found["answer"].tolist() == answers["answer"].tolist()
        assert found["answer"].nunique() > 1
        return
    np.testing.assert_allclose(found.to_numpy(), answers.to_numpy(), rtol=0, atol=1e-6)
    assert found.std().min() > 1e-4  # answers that are all the same would agree with anything


@pytest.mark.parametrize(("kind", "column"), [("images", "image"), ("speech", "recording")])
def test_files_within_parquet_are_answered_as_those_of_a_folder(of_project, small_parts, tmp_path, kind, column):
    folder = Path(params.load().dataset(kind).path)
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".png", ".flac"))
    pd.DataFrame({column: [path.read_bytes() for path in paths]}).to_parquet(tmp_path / "in.parquet")
    of_project(kind, folder, "out.parquet")
    of_project(kind, tmp_path / "in.parquet", "again.parquet")
    one, other = (pd.read_parquet(tmp_path / name) for name in ("out.parquet", "again.parquet"))
    assert one["example"].tolist() == [path.relative_to(folder).as_posix() for path in paths]
    assert other["example"].tolist() == list(range(len(paths)))
    assert one.drop(columns="example").equals(other.drop(columns="example"))
    of_project(kind, paths[3], "out.parquet")
    assert pd.read_parquet(tmp_path / "out.parquet")["example"].tolist() == [paths[3].name]


def test_a_broken_file_is_named(of_project, small_parts, tmp_path):
    shutil.copytree(params.load().dataset("images").path, tmp_path / "images")
    (tmp_path / "images/light/7.png").write_bytes(b"no image")
    with pytest.raises(BadInput) as refused:
        of_project("images", tmp_path / "images", "out.csv")
    assert str(refused.value) == f"{tmp_path}/images/light/7.png: no readable PNG or JPEG"
    (tmp_path / "images/light/7.png").write_bytes(bytes(20_000_001))
    with pytest.raises(BadInput, match=r"images/light/7.png: 20,000,001 bytes \(at most 20,000,000\)"):
        of_project("images", tmp_path / "images", "out.csv")
    with pytest.raises(BadInput, match=r"table.csv: no folder, and no Parquet file with a column `image`"):
        of_project("images", params.load().dataset("tables").path, "out.csv")
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.slow
def test_a_version_of_the_registry_is_asked(project, monkeypatch, tmp_path, capsys, caplog):
    monkeypatch.chdir(project)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/mlflow.db")
    register("tables", params.load())
    out = str(tmp_path / "out.csv")
    assert cli.main(["predict", "tables/1", "table.csv", out, "--keep", "size"]) == 0
    sha256 = read_json(Path("models/tables/model.json"))["sha256"]
    assert f"{out}: 90 answers of version 1 of tables (SHA-256 {sha256[:12]}…)" in caplog.messages[-1]
    assert list(pd.read_csv(out)) == ["example", "size", "p_0", "p_1", "p_2"]
    assert cli.main(["predict", "tables/7", "table.csv", out]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: tables: the registry has no version 7")


# === What is written ===


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
@pytest.mark.parametrize("of", [".csv", ".parquet"])
def test_each_row_has_its_answer_in_order(here, small_parts, of, ending):
    frame = table()
    frame.to_csv("in.csv", index=False, na_rep="NA") if of == ".csv" else frame.to_parquet("in.parquet")
    predict(f"in{of}", f"out{ending}", "id", "a")
    found = pd.read_csv("out.csv") if ending == ".csv" else pd.read_parquet("out.parquet")
    assert list(found) == ["example", "id", "a", "p_no", "p_yes"]
    assert found["example"].tolist() == list(range(2, 102) if of == ".csv" else range(100))  # line, or place
    assert found["id"].tolist() == frame["id"].tolist()
    assert found["a"].astype(float).tolist() == frame["a"].tolist()
    np.testing.assert_allclose(found["p_yes"], expected(frame), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found["p_no"] + found["p_yes"], 1, rtol=0, atol=1e-6)
    assert left() == []


def test_types_of_parquet_are_read_as_what_they_stand_for(here, small_parts):
    frame = table().assign(c=lambda frame: frame["c"].astype("category"), day=pd.Timestamp("2026-01-31"))
    frame["count"] = pd.array([1, None] * 50, "Int64")
    frame.to_parquet("in.parquet")
    predict("in.parquet", "out.parquet", "day", "count", "c")
    found = pd.read_parquet("out.parquet")
    np.testing.assert_allclose(found["p_yes"], expected(frame), rtol=0, atol=1e-6)
    assert found["day"].tolist() == frame["day"].tolist()
    assert found["count"].fillna(-1).tolist() == [1, -1] * 50
    assert found["c"].tolist() == frame["c"].tolist()
    frame.assign(a=frame["day"]).to_parquet("in.parquet")
    with pytest.raises(BadInput, match=r"in.parquet:0: column `a`: '2026-01-31.*' is no number"):
        predict("in.parquet", "out.parquet")


def test_cells_that_a_spreadsheet_would_run_are_texts(here):
    """https://owasp.org/www-community/attacks/CSV_Injection."""
    evil = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", '"=1', "\uff1d1", "\n=1"]
    plain = ["-2.5", "+3e-4", "-.5", "a=b", "", "é", "1-2", "a\r=1", 'say "yes", no']
    frame = table(len(evil + plain)).assign(note=evil + plain)
    frame.rename(columns={"id": "=id()"}).to_csv("in.csv", index=False, quoting=csv.QUOTE_ALL)
    predict("in.csv", "out.csv", "note", "=id()")
    found = pd.read_csv("out.csv", dtype=str, keep_default_na=False)
    assert list(found)[:3] == ["example", "note", "'=id()"]
    kept = [*(f"'{cell}" for cell in evil), *plain]
    kept[evil.index('"=1')] = '"=1'  # begins with a quotation mark, which is doubled within the cell's own
    assert found["note"].tolist() == kept
    lines = Path("out.csv").read_bytes().decode()
    assert '"\'-2+3"' in lines
    assert '"-2.5"' in lines
    assert re.search(r'^2,"\'=1\+1","patient 0",0\.\d+,0\.\d+$', lines, re.MULTILINE)  # numbers are no texts
    predict("in.csv", "out.parquet", "note")
    assert pd.read_parquet("out.parquet")["note"].tolist() == evil + plain  # which no spreadsheet opens


@pytest.mark.parametrize(
    "of", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.large_string())], ids=str
)
def test_texts_of_parquet_are_safe_whatever_their_type(here, of):
    plain = pa.table(table(3))
    pq.write_table(plain.append_column("note", pa.array(["=1+1", "-2.5", "@SUM(A1)"]).cast(of)), "in.parquet")
    predict("in.parquet", "out.csv", "note")
    assert pd.read_csv("out.csv", dtype=str)["note"].tolist() == ["'=1+1", "-2.5", "'@SUM(A1)"]
    predict("in.parquet", "out.parquet", "note")
    assert pq.read_table("out.parquet")["note"].to_pylist() == ["=1+1", "-2.5", "@SUM(A1)"]


def test_a_series_is_answered_where_a_window_ends_whatever_the_parts(here, monkeypatch):
    days = pd.date_range("2020-01-01", periods=60).strftime("%Y-%m-%d")
    level = np.arange(60.0)
    level[[20, 21, 40]] = np.nan  # one is filled, of two in a row one is not
    north = pd.DataFrame({"day": days, "level": level, "place": "north"})
    both = pd.concat([north.assign(level=-1.0, place="south"), north]).iloc[:-1]
    both.drop(index=30).to_csv("in.csv", index=False)  # a row that `step` puts back
    block = {"window": 4, "horizon": 2, "fill": 1, "step": "D", "where": {"place": "north"}}
    spec = Series(kind="series", path="tides.csv", time="day", target="level", **block)
    facts = {"columns": ["level"], "step": "D", "season": 7}

    def champion(pinned):
        return NumpyChampion(pinned, spec, facts)

    written = set()
    for most in (1, 3, 7, 1000):
        monkeypatch.setattr(rows, "MOST", {"series": most})
        predict("in.csv", "out.csv", champion=champion)
        written.add(Path("out.csv").read_bytes())
    (whole,) = written
    found = pd.read_csv("out.csv", index_col="example")
    ends = [i for i in range(3, 59) if not {21} & set(range(i - 3, i + 1))]
    assert list(found.index) == [f"{days[i]}T00:00:00" for i in ends]
    filled = pd.Series(level).where(pd.RangeIndex(60) != 30).ffill(limit=1)
    assert found["answer_1"].tolist() == filled[ends].tolist()
    both[both["place"] == "south"].to_csv("in.csv", index=False)
    with pytest.raises(BadInput, match=r"in.csv: no row is of the series \{'place': 'north'\}"):
        predict("in.csv", "out.csv", champion=champion)
    north[20:24].to_csv("in.csv", index=False)
    with pytest.raises(BadInput, match=r"in.csv: 4 rows hold no whole window"):
        predict("in.csv", "out.csv", champion=champion)
    north.assign(level=[*range(50), "high", *range(9)]).to_csv("in.csv", index=False)
    with pytest.raises(BadInput, match=r"in.csv:52: column `level`: 'high' is no number"):
        predict("in.csv", "out.csv", champion=champion)
    assert Path("out.csv").read_bytes() == whole
    assert left() == []


# === What is killed ===

KILLED = """
import os, sys
from pathlib import Path
from numpy_champion import predict
from trainyard import files
from trainyard.serving import rows

rows.MOST = dict.fromkeys(rows.MOST, 7)


def answer(die_at):
    seen = []

    def reached(point, target):
        seen.append((point, target.name))
        if len(seen) == die_at:
            os._exit(137)

    files.reached = reached
    predict("in.csv", sys.argv[1], "id")
    Path("points").write_text(str(len(seen)))


def apart(work, *arguments):  # no TensorFlow, and no thread of its own, is here yet
    child = os.fork()
    if not child:
        try:
            work(*arguments)
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


output = Path(sys.argv[1])
assert apart(answer, 0) == 0
whole, points = output.read_bytes(), int(Path("points").read_text())
for point in range(1, points + 1):
    output.write_bytes(b"of before")
    assert apart(answer, point) == 137, point
    assert output.read_bytes() in (b"of before", whole), point  # never half
    assert apart(answer, 0) == 0, point
    assert output.read_bytes() == whole, point
    assert not [path for path in os.listdir() if path.startswith(".")], point
output.unlink()
deaths = 0
while apart(answer, 10) == 137:  # after what was begun and a part, in the next one
    deaths += 1
    assert not output.exists()
assert output.read_bytes() == whole
print(points, deaths)
"""


@pytest.mark.parametrize("output", ["out.csv", "out.parquet"])
def test_killed_at_any_point_it_goes_on_to_the_same_bytes(here, output):
    table(20).to_csv("in.csv", index=False, na_rep="NA")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, output], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    points, deaths = map(int, done.stdout.split())
    assert points == 4 * (1 + 3 + 1)  # what was begun, three parts, and all of them together
    assert deaths == 3


class Killed(BaseException):
    """Nobody catches it."""


@pytest.fixture
def begun(here, small_parts, monkeypatch):
    """An output of which two parts are there."""
    table(40).to_csv("in.csv", index=False, na_rep="NA")

    def reached(point, target):
        if (point, target.name) == ("begun", "2.parquet"):
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("trainyard.files.reached", reached)
        with pytest.raises(Killed):
            predict("in.csv", "out.csv")
    assert left() == [".out.csv.begun"]
    return here


def asked_rows(monkeypatch):
    """How many rows the champion is asked from here on."""
    asked, answers = [], NumpyChampion.answers

    def counting(champion, values):
        asked.append(len(values["column a"]))
        return answers(champion, values)

    monkeypatch.setattr(NumpyChampion, "answers", counting)
    return asked


def test_what_was_answered_is_not_asked_again(begun, monkeypatch, caplog):
    asked = asked_rows(monkeypatch)
    with caplog.at_level(logging.INFO, "trainyard"):
        predict("in.csv", "out.csv")
    assert sum(asked) == 40 - 14
    assert "out.csv: goes on after 14 rows that were answered" in caplog.messages
    np.testing.assert_allclose(pd.read_csv("out.csv")["p_yes"], expected(table(40)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("change", ["model", "input", "columns kept", "rows of a part"])
def test_of_another_model_or_input_nothing_is_taken_over(begun, monkeypatch, caplog, change):
    frame = table(40, seed=1 if change == "input" else 0)
    if change == "input":
        frame.to_csv("in.csv", index=False, na_rep="NA")
    if change == "rows of a part":
        monkeypatch.setattr(rows, "MOST", {"tables": 8})
    asked = asked_rows(monkeypatch)
    predict(
        "in.csv", "out.csv", *(["id"] if change == "columns kept" else []), version="2" if change == "model" else "1"
    )
    assert sum(asked) == 40
    (told,) = [line for line in caplog.messages if "dropped" in line]
    assert re.fullmatch(rf"out.csv: what was begun of it is dropped: its {change} was .+, is .+", told)
    if change == "model":
        assert "was version 1 of m, SHA-256 1111" in told
        assert "is version 2 of m, SHA-256 2222" in told
    np.testing.assert_allclose(pd.read_csv("out.csv")["p_yes"], expected(frame), rtol=0, atol=1e-6)


def test_an_input_that_is_written_to_meanwhile_is_refused(here, small_parts, monkeypatch):
    table(40).to_csv("in.csv", index=False, na_rep="NA")

    def reached(point, target):
        if (point, target.name) == ("begun", "2.parquet"):
            with Path("in.csv").open("a") as file:
                file.write("patient 40,1,1,x\n")

    monkeypatch.setattr("trainyard.files.reached", reached)
    with pytest.raises(BadInput, match=r"in.csv: has changed while it was read \(run it again\)"):
        predict("in.csv", "out.csv")
    assert left() == []
    assert not Path("out.csv").exists()


def test_two_do_not_write_one_output(begun):
    with batch._alone(Path("out.csv")), pytest.raises(EnvironmentFailed, match=r"out.csv: another process writes it"):
        predict("in.csv", "out.csv")
    predict("in.csv", "out.csv")


# === What is refused ===


def bad_cell(path):
    table().assign(b=[*range(90), "many", *range(9)]).to_csv(path, index=False)


def short_row(path):
    table().to_csv(path, index=False)
    Path(path).write_text(Path(path).read_text().replace("patient 50,", "patient 50;"))


REFUSED = {
    "a bad cell": (bad_cell, ["in.csv", "out.csv"], r"in.csv:92: column `b`: 'many' is no number \(mend it\)"),
    "a short row": (short_row, ["in.csv", "out.csv"], r"in.csv:52: 3 cells \(expected 4, as in the header\)"),
    "a column": (
        lambda path: table().rename(columns={"a": "A"}).to_csv(path, index=False),
        ["in.csv", "out.csv"],
        r"in.csv:1: no column `a` \(it has: id, A, b, c\)",
    ),
    "a column of Parquet": (
        lambda path: table().drop(columns="b").to_parquet(path),
        ["in.csv", "out.csv"],
        r"in.csv: no column `b`; valid: a, c, id",
    ),
    "a cell of Parquet": (
        lambda path: table().assign(b=[*range(90), np.inf, *range(9)]).to_parquet(path),
        ["in.csv", "out.csv"],
        r"in.csv:90: column `b`: inf is too large for float32 \(mend it\)",
    ),
    "a broken Parquet": (
        lambda path: Path(path).write_bytes(b"PAR1 and no more"),
        ["in.csv", "out.csv"],
        r"in.csv: no readable Parquet: .+",
    ),
    "no rows": (
        lambda path: Path(path).write_text("a,b,c\n"),
        ["in.csv", "out.csv"],
        "in.csv: has a header but no rows",
    ),
    "no rows of Parquet": (lambda path: table(0).to_parquet(path), ["in.csv", "out.csv"], "in.csv: has no rows"),
    "a folder": (lambda path: Path(path).mkdir(), ["in.csv", "out.csv"], r"in.csv: is a folder \(expected a CSV .+\)"),
    "nothing": (lambda path: None, ["in.csv", "out.csv"], "in.csv: not found"),
    "an ending": (
        bad_cell,
        ["in.csv", "out.txt"],
        r"out.txt: no place for the answers \(expected .+ .csv or .parquet\)",
    ),
    "the input": (bad_cell, ["in.csv", "./in.csv"], r"in.csv: is what is to be read \(name another output\)"),
    "no such folder": (bad_cell, ["in.csv", "a/out.csv"], r"a: no such folder \(make it, for out.csv\)"),
    "a column to keep": (bad_cell, ["in.csv", "out.csv", "ids"], r"in.csv:1: no column `ids` \(did you mean `id`\?\)"),
    "an answer to keep": (
        lambda path: table().rename(columns={"id": "p_no"}).to_csv(path, index=False),
        ["in.csv", "out.csv", "p_no"],
        "in.csv: column `p_no` cannot be kept: one of the answers is called so",
    ),
    "bytes in a CSV": (
        lambda path: table().assign(id=[b"=1+1"] * 100).to_parquet(path),
        ["in.csv", "out.csv", "id"],
        r"in.csv: column `id`: binary has no place in a CSV \(write .parquet\)",
    ),
    "bytes as categories in a CSV": (
        lambda path: pq.write_table(
            pa.table(table()).append_column("note", pa.array([b"=1+1"] * 100).dictionary_encode()), path
        ),
        ["in.csv", "out.csv", "note"],
        r"in.csv: column `note`: binary has no place in a CSV \(write .parquet\)",
    ),
    "a list in a CSV": (
        lambda path: table().assign(id=[[1, 2]] * 100).to_parquet(path),
        ["in.csv", "out.csv", "id"],
        r"in.csv: column `id`: list<.+> has no place in a CSV \(write .parquet\)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_is_one_line_and_leaves_nothing(here, small_parts, case):
    write, arguments, told = REFUSED[case]
    write("in.csv")
    if arguments[1] == "out.csv":
        Path("out.csv").write_text("of before")
    there = {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    with pytest.raises(BadInput) as refused:
        predict(*arguments)
    assert re.fullmatch(told, str(refused.value))
    assert {path: path.read_bytes() for path in Path().iterdir() if path.is_file()} == there
    assert left() == []


def test_an_answer_that_is_not_finite_is_refused(here, small_parts):
    table().assign(a=[*range(90), 3e38, *range(9)], b=3e38).to_csv("in.csv", index=False)

    class Overflowing(NumpyChampion):
        def answers(self, values):
            return values["column a"] + values["column b"]

    with np.errstate(over="ignore"), pytest.raises(BadInput, match=r"in.csv:92: the model has no finite answer to it"):
        predict("in.csv", "out.csv", champion=Overflowing)
    assert left() == []


def test_a_folder_of_texts_is_answered_text_by_text(here, small_parts):
    spec = Text(kind="text", objective="binary", path="text.csv", text="said", target="y")

    class Long(NumpyChampion):
        def __init__(self, pinned):
            super().__init__(pinned, spec, {"classes": ["no", "yes"]})

        def answers(self, values):
            return np.array([[len(text) > 3] for (text,) in values["text"]], np.float32)

    for name, said in {
        "b/two.txt": "over\n",
        "a/one.txt": "\ufeffno\n",
        "a/=1.txt": "yes, long",
        ".git/x.txt": "",
    }.items():
        Path("in", name).parent.mkdir(parents=True, exist_ok=True)
        Path("in", name).write_text(said)
    Path("in/notes.md").write_text("no text")
    predict("in", "out.csv", champion=Long)
    found = pd.read_csv("out.csv", index_col="example")["p_yes"]
    assert found.to_dict() == {"a/=1.txt": 1, "a/one.txt": 0, "b/two.txt": 1}
    Path("in/b/two.txt").write_bytes(b"\xff")
    with pytest.raises(BadInput, match=r"in/b/two.txt: not UTF-8 at byte 0"):
        predict("in", "out.csv", champion=Long)
    with pytest.raises(BadInput, match=r"in: has no column `id` to keep"):
        predict("in", "out.csv", "id", champion=Long)


# === What is told ===


def test_without_a_terminal_a_line_tells_how_far_it_is(here, small_parts, monkeypatch, caplog):
    monkeypatch.setattr(batch, "EVERY", 0)
    table().to_csv("in.csv", index=False)
    with caplog.at_level(logging.INFO, "trainyard"):
        predict("in.csv", "out.csv")
    assert caplog.messages[:2] == ["out.csv: 7 of 100 rows", "out.csv: 14 of 100 rows"]
    assert re.fullmatch(r"out.csv: 100 answers of version 1 of m \(SHA-256 111111111111…\), \d+ s", caplog.messages[-1])


def test_on_a_terminal_a_bar_is_drawn(here):
    table().to_csv("in.csv", index=False)
    program = "from numpy_champion import predict; predict('in.csv', 'out.csv')"
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, 100))
    try:
        subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, stderr=its, check=True)
        drawn = os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
        os.close(its)
    assert re.search(r"out.csv: 100%\|█+\| 100/100", drawn)


# === A million rows ===


@pytest.mark.slow
def test_a_million_rows_within_a_gigabyte_killed_and_continued(here, monkeypatch):
    rng, names = np.random.default_rng(0), [f"c{i}" for i in range(30)]
    frame = pd.DataFrame(rng.normal(size=(300, 30)).round(4), columns=names)
    frame.assign(y=(frame["c0"] > 0).map({True: "yes", False: "no"})).to_csv("train.csv", index=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{here}/mlflow.db")
    block = {"kind": "tables", "objective": "binary", "path": "train.csv", "target": "y"}
    whole = {"seed": 1, "datasets": {"m": block}, "train": {"m": {"family": "mlp", "dataset": "m", "layers": [64, 32]}}}
    with Path("params.yaml").open("w") as file:
        YAML().dump({**whole, "evaluate": {"m": {"dataset": "m"}}}, file)
    loaded = params.load()
    spec = loaded.dataset("m")
    manifest = kinds.of(spec).manifest(spec)
    Path("build/m").mkdir(parents=True)
    kinds.write_prepared(spec, manifest, kinds.of(spec).split(spec, manifest, 1), Path("build/m"))
    leave_model("m", loaded)
    evaluate("m", loaded)
    crown("m", loaded)
    many = {name: rng.normal(size=1_000_000).round(4) for name in names}
    arrow.write_csv(pa.table(many), "in.csv")

    took, peak = run_to_the_end("whole.csv")
    peaks, parts = [peak], Path(".out.csv.begun")
    for reached in ("3.parquet", "41.parquet", "42.parquet", "100.parquet", ".whole.*"):
        with started("out.csv") as killed:
            assert until(lambda reached=reached: [*parts.glob(reached)], 600), reached
            peaks.append(peak_of(killed))
            os.killpg(killed.pid, signal.SIGKILL)
        assert not Path("out.csv").exists()
    peaks.append(run_to_the_end("out.csv")[1])
    print(f"{1_000_000 / took:,.0f} rows a second, the process's start among them; at most {max(peaks)} MiB")  # noqa: T201
    assert max(peaks) < 1000
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()
    assert left() == []
    found = pd.read_csv("out.csv")
    assert found["example"].tolist() == list(range(2, 1_000_002))
    places = rng.choice(1_000_000, 1000, replace=False)
    raw = {f"column {name}": values[places].astype(np.float32)[:, None] for name, values in many.items()}
    model = saved.load(Path("models/m/model.keras"), sha256(Path("models/m/model.keras")))
    np.testing.assert_allclose(found["p_yes"][places], saved.predict(model, raw)[:, 0], rtol=0, atol=1e-6)


def started(output):
    command = [sys.executable, "-m", "trainyard.cli", "predict", "m", "in.csv", output]
    return subprocess.Popen(command, start_new_session=True)


def run_to_the_end(output):
    """Seconds, and the most MiB that it had."""
    began, peak = time.monotonic(), 0
    with started(output) as process:
        while process.poll() is None:
            peak = peak_of(process) or peak
            time.sleep(0.02)
    assert process.returncode == 0
    return time.monotonic() - began, peak


def peak_of(process):
    """The most MiB that a process has had; 0 once it has ended. What `wait4` tells is not less than its parent had."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    except OSError:
        found = None
    return int(found[1]) // 1024 if found else 0
