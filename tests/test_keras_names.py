"""The lists that stand in for Keras, held against the Keras that is installed."""

import inspect

import numpy as np
import pytest

from trainyard import keras_names

FIND = {"deserialize", "get", "serialize"}


@pytest.fixture(scope="module")
def keras():
    import keras

    return keras


def public(module):
    return {name for name in dir(module) if not name.startswith("_")} - FIND


def arguments(thing, *others):
    return {name for name in inspect.signature(thing).parameters if name not in ("name", "kwargs", *others)}


def needs_no_arguments(metric):
    try:
        metric()
    except TypeError:
        return False
    return True


def finds(module, name):
    """Keras 3.15 exports some functions that it does not find by their names."""
    try:
        return callable(module.get(name))
    except ValueError:
        return False


def test_activations_are_those_of_keras(keras):
    assert set(keras_names.ACTIVATIONS) == public(keras.activations) - {"glu", "threshold"}


def test_losses_fit_what_the_objective_learns(keras):
    """Each is finite, and least for the right answer, with targets and answers of the shapes and ranges of training."""
    draw = np.random.default_rng(0)
    learnt = {
        "binary": draw.integers(0, 2, (64, 1)).astype(np.float32),
        "multiclass": np.eye(3, dtype=np.float32)[draw.integers(0, 3, 64)],
        "regression": draw.normal(size=(64, 1)).astype(np.float32),
        "forecast": draw.normal(size=(64, 4)).astype(np.float32),
        "transcription": draw.integers(1, 4, (64, 3)),
    }
    assert set(learnt) == set(keras_names.LOSSES)
    for objective, names in keras_names.LOSSES.items():
        target = learnt[objective]
        right = np.clip(target, 0.01, 0.99) if objective in ("binary", "multiclass") else target
        if objective == "transcription":  # logits of letters, each between two blanks
            right = 9 * np.eye(4, dtype=np.float32)[np.insert(target, [0, 1, 2, 3], 0, axis=1)]
        for name in names:
            losses = [
                float(np.mean(keras.losses.get(name)(target, answer))) for answer in (right, np.roll(right, 1, axis=0))
            ]
            assert np.isfinite(losses).all(), name
            assert losses[0] < losses[1], name


def test_metrics_are_those_of_keras_that_need_no_arguments(keras):
    found = {name: getattr(keras.metrics, name) for name in public(keras.metrics)}
    functions = {name for name, metric in found.items() if not inspect.isclass(metric) and finds(keras.metrics, name)}
    classes = {name for name, metric in found.items() if inspect.isclass(metric) and needs_no_arguments(metric)}
    # these hold no answer against a target
    assert set(keras_names.METRICS) == functions | classes - {"Metric", "Mean", "Sum"}


def test_optimizers_and_their_arguments_are_those_of_keras(keras):
    # these wrap another optimizer, which params cannot name
    wrappers = {"Optimizer", "LossScaleOptimizer", "MultiOptimizer", "OptimizerMap", "legacy", "schedules"}
    found = {name: getattr(keras.optimizers, name) for name in public(keras.optimizers) - wrappers}
    of_keras = {
        name.lower(): arguments(optimizer, "learning_rate", *keras_names.ANY_OPTIMIZER)
        for name, optimizer in found.items()
    }
    assert {name: set(known) for name, known in keras_names.OPTIMIZERS.items()} == of_keras


def test_every_optimizer_takes_what_any_optimizer_takes(keras):
    for name in dir(keras.optimizers):
        if name.lower() in keras_names.OPTIMIZERS:
            assert set(keras_names.ANY_OPTIMIZER) <= arguments(getattr(keras.optimizers, name)), name


def test_schedules_and_their_arguments_are_those_of_keras(keras):
    found = public(keras.optimizers.schedules) - {"LearningRateSchedule"}
    of_keras = {name: arguments(getattr(keras.optimizers.schedules, name)) for name in found}
    assert {name: set(known) for name, known in keras_names.SCHEDULES.items()} == of_keras
    for name in found:
        signature = inspect.signature(getattr(keras.optimizers.schedules, name)).parameters.items()
        needed = {argument for argument, parameter in signature if parameter.default is parameter.empty}
        assert needed == keras_names.NEEDED & set(keras_names.SCHEDULES[name]), name


@pytest.mark.parametrize("section", ["ACTIVATIONS", "METRICS"])
def test_keras_finds_every_name(keras, section):
    module = getattr(keras, section.lower())
    for name in getattr(keras_names, section):
        assert finds(module, name), name


def test_no_name_is_there_twice_and_all_are_sorted():
    for names in (keras_names.ACTIVATIONS, *keras_names.LOSSES.values(), keras_names.METRICS):
        assert list(names) == sorted(set(names))
