"""Fine-tuning: a new head on frozen features that are computed once, then the top of the backbone at a low rate."""

import logging
import math
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from trainyard import kinds, models
from trainyard.arrays import Array, held, resident, row_bytes
from trainyard.kinds import Prepared
from trainyard.models import mobilenet, pretrained
from trainyard.params import MobileNet, Optimizer, Schedule
from trainyard.training.batches import Batches, Mixing
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
    """Build a model on the backbone of a folder, fine-tune it, and give it as it is saved, with its history.

    Raises BadInput where the folder holds another backbone than params ask for, and what `fit` raises.
    """
    preprocessing = kinds.of(data.spec).preprocessing(data.spec, data.facts, data.train)
    core = models.build(spec, seen(preprocessing), data.objective, data.units)
    pretrained.load(core.get_layer("trunk").get_layer("backbone"), spec.backbone, backbone)
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
    Labels are smoothed and images blended in training alone: validation chooses by what is true.
    Then the top of the backbone thaws; that phase is kept only where its validation loss is less than the first's, or
    where `best_epoch` is false.
    Gives one history over both phases, as `fit` does; with `resume` it goes on in the phase that was interrupted.
    """
    augment, trunk, top = (core.get_layer(name) for name in ("augmentation", "trunk", "top"))
    trunk.trainable = False
    training = (training[0], _smoothed(training[1], spec.label_smoothing))
    copies = spec.copies
    if copies and not augment.layers and not spec.mix:
        copies = 0
        log.info("head: no copies, as neither `augment` nor `mix` would make them differ")
    more = len(training[1]) * copies
    log.info("head: trains on %d frozen features, %d of them of augmented copies", len(training[1]) + more, more)
    head, thawed_top = (resume.phase("head"), resume.phase("thawed")) if resume else (None, None)
    seeing = keras.Model(trunk.inputs, trunk.outputs)
    # XLA is slow at convolutions on a CPU; without it JAX computes layer by layer
    seeing.compile(jit_compile=keras.backend.backend() == "jax")
    with scratch(resume.folder if resume else None) as folder:
        mixing = Mixing(spec.mix, seed) if spec.mix else None
        augmented = _frozen_features(seeing, augment, training, copies, folder / "training.npy", mixing)
        frozen = _frozen_features(seeing, augment, validation, 0, folder / "validation.npy")
        history = engine(top, augmented, frozen, spec, data, seed, on_epoch, resume=head)
    if not (spec.thaw.layers and spec.thaw.epochs):
        return history

    thawed, phase = mobilenet.thaw(core, spec.thaw), spec.thaw
    count = sum(layer.count_params() for layer in thawed)
    log.info(
        "thawed: %d layers of the top %s, %d weights, rate %g", len(thawed), phase.layers, count, phase.learning_rate
    )
    before = core.get_weights()
    second = engine(
        core,
        training,
        validation,
        spec,
        data,
        seed,
        on_epoch,
        optimizer=_low(spec, math.ceil(len(training[1]) / spec.batch_size)),
        epochs=phase.epochs,
        first=len(history) + 1,
        resume=thawed_top,
        rates=None if phase.rate_decay == 1 else mobilenet.rates(core, phase.rate_decay),
        mix=spec.mix,
    )
    return _better(core, before, history, second, spec.best_epoch)


def _smoothed(learnt: Array, share: float) -> Array:
    """One-hot `[n, classes]`, or 0 or 1 `[n, 1]`, with a share of the certainty given to all classes alike.

    Szegedy et al., 2016.
    """
    return learnt * np.float32(1 - share) + np.float32(share / max(learnt.shape[1], 2))


def _low(spec: MobileNet, steps: int) -> Optimizer:
    """The optimizer of the second phase, of so many steps an epoch; the rate falls as in Loshchilov & Hutter, 2017."""
    rate: float | Schedule = spec.thaw.learning_rate
    if warm := spec.thaw.warm_up:
        rate = Schedule(  # Keras' own arguments
            name="CosineDecay",
            initial_learning_rate=0.0,
            warmup_target=rate,
            warmup_steps=warm * steps,
            decay_steps=(spec.thaw.epochs - warm) * steps,
        )
    return Optimizer(**{**spec.optimizer.model_dump(), "learning_rate": rate})


def _frozen_features(
    seeing: keras.Model, augment: keras.Layer, part: Pair, copies: int, path: Path, mixing: Mixing | None = None
) -> Pair:
    """Features `[n * (copies + 1), filters]` of images and then of their augmented copies, and what is learnt of each.

    The features lie at `path` if they are large. Images to blend come in any order: on the disk each class lies by
    itself.
    """
    learnt: list[Array] = []
    row = None if resident(*part) else row_bytes(*part)

    def features() -> Iterator[Array]:
        for copy in range(copies + 1):
            blends = mixing if copy else None
            batches = Batches(len(part[1]), 64, blends.seed if blends else None, row=row)
            for i, chosen in enumerate(batches.of(copy)):
                images, true = part[0][chosen], part[1][chosen]
                if blends:
                    images, true = blends(images, true, 1, copy, i)
                learnt.append(true)
                yield seeing.predict_on_batch(augment(images, training=True) if copy else images)

    rows = held(path, len(part[1]) * (copies + 1), features())
    return rows, np.concatenate(learnt)


def _better(
    core: keras.Model, before: list[Array], first: pd.DataFrame, second: pd.DataFrame, best: bool
) -> pd.DataFrame:
    """Both histories, with one kept epoch; the weights of the first phase come back where they were better.

    Where the last epoch is asked for and not the `best`, it is that of the second phase.
    """
    head, thawed = (float(phase.loc[phase["kept"] == 1, "val_loss"].iloc[0]) for phase in (first, second))
    later = thawed < head or not best
    if later:
        first = first.assign(kept=0)
    else:
        core.set_weights(before)
        second = second.assign(kept=0)
    kept = "second" if later else "first"
    log.info("kept the %s phase: validation loss %.4g on frozen features, %.4g thawed", kept, head, thawed)
    return pd.concat([first, second])
