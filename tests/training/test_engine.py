"""The engine: a core that learnt with JAX, in a process of its own, has learnt what it learns with TensorFlow."""

import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from contracts.samples import prepared
from contracts.test_families import block
from training_cases import EACH, OBJECTIVES, started

from trainyard import kinds, models
from trainyard.errors import BadInput, EnvironmentFailed, TrainingFailed
from trainyard.models import pretrained
from trainyard.params import Augment, Optimizer, Plateau, Training
from trainyard.training import device, engine, features, finetune, fit, precision
from trainyard.training.resume import Resume

pytest.importorskip("jax")
JAX = Training(engine="jax", device="cpu")


@pytest.mark.parametrize(("family", "kind"), EACH)
def test_a_family_learns_by_jax_what_it_learns_by_tensorflow(tmp_path, family, kind):
    """But for rounding. Dropout is out of it, as each backend draws in its own way; so is Adam, which Keras on
    TensorFlow reckons otherwise for an embedding."""
    plain = {"optimizer": Optimizer(name="sgd", learning_rate=0.05)}
    data, spec, (training, validation), core = started(tmp_path, family, kind, OBJECTIVES[kind], **plain)
    ours, theirs, told = core(), core(), []
    expected = fit.fit(theirs, training, validation, spec, data, 7)
    learns = engine.of(JAX)
    history = learns(ours, training, validation, spec, data, 7, lambda epoch, row: told.append((epoch, row)))
    np.testing.assert_allclose(history, expected, rtol=1e-3, atol=1e-4)
    assert [*history.columns] == [*expected.columns]
    assert told == [(epoch, dict(row)) for epoch, row in history.drop(columns="kept").iterrows()]
    for one, other in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-3, err_msg=one.path)


@pytest.mark.slow
@pytest.mark.parametrize("bits", ["float32", "bfloat16"])
def test_blends_a_warm_up_and_rates_that_fall_with_depth_learn_by_jax_what_they_learn_by_tensorflow(tmp_path, bits):
    """And weights that decay at the rate of their layer."""
    data = prepared(tmp_path, "images", "multiclass")
    thaw = {"layers": 12, "epochs": 3, "learning_rate": 0.02, "rate_decay": 0.5, "warm_up": 1}
    optimizer = {"name": "sgd", "learning_rate": 0.05, "weight_decay": 0.1}
    mix = {"kind": "mixup", "alpha": 1.0}
    knobs = {"optimizer": optimizer, "thaw": thaw, "mix": mix, "copies": 1, "epochs": 2, "batch_size": 16}
    spec = block("mobilenet", **knobs, best_epoch=False)
    preprocessing = kinds.of(data.spec).preprocessing(data.spec, data.facts, data.train)

    def learnt(learns):
        keras.utils.set_random_seed(4)
        core = models.build(spec, features.seen(preprocessing), data.objective, data.units)
        core.get_layer("trunk").get_layer("backbone").set_weights(pretrained.resolve(spec.backbone)[0].get_weights())
        with features.pairs(data, preprocessing) as pairs:
            return core, finetune.finetune(core, *pairs, spec, data, 1, engine=learns)

    asked = Training(engine="jax", device="cpu", precision=bits)
    (theirs, expected), (ours, history) = learnt(fit.fit), learnt(precision.of(asked, engine.of(asked)))
    rough = bits == "bfloat16"
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=0.05 if rough else 1e-3)
    np.testing.assert_allclose(history["learning_rate"], expected["learning_rate"], rtol=1e-5)
    for one, other in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=0.05 if rough else 1e-3, err_msg=one.path)


@pytest.mark.gpu
@pytest.mark.skipif(not entry_points(group="jax_plugins"), reason="JAX has no GPU here")
@pytest.mark.parametrize("bits", ["float32", "bfloat16"])
@pytest.mark.parametrize(("family", "kind"), [case.values for case in EACH])
def test_a_family_learns_on_a_gpu_what_it_learns_on_a_cpu(tmp_path, family, kind, bits):
    data, spec, (training, validation), core = started(tmp_path, family, kind, OBJECTIVES[kind])
    expected = fit.fit(core(), training, validation, spec, data, 7)
    asked = Training(engine="jax", device="gpu", precision=bits)
    history = precision.of(asked, engine.of(asked))(core(), training, validation, spec, data, 7)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=0.01 if bits == "float32" else 0.05)


SCANNED = """
import logging, sys
from pathlib import Path
import jax, numpy as np
from trainyard.training import engine, scan
logging.basicConfig(level="INFO")
folder, told = Path(sys.argv[1]), []
begin = (folder / "core.npz").read_bytes()
def learnt():
    (folder / "core.npz").write_bytes(begin)
    engine._learn_by_jax(folder, lambda **what: told.append(what))
    return told[-1]["history"], [*np.load(folder / "core.npz").values()]
history, weights = learnt()
jax.default_backend, scan.TOGETHER = lambda: "gpu", 2
for held in (scan.resident, lambda *arrays: False):
    scan.resident = held
    ours, those = learnt()
    for row, expected in zip(ours, history, strict=True):
        np.testing.assert_allclose([*row.values()], [*expected.values()], rtol=1e-5, atol=1e-6)
    for one, other in zip(those, weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
"""


def kept_lesson(folder, monkeypatch):
    """Where the lesson of the next training by JAX will lie, which then learns nothing."""
    kept = lambda how, used, lesson, on_epoch: shutil.copytree(lesson, folder / "lesson")  # noqa: E731
    monkeypatch.setattr(engine, "_taught_by_jax", kept)
    return folder / "lesson"


def by_jax(code, lesson):
    """Run code about a lesson in a process whose Keras has JAX below."""
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", code, str(lesson)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tables", "text"])
def test_many_steps_in_a_call_of_jax_are_its_single_steps(tmp_path, monkeypatch, kind):
    """As on a GPU: with all rows there, and with those of the next steps alone."""
    knobs = {"dropout": 0.3, "plateau": Plateau(patience=1)}
    data, spec, (training, validation), core = started(tmp_path, "mlp", kind, OBJECTIVES[kind], **knobs)
    assert len(training[1]) % spec.batch_size, "the last batch is a smaller one"
    lesson = kept_lesson(tmp_path, monkeypatch)
    engine.of(JAX)(core(), training, validation, spec, data, 7)
    done = by_jax(SCANNED, lesson)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("2 a call, in a loop on the device") == 2


COMPILED = """
import sys
from pathlib import Path
from trainyard.training import engine
folder = Path(sys.argv[1])
core, _ = engine.learn(folder, engine.asked(folder), lambda **what: None, None)
sys.exit(0 if core.jit_compile else "op by op")
"""


def test_a_network_whose_layers_turn_images_is_compiled_by_jax(tmp_path, monkeypatch):
    """Keras would compute all of it op by op."""
    turned = {"augment": Augment(rotate=0.1, shift=0.1, zoom=0.1)}
    data, spec, (training, validation), core = started(tmp_path, "cnn", "images", "multiclass", **turned)
    lesson = kept_lesson(tmp_path, monkeypatch)
    engine.of(JAX)(core(), training, validation, spec, data, 7)
    done = by_jax(COMPILED, lesson)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_training_by_jax_goes_on_where_it_was_killed(tmp_path):
    """Dropout and a plateau are in what it goes on with."""
    knobs = {"dropout": 0.4, "epochs": 12, "best_epoch": True, "plateau": Plateau(patience=2)}
    data, spec, (training, validation), core = started(tmp_path, "mlp", "tables", "binary", **knobs)
    learns, state, found = engine.of(JAX), Resume(tmp_path / "state"), []
    state.every = 0

    def on_epoch(number, row):
        if number == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learns(core(), training, validation, spec, data, 7, on_epoch, resume=state)
    assert state.read() is not None
    for resume in (state, None):
        ours = core()
        found += [
            (learns(ours, training, validation, spec, data, 7, resume=resume), [*map(np.asarray, ours.variables)])
        ]
    assert found[0][0].to_csv() == found[1][0].to_csv()
    for one, other in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_refused_in_the_other_process_is_refused_here(tmp_path):
    rising = {"optimizer": Optimizer(name="sgd", learning_rate=1e30)}
    data, spec, (training, validation), core = started(tmp_path, "mlp", "tables", "binary", **rising)
    learns = engine.of(JAX)
    with pytest.raises(TrainingFailed, match="lower the learning rate"):
        learns(core(), training, validation, spec, data, 7)
    wrong = spec.model_copy(update={"optimizer": Optimizer(name="sgd", momentum=-1.0)})
    with pytest.raises(BadInput, match="momentum"):
        learns(core(), training, validation, wrong, data, 7)


def test_a_gpu_that_jax_does_not_have_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    data, spec, (training, validation), core = started(tmp_path, "mlp", "tables", "binary")
    learns = engine.of(Training(engine="jax", device="gpu"))
    with pytest.raises(EnvironmentFailed, match=r"JAX (sees none|is installed without CUDA)"):
        learns(core(), training, validation, spec, data, 7)


@pytest.mark.parametrize(
    ("plugins", "platform", "told"),
    [
        ([], "cpu", "JAX is installed without CUDA"),
        (["cuda"], "cpu", "JAX sees none"),
        (["cuda"], "gpu", "JAX computes on cpu:0"),
    ],
)
def test_each_way_in_which_jax_has_no_gpu_is_told(monkeypatch, plugins, platform, told):
    import jax

    monkeypatch.setattr(engine, "entry_points", lambda group: plugins)
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(platform=platform)])
    with pytest.raises(EnvironmentFailed, match=f"training.device is gpu, but {told}"):
        engine._placed()


def test_what_jax_computes_on_replaces_what_is_told_of_tensorflow(tmp_path):
    data, spec, (training, validation), core = started(tmp_path, "mlp", "tables", "binary", epochs=1)
    used = {"trainyard.device": "a CPU", "trainyard.build": "TensorFlow"}
    engine.of(JAX, used)(core(), training, validation, spec, data, 7)
    assert used["trainyard.device"] == "cpu"
    assert used["trainyard.build"].startswith("JAX ")


def test_jax_that_is_not_installed_is_refused(monkeypatch):
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFailed, match="JAX is not installed"):
        engine.of(JAX)


@pytest.mark.parametrize(
    ("asked", "plugins", "gpus", "chosen", "reason"),
    [
        ({}, [], [], "tensorflow", "on a CPU no family trains 1.4 times as fast with JAX"),
        ({}, ["cuda"], [], "jax", "it has a GPU, and TensorFlow has none"),
        ({}, ["cuda"], ["GPU"], "tensorflow", "on a CPU"),
        ({"device": "cpu"}, ["cuda"], [], "tensorflow", "on a CPU"),
        ({"engine": "tensorflow"}, ["cuda"], [], "tensorflow", "params ask for it"),
        ({"engine": "jax"}, [], [], "jax", "params ask for it"),
    ],
)
def test_the_choice_is_printed_with_its_reason(monkeypatch, caplog, asked, plugins, gpus, chosen, reason):
    monkeypatch.setattr(device, "entry_points", lambda group: plugins)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    caplog.set_level("INFO")
    assert (engine.of(Training(**asked)) is fit.fit) == (chosen == "tensorflow")
    assert f"engine: {chosen}, {reason}" in caplog.text


LONG = """
import sys
from pathlib import Path
from training_cases import EACH, OBJECTIVES, started
from trainyard.params import Training
from trainyard.training import engine
data, spec, pairs, core = started(Path(sys.argv[1]), "mlp", "tables", "binary", epochs=10**6)
learns = engine.of(Training(engine="jax", device="cpu"))
learns(core(), *pairs, spec, data, 7, lambda epoch, row: print(epoch, flush=True))
"""


@pytest.mark.fault
def test_the_other_process_ends_with_the_one_that_asked_for_it(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", LONG, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, start_new_session=True) as asking:
        asking.stdout.readline()
        os.killpg(asking.pid, 0)
        asking.kill()
    for _ in range(100):
        try:
            os.killpg(asking.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.killpg(asking.pid, signal.SIGKILL)
    pytest.fail("it trains on, for nobody")


def test_what_comes_back_is_of_tensorflow(tmp_path):
    data, spec, (training, validation), core = started(tmp_path, "mlp", "tables", "binary")
    ours = core()
    engine.of(JAX)(ours, training, validation, spec, data, 7)
    ours.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(training[0][:4]), ours(training[0][:4]))
