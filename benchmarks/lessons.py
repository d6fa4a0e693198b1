"""What docs/lessons.md tells: the rows of its tables are trained under several seeds, as the line trains them.

    python benchmarks/lessons.py                     all tables and curves of the page
    python benchmarks/lessons.py layers recurrence   some of them

Each seed draws split, initial weights and order; seed 1 is what `seed: 1` of params.yaml gives. What the page's own
YAML blocks add to params.yaml is known. Tables stand between marks in the page, curves in docs/lessons/.
"""

import argparse
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image
from ruamel.yaml import YAML
from scipy import stats
from seeds import prepared, trained

from trainyard import figures, files, kinds, params
from trainyard.arrays import Array
from trainyard.kinds import Prepared
from trainyard.params import Params
from trainyard.quality.baselines import Baseline

if TYPE_CHECKING:
    import keras

PAGE = Path(__file__).parents[1] / "docs" / "lessons.md"
PICTURES = PAGE.with_suffix("")
LEAST = 0.005
"""What one run may differ from another at least, or by an epoch: so much another model of CPU moves."""
READING = ("beam", "words")
"""Knobs by which a transcript is read: nothing is trained anew for them."""

Row = tuple[str, ...]
"""A model, then knobs of its block as `dvc exp run -S` takes them."""


@dataclass(frozen=True)
class Table:
    """Rows that are held against the first one."""

    rows: Sequence[Row]
    columns: Sequence[str] = ()
    """What is told of each row beside the main metric: another one, a class (its recall), `weights`, or a column of
    the history at the epoch that was kept."""
    baselines: bool = False
    """Whether the first row's baselines stand below."""
    seeds: int = 5
    """How many, from 1 on."""
    pictures: Mapping[str, Callable[["Table"], Figure]] = field(default_factory=dict)
    """Figures by name."""


@dataclass(frozen=True)
class Outcome:
    """What came of one training."""

    data: Prepared
    model: "keras.Model"
    history: pd.DataFrame
    answer: Array

    def figure(self, column: str) -> float:
        """The figure of a column."""
        if column == "weights":
            return self.model.count_params()
        target, metrics = self.data.test.target, self.data.objective.metrics
        if column in metrics:
            return metrics[column](target, self.answer)
        if column in self.data.classes:
            true = target == self.data.classes.index(column)
            return float(np.mean(self.answer[true].argmax(axis=1) == target[true]))
        kept = self.history["kept"] == 1
        return float(self.history.index[kept][0] if column == "epoch" else self.history.loc[kept, column].iloc[0])


def main() -> None:
    """Train, and write tables and curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", help=f"{', '.join(TABLES)}; all by default")
    asked = parser.parse_args()
    if unknown := set(asked.tables) - TABLES.keys():
        parser.error(f"no table `{unknown.pop()}` (tables: {', '.join(TABLES)})")
    logging.getLogger("trainyard").setLevel(logging.WARNING)
    for name in asked.tables or TABLES:
        began, table = time.monotonic(), TABLES[name]
        text = markdown(table)
        files.write_text(PAGE, replaced(PAGE.read_text(encoding="utf-8"), name, text))
        for picture, draw in table.pictures.items():
            save(draw(table), PICTURES / f"{picture}.png")
        print(f"{name}: {time.monotonic() - began:.0f} s\n{text}", flush=True)


# === Training ===


@cache
def taught() -> Params:
    """params.yaml with the blocks that the page adds."""
    yaml = YAML(typ="safe")
    raw = yaml.load(params.PARAMS_FILE.read_text(encoding="utf-8"))
    for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        for section, named in yaml.load(block).items():
            raw[section].update(named)
    return params.parse(raw)


def turned(row: Row) -> Params:
    """Params with the knobs of a row."""
    name, *knobs = row
    return taught().turned(name, {knob: YAML(typ="safe").load(value) for knob, value in map(_pair, knobs)})


def _pair(knob: str) -> tuple[str, str]:
    name, _, value = knob.partition("=")
    return name, value


@cache
def outcome(row: Row, seed: int) -> Outcome:
    """What comes of a row under a seed."""
    name, *knobs = row
    learnt = tuple(knob for knob in knobs if _pair(knob)[0] not in READING)
    data, model, history = learning((name, *learnt), seed)
    from trainyard.models import saved
    from trainyard.training import package

    return Outcome(
        data, model, history, saved.answers(model, package.about(turned(row).model(name), data), data.test.raw)
    )


@cache
def learning(row: Row, seed: int) -> tuple:
    """Data, model and history of a training."""
    shipped, name = turned(row), row[0]
    spec = shipped.model(name)
    data = drawn(spec.dataset, seed)
    model, history = trained(name, shipped, data, seed, _folder() / "backbone")
    from trainyard.training.temperature import calibrate

    calibrate(model, spec, data)
    return data, model, history


@cache
def drawn(dataset: str, seed: int) -> Prepared:
    """A dataset as a seed splits it."""
    return prepared(dataset, taught(), seed, _folder() / str(seed))


@cache
def compared(dataset: str, seed: int) -> tuple[Baseline, Baseline]:
    """The baselines' answers on the test rows of a seed."""
    data = drawn(dataset, seed)
    return kinds.of(data.spec).compared(data.spec, data)


def _folder() -> Path:
    return Path(_scratch().name)


@cache
def _scratch() -> "TemporaryDirectory[str]":
    return TemporaryDirectory()


# === Tables ===


def measured(table: Table, seeds: Sequence[int]) -> dict[str, dict[str, list[float]]]:
    """The figures of a table by row and column, one a seed; the main metric has its own name."""
    dataset = turned(table.rows[0]).model(table.rows[0][0]).dataset
    main = drawn(dataset, seeds[0]).objective.main
    found = {}
    for row in table.rows:
        outcomes = [outcome(row, seed) for seed in seeds]
        columns = (*table.columns, main)
        found[told(row, table)] = {column: [one.figure(column) for one in outcomes] for column in columns}
    for place, which in enumerate(("classical", "naive") if table.baselines else ()):
        asked = [(drawn(dataset, seed), compared(dataset, seed)[1 - place]) for seed in seeds]
        values = [data.objective.metrics[main](data.test.target, baseline.answer) for data, baseline in asked]
        found[f"{asked[0][1].name} ({which})"] = {main: values}
    return found


def markdown(table: Table) -> str:
    """A table of the page."""
    found = measured(table, range(1, table.seeds + 1))
    *_, main = next(iter(found.values()))
    first = next(iter(found.values()))[main]
    head = ["", *table.columns, "seed 1", f"{main}, mean of {table.seeds} seeds", "one run", "against the first row"]
    lines = [[name.replace("_", " ") for name in head]]
    for name, figures_of in found.items():
        values = figures_of[main]
        beside = [cell(column, figures_of.get(column, ())) for column in table.columns]
        low, high = one_run(main, values)
        against = "" if values is first else interval([a - b for a, b in zip(values, first, strict=True)])
        lines.append([name, *beside, f"{values[0]:.3f}", interval(values), f"{low:.3f} to {high:.3f}", against])
    head, *rows = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([head, f"|{'---|' * len(lines[0])}", *rows])


def told(row: Row, table: Table) -> str:
    """The cell that says what a row is: its knobs, and its model where the table has several."""
    name, *knobs = row
    several = len({one[0] for one in table.rows}) > 1
    parts = [f"`{name}`"] if several or not knobs else []
    return " ".join([*parts, *(f"`{knob}`" for knob in knobs)])


def one_run(column: str, values: Sequence[float]) -> tuple[float, float]:
    """Ends of the 95% prediction interval of one more seed."""
    mean, wide = _spread(column, values)
    return max(mean - wide, 0.0), min(mean + wide, 1.0) if column == "accuracy" else mean + wide


def cell(column: str, values: Sequence[float]) -> str:
    """What a table says of a column beside the main one: the mean, and how far one run may be from it."""
    if not values or column == "weights":
        return "".join(f"{value:,.0f}" for value in values[:1])
    mean, wide = _spread(column, values)
    return f"{mean:.1f} ± {wide:.1f}" if column == "epoch" else f"{mean:.3f} ± {wide:.3f}"


def _spread(column: str, values: Sequence[float]) -> tuple[float, float]:
    wide = max(_half(values) * np.sqrt(len(values) + 1), 1.0 if column == "epoch" else LEAST)
    return float(np.mean(values)), wide


def interval(values: Sequence[float]) -> str:
    """Mean and the ends of its 95% t interval over the seeds."""
    mean, half = np.mean(values), _half(values)
    return f"{mean:.3f} [{mean - half:.3f}, {mean + half:.3f}]"


def _half(values: Sequence[float]) -> float:
    return float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))


def replaced(page: str, name: str, text: str) -> str:
    """The page with another text between the marks of a table."""
    begin, end = f"<!-- lessons.py: {name} -->\n", "\n<!-- end -->"
    before, found, rest = page.partition(begin)
    if not found:
        raise ValueError(f"{PAGE.name} has no mark of `{name}`")
    return f"{before}{begin}{text}{end}{rest.partition(end)[2]}"


# === Curves ===


def _axes(title: str, x: str, y: str, width: float = 7.0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.title.set_fontsize(10)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def curves(
    title: str, column: str = "val_loss", *, beside: str = "", log: bool = False, rows: int | None = None
) -> Callable[[Table], Figure]:
    """Draws a column of the history, a line a row, the mean over the seeds up to where the first of them stopped.

    `beside` is another one, dashed; `rows` is how many rows have lines, all by default.
    """

    def draw(table: Table) -> Figure:
        figure, axes = _axes(title, "epoch", "loss")
        for number, row in enumerate(table.rows[:rows]):
            for one, style in ((column, "-"), (beside, "--")):
                if one:
                    histories = [outcome(row, seed).history[one] for seed in range(1, table.seeds + 1)]
                    mean = pd.concat(histories, axis=1).dropna().mean(axis=1)
                    label = fill(told(row, table).replace("`", ""), 36) if style == "-" else None
                    axes.plot(mean.index, mean, style, color=f"C{number}", label=label)
        if log:
            _by_magnitude(axes)
        axes.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
        return figure

    return draw


def _by_magnitude(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")  # not 10 to some power, as figures read no mathematics
    axes.yaxis.set_minor_formatter("")


def save(figure: Figure, path: Path) -> None:
    """Write a PNG of 128 colours: a third of the bytes, in a repository that people clone."""
    figures.save(figure, path)
    with Image.open(path) as picture:
        light = picture.convert("RGB").quantize(128)
    with files.replacing(path) as draft:
        light.save(draft, format="png", optimize=True)


def gradients(rows: Mapping[str, Row]) -> Callable[[Table], Figure]:
    """Draws how large the loss's gradient is in the weights of each layer, before the first step."""

    def draw(_: Table) -> Figure:
        title = "size of the gradient before the first step"
        figure, axes = _axes(title, "layer, from the input on", "gradient's length")
        for label, row in rows.items():
            sizes = first_gradient(row, 1)
            axes.plot(range(1, len(sizes) + 1), sizes, marker=".", label=label)
        _by_magnitude(axes)
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
        return figure

    return draw


def first_gradient(row: Row, seed: int) -> list[float]:
    """Length of the loss's gradient in the kernel of each dense layer, in a network with random weights."""
    import keras
    import tensorflow as tf

    from trainyard import models
    from trainyard.training.features import pairs, seen

    spec, data = turned(row).model(row[0]), drawn(turned(row).model(row[0]).dataset, seed)
    keras.utils.set_random_seed(seed)
    preprocessing = kinds.of(data.spec).preprocessing(data.spec, data.facts, data.train)
    core = models.build(spec, seen(preprocessing), data.objective, data.units)
    kernels = [layer.kernel.value for layer in core.layers if isinstance(layer, keras.layers.Dense)]
    loss = keras.losses.get(data.objective.loss)
    with pairs(data, preprocessing) as ((features, true), _), tf.GradientTape() as tape:
        mean = tf.reduce_mean(loss(true, core(np.asarray(features[:]), training=True)))
    return [float(tf.norm(gradient)) for gradient in tape.gradient(mean, kernels)]


def mistakes(table: Table) -> Figure:
    """The first row's most telling mistakes, as `reports/models/MODEL/mistakes.png` has them."""
    one = outcome(table.rows[0], 1)
    return kinds.of(one.data.spec).mistakes(one.data.spec, one.data.facts, one.data.test, one.answer)


def steps_ahead(table: Table) -> Figure:
    """Mean absolute error by step ahead: of each row, and of the first one's baselines."""
    figure, axes = _axes("error by months ahead, mean of the seeds", "months ahead", "mean absolute error, °C")
    seeds = range(1, table.seeds + 1)
    for row in table.rows:
        errors = [_by_step(one.data.test.target, one.answer) for one in (outcome(row, seed) for seed in seeds)]
        axes.plot(
            range(1, len(errors[0]) + 1), np.mean(errors, axis=0), marker=".", label=told(row, table).replace("`", "")
        )
    data = outcome(table.rows[0], 1).data
    for place in (1, 0):
        found = [(drawn(data.name, seed).test.target, compared(data.name, seed)[place]) for seed in seeds]
        errors = [_by_step(true, one.answer) for true, one in found]
        axes.plot(range(1, len(errors[0]) + 1), np.mean(errors, axis=0), "--", marker=".", label=found[0][1].name)
    axes.legend(frameon=False, fontsize=7)
    return figure


def _by_step(true: Array, answer: Array) -> Array:
    return np.abs(true - answer).mean(axis=0)


def frames(table: Table) -> Figure:
    """What the first row says of each frame of a recording that it reads right: the probability of each letter."""
    from trainyard.models import saved

    one = outcome(table.rows[0], 1)
    right = np.flatnonzero(one.answer == one.data.test.target)
    place = right[np.argmax([len(one.data.test.target[i]) for i in right])]
    raw = {name: values[place : place + 1] for name, values in one.data.test.raw.items()}
    probabilities = np.exp(saved.predict(one.model, raw)[0])
    said = str(one.data.test.target[place])
    figure, axes = _axes(
        f"“{said}”: probability of each letter, frame by frame; grey: the blank", "frame", "probability"
    )
    axes.plot(probabilities[:, 0], color="0.75")
    for letter in sorted(set(said)):
        axes.plot(probabilities[:, 1 + one.data.classes.index(letter)])
    best = probabilities.argmax(axis=1)
    for frame in np.flatnonzero((best != 0) & (best != np.roll(best, 1))):
        letter = one.data.classes[best[frame] - 1]
        axes.annotate("␣" if letter == " " else letter, (frame, probabilities[frame].max()), fontsize=9, ha="center")
    return figure


# === What the page tells ===

DEEP = "layers=[32, 32, 32, 32, 32, 32, 32, 32]"
TABLES: dict[str, Table] = {
    "layers": Table(
        (
            ("pixels",),
            ("pixels", "layers=[]"),
            ("pixels", "layers=[]", "optimizer.learning_rate=0.01"),
            ("pixels", "layers=[8]"),
            ("pixels", "layers=[64]"),
            ("pixels", DEEP),
            ("pixels", DEEP, "activation=sigmoid"),
            ("pixels", DEEP, "activation=sigmoid", "batch_normalization=true"),
        ),
        columns=("weights",),
        baselines=True,
        pictures={
            "gradients": gradients(
                {
                    "relu": ("pixels", DEEP),
                    "sigmoid": ("pixels", DEEP, "activation=sigmoid"),
                    "sigmoid, normalised": ("pixels", DEEP, "activation=sigmoid", "batch_normalization=true"),
                }
            )
        },
    ),
    "layers-tumours": Table(
        (("mlp",), ("mlp", "layers=[]"), ("mlp", "layers=[256, 256]")), ("weights",), baselines=True
    ),
    "activations": Table(
        (
            ("pixels",),
            ("pixels", "activation=linear"),
            ("pixels", "activation=sigmoid"),
            ("pixels", "activation=tanh"),
            ("pixels", "activation=leaky_relu"),
            ("pixels", "activation=gelu"),
        ),
        columns=("epoch",),
        pictures={"activations": curves("validation loss, mean of the seeds", log=True)},
    ),
    "losses": Table(
        (
            ("pixels",),
            ("pixels", "loss=mean_squared_error"),
            ("pixels", "loss=mean_absolute_error"),
            ("pixels", "loss=categorical_focal_crossentropy"),
        ),
        columns=("log_loss",),
    ),
    "losses-tumours": Table((("mlp",), ("mlp", "loss=mean_squared_error")), columns=("log_loss",)),
    "losses-climate": Table((("rnn",), ("rnn", "loss=mean_absolute_error")), columns=("rmse",)),
    "optimizers": Table(
        (
            ("pixels",),
            ("pixels", "optimizer.name=sgd", "optimizer.learning_rate=0.01"),
            ("pixels", "optimizer.name=sgd", "optimizer.learning_rate=0.1"),
            ("pixels", "optimizer.name=sgd", "optimizer.learning_rate=0.1", "optimizer.momentum=0.9"),
            ("pixels", "optimizer.learning_rate=0.01"),
            ("pixels", "optimizer.learning_rate=0.1"),
            (
                "pixels",
                "optimizer.learning_rate={name: CosineDecay, initial_learning_rate: 0.01, decay_steps: 680}",
            ),
        ),
        columns=("epoch",),
        pictures={"optimizers": curves("validation loss, mean of the seeds", log=True)},
    ),
    "regularisation": Table(
        (
            ("wide",),
            ("wide", "dropout=0.5"),
            ("wide", "l2=0.001"),
            ("wide", "best_epoch=true"),
            ("wide", "best_epoch=true", "early_stopping.patience=5"),
        ),
        columns=("loss", "log_loss", "epoch"),
        pictures={"regularisation": curves("validation loss; dashed: training loss", beside="loss", log=True, rows=3)},
    ),
    "convolution": Table(
        (
            ("strokes",),
            ("pixels",),
            ("strokes", "kernel=1"),
            ("strokes", "filters=[16]"),
            ("strokes", "pooling=average"),
            ("strokes", "augment.shift=0.1", "augment.rotate=0.03"),
        ),
        columns=("weights",),
        seeds=3,
        pictures={"convolution": curves("validation loss, mean of the seeds", log=True)},
    ),
    "recurrence": Table(
        (("rnn",), ("rnn", "cell=gru"), ("rnn", "cell=simple"), ("months",)),
        columns=("weights", "epoch"),
        baselines=True,
    ),
    "letters": Table(
        (
            ("letters",),
            ("letters", "cell=lstm"),
            ("letters", "cell=simple"),
        ),
        columns=("weights",),
        baselines=True,
        seeds=3,
        pictures={"letters": curves("validation loss, mean of the seeds")},
    ),
    "transfer": Table(
        (
            ("sprites",),
            ("sprites", "thaw.layers=12"),
            ("nothing",),
            ("glyphs",),
        ),
        columns=("weights",),
        baselines=True,
        seeds=3,
        pictures={"transfer": curves("validation loss, mean of the seeds")},
    ),
    "pictures": Table(
        (
            ("sprites",),
            ("glyphs",),
        ),
        columns=("animals", "landmarks", "vehicles"),
        seeds=3,
        pictures={"pictures": mistakes},
    ),
    "speech": Table(
        (
            ("numbers",),
            ("numbers", "words=any"),
            ("numbers", "words=any", "beam=1"),
            ("numbers", "disturb.pitch=0", "disturb.bands=0", "disturb.frames=0", "disturb.noise=0"),
        ),
        columns=("character_error",),
        baselines=True,
        seeds=3,
        pictures={"speech": frames},
    ),
    "forecasts": Table(
        (("rnn",), ("half-year",), ("three-years",)),
        columns=("rmse",),
        baselines=True,
        pictures={"forecasts": steps_ahead, "forecasts-missed": mistakes},
    ),
}


if __name__ == "__main__":
    main()
