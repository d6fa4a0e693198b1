"""How fast the steps are, beside plain Keras, PyTorch and JAX: same network, data, batch, order and steps, in one run.

    python benchmarks/speed.py                     all workloads; writes its part of benchmarks/RESULTS.md
    python benchmarks/speed.py mlp lstm --rounds 7

Each way of training is a process of its own (`--worker`). All of them live side by side and work one at a time, in
turn; every other round turns the order round. The first epoch, which compiles, is told apart. A figure is the median
over the rounds of the ratio to plain Keras in the same round. All start from the same weights and see the same batches:
where the losses of the first epoch differ, nothing is written.

- naive: `compile; fit(numpy)` of Keras on TensorFlow, as its guides have it
- ours: `trainyard.training.fit`
- torch: an eager loop of PyTorch with its fused optimizer, the better of one and of two threads
- jax: the same as naive on JAX, with 32 steps an execution
- bfloat16: ours with `precision: bfloat16`
- bound: dense alone, one compiled loop of JAX over the epoch
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import results

Epoch = Callable[[int], tuple[float, float]]
"""Trains the epoch of that number; gives its mean loss and the seconds it took."""

SEED, BATCH = 1, 32
MATRIX = np.ones((1024, 1024), np.float32)
QUIET = 1.25
"""How much longer than at best a product of matrices may take before and after a slice that counts."""
WAYS = ("naive", "ours", "torch", "torch1", "jax", "bfloat16")

WORKLOADS = {
    "mlp": SimpleNamespace(
        told="MLP 30-64-32-1, 200,000 rows",
        shape=(30,),
        count=200_000,
        block={"family": "mlp", "layers": [64, 32]},
        objective="binary",
        ways=(*WAYS, "bound"),
        products=30 * 64 + 64 * 32 + 32,
        goals=(50, 8, 0.9),
    ),
    "cnn": SimpleNamespace(
        told="CNN 28x28, filters 32 and 64, dense 64",
        shape=(28, 28, 1),
        count=8192,
        block={"family": "cnn", "filters": [32, 64], "dense": [64], "dropout": 0.0},
        objective="multiclass",
        ways=WAYS,
        products=28**2 * 9 * 32 + 14**2 * 9 * 32 * 64 + 64 * 64 + 64 * 10,
        goals=(2.5, 1.5, None),
    ),
    "lstm": SimpleNamespace(
        told="LSTM 64, window 96x10",
        shape=(96, 10),
        count=8192,
        block={"family": "rnn", "cell": "lstm", "units": [64]},
        objective="forecast",
        ways=WAYS,
        products=96 * (10 + 64) * 4 * 64 + 64,
        goals=(3.5, 1.1, None),
    ),
    "ctc": SimpleNamespace(
        told="2 x GRU 96 + CTC, 160x48, 20 letters",
        shape=(160, 48),
        count=512,
        block={"family": "rnn", "cell": "gru", "units": [96, 96]},
        objective="transcription",
        ways=WAYS,
        products=160 * ((48 + 96) * 3 * 96 + (96 + 96) * 3 * 96 + 96 * 29),
        goals=(5, 1.2, None),
    ),
    "mobilenet": SimpleNamespace(
        told="MobileNetV2 96x96, all of it thawed but batch normalisation",
        shape=(96, 96, 3),
        count=256,
        block={
            "family": "mobilenet",
            "backbone": {"version": "v2", "weights": "none"},
            "dropout": 0.0,
            "optimizer": {"learning_rate": 1e-5},
        },
        objective="multiclass",
        ways=("naive", "ours", "torch", "torch1", "bfloat16"),
        products=56_000_000,  # Keras' own count at 224x224 scaled by the area
        goals=(1.6, 1.1, None),
    ),
}
"""`products`: multiplications of an example on its way forward. `goals`: against Keras' fit, PyTorch, the loop."""


def data(work: SimpleNamespace) -> tuple[np.ndarray, np.ndarray]:
    """Random features and targets that depend on them."""
    rng, count = np.random.default_rng(0), work.count
    x = rng.normal(size=(count, *work.shape)).astype(np.float32)
    signal = x.reshape(count, -1)[:, :10].sum(axis=1)
    if work.objective == "binary":
        return x, (signal > 0).astype(np.float32)[:, None]
    if work.objective == "forecast":
        return x, signal[:, None].astype(np.float32)
    if work.objective == "transcription":
        return x, rng.integers(1, 29, (count, 20)).astype(np.int32)
    return x, np.eye(10, dtype=np.float32)[np.digitize(signal, np.linspace(-4, 4, 9))]


def order(work: SimpleNamespace, number: int) -> np.ndarray:
    """The examples in the order in which our fit learns them in the epoch of that number."""
    from trainyard.training.batches import Batches

    lengths = np.full(work.count, work.shape[0]) if work.objective == "transcription" else None
    return np.concatenate(Batches(work.count, BATCH, SEED, lengths).of(number))


# === Ways of training ===


def network(work: SimpleNamespace) -> tuple:
    """The block of params, and the network that Trainyard builds of it, with the same weights each time."""
    import keras

    from trainyard import models, params
    from trainyard.models import Features
    from trainyard.quality.objectives import OBJECTIVES

    keras.utils.set_random_seed(SEED)
    blocks = {"mlp": params.MLP, "cnn": params.CNN, "rnn": params.RNN, "mobilenet": params.MobileNet}
    spec = blocks[work.block["family"]](dataset="d", **work.block)
    units = {"multiclass": 10, "transcription": 29}.get(work.objective, 1)
    core = models.build(spec, Features(work.shape), OBJECTIVES[work.objective], units)
    if work.block["family"] == "mobilenet":
        trunk = core.get_layer("trunk")
        trunk.trainable = True
        if "WEIGHTS" not in os.environ:
            normalise(trunk.get_layer("backbone"), data(work)[0][:64])
        models.mobilenet.thaw(core, params.Thaw(layers="all"))
    if "WEIGHTS" in os.environ:  # each backend draws others
        core.set_weights([*np.load(os.environ["WEIGHTS"]).values()])
    return spec, core


def normalise(backbone: object, images: np.ndarray) -> None:
    """Give batch normalisation the statistics of images, without which nothing comes through random weights."""
    import keras

    found = [layer for layer in backbone.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in found:
        layer.trainable, layer.momentum = True, 0.0
    backbone(images, training=True)
    for layer in found:
        layer.trainable, layer.momentum = False, 0.999


def naive(work: SimpleNamespace, steps_per_execution: int = 1) -> Epoch:
    """Plain `fit` on arrays that lie in the epoch's order."""
    from trainyard.quality.objectives import OBJECTIVES
    from trainyard.training.fit import keras_optimizer

    spec, core = network(work)
    core.compile(
        keras_optimizer(spec.optimizer), OBJECTIVES[work.objective].loss, steps_per_execution=steps_per_execution
    )
    x, y = data(work)

    def epoch(number: int) -> tuple[float, float]:
        chosen = order(work, number)
        ordered = x[chosen], y[chosen]
        began = time.perf_counter()
        told = core.fit(*ordered, batch_size=BATCH, shuffle=False, verbose=0)
        return told.history["loss"][0], time.perf_counter() - began

    return epoch


def jax(work: SimpleNamespace) -> Epoch:
    """As naive, on JAX, with many steps an execution, which is what Keras offers there."""
    return naive(work, steps_per_execution=32)


def ours(work: SimpleNamespace, bits: str = "float32") -> Epoch:
    """The epochs of one `fit`, which waits after each until it is asked for the next."""
    from queue import Queue
    from threading import Thread

    from trainyard.params import Training
    from trainyard.quality.objectives import OBJECTIVES
    from trainyard.training import device, fit, precision

    shipped = Training(precision=bits)  # determinism is strict
    if os.environ.get("KERAS_BACKEND") != "jax":
        device.start(shipped, SEED)
    spec, core = network(work)
    spec = spec.model_copy(update={"epochs": 10_000, "best_epoch": False})
    x, y = data(work)
    part = SimpleNamespace(rows=SimpleNamespace(index=range(len(x))))
    prepared = SimpleNamespace(
        objective=OBJECTIVES[work.objective], classes=[], spec=SimpleNamespace(path=""), train=part, validation=part
    )
    asked, answers, began = Queue(), Queue(), []

    def on_epoch(_: int, row: dict) -> None:
        answers.put((row["loss"], time.perf_counter() - began[-1]))
        asked.get()
        began.append(time.perf_counter())

    def train() -> None:
        began.append(time.perf_counter())
        precision.of(shipped, fit.fit)(core, (x, y), (x[:1], y[:1]), spec, prepared, SEED, on_epoch)

    def epoch(number: int) -> tuple[float, float]:
        if number:
            asked.put(None)
        else:
            Thread(target=train, daemon=True).start()
        return answers.get()

    return epoch


def bfloat16(work: SimpleNamespace) -> Epoch:
    """As ours, with products of half the bits."""
    return ours(work, "bfloat16")


def torch(work: SimpleNamespace, threads: int = 2) -> Epoch:
    """An eager loop with the fused optimizer; images lie with their channels last."""
    import torch
    import twins

    torch.set_num_threads(threads)
    model = twins.made(work.name, Path(os.environ["WEIGHTS"]))
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=work.rate, eps=1e-7, fused=True)
    x, y = (torch.tensor(array) for array in data(work))
    if len(work.shape) == 3:
        x = x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    if work.name == "mobilenet":
        x = 2 * x - 1

    def epoch(number: int) -> tuple[float, float]:
        batches = torch.tensor(order(work, number)).split(BATCH)
        total, began = 0.0, time.perf_counter()
        for chosen in batches:
            optimizer.zero_grad(set_to_none=True)
            loss = twins.loss(work.name, model(x[chosen]), y[chosen])
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(chosen)
        return float(total) / len(x), time.perf_counter() - began

    return epoch


def torch1(work: SimpleNamespace) -> Epoch:
    """As torch, on one thread, which small networks may be faster on."""
    return torch(work, threads=1)


def bound(work: SimpleNamespace) -> Epoch:
    """Dense layers and Adam written out, one `lax.scan` over the batches of an epoch: what a compiler can do."""
    import jax
    from jax import numpy as jnp

    weights = [jnp.asarray(weight) for weight in np.load(os.environ["WEIGHTS"]).values()]
    zeros = [jnp.zeros_like(weight) for weight in weights]
    x, y = (jnp.asarray(array) for array in data(work))

    def loss_of(weights: list, x: jax.Array, y: jax.Array) -> jax.Array:
        for layer in range(0, len(weights) - 2, 2):
            x = jax.nn.relu(x @ weights[layer] + weights[layer + 1])
        logits = x @ weights[-2] + weights[-1]
        return jnp.mean(jnp.maximum(logits, 0) - logits * y + jnp.log1p(jnp.exp(-jnp.abs(logits))))

    @jax.jit
    def whole(state: tuple, batches: jax.Array, x: jax.Array, y: jax.Array) -> tuple:
        def step(state: tuple, chosen: jax.Array) -> tuple:
            weights, mean, variance, count = state
            loss, gradients = jax.value_and_grad(loss_of)(weights, x[chosen], y[chosen])
            count += 1
            rate = 0.001 * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
            mean = [m + (g - m) * 0.1 for m, g in zip(mean, gradients, strict=True)]
            variance = [v + (g * g - v) * 0.001 for v, g in zip(variance, gradients, strict=True)]
            weights = [w - rate * m / (jnp.sqrt(v) + 1e-7) for w, m, v in zip(weights, mean, variance, strict=True)]
            return (weights, mean, variance, count), loss

        return jax.lax.scan(step, state, batches)

    now = [(weights, zeros, zeros, jnp.float32(0))]

    def epoch(number: int) -> tuple[float, float]:
        batches = order(work, number).reshape(-1, BATCH)
        began = time.perf_counter()
        now[0], losses = whole(now[0], jnp.asarray(batches), x, y)
        return float(losses.mean()), time.perf_counter() - began

    return epoch


# === Side by side ===


def work_for_ever(name: str, way: str, ways: dict[str, Callable[[SimpleNamespace], Epoch]]) -> None:
    """Train an epoch for each line of standard input, which says its number."""
    epoch = ways[way](WORKLOADS[name])
    for line in sys.stdin:
        loss, seconds = epoch(int(line))
        print(json.dumps([loss, seconds]), flush=True)


class Worker:
    """A process that trains an epoch when it is asked to."""

    def __init__(self, name: str, way: str, weights: Path, script: str, more: dict[str, str]) -> None:
        """Start `script`; `weights` are those that the network begins with, `more` is added to the environment."""
        environment = {**os.environ, "WEIGHTS": str(weights), "TF_CPP_MIN_LOG_LEVEL": "3", **more}
        self.process = subprocess.Popen(  # noqa: S603  # this file, or its neighbour
            [sys.executable, script, "--worker", name, way],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.name, self.epochs = f"{way} of {name}", 0

    def epoch(self) -> tuple[float, float, float]:
        """Loss and seconds of the next epoch, and what a product of matrices took at most before and after it."""
        before = probe()
        print(self.epochs, file=self.process.stdin, flush=True)
        told = self.process.stdout.readline()
        if not told:
            sys.exit(f"error: {self.name} died (run `{' '.join(self.process.args)}` and type 0)")
        self.epochs += 1
        return (*json.loads(told), max(before, probe()))


def probe() -> float:
    """Seconds of a product of matrices on all cores: more where they are at work elsewhere, or lent to others."""
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        MATRIX @ MATRIX
        taken.append(time.perf_counter() - began)
    return min(taken)


def measure(name: str, rounds: int, folder: Path) -> tuple[dict, dict, dict, str]:
    """Seconds of the first epoch, of the others, the loss of the first, of each way; and how many rounds were quiet.

    Of the rounds those count in which nothing disturbed any way, if there are three of them.
    """
    weights = folder / f"{name}.npz"
    np.savez(weights, *network(WORKLOADS[name])[1].get_weights())
    jax = {"KERAS_BACKEND": "jax"}
    workers = {way: Worker(name, way, weights, __file__, jax if way == "jax" else {}) for way in WORKLOADS[name].ways}
    first = {way: worker.epoch() for way, worker in workers.items()}
    found = {way: [] for way in workers}
    for turn in range(rounds):
        for way in list(workers)[:: 1 if turn % 2 else -1]:
            found[way].append(workers[way].epoch())
    for worker in workers.values():
        worker.process.kill()
    losses = {way: loss for way, (loss, *_) in first.items()}
    for way, loss in losses.items():
        if abs(loss - losses["naive"]) > (0.05 if way == "bfloat16" else 0.01) * losses["naive"]:
            sys.exit(f"error: {name}: the first loss of {way} is {loss}, of naive {losses['naive']}: not the same work")
    probes = np.array([[taken for *_, taken in told] for told in found.values()])
    quiet = (probes < QUIET * probes.min()).all(axis=0)
    counts = quiet if quiet.sum() >= 3 else np.ones(rounds, bool)
    seconds = {way: np.array([taken for _, taken, _ in told])[counts] for way, told in found.items()}
    slower = max(("torch", "torch1"), key=lambda way: np.median(seconds[way]))
    seconds["torch"] = seconds.pop("torch1") if slower == "torch" else seconds["torch"]
    seconds.pop("torch1", None)
    return {way: taken for way, (_, taken, _) in first.items()}, seconds, losses, f"{quiet.sum()} of {rounds}"


def peak() -> float:
    """Multiplications a second of a large product of float32 matrices, the best of many."""
    import tensorflow as tf

    one, best = tf.random.normal((2048, 2048)), np.inf
    for _ in range(20):
        began = time.perf_counter()
        tf.matmul(one, one).numpy()
        best = min(best, time.perf_counter() - began)
    return 2048**3 / best


def row(name: str, first: dict, seconds: dict, quiet: str, most: float) -> str:
    """A line of the table."""
    work, us = WORKLOADS[name], seconds["ours"]

    def against(way: str, goal: float | None = None) -> str:
        if way not in seconds:
            return "-"
        ratio = seconds[way] / us
        told = f"{np.median(ratio):.2f} [{ratio.min():.2f}, {ratio.max():.2f}]"
        return f"{told}, goal {goal:g}" if goal else told

    naive, torch, loop = work.goals
    cells = [
        work.told,
        f"{work.count / np.median(us):,.0f}",
        against("naive", naive),
        against("torch", torch),
        against("jax"),
        against("bfloat16"),
        against("bound", loop),
        # a way back takes two products for each of the way forward
        f"{3 * work.products * work.count / np.median(us) / most:.0%}",
        f"{first['ours']:.1f}",
        quiet,
    ]
    return f"| {' | '.join(cells)} |"


HEAD = """A ratio says how many times as fast as the way at the head of its column Trainyard's fit is: median [least,
greatest] over {rounds} rounds of one run, with the same network, data, batch of 32, order and steps. `bfloat16` is
Trainyard's own with `precision: bfloat16`; `loop` is a compiled loop of JAX over the same steps, what a compiler can do
at best; `peak` is the training's share of what large products of matrices reach; `quiet` are the rounds that nothing
disturbed, which alone count if they are three or more.

| work | examples/s | Keras `fit` | PyTorch eager | Keras on JAX | bfloat16 | loop | peak | first epoch, s | quiet |
|---|---|---|---|---|---|---|---|---|---|
"""


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", help=f"of {', '.join(WORKLOADS)}; all by default")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    for name, work in WORKLOADS.items():
        work.name, work.rate = name, work.block.get("optimizer", {}).get("learning_rate", 0.001)
    if asked.worker:
        work_for_ever(*asked.worker, globals())
        return
    if unknown := set(asked.workloads) - WORKLOADS.keys():
        parser.error(f"no workload `{unknown.pop()}` (workloads: {', '.join(WORKLOADS)})")
    rows, most = [], peak()
    probe()
    print(f"peak: {2 * most / 1e9:.0f} GFLOP/s")
    with TemporaryDirectory() as folder:
        for name in asked.workloads or WORKLOADS:
            first, seconds, losses, quiet = measure(name, asked.rounds, Path(folder))
            rows.append(row(name, first, seconds, quiet, most))
            print(rows[-1])
            for way, taken in seconds.items():
                print(f"    {way}: {np.median(taken):.3f} s an epoch, first {first[way]:.1f}, loss {losses[way]:.5f}")
    if not asked.workloads:
        results.write("Steps", HEAD.format(rounds=asked.rounds) + "\n".join(rows))


if __name__ == "__main__":
    main()
