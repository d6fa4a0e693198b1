"""Fine-tuning: a new head on frozen features that are computed once, then the top of the backbone at a low rate."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from trainyard import kinds, models
from trainyard.arrays import Array, Rows, held, in_parts
from trainyard.kinds import Prepared
from trainyard.models import mobilenet, pretrained
from trainyard.params import MobileNet, Optimizer
from trainyard.training.features import Pair, pairs, scratch, seen
from trainyard.training.fit import Fit, OnEpoch, fit
from trainyard.training.resume import Resume

log = logging.getLogger(__name__)


def train(
    spec: MobileNet,
    data: Prepared,
    seed: int,
    backbone: Path,
    on_epoch: OnEpoch = lambda epoch, row: None,
    resume: Resume | None = None,
    engine: Fit = fit,
) -> tuple[keras.Model, pd.DataFrame]:
    """Build a model on the backbone of a folder, fine-tune it, and give it as it is saved, with its history."""
    preprocessing = kinds.of(data.spec).preprocessing(data.spec, data.facts, data.train)
    core = models.build(spec, seen(preprocessing), data.objective, data.units)
    pretrained.load(core.get_layer("trunk").get_layer("backbone"), backbone)
    with pairs(data, preprocessing, resume.folder if resume else None) as (training, validation):
        history = finetune(core, training, validation, spec, data, seed, on_epoch, resume, engine)
    return preprocessing.join(core), history


def finetune(
    core: keras.Model,
    training: Pair,
    validation: Pair,
    spec: MobileNet,
    data: Prepared,
    seed: int,
    on_epoch: OnEpoch = lambda epoch, row: None,
    resume: Resume | None = None,
    engine: Fit = fit,
) -> pd.DataFrame:
    """Train a `mobilenet` core whose backbone has its pretrained weights; it ends with the better of both phases.

    First the head learns from frozen features of the images and of `copies` augmented copies, which are computed once.
    Then the top of the backbone thaws; that phase is kept only where its validation loss is less than the first's.
    Gives one history over both phases, as `fit` does; with `resume` it goes on in the phase that was interrupted.
    """
    trunk, top = core.get_layer("trunk"), core.get_layer("top")
    trunk.trainable = False
    targets = np.concatenate([training[1]] * (spec.copies + 1))
    log.info(
        "head: trains on %d frozen features, %d of them of augmented copies",
        len(targets),
        len(targets) - len(training[1]),
    )
    head, thawed_top = (resume.phase("head"), resume.phase("thawed")) if resume else (None, None)
    asked = keras.Model(trunk.inputs, trunk.outputs)
    asked.compile(jit_compile=False)  # XLA is slow at convolutions on a CPU
    augment = core.get_layer("augmentation")
    with scratch(resume.folder if resume else None) as folder:
        augmented = _frozen_features(asked, augment, training[0], spec.copies, folder / "training.npy")
        frozen = _frozen_features(asked, augment, validation[0], 0, folder / "validation.npy")
        history = engine(top, (augmented, targets), (frozen, validation[1]), spec, data, seed, on_epoch, resume=head)
    if not (spec.thaw.layers and spec.thaw.epochs):
        return history

    trunk.trainable = True
    thawed = mobilenet.thaw(core, spec.thaw.layers)
    count, phase = sum(layer.count_params() for layer in thawed), spec.thaw
    log.info(
        "thawed: %d layers of the top %d, %d weights, rate %g", len(thawed), phase.layers, count, phase.learning_rate
    )
    before = core.get_weights()
    low = Optimizer(**{**spec.optimizer.model_dump(), "learning_rate": phase.learning_rate})
    more: dict[str, Any] = {"optimizer": low, "epochs": phase.epochs, "first": len(history) + 1, "resume": thawed_top}
    second = engine(core, training, validation, spec, data, seed, on_epoch, **more)
    return _better(core, before, history, second)


def _frozen_features(asked: keras.Model, augment: keras.Layer, images: Rows, copies: int, path: Path) -> Rows:
    """Features `[n * (copies + 1), filters]` of the images and then of their augmented copies; at `path` if large."""

    def features() -> Iterator[Array]:
        for copy in range(copies + 1):
            for batch in in_parts(images, 64):
                yield asked.predict_on_batch(augment(batch, training=True) if copy else batch)

    return held(path, len(images) * (copies + 1), features())


def _better(core: keras.Model, before: list[Array], first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Both histories, with one kept epoch; the weights of the first phase come back where they were better."""
    head, thawed = (float(phase.loc[phase["kept"] == 1, "val_loss"].iloc[0]) for phase in (first, second))
    if thawed < head:
        first = first.assign(kept=0)
    else:
        core.set_weights(before)
        second = second.assign(kept=0)
    kept = "second" if thawed < head else "first"
    log.info("kept the %s phase: validation loss %.4g on frozen features, %.4g thawed", kept, head, thawed)
    return pd.concat([first, second])
