"""How fast the fit is, beside plain Keras, PyTorch and JAX: same network, data, batch, order and steps, in one run.

    python benchmarks/speed.py                     all workloads; writes benchmarks/RESULTS.md
    python benchmarks/speed.py mlp lstm --rounds 7

Each way of training is a process of its own (`--worker`). All of them live side by side and work one at a time, in
turn; every other round turns the order round. The first epoch, which compiles, is told apart. A figure is the median
over the rounds of the ratio to plain Keras in the same round. All start from the same weights and see the same batches:
where the losses of the first epoch differ, nothing is written.

- naive: `compile; fit(numpy)` of Keras on TensorFlow, as its guides have it
- ours: `trainyard.training.fit`
- torch: an eager loop of PyTorch with its fused optimizer, the better of one and of two threads
- jax: the same as naive on JAX, with 32 steps an execution
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

from trainyard import files

Epoch = Callable[[int], tuple[float, float]]
"""Trains the epoch of that number; gives its mean loss and the seconds it took."""

RESULTS = Path(__file__).with_name("RESULTS.md")
SEED, BATCH = 1, 32
WAYS = ("naive", "ours", "torch", "torch1", "jax", "bound")
NAMES = {
    "naive": "Keras fit",
    "ours": "Trainyard",
    "torch": "PyTorch eager",
    "jax": "Keras on JAX",
    "bound": "JAX loop",
}

WORKLOADS = {
    "mlp": SimpleNamespace(
        told="MLP 30-64-32-1, 200,000 rows",
        shape=(30,),
        count=200_000,
        block={"family": "mlp", "layers": [64, 32]},
        objective="binary",
        ways=WAYS,
    ),
    "cnn": SimpleNamespace(
        told="CNN 28x28, filters 32 and 64, dense 64",
        shape=(28, 28, 1),
        count=8192,
        block={"family": "cnn", "filters": [32, 64], "dense": [64], "dropout": 0.0},
        objective="multiclass",
        ways=WAYS[:-1],
    ),
    "lstm": SimpleNamespace(
        told="LSTM 64, window 96x10",
        shape=(96, 10),
        count=8192,
        block={"family": "rnn", "cell": "lstm", "units": [64]},
        objective="forecast",
        ways=WAYS[:-1],
    ),
}


def data(work: SimpleNamespace) -> tuple[np.ndarray, np.ndarray]:
    """Random features and targets that depend on them."""
    rng, count = np.random.default_rng(0), work.count
    x = rng.normal(size=(count, *work.shape)).astype(np.float32)
    signal = x.reshape(count, -1)[:, :10].sum(axis=1)
    if work.objective == "binary":
        return x, (signal > 0).astype(np.float32)[:, None]
    if work.objective == "forecast":
        return x, signal[:, None].astype(np.float32)
    return x, np.eye(10, dtype=np.float32)[np.digitize(signal, np.linspace(-4, 4, 9))]


# === Ways of training ===


def network(work: SimpleNamespace) -> tuple:
    """The block of params, and the network that Trainyard builds of it, with the same weights each time."""
    import keras

    from trainyard import models, params
    from trainyard.models import Features
    from trainyard.quality.objectives import OBJECTIVES

    keras.utils.set_random_seed(SEED)
    blocks = {"mlp": params.MLP, "cnn": params.CNN, "rnn": params.RNN}
    spec = blocks[work.block["family"]](dataset="d", **work.block)
    units = 10 if work.objective == "multiclass" else 1
    core = models.build(spec, Features(work.shape), OBJECTIVES[work.objective], units)
    if "WEIGHTS" in os.environ:  # each backend draws others
        core.set_weights([*np.load(os.environ["WEIGHTS"]).values()])
    return spec, core


def naive(work: SimpleNamespace, steps_per_execution: int = 1) -> Epoch:
    """Plain `fit` on arrays that lie in the epoch's order."""
    from trainyard.quality.objectives import OBJECTIVES

    _, core = network(work)
    core.compile("adam", OBJECTIVES[work.objective].loss, steps_per_execution=steps_per_execution)
    x, y = data(work)

    def epoch(number: int) -> tuple[float, float]:
        order = np.random.default_rng([SEED, number]).permutation(len(x))
        ordered = x[order], y[order]
        began = time.perf_counter()
        told = core.fit(*ordered, batch_size=BATCH, shuffle=False, verbose=0)
        return told.history["loss"][0], time.perf_counter() - began

    return epoch


def jax(work: SimpleNamespace) -> Epoch:
    """As naive, on JAX, with many steps an execution, which is what Keras offers there."""
    return naive(work, steps_per_execution=32)


def ours(work: SimpleNamespace) -> Epoch:
    """The epochs of one `fit`, which waits after each until it is asked for the next."""
    from queue import Queue
    from threading import Thread

    from trainyard.params import Training
    from trainyard.quality.objectives import OBJECTIVES
    from trainyard.training import device, fit

    device.start(Training(), SEED)  # as shipped: determinism is strict
    spec, core = network(work)
    spec = spec.model_copy(update={"epochs": 10_000, "best_epoch": False})
    x, y = data(work)
    prepared = SimpleNamespace(objective=OBJECTIVES[work.objective], classes=[])
    asked, answers, began = Queue(), Queue(), []

    def on_epoch(_: int, row: dict) -> None:
        answers.put((row["loss"], time.perf_counter() - began[-1]))
        asked.get()
        began.append(time.perf_counter())

    def train() -> None:
        began.append(time.perf_counter())
        fit.fit(core, (x, y), (x[:1], y[:1]), spec, prepared, SEED, on_epoch)

    def epoch(number: int) -> tuple[float, float]:
        if number:
            asked.put(None)
        else:
            Thread(target=train, daemon=True).start()
        return answers.get()

    return epoch


def torch(work: SimpleNamespace, threads: int = 2) -> Epoch:
    """An eager loop with the fused optimizer; images lie with their channels last."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    model = _torch_network(work)
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=0.001, eps=1e-7, fused=True)
    losses = {
        "binary": nn.functional.binary_cross_entropy_with_logits,
        "forecast": nn.functional.mse_loss,
        "multiclass": nn.functional.cross_entropy,
    }
    loss_of = losses[work.objective]
    x, y = (torch.tensor(array) for array in data(work))
    if len(work.shape) == 3:
        x = x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)

    def epoch(number: int) -> tuple[float, float]:
        order = torch.tensor(np.random.default_rng([SEED, number]).permutation(len(x)))
        total, began = 0.0, time.perf_counter()
        for chosen in order.split(BATCH):
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(model(x[chosen]), y[chosen])
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(chosen)
        return float(total) / len(x), time.perf_counter() - began

    return epoch


def torch1(work: SimpleNamespace) -> Epoch:
    """As torch, on one thread, which small networks may be faster on."""
    return torch(work, threads=1)


def _torch_network(work: SimpleNamespace) -> object:
    """The same network in PyTorch, with the weights that Keras begins with."""
    import torch
    from torch import nn

    class LastState(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(work.shape[-1], 64, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lstm(x)[0][:, -1]

    def convolution(before: int, after: int) -> list[nn.Module]:
        convolved = nn.Conv2d(before, after, 3, padding=1, bias=False)
        return [convolved, nn.BatchNorm2d(after, eps=1e-3), nn.ReLU(), nn.MaxPool2d(2)]

    if work.block["family"] == "mlp":
        layers = [nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1)]
    elif work.block["family"] == "cnn":
        pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        layers = [*convolution(1, 32), *convolution(32, 64), *pooled, nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)]
    else:
        layers = [LastState(), nn.Linear(64, 1)]
    weights = [torch.tensor(weight) for weight in np.load(os.environ["WEIGHTS"]).values()]
    with torch.no_grad():
        for layer in layers:
            if isinstance(layer, nn.Linear):
                layer.weight.copy_(weights.pop(0).T)
                layer.bias.copy_(weights.pop(0))
            elif isinstance(layer, nn.Conv2d):
                layer.weight.copy_(weights.pop(0).permute(3, 2, 0, 1))
            elif isinstance(layer, nn.BatchNorm2d):
                del weights[:4]  # ones and zeros in both
            elif isinstance(layer, LastState):
                layer.lstm.weight_ih_l0.copy_(weights.pop(0).T)
                layer.lstm.weight_hh_l0.copy_(weights.pop(0).T)
                layer.lstm.bias_ih_l0.copy_(weights.pop(0))
                layer.lstm.bias_hh_l0.zero_().requires_grad_(False)  # Keras has one bias
    return nn.Sequential(*layers).to(memory_format=torch.channels_last if len(work.shape) == 3 else None)


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
        order = np.random.default_rng([SEED, number]).permutation(len(x)).reshape(-1, BATCH)
        began = time.perf_counter()
        now[0], losses = whole(now[0], jnp.asarray(order), x, y)
        return float(losses.mean()), time.perf_counter() - began

    return epoch


# === Side by side ===


def work_for_ever(name: str, way: str) -> None:
    """Train an epoch for each line of standard input, which says its number."""
    epoch: Epoch = globals()[way](WORKLOADS[name])
    for line in sys.stdin:
        loss, seconds = epoch(int(line))
        print(json.dumps([loss, seconds]), flush=True)


class Worker:
    """A process that trains an epoch when it is asked to."""

    def __init__(self, name: str, way: str, weights: Path) -> None:
        """Start it; `weights` are those that the network begins with."""
        backend = {"KERAS_BACKEND": "jax"} if way == "jax" else {}
        environment = {**os.environ, "WEIGHTS": str(weights), "TF_CPP_MIN_LOG_LEVEL": "3", **backend}
        self.process = subprocess.Popen(  # noqa: S603  # this file
            [sys.executable, __file__, "--worker", name, way],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.name, self.epochs = f"{way} of {name}", 0

    def epoch(self) -> tuple[float, float]:
        """Loss and seconds of the next epoch."""
        print(self.epochs, file=self.process.stdin, flush=True)
        told = self.process.stdout.readline()
        if not told:
            sys.exit(f"error: {self.name} died (run `{' '.join(self.process.args)}` and type 0)")
        self.epochs += 1
        return tuple(json.loads(told))


def measure(name: str, rounds: int, folder: Path) -> tuple[dict, dict, dict]:
    """Seconds of the first epoch, of the others round by round, and the loss of the first, of each way."""
    weights = folder / f"{name}.npz"
    np.savez(weights, *network(WORKLOADS[name])[1].get_weights())
    workers = {way: Worker(name, way, weights) for way in WORKLOADS[name].ways}
    first = {way: worker.epoch() for way, worker in workers.items()}
    seconds = {way: [] for way in workers}
    for turn in range(rounds):
        for way in list(workers)[:: 1 if turn % 2 else -1]:
            seconds[way].append(workers[way].epoch()[1])
    for worker in workers.values():
        worker.process.kill()
    losses = {way: loss for way, (loss, _) in first.items()}
    for way, loss in losses.items():
        if abs(loss - losses["naive"]) > 0.01 * losses["naive"]:
            sys.exit(f"error: {name}: the first loss of {way} is {loss}, of naive {losses['naive']}: not the same work")
    slower = max(("torch", "torch1"), key=lambda way: np.median(seconds[way]))
    del seconds[slower]
    return {way: taken for way, (_, taken) in first.items()}, seconds, losses


def row(name: str, first: dict, seconds: dict) -> str:
    """A line of the table."""
    work = WORKLOADS[name]
    plain, us = np.array(seconds["naive"]), np.array(seconds["ours"])
    torch = np.array(seconds.get("torch", seconds.get("torch1")))
    ratios = {"naive": plain / us, "torch": torch / us, "jax": np.array(seconds["jax"]) / us}
    told = [f"{np.median(found):.2f} [{found.min():.2f}, {found.max():.2f}]" for found in ratios.values()]
    told.append(f"{np.median(np.array(seconds['bound']) / us):.2f}" if "bound" in seconds else "-")
    return f"| {work.told} | {work.count / np.median(us):,.0f} | {' | '.join(told)} | {first['ours']:.1f} |"


HEAD = """# How fast the fit is

Made by `make bench` on two cores. Each figure says how many times as fast as the way at the head of its column
Trainyard's fit is: median [least, greatest] over the rounds of one run, with the same network, data, batch of 32, order
and steps. `loop` is a compiled loop of JAX over the same steps, what a compiler can do at best.

| work | examples a second | Keras `fit` | PyTorch eager | Keras on JAX | loop | first epoch, s |
|---|---|---|---|---|---|---|
"""


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", help=f"of {', '.join(WORKLOADS)}; all by default")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        work_for_ever(*asked.worker)
        return
    if unknown := set(asked.workloads) - WORKLOADS.keys():
        parser.error(f"no workload `{unknown.pop()}` (workloads: {', '.join(WORKLOADS)})")
    rows = []
    with TemporaryDirectory() as folder:
        for name in asked.workloads or WORKLOADS:
            first, seconds, losses = measure(name, asked.rounds, Path(folder))
            rows.append(row(name, first, seconds))
            print(rows[-1])
            for way, taken in seconds.items():
                print(f"    {way}: {np.median(taken):.3f} s an epoch, first {first[way]:.1f}, loss {losses[way]:.5f}")
    if not asked.workloads:
        files.write_text(RESULTS, HEAD + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
