"""What a model is worth: metrics with intervals, per-example scores, and the difference from the baselines."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainyard.arrays import Array
from trainyard.quality import intervals
from trainyard.quality.baselines import Baseline
from trainyard.quality.intervals import Draws
from trainyard.quality.objectives import Objective

Floats = NDArray[np.floating]


def draws(objective: Objective, rows: pd.DataFrame, target: Array) -> Draws:
    """How the test rows were drawn: by group where there are groups, one after another for forecasts."""
    horizon = target.shape[1] if objective.name == "forecast" else 0
    return intervals.draws(len(rows), rows.get("group"), horizon)


def metrics(
    objective: Objective, target: Array, answer: Floats, naive: Baseline, classical: Baseline, sample: Draws
) -> dict[str, Any]:
    """As it stands in metrics.json: metrics with intervals, the baselines' metrics, and the paired differences."""
    score = objective.score(target, answer)
    found = intervals.of_metrics(objective.metrics, target, answer, sample)
    result: dict[str, Any] = {"objective": objective.name, "examples": len(target)}
    result["test"] = {name: interval.as_dict() for name, interval in found.items()}
    for which, baseline in [("naive", naive), ("classical", classical)]:
        values = {name: _known(metric(target, baseline.answer)) for name, metric in objective.metrics.items()}
        result[which] = {"name": baseline.name, **values}
        difference = intervals.of_mean(score - objective.score(target, baseline.answer), sample)
        result[f"better_than_{which}"] = difference.as_dict()
    return result


def slices(
    objective: Objective, columns: pd.DataFrame, target: Array, answer: Floats, sample: Draws
) -> dict[str, dict[str, Any]]:
    """As it stands in metrics.json: the main metric of the examples that have one value of a column, for each value."""
    main = {objective.main: objective.metrics[objective.main]}
    found: dict[str, dict[str, Any]] = {}
    for column, value, chosen in each_slice(columns):
        interval = intervals.of_metrics(main, target[chosen], answer[chosen], sample.of(chosen))[objective.main]
        found.setdefault(column, {})[value] = {"examples": int(chosen.sum()), **interval.as_dict()}
    return found


def over_seeds(objective: Objective, target: Array, answers: Mapping[int, Floats]) -> dict[str, dict[str, Any]]:
    """As it stands in metrics.json: each metric's mean over trainings, by their seed, with its interval, and each."""
    found = {}
    for name, metric in objective.metrics.items():
        values = np.array([metric(target, answer) for answer in answers.values()])
        each = {str(seed): _known(value) for seed, value in zip(answers, values, strict=True)}
        found[name] = {**intervals.of_seeds(values).as_dict(), "each": each}
    return found


def each_slice(columns: pd.DataFrame) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Column, value, and which of the rows have it, for each value of each column, which are text."""
    for column in columns:
        for value in sorted(columns[column].unique()):
            yield str(column), value, (columns[column] == value).to_numpy()


def scores(
    objective: Objective,
    classes: Sequence[str],
    rows: pd.DataFrame,
    target: Array,
    answer: Floats,
    naive: Baseline,
    classical: Baseline,
) -> pd.DataFrame:
    """As it stands in scores.csv: a row a test example, with its answers and the scores of model and baselines."""
    table = rows.copy()
    if objective.name == "transcription":
        table["target"] = target
    elif not objective.classifies:
        for name, values in zip(_names("target", target.shape[1]), target.T, strict=True):
            table[name] = values
    for name, values in named_answers(objective, classes, answer).items():
        table[name] = values
    table["score"] = objective.score(target, answer)
    table["naive_score"] = objective.score(target, naive.answer)
    table["classical_score"] = objective.score(target, classical.answer)
    return table


def named_answers(objective: Objective, classes: Sequence[str], answer: Floats) -> dict[str, Floats]:
    """Answers as columns: `p_CLASS`, a probability for each class, or `answer`, or `answer_1` ... `answer_HORIZON`.

    Of transcriptions `answer`, the text that was heard.
    """
    if objective.name == "transcription":
        return {"answer": answer}
    if objective.name == "binary":
        return {f"p_{classes[0]}": 1 - answer[:, 0], f"p_{classes[1]}": answer[:, 0]}
    names = [f"p_{name}" for name in classes] if objective.classifies else _names("answer", answer.shape[1])
    return dict(zip(names, answer.T, strict=True))


def _names(what: str, count: int) -> list[str]:
    return [what] if count == 1 else [f"{what}_{i + 1}" for i in range(count)]


def _known(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 6)
