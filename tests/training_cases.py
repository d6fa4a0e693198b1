"""A small training of any family: what `fit` is given, and a function that makes the same core again and again."""

import keras
import numpy as np
import pytest
from contracts.samples import prepared
from contracts.test_families import FAMILIES, block

from trainyard import kinds, models, params
from trainyard.training import features

OBJECTIVES = {
    "series": "forecast",
    "tables": "binary",
    "text": "multiclass",
    "images": "multiclass",
    "speech": "transcription",
}
"""What a training of each kind of data is asked for."""
EACH = [
    # one is enough while one works on the code
    pytest.param(family, kind, marks=[] if (family, kind) == ("mlp", "tables") else [pytest.mark.slow])
    for family, spec in FAMILIES.items()
    for kind in spec.kinds
]
"""Each family with each kind of data that it learns from."""


def started(folder, family, kind, objective, **knobs):
    """Data, the block, features and targets of training and validation, and the function."""
    data = prepared(folder, kind, objective)
    spec = block(family, **{"epochs": 3, "batch_size": 16, "best_epoch": False, **knobs})
    preprocessing = kinds.of(data.spec).preprocessing(data.spec, data.facts, data.train)

    def core():
        keras.utils.set_random_seed(4)
        made = models.build(spec, features.seen(preprocessing), data.objective, data.units)
        return made.get_layer("top") if isinstance(spec, params.MobileNet) else made

    with features.pairs(data, preprocessing) as pairs:
        held = [(np.array(x), y) for x, y in pairs]
    if isinstance(spec, params.MobileNet):  # whose top learns from features of the trunk
        width = core().input_shape[-1]
        held = [(np.random.default_rng(0).random((len(y), width), np.float32), y) for _, y in held]
    return data, spec, held, core
