"""The fit: the steps it makes, what it keeps, what it refuses."""

import keras
import numpy as np
import pytest
from contracts.samples import prepared

from trainyard.errors import BadInput, TrainingFailed
from trainyard.params import MLP, EarlyStopping, Optimizer
from trainyard.training import fit


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("data"), "tables", "binary")


def block(**knobs):
    return MLP(**{"family": "mlp", "dataset": "sample", "layers": [], **knobs})


def logistic(width=3):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((width,))
    return keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(inputs))


def toy(n=50):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    return x, (x.sum(axis=1, keepdims=True) > 0).astype(np.float32)


def test_an_epoch_is_gradient_descent_in_the_order_of_seed_and_epoch(tables):
    """Logistic regression by plain SGD, written out in NumPy: the last, smaller batch counts too."""
    (x, y), core = toy(), logistic()
    weights, bias = (np.array(weight, np.float64) for weight in core.get_weights())
    spec = block(epochs=3, batch_size=16, best_epoch=False, optimizer=Optimizer(name="sgd", learning_rate=0.5))
    fit.fit(core, (x, y), (x, y), spec, tables, seed=7)
    for epoch in range(3):
        order = np.random.default_rng([7, epoch]).permutation(len(x))
        for batch in np.split(order, range(16, len(x), 16)):
            error = 1 / (1 + np.exp(-(x[batch] @ weights + bias))) - y[batch]
            weights, bias = weights - 0.5 * x[batch].T @ error / len(batch), bias - 0.5 * error.mean(axis=0)
    np.testing.assert_allclose(core.get_weights()[0], weights, atol=1e-5)
    np.testing.assert_allclose(core.get_weights()[1], bias, atol=1e-5)


def test_the_weights_of_the_best_epoch_are_kept(tables):
    """A learning rate that grows without end: the best epoch is not the last."""
    (x, y), core = toy(), logistic()
    rate = {"name": "ExponentialDecay", "initial_learning_rate": 0.1, "decay_steps": 1, "decay_rate": 3.0}
    spec = block(epochs=8, batch_size=64, optimizer=Optimizer(name="sgd", learning_rate=rate))
    history = fit.fit(core, (x, y), (x, 1 - y), spec, tables, seed=1)
    best = history["val_loss"].idxmin()
    assert list(history.index[history["kept"] == 1]) == [best]
    assert best != history.index[-1]
    answer = core.predict(x, verbose=0).astype(np.float64)
    loss = -np.log(np.where(1 - y == 1, answer, 1 - answer)).mean()
    assert loss == pytest.approx(history["val_loss"][best], rel=1e-4)


def test_training_stops_early(tables):
    (x, y), core = toy(), logistic()
    spec = block(
        epochs=50, optimizer=Optimizer(name="sgd", learning_rate=0.5), early_stopping=EarlyStopping(patience=2)
    )
    history = fit.fit(core, (x, y), (x, 1 - y), spec, tables, seed=1)
    assert len(history) == 3


def test_what_ends_a_training_does_not_say_what_is_the_best_of_it(tables):
    """With a `min_delta` small steps end it; the least validation loss is kept all the same."""
    (x, y), core = toy(), logistic()
    stopping = EarlyStopping(patience=3, min_delta=0.2)
    spec = block(epochs=50, optimizer=Optimizer(name="sgd", learning_rate=0.1), early_stopping=stopping)
    history = fit.fit(core, (x, y), (x, y), spec, tables, seed=1)
    assert len(history) < 50
    assert list(history.index[history["kept"] == 1]) == [history["val_loss"].idxmin()] == [history.index[-1]]


def test_a_metric_of_each_class_is_shown_as_its_mean(tables):
    (x, y), told = toy(), []
    fit.fit(logistic(), (x, y), (x, y), block(epochs=1, metrics=["F1Score"]), tables, 1, lambda *row: told.append(row))
    (value,) = [value for name, value in told[0][1].items() if name.lower().startswith("f1")]
    assert 0 < value <= 1


def test_a_value_that_keras_takes_and_cannot_use_is_bad_input(tables):
    (x, y), spec = toy(), block(optimizer=Optimizer(name="adam", beta_1="0.9"))
    with pytest.raises(BadInput, match="mlp on `sample`: Keras refuses it"):
        fit.fit(logistic(), (x, y), (x, y), spec, tables, 1)


def test_a_loss_that_is_not_finite_ends_the_training_and_names_the_epoch(tables):
    x, y = toy()
    told = []
    spec = block(epochs=3)
    with pytest.raises(TrainingFailed, match=r"epoch 1: .*loss is nan"):
        fit.fit(logistic(), (np.where(x > 2, np.nan, x), y), (x, y), spec, tables, 1, lambda *row: told.append(row))
    assert not told


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"optimizer": Optimizer(name="sgd", momentum=-1.0)}, "momentum"),
        ({"optimizer": Optimizer(name="adam", clipnorm=1.0, clipvalue=1.0)}, "clip"),
    ],
)
def test_what_keras_refuses_is_bad_input(tables, knobs, told):
    with pytest.raises(BadInput, match=told):
        fit.compile_core(logistic(), block(**knobs), tables, block(**knobs).optimizer)


def test_every_optimizer_and_schedule_of_params_is_made():
    from trainyard.keras_names import OPTIMIZERS

    for name in OPTIMIZERS:
        made = fit.keras_optimizer(Optimizer(name=name, learning_rate=0.01))
        assert type(made).__name__.lower() == name
        assert float(made.learning_rate) == pytest.approx(0.01)
    decay = {"name": "CosineDecay", "initial_learning_rate": 0.2, "decay_steps": 100}
    assert float(fit.keras_optimizer(Optimizer(learning_rate=decay)).learning_rate) == pytest.approx(0.2)


def test_a_core_that_is_made_anew_normalises_as_the_first_one():
    """As a network of a user's own may: Keras keeps copies of mean and variance beside its variables."""
    inner = keras.Sequential([keras.Input((2,)), keras.layers.Normalization(name="scaled")])
    inner.get_layer("scaled").adapt(np.float32([[1, 10], [3, 30]]))
    core = keras.Sequential([keras.Input((2,)), inner, keras.layers.Dense(1)])
    x, found = np.float32([[1, 30], [2, 20]]), []
    fit.remade(lambda config: config, lambda other: found.append(np.asarray(other(x))))(core)
    np.testing.assert_allclose(found[0], core(x), rtol=1e-6)
