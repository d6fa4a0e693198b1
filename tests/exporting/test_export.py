"""`trainyard export`: what is written answers as the model does, and what does not is not written."""

import json
import shutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from ai_edge_litert.schema_py_generated import TensorType
from ai_edge_litert.tools import flatbuffer_utils
from contracts.samples import prepared
from contracts.test_families import CASES, block, parts

from trainyard import cli, exporting, files, kinds, models, params
from trainyard.exporting import graphs, litert, portable
from trainyard.kinds import tables, text
from trainyard.models import saved
from trainyard.quality import parity
from trainyard.stages import export
from trainyard.training import package

PROJECT = Path(__file__).parents[2]
PAIRS = [(*case, to) for case in CASES for to in exporting.FORMATS if (case[0], to) not in exporting.CANNOT]
QUICK = [("mlp", "tables", "binary", to) for to in exporting.FORMATS]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    made = {}

    def get(kind, objective):
        if (kind, objective) not in made:
            made[kind, objective] = prepared(tmp_path_factory.mktemp("data"), kind, objective)
        return made[kind, objective]

    return get


def joined(data, family, **knobs):
    """A model with random weights that takes raw values, and what model.json says about it."""
    keras.utils.set_random_seed(0)
    spec = block(family, **knobs)
    preprocessing, core, _, x, _ = parts(data, spec, 1000)
    for layer in models.layers(core):  # a MobileNet answers all of these alike, unless it has seen them once
        if isinstance(layer, keras.layers.BatchNormalization) and family == "mobilenet":
            layer.trainable, layer.momentum = True, 0.0
    if family == "mobilenet":
        core(x, training=True)
    return preprocessing.join(core), package.about(spec, data)


def compared(data, model, about, to, path):
    """How a file of the model lies beside it on the test split."""
    ours = saved.predict(model, data.test.raw)
    file = exporting.written(to, model, about, path, data.train, 1)
    theirs = replace(file, inputs=json.loads(json.dumps(file.inputs))).outputs(data.test.raw)
    answers = exporting.read(about, ours), exporting.read(about, theirs)
    return parity.compare(data.objective, data.test.target, (ours, theirs), answers)


@pytest.mark.parametrize(
    ("family", "kind", "objective", "to"),
    [pytest.param(*pair, marks=() if pair in QUICK else pytest.mark.slow) for pair in PAIRS],
)
def test_a_file_answers_as_its_model(data, family, kind, objective, to, tmp_path):
    examples = data(kind, objective)
    model, about = joined(examples, family)
    found = compared(examples, model, about, to, tmp_path)
    assert found.spread > 1e-3
    if to != "litert-int8":
        assert found.difference < 1e-4
        return
    if kind == "images":
        (tmp_path / "floats").mkdir()
        floats = exporting.written("litert", model, about, tmp_path / "floats").path
        saves = floats.stat().st_size - (tmp_path / floats.name).stat().st_size
        assert saves > 2 * model.count_params(), "half of what weights are in floats, at least"
    if family != "mobilenet":  # with the statistics of so few and small images, any rounding of its weights is chaos
        assert found.apart < 0.5  # a file that always gives the mean has 1


@pytest.mark.slow
def test_the_embedded_weights_survive_8_bits(tmp_path, monkeypatch):
    told = params.load(PROJECT / "params.yaml")
    spec = told.dataset("pictograms").model_copy(update={"path": str(PROJECT / "data/pictograms")})
    manifest = kinds.of(spec).manifest(spec)[::2]
    with files.replacing_folder(tmp_path / "sample") as build:
        kinds.write_prepared(spec, manifest, kinds.of(spec).split(spec, manifest, 1), build)
    examples = kinds.open_prepared("sample", spec, tmp_path)
    keras.utils.set_random_seed(1)
    preprocessing, core, *_ = parts(examples, block("mobilenet"), 1)
    model, about = preprocessing.join(core), package.about(block("mobilenet"), examples)
    found = compared(examples, model, about, "litert-int8", tmp_path)
    monkeypatch.setattr(litert, "correct_biases", lambda _, quantized, __: quantized)
    plain = compared(examples, model, about, "litert-int8", tmp_path)
    assert found.apart < 0.75 * plain.apart


@pytest.mark.slow
@pytest.mark.parametrize("to", list(exporting.FORMATS))
@pytest.mark.parametrize("version", ["v2", "v3-small"])
def test_other_versions_of_mobilenet(data, version, to, tmp_path):
    examples = data("images", "multiclass")
    backbone = {"version": version, "width": 0.25, "weights": "none"}
    model, about = joined(examples, "mobilenet", backbone=backbone)
    found = compared(examples, model, about, to, tmp_path)
    assert found.spread > 1e-3
    if to != "litert-int8":
        assert found.apart < 1e-3
        return
    # rounding random weights of v2 is chaos, and the verb would refuse them; but each layer has an int8 kernel
    (tmp_path / "floats").mkdir()
    floats = exporting.written("litert", model, about, tmp_path / "floats").path
    assert floats.stat().st_size - (tmp_path / floats.name).stat().st_size > 2 * model.count_params()


@pytest.mark.slow
@pytest.mark.parametrize("tokens", ["trigrams", "words"])
def test_tokens_of_each_sort_are_looked_up(tokens, tmp_path):
    examples = prepared(tmp_path / "data", "text", "multiclass")
    examples = replace(examples, spec=examples.spec.model_copy(update={"tokens": tokens}))
    assert compared(examples, *joined(examples, "rnn"), "onnx", tmp_path).difference < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    "knobs", [{"cell": "lstm"}, {"cell": "simple"}, {"bidirectional": True, "dropout": 0.5, "filters": [6]}]
)
@pytest.mark.parametrize("to", ["litert", "onnx"])
def test_recurrent_layers_of_each_sort(data, knobs, to, tmp_path):
    examples = data("text", "multiclass")
    assert compared(examples, *joined(examples, "rnn", **knobs), to, tmp_path).difference < 1e-4


# === The parts ===


@pytest.mark.parametrize(("family", "kind"), [("mlp", "tables"), ("cnn", "images")])
def test_biases_that_are_off_in_8_bits_are_corrected(data, family, kind, tmp_path, monkeypatch):
    correct = litert.correct_biases

    def spoiled(quantized):
        model, random = flatbuffer_utils.read_model_from_bytearray(quantized), np.random.default_rng(1)
        whole = [one for one in model.subgraphs[0].tensors if one.type == TensorType.INT32]
        biases = [one for one in whole if one.quantization and one.quantization.scale is not None]
        assert len(biases) > 1
        for bias in biases:
            off = 0.1 * random.normal(size=bias.shape) / bias.quantization.scale
            told = np.clip(np.frombuffer(model.buffers[bias.buffer].data, np.int32) + off, -(2**31), 2**31 - 1)
            model.buffers[bias.buffer].data = np.frombuffer(told.astype(np.int32).tobytes(), np.uint8)
        return bytes(flatbuffer_utils.convert_object_to_bytearray(model))

    examples = data(kind, "multiclass")
    model, about = joined(examples, family)
    for weight in model.weights:
        if weight.name == "bias":  # one of zeros has no place in a file
            weight.assign(0.5 * np.random.default_rng(0).normal(size=weight.shape))
    first = next(weight for weight in model.weights if weight.name == "kernel")
    first.assign(np.concatenate([np.full((*first.shape[:-1], 1), 1e-13), first.numpy()[..., 1:]], axis=-1))  # dead
    monkeypatch.setattr(litert, "correct_biases", lambda _, quantized, __: spoiled(quantized))
    off = compared(examples, model, about, "litert-int8", tmp_path)
    monkeypatch.setattr(
        litert, "correct_biases", lambda floats, quantized, rows: correct(floats, spoiled(quantized), rows)
    )
    found = compared(examples, model, about, "litert-int8", tmp_path)
    assert found.apart < 0.25 * off.apart


@pytest.mark.parametrize(
    "said", ["Ein ÄFFCHEN, e-mail: 3.50€!  \nHäuser", "a\u00a0b\u2003c\x1cd \u0085e\tf", "ﬀ İ 👩‍🚀 x"]
)
@pytest.mark.parametrize("how", list(text.TOKENS))
def test_tokens_are_those_that_keras_reads(how, said):
    layer = keras.layers.TextVectorization(output_mode="int", ragged=True, **text.TOKENS[how])
    layer.adapt([said])
    known = layer.get_vocabulary()
    theirs = [known[number] for number in layer([said]).to_list()[0]]
    ours = graphs.tokens(how, said)
    assert [" ".join(token) if how == "trigrams" else token for token in ours] == theirs


def test_columns_are_told_by_name_and_categories_by_their_place(data):
    examples = data("tables", "binary")
    model, about = joined(examples, "mlp")
    graph = graphs.of(model, about)
    table = pd.DataFrame({"colour": ["blue", "red", None], "weight": [1, None, 2], "size": [3, 4, 5]})
    raw, _ = tables.decode(examples.spec, examples.facts, table)
    fed = graphs.fed(about, graph.inputs, raw)
    assert graph.inputs["numbers"]["columns"] == ["size", "weight"]
    assert graph.inputs["categories"]["columns"] == [{"name": "colour", "values": ["", "green", "red"]}]
    np.testing.assert_array_equal(fed["numbers"], [[3, 1], [4, np.nan], [5, 2]])
    np.testing.assert_array_equal(fed["categories"], [[0], [3], [1]])
    np.testing.assert_allclose(graph.model(fed)["answer"], saved.predict(model, raw), atol=1e-6)


@pytest.mark.parametrize("sides", [((20, 30), (7, 9)), ((20, 30), (40, 31)), ((8, 8), (8, 3))])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_images_are_resized_by_matrices(sides, interpolation):
    old, new = sides
    layer = keras.layers.Resizing(*new, interpolation=interpolation, antialias=True)
    images = np.random.default_rng(0).random((3, *old, 2), np.float32)
    expected = layer(images)
    np.testing.assert_allclose(portable.Resized(layer)(images), expected, atol=1e-5)


@pytest.mark.parametrize(("length", "window", "step"), [(256, 200, 80), (512, 512, 128), (64, 51, 17)])
def test_spectrograms_are_convolutions(length, window, step):
    layer = keras.layers.MelSpectrogram(length, step, window, sampling_rate=8000, num_mel_bins=12, power_to_db=False)
    sound = np.random.default_rng(0).normal(size=(3, 2411)).astype(np.float32)
    expected = layer(sound)
    np.testing.assert_allclose(portable.MelBands(layer)(sound), expected, rtol=1e-4, atol=1e-4)


def test_layers_that_a_file_has_are_shared(data):
    model, _ = joined(data("images", "binary"), "mobilenet")
    weights = [id(weight) for weight in model.weights]
    other = portable.portable(model)
    assert [id(weight) for weight in other.weights] == weights


# === The verb ===


@pytest.fixture(scope="module")
def project(data, tmp_path_factory):
    """A folder with a prepared sample and a trained model of it."""
    place = tmp_path_factory.mktemp("project")
    examples = data("tables", "binary")
    shutil.copytree(examples.folder.parent, place / "build")
    model, _ = joined(examples, "mlp")
    ours = (saved.predict(model, examples.test.raw)[:, 0] >= 0.5).astype(np.int32)
    assert set(ours) == {0, 1}
    np.save(place / "build/sample/test/target.npy", ours)  # it is always right
    history = pd.DataFrame({"loss": [1.0], "val_loss": [1.0]}, pd.Index([1], name="epoch"))
    package.write("m", block("mlp"), examples, model, history, folder=place / "models" / "m")
    blocks = {
        "datasets": {"sample": examples.spec.model_dump(mode="json", exclude_unset=True)},
        "train": {"m": {"family": "mlp", "dataset": "sample"}},
        "evaluate": {"m": {"dataset": "sample"}},
    }
    (place / "params.yaml").write_text(json.dumps(blocks))
    return place


@pytest.fixture
def here(project, monkeypatch, tmp_path):
    shutil.copytree(project, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def planted(monkeypatch, to, convert):
    monkeypatch.setitem(exporting.FORMATS, to, replace(exporting.FORMATS[to], convert=convert))


def left():
    return sorted(path.as_posix() for path in Path().glob("exports/**/*"))


@pytest.mark.parametrize("to", list(exporting.FORMATS))
def test_a_model_is_written_with_what_one_must_know(here, to, capsys):
    assert cli.main(["export", "m", "--to", to]) == 0
    folder = Path("exports/m") / to
    told, form = files.read_json(folder / "model.json"), exporting.FORMATS[to]
    assert sorted(path.name for path in folder.iterdir()) == sorted(["README.md", "model.json", form.file])
    assert told["sha256"] == files.sha256(folder / form.file)
    assert told["model"] == files.read_json(Path("models/m/model.json"))
    assert told["source"]["content"] == export.content_of(Path("models/m"))
    assert told["source"]["version"] is None
    assert told["parity"]["examples"] == 18
    assert len(told["calibrated_on"]) == (len(set(told["calibrated_on"])) if to == "litert-int8" else 0)
    row = f"| m | {to} | accuracy | 18 |"
    assert row in capsys.readouterr().out
    assert row in (folder / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("to", ["litert", "litert-int8"])  # tf2onnx takes the order of sets, another in each process
def test_two_processes_write_the_same_bytes(here, to):
    found = []
    for _ in range(2):
        subprocess.run([sys.executable, "-m", "trainyard.cli", "export", "m", "--to", to], check=True)
        found.append(files.read_json(Path("exports/m") / to / "model.json")["sha256"])
    assert found[0] == found[1]


@pytest.mark.parametrize("to", ["litert", "onnx"])
def test_a_file_with_a_changed_weight_is_not_written(here, to, monkeypatch, capsys):
    convert = exporting.FORMATS[to].convert

    def damaged(graph, path):
        head = next(weight for weight in graph.model.weights if "head" in weight.path)
        was = head.numpy()
        head.assign(was * 1.05)
        convert(graph, path)
        head.assign(was)

    planted(monkeypatch, to, damaged)
    assert cli.main(["export", "m", "--to", to]) == 4
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert f"m as {to}: an output differs by" in line
    assert not left()


def test_a_file_of_the_wrong_scale_is_not_written_and_the_one_before_stays(here, monkeypatch, capsys):
    assert cli.main(["export", "m", "--to", "litert-int8"]) == 0
    before = {path: Path(path).read_bytes() for path in left() if Path(path).is_file()}
    quantize = litert.quantize

    def narrow(graph, path, calibration):
        quantize(graph, path, [{name: 0 * values for name, values in row.items()} for row in calibration])

    monkeypatch.setattr(litert, "quantize", narrow)
    assert cli.main(["export", "m", "--to", "litert-int8"]) == 4
    assert "accuracy is" in capsys.readouterr().err
    assert {path: Path(path).read_bytes() for path in left() if Path(path).is_file()} == before


def test_a_model_that_a_converter_cannot_hold_is_refused_in_one_line(here, monkeypatch, capfd):
    def fails(graph, path):
        raise RuntimeError("no such operation:\n  Erfinv")

    planted(monkeypatch, "onnx", fails)
    assert cli.main(["export", "m", "--to", "onnx"]) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line == "error: m: onnx cannot hold it: no such operation: Erfinv"
    assert not left()


def test_what_fails_on_the_way_leaves_nothing(here, monkeypatch):
    def fails(graph, path):
        path.write_bytes(b"half")
        raise OSError(5, "Input/output error", str(path))

    planted(monkeypatch, "onnx", fails)
    assert cli.main(["export", "m", "--to", "onnx"]) == 5
    assert not left()


@pytest.mark.parametrize(("family", "to"), list(exporting.CANNOT))
def test_what_cannot_be_is_refused_in_one_line(here, family, to, capsys):
    about = {**files.read_json(Path("models/m/model.json")), "family": family}
    files.write_json(Path("models/m/model.json"), about)
    assert cli.main(["export", "m", "--to", to]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --to {to}: not of family {family}: ")


@pytest.mark.parametrize(
    ("to", "missing"), [(to, name) for to, form in exporting.FORMATS.items() for name in form.needs]
)
def test_a_missing_package_is_named_with_what_to_install(here, to, missing, monkeypatch, capsys):
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == missing else name)
    assert cli.main(["export", "m", "--to", to]) == 5
    assert (
        capsys.readouterr().err == f"error: --to {to}: {missing} is not installed (pip install 'trainyard[export]')\n"
    )


def test_a_model_of_other_data_is_refused(here, capsys):
    facts = files.read_json(Path("build/sample/facts.json"))
    files.write_json(Path("build/sample/facts.json"), {**facts, "numeric": facts["numeric"][::-1]})
    assert cli.main(["export", "m", "--to", "onnx"]) == 2
    assert "trained on other data than build/sample" in capsys.readouterr().err


def test_the_version_of_the_registry_is_named(here, monkeypatch):
    known = SimpleNamespace(version=7)
    Path("mlruns").mkdir()
    Path("mlruns/mlflow.db").touch()
    monkeypatch.setattr(export.store, "connected", nullcontext)
    monkeypatch.setattr(export.registry, "with_content", lambda client, name, content: known if name == "m" else None)
    assert cli.main(["export", "m", "--to", "litert"]) == 0
    assert files.read_json(Path("exports/m/litert/model.json"))["source"]["version"] == "7"


# === The shipped models, and the page ===


@pytest.mark.slow
@pytest.mark.parametrize("to", list(exporting.FORMATS))
@pytest.mark.parametrize("name", list(params.load(PROJECT / "params.yaml").models))
def test_shipped_models(name, to, tmp_path, monkeypatch):
    family = params.load(PROJECT / "params.yaml").model(name).family
    if not (PROJECT / "models" / name / "model.keras").exists():
        pytest.skip("not trained here (make repro, or make pull)")
    for part in ("params.yaml", "data", "build", "models"):
        (tmp_path / part).symlink_to(PROJECT / part)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", name, "--to", to]) == (2 if (family, to) in exporting.CANNOT else 0)


def test_the_page_tells_of_every_pair():
    page = (PROJECT / "docs" / "export.md").read_text(encoding="utf-8")
    for (family, to), why in exporting.CANNOT.items():
        assert f"| `{family}` | `{to}` | {why} |" in page
    for name, spec in params.load(PROJECT / "params.yaml").models.items():
        for to in exporting.FORMATS:
            told = (f"| {name} | {to} |" in page) + (f"\nRefused: {name} as {to}: " in page)
            assert told == ((spec.family, to) not in exporting.CANNOT), "by a row, or by why it was refused"
