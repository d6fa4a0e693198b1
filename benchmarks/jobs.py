"""How long whole jobs take, beside what one writes by hand with Keras or PyTorch, and how much memory.

    python benchmarks/jobs.py                 all jobs; writes its part of benchmarks/RESULTS.md
    python benchmarks/jobs.py head tiny       some of them

Each training is a process of its own; ways take turns, and figures are medians.

- head: ten classes on a frozen MobileNetV2, 512 images of 96x96, 30 epochs; by hand the backbone is asked each epoch
- tiny: 569 rows, whole process, imports included; ours also checks, saves and logs to MLflow
- memory: an MLP on 25 and on 250 MB, the larger one from the disk and held in memory
- again: `dvc repro` where nothing has changed (after `make repro`)
- accuracy: the shipped MLP, CNN and RNN over five seeds, compilation included
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import results
import speed

ROOT = Path(__file__).parents[1]
EPOCHS = {"mlp": 10, "cnn": 10, "rnn": 20}
SCRIPT = """
import keras
import pandas

table = pandas.read_csv("data/tumours.csv")
y = (table.pop("diagnosis") == "malignant").to_numpy("float32")
x = table.to_numpy("float32")
train = slice(0, 341)
x = (x - x[train].mean(0)) / x[train].std(0)
layers = [keras.layers.Dense(64, "relu"), keras.layers.Dense(32, "relu"), keras.layers.Dense(1, "sigmoid")]
model = keras.Sequential(layers)
model.compile(keras.optimizers.Adam(0.002), "binary_crossentropy", metrics=["accuracy"])
model.fit(x[train], y[train], 32, 10, validation_data=(x[341:455], y[341:455]))
model.save("model.keras")
"""

# === Trainings, each in a process of its own; they print what they have to tell as JSON ===


def train_head(way: str) -> dict:
    """Seconds and validation loss of a head on a frozen backbone."""
    work = SimpleNamespace(**{**vars(speed.WORKLOADS["mobilenet"]), "name": "mobilenet", "count": 640})
    x, y = speed.data(work)
    training, validation = (x[:512], y[:512]), (x[512:], y[512:])
    began = time.perf_counter()
    if way == "torch":
        return {"loss": _torch_head(training, validation), "seconds": time.perf_counter() - began}
    from trainyard.quality.objectives import MULTICLASS
    from trainyard.training import finetune

    spec, core = speed.network(work)
    core.get_layer("trunk").trainable = False
    began = time.perf_counter()
    if way == "naive":
        core.compile("adam", MULTICLASS.loss)
        loss = core.fit(*training, 32, 30, validation_data=validation, verbose=0).history["val_loss"][-1]
    else:
        knobs = {"copies": 0, "epochs": 30, "best_epoch": False, "thaw": {"layers": 0}, "optimizer": {}}
        spec = type(spec).model_validate({**spec.model_dump(), **knobs})
        data = SimpleNamespace(objective=MULTICLASS, classes=[])
        loss = finetune.finetune(core, training, validation, spec, data, speed.SEED)["val_loss"].iloc[-1]
    return {"loss": float(loss), "seconds": time.perf_counter() - began}


def _torch_head(training: tuple, validation: tuple) -> float:
    import torch
    import twins

    model = twins.made("mobilenet", Path(os.environ["WEIGHTS"]))
    *trunk, head = model
    frozen = torch.nn.Sequential(*trunk).requires_grad_(False)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.001, eps=1e-7, fused=True)
    pairs = []
    for x, y in (training, validation):
        images = torch.tensor(2 * x - 1).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        pairs.append((images, torch.tensor(y)))
    (x, y), (held_x, held_y) = pairs
    for number in range(30):
        for chosen in torch.tensor(np.random.default_rng([speed.SEED, number]).permutation(len(x))).split(32):
            optimizer.zero_grad(set_to_none=True)
            twins.loss("mobilenet", head(frozen(x[chosen])), y[chosen]).backward()
            optimizer.step()
        with torch.no_grad():
            loss = twins.loss("mobilenet", head(frozen(held_x)), held_y)
    return float(loss)


def train_memory(megabytes: str, where: str, folder: str) -> dict:
    """Rows a second and the peak of memory in MiB of an MLP on 65 columns."""
    from trainyard import arrays
    from trainyard.params import MLP, Training
    from trainyard.quality.objectives import BINARY
    from trainyard.training import device, fit

    device.start(Training(), speed.SEED)
    import keras

    rows, path = int(megabytes) * 2**20 // 260, Path(folder) / "x.npy"
    if not path.exists() or len(arrays.Stored(path)) != rows:
        draws = np.random.default_rng(0)
        arrays.write(path, (draws.normal(size=(2**12, 65)).astype(np.float32) for _ in range(rows // 2**12)))
    x = arrays.Stored(path)
    if where == "memory":
        arrays.RESIDENT = 2**40
        x = np.load(path)
    y = (np.random.default_rng(1).random((len(x), 1)) > 0.5).astype(np.float32)
    keras.utils.set_random_seed(speed.SEED)
    inputs = hidden = keras.Input((65,))
    for units in (64, 32):
        hidden = keras.layers.Dense(units, "relu")(hidden)
    core = keras.Model(inputs, keras.layers.Dense(1, "sigmoid")(hidden))
    times = []
    spec = MLP(family="mlp", dataset="d", epochs=4, best_epoch=False)
    data = SimpleNamespace(objective=BINARY, classes=[])
    told = lambda *_: times.append(time.perf_counter())  # noqa: E731
    peaks = [0.0]
    threading.Thread(target=watch_memory, args=(peaks,), daemon=True).start()
    fit.fit(core, (x, y), (np.array(x[:256]), y[:256]), spec, data, speed.SEED, told)
    return {"rows": len(x) / float(np.median(np.diff(times))), "peak": peaks[0]}


def watch_memory(peaks: list[float]) -> None:
    """Keep the most MiB that this process has had of its own: pages of files are the system's to take back."""
    while True:
        rolled = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
        peaks[0] = max(peaks[0], int(rolled.partition("Anonymous:")[2].split()[0]) / 2**10)
        time.sleep(0.05)


def train_accuracy(name: str, way: str) -> dict:
    """Seconds and the main metric of the test split, seed by seed; the prepared data lies below the working folder."""
    import keras

    from trainyard import kinds, models, params
    from trainyard.models import saved
    from trainyard.training import device, features, fit

    shipped = params.load()
    spec = shipped.model(name).model_copy(update={"epochs": EPOCHS[name], "early_stopping": None})
    data = kinds.open_prepared(spec.dataset, shipped.dataset(spec.dataset))
    found = {"seconds": [], "metric": []}
    for seed in range(1, 6):
        if way == "ours":
            device.start(shipped.training, seed)
        keras.utils.set_random_seed(seed)
        began = time.perf_counter()
        if way == "ours":
            model, _ = fit.train(spec, data, seed)
        else:
            preprocessing = kinds.of(data.spec).preprocessing(data.spec, data.facts, data.train)
            core = models.build(spec, features.seen(preprocessing), data.objective, data.units)
            with features.pairs(data, preprocessing) as pairs:
                (x, y), validation = ((np.array(x[:]), y) for x, y in pairs)
            core.compile(fit.keras_optimizer(spec.optimizer), data.objective.loss)
            best = keras.callbacks.EarlyStopping("val_loss", patience=spec.epochs, restore_best_weights=True)
            core.fit(x, y, spec.batch_size, spec.epochs, validation_data=validation, callbacks=[best], verbose=0)
            model = preprocessing.join(core)
        found["seconds"].append(time.perf_counter() - began)
        answer = saved.predict(model, data.test.raw)
        found["metric"].append(data.objective.metrics[data.objective.main](data.test.target, answer))
    return {**found, "name": data.objective.main}


# === Jobs: the rows of the table ===


def asked(job: str, *arguments: str, cwd: Path | None = None, **environment: str) -> dict:
    """What a training in a new process tells."""
    done = subprocess.run(  # noqa: S603  # this file
        [sys.executable, __file__, "--train", job, *arguments],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"error: {job} {' '.join(arguments)}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def ratio(one: list[float], other: list[float]) -> str:
    """How many times as long the first takes."""
    found = np.array(one) / np.array(other)
    return f"{np.median(found):.2f} [{found.min():.2f}, {found.max():.2f}]"


def head(folder: Path) -> list[str]:
    """Three rounds."""
    work = speed.WORKLOADS["mobilenet"]
    work.name = "mobilenet"
    np.savez(folder / "head.npz", *speed.network(work)[1].get_weights())
    ways = ("naive", "torch", "ours")
    found = {way: [asked("head", way, WEIGHTS=str(folder / "head.npz")) for _ in range(3)] for way in ways}
    seconds = {way: [told["seconds"] for told in rounds] for way, rounds in found.items()}
    losses = ", ".join(f"{way} {rounds[0]['loss']:.3f}" for way, rounds in found.items())
    told = f"Keras' fit {ratio(seconds['naive'], seconds['ours'])}, goal 20; PyTorch "
    told += f"{ratio(seconds['torch'], seconds['ours'])}, goal 10; validation loss {losses}"
    return [f"| MobileNetV2 96x96, frozen, 30 epochs | {np.median(seconds['ours']):.1f} s | {told} |"]


def tiny(folder: Path) -> list[str]:
    """Five rounds of whole processes."""
    commands = {
        "script": [sys.executable, "-c", SCRIPT],
        "ours": ["trainyard", "train", "mlp"],
        "imports": [sys.executable, "-c", "import keras, pandas"],
    }
    found = {way: [] for way in commands}
    for _ in range(5):
        for way, command in commands.items():
            began = time.perf_counter()
            subprocess.run(command, cwd=folder, capture_output=True, check=True)  # noqa: S603  # those above
            found[way].append(time.perf_counter() - began)
    told = f"a script of Keras {ratio(found['script'], found['ours'])}, goal 1; importing Keras and pandas alone "
    told += f"{np.median(found['imports']) / np.median(found['ours']):.0%} of it"
    return [f"| MLP on 569 rows, `trainyard train mlp` | {np.median(found['ours']):.1f} s | {told} |"]


def memory(folder: Path) -> list[str]:
    """Three rounds of each."""
    ways = (("25", "disk"), ("250", "disk"), ("250", "memory"))
    rounds = [[asked("memory", *way, str(folder)) for way in ways] for _ in range(3)]
    small, large, held = zip(*rounds, strict=True)
    more = np.median([one["peak"] for one in large]) - np.median([one["peak"] for one in small])
    kept = ratio([one["rows"] for one in large], [one["rows"] for one in held])
    told = f"{more:+.0f} MiB of memory at ten times the set, goal +32; {kept} of the speed in memory, goal 0.9"
    return [f"| MLP on 250 MB from the disk | {np.median([one['rows'] for one in large]):,.0f} rows/s | {told} |"]


def again(_: Path) -> list[str]:
    """Once, in the project itself."""
    if subprocess.run(["dvc", "status", "--quiet"], cwd=ROOT, check=False).returncode:  # noqa: S607
        sys.exit("error: `dvc repro` has something to do here: run `make repro` first")
    began = time.perf_counter()
    subprocess.run(["dvc", "repro", "--quiet"], cwd=ROOT, capture_output=True, check=True)  # noqa: S607
    return [f"| `dvc repro`, nothing changed | {time.perf_counter() - began:.1f} s | |"]


def accuracy(folder: Path) -> list[str]:
    """Five seeds in a process."""
    rows = []
    for name, epochs in EPOCHS.items():
        naive, ours = (asked("accuracy", name, way, cwd=folder) for way in ("naive", "ours"))
        worth = [f"{np.mean(way['metric']):.4f} ± {np.std(way['metric'], ddof=1):.4f}" for way in (ours, naive)]
        told = (
            f"Keras' fit {ratio(naive['seconds'], ours['seconds'])}; test {naive['name']} {worth[0]}, there {worth[1]}"
        )
        rows.append(f"| `{name}`, {epochs} epochs, five seeds | {np.median(ours['seconds']):.1f} s | {told} |")
    return rows


JOBS = {"head": head, "tiny": tiny, "memory": memory, "again": again, "accuracy": accuracy}
TABLE = """Ratios say how many times as long the other way takes, median [least, greatest].

| job | Trainyard | beside |
|---|---|---|
"""


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", help=f"of {', '.join(JOBS)}; all by default")
    parser.add_argument("--train", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        job, *arguments = options.train
        print(json.dumps(globals()[f"train_{job}"](*arguments)))
        return
    if unknown := set(options.jobs) - JOBS.keys():
        parser.error(f"no job `{unknown.pop()}` (jobs: {', '.join(JOBS)})")
    rows = []
    with TemporaryDirectory() as folder:
        here = Path(folder)
        shutil.copy(ROOT / "params.yaml", here)
        (here / "data").symlink_to(ROOT / "data")
        for dataset in ("tumours", "digits", "climate"):
            for verb in ("validate", "prepare"):
                subprocess.run(["trainyard", verb, dataset], cwd=here, capture_output=True, check=True)  # noqa: S603, S607
        for name in options.jobs or JOBS:
            rows += JOBS[name](here)
            print("\n".join(rows), flush=True)
    if not options.jobs:
        results.write("Whole jobs", TABLE + "\n".join(rows))


if __name__ == "__main__":
    main()
