"""The precision: what a core computes in as it learns. Its weights, and the model that is saved, are float32."""

import logging
from typing import Any

from trainyard.params import Training
from trainyard.training.fit import Fit, remade

log = logging.getLogger(__name__)

EXACT = {"head", "augmentation", "disturbance"}
"""Layers that stay float32: what the loss is made of, and what moves pixels by less than bfloat16 tells apart."""


def of(training: Training, learns: Fit) -> Fit:
    """The fit in the precision that params ask for; printed with its reason."""
    if training.precision == "float32":
        log.info("precision: float32, params ask for no other")
        return learns
    log.info("precision: bfloat16 products of float32 weights, params ask for it")
    return remade(_mixed, learns)


def _mixed(config: Any) -> Any:
    """The config of a core with the policy of mixed precision (Micikevicius et al., 2018) in all but `EXACT` layers."""
    if isinstance(config, list):
        return [_mixed(part) for part in config]
    if not isinstance(config, dict) or (config.get("name") in EXACT and "class_name" in config):
        return config
    if config.get("class_name") == "DTypePolicy":
        return {**config, "config": {"name": "mixed_bfloat16"}}
    return {key: _mixed(part) for key, part in config.items()}
