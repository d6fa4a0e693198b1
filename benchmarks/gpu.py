"""How fast the steps are on a GPU, by way of JAX: the networks, data, batches and orders of `speed.py`.

    python benchmarks/gpu.py     needs JAX that has a GPU; TensorFlow is not asked, and need not be installed

- ours: `trainyard.training.fit`, in float32 and with `precision: bfloat16`
- step: a plain compiled step of the same network in float32, `jax.jit` of gradient and optimizer, its data on the GPU
- cpu: ours on the CPU of the same machine, for the losses alone

They work in turn, as in `speed.py`. Losses of the first epoch that differ end it: float32 by 1 %, bfloat16 by 5 %.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

# a worker's own process is told another platform; each takes the GPU's memory as it needs it
os.environ |= {"KERAS_BACKEND": "jax", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}

import numpy as np
import results
import speed

HEAD = """Made by `python benchmarks/gpu.py` on {device}, with batches of 32. `plain` is Trainyard's fit by JAX, with
`determinism: strict`, against a plain compiled step of the same network in float32: median [least, greatest];
`bfloat16` is `precision: bfloat16` against float32; the losses are those of the first epoch, from the same weights in
the same order.

| work | steps/s | plain | bfloat16 | loss: GPU, bfloat16, CPU | first epoch, s |
|---|---|---|---|---|---|
"""
EXACT = {"XLA_FLAGS": "--xla_gpu_deterministic_ops=true"}
"""What `determinism: strict`, which ships, asks of the GPU."""


def step(work: speed.SimpleNamespace) -> speed.Epoch:
    """A loop over one jitted step, Keras' network and optimizer as pure functions."""
    import jax
    from jax import numpy as jnp

    from trainyard.models import ctc
    from trainyard.quality.objectives import OBJECTIVES
    from trainyard.training.fit import keras_optimizer

    spec, core = speed.network(work)
    named = OBJECTIVES[work.objective].loss
    core.compile(keras_optimizer(spec.optimizer), ctc.loss if work.objective == "transcription" else named)
    core.optimizer.build(core.trainable_variables)
    x, y = (jnp.asarray(array) for array in speed.data(work))

    def loss_of(learnt: list, fixed: list, x: jax.Array, y: jax.Array) -> tuple:
        answer, fixed = core.stateless_call(learnt, fixed, x, training=True)
        return core.compute_loss(x=x, y=y, y_pred=answer), fixed

    @jax.jit
    def once(state: tuple, chosen: jax.Array) -> tuple:
        learnt, fixed, moments = state
        (loss, fixed), gradients = jax.value_and_grad(loss_of, has_aux=True)(learnt, fixed, x[chosen], y[chosen])
        learnt, moments = core.optimizer.stateless_apply(moments, gradients, learnt)
        return (learnt, fixed, moments), loss

    now = [
        tuple(
            [variable.value for variable in part]
            for part in (core.trainable_variables, core.non_trainable_variables, core.optimizer.variables)
        )
    ]

    def epoch(number: int) -> tuple[float, float]:
        batches = jnp.asarray(speed.order(work, number).reshape(-1, speed.BATCH))
        began, total = time.perf_counter(), jnp.float32(0)
        for chosen in batches:
            now[0], loss = once(now[0], chosen)
            total += loss
        return float(total) / len(batches), time.perf_counter() - began

    return epoch


def main() -> None:
    """Measure, and print a row of the table for each workload."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", default=[*speed.WORKLOADS])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--platform", default="cuda", help="JAX's name of what trains")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    for name, work in speed.WORKLOADS.items():
        work.name, work.rate = name, work.block.get("optimizer", {}).get("learning_rate", 0.001)
    if asked.worker:
        ways = {"ours": speed.ours, "cpu": speed.ours, "bfloat16": speed.bfloat16, "step": step}
        speed.work_for_ever(*asked.worker, ways)
        return
    os.environ["JAX_PLATFORMS"] = "cpu"
    rows = []
    with TemporaryDirectory() as folder:
        for name in asked.workloads:
            rows.append(row(name, asked.rounds, asked.platform, Path(folder)))
            print(rows[-1], flush=True)
    if asked.platform == "cuda":
        results.write("Steps on a GPU", HEAD.format(device=device()) + "\n".join(rows))


def device() -> str:
    """The GPU's name."""
    asks = [sys.executable, "-c", "import jax; print(jax.devices()[0].device_kind)"]
    told = subprocess.run(asks, env=os.environ | {"JAX_PLATFORMS": "cuda"}, check=True, capture_output=True, text=True)  # noqa: S603
    return told.stdout.strip()


def row(name: str, rounds: int, platform: str, folder: Path) -> str:
    """A line of the table."""
    weights, there = folder / f"{name}.npz", {"JAX_PLATFORMS": platform}
    np.savez(weights, *speed.network(speed.WORKLOADS[name])[1].get_weights())
    ways = {"ours": there | EXACT, "bfloat16": there | EXACT, "step": there, "cpu": {}}
    workers = {way: speed.Worker(name, way, weights, __file__, more) for way, more in ways.items()}
    first = {way: worker.epoch() for way, worker in workers.items()}
    workers.pop("cpu").process.kill()
    found = {way: [] for way in workers}
    for turn in range(rounds):
        for way in list(workers)[:: 1 if turn % 2 else -1]:
            found[way].append(workers[way].epoch()[1])
    for worker in workers.values():
        worker.process.kill()
    losses = {way: loss for way, (loss, *_) in first.items()}
    for way, most in (("ours", 0.01), ("step", 0.01), ("bfloat16", 0.05)):
        if not abs(losses[way] - losses["cpu"]) <= most * losses["cpu"]:
            sys.exit(f"error: {name}: the first loss of {way} is {losses[way]}, on the CPU {losses['cpu']}")
    ours, bfloat16, plain = (np.array(found[way]) for way in ("ours", "bfloat16", "step"))
    work = speed.WORKLOADS[name]
    cells = [
        work.told,
        f"{work.count / speed.BATCH / np.median(ours):,.0f}",
        f"{np.median(plain / ours):.2f} [{(plain / ours).min():.2f}, {(plain / ours).max():.2f}]",
        f"{np.median(ours / bfloat16):.2f} [{(ours / bfloat16).min():.2f}, {(ours / bfloat16).max():.2f}]",
        ", ".join(f"{losses[way]:.5f}" for way in ("ours", "bfloat16", "cpu")),
        f"{first['ours'][1]:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
