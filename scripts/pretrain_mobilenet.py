"""Train the embedded MobileNet backbone from nothing, on emoji of other kinds than the shipped pictograms.

Why: transfer learning should work on a closed network, and the published ImageNet weights may neither be reachable
nor licensed for everyone. This recipe needs an emoji font and some minutes of two processor cores, and no photograph.

What is learned: to tell the glyphs of food, objects, faces, plants, signs and so on apart (one class a glyph), each
drawn anew at every step in any colour, size, angle and place, on any ground. The drawing is a layer of the network:
a batch holds only the numbers of the glyphs. No animal, vehicle or landmark takes part: the glyphs are those that
make_figures.py draws, which refuses to start if one of data/pictograms is among them, so that their use as a test
stays honest.

    python scripts/pretrain_mobilenet.py [--font FILE] [--out FILE] [--steps NUMBER]

The random streams are seeded, yet sums on several cores come in any order: a second run gives other bytes and the
same worth. What the shipped weights are worth stands in the card beside them.
"""

import argparse
import hashlib
import logging
import math
import sys
import time
from pathlib import Path

import keras
import numpy as np
from keras import ops
from make_figures import Seen, glyphs
from make_pictograms import FONT, WrongFont

log = logging.getLogger("pretrain_mobilenet")

WEIGHTS = Path(__file__).resolve().parents[1] / "src/trainyard/models/weights/mobilenet-v1-0.25-embedded.weights.h5"
SEED = 20240229
SIDE = 96  # pixels: the input that the weights are tuned to; other sizes load as well
WIDTH = 0.25  # MobileNet's alpha: 219 thousand weights

BATCH = 64  # drawings in a step
STEPS = 3500  # the learning rate falls to nothing over them, so they are the one budget to turn
PARTS = 10  # lines of log
LEARNING_RATE = 4e-3  # the peak, for AdamW
WARM_UP = 0.05  # part of the steps in which the learning rate rises
WEIGHT_DECAY = 0.02
SMOOTHING = 0.1  # of the labels: some glyphs are near twins

# How a glyph is drawn: anew at every step, or the weights would learn a thousand pictures by heart.
SIZE = (0.6, 1.05)  # longer side of the glyph, as a part of the picture's side
STRETCH = 1.15  # largest ratio by which one axis is longer than drawn
ANGLE = 15.0  # largest rotation to either side, in degrees
SHIFT = 0.08  # largest move out of the centre, as a part of the picture's side
SATURATION = (0.0, 1.5)  # factor on the colourfulness of the glyph
CONTRAST = (0.5, 1.2)  # factor on the glyph's grey levels around the middle
CELLS = 4  # corners on a side of the colour mesh that makes the ground
NOISE = 0.05  # largest standard deviation of the noise, where black to white is 1


def interpolation(cells: int, side: int) -> np.ndarray:
    """Return the matrix [side, cells] that stretches a line of colours to a line of pixels, linearly."""
    place = np.linspace(0, cells - 1, side)[:, None]
    return np.maximum(0, 1 - np.abs(place - np.arange(cells))).astype("float32")


class Draw(keras.layers.Layer):
    """Draws glyphs by number: int [batch] to float [batch, SIDE, SIDE, 3] between -1 and 1, anew at every call."""

    def __init__(self, glyphs: np.ndarray) -> None:
        super().__init__(trainable=False)
        self.glyphs = ops.convert_to_tensor(glyphs)
        self.stretch = ops.convert_to_tensor(interpolation(CELLS, SIDE))
        self.random = keras.random.SeedGenerator(SEED)

    def uniform(self, shape: tuple[int, ...], low: float, high: float) -> keras.KerasTensor:
        """Draw float32 numbers between low and high."""
        return keras.random.uniform(shape, low, high, seed=self.random)

    def place(self, pictures: keras.KerasTensor) -> keras.KerasTensor:
        """Mirror, turn, stretch, scale and move every picture; what comes in from outside is transparent."""
        angle = self.uniform((BATCH,), -1.0, 1.0) * math.radians(ANGLE)
        scale, ratio = self.uniform((BATCH,), *SIZE), self.uniform((BATCH,), -1.0, 1.0) * math.log(STRETCH) / 2
        mirror = ops.sign(self.uniform((BATCH,), -1.0, 1.0))
        wide, high = mirror / scale * ops.exp(ratio), ops.exp(-ratio) / scale
        centre = (SIDE - 1) / 2
        across, down = (self.uniform((BATCH,), 1 - SHIFT, 1 + SHIFT) * centre for _ in range(2))
        # rows of the matrix that leads from a pixel of the result to its place in the glyph
        a, b = wide * ops.cos(angle), -wide * ops.sin(angle)
        c, d = high * ops.sin(angle), high * ops.cos(angle)
        rows = [a, b, centre - a * across - b * down, c, d, centre - c * across - d * down]
        zero = ops.zeros((BATCH,))
        return ops.image.affine_transform(pictures, ops.stack([*rows, zero, zero], axis=1), fill_mode="constant")

    def recolour(self, colours: keras.KerasTensor) -> keras.KerasTensor:
        """Turn the hue by any angle around the grey axis, scale saturation and contrast; colours are 0 to 1."""
        turn = self.uniform((BATCH, 1, 1, 1), 0.0, 2 * math.pi)
        saturation = self.uniform((BATCH, 1, 1, 1), *SATURATION)
        grey = ops.mean(colours, axis=-1, keepdims=True)
        away = colours - grey
        side = (ops.roll(away, 1, axis=-1) - ops.roll(away, -1, axis=-1)) / math.sqrt(3)  # a quarter turn of it
        colours = grey + saturation * (ops.cos(turn) * away + ops.sin(turn) * side)
        middle = self.uniform((BATCH, 1, 1, 1), 0.35, 0.65)
        return middle + (colours - 0.5) * self.uniform((BATCH, 1, 1, 1), *CONTRAST)

    def ground(self) -> keras.KerasTensor:
        """Make backgrounds between one colour and a mesh of colours, more of them bright than dark."""
        plain = ops.sqrt(self.uniform((BATCH, 1, 1, 1), 0.0, 1.0)) + self.uniform((BATCH, 1, 1, 3), -0.2, 0.2)
        wild = self.uniform((BATCH, 1, 1, 1), 0.0, 0.3) * self.uniform((BATCH, CELLS, CELLS, 3), -1.0, 1.0)
        return ops.einsum("yi,bijc,xj->byxc", self.stretch, plain + wild, self.stretch)

    def call(self, numbers: keras.KerasTensor) -> keras.KerasTensor:
        """Draw one picture for each number."""
        pictures = ops.cast(ops.take(self.glyphs, numbers, axis=0), "float32") / 255.0
        # colours count as much as they cover, or the transparent pixels' black would seep in at the edges
        cover = pictures[..., 3:]
        placed = self.place(ops.concatenate([pictures[..., :3] * cover, cover], axis=-1))
        cover = placed[..., 3:]
        colours = self.recolour(placed[..., :3] / ops.maximum(cover, 1e-3))
        result = cover * colours + (1.0 - cover) * self.ground()
        result += keras.random.normal((BATCH, SIDE, SIDE, 1), seed=self.random) * self.uniform(
            (BATCH, 1, 1, 1), 0.0, NOISE
        )
        return ops.clip(result, 0.0, 1.0) * 2.0 - 1.0


def mobilenet() -> keras.Model:
    """Build the backbone untrained, exactly as whoever loads the weights builds it."""
    return keras.applications.MobileNet(weights=None, alpha=WIDTH, include_top=False, input_shape=(SIDE, SIDE, 3))


class Numbers(keras.utils.PyDataset):
    """Batches of random glyph numbers, which are their own labels."""

    def __init__(self, glyphs: int, steps: int, seed: int) -> None:
        super().__init__()
        self.glyphs, self.steps, self.seed = glyphs, steps, seed

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        numbers = np.random.default_rng([self.seed, step]).integers(0, self.glyphs, size=BATCH)
        return numbers.astype("int32"), np.eye(self.glyphs, dtype="float32")[numbers]


def train(glyphs: np.ndarray, steps: int) -> keras.Model:
    """Train a new backbone for so many steps and return it."""
    keras.utils.set_random_seed(SEED)
    backbone = mobilenet()
    numbers = keras.Input(batch_shape=(BATCH,), dtype="int32")
    features = keras.layers.GlobalAveragePooling2D()(backbone(Draw(glyphs)(numbers)))
    model = keras.Model(numbers, keras.layers.Dense(len(glyphs))(keras.layers.Dropout(0.1)(features)))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=SMOOTHING)
    rising = round(steps * WARM_UP)
    rate = keras.optimizers.schedules.CosineDecay(0.0, steps - rising, warmup_target=LEARNING_RATE, warmup_steps=rising)
    # not compiled by XLA, which makes convolutions on a CPU slower
    optimizer = keras.optimizers.AdamW(rate, weight_decay=WEIGHT_DECAY, clipnorm=1.0)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    log.info("%d glyphs, %d steps of %d drawings", len(glyphs), steps, BATCH)
    started = time.monotonic()
    for part in range(PARTS):
        results = model.fit(Numbers(len(glyphs), steps // PARTS, SEED + part), verbose=0).history
        done, minutes = 100 * (part + 1) // PARTS, (time.monotonic() - started) / 60
        log.info(
            "%3d %%, %4.1f min: loss %.3f, accuracy %.3f", done, minutes, results["loss"][0], results["accuracy"][0]
        )
    return backbone


def save(backbone: keras.Model, file: Path) -> None:
    """Write the weights as 16-bit floats, half the size; they load into an ordinary 32-bit model."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float16")
    half = mobilenet()
    keras.config.set_dtype_policy(policy)
    half.set_weights(backbone.get_weights())
    file.parent.mkdir(parents=True, exist_ok=True)
    half.save_weights(file)
    log.info("%s: %d bytes, SHA-256 %s", file, file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--font", type=Path, default=FONT, help=f"the emoji font (default: {FONT})")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help=f"the weights file (default: {WEIGHTS.name})")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of training (default: {STEPS})")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        learnt = np.stack([np.asarray(picture) for picture in glyphs(arguments.font, SIDE).values()])
        save(train(learnt, arguments.steps), arguments.out)
    except (WrongFont, Seen) as problem:
        sys.exit(str(problem))
