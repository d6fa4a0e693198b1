"""Figures, drawn the same for every model; saved PNGs are the same bytes for the same numbers."""

import warnings
from collections import Counter
from collections.abc import Sequence
from itertools import product, zip_longest
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trainyard import files
from trainyard.arrays import Array
from trainyard.quality.calibration import undone
from trainyard.quality.metrics import calibration_error, chosen, reliability, word_errors
from trainyard.quality.objectives import Objective

mpl.rcParams["text.parse_math"] = False  # a dollar in a class or a file name is a dollar

INK, ACCENT, SECOND, WRONG = "#3b4252", "#2f6f9f", "#c98a2b", "#b3423a"


def save(figure: Figure, path: Path) -> None:
    """Write a PNG without the name and version of what drew it."""
    with files.replacing(path) as draft, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a script that the font lacks: boxes
        figure.savefig(draft, format="png", dpi=100, metadata={"Software": None})


def learning(history: pd.DataFrame) -> Figure:
    """Each training metric over the epochs, with that of the validation split; the epoch that was kept is marked."""
    names = [name for name in map(str, history) if f"val_{name}" in history]
    figure = Figure(figsize=(4.2 * len(names), 3.2), layout="constrained")
    kept = history.index[history["kept"] == 1]
    for place, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), place + 1)
        axes.plot(history.index, history[name], color=ACCENT, label="train")
        axes.plot(history.index, history[f"val_{name}"], color=SECOND, label="validation")
        for epoch in kept:
            axes.axvline(epoch, color=INK, linewidth=0.8, linestyle=":", label="kept")
        _finish(axes, name.replace("_", " "), "epoch", "")
        axes.legend(frameon=False, fontsize=8)
    return figure


def answers(
    objective: Objective, target: Array, answer: Array, classes: Sequence[str], temperature: float | None = None
) -> Figure:
    """What was answered against what is true: numbers against numbers, or errors by horizon, or a confusion matrix.

    Beside that, how sure of it the model was, with and without its temperature.
    """
    if objective.classifies:
        side = _side(classes)
        figure = Figure(figsize=(side + 5, max(side, 3.6)), layout="constrained")
        matrix, diagram = figure.subplots(1, 2, width_ratios=(side + 0.6, 4.4))
        _confusion(matrix, target, chosen(answer), classes)
        _reliability(diagram, target, answer, temperature)
        return figure
    if objective.name == "transcription":
        return words(target, answer)
    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    if objective.name == "forecast" and target.shape[1] > 1:
        errors = np.abs(target - answer).mean(axis=0)
        axes.bar(np.arange(1, len(errors) + 1), errors, color=ACCENT)
        _finish(axes, "mean absolute error by step ahead", "steps ahead", "error")
        return figure
    axes.scatter(target.ravel(), answer.ravel(), s=8, alpha=0.5, color=ACCENT, linewidths=0)
    ends = [min(target.min(), answer.min()), max(target.max(), answer.max())]
    axes.plot(ends, ends, color=INK, linewidth=0.8)
    _finish(axes, "answers against truth", "true", "answered")
    return figure


def confusion(target: Array, classes_answered: Array, classes: Sequence[str]) -> Figure:
    """Counts by true class (rows) and answered class (columns), coloured by the share of the row."""
    figure = Figure(figsize=(_side(classes) + 0.6, _side(classes)), layout="constrained")
    _confusion(figure.add_subplot(), target, classes_answered, classes)
    return figure


def _side(classes: Sequence[str]) -> float:
    return min(2.4 + 0.45 * len(classes), 20)


def _confusion(axes: Axes, target: Array, classes_answered: Array, classes: Sequence[str]) -> None:
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (target, classes_answered), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= 40:  # more names than can be read
        for row, column in np.argwhere(counts):
            ink = "white" if shares[row, column] > 0.6 else INK
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=8, color=ink)
        axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right", fontsize=8)
        axes.set_yticks(range(len(classes)), classes, fontsize=8)
    _finish(axes, "confusion", "answered", "true")


def _reliability(axes: Axes, target: Array, answer: Array, temperature: float | None) -> None:
    """How often answers are right against how sure the model is of them, in bins; how many are in each stands there."""
    axes.axline((1, 1), slope=1, color=INK, linewidth=0.8)
    drawn = [("as it answers", answer, ACCENT)]
    if temperature not in (None, 1):
        drawn.insert(0, (f"before its temperature {temperature:g}", undone(answer, temperature), SECOND))
    for told, sure_of, colour in drawn:
        sure, right, counts = reliability(target, sure_of)
        axes.plot(
            sure, right, color=colour, marker=".", label=f"{told}: error {calibration_error(target, sure_of):.3f}"
        )
    for x, y, count in zip(sure, right, counts, strict=True):  # of the last curve, which is the model's own
        axes.annotate(str(count), (x, y), fontsize=6, color=INK, xytext=(2, -7), textcoords="offset points")
    _finish(axes, "reliability, and how many answers are in each bin", "sureness", "share that is right")
    axes.legend(frameon=False, fontsize=7)


def words(said: Array, answer: Array, most: int = 24) -> Figure:
    """Words said (rows) and heard (columns), the most frequent and those in errors."""
    import jiwer

    pairs: Counter[tuple[str, str]] = Counter()
    found = jiwer.process_words(list(map(str, said)), list(map(str, answer)))
    for spoken, understood, chunks in zip(found.references, found.hypotheses, found.alignments, strict=True):
        for chunk in chunks:
            true = spoken[chunk.ref_start_idx : chunk.ref_end_idx]
            told = understood[chunk.hyp_start_idx : chunk.hyp_end_idx]
            pairs.update(zip_longest(true, told, fillvalue=""))
    weights: Counter[str] = Counter()
    for pair, count in pairs.items():
        for word in set(pair) - {""}:
            weights[word] += count if pair[0] == pair[1] else 1000 * count  # words in errors come first
    kept = sorted(word for word, _ in weights.most_common(most))
    place = {word: number for number, word in enumerate(kept)}
    numbers = [[place.get(word, len(kept)) for word in pair] for pair in pairs.elements() if place.keys() & set(pair)]
    true_numbers, told_numbers = np.array(numbers).T
    return confusion(true_numbers, told_numbers, [*kept, "other or none"])


def answers_by_row(names: pd.Index, target: Array, answer: Array, classes: Sequence[str]) -> Figure:
    """Each test row by its answer; the most wrong ones carry their name."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.add_subplot()
    if classes:
        sure = (
            answer[:, 0]
            if answer.shape[1] == 1
            else np.take_along_axis(answer, target[:, None].astype(int), axis=1)[:, 0]
        )
        wrong = chosen(answer) != target
        badness = np.where(wrong, np.abs(sure - 0.5) if answer.shape[1] == 1 else 1 - sure, -1)
        jitter = np.random.default_rng(0).uniform(-0.25, 0.25, len(target))
        places = target + jitter
        axes.scatter(sure, places, s=10, color=np.where(wrong, WRONG, ACCENT).tolist(), alpha=0.7, linewidths=0)
        axes.set_yticks(range(len(classes)), classes)
        what = f"probability of {classes[-1]}" if answer.shape[1] == 1 else "probability of the true class"
        _finish(axes, "wrong answers in red, by row of the file", what, "true class")
    else:
        sure, places = target[:, 0], answer[:, 0] - target[:, 0]
        badness = np.abs(places)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.scatter(sure, places, s=10, color=ACCENT, alpha=0.6, linewidths=0)
        _finish(axes, "errors, the greatest by row of the file", "true", "answered - true")
    for i in np.argsort(-badness, kind="stable")[:8]:
        if badness[i] > 0:
            axes.annotate(
                str(names[i]), (sure[i], places[i]), fontsize=7, color=WRONG, xytext=(2, 2), textcoords="offset points"
            )
    return figure


def gallery(
    images: Any, target: Array, answer: Array, classes: Sequence[str], names: pd.Index, most: int = 12
) -> Figure:
    """The wrong answers of which the model was surest, then the right ones of which it was least sure."""
    said, confidence = chosen(answer), _confidence(answer)
    order = np.lexsort((np.where(said == target, confidence, -confidence), said == target))[:most]
    columns = min(6, len(order))
    rows = -(-len(order) // columns)
    figure = Figure(figsize=(1.6 * columns, 2.0 * rows), layout="constrained")
    for place, i in enumerate(order):
        axes = figure.add_subplot(rows, columns, place + 1)
        picture = images[int(i)]
        axes.imshow(picture[..., 0] if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=255)
        axes.set_axis_off()
        right = said[i] == target[i]
        told = f"{classes[said[i]]} {confidence[i]:.2f}" + ("" if right else f"\nis {classes[target[i]]}")
        axes.set_title(f"{Path(str(names[i])).name}\n{told}", fontsize=7, color=INK if right else WRONG)
    return figure


def quotations(
    texts: Any, target: Array, answer: Array, classes: Sequence[str], names: pd.Index, most: int = 12
) -> Figure:
    """The texts with the wrong answers of which the model was surest: row, truth, answer, confidence, beginning."""
    said, confidence = chosen(answer), _confidence(answer)
    wrong = np.flatnonzero(said != target)
    order = wrong[np.argsort(-confidence[wrong], kind="stable")][:most]
    figure = Figure(figsize=(9, 0.6 + 0.24 * max(len(order), 1)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    told = f"{len(order)} of {len(wrong)} wrong answers, the surest first" if len(wrong) else "no wrong answer"
    axes.set_title(told, fontsize=9, color=INK, loc="left")
    for place, i in enumerate(order):
        text = " ".join(str(texts[int(i)][0]).split())
        text = text if len(text) <= 90 else f"{text[:86]} ..."
        cells = (str(names[i]), f"is {classes[target[i]]}", f"{classes[said[i]]} {confidence[i]:.2f}", text)
        for x, cell, ink in zip((0, 0.08, 0.22, 0.4), cells, (INK, INK, WRONG, INK), strict=True):
            axes.text(x, 1 - (place + 0.5) / len(order), cell, fontsize=7, color=ink, va="center")
    return figure


def forecasts(windows: Array, target: Array, answer: Array, names: pd.Index) -> Figure:
    """Windows `[n, window]` of the target column, what came after them and what was forecast."""
    columns = min(3, len(windows))
    rows = -(-len(windows) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.3 * rows), layout="constrained")
    for place in range(len(windows)):
        axes = figure.add_subplot(rows, columns, place + 1)
        past = np.arange(-windows.shape[1] + 1, 1)
        ahead = np.arange(target.shape[1] + 1)
        last = windows[place, -1:]
        axes.plot(past, windows[place], color=INK, linewidth=1)
        axes.plot(ahead, np.concatenate([last, target[place]]), color=ACCENT, marker=".", label="came")
        axes.plot(
            ahead, np.concatenate([last, answer[place]]), color=WRONG, marker=".", linestyle="--", label="forecast"
        )
        day = str(names[place]).removesuffix("T00:00:00")  # where the clock tells nothing
        _finish(axes, f"after {day}", "", "")
        axes.legend(frameon=False, fontsize=7)
    return figure


def importances(table: pd.DataFrame, title: str, most: int = 24) -> Figure:
    """The parts without which most is lost, with their intervals; how many examples have each, where not all do."""
    shown = table[:most]
    figure = Figure(figsize=(6, 1 + 0.22 * max(len(shown), 1)), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(shown))
    axes.barh(places, shown["drop"], color=ACCENT, height=0.7)
    axes.hlines(places, shown["low"], shown["high"], color=INK, linewidth=1)
    axes.axvline(0, color=INK, linewidth=0.8)
    all_have = table["examples"].nunique() <= 1
    names = [name if len(name) <= 40 else f"{name[:36]} ..." for name in map(str, shown.index)]
    counted = [f"{name} ({count})" for name, count in zip(names, shown["examples"], strict=True)]
    axes.set_yticks(places, names if all_have else counted)
    axes.invert_yaxis()
    told = f"mean score lost {title}" if len(table) else "no part that enough examples have"
    _finish(axes, told, "", "")
    return figure


def occlusion(
    drops: Array, cuts: tuple[Sequence[int], Sequence[int]], images: Array, names: pd.Index, lost: Array
) -> Figure:
    """A map of patches, cut at these pixels (down, across): the mean score that is lost without each `[patches]`.

    Then images `[n, height, width, channels]` under maps of the probability of the right class that is lost without
    each patch `[n, patches]`.
    """
    down, across = cuts
    maps = np.array([drops, *lost]).reshape(-1, len(down) - 1, len(across) - 1)
    end = max(float(np.abs(drops).max()), 1e-9)
    figure = Figure(figsize=(2 * (len(images) + 1), 2.3), layout="constrained")
    for place, heat in enumerate(maps):
        axes = figure.add_subplot(1, len(maps), place + 1)
        if place:
            picture = images[place - 1]
            picture = picture[..., 0] if picture.shape[-1] == 1 else picture
            axes.imshow(picture, cmap="gray", vmin=0, vmax=255, extent=(0, across[-1], down[-1], 0))
            shade = np.clip(0.6 * np.abs(heat), 0, 1)
            axes.pcolormesh(across, down, np.sign(heat), cmap="RdBu_r", vmin=-1.4, vmax=1.4, alpha=shade)
        else:
            axes.pcolormesh(across, down, heat, cmap="RdBu_r", vmin=-end, vmax=end)
            middles = [np.convolve(side, [0.5, 0.5], "valid") for side in (down, across)]
            for (y, x), drop in zip(product(*middles), drops, strict=True):
                ink = "white" if abs(drop) > 0.6 * end else INK
                axes.text(x, y, f"{round(drop, 2) + 0.0:.2f}", ha="center", va="center", fontsize=6, color=ink)
        axes.set_ylim(down[-1], 0)
        axes.set_aspect("equal")
        axes.set_axis_off()
        axes.set_title(Path(str(names[place - 1])).name if place else "mean score lost", fontsize=7, color=INK)
    return figure


def _confidence(answer: Array) -> Array:
    """The probability of the class that was answered `[n]`."""
    both = np.concatenate([1 - answer, answer], axis=1) if answer.shape[1] == 1 else answer
    return np.take_along_axis(both, chosen(answer)[:, None], axis=1)[:, 0]


def heard(clips: Sequence[Array], rate: int, said: Array, answer: Array, names: pd.Index, most: int = 6) -> Figure:
    """Spectrograms of recordings `[time]` with what was said and heard, those with most errors first."""
    errors = np.array([word_errors(str(true), str(told)) for true, told in zip(said, answer, strict=True)])
    order = np.argsort(-errors, kind="stable")[:most]
    rows = -(-len(order) // 2)
    figure = Figure(figsize=(9, 2.4 * rows), layout="constrained")
    for place, i in enumerate(order):
        axes = figure.add_subplot(rows, 2, place + 1)
        size = rate // 40
        clip = np.pad(clips[i], (0, max(0, size - len(clips[i]))))
        axes.specgram(clip + 1e-6, NFFT=size, Fs=rate, noverlap=size * 3 // 4, cmap="Greys", vmin=-120)
        _finish(axes, "", "seconds", "Hz")
        told = f"heard: {answer[i] or '(nothing)'}"
        right = "right" if not errors[i] else f"{errors[i]} word(s) wrong"
        title = f"{Path(str(names[i])).name}\nsaid:  {said[i]}\n{told} ({right})"
        axes.set_title(title, fontsize=8, loc="left", color=WRONG if errors[i] else INK)
    return figure


def _finish(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=9, color=INK)
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
