"""What is saved answers with its temperature, whatever the family."""

from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
from contracts.samples import prepared
from contracts.test_families import block, parts
from scipy.special import expit, logit, softmax

from trainyard import files
from trainyard.kinds import Examples
from trainyard.models import saved
from trainyard.quality import metrics
from trainyard.quality.calibration import temperature
from trainyard.training import package
from trainyard.training.temperature import calibrate

CLASSIFIERS = [
    ("mlp", "tables", "binary"),
    ("cnn", "images", "multiclass"),
    pytest.param("rnn", "text", "multiclass", marks=pytest.mark.slow),
    pytest.param("mobilenet", "images", "binary", marks=pytest.mark.slow),
]
HISTORY = pd.DataFrame({"loss": [0.5], "val_loss": [0.5], "kept": [1]}, pd.Index([1], name="epoch"))


def planted(folder, family, kind, objective, times):
    """An untrained model, and validation examples whose classes are drawn by its probabilities; then it gets surer.

    Gives the model, the data, and the temperature that is right for it.
    """
    data = prepared(folder, kind, objective)
    keras.utils.set_random_seed(0)
    preprocessing, core, *_ = parts(data, block(family), 8)
    model = preprocessing.join(core)
    head = (core.get_layer("top") if family == "mobilenet" else core).get_layer("head")
    raw = {name: np.concatenate([values[:]] * 8) for name, values in data.train.raw.items()}
    said = logits(saved.predict(model, raw))
    middle = said.mean(axis=0)
    spread = [weight / (said - middle).std() for weight in (head.get_weights()[0], -middle)]
    head.set_weights(spread)
    answer = saved.predict(model, raw)
    shares = np.hstack([1 - answer, answer]) if objective == "binary" else answer
    target = (shares.cumsum(axis=1) > np.random.default_rng(0).random((len(answer), 1))).argmax(axis=1)
    head.set_weights([times * weight for weight in spread])
    before, _ = temperature(logits(answer), target)
    return model, replace(data, validation=Examples(raw, target.astype(np.int32), data.train.rows)), times * before


def logits(answer):
    return logit(answer) if answer.shape[1] == 1 else np.log(answer)


@pytest.mark.parametrize(("family", "kind", "objective"), CLASSIFIERS)
def test_a_saved_model_answers_with_its_temperature(tmp_path, monkeypatch, family, kind, objective):
    monkeypatch.chdir(tmp_path)
    model, data, right = planted(tmp_path, family, kind, objective, times=3.0)
    before = saved.predict(model, data.validation.raw)
    package.write("m", block(family), data, model, HISTORY)
    about = files.read_json(tmp_path / "models/m/model.json")
    assert about["temperature"] == pytest.approx(right, rel=1e-3)
    after = saved.predict(saved.load(tmp_path / "models/m/model.keras", about["sha256"]), data.validation.raw)
    divided = logits(before) / about["temperature"]
    expected = expit(divided) if objective == "binary" else softmax(divided, axis=1)
    np.testing.assert_allclose(after, expected, atol=1e-4)
    assert (metrics.chosen(after) == metrics.chosen(before)).all()
    target = data.validation.target
    assert metrics.log_loss(target, after) < metrics.log_loss(target, before)
    assert metrics.calibration_error(target, after) < metrics.calibration_error(target, before)


def test_the_temperature_is_printed_with_its_reason(tmp_path, caplog):
    caplog.set_level("INFO")
    model, data, _ = planted(tmp_path, "mlp", "tables", "binary", times=3.0)
    found = calibrate(model, block("mlp"), data)
    assert f"temperature: {found:g}, validation log loss 0." in caplog.text


@pytest.mark.parametrize(("calibrated", "found"), [(True, 1), (False, None)], ids=["too few", "not asked for"])
def test_a_model_that_is_not_to_be_calibrated_stays_as_it_is(tmp_path, calibrated, found):
    model, data, _ = planted(tmp_path, "mlp", "tables", "binary", times=3.0)
    if calibrated:
        data = replace(data, validation=data.test)
    before = model.get_weights()
    assert calibrate(model, block("mlp", calibrate=calibrated), data) == found
    assert all((old == new).all() for old, new in zip(before, model.get_weights(), strict=True))


def test_what_does_not_classify_has_no_temperature(tmp_path):
    data = prepared(tmp_path, "tables", "regression")
    preprocessing, core, *_ = parts(data, block("mlp"), 8)
    assert calibrate(preprocessing.join(core), block("mlp"), data) is None
