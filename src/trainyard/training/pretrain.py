"""Pretraining: a backbone from random weights, on figures that a layer of the network draws anew at every step.

A batch holds the numbers of figures alone, so that no engine waits for pictures.
"""

import logging
import math
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from keras import ops

from trainyard.arrays import Array
from trainyard.errors import BadInput, TrainingFailed
from trainyard.models import mobilenet, pretrained
from trainyard.params import Drawing, Pretrain

CELLS = 4
"""Corners on a side of the colour mesh that makes the ground."""
PARTS = 20
"""Rows of the history, about."""
TOGETHER = 32
"""Steps that JAX makes before a callback is told: to tell it waits for the device."""

log = logging.getLogger(__name__)


def figures(folder: Path) -> tuple[list[Path], Array]:
    """The PNG files in and below a folder, in order, and what they show: RGBA uint8 `[n, side, side, 4]`.

    Raises BadInput where there are fewer than two, or one is no square of the others' size.
    """
    from PIL import Image

    paths = sorted(folder.rglob("*.png"))
    if len(paths) < 2:
        raise BadInput(f"{folder}: {len(paths)} PNG files in and below it (two figures are the least to tell apart)")
    shown: list[Array] = []
    for path in paths:
        try:
            with Image.open(path, formats=("PNG",)) as image:
                shown.append(np.asarray(image.convert("RGBA")))
        except (OSError, SyntaxError, ValueError) as error:
            raise BadInput(f"{path}: no readable PNG ({error})") from None
        if shown[-1].shape != (side := shown[0].shape[0], side, 4):
            high, wide, _ = shown[-1].shape
            raise BadInput(f"{path}: {high}x{wide} pixels (expected a square, {side}x{side} as {paths[0].name})")
    return paths, np.stack(shown)


class Drawn(keras.layers.Layer):
    """Draws figures by number: int32 `[batch]` to float32 `[batch, side, side, 3]` in [-1, 1], anew at every call."""

    def __init__(self, shown: Array, spec: Drawing, side: int, batch: int, seed: int) -> None:
        """`shown` are the figures, RGBA uint8 `[n, pixels, pixels, 4]`."""
        super().__init__(trainable=False)
        self.spec, self.side, self.batch = spec, side, batch
        self.count, self.pixels = shown.shape[:2]
        cover = shown[..., 3:].astype(np.float32) / 255
        # colours count as much as they cover, or the transparent pixels' black would seep in at the edges
        covered = np.concatenate([np.rint(shown[..., :3] * cover).astype(np.uint8), shown[..., 3:]], axis=-1)
        rows = covered.reshape(-1, 4)
        self.shown = self.add_weight(rows.shape, "zeros", "uint8", trainable=False, name="shown")
        self.shown.assign(rows)
        place = np.linspace(0, CELLS - 1, side)[:, None]
        self.stretched = np.maximum(0, 1 - np.abs(place - np.arange(CELLS))).astype(np.float32)
        self.random = keras.random.SeedGenerator(seed)

    def call(self, numbers: Any) -> Any:
        """Draw one picture for each number."""
        picture = self._ground()
        for _ in range(self.spec.clutter):
            others = keras.random.randint((self.batch,), 0, self.count, dtype="int32", seed=self.random)
            there = ops.cast(self._uniform((self.batch, 1, 1, 1), 0.0, 1.0) < 0.5, "float32")
            picture = self._over(picture, others, (0.3, 2.5), 0.5, there)
        picture = self._over(picture, numbers, self.spec.size, self.spec.shift)
        noise = keras.random.normal((self.batch, self.side, self.side, 1), seed=self.random)
        picture += noise * self._uniform((self.batch, 1, 1, 1), 0.0, self.spec.noise)
        return ops.clip(picture, 0.0, 1.0) * 2.0 - 1.0

    def _uniform(self, shape: tuple[int, ...], low: float, high: float) -> Any:
        return keras.random.uniform(shape, low, high, seed=self.random)

    def _over(self, picture: Any, numbers: Any, size: tuple[float, float], shift: float, there: Any = 1.0) -> Any:
        """The picture with a figure on it."""
        sampled = self._sampled(numbers, *self._placed(size, shift))
        cover = sampled[..., 3:] * there
        return cover * self._recoloured(sampled[..., :3] / ops.maximum(sampled[..., 3:], 1e-3)) + (1 - cover) * picture

    def _placed(self, size: tuple[float, float], shift: float) -> tuple[Any, Any]:
        """Where each pixel of the pictures lies in the figures, `[batch, side, side]` columns and rows.

        Mirrored, turned, stretched, scaled (of all orders of magnitude alike) and moved.
        """
        many = (self.batch, 1, 1)
        angle = self._uniform(many, -1.0, 1.0) * (2 * math.pi * self.spec.rotate)
        scale = ops.exp(self._uniform(many, math.log(size[0]), math.log(size[1])))
        ratio = self._uniform(many, -1.0, 1.0) * (math.log(self.spec.stretch) / 2)
        mirror = ops.sign(self._uniform(many, -1.0, 1.0))
        across, down = (self._uniform(many, -shift, shift) for _ in range(2))
        steps = (np.arange(self.side, dtype=np.float32) + 0.5) / self.side - 0.5
        x, y = steps[None, None, :] - across, steps[None, :, None] - down
        columns = mirror * (x * ops.cos(angle) - y * ops.sin(angle)) * ops.exp(ratio) / scale
        rows = (x * ops.sin(angle) + y * ops.cos(angle)) * ops.exp(-ratio) / scale
        return (columns + 0.5) * self.pixels - 0.5, (rows + 0.5) * self.pixels - 0.5

    def _sampled(self, numbers: Any, columns: Any, rows: Any) -> Any:
        """What the figures show there, between their pixels: RGBA `[batch, side, side, 4]` in [0, 1]; else nothing."""
        left, top, last = ops.floor(columns), ops.floor(rows), self.pixels - 1
        first = ops.reshape(numbers, (-1, 1, 1)) * (self.pixels * self.pixels)
        total: Any = 0.0
        for x, y in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
            share = (1 - ops.abs(columns - x)) * (1 - ops.abs(rows - y))
            inside = (x >= 0) & (x <= last) & (y >= 0) & (y <= last)
            at = ops.cast(ops.clip(y, 0, last), "int32") * self.pixels + ops.cast(ops.clip(x, 0, last), "int32")
            found = ops.cast(ops.take(self.shown, first + at, axis=0), "float32")
            total += (share * ops.cast(inside, "float32"))[..., None] * found
        return total / 255.0

    def _recoloured(self, colours: Any) -> Any:
        """Turn the hue by any angle around the grey axis, scale saturation and contrast; colours are 0 to 1."""
        one = (self.batch, 1, 1, 1)
        turn, saturation = self._uniform(one, 0.0, 2 * math.pi), self._uniform(one, *self.spec.saturation)
        grey = ops.mean(colours, axis=-1, keepdims=True)
        away = colours - grey
        side = (ops.roll(away, 1, axis=-1) - ops.roll(away, -1, axis=-1)) / math.sqrt(3)  # a quarter turn of it
        colours = grey + saturation * (ops.cos(turn) * away + ops.sin(turn) * side)
        return self._uniform(one, 0.35, 0.65) + (colours - 0.5) * self._uniform(one, *self.spec.contrast)

    def _ground(self) -> Any:
        """Grounds between one colour and a mesh of colours, more of them bright than dark."""
        one = (self.batch, 1, 1, 1)
        plain = ops.sqrt(self._uniform(one, 0.0, 1.0)) + self._uniform((self.batch, 1, 1, 3), -0.2, 0.2)
        wild = self._uniform(one, 0.0, 0.3) * self._uniform((self.batch, CELLS, CELLS, 3), -1.0, 1.0)
        return ops.einsum("yi,bijc,xj->byxc", self.stretched, plain + wild, self.stretched)


class Identity(keras.layers.Layer):
    """The loss `[batch]` of telling from features `[batch, filters]` which figure was drawn."""

    def __init__(self, count: int, smoothing: float) -> None:
        """`count` figures."""
        super().__init__()
        self.smoothing = smoothing
        self.told = keras.Sequential([keras.layers.Dropout(0.1), keras.layers.Dense(count)])

    def call(self, features: Any, numbers: Any, training: bool = False) -> Any:
        """Cross-entropy with smoothed labels."""
        sure = ops.log_softmax(self.told(features, training=training))
        right = ops.take_along_axis(sure, numbers[:, None], axis=1)[:, 0]
        return -(1 - self.smoothing) * right - self.smoothing * ops.mean(sure, axis=1)


class Contrast(keras.layers.Layer):
    """The loss `[batch]` of finding the other drawing of each figure by features `[batch, filters]` of both."""

    def __init__(self, temperature: float) -> None:
        """What the likenesses are divided by."""
        super().__init__()
        self.temperature = temperature
        self.seen = keras.Sequential([keras.layers.Dense(256, "relu"), keras.layers.Dense(128)])

    def call(self, one: Any, other: Any, numbers: Any) -> Any:
        """Cross-entropy over the batch, both ways; other drawings of the same figure are no wrong answers."""
        one, other = (ops.normalize(self.seen(features), axis=-1) for features in (one, other))
        alike = ops.matmul(one, ops.transpose(other)) / self.temperature
        twin = ops.cast(ops.equal(numbers[:, None], numbers[None, :]), "float32") - ops.eye(one.shape[0])
        alike -= 1e9 * twin
        right = ops.diagonal(alike)
        return ops.logsumexp(alike, axis=0) / 2 + ops.logsumexp(alike, axis=1) / 2 - right


class Distance(keras.layers.Layer):
    """The loss `[batch]` of seeing otherwise than a teacher, `[batch, height, width, filters]` both."""

    def call(self, seen: Any, wanted: Any) -> Any:
        """The squared difference, as a share of what the teacher's answers vary."""
        varies = ops.mean(ops.var(wanted, axis=(0, 1, 2))) + 1e-6
        return ops.mean(ops.square(seen - wanted), axis=(1, 2, 3)) / varies


class Numbers(keras.utils.PyDataset):
    """Batches of random numbers of figures; the zeros are what Keras wants to compare the loss with."""

    def __init__(self, count: int, spec: Pretrain, seed: int) -> None:
        """`count` figures."""
        super().__init__()
        self.count, self.spec, self.seed = count, spec, seed

    def __len__(self) -> int:
        return self.spec.steps

    def __getitem__(self, step: int) -> tuple[Array, Array]:
        numbers = np.random.default_rng([self.seed, step]).integers(0, self.count, self.spec.batch_size)
        return numbers.astype(np.int32), np.zeros(self.spec.batch_size, np.float32)


class Progress(keras.callbacks.Callback):
    """Rows of the history: the mean loss of each part of the steps, and the time; one line tells of each."""

    def __init__(self, steps: int, rows: list[dict[str, float]]) -> None:
        """`rows` are added to."""
        super().__init__()
        self.steps, self.rows = steps, rows
        self.began, self.losses, self.done = time.monotonic(), 0.0, 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Raises TrainingFailed for a loss that is not finite."""
        done = min(batch + 1, self.steps)  # JAX takes many at once, and names the last of a set that may be cut short
        if done - self.done < self.steps / PARTS and done < self.steps:
            return
        mean = float(logs["loss"])  # over all steps so far
        if not math.isfinite(mean):
            raise TrainingFailed(f"step {done}: the loss is {mean} (lower `learning_rate`)")
        of_part = (mean * done - self.losses) / (done - self.done)
        self.losses, self.done = mean * done, done
        seconds = time.monotonic() - self.began
        self.rows.append({"step": done, "loss": of_part, "seconds": round(seconds, 2)})
        log.info("step %d/%d loss %.4g (%.1f min)", done, self.steps, of_part, seconds / 60)


def train(spec: Pretrain, shown: Array, seed: int) -> tuple[keras.Model, pd.DataFrame]:
    """Train a new backbone on figures; gives it and its history, mean loss and seconds of each part of the steps.

    Raises BadInput for a layer to match that the network has not, TrainingFailed for a loss that is not finite.
    """
    backbone, model = build(spec, shown, seed)
    steps, rising = spec.steps, max(1, round(spec.steps * spec.warm_up))
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - rising), warmup_target=spec.learning_rate, warmup_steps=rising
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=spec.weight_decay, clipnorm=1.0)
    jax = keras.backend.backend() == "jax"  # else without XLA, which is slow at convolutions on a CPU
    model.compile(optimizer, lambda _, loss: loss, jit_compile=jax, steps_per_execution=TOGETHER if jax else 1)
    log.info("pretraining: %d figures, %d steps of %d pictures, %s", len(shown), steps, spec.batch_size, spec.task)
    rows: list[dict[str, float]] = []
    shows = 1 if sys.stderr.isatty() and log.isEnabledFor(logging.INFO) else 0
    model.fit(Numbers(len(shown), spec, seed), callbacks=[Progress(steps, rows)], shuffle=False, verbose=shows)
    return backbone, pd.DataFrame(rows).set_index("step")


def build(spec: Pretrain, shown: Array, seed: int) -> tuple[keras.Model, keras.Model]:
    """A new backbone, and the model around it: from numbers of figures int32 `[batch]` to the loss of each."""
    backbone = mobilenet.network(spec.backbone, (spec.side, spec.side, 3))
    numbers = keras.Input(batch_shape=(spec.batch_size,), dtype="int32")
    drawn = Drawn(shown, spec.draw, spec.side, spec.batch_size, seed)
    pooled = keras.layers.GlobalAveragePooling2D()
    if spec.task == "identity":
        losses = Identity(len(shown), spec.label_smoothing)(pooled(backbone(drawn(numbers))), numbers)
    elif spec.task == "contrast":
        losses = Contrast(spec.temperature)(*(pooled(backbone(drawn(numbers))) for _ in range(2)), numbers)
    else:
        pictures = drawn(numbers)
        seen, wanted = (_answers(network, spec.match)(pictures) for network in (backbone, _teacher(spec)))
        losses = ops.mean(ops.stack([Distance()(*pair) for pair in zip(seen, wanted, strict=True)], axis=1), axis=1)
    return backbone, keras.Model(numbers, losses)


def _teacher(spec: Pretrain) -> keras.Model:
    found, source = pretrained.resolve(spec.backbone.model_copy(update={"weights": "imagenet"}))
    log.info("teacher: %s weights (%s)", source.name, source.reason)
    teacher = mobilenet.network(spec.backbone, (spec.side, spec.side, 3))
    teacher.set_weights(found.get_weights())
    teacher.trainable = False
    return teacher


def _answers(network: keras.Model, match: list[str]) -> keras.Model:
    """What some layers of a network give, and the network itself last."""
    known = {layer.name: layer.output for layer in network.layers}
    if unknown := [name for name in match if name not in known]:
        raise BadInput(
            f"params.yaml: match: the network has no layer `{unknown[0]}` (its last: {network.layers[-1].name})"
        )
    return keras.Model(network.inputs, [*(known[name] for name in match), network.output])


def halved(network: keras.Model, spec: Pretrain) -> keras.Model:
    """The same weights as 16-bit floats, half the size on the disk; they load into an ordinary network."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float16")
    try:
        half = mobilenet.network(spec.backbone, (spec.side, spec.side, 3))
    finally:
        keras.config.set_dtype_policy(policy)
    half.set_weights(network.get_weights())
    return half
