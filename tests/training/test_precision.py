"""The precision: half the bits learn nearly the same, and what comes back is float32."""

import keras
import numpy as np
import pytest
from training_cases import EACH, OBJECTIVES, started

from trainyard.params import Training
from trainyard.training import fit, precision


@pytest.mark.parametrize(("family", "kind"), EACH)
def test_a_family_learns_nearly_the_same_in_half_the_bits(tmp_path, family, kind):
    data, spec, (training, validation), core = started(tmp_path, family, kind, OBJECTIVES[kind])
    expected = fit.fit(core(), training, validation, spec, data, 7)
    seen, ours = [], core()
    before = ours.get_weights()

    def learns(learning, *arguments):
        seen.append(learning)
        return fit.fit(learning, *arguments)

    history = precision.of(Training(precision="bfloat16"), learns)(ours, training, validation, spec, data, 7)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=0.05)
    assert (history["loss"] != expected["loss"]).any(), "it was computed in float32"
    assert {weight.dtype for weight in ours.weights} == {"float32"}
    assert ours.dtype_policy.name == "float32"
    assert any((one != other).any() for one, other in zip(ours.get_weights(), before, strict=True))
    for one, other in zip(ours.get_weights(), seen[0].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_the_loss_is_made_of_and_what_moves_pixels_stays_float32(tmp_path):
    augmented = {"augment": {"flip": "horizontal", "rotate": 0.1}}
    data, spec, (training, validation), core = started(tmp_path, "cnn", "images", "multiclass", **augmented)
    policies = {}

    def learns(learning, *_):
        policies.update({layer.name: layer.dtype_policy.name for layer in learning.layers})
        policies["rotation"] = learning.get_layer("augmentation").layers[-1].dtype_policy.name

    precision.of(Training(precision="bfloat16"), learns)(core(), training, validation, spec, data, 7)
    exact = {name for name, policy in policies.items() if policy == "float32" and not name.startswith("input")}
    assert exact == {"head", "augmentation", "rotation"}
    assert {policy for name, policy in policies.items() if "conv" in name or "dense" in name} == {"mixed_bfloat16"}
    assert keras.config.dtype_policy().name == "float32"


def test_the_choice_is_printed_with_its_reason(caplog):
    caplog.set_level("INFO")
    assert precision.of(Training(), fit.fit) is fit.fit
    assert "precision: float32, params ask for no other" in caplog.text
