import keras
import numpy as np
import pytest

from trainyard.models import Features, Head, rnn
from trainyard.params import RNN

TOKENS = np.array([[3, 1, 4, 0, 0, 0], [5, 2, 6, 5, 3, 5], [0, 0, 0, 0, 0, 0]], np.int32)


def core(**knobs):
    keras.utils.set_random_seed(0)
    spec = RNN(**{"family": "rnn", "dataset": "text", "units": [5], "embedding": 4} | knobs)
    return rnn.build(spec, Features((None,), tokens=7), Head(2, "softmax"))


@pytest.mark.parametrize("cell", ["simple", "lstm", "gru"])
@pytest.mark.parametrize("knobs", [{}, {"bidirectional": True}, {"units": [6, 5]}])
@pytest.mark.parametrize("pooling", ["last", "max"])
def test_what_comes_after_the_last_token_is_not_seen(cell, knobs, pooling):
    model = core(cell=cell, pooling=pooling, **knobs)
    answer = np.asarray(model(TOKENS))
    np.testing.assert_allclose(np.asarray(model(np.pad(TOKENS, ((0, 0), (0, 9))))), answer, atol=1e-6)
    np.testing.assert_allclose(np.asarray(model(TOKENS[:1, :3])), answer[:1], atol=1e-6)
    assert np.isfinite(answer).all()  # of no token too


@pytest.mark.parametrize("activation", ["relu", "selu", "linear"])
def test_the_greatest_state_is_no_padding_whatever_the_activation(activation):
    model = core(cell="simple", pooling="max", activation=activation)
    layer = next(layer for layer in model.layers if isinstance(layer, keras.layers.SimpleRNN))
    weights = layer.get_weights()
    layer.set_weights([*weights[:-1], weights[-1] - 3])
    np.testing.assert_allclose(np.asarray(model(TOKENS[:1])), np.asarray(model(TOKENS[:1, :3])), atol=1e-6)


@pytest.mark.parametrize("pooling", ["last", "max"])
def test_convolutions_do_not_see_padding(pooling):
    model = core(pooling=pooling, filters=[3, 5], kernel=[2, 3], bidirectional=True)
    rng = np.random.default_rng(9)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    np.testing.assert_allclose(np.asarray(model(TOKENS[:1])), np.asarray(model(TOKENS[:1, :3])), atol=1e-6)


def test_the_greatest_state_is_that_of_any_step():
    states = core(pooling="max", cell="gru")
    layer = next(layer for layer in states.layers if isinstance(layer, keras.layers.GRU))
    embedding = next(layer for layer in states.layers if isinstance(layer, keras.layers.Embedding))
    embedded = embedding(TOKENS[1:2])
    greatest = np.asarray(layer(embedded)).max(axis=1)
    head = states.get_layer("head")
    np.testing.assert_allclose(np.asarray(head(greatest)), np.asarray(states(TOKENS[1:2])), atol=1e-6)


def test_units_are_dropped_before_dense_layers_and_head():
    dropped = [
        layer for layer in core(dense=[3, 4], head_dropout=0.5).layers if isinstance(layer, keras.layers.Dropout)
    ]
    assert [layer.rate for layer in dropped] == [0.5] * 3
    assert not [layer for layer in core(dense=[3]).layers if isinstance(layer, keras.layers.Dropout)]
