"""Fine-tuning: what trains in which phase, what never moves, and which phase is kept."""

import keras
import numpy as np
import pytest
from contracts.samples import prepared

from trainyard import arrays, kinds, models
from trainyard.models import Features, mobilenet, pretrained
from trainyard.params import MobileNet
from trainyard.training import features, finetune


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
    assert moved
    assert moved <= top
    assert not [path for path in moved if "_bn" in path]
    statistics = [weight for weight in backbone.weights if "moving" in weight.path]
    assert statistics
    assert len(history) == 4


@pytest.mark.parametrize(("asked", "layers"), [(1, 0), (86, 27), (100, 27), (1000, 27)])
def test_all_that_is_there_thaws_where_more_is_asked_for(images, asked, layers):
    core = models.build(block(), Features((32, 32, 3)), images.objective, images.units)
    assert len(mobilenet.thaw(core, asked)) == layers


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


@pytest.mark.parametrize("most", [2**25, 0])
def test_frozen_features_are_those_of_the_network_and_copies_differ(images, tmp_path, monkeypatch, most):
    monkeypatch.setattr(arrays, "RESIDENT", most)
    core = models.build(block(), Features((32, 32, 3)), images.objective, images.units)
    pixels = np.asarray(images.train.raw["image"][:6], np.float32) / 255
    trunk = core.get_layer("trunk")
    trunk.compile(jit_compile=False)
    held = finetune._frozen_features(trunk, core.get_layer("augmentation"), pixels, 2, tmp_path / "features.npy")
    assert (tmp_path / "features.npy").exists() == (not most)
    features = held[:]
    np.testing.assert_allclose(features[:6], np.asarray(trunk(pixels, training=False)), atol=1e-6)
    assert features.shape[0] == 18
    assert (features[6:12] != features[:6]).any()
    answers = core.get_layer("top")(features[:6], training=False)
    np.testing.assert_allclose(np.asarray(core(pixels, training=False)), np.asarray(answers), atol=1e-5)
