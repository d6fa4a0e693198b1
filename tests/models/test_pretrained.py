"""Pretrained weights: the order of sources, each choice with its reason, each fault in one line."""

import socket

import keras
import numpy as np
import pytest

from trainyard import files
from trainyard.errors import BadInput, EnvironmentFailed
from trainyard.models import mobilenet, pretrained
from trainyard.params import Backbone

SMALL = Backbone(width=0.25, weights="auto")


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(pretrained, "_reachable", lambda: False)


def named(weights, **knobs):
    return Backbone(**{"width": 0.25, "weights": weights, **knobs})


def of_file(path):
    return named(str(path), sha256=files.sha256(path) if path.exists() else "0" * 64)


@pytest.mark.usefixtures("offline")
def test_auto_takes_the_embedded_weights_where_imagenet_cannot_be_had():
    network, source = pretrained.resolve(SMALL)
    assert source.name == "embedded"
    assert "does not answer" in source.reason
    embedded, _ = pretrained.resolve(named("embedded"))
    for one, other in zip(network.weights, embedded.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert any(weight.numpy().std() > 0 for weight in network.weights if "moving_mean" in weight.path)


@pytest.mark.usefixtures("offline")
def test_auto_says_why_it_has_nothing_for_another_width():
    with pytest.raises(EnvironmentFailed, match=r"version v1, width 0.25 alone \(got v1, 0.5\)"):
        pretrained.resolve(named("auto", width=0.5))


def test_embedded_weights_of_another_version_are_refused():
    with pytest.raises(BadInput, match="embedded ones exist"):
        pretrained.resolve(named("embedded", version="v2"))


@pytest.mark.usefixtures("offline")
def test_auto_takes_imagenet_from_the_cache(monkeypatch, tmp_path):
    path = tmp_path / "keras" / "models" / "mobilenet_2_5_224_tf_no_top.h5"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    asked = []
    monkeypatch.setattr(pretrained, "_imagenet", lambda spec: asked.append(spec) or "network")
    network, source = pretrained.resolve(SMALL)
    assert (network, source.name, source.reason) == ("network", "imagenet", "in Keras' cache")


@pytest.mark.skipif(not pretrained._cached(named("imagenet")), reason="no ImageNet weights in Keras' cache")
@pytest.mark.parametrize("weights", ["imagenet", "auto"])
def test_imagenet_weights_are_those_that_keras_gives(weights):
    network, source = pretrained.resolve(named(weights))
    assert source.name == "imagenet"
    theirs = keras.applications.MobileNet(input_shape=(224, 224, 3), alpha=0.25, include_top=False)
    for one, other in zip(network.weights, theirs.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.usefixtures("offline")
def test_a_cached_file_that_was_cut_short_is_refused(tmp_path):
    path = tmp_path / "keras" / "models" / "mobilenet_2_5_224_tf_no_top.h5"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"cut short")
    with pytest.raises(EnvironmentFailed, match="SHA-256 differs"):
        pretrained.resolve(named("imagenet"))


@pytest.mark.parametrize(
    ("version", "width"), [("v1", 1.0), ("v1", 0.25), ("v2", 0.35), ("v2", 1.0), ("v3-small", 0.75), ("v3-large", 1.0)]
)
def test_the_cache_has_the_names_that_keras_gives(monkeypatch, version, width):
    """Keras is asked for ImageNet weights, and stopped where it would fetch them."""
    from keras.src.utils import file_utils

    asked = []

    def stop(name, *args, **kwargs):
        asked.append(name)
        raise RuntimeError("no network here")

    monkeypatch.setattr(file_utils, "get_file", stop)
    with pytest.raises(RuntimeError, match="no network here"):
        mobilenet.network(Backbone(version=version, width=width), (224, 224, 3), "imagenet")
    assert asked == [pretrained._cache_file(Backbone(version=version, width=width)).name]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "expected weights of MobileNet"),
        (b"<html>not found</html>", "expected weights of MobileNet"),
        (None, "not found"),
    ],
)
def test_a_file_that_holds_no_weights_is_refused(tmp_path, content, told):
    path = tmp_path / "mine.weights.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=told):
        pretrained.resolve(of_file(path))


def test_another_file_than_params_name_is_refused(tmp_path):
    path = tmp_path / "mine.weights.h5"
    path.write_bytes(b"others")
    with pytest.raises(BadInput, match=r"its SHA-256 is .*backbone\.sha256 is 0000"):
        pretrained.resolve(named(str(path), sha256="0" * 64))


def test_weights_of_another_width_are_refused(tmp_path):
    mobilenet.network(named("none", width=0.5), (64, 64, 3)).save_weights(tmp_path / "half.weights.h5")
    with pytest.raises(BadInput, match=r"width 0\.25"):
        pretrained.resolve(of_file(tmp_path / "half.weights.h5"))


def test_a_users_own_weights_arrive_in_the_model(tmp_path):
    keras.utils.set_random_seed(5)
    mine = mobilenet.network(named("none"), (64, 64, 3))
    mine.save_weights(tmp_path / "mine.weights.h5")
    network, source = pretrained.resolve(of_file(tmp_path / "mine.weights.h5"))
    pretrained.save(network, source, SMALL, tmp_path)
    other = mobilenet.network(SMALL, (96, 96, 3))
    pretrained.load(other, tmp_path)
    for one, another in zip(mine.weights, other.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), another.numpy())


def test_a_backbone_file_that_was_changed_is_refused(tmp_path):
    pretrained.save(mobilenet.network(named("none"), (64, 64, 3)), pretrained.Source("none", ""), SMALL, tmp_path)
    path = tmp_path / pretrained.WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(BadInput, match="SHA-256"):
        pretrained.load(mobilenet.network(SMALL, (96, 96, 3)), tmp_path)


def test_a_host_that_swallows_everything_costs_no_more_than_the_preflight(monkeypatch):
    import time

    def hang(*args):
        time.sleep(3)
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", hang)
    monkeypatch.setattr(pretrained, "PREFLIGHT_SECONDS", 0.2)
    began = time.monotonic()
    assert not pretrained._reachable()
    assert time.monotonic() - began < 2
