"""What every family, kind and objective must keep: a new one is found by itself and gets these tests."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from contracts.samples import SAMPLES, prepared
from trainyard import kinds, models, params
from trainyard.models import Features
from trainyard.quality.objectives import OBJECTIVES

KINDS = {get_args(spec.model_fields["kind"].annotation)[0]: spec for spec in get_args(get_args(params.AnyDataset)[0])}
FAMILIES = {
    get_args(spec.model_fields["family"].annotation)[0]: spec
    for spec in (*get_args(get_args(params.AnyTrained)[0]), params.AnyFinetuned)
}
# sizes at which eight examples are learnt by heart in seconds
SMALL = {
    "mlp": {"layers": [32, 32]},
    "cnn": {"filters": [8, 16], "dense": [32], "dropout": 0.0},
    "rnn": {"units": [24], "cell": "gru"},
    "mobilenet": {"backbone": {"width": 0.25, "weights": "embedded"}, "dense": [32], "dropout": 0.0, "copies": 0},
}
CASES = [
    (family, kind, objective)
    for family, spec in FAMILIES.items()
    for kind in spec.kinds
    for objective in KINDS[kind].objectives
]


def block(family: str, **knobs: object) -> params.Model:
    return FAMILIES[family](**{"family": family, "dataset": "sample", **SMALL.get(family, {}), **knobs})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory):
    return cache(lambda kind, objective: prepared(tmp_path_factory.mktemp("data"), kind, objective))


def parts(data: kinds.Prepared, spec: params.Model, count: int):
    """Preprocessing, core, and the first `count` training examples: raw, features, what is learnt."""
    from trainyard.models import pretrained, saved
    from trainyard.training import features

    preprocessing = kinds.of(data.spec).preprocessing(data.spec, data.facts, data.train)
    core = models.build(spec, features.seen(preprocessing), data.objective, data.units)
    if isinstance(spec, params.MobileNet) and spec.backbone.weights == "embedded":  # random ones answer all alike
        core.get_layer("trunk").get_layer("backbone").set_weights(pretrained.resolve(spec.backbone)[0].get_weights())
    raw = {name: values[:count] for name, values in data.train.raw.items()}
    x = saved.predict(preprocessing.model(), raw)
    return preprocessing, core, raw, x, features.learnt(data, preprocessing, data.train)[:count]


def test_every_kind_has_a_sample_and_a_file():
    assert (
        set(KINDS)
        == set(SAMPLES)
        == {path.stem for path in (Path(kinds.__file__).parent).glob("[a-z]*.py")} - {"delimited"}
    )


def test_every_objective_is_offered_by_a_kind():
    assert set(OBJECTIVES) == {objective for kind in KINDS.values() for objective in kind.objectives}


@pytest.mark.parametrize(("family", "kind", "objective"), CASES)
def test_a_core_answers_as_its_objective_says(data, family, kind, objective):
    examples = data(kind, objective)
    _, core, raw, x, y = parts(examples, block(family), 8)
    answer = np.asarray(core(x))
    if objective == "transcription":  # an answer for each step, letters of no fixed number
        assert (answer.shape[::2], len(y)) == ((8, examples.units), 8)
        np.testing.assert_allclose(np.exp(answer).sum(axis=2), 1, atol=1e-5)
    else:
        assert answer.shape == (8, examples.units) == y.shape
    assert len(next(iter(raw.values()))) == 8
    if objective == "binary":
        assert ((answer > 0) & (answer < 1)).all()
    if objective == "multiclass":
        np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(("family", "kind", "objective"), CASES)
def test_eight_examples_are_learnt_by_heart(data, family, kind, objective):
    import keras

    from trainyard.training import fit

    keras.utils.set_random_seed(0)
    examples = data(kind, objective)
    spec = block(family)
    _, core, _, x, y = parts(examples, spec, 8)
    fit.compile_core(core, spec, examples, params.Optimizer(name="adam", learning_rate=0.01))
    core.jit_compile = False  # to compile takes longer than these few steps
    before = core.test_on_batch(x, y, return_dict=True)["loss"]
    for _ in range(120 if family != "mobilenet" else 40):
        core.train_on_batch(x, y)
    after = core.test_on_batch(x, y, return_dict=True)["loss"]
    assert after < 0.1 * before, (before, after)


@pytest.mark.parametrize(("family", "kind", "objective"), CASES)
def test_a_saved_model_takes_raw_values_and_answers_as_before(data, family, kind, objective, tmp_path):
    from trainyard.models import saved
    from trainyard.training import fit

    examples = data(kind, objective)
    spec = block(family)
    preprocessing, core, raw, x, _ = parts(examples, spec, 8)
    fit.compile_core(core, spec, examples, spec.optimizer)  # as after a training
    model = preprocessing.join(core)
    sha256 = saved.save(model, tmp_path / "model.keras", raw)
    reloaded = saved.load(tmp_path / "model.keras", sha256)
    np.testing.assert_allclose(saved.predict(reloaded, raw), saved.predict(model, raw), rtol=0, atol=1e-6)
    if kind != "series":  # whose answer needs the raw window too
        by_parts = np.asarray(preprocessing.answer(core(x)))
        np.testing.assert_allclose(saved.predict(reloaded, raw), by_parts, rtol=0, atol=1e-5)


def test_a_model_file_that_was_changed_is_refused(data, tmp_path):
    from trainyard.errors import BadInput
    from trainyard.models import saved

    preprocessing, core, raw, *_ = parts(data("tables", "binary"), block("mlp"), 8)
    sha256 = saved.save(preprocessing.join(core), tmp_path / "model.keras", raw)
    content = bytearray((tmp_path / "model.keras").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "model.keras").write_bytes(content)
    with pytest.raises(BadInput, match="not the file that was trained"):
        saved.load(tmp_path / "model.keras", sha256)


def test_a_model_whose_answers_are_not_finite_is_not_saved(data, tmp_path):
    from trainyard.errors import TrainingFailed
    from trainyard.models import saved

    preprocessing, core, raw, *_ = parts(data("tables", "binary"), block("mlp"), 8)
    core.layers[-1].set_weights([weight * np.nan for weight in core.layers[-1].get_weights()])
    with pytest.raises(TrainingFailed, match="finite"):
        saved.save(preprocessing.join(core), tmp_path / "model.keras", raw)


@pytest.mark.parametrize("cell", ["simple", "lstm", "gru"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_recurrent_layers_stack_and_read_both_ways(data, cell, bidirectional):
    examples = data("series", "forecast")
    _, core, _, x, y = parts(examples, block("rnn", cell=cell, bidirectional=bidirectional, units=[6, 5]), 4)
    assert np.asarray(core(x)).shape == y.shape
    assert sum("bidirectional" in layer.name for layer in core.layers) == (2 if bidirectional else 0)


@pytest.mark.parametrize("version", ["v1", "v2", "v3-small", "v3-large"])
def test_every_mobilenet_builds_and_keeps_batch_normalisation_still(data, version):
    from trainyard.models import mobilenet

    examples = data("images", "multiclass")
    spec = block("mobilenet", backbone={"version": version, "width": 0.75, "weights": "none"})
    _, core, _, x, y = parts(examples, spec, 4)
    thawed = mobilenet.thaw(core, params.Thaw(layers=20))
    assert thawed
    statistics = [weight for weight in core.weights if "moving" in weight.path]
    assert statistics
    before = [weight.numpy() for weight in statistics]
    assert np.asarray(core(x, training=True)).shape == y.shape
    assert all((weight.numpy() == old).all() for weight, old in zip(statistics, before, strict=True))


@pytest.mark.parametrize(("resolution", "side"), [(None, 1), (64, 2)])
def test_a_mobilenet_sees_images_at_its_resolution(data, resolution, side):
    examples = data("images", "multiclass")  # 32 pixels
    spec = block("mobilenet", backbone={"width": 0.25, "weights": "none", "resolution": resolution})
    _, core, _, x, y = parts(examples, spec, 4)
    assert core.get_layer("trunk").get_layer("backbone").output_shape[1:3] == (side, side)
    assert np.asarray(core(x)).shape == y.shape


@pytest.mark.parametrize("shape", [(28, 28, 1), (8, 8, 1), (8, 20, 3)])
def test_a_mobilenet_takes_images_that_are_too_small_for_it(data, shape):
    examples = data("images", "multiclass")
    core = models.build(block("mobilenet"), Features(shape), examples.objective, examples.units)
    assert core(np.zeros((2, *shape), np.float32)).shape == (2, 3)


def test_no_rows_get_no_answers(data):
    from trainyard.models import saved

    for kind, family in (("tables", "mlp"), ("images", "cnn")):
        preprocessing, core, raw, *_ = parts(data(kind, "binary"), block(family), 8)
        none = {name: values[:0] for name, values in raw.items()}
        assert saved.predict(preprocessing.join(core), none).shape == (0, 1)


@pytest.mark.slow
def test_families_train_under_jax(tmp_path):
    """In a process of its own: Keras has one backend a process. Features are random, as the core sees them."""
    pytest.importorskip("jax")
    program = """
import numpy as np
from contracts.test_families import FAMILIES, block
from trainyard import models
from trainyard.models import Features, ctc
from trainyard.quality.objectives import OBJECTIVES
shapes = {"tables": (5,), "images": (32, 32, 3), "series": (12, 2), "text": (9,), "speech": (24, 6)}
for family, spec in FAMILIES.items():
    for kind in spec.kinds:
        tokens, spoken = 7 if kind == "text" else 0, kind == "speech"
        objective = OBJECTIVES["transcription" if spoken else "multiclass"]
        core = models.build(block(family), Features(shapes[kind], tokens), objective, 3)
        loss = ctc.loss if spoken else "categorical_crossentropy"
        core.compile(optimizer="adam", loss=loss, jit_compile=False)
        x = np.random.default_rng(0).random((8, *shapes[kind]), np.float32)
        x = (x * tokens).astype(np.int32) if tokens else x
        number = np.arange(8) % 3
        y = np.stack([1 + number % 2, number], axis=1) if spoken else np.eye(3, dtype=np.float32)[number]
        loss = core.train_on_batch(x, y)
        assert np.isfinite(loss), (family, kind, loss)
        print(family, kind)
"""
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == sum(len(spec.kinds) for spec in FAMILIES.values())
