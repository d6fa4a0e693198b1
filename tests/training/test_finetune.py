"""Fine-tuning: what trains in which phase, what never moves, and which phase is kept."""

import keras
import numpy as np
import pytest
from contracts.samples import prepared

from trainyard import arrays, kinds, models
from trainyard.models import Features, mobilenet, pretrained
from trainyard.params import Mix, MobileNet, Optimizer, Thaw
from trainyard.training import features, finetune, fit
from trainyard.training.batches import Batches, Mixing


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("data"), "images", "multiclass")


def block(**knobs):
    base = {
        "family": "mobilenet",
        "dataset": "sample",
        "backbone": {"width": 0.25, "weights": "embedded"},
        "copies": 1,
        "epochs": 2,
    }
    return MobileNet(**{**base, "augment": {"flip": "horizontal"}, **knobs})


def trained(images, spec):
    """The core, its backbone, the weights of it that had moved after each epoch and at the end, and the history."""
    keras.utils.set_random_seed(1)
    preprocessing = kinds.of(images.spec).preprocessing(images.spec, images.facts, images.train)
    core = models.build(spec, Features((32, 32, 3)), images.objective, images.units)
    backbone = core.get_layer("trunk").get_layer("backbone")
    backbone.set_weights(pretrained.resolve(spec.backbone)[0].get_weights())
    before = {weight.path: weight.numpy() for weight in backbone.weights}
    moved = []

    def look(*_):
        moved.append({weight.path for weight in backbone.weights if (weight.numpy() != before[weight.path]).any()})

    with features.pairs(images, preprocessing) as (training, validation):
        history = finetune.finetune(core, training, validation, spec, images, 1, on_epoch=look)
    look()
    return core, backbone, moved, history


def test_the_first_phase_moves_the_head_alone(images):
    _, _, moved, history = trained(images, block(thaw={"layers": 0}))
    assert moved == [set()] * 3
    assert len(history) == 2


def test_the_second_phase_moves_the_top_alone_and_no_batch_statistics(images):
    spec = block(thaw={"layers": 12, "epochs": 2, "learning_rate": 0.01})
    _, backbone, (*_, moved, _), history = trained(images, spec)
    top = {weight.path for layer in backbone.layers[-12:] for weight in layer.weights}
    normal = [layer for layer in backbone.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert moved
    assert moved <= top
    assert normal
    assert not moved & {weight.path for layer in normal for weight in layer.weights}
    statistics = [weight for weight in backbone.weights if "moving" in weight.path]
    assert statistics
    assert len(history) == 4


@pytest.mark.parametrize(("asked", "layers"), [(1, 0), (86, 27), (100, 27), (1000, 27), ("all", 27)])
def test_all_that_is_there_thaws_where_more_is_asked_for(images, asked, layers):
    core = models.build(block(), Features((32, 32, 3)), images.objective, images.units)
    assert len(mobilenet.thaw(core, Thaw(layers=asked))) == layers


def test_batch_statistics_would_move_if_the_backbone_trained_as_usual(images):
    """The test above can fail: where the same layers may train, their statistics do move."""
    spec = block(backbone={"width": 0.25, "weights": "none"})
    core = models.build(spec, Features((32, 32, 3)), images.objective, images.units)
    backbone = core.get_layer("trunk").get_layer("backbone")
    for layer in backbone.layers:
        layer.trainable = True
    before = [weight.numpy() for weight in backbone.weights if "moving" in weight.path]
    core(np.random.default_rng(0).random((8, 32, 32, 3), np.float32), training=True)
    after = [weight.numpy() for weight in backbone.weights if "moving" in weight.path]
    assert any((old != new).any() for old, new in zip(before, after, strict=True))


def test_a_second_phase_that_is_worse_is_undone(images):
    spec = block(thaw={"layers": 12, "epochs": 1, "learning_rate": 10.0})
    _, _, (*_, moved, end), history = trained(images, spec)
    assert moved
    assert not end
    assert history["kept"].iloc[:2].sum() == 1
    assert history["kept"].iloc[2] == 0


def test_the_last_epoch_is_that_of_the_second_phase_however_bad(images):
    spec = block(thaw={"layers": 12, "epochs": 1, "learning_rate": 10.0}, best_epoch=False)
    _, _, (*_, end), history = trained(images, spec)
    assert end
    assert history["kept"].tolist() == [0, 0, 1]


@pytest.mark.parametrize("most", [2**25, 0])
def test_frozen_features_are_those_of_the_network_and_copies_differ(images, tmp_path, monkeypatch, most):
    monkeypatch.setattr(arrays, "RESIDENT", most)
    core = models.build(block(), Features((32, 32, 3)), images.objective, images.units)
    pixels = np.asarray(images.train.raw["image"][:6], np.float32) / 255
    trunk = core.get_layer("trunk")
    trunk.compile(jit_compile=False)
    learnt, augment = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]], core.get_layer("augmentation")
    held, told = finetune._frozen_features(trunk, augment, (pixels, learnt), 2, tmp_path / "features.npy")
    assert (tmp_path / "features.npy").exists() == (not most)
    np.testing.assert_array_equal(told, np.concatenate([learnt] * 3))
    features = held[:]
    np.testing.assert_allclose(features[:6], np.asarray(trunk(pixels, training=False)), atol=1e-6)
    assert features.shape[0] == 18
    assert (features[6:12] != features[:6]).any()
    answers = core.get_layer("top")(features[:6], training=False)
    np.testing.assert_allclose(np.asarray(core(pixels, training=False)), np.asarray(answers), atol=1e-5)


def test_blended_copies_are_learnt_as_blends_and_the_plain_images_as_they_are(images, tmp_path):
    core = models.build(block(), Features((32, 32, 3)), images.objective, images.units)
    pixels = np.asarray(images.train.raw["image"][:6], np.float32) / 255
    learnt = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]]
    trunk, mixing = core.get_layer("trunk"), Mixing(Mix(kind="mixup", alpha=1.0), 1)
    trunk.compile(jit_compile=False)
    still = keras.layers.Identity()
    held, told = finetune._frozen_features(trunk, still, (pixels, learnt), 1, tmp_path / "features.npy", mixing)
    (order,) = Batches(6, 64, 1).of(1)
    blended, shares = mixing(pixels[order], learnt[order], 1, 1, 0)
    np.testing.assert_array_equal(told, np.concatenate([learnt, shares]))
    assert ((shares > 0) & (shares < 1)).any()
    np.testing.assert_allclose(held[6:], np.asarray(trunk(blended, training=False)), atol=1e-6)


@pytest.mark.parametrize("most", [2**25, 0])
def test_blended_copies_blend_classes_that_lie_apart_on_the_disk(images, tmp_path, monkeypatch, most):
    """Three batches of 64, each of one class, as folders of classes have them."""
    monkeypatch.setattr(arrays, "RESIDENT", most)
    core = models.build(block(), Features((32, 32, 3)), images.objective, images.units)
    learnt = np.repeat(np.eye(3, dtype=np.float32), 64, axis=0)
    pixels = np.zeros((192, 32, 32, 3), np.float32)
    trunk, still = core.get_layer("trunk"), keras.layers.Identity()
    trunk.compile(jit_compile=False)
    mixing = Mixing(Mix(kind="mixup", alpha=1.0), 1)
    _, told = finetune._frozen_features(trunk, still, (pixels, learnt), 2, tmp_path / "features.npy", mixing)
    np.testing.assert_array_equal(told[:192], learnt)
    for copy in (told[192:384], told[384:]):
        assert np.mean((copy > 0).sum(axis=1) > 1) > 0.5, "two in three meet another class"
        np.testing.assert_allclose(copy.sum(axis=0), 64, atol=1e-3)
    assert (told[192:384] != told[384:]).any()


@pytest.mark.parametrize(
    ("knobs", "copies"),
    [
        ({"augment": {}}, 0),
        ({"augment": {"flip": "horizontal"}}, 2),
        ({"augment": {}, "mix": {"kind": "mixup"}}, 2),
        ({"copies": 0}, 0),
    ],
)
def test_copies_that_would_all_be_equal_are_not_made(images, caplog, knobs, copies):
    caplog.set_level("INFO")
    count = len(images.train)
    trained(images, block(**{"copies": 2, "epochs": 1, "thaw": {"layers": 0}, **knobs}))
    assert f"trains on {count * (copies + 1)} frozen features, {count * copies} of them of" in caplog.text
    assert ("no copies, as neither `augment` nor `mix`" in caplog.text) == (knobs == {"augment": {}})


@pytest.mark.slow
def test_batch_normalisation_trains_where_params_ask_for_it(images):
    thaw = {"layers": "all", "epochs": 1, "learning_rate": 0.01, "batch_normalization": "trained"}
    _, _, (*_, moved, _), _ = trained(images, block(epochs=1, thaw=thaw))
    assert any("moving_mean" in path for path in moved)
    assert any("gamma" in path for path in moved)


def test_the_rate_falls_from_layer_to_layer(images):
    core = models.build(block(), Features((32, 32, 3)), images.objective, images.units)
    mobilenet.thaw(core, Thaw(layers="all"))
    shares = dict(
        zip((variable.path for variable in core.trainable_variables), mobilenet.rates(core, 0.5), strict=True)
    )
    of = {path.rpartition("/")[0].rpartition("/")[2]: share for path, share in shares.items()}
    assert (of["head"], of["conv_pw_13"], of["conv_dw_13"], of["conv_pw_12"]) == (1.0, 0.5, 0.25, 0.125)
    assert of["conv1"] == 0.5**27


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_each_variable_learns_at_its_own_rate(name):
    variables = [keras.Variable([1.0]), keras.Variable([1.0]), keras.Variable([1.0])]
    optimizer = fit.keras_optimizer(Optimizer(name=name, learning_rate=0.1), [1.0, 0.5, 0.25])
    optimizer.apply([keras.ops.ones(1)] * 3, variables)
    moved = [1.0 - float(variable.numpy()[0]) for variable in variables]
    np.testing.assert_allclose(moved, [0.1, 0.05, 0.025], rtol=1e-4)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_each_variable_decays_at_its_own_rate(name):
    """Of gradients that are nothing; decay alone moves them, and with one rate for all as Keras has it."""
    spec = Optimizer(name=name, learning_rate=0.1, weight_decay=0.2)
    moved = []
    for rates in ([1.0, 0.5, 0.0], [1.0] * 3, None):
        variables = [keras.Variable([2.0]) for _ in range(3)]
        optimizer = fit.keras_optimizer(spec, rates)
        for _ in range(2):
            optimizer.apply([keras.ops.zeros(1)] * 3, variables)
        moved.append([float(variable.numpy()[0]) for variable in variables])
    np.testing.assert_allclose(moved[0], [2 * 0.98**2, 2 * 0.99**2, 2.0], rtol=1e-6)
    np.testing.assert_allclose(moved[1], moved[2], rtol=1e-6)


@pytest.mark.slow
def test_lower_layers_move_less_in_a_training(images):
    def change(decay):
        knobs = {"layers": "all", "epochs": 1, "learning_rate": 1e-3, "rate_decay": decay}
        spec = block(epochs=1, batch_size=1000, optimizer={"name": "sgd", "learning_rate": 1e-9}, thaw=knobs)
        start = pretrained.resolve(spec.backbone)[0].get_weights()
        _, backbone, *_ = trained(images, spec)
        moved = {
            weight.path: np.abs(weight.numpy() - old).max() for weight, old in zip(backbone.weights, start, strict=True)
        }
        return {path.split("/")[-2]: value for path, value in moved.items() if path.endswith("kernel")}

    alike, falling = change(1.0), change(0.5)
    for layer, depth in (("conv_pw_13", 1), ("conv_dw_13", 2), ("conv_pw_12", 3), ("conv_pw_11", 5)):
        assert falling[layer] == pytest.approx(alike[layer] * 0.5**depth, rel=0.02)


def test_the_rate_warms_up_and_then_falls_along_half_a_cosine():
    spec = block(thaw={"epochs": 6, "warm_up": 2, "learning_rate": 0.01})
    rate = fit.keras_optimizer(finetune._low(spec, steps=10))._learning_rate
    told = [float(rate(step)) for step in (0, 5, 10, 20, 40, 60)]
    np.testing.assert_allclose(told, [0, 0.0025, 0.005, 0.01, 0.005, 0], atol=1e-6)
    assert finetune._low(block(thaw={"learning_rate": 0.02}), steps=10).learning_rate == 0.02


def test_smoothed_labels_give_a_share_to_all_classes():
    smoothed = finetune._smoothed(np.eye(4, dtype=np.float32)[[2]], 0.2)
    np.testing.assert_allclose(smoothed, [[0.05, 0.05, 0.85, 0.05]], rtol=1e-6)
    np.testing.assert_allclose(finetune._smoothed(np.float32([[1], [0]]), 0.2), [[0.9], [0.1]], rtol=1e-6)
    np.testing.assert_array_equal(finetune._smoothed(np.eye(3, dtype=np.float32), 0.0), np.eye(3))


@pytest.mark.parametrize("knobs", [{"label_smoothing": 0.2}, {"mix": {"kind": "mixup", "alpha": 0.2}}])
def test_the_accuracy_of_labels_that_are_shares_is_that_of_the_likelier_class(tmp_path, knobs):
    spec = block(epochs=20, optimizer={"name": "adam", "learning_rate": 0.02}, thaw={"epochs": 1}, **knobs)
    _, _, _, history = trained(prepared(tmp_path, "images", "binary"), spec)
    assert history["accuracy"].max() > 0.8


def test_training_s_accuracy_is_that_of_keras_where_labels_are_true():
    true, answer = np.float32([[0], [1], [1], [0]]), np.float32([[0.2], [0.7], [0.4], [0.9]])
    theirs = np.ravel(keras.metrics.binary_accuracy(true, answer))
    np.testing.assert_array_equal(fit.accuracy(true, answer), theirs)
    np.testing.assert_array_equal(fit.accuracy(finetune._smoothed(true, 0.1), answer), theirs)


def test_validation_is_not_smoothed(images, monkeypatch):
    asked = []

    def look(core, training, validation, *rest, **more):
        asked.append((training[1].max(), validation[1].max()))
        return fit.fit(core, training, validation, *rest, **more)

    spec = block(label_smoothing=0.3, epochs=1, thaw={"epochs": 1, "layers": 2})
    core = models.build(spec, Features((32, 32, 3)), images.objective, images.units)
    preprocessing = kinds.of(images.spec).preprocessing(images.spec, images.facts, images.train)
    with features.pairs(images, preprocessing) as pairs:
        finetune.finetune(core, *pairs, spec, images, 1, engine=look)
    assert asked == [(pytest.approx(0.8), 1.0)] * 2
