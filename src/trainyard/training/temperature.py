"""The temperature of a trained classifier: found on the validation split, it goes into the head."""

import logging

import keras

from trainyard.kinds import Prepared
from trainyard.models.saved import predict
from trainyard.params import Model
from trainyard.quality.calibration import temperature

log = logging.getLogger(__name__)


def calibrate(model: keras.Model, spec: Model, data: Prepared) -> float | None:
    """Divide the logits of a model that takes raw values by a temperature, and give that; printed with its reason.

    What was the most probable class stays it. None where params ask for none, or nothing is classified.
    """
    if not (spec.calibrate and data.objective.classifies):
        return None
    head = _head(model)
    activation, head.activation = head.activation, keras.activations.linear
    try:
        logits = predict(model, data.validation.raw)
    finally:
        head.activation = activation
    found, why = temperature(logits, data.validation.target)
    log.info("temperature: %g, %s", found, why)
    if found != 1:
        head.set_weights([weight / found for weight in head.get_weights()])  # its logits are a linear map of these
    return found


def _head(model: keras.Model) -> keras.layers.Dense:
    """The layer `head`, however deep: the last one of models in models."""
    while model.name != "head":
        model = model.layers[-1]
    return model
