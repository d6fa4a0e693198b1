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
