"""Steps in a compiled loop: the losses, weights and metrics of plain Keras, whatever the family."""

import keras
import numpy as np
import pytest
from contracts.test_families import FAMILIES
from training_cases import started

from trainyard import arrays
from trainyard.params import EarlyStopping, Optimizer
from trainyard.training import fit, steps
from trainyard.training.batches import Batches

OBJECTIVES = {"series": "forecast", "tables": "binary"}
CASES = [
    # one of each family is enough while one works on the code
    pytest.param(family, kind, OBJECTIVES.get(kind, "multiclass"), marks=[] if place == 0 else [pytest.mark.slow])
    for family, spec in FAMILIES.items()
    for place, kind in enumerate(spec.kinds)
    if kind != "speech"  # whose steps are calls of their own
]


@pytest.fixture
def together(monkeypatch):
    """Have the fit take so many steps in a call, however few there are."""

    def have(count, compiled):
        monkeypatch.setattr(fit, "_together", lambda *_: (count, compiled))

    return have


@pytest.mark.parametrize(("family", "kind", "objective"), CASES)
def test_a_family_learns_what_plain_keras_learns(tmp_path, together, family, kind, objective):
    """Plain `fit` of Keras is given the rows in the epoch's order; dropout and augmentation are drawn alike."""
    knobs = {"dropout": 0.3} if family != "mlp" else {"dropout": 0.3, "batch_normalization": True, "l2": 0.01}
    if family == "cnn":
        knobs["augment"] = {"flip": "horizontal", "rotate": 0.1}
    data, spec, ((x, y), validation), core = started(tmp_path, family, kind, objective, **knobs)
    compiled = family != "cnn"

    plain, losses = core(), []
    fit.compile_core(plain, spec, data, spec.optimizer, compiled)
    # as many batches as ours: dropout of a recurrent layer draws in validation too
    against = {"validation_data": validation, "validation_batch_size": 256}
    for epoch in range(3):
        order = np.random.default_rng([7, epoch]).permutation(len(x))
        told = plain.fit(x[order], y[order], spec.batch_size, shuffle=False, verbose=0, **against)
        losses.append({name: values[0] for name, values in told.history.items()})

    ours = core()
    together(2, compiled)
    history = fit.fit(ours, (x, y), validation, spec, data, seed=7)
    for name, values in history.drop(columns=["learning_rate", "kept"]).items():
        expected = [np.mean(row[name]) for row in losses]
        np.testing.assert_allclose(values, expected, rtol=1e-5 if compiled else 0, atol=1e-6 if compiled else 0)
    for one, other in zip(ours.variables, plain.variables, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6 if compiled else 0, err_msg=one.path)


@pytest.mark.parametrize("resident", [True, False])
def test_every_example_is_learnt_once_an_epoch_with_its_own_weight(tmp_path, together, monkeypatch, resident):
    data, spec, ((x, y), validation), core = started(tmp_path, "mlp", "tables", "binary", class_weight={"1": 3.0})
    together(2, True)
    monkeypatch.setattr(arrays, "RESIDENT", 2**25 if resident else 0)
    ours, plain = core(), core()
    fit.fit(ours, (x, y), validation, spec, data, seed=7)
    fit.compile_core(plain, spec, data, spec.optimizer, True)
    for epoch in range(3):
        order = np.random.default_rng([7, epoch]).permutation(len(x))
        plain.fit(x[order], y[order], 16, class_weight={0: 1.0, 1: 3.0}, shuffle=False, verbose=0)
    for one, other in zip(ours.weights, plain.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("resident", [True, False])
def test_a_stream_gives_the_batches_of_the_epoch(monkeypatch, resident):
    monkeypatch.setattr(arrays, "RESIDENT", 2**25 if resident else 0)
    x, y = np.arange(50, dtype=np.float32)[:, None], np.arange(50, dtype=np.float32) * 2
    batches = Batches(50, 8, seed=5)
    stream = steps.Stream(batches, 4, x, y)
    fetch = stream.fetch()
    for epoch in (0, 1, 3):
        stream.start(epoch)
        found = []
        for parts, count in stream.dataset():
            found += [fetch(*(part[number] for part in parts)) for number in range(int(count))]
        assert [[*got_x.numpy().ravel()] for got_x, _ in found] == [batch.tolist() for batch in batches.of(epoch)]
        assert all((got_y.numpy() == 2 * got_x.numpy().ravel()).all() for got_x, got_y in found)
    assert stream.calls == int(stream.dataset().cardinality()) == 3


def test_what_fills_a_call_up_is_not_learnt():
    """Seven batches, three in a call: the last call is filled with batches that were there before."""
    stream = steps.Stream(Batches(56, 8, seed=5), 3, np.zeros((56, 1), np.float32))
    assert [(parts[0].shape[0], int(count)) for parts, count in stream.dataset()] == [(3, 3), (3, 3), (3, 1)]


def test_early_stopping_and_schedules_count_epochs_and_steps_as_ever(tmp_path, together):
    rate = {"name": "ExponentialDecay", "initial_learning_rate": 0.5, "decay_steps": 1, "decay_rate": 0.5}
    knobs = {
        "epochs": 40,
        "early_stopping": EarlyStopping(patience=2, min_delta=1.0),
        "optimizer": Optimizer(name="sgd", learning_rate=rate),
    }
    data, spec, (training, validation), core = started(tmp_path, "mlp", "tables", "binary", **knobs)
    together(4, True)
    history = fit.fit(core(), training, validation, spec, data, seed=7)
    assert len(history) == 3
    count = -(-len(training[1]) // 16)
    np.testing.assert_allclose(
        history["learning_rate"], [0.5 * 0.5 ** (count * epoch) for epoch in (1, 2, 3)], rtol=1e-4
    )


def layers(*names):
    inputs = x = keras.Input((8, 4) if names[0] in ("LSTM", "Conv1D") else (8, 8, 3) if names[0] == "Conv2D" else (4,))
    for name in names:
        arguments = {"Dense": [2], "LSTM": [2], "Conv1D": [2, 3], "Conv2D": [2, 3], "Flatten": []}[name]
        x = getattr(keras.layers, name)(*arguments)(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize(
    ("names", "count", "lengths", "expected", "reason"),
    [
        (("Dense",), 3200, None, (100, True), "steps: up to 100 a call, in a loop compiled by XLA"),
        (("Dense",), 320, None, (1, False), "steps: one a call, 200 steps are fewer than the 1500"),
        (("LSTM",), 3200, None, (64, True), "steps: up to 64 a call, in a loop compiled by XLA"),
        (("Conv2D", "Flatten", "Dense"), 3200, None, (64, False), "up to 64 a call, in a loop not compiled by XLA"),
        (("Conv1D", "LSTM"), 3200, None, (1, False), "steps: one a call, a step takes far longer than a call"),
        (("LSTM",), 3200, np.arange(3200), (1, False), "steps: one a call, a step takes far longer than a call"),
    ],
)
def test_the_choice_is_printed_with_its_reason(caplog, names, count, lengths, expected, reason):
    caplog.set_level("INFO")
    assert fit._together(layers(*names), Batches(count, 32, 1, lengths), (np.zeros((count, 4)),), 20) == expected
    assert reason in caplog.text


def test_convolutions_are_found_where_they_are_nested():
    inner = layers("Conv2D", "Flatten", "Dense")
    inputs = keras.Input((8, 8, 3))
    outer = keras.Model(inputs, keras.layers.Dense(1)(inner(inputs)))
    assert fit._together(outer, Batches(3200, 32, 1), (np.zeros((3200, 4)),), 20) == (64, False)


def test_as_many_batches_go_into_a_call_as_fit_there(caplog):
    """Photos that fill more memory than is given to them: a batch or more is read from the disk for each call."""
    caplog.set_level("INFO")
    photos = np.broadcast_to(np.float32(0), (3200, 96, 96, 3))
    assert fit._together(layers("Conv2D", "Flatten", "Dense"), Batches(3200, 32, 1), (photos,), 20) == (1, False)
    assert "steps: one a call, one would hold a single batch of 32" in caplog.text
    assert fit._together(layers("Conv2D", "Flatten", "Dense"), Batches(3200, 8, 1), (photos,), 20) == (4, False)


@pytest.mark.parametrize("strict", [True, False])
def test_the_loop_is_compiled_as_it_says(tmp_path, strict, monkeypatch, caplog):
    """Also where operations must be deterministic, for which Keras' own `jit_compile` is declined."""
    import tensorflow as tf

    data, spec, (training, validation), core = started(tmp_path, "mlp", "tables", "binary", epochs=2)
    monkeypatch.setattr(fit, "DENSE", 1)
    made = []
    monkeypatch.setattr(fit, "Steps", lambda *arguments: made.append(steps.Steps(*arguments)) or made[0])
    caplog.set_level("INFO")
    if strict:
        tf.config.experimental.enable_op_determinism()
    fit.fit(core(), training, validation, spec, data, seed=7)
    assert "steps: up to 3 a call, in a loop compiled by XLA" in caplog.text
    numbers = tf.zeros((3, 16), tf.int32)
    assert "HloModule" in made[0].loop.experimental_get_compiler_ir((numbers,), tf.constant(3))(stage="hlo")
