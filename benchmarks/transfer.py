"""What pretrained weights are worth: four tasks, each from scratch, on the embedded backbone and on ImageNet weights.

    trainyard fetch fashion_mnist
    KERAS_HOME=FOLDER python benchmarks/transfer.py --photos FOLDER      all of it, and docs/transfer.md
    python benchmarks/transfer.py --tasks digits --starts embedded       a part of it
    python benchmarks/transfer.py --engine jax --jobs 8                  by JAX, some trainings side by side

Each seed draws the labelled images, of which validation gets a fifth, and the initial weights; the test images are
asked once. The same MobileNet v1, width 0.25, from scratch is trained as a whole, batch normalisation too. Figures are
kept in transfer.csv as they come, and what is there is not measured again, unless its block or the weights that it
started from are others now. PHOTOS is the clothing dataset (CC0) with folders train, validation and test; without it
that task is left out. The quarter of the pictograms' glyphs of which routes.py may ask is in no test.
"""

import argparse
import logging
import math
import multiprocessing
import os
import sys
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from scipy import stats

from trainyard import files, kinds, params
from trainyard.params import CNN, Images, MobileNet, Split

HERE = Path(__file__).parent
FIGURES, PAGE, PLOT = HERE / "transfer.csv", HERE.parent / "docs" / "transfer.md", HERE.parent / "docs" / "transfer.png"
ROUTED = HERE / "routes.csv"
STARTS = ("scratch", "embedded", "imagenet")
POOL, TESTED = 300, 200
"""Of Fashion-MNIST: images of each class that labelled ones are drawn from, and that are asked in the end."""
CURVE = (5, 10, 30, 100)
"""Labelled images of each class of the digits."""
CURVE_SEEDS = 3
PLAIN = "as it is"

PHOTO = {"flip": "horizontal", "rotate": 0.03, "shift": 0.1, "zoom": 0.15, "contrast": 0.2, "brightness": 0.1}
TASKS: dict[str, dict] = {
    "pictograms": {
        "augment": {"flip": "horizontal", "rotate": 0.05, "shift": 0.1, "zoom": 0.1},
        "resolution": 128,
        "batch": 32,
        "seeds": 5,
        "thaw": {"epochs": 16, "rate_decay": 0.9},
    },
    "photos": {
        "augment": PHOTO,
        "resolution": 160,
        "batch": 30,
        "seeds": 3,
        "thaw": {"epochs": 64, "learning_rate": 0.001},
        "mix": {"kind": "mixup", "alpha": 0.2},
    },
    "fashion": {
        "augment": {"flip": "horizontal", "shift": 0.1, "zoom": 0.1},
        "resolution": 64,
        "batch": 40,
        "seeds": 5,
        "labelled": 20,
    },
    "digits": {
        "augment": {"rotate": 0.03, "shift": 0.1, "zoom": 0.1},
        "resolution": 64,
        "batch": 20,
        "seeds": 5,
        "labelled": 10,
    },
}
"""What differs between the tasks."""
SCRATCH, THAW = (40, 1000), (32, 480)
"""Epochs and steps, whichever is more: of the network from scratch, and of the second phase."""
TOLD = {"val_loss": "validation loss", "val_accuracy": "validation accuracy", "accuracy": "test accuracy"}
"""What a table of ingredients has; the first two are what one may choose by."""


def changes(epochs: int, rate: float) -> dict[str, dict]:
    """Changes of a block whose second phase has so many epochs at such a rate: one at a time, then some together."""
    shorter, lower = {"thaw.epochs": epochs // 2}, {"thaw.rate_decay": 0.9}
    return {
        "no augmented copies": {"copies": 0},
        "no augmentation": {"copies": 0, "augment": {}},
        "head alone": {"thaw": {"layers": 0}},
        "no head first": {"epochs": 1, "copies": 0},
        "top 12 layers": {"thaw.layers": 12},
        "batch normalisation trained": {"thaw.batch_normalization": "trained"},
        "lower layers slower": lower,
        "constant rate, no warm-up": {"thaw.warm_up": 0},
        "label smoothing 0.1": {"label_smoothing": 0.1},
        "mixup 0.2": {"mix": {"kind": "mixup", "alpha": 0.2}},
        "cutmix 1.0": {"mix": {"kind": "cutmix", "alpha": 1.0}},
        "half as long": shorter,
        "twice as long": {"thaw.epochs": 2 * epochs},
        "half the rate": {"thaw.learning_rate": rate / 2},
        "twice the rate": {"thaw.learning_rate": 2 * rate},
        "last epoch": {"best_epoch": False},
        "half as long, lower layers slower": shorter | lower,
        "no mixup": {"mix": None},
        "half as long, no mixup": shorter | {"mix": None},
    }


STUDIED = {
    "digits": [name for name in changes(1, 1) if "no mixup" not in name],
    "photos": ["no mixup", "half as long", "half as long, no mixup", "head alone"],
    "fashion": ["half as long, lower layers slower"],
    "pictograms": ["head alone"],
}
"""Of which tasks which changes are measured."""


@dataclass(frozen=True)
class Run:
    """One training."""

    task: str
    start: str
    """scratch, embedded, imagenet, or a file of weights; cnn: the shipped small network."""
    variant: str
    labelled: int
    """Images of each class; 0: all."""
    seed: int


def main() -> None:
    """Train what is not measured yet, then write the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=["tasks", "curve", "ingredients"])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--starts", nargs="+", default=[*STARTS, "cnn"])
    parser.add_argument("--seeds", type=int, help="how many, from 1 on (by default 5, of the photos 3)")
    parser.add_argument("--fashion", type=Path, default=Path("data/fetched/fashion_mnist"), help="%(default)s")
    parser.add_argument("--photos", type=Path, help="the clothing photos")
    parser.add_argument("--engine", choices=["tensorflow", "jax"], default="tensorflow")
    parser.add_argument("--jobs", type=int, default=1, help="trainings side by side")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="%(default)s")
    parser.add_argument("--page", action="store_true", help="only write docs/transfer.md from the figures")
    asked = parser.parse_args()
    failed = 0 if asked.page else measure(asked)
    if asked.figures == FIGURES:
        write_page(pd.read_csv(FIGURES))
    if failed:
        sys.exit(f"{failed} trainings failed")


def measure(asked: argparse.Namespace) -> int:
    """Train what is asked for, and keep each figure as it comes; gives how many failed."""
    folders = {"pictograms": Path("data/pictograms"), "digits": Path("data/digits")}
    folders |= {"fashion": asked.fashion} | ({"photos": asked.photos} if asked.photos else {})
    if left_out := [task for task in asked.tasks if not folders.get(task, Path()).is_dir() or task not in folders]:
        print(f"left out, as their images are not there: {', '.join(left_out)}")
    os.environ["KERAS_BACKEND"] = asked.engine
    runs = [run for run in wanted(asked) if run.task not in left_out]
    rows = pd.read_csv(asked.figures).to_dict("records") if asked.figures.exists() else []
    kept = [row for row in rows if (run := run_of(row)) not in runs or row.get("digest") == digest(run, row["train"])]
    if len(kept) < len(rows):
        print(f"measured anew, as their blocks or weights are others now: {len(rows) - len(kept)}")
    runs = [run for run in runs if run not in {*map(run_of, kept)}]
    failed = 0
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(asked.jobs, spawned) as pool:
        started = {pool.submit(once, run, folders[run.task]): run for run in runs}
        for ended in as_completed(started):
            try:
                row = ended.result()
            except Exception as error:  # noqa: BLE001  # one that fails must not cost the hours of the others
                print(f"{started[ended]}: {type(error).__name__}: {error}", flush=True)
                failed += 1
                continue
            kept.append(row)
            files.write_csv(asked.figures, pd.DataFrame(kept).set_index("task"))
            print(*row.values(), flush=True)
    return failed


def run_of(row: dict) -> Run:
    """The training that a row of figures is about."""
    return Run(**{name: row[name] for name in Run.__annotations__})


def digest(run: Run, count: int) -> str:
    """Of what a training on so many images is made of: its block, and the weights that it starts from."""
    from trainyard.models import pretrained

    spec = block(run, count)
    path = pretrained.cache_file(spec.backbone) if run.start == "imagenet" else None
    fetched = files.sha256(path) if path and path.is_file() else ""
    start = {"embedded": pretrained.PINNED[pretrained.EMBEDDED], "imagenet": fetched}.get(run.start, "")
    return sha256(f"{spec.model_dump_json()} {start}".encode()).hexdigest()[:12]


def wanted(asked: argparse.Namespace) -> Iterator[Run]:
    """All trainings that are asked for, the plain ones first."""
    for task in asked.tasks:
        knobs, seeds = TASKS[task], range(1, (asked.seeds or TASKS[task]["seeds"]) + 1)
        labelled = knobs.get("labelled", 0)
        starts = [start for start in asked.starts if start != "cnn" or task == "pictograms"]
        if "tasks" in asked.parts:
            yield from (Run(task, start, PLAIN, labelled, seed) for seed in seeds for start in starts)
        if "curve" in asked.parts and task == "digits":
            sizes = [size for size in CURVE if size != labelled]
            few = [seed for seed in seeds if seed <= CURVE_SEEDS]
            yield from (Run(task, start, PLAIN, n, seed) for seed in few for n in sizes for start in starts)
        if "ingredients" in asked.parts:
            pretrained = [start for start in starts if start not in ("scratch", "cnn")]
            yield from (
                Run(task, start, name, labelled, seed)
                for name in STUDIED.get(task, [])
                for seed in seeds
                for start in pretrained
            )


def block(run: Run, count: int) -> MobileNet | CNN:
    """What is trained on so many images, as a block of params.yaml."""
    knobs = TASKS[run.task]
    if run.start == "cnn":
        return params.load().train["cnn-pictograms"]
    weights = {"scratch": "none"}.get(run.start, run.start)
    known = files.sha256(Path(weights)) if Path(weights).is_file() else None
    backbone = {"width": 0.25, "resolution": knobs["resolution"], "weights": weights, "sha256": known}
    base = {"family": "mobilenet", "dataset": run.task, "backbone": backbone, "augment": knobs["augment"]}
    base |= {"batch_size": knobs["batch"], "dropout": 0.3}
    least, steps = SCRATCH if run.start == "scratch" else THAW
    epochs = max(least, math.ceil(steps / math.ceil(count / knobs["batch"])))
    if run.start == "scratch":
        thaw = {"layers": "all", "batch_normalization": "trained", "epochs": epochs, "learning_rate": 0.003}
        return MobileNet(**base, epochs=1, copies=0, thaw={**thaw, "warm_up": 3})
    thaw = {"layers": "all", "epochs": epochs, "learning_rate": 0.0005, "warm_up": 2, **knobs.get("thaw", {})}
    spec = MobileNet(**base, epochs=20, copies=4, thaw=thaw, mix=knobs.get("mix"))
    known_changes = changes(spec.thaw.epochs, spec.thaw.learning_rate)
    return MobileNet(**params.with_knobs(spec, {} if run.variant == PLAIN else known_changes[run.variant]))


@cache
def source(task: str, folder: Path) -> tuple[Images, pd.DataFrame]:
    """The dataset of a task and its manifest."""
    given = Split(given="folder") if task in ("fashion", "photos") else Split()
    knobs = {"kind": "images", "path": str(folder), "objective": "multiclass", "split": given}
    own = {
        "pictograms": {"group": r"^(.+)-\d+\.jpg$"},
        "photos": {"size": (160, 160)},
        "fashion": {"channels": 1},
        "digits": {"channels": 1},
    }
    dataset = Images(**knobs, **own[task])
    return dataset, kinds.of(dataset).manifest(dataset)


def set_aside(manifest: pd.DataFrame) -> pd.Series:
    """Which pictograms are of the quarter of the glyphs by which routes are chosen."""
    return manifest["group"].map(lambda glyph: zlib.crc32(glyph.encode()) % 4 == 0)


def prepared(run: Run, folder: Path, scratch: Path) -> kinds.Prepared:
    """The images of a run: as many labelled ones as it may have, a fifth of them for validation."""
    dataset, manifest = source(run.task, folder)
    random = np.random.default_rng(run.seed)
    if run.task == "fashion":
        parts = manifest["split"].copy()
        place = manifest.groupby(["split", "label"]).cumcount()
        parts[((parts == "train") & (place >= POOL)) | ((parts == "test") & (place >= TESTED))] = ""
    else:
        parts = kinds.of(dataset).split(dataset, manifest, run.seed)
    if run.task == "pictograms":
        parts[(parts == "test") & set_aside(manifest)] = ""
    if run.labelled:
        for names in manifest[parts.isin(["train", "validation"])].groupby("label").groups.values():
            drawn = random.permutation(len(names))[: run.labelled]
            parts[names] = ""
            parts[names[drawn]] = "train"
            parts[names[drawn[: max(1, run.labelled // 5)]]] = "validation"
    return written(run.task, folder, parts, scratch)


def written(task: str, folder: Path, parts: pd.Series, scratch: Path) -> kinds.Prepared:
    """The images of a task by their parts, train, validation and test; "" leaves one out."""
    dataset, manifest = source(task, folder)
    chosen = parts != ""
    with files.replacing_folder(scratch / task) as build:
        kinds.write_prepared(dataset, manifest[chosen], parts[chosen], build)
    return kinds.open_prepared(task, dataset, scratch)


def once(run: Run, folder: Path) -> dict:
    """Train, and ask the test images."""
    logging.getLogger("trainyard").setLevel(logging.WARNING)
    engine = os.environ["KERAS_BACKEND"]
    if engine == "tensorflow":
        from trainyard.training import device

        device.start(params.Training(determinism="fast"), run.seed)
    import keras

    from trainyard.models import pretrained
    from trainyard.training import finetune, fit

    keras.utils.clear_session()
    keras.utils.set_random_seed(run.seed)
    began, ends = time.monotonic(), []
    with TemporaryDirectory() as scratch:
        data = prepared(run, folder, Path(scratch))
        spec, ready = block(run, len(data.train)), time.monotonic()
        arguments = (spec, data, run.seed)
        if isinstance(spec, MobileNet):
            network, origin = pretrained.resolve(spec.backbone)
            pretrained.save(network, origin, spec.backbone, Path(scratch))
            model, history = finetune.train(*arguments, Path(scratch), lambda *_: ends.append(time.monotonic()))
        else:
            model, history = fit.train(*arguments, lambda *_: ends.append(time.monotonic()))
        images = data.test.raw["image"][:]
        answer = model.predict({"image": images}, batch_size=min(len(images), 500), verbose=0)
        accuracy = float(np.mean(answer.argmax(axis=1) == data.test.target))
    kept = history.index[history["kept"] == 1][0]
    first = ends[min(spec.epochs, len(ends)) - 1]
    seconds = {"prepare_s": ready - began, "first_phase_s": first - ready, "second_phase_s": ends[-1] - first}
    counts = {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)}
    chosen = {name: history[name][kept] for name in ("val_loss", "val_accuracy")}
    chosen |= {"accuracy": accuracy, "kept": kept, "epochs": len(history), "digest": digest(run, len(data.train))}
    rounded = {name: round(value, 1) for name, value in seconds.items()}
    return asdict(run) | {"engine": engine} | counts | chosen | rounded


def write_page(found: pd.DataFrame) -> None:
    """The tables of docs/transfer.md, and its plot, from the figures."""
    plain = found[found["variant"] == PLAIN]
    asked = pd.Series([TASKS[task].get("labelled", 0) for task in found["task"]], found.index)
    usual, digits = found[found["labelled"] == asked], plain[plain["task"] == "digits"]
    shipped = usual[usual["variant"] == PLAIN]
    seconds = shipped.groupby(["task", "start", "engine"])[["first_phase_s", "second_phase_s"]].mean().round(0)
    varied = [task for task in TASKS if (found["task"][found["variant"] != PLAIN] == task).any()]
    parts = {
        "accuracy": table(shipped, "task"),
        "above scratch": gains(shipped, "scratch"),
        "above the small network": gains(shipped[shipped["task"] == "pictograms"], "cnn"),
        "number of images": table(digits, "labelled"),
        "ingredients": "\n\n".join(f"{task}:\n\n{ingredients(usual[usual['task'] == task])}" for task in varied),
        "seconds": markdown(seconds),
        "routes": markdown(pd.read_csv(ROUTED).set_index("route")),
    }
    text = PAGE.read_text(encoding="utf-8")
    for name, told in parts.items():
        before, mark, rest = text.partition(f"<!-- transfer.py: {name} -->\n")
        if not mark:
            raise ValueError(f"{PAGE.name} has no mark of `{name}`")
        text = f"{before}{mark}{told}\n<!-- end -->{rest.partition('<!-- end -->')[2]}"
    files.write_text(PAGE, text)
    draw(digits)


def table(found: pd.DataFrame, row: str) -> str:
    """Accuracy of each start, by task or number of images, and over how many seeds at least."""
    accuracy = found.groupby([row, "start"])["accuracy"]
    cells = accuracy.apply(interval).unstack()
    told = cells[[start for start in (*STARTS, "cnn") if start in cells]]
    return markdown(told.assign(seeds=accuracy.size().unstack().min(axis=1).astype(int)))


def gains(found: pd.DataFrame, other: str) -> str:
    """Accuracy above that of another start."""
    wide = found.pivot_table(index=["task", "seed"], columns="start", values="accuracy")
    if other not in wide:
        return "Not measured."
    above = wide.drop(columns=other).sub(wide[other], axis=0)
    return markdown(above.groupby("task").agg(interval))


def ingredients(found: pd.DataFrame) -> str:
    """What is gained or lost by each change: in validation, and in the test."""
    cells: dict[str, dict[str, str]] = {}
    measured = set(found["start"][found["variant"] == PLAIN])
    for start in [start for start in ("embedded", "imagenet") if start in measured]:
        of_start = found[found["start"] == start]
        for name, told in [(name, told) for name, told in TOLD.items() if name in found]:
            wide = of_start.pivot_table(index="seed", columns="variant", values=name)
            column = cells[f"{start}: {told}"] = {PLAIN: interval(wide[PLAIN])}
            for variant in [variant for variant in changes(1, 1) if variant in wide]:
                column[variant] = interval(wide[variant] - wide[PLAIN])
    return markdown(pd.DataFrame(cells).rename_axis("change"))


def markdown(frame: pd.DataFrame) -> str:
    """A table with its index."""
    told = frame.reset_index().convert_dtypes().astype(object)
    rows = told.where(told.notna(), "").astype(str)
    return "\n".join(
        f"| {' | '.join(row)} |" for row in [[*rows], ["---"] * len(rows.columns), *rows.to_numpy().tolist()]
    )


def interval(values: pd.Series) -> str:
    """Mean and the ends of its 95% t interval over the seeds that were measured; "" where none was."""
    values = values.dropna()
    if values.empty:
        return ""
    mean = values.mean()
    if len(values) < 2:
        return f"{mean:.3f}"
    half = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    return f"{mean:.3f} [{mean - half:.3f}, {mean + half:.3f}]"


def draw(found: pd.DataFrame) -> None:
    """Accuracy against the number of labelled images, a line a start."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for start in STARTS:
        accuracy = found[found["start"] == start].groupby("labelled")["accuracy"]
        mean, half = accuracy.mean(), accuracy.sem() * stats.t.ppf(0.975, accuracy.size() - 1)
        axes.errorbar(mean.index, mean, half, marker="o", capsize=3, label=start)
    axes.set(xscale="log", xlabel="labelled images of each class, a fifth for validation", ylabel="test accuracy")
    axes.set_xticks(CURVE, [str(size) for size in CURVE])
    axes.set_title("Digits, MobileNet v1, width 0.25")
    axes.legend()
    figure.savefig(PLOT, dpi=120, metadata={"Software": None})


if __name__ == "__main__":
    main()
