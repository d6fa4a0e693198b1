"""The registered model answers raw rows as `evaluate` did, wherever it is loaded, and so does the old champion."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trainyard import files, kinds, params, tracking
from trainyard.errors import BadInput
from trainyard.quality import evaluation
from trainyard.quality.baselines import Baseline
from trainyard.stages.register import register
from trainyard.tracking import pyfunc

SETS = {
    "wines": {
        "kind": "tables",
        "path": "wines.csv",
        "target": "colour",
        "objective": "multiclass",
        "categorical": ["grape", "cask"],
    },
    "shapes": {"kind": "images", "path": "shapes", "objective": "binary", "channels": 1},
    "tides": {
        "kind": "series",
        "path": "tides.csv",
        "time": "day",
        "target": "level",
        "window": 6,
        "horizon": 2,
        "fill": 1,
        "where": {"place": "north"},
    },
}


def write_wines():
    draw = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "acid": draw.normal(size=90).round(3),
            "age": range(90),  # pandas reads whole numbers as int64
            "cask": [1, 2, 3] * 30,
            "grape": ["riesling", "merlot", ""] * 30,
            "colour": ["red", "rosé", "white"] * 30,
        }
    )
    table.loc[::7, "acid"] = np.nan
    table.to_csv("wines.csv", index=False)


def write_shapes():
    from PIL import Image

    draw = np.random.default_rng(0)
    for name in ("disc", "square"):
        Path("shapes", name).mkdir(parents=True)
        for i in range(60):
            Image.fromarray(draw.integers(0, 256, (8, 8), np.uint8)).save(f"shapes/{name}/{i}.png")


def write_tides():
    level = np.sin(np.arange(120.0))
    level[60] = np.nan
    days = pd.date_range("2020-01-01", periods=120).strftime("%Y-%m-%d")
    north = pd.DataFrame({"day": days, "level": level, "place": "north"})
    pd.concat([north, north.assign(level=2 * level, place="south")]).to_csv("tides.csv", index=False)


def loaded_params(**changes):
    sets = {name: {**block, **changes.get(name, {})} for name, block in SETS.items()}
    models = {f"m-{name}": {"family": "mlp", "dataset": name} for name in SETS}
    return params.parse(
        {"datasets": sets, "train": models, "evaluate": {name: {"dataset": name[2:]} for name in models}}
    )


def prepare(dataset, loaded, seed=1):
    spec = loaded.dataset(dataset)
    kind = kinds.of(spec)
    manifest = kind.manifest(spec)
    with files.replacing_folder(Path("build") / dataset) as folder:
        kinds.write_prepared(spec, manifest, kind.split(spec, manifest, seed), folder)
    return kinds.open_prepared(dataset, spec)


def train(dataset, loaded, weight_seed=0):
    """Random weights answer as well as trained ones here; gives the scores that `evaluate` writes."""
    import keras
    from keras import layers

    from trainyard.models import saved

    data = kinds.open_prepared(dataset, loaded.dataset(dataset))
    keras.utils.set_random_seed(weight_seed)
    preprocessing = kinds.of(data.spec).preprocessing(data.spec, data.facts, data.train)
    core = keras.Sequential([layers.Flatten(), layers.Dense(data.units, activation=data.objective.activation)])
    core.build((None, *preprocessing.features.shape[1:]))
    model, name = preprocessing.join(core), f"m-{dataset}"
    with files.replacing_folder(Path("models") / name) as folder:
        sample = {key: np.asarray(values[:4]) for key, values in data.test.raw.items()}
        sha256 = saved.save(model, folder / "model.keras", sample)
        files.write_csv(
            folder / "history.csv", pd.DataFrame({"loss": [1.0], "kept": [1]}, index=pd.Index([1], name="epoch"))
        )
        about = {
            "model": name,
            "family": "mlp",
            "dataset": dataset,
            "kind": data.spec.kind,
            "objective": data.objective.name,
            "classes": data.classes,
            "facts": dict(data.facts),
            "spec": data.spec.model_dump(mode="json"),
            "params": loaded.model(name).model_dump(mode="json"),
            "backbone": None,
            "parameters": model.count_params(),
            "temperature": None,
            "sha256": sha256,
        }
        files.write_json(folder / "model.json", about)
    answer = saved.predict(model, data.test.raw)
    wrong = (
        {"binary": 1.0 - data.test.target[:, None], "multiclass": np.eye(3)[(data.test.target + 1) % 3]}
        if data.classes
        else {}
    )
    naive = Baseline("always wrong", wrong.get(data.objective.name, data.test.target + 1e6))
    sample = evaluation.draws(data.objective, data.test.rows, data.test.target)
    metrics = evaluation.metrics(data.objective, data.test.target, answer, naive, naive, sample)
    scores = evaluation.scores(data.objective, data.classes, data.test.rows, data.test.target, answer, naive, naive)
    report = Path("reports/models") / name
    files.write_json(report / "metrics.json", {"model": name, "dataset": dataset, "sha256": sha256, **metrics})
    files.write_csv(report / "scores.csv", scores)
    return scores


@pytest.fixture(scope="module")
def folder(tmp_path_factory, database):
    """A project whose three models are registered, the slowest part of these tests; with the scores of each."""
    place = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("MLFLOW_TRACKING_URI", database)
        for write in (write_wines, write_shapes, write_tides):
            write()
        loaded, scores = loaded_params(), {}
        for dataset in SETS:
            prepare(dataset, loaded)
            scores[dataset] = train(dataset, loaded)
            register(f"m-{dataset}", loaded)
    return place, scores


def user_rows(dataset):
    """Rows as a user reads them, all of the data, columns turned round, indexed as scores.csv is."""
    if dataset == "shapes":
        paths = sorted(Path("shapes").rglob("*.png"))
        names = [path.relative_to("shapes").as_posix() for path in paths]
        return pd.DataFrame({"image": [path.read_bytes() for path in paths]}, index=names)
    table = pd.read_csv(f"{dataset}.csv")
    table.index = (table.index + 2).astype(str)  # the line in the file
    return table[table.columns[::-1]]


@pytest.fixture
def registered(folder, monkeypatch, tracked):
    monkeypatch.chdir(folder[0])
    yield folder[1]
    for dataset in SETS:  # whatever a test made of them
        prepare(dataset, loaded_params())


@pytest.fixture
def mlflow(registered, database):
    import mlflow

    mlflow.set_tracking_uri(database)
    yield mlflow
    mlflow.set_tracking_uri(None)


@pytest.mark.parametrize("dataset", SETS)
def test_the_champion_answers_raw_rows_as_evaluate_did(registered, dataset, mlflow):
    model = mlflow.pyfunc.load_model(f"models:/m-{dataset}@champion")
    scores = registered[dataset]
    answers = [column for column in scores if column.startswith(("p_", "answer"))]
    found = model.predict(user_rows(dataset))
    assert list(found.columns) == answers
    np.testing.assert_allclose(found.loc[scores.index].to_numpy(), scores[answers].to_numpy(), rtol=0, atol=1e-6)
    assert found.loc[scores.index].std().min() > 0.001  # answers that are all the same would agree with anything
    example = model.predict(model.input_example)
    first = example.loc[scores.index[:1]] if dataset == "tides" else example[:1]
    np.testing.assert_allclose(first.to_numpy(), scores[answers].to_numpy()[:1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("dataset", SETS)
def test_the_schema_says_what_a_row_is(registered, dataset, mlflow):
    schema = mlflow.models.get_model_info(f"models:/m-{dataset}@champion").signature.inputs
    assert {column["name"]: column["type"] for column in schema.to_dict()} == {
        "wines": dict.fromkeys(["acid", "age", "cask", "grape"], "any"),
        "shapes": {"image": "binary"},
        "tides": dict.fromkeys(["day", "level", "place"], "any"),
    }[dataset]


LOAD = """
import ast, importlib.metadata, importlib.util, inspect, json, sys
assert (importlib.util.find_spec("trainyard") is not None) == (sys.argv[2] == "True")
import mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
answers = model.predict(model.input_example)

code = [module for name, module in sys.modules.items() if name.partition(".")[0] in ("trainyard", "model")]
nodes = [node for module in code for node in ast.walk(ast.parse(inspect.getsource(module)))]
imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
imported |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
owners = importlib.metadata.packages_distributions()
needed = {owner for name in imported for owner in owners.get(name.partition(".")[0], []) if name in sys.modules}
print(json.dumps([answers.to_numpy().tolist(), sorted(needed), [module.__file__ for module in code]]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("installed", [True, False])
def test_the_model_loads_in_a_fresh_process_with_and_without_the_package(registered, tmp_path, database, installed):
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    # -S: the files that put an editable install on the path are not read
    environment = {**os.environ, "MLFLOW_TRACKING_URI": database, "PYTHONPATH": "" if installed else packages}
    command = [
        sys.executable,
        *([] if installed else ["-S"]),
        "-W",
        "ignore",
        "-c",
        LOAD,
        "models:/m-wines@champion",
        str(installed),
    ]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers, needed, code = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(answers, registered["wines"].filter(like="p_").iloc[:2], rtol=0, atol=1e-6)
    assert not any("src/trainyard" in file for file in code)  # the code that it came with answers
    required = {
        name.replace("-", "_") for name in (*pyfunc.REQUIRED, "pydantic-core", "mlflow", "mlflow-skinny", "trainyard")
    }
    assert {name.lower().replace("-", "_").replace(".", "_") for name in needed} - required == set()


@pytest.mark.bad_input(
    number=83, what="a version whose file is another", then="refused by its SHA-256 before anything is read"
)
def test_a_model_file_that_was_changed_is_not_loaded(registered, tmp_path, mlflow):
    place = mlflow.artifacts.download_artifacts("models:/m-wines@champion")
    shutil.copytree(place, tmp_path / "model")
    with (tmp_path / "model/artifacts/model.keras").open("ab") as file:
        file.write(b"more")
    with pytest.raises(BadInput, match="not the file that was trained"):
        mlflow.pyfunc.load_model(str(tmp_path / "model"))


@pytest.mark.parametrize(
    ("dataset", "change"),
    [("wines", {"ignore": ["grape"], "categorical": ["cask"]}), ("shapes", {"size": [4, 4]}), ("tides", {"window": 3})],
)
def test_the_champion_is_asked_where_the_test_rows_or_their_form_are_others(registered, dataset, change):
    """The old model reads the same examples in its own way: with its columns, its size, its window."""
    champion = tracking.champion(f"m-{dataset}")
    loaded = loaded_params(**{dataset: change})
    data = prepare(dataset, loaded, seed=1)
    known = registered[dataset]["score"]
    found = tracking.scores_on(champion, data)
    assert found.index.equals(data.test.rows.index)
    both = known.index.intersection(found.index)
    assert len(both) >= 5
    np.testing.assert_allclose(found[both], known[both], rtol=0, atol=1e-6)


def test_a_champion_whose_columns_are_gone_cannot_be_compared(registered):
    champion = tracking.champion("m-wines")
    loaded = loaded_params(wines={"path": "other.csv"})
    pd.read_csv("wines.csv").rename(columns={"acid": "acidity"}).to_csv("other.csv", index=False)
    with pytest.raises(BadInput, match=r"no column `acid`"):
        tracking.scores_on(champion, prepare("wines", loaded, seed=2))


def test_publish_does_not_import_tensorflow(registered, client, database):
    client.delete_registered_model("m-tides")
    code = (
        "import sys, runpy; from trainyard import tracking; "
        f"params = runpy.run_path({__file__!r})['loaded_params'](); "
        "assert tracking.publish('m-tides', params).version == '1'; "
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    environment = {**os.environ, "MLFLOW_TRACKING_URI": database}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
