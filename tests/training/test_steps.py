"""Steps in a compiled loop: the losses, weights and metrics of plain Keras, whatever the family."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from contracts.test_families import FAMILIES
from training_cases import OBJECTIVES, started

from trainyard import arrays
from trainyard.params import EarlyStopping, Optimizer
from trainyard.training import fit, steps
from trainyard.training.batches import Batches
from trainyard.training.steps import Plan

PLANS = {
    "mlp": [Plan(2, "loop")],
    "cnn": [Plan(2)],
    "rnn": [Plan(2, "step"), Plan(2, "step", halves=True)],
    "mobilenet": [Plan(2, "loop")],
}
CASES = [
    # one of each is enough while one works on the code
    pytest.param(
        family,
        kind,
        plan,
        marks=[] if place == number == 0 and family in ("mlp", "rnn") else [pytest.mark.slow],
        id=f"{family}-{kind}-{number}",
    )
    for family, spec in FAMILIES.items()
    for place, kind in enumerate(spec.kinds)
    for number, plan in enumerate(PLANS[family])
    if kind != "speech"  # below
]


@pytest.fixture
def planned(monkeypatch):
    """Have the fit make its steps so, however few there are."""

    def have(*plan, **more):
        monkeypatch.setattr(steps, "plan", lambda *_: Plan(*plan, **more))

    return have


def alike(ours, history, plain, losses, tolerance):
    for name, values in history.drop(columns=["learning_rate", "kept"]).items():
        np.testing.assert_allclose(values, losses[name], rtol=10 * tolerance, atol=tolerance)
    for one, other in zip(ours.variables, plain.variables, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance, err_msg=one.path)


@pytest.mark.parametrize(("family", "kind", "plan"), CASES)
def test_a_family_learns_what_plain_keras_learns(tmp_path, planned, family, kind, plan):
    """Plain `fit` of Keras is given the rows in the epoch's order; dropout and augmentation are drawn alike."""
    knobs = {"batch_normalization": True, "l2": 0.01} if family == "mlp" else {}
    if not plan.halves:
        knobs["dropout"] = 0.3
    if family == "cnn":
        knobs["augment"] = {"flip": "horizontal", "rotate": 0.1}
    objective = OBJECTIVES[kind]
    data, spec, ((x, y), validation), core = started(tmp_path, family, kind, objective, **knobs)
    compiled = plan.compiled != "nothing"

    plain, told = core(), []
    fit.compile_core(plain, spec, data, spec.optimizer, compiled)
    # as many batches as ours: dropout of a recurrent layer draws in validation too
    against = {"validation_data": validation, "validation_batch_size": 256}
    for epoch in range(3):
        order = np.random.default_rng([7, epoch]).permutation(len(x))
        told.append(plain.fit(x[order], y[order], spec.batch_size, shuffle=False, verbose=0, **against).history)
    losses = {name: [np.mean(row[name][0]) for row in told] for name in told[0]}

    ours = core()
    planned(plan.together, plan.compiled, plan.halves)
    history = fit.fit(ours, (x, y), validation, spec, data, seed=7)
    alike(ours, history, plain, losses, 1e-6 if compiled else 0)


@pytest.mark.parametrize("halves", [pytest.param(False, marks=pytest.mark.slow), True])
def test_speech_learns_in_compiled_steps_what_it_learns_in_plain_ones(tmp_path, planned, halves):
    data, spec, (training, validation), core = started(tmp_path, "rnn", "speech", "transcription")
    found = []
    for plan in (Plan(), Plan(1, "step", halves)):
        planned(plan.together, plan.compiled, plan.halves)
        found += [core()]
        found += [fit.fit(found[-1], training, validation, spec, data, seed=7)]
    plain, losses, ours, history = found
    alike(ours, history, plain, losses, 1e-6)


@pytest.mark.parametrize("count", [33, *(pytest.param(count, marks=pytest.mark.slow) for count in (34, 35, 40))])
def test_halves_need_not_be_equal_and_may_be_weighed(tmp_path, planned, count):
    """A last batch of 1, 2, 3 and 8 examples."""
    knobs = {"class_weight": {"place 0": 3.0}, "units": [8], "metrics": ["TopKCategoricalAccuracy"]}
    data, spec, ((x, y), validation), core = started(tmp_path, "rnn", "text", "multiclass", **knobs)
    x, y = np.resize(x, (count, *x.shape[1:])), np.resize(y, (count, *y.shape[1:]))
    ours, plain = core(), core()
    planned(2, "step", halves=True)
    history = fit.fit(ours, (x, y), validation, spec, data, seed=7)
    planned()
    expected = fit.fit(plain, (x, y), validation, spec, data, seed=7)
    alike(ours, history, plain, expected, 1e-6)


@pytest.mark.parametrize("resident", [True, False])
def test_every_example_is_learnt_once_an_epoch_with_its_own_weight(tmp_path, planned, monkeypatch, resident):
    data, spec, ((x, y), validation), core = started(tmp_path, "mlp", "tables", "binary", class_weight={"1": 3.0})
    planned(2, "loop")
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


def test_early_stopping_and_schedules_count_epochs_and_steps_as_ever(tmp_path, planned):
    rate = {"name": "ExponentialDecay", "initial_learning_rate": 0.5, "decay_steps": 1, "decay_rate": 0.5}
    knobs = {
        "epochs": 40,
        "early_stopping": EarlyStopping(patience=2, min_delta=1.0),
        "optimizer": Optimizer(name="sgd", learning_rate=rate),
    }
    data, spec, (training, validation), core = started(tmp_path, "mlp", "tables", "binary", **knobs)
    planned(4, "loop")
    history = fit.fit(core(), training, validation, spec, data, seed=7)
    assert len(history) == 3
    count = -(-len(training[1]) // 16)
    np.testing.assert_allclose(
        history["learning_rate"], [0.5 * 0.5 ** (count * epoch) for epoch in (1, 2, 3)], rtol=1e-4
    )


def layers(*names):
    shape = {"Conv2D": (8, 8, 3), "Dense": (4,)}.get(names[0], (8, 4))
    made = {
        "Dense": keras.layers.Dense(2),
        "LSTM": keras.layers.LSTM(2),
        "Dropping": keras.layers.Bidirectional(keras.layers.GRU(2, dropout=0.1)),
        "Dropout": keras.layers.Dropout(0.1),
        "Pitch": keras.layers.RandomTranslation(0.0, 0.1),
        "Conv1D": keras.layers.Conv1D(2, 3),
        "Conv2D": keras.layers.Conv2D(2, 3),
        "Flatten": keras.layers.Flatten(),
    }
    inputs = x = keras.Input((*shape, 1) if names[0] == "Pitch" else shape)
    for name in names:
        x = made[name](x)
        x = keras.layers.Reshape(shape)(x) if name == "Pitch" else x
    return keras.Model(inputs, x)


@pytest.mark.parametrize(
    ("names", "count", "lengths", "expected", "reason"),
    [
        (("Dense",), 3200, None, Plan(100, "loop"), "up to 100 a call, in a loop compiled by XLA"),
        (("Dense",), 320, None, Plan(), "one a call, 200 steps are fewer than the 1500"),
        (("LSTM",), 3200, None, Plan(64, "step", True), "up to 64 a call, each compiled by XLA, two halves side"),
        (("Dropping",), 3200, None, Plan(64, "step"), "up to 64 a call, each compiled by XLA, the batch as a whole"),
        (("Dropout", "LSTM"), 3200, None, Plan(64, "step"), "each compiled by XLA, the batch as a whole"),
        (("LSTM",), 3200, np.arange(3200), Plan(1, "step", True), "up to 1 a call, each compiled by XLA"),
        (("Pitch", "LSTM"), 3200, np.arange(3200), Plan(), "one a call, XLA does not compile RandomTranslation"),
        (("Conv2D", "Flatten", "Dense"), 3200, None, Plan(64), "up to 64 a call, in a loop not compiled by XLA"),
        (("Conv1D", "LSTM"), 3200, None, Plan(), "one a call, a step takes far longer than a call"),
    ],
)
def test_the_choice_is_printed_with_its_reason(caplog, names, count, lengths, expected, reason):
    caplog.set_level("INFO")
    assert steps.plan(layers(*names), Batches(count, 32, 1, lengths), (np.zeros((count, 4)),), 20) == expected
    assert reason in caplog.text


def test_convolutions_are_found_where_they_are_nested():
    inner = layers("Conv2D", "Flatten", "Dense")
    inputs = keras.Input((8, 8, 3))
    outer = keras.Model(inputs, keras.layers.Dense(1)(inner(inputs)))
    assert steps.plan(outer, Batches(3200, 32, 1), (np.zeros((3200, 4)),), 20) == Plan(64)


def test_as_many_batches_go_into_a_call_as_fit_there(caplog):
    """Photos that fill more memory than is given to them: a batch or more is read from the disk for each call."""
    caplog.set_level("INFO")
    photos = np.broadcast_to(np.float32(0), (3200, 224, 224, 3))
    assert steps.plan(layers("Conv2D", "Flatten", "Dense"), Batches(3200, 32, 1), (photos,), 20) == Plan()
    assert "steps: one a call, one would hold a single batch of 32" in caplog.text
    assert steps.plan(layers("Conv2D", "Flatten", "Dense"), Batches(3200, 8, 1), (photos,), 20) == Plan(3)


@pytest.mark.parametrize("strict", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("family", "kind"), [("mlp", "tables"), ("rnn", "series")])
def test_what_is_said_to_be_compiled_is(tmp_path, strict, family, kind, monkeypatch, caplog):
    """Also where operations must be deterministic, for which Keras' own `jit_compile` is declined."""
    data, spec, (training, validation), core = started(tmp_path, family, kind, OBJECTIVES[kind], epochs=2)
    monkeypatch.setattr(steps, "DENSE", 1)
    monkeypatch.setattr(steps, "OTHERS", 1)
    made = []
    model = steps.Steps
    monkeypatch.setattr(steps, "Steps", lambda *arguments: made.append(model(*arguments)) or made[0])
    caplog.set_level("INFO")
    if strict:
        tf.config.experimental.enable_op_determinism()
    fit.fit(core(), training, validation, spec, data, seed=7)
    assert "compiled by XLA" in caplog.text
    if family == "mlp":
        program, given = made[0].loop, ((tf.zeros((3, 16), tf.int32),), tf.constant(3))
    else:
        program = made[0].gradients
        weights = [tf.convert_to_tensor(weight) for weight in made[0].trainable_weights]
        given = (weights, *(tf.constant(part[:8]) for part in training), None)
    assert "HloModule" in program.experimental_get_compiler_ir(*given)(stage="hlo")
