"""Pretrained weights: the order of sources, each choice with its reason, each fault in one line."""

import os
import socket
from pathlib import Path
from unittest.mock import Mock

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

from trainyard import files
from trainyard.errors import BadInput, EnvironmentFailed
from trainyard.models import Features, Head, mobilenet, pretrained
from trainyard.params import Backbone, MobileNet

SMALL = Backbone(width=0.25, weights="auto")


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.delenv("TRAINYARD_MIRROR", raising=False)
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path / "keras"))  # read when it is imported
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
    monkeypatch.setattr(pretrained, "_imagenet", lambda spec: f"the network of {spec.width}")
    network, source = pretrained.resolve(SMALL)
    assert (network, source.name, source.reason) == ("the network of 0.25", "imagenet", "in Keras' cache")


@pytest.mark.skipif(
    not pretrained.cache_file(named("imagenet")).is_file(), reason="no ImageNet weights in Keras' cache"
)
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
    assert asked == [pretrained.cache_file(Backbone(version=version, width=width)).name]


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
    spec = of_file(tmp_path / "mine.weights.h5")
    network, source = pretrained.resolve(spec)
    pretrained.save(network, source, spec, tmp_path)
    other = mobilenet.network(SMALL, (96, 96, 3))
    pretrained.load(other, spec, tmp_path)
    for one, another in zip(mine.weights, other.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), another.numpy())


def test_a_backbone_file_that_was_changed_is_refused(tmp_path):
    spec = named("none")
    pretrained.save(mobilenet.network(spec, (64, 64, 3)), pretrained.Source("none", ""), spec, tmp_path)
    path = tmp_path / pretrained.WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(BadInput, match="SHA-256"):
        pretrained.load(mobilenet.network(spec, (96, 96, 3)), spec, tmp_path)


@pytest.mark.parametrize(
    "knobs", [{"width": 0.5}, {"version": "v2"}, {"weights": "imagenet"}, {"weights": "a.keras", "sha256": "0" * 64}]
)
def test_a_backbone_of_other_params_is_refused(tmp_path, knobs):
    """Where a stage is run by itself; DVC would have run `backbone` again."""
    pretrained.save(*pretrained.resolve(named("embedded")), named("embedded"), tmp_path)
    asked = named(**{"weights": "embedded", **knobs}) if "sha256" not in knobs else Backbone(**knobs)
    told = r"weights\.h5: version v1, width 0\.25, weights embedded \(params.yaml asks for others: run the stage"
    with pytest.raises(BadInput, match=told):
        pretrained.load(mobilenet.network(SMALL, (64, 64, 3)), asked, tmp_path)


def test_a_backbone_that_auto_took_is_the_one_asked_for(tmp_path):
    pretrained.save(*pretrained.resolve(named("embedded")), SMALL, tmp_path)
    pretrained.load(mobilenet.network(SMALL, (64, 64, 3)), SMALL, tmp_path)


def test_behind_a_proxy_the_download_itself_tells(monkeypatch):
    monkeypatch.setattr(socket, "create_connection", None)
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    assert pretrained._reachable()


def test_a_host_that_swallows_everything_costs_no_more_than_the_preflight(monkeypatch):
    import time

    monkeypatch.setattr(pretrained, "getproxies", dict)

    def hang(*args):
        time.sleep(3)
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", hang)
    monkeypatch.setattr(pretrained, "PREFLIGHT_SECONDS", 0.2)
    began = time.monotonic()
    assert not pretrained._reachable()
    assert time.monotonic() - began < 2


# === ImageNet weights: cache, mirror, network ===

V1 = "mobilenet_2_5_224_tf_no_top.h5"
V2 = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"


@pytest.fixture
def published(monkeypatch, tmp_path):
    """A folder as a mirror has it, with files that pass for those of Keras."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    with h5py.File(folder / V1, "w") as file:  # as Keras wrote them then
        save_weights_to_hdf5_group(file, mobilenet.network(named("none"), (224, 224, 3)))
    monkeypatch.setitem(pretrained.PINNED, V1, files.sha256(folder / V1))
    return folder


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("network is unreachable")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.usefixtures("offline", "no_network")
@pytest.mark.parametrize("form", ["{}", "file://{}", "{}/"])
def test_a_mirror_takes_the_place_of_the_host(published, tmp_path, monkeypatch, form):
    monkeypatch.setenv("TRAINYARD_MIRROR", form.format(published))
    _, source = pretrained.resolve(SMALL)
    assert (source.name, source.reason) == ("imagenet", f"from {form.format(published).rstrip('/')}")
    assert (tmp_path / "keras/models" / V1).read_bytes() == (published / V1).read_bytes()
    (published / V1).unlink()
    assert pretrained.resolve(SMALL)[1].reason == "in Keras' cache"


@pytest.mark.usefixtures("offline", "no_network")
def test_the_cache_comes_before_the_mirror(published, tmp_path, monkeypatch):
    (tmp_path / "keras/models").mkdir(parents=True)
    (tmp_path / "keras/models" / V1).write_bytes((published / V1).read_bytes())
    monkeypatch.setenv("TRAINYARD_MIRROR", str(tmp_path / "nowhere"))
    assert pretrained.resolve(SMALL)[1].reason == "in Keras' cache"


def test_the_cache_is_looked_for_where_keras_keeps_it(monkeypatch, tmp_path):
    """However a user wrote KERAS_HOME, and whatever it has become since Keras read it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", "~/mine")
    monkeypatch.setenv("KERAS_HOME", "elsewhere")
    assert pretrained.cache_file(named("imagenet")) == tmp_path / "mine/models" / V1


@pytest.fixture(params=["mirror", "download"])
def fetched(request, monkeypatch, published, tmp_path):
    """The folder that files are fetched from, as a mirror or by Keras."""
    from keras.src.utils import file_utils

    def download(address, target, *args):
        Path(target).write_bytes((published / address.rpartition("/")[2]).read_bytes())

    if request.param == "mirror":
        monkeypatch.setenv("TRAINYARD_MIRROR", str(published))
    (tmp_path / "keras").mkdir()  # Keras takes another folder where its own is not there
    monkeypatch.setattr(pretrained, "_reachable", lambda: True)
    monkeypatch.setattr(file_utils, "urlretrieve", download)
    return published


@pytest.mark.usefixtures("offline", "no_network", "fetched")
def test_what_is_fetched_is_taken_and_kept(tmp_path):
    assert pretrained.resolve(SMALL)[1].name == "imagenet"
    assert (tmp_path / "keras/models" / V1).exists()
    assert pretrained.resolve(SMALL)[1].reason == "in Keras' cache"


@pytest.mark.usefixtures("offline", "no_network")
def test_what_cannot_be_fetched_is_told(fetched):
    (fetched / V1).unlink()
    with pytest.raises(EnvironmentFailed, match=rf"could not be had .*{V1}.*try `weights: embedded`"):
        pretrained.resolve(named("imagenet"))
    _, source = pretrained.resolve(SMALL)
    assert source.name == "embedded"
    assert V1 in source.reason


@pytest.mark.usefixtures("offline", "no_network")
@pytest.mark.parametrize("weights", ["imagenet", "auto"])
def test_what_was_cut_short_is_refused_and_not_kept(fetched, tmp_path, weights):
    (fetched / V1).write_bytes((fetched / V1).read_bytes()[:100_000])
    if weights == "imagenet":
        why = "not the" if "TRAINYARD_MIRROR" in os.environ else "Unable.*truncated"  # Keras reads what it downloads
        with pytest.raises(EnvironmentFailed, match=rf"{V1}: what was fetched is cut short, or another file \({why}"):
            pretrained.resolve(named("imagenet"))
    else:
        assert pretrained.resolve(SMALL)[1].name == "embedded"
    assert not (tmp_path / "keras/models" / V1).exists()


@pytest.mark.usefixtures("offline", "no_network")
def test_a_file_without_a_known_hash_that_was_cut_short_is_told(tmp_path):
    path = tmp_path / "keras/models" / V2
    path.parent.mkdir(parents=True)
    mobilenet.network(named("none", version="v2", width=0.35), (224, 224, 3)).save_weights(tmp_path / "v2.weights.h5")
    path.write_bytes((tmp_path / "v2.weights.h5").read_bytes()[:50_000])
    with pytest.raises(
        EnvironmentFailed, match=rf"{V2}: cut short, or no such weights \(Unable.*truncated.*; delete the file"
    ):
        pretrained.resolve(named("imagenet", version="v2", width=0.35))


@pytest.mark.usefixtures("offline", "no_network")
def test_a_file_of_another_network_in_the_cache_is_told(published, tmp_path):
    (tmp_path / "keras/models").mkdir(parents=True)
    (tmp_path / "keras/models" / V2).write_bytes((published / V1).read_bytes())
    with pytest.raises(EnvironmentFailed, match=rf"{V2}: cut short, or no such weights .*; delete the file"):
        pretrained.resolve(named("imagenet", version="v2", width=0.35))


@pytest.mark.usefixtures("offline", "no_network")
def test_a_closed_network_is_told_and_what_to_do():
    with pytest.raises(EnvironmentFailed, match=r"ImageNet weights could not be had .*; try `weights: embedded`"):
        pretrained.resolve(named("imagenet"))


@pytest.mark.usefixtures("offline", "no_network")
def test_weights_that_are_not_finite_are_refused(tmp_path):
    path = tmp_path / "keras/models" / V2
    path.parent.mkdir(parents=True)
    network = mobilenet.network(named("none", version="v2", width=0.35), (224, 224, 3))
    network.set_weights([weight * np.nan for weight in network.get_weights()])
    with h5py.File(path, "w") as file:
        save_weights_to_hdf5_group(file, network)
    with pytest.raises(EnvironmentFailed, match=rf"{V2}: cut short, or no such weights .*; delete the file"):
        pretrained.resolve(named("imagenet", version="v2", width=0.35))


@pytest.mark.usefixtures("offline", "no_network")
def test_no_embedded_weights_are_advised_where_there_are_none():
    with pytest.raises(EnvironmentFailed, match=r"ImageNet weights could not be had \([^;]*\)$"):
        pretrained.resolve(named("imagenet", width=0.5))


@pytest.mark.usefixtures("offline", "no_network")
@pytest.mark.parametrize("mirror", ["", "nowhere", "http://[::1"])
@pytest.mark.parametrize("weights", ["imagenet", "auto"])
@pytest.mark.parametrize(("version", "width"), [("v1", 0.3), ("v2", 0.6), ("v3-small", 0.5)])
def test_imagenet_weights_of_a_width_that_is_not_published_are_refused(monkeypatch, mirror, weights, version, width):
    monkeypatch.setenv("TRAINYARD_MIRROR", mirror)
    told = rf"params.yaml: backbone.width: {width} \(ImageNet weights of {version} exist for [\d., ]*1.0"
    with pytest.raises(BadInput, match=told):
        pretrained.resolve(named(weights, version=version, width=width))


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("version", list(mobilenet.NETWORKS))
def test_the_widths_that_are_published_are_those_that_keras_takes(monkeypatch, version):
    from keras.src.utils import file_utils

    monkeypatch.setattr(file_utils, "get_file", Mock(side_effect=RuntimeError("it would be fetched")))
    for width in {width for widths in pretrained.PUBLISHED.values() for width in widths}:
        known = width in pretrained.PUBLISHED[version]
        with pytest.raises(RuntimeError if known else ValueError):
            mobilenet.network(Backbone(version=version, width=width), (224, 224, 3), "imagenet")


@pytest.mark.usefixtures("offline")
def test_a_mirror_s_address_that_is_none_is_told(monkeypatch):
    monkeypatch.setenv("TRAINYARD_MIRROR", "http://[::1")
    with pytest.raises(EnvironmentFailed, match="ImageNet weights could not be had"):
        pretrained.resolve(named("imagenet"))


def test_weights_of_another_version_are_refused(tmp_path):
    mobilenet.network(named("none", version="v2", width=0.35), (64, 64, 3)).save_weights(tmp_path / "v2.weights.h5")
    with pytest.raises(
        BadInput,
        match=r"expected weights of MobileNet v1, width 0\.25, without its top; it holds others, or none that can",
    ):
        pretrained.resolve(of_file(tmp_path / "v2.weights.h5"))


# === A network of the user's own ===


def write_network(path, shape=(None, None, 3), pooled=False):
    keras.utils.set_random_seed(2)
    inner = keras.Sequential([keras.layers.Conv2D(6, 3, 2), keras.layers.BatchNormalization(), keras.layers.ReLU()])
    steps = [keras.Input(shape), keras.layers.Conv2D(4, 3, 2, activation="relu"), inner]
    network = keras.Sequential([*steps, *([keras.layers.GlobalMaxPooling2D()] if pooled else [])])
    network.save(path)
    return network


def own(path, **knobs):
    return Backbone(weights=str(path), sha256=files.sha256(path), **knobs)


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize(("shape", "seen"), [((None, None, 3), (40, 40)), ((24, 20, 3), (24, 20))])
def test_a_network_of_the_users_own_sees_images_as_it_takes_them(tmp_path, pooled, shape, seen):
    network = write_network(tmp_path / "mine.keras", shape, pooled)
    spec = MobileNet(family="mobilenet", dataset="d", backbone=own(tmp_path / "mine.keras", black_white=(0, 255)))
    core = mobilenet.build(spec, Features((40, 40, 1)), Head(3, "softmax"))
    image = np.random.default_rng(0).random((2, 40, 40, 1), np.float32)
    resized = keras.layers.Resizing(*seen, antialias=True)(np.concatenate([image] * 3, axis=-1))
    features = network(255 * (resized if seen != (40, 40) else np.concatenate([image] * 3, axis=-1)))
    wanted = features if pooled else np.mean(features, axis=(1, 2))
    np.testing.assert_allclose(core.get_layer("trunk")(image), wanted, rtol=1e-4, atol=1e-4)


def test_regularisers_of_a_network_are_left_out_and_a_line_says_so(tmp_path, caplog):
    """Here, and in a process that makes the core anew from its config."""
    caplog.set_level("INFO")
    penalty = keras.regularizers.L2(0.5)
    inner = keras.Sequential([keras.layers.Conv2D(4, 3, kernel_regularizer=penalty, activity_regularizer=penalty)])
    layers = [keras.layers.SeparableConv2D(4, 3, depthwise_regularizer=penalty), inner]
    last = keras.layers.ActivityRegularization(l2=0.5)
    network = keras.Sequential([keras.Input((32, 32, 3)), *layers, last])
    network.save(tmp_path / "mine.keras")
    assert network.losses
    spec = MobileNet(family="mobilenet", dataset="d", backbone=own(tmp_path / "mine.keras"))
    core = mobilenet.build(spec, Features((32, 32, 3)), Head(3, "softmax"))
    core.get_layer("trunk").trainable = True
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(core))
    for made in (core, again):
        made(np.ones((2, 32, 32, 3), np.float32), training=True)
        assert sum(map(float, made.losses)) == 0
    assert "mine.keras: its regularisers are left out" in caplog.text
    caplog.clear()
    write_network(tmp_path / "plain.keras")
    pretrained.own(own(tmp_path / "plain.keras"))
    assert "regularisers" not in caplog.text


def test_layers_within_a_network_s_network_thaw_one_by_one_and_their_normalisation_stays(tmp_path):
    write_network(tmp_path / "mine.keras")
    spec = MobileNet(family="mobilenet", dataset="d", backbone=own(tmp_path / "mine.keras"))
    core = mobilenet.build(spec, Features((32, 32, 3)), Head(3, "softmax"))
    thawed = mobilenet.thaw(core, spec.thaw.model_copy(update={"layers": 3}))
    assert [type(layer).__name__ for layer in thawed] == ["Conv2D"]
    assert thawed[0].filters == 6
    assert mobilenet.rates(core, 0.5) == [0.5, 0.5, 1.0, 1.0]


def test_a_network_of_the_users_own_is_written_and_read(tmp_path):
    network = write_network(tmp_path / "mine.keras")
    spec = own(tmp_path / "mine.keras")
    found, source = pretrained.resolve(spec)
    pretrained.save(found, source, spec, tmp_path)
    assert set(files.read_json(tmp_path / "backbone.json")) == {"weights", "sha256"}
    other = pretrained.own(spec)
    other.set_weights([weight * 0 for weight in other.get_weights()])
    pretrained.load(other, spec, tmp_path)
    for one, another in zip(network.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, another)


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (
            lambda path: path.write_bytes(b"no zip"),
            r"no .keras file of Keras' own layers that can be loaded \(no zip archive\)",
        ),
        (
            lambda path: write_network(path, (32, 32, 1)),
            r"takes \(None, 32, 32, 1\) and gives .* \(expected \[n, height",
        ),
        (lambda path: keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)]).save(path), "expected .n, height"),
        (lambda path: write_network(path, (32, 32, 3)), r"takes images of 32x32 \(params.yaml: resolution is 64\)"),
    ],
)
def test_a_file_that_is_no_such_network_is_refused(tmp_path, write, told):
    write(tmp_path / "mine.keras")
    with pytest.raises(BadInput, match=told):
        pretrained.resolve(own(tmp_path / "mine.keras", resolution=64))


def test_code_in_a_network_is_not_run(tmp_path):
    lambda_layer = keras.layers.Lambda(lambda x: x + 1)  # noqa: TID251  # what must be refused
    keras.Sequential([keras.Input((32, 32, 3)), lambda_layer]).save(tmp_path / "mine.keras")
    with pytest.raises(BadInput, match=r"no .keras file of Keras' own layers that can be loaded"):
        pretrained.resolve(own(tmp_path / "mine.keras"))
