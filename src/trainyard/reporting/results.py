"""What the report tells, read from the files of all stages, for the datasets and models that params name alone."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from trainyard import files
from trainyard.errors import BadInput
from trainyard.params import Params
from trainyard.quality import evaluation, intervals
from trainyard.quality.objectives import OBJECTIVES, Objective
from trainyard.quality.verdict import Verdict
from trainyard.reporting import figure, picture

FIGURES = {
    "learning": "How it learnt, epoch by epoch",
    "answers": "What it answered on the test examples, and of classes how sure it was",
    "mistakes": "Where it was most wrong",
    "importance": "What its answers rest on: how much is lost without a part of what it sees",
}
"""Figures of a model, by file, with what they show."""


@dataclass(frozen=True)
class Model:
    """What the stages told of one model."""

    name: str
    finetuned: bool
    about: Mapping[str, Any]
    """model.json"""
    metrics: Mapping[str, Any]
    """metrics.json"""
    verdict: Verdict
    card: str
    """card.md"""
    history: pd.DataFrame
    scores: pd.DataFrame
    """Indexed by example: `score`, targets, `group` where there is one."""

    @property
    def objective(self) -> Objective:
        """What is asked of the model."""
        return OBJECTIVES[self.metrics["objective"]]

    @property
    def run(self) -> str:
        """The name of its run in MLflow."""
        return f"{self.name}-{self.verdict.content[:8]}"

    @property
    def what(self) -> str:
        """What it is, in a few words."""
        trained = "trained from scratch"
        if self.finetuned:
            weights = self.about["backbone"]["weights"]
            trained = "fine-tuned" if weights == "none" else f"fine-tuned from {weights} weights"
        return f"`{self.about['family']}` on `{self.metrics['dataset']}`, {trained}"

    @property
    def params(self) -> list[tuple[str, str]]:
        """Its block of params with all defaults, one line a knob: `optimizer.name`, ..."""
        return list(flat(self.about["params"]))

    @property
    def kept(self) -> int | None:
        """The epoch whose weights it has."""
        epochs = self.history.index[self.history["kept"] == 1]
        return int(epochs[0]) if len(epochs) else None

    @property
    def baselines(self) -> dict[str, str]:
        """What the baselines are, and how far the model is from each, in words."""
        told = {}
        for which in ("classical", "naive"):
            difference = self.metrics[f"better_than_{which}"]
            ends = f"{figure(difference['value'])} [{figure(difference['low'])}, {figure(difference['high'])}]"
            told[which] = f"{self.metrics[which]['name']}; the model's mean score differs by {ends}"
        return told

    @property
    def over_seeds(self) -> str:
        """The main metric's mean over seeds, in words; "" where there was one seed."""
        if "over_seeds" not in self.metrics:
            return ""
        found = self.metrics["over_seeds"][self.objective.main]
        ends = f"{figure(found['value'])} [{figure(found['low'])}, {figure(found['high'])}]"
        metric = self.objective.main.replace("_", " ")
        return f"over {len(found['each'])} seeds, on the same split: mean {metric} {ends}"

    @property
    def slices(self) -> list[tuple[str, str, Mapping[str, Any]]]:
        """Column, value and the main metric of each slice that params ask for, with the examples that it is of."""
        told = self.metrics.get("slices", {})
        return [(column, value, ends) for column, values in told.items() for value, ends in values.items()]

    @property
    def figures(self) -> dict[Path, str]:
        """The figures that are there, with what they show."""
        folder = Path("reports/models") / self.name
        return {path: told for name, told in FIGURES.items() if (path := folder / f"{name}.png").is_file()}

    def alternative(self, name: str) -> str:
        """What a figure says, for those who do not see it."""
        if name != "learning":
            return f"{self.name}: {FIGURES[name][0].lower()}{FIGURES[name][1:]}"
        losses = self.history["val_loss"]
        last = losses.loc[self.kept] if self.kept else losses.iloc[-1]
        told = f"the validation loss was {figure(losses.iloc[0])} after the first of {len(losses)} epochs"
        return f"{self.name}: {told}, {figure(last)} after {'the kept one' if self.kept else 'the last'}"

    def values(self, metric: str | None = None) -> dict[str, float]:
        """A metric, by default the main one: `value`, `low`, `high`, `naive`, `classical`, those that are defined."""
        metric = metric or self.objective.main
        found = {
            **self.metrics["test"][metric],
            **{which: self.metrics[which].get(metric) for which in ("naive", "classical")},
        }
        return {name: figure for name, figure in found.items() if figure is not None}


@dataclass(frozen=True)
class Group:
    """A dataset, and the models that were tested on the same rows of it."""

    name: str
    data: Mapping[str, Any]
    """verdict.json"""
    audit: Mapping[str, Any]
    """reports/audits/DATASET.json; empty where the data was not prepared yet."""
    models: Sequence[Model]
    comparisons: Sequence[str]

    @property
    def remarks(self) -> list[str]:
        """What validation remarked, and what the audit of the splits found."""
        found = [f"the audit found: {finding['told']}" for finding in self.audit.get("findings", [])]
        clean = (
            [f"the audit found nothing: no {', '.join(sorted(self.audit['checks']))}"]
            if self.audit and not found
            else []
        )
        return [*self.data["remarks"], *found, *clean]

    @property
    def metric(self) -> str:
        """The main metric."""
        return self.models[0].objective.main

    @property
    def scale(self) -> tuple[float, float]:
        """Ends of the scale on which the main metric of all models is drawn."""
        figures = [figure for model in self.models for figure in model.values().values()]
        low, high = min(figures), max(figures)
        margin = (high - low) / 20 or 0.5
        # a share has no business below 0 or above 1
        return (low - margin if low < 0 else max(low - margin, 0), high + margin if high > 1 else min(high + margin, 1))


@dataclass(frozen=True)
class Report:
    """All that the templates ask for."""

    groups: Sequence[Group]
    absent: Sequence[str]
    """Datasets and models of params that nothing is known of yet."""
    line: picture.Line
    """The stages of dvc.yaml."""

    @property
    def models(self) -> list[Model]:
        """All models, those of one dataset side by side."""
        return [model for group in self.groups for model in group.models]

    @property
    def drawing(self) -> Markup:
        """The line as a picture."""
        return picture.drawn(self.line, self.came)

    @property
    def came(self) -> dict[str, tuple[str, str]]:
        """What came of each stage, in a word or two, and its tone."""
        found = {"report": ("one page", "")}
        for group in self.groups:
            passed = group.data["passed"]
            found[f"validate@{group.name}"] = (group.data["kind"], "") if passed else ("refused", "bad")
            found[f"prepare@{group.name}"] = _counted(group.data["rows"], "row"), ""
        for model in self.models:
            decision, main = model.verdict.decision, model.objective.main
            found |= {f"{verb}@{model.name}": (model.about["family"], "") for verb in ("train", "finetune")}
            if model.finetuned:
                found[f"backbone@{model.name}"] = model.about["backbone"]["weights"], ""
            found[f"evaluate@{model.name}"] = f"{main.replace('_', ' ')} {figure(model.values().get('value'))}", ""
            found[f"register@{model.name}"] = decision, "good" if decision == "champion" else ""
        return found

    @property
    def summary(self) -> str:
        """How many models and datasets there are, and how many models are champion."""
        champions = sum(model.verdict.decision == "champion" for model in self.models)
        told = f"{_counted(len(self.models), 'model')} on {_counted(len(self.groups), 'dataset')}"
        return f"{told}, {f'{champions} of them champion' if champions else 'no champion among them'}"


def read(params: Params) -> Report:
    """Read all results; raises BadInput where there are none."""
    found = {name: _model(name, params) for name in params.models}
    groups, absent = [], [name for name, model in found.items() if model is None]
    for name in params.datasets:
        verdict = Path("reports/data") / name / "verdict.json"
        models = [model for model in found.values() if model and model.metrics["dataset"] == name]
        if verdict.is_file():
            audit = Path("reports/audits") / f"{name}.json"
            audited = files.read_json(audit) if audit.is_file() else {}
            compared = list(_comparisons(name, models))
            groups.append(Group(name, files.read_json(verdict), audited, models, compared))
        else:
            absent.append(name)
    if not any(group.models for group in groups):
        raise BadInput("reports/models: holds no results of a model that params name (run `dvc repro` first)")
    return Report(groups, absent, picture.stages(params))


def _model(name: str, params: Params) -> Model | None:
    """None where not all of its stages have run."""
    model, report = Path("models") / name, Path("reports/models") / name
    if not (report / "verdict.json").is_file():
        return None
    metrics = files.read_json(report / "metrics.json")
    if metrics["dataset"] != params.model(name).dataset:
        return None
    scores = pd.read_csv(report / "scores.csv", dtype={"example": str, "group": str}, keep_default_na=False)
    return Model(
        name,
        name in params.finetune,
        files.read_json(model / "model.json"),
        metrics,
        files.read_as(Verdict, report / "verdict.json"),
        (report / "card.md").read_text(encoding="utf-8"),
        pd.read_csv(model / "history.csv", index_col="epoch"),
        scores.set_index("example"),
    )


def _comparisons(dataset: str, models: Sequence[Model]) -> Iterator[str]:
    """The model with the best mean score against each other one, on the test examples that both were asked."""
    ranked = sorted(models, key=lambda model: float(-model.scores["score"].mean()))
    for other in ranked[1:]:
        pairs = ranked[0].scores.join(other.scores["score"].rename("other"), how="inner")
        if len(pairs):
            yield _comparison(dataset, ranked[0], other, pairs)


def _comparison(dataset: str, best: Model, other: Model, pairs: pd.DataFrame) -> str:
    targets = pairs.filter(regex=r"^(label|target)").to_numpy()
    sample = evaluation.draws(best.objective, pairs, targets)
    difference = intervals.of_mean((pairs["score"] - pairs["other"]).to_numpy(), sample)
    metric = best.objective.main
    first, second = (f"`{model.name}` ({metric} {figure(model.values().get('value'))})" for model in (best, other))
    ends = f"{figure(difference.value)} [{figure(difference.low)}, {figure(difference.high)}]"
    more = "less" if metric in best.objective.lower_is_better else "more"
    standing = "ahead of" if difference.value > 0 else "level with"
    winner = f"`{best.name}`"
    if best.finetuned != other.finetuned:
        winner = "the fine-tuned network" if best.finetuned else "the network trained from scratch"
    end = f"{winner} wins here" if difference.low > 0 else "no clear winner"
    asked = f"the same {len(pairs):,} test examples"
    return f"On `{dataset}`, {first} is {standing} {second}: {ends} {more} on {asked}; {end}."


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def flat(block: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of nested mappings, by dotted names."""
    for name, value in block.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)
