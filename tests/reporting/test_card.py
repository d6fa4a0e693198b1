"""The card of a model of every objective, made as the line makes it: no section of it is empty."""

import re
from dataclasses import dataclass

import pytest
from contracts.samples import prepared
from contracts.test_families import KINDS, block

from trainyard import kinds
from trainyard.quality import evaluation
from trainyard.quality.verdict import Check, Verdict
from trainyard.reporting import card, render

SECTIONS = [
    "Intended use",
    "Data and its origin",
    "Splits",
    "Metrics",
    "Slices",
    "Calibration",
    "Baselines",
    "The gate",
    "Limits",
    "How to reproduce",
]
FAMILIES = {"tables": "mlp", "images": "cnn", "series": "rnn", "text": "rnn", "speech": "rnn"}
CASES = [(kind, objective) for kind, spec in KINDS.items() for objective in spec.objectives]


@dataclass
class Told:
    """What a card is made from."""

    about: dict
    metrics: dict
    data: kinds.Prepared
    use: str | None = None

    def card(self):
        checks = (Check("better than naive", True, "0.1 | <is> enough"),)
        verdict = Verdict("m", "sample", "0" * 64, "", "", {}, checks, passed=True, decision="champion", remark="")
        return card.written(self.about, self.metrics, self.data, 0.25, self.use, verdict)


def told(folder, kind, objective):
    from trainyard.training import package

    data = prepared(folder, kind, objective)
    naive, classical = kinds.of(data.spec).compared(data.spec, data)
    sample = evaluation.draws(data.objective, data.test.rows, data.test.target)
    metrics = evaluation.metrics(data.objective, data.test.target, classical.answer, naive, classical, sample)
    more = {"model": "m", "parameters": 1234, "sha256": "0" * 64, "temperature": None, "backbone": None}
    about = {**package.about(block(FAMILIES[kind]), data), **more}
    return Told(about, metrics, data)


@pytest.mark.parametrize(("kind", "objective"), CASES)
def test_the_card_of_every_objective_has_all_sections_and_none_is_empty(tmp_path, kind, objective):
    page = told(tmp_path, kind, objective).card()
    assert re.findall(r"(?m)^## (.*)", page) == SECTIONS
    assert card.empty_sections(page) == []
    assert "None" not in page.replace("None were asked for", "")
    assert "`dvc repro register@m`" in page
    assert f"SHA-256 {'0' * 64}" in page
    assert re.search(r"`build/sample`: [0-9a-f]{64}", page)
    assert "Origin: not told (`datasets.sample.origin` in params.yaml)" in page
    assert ("The calibration error is" in page) == (objective in ("binary", "multiclass"))


def test_the_card_says_which_weights_a_model_stands_on(tmp_path):
    of = told(tmp_path, "images", "binary")
    assert "Stands on" not in of.card()
    of.about["backbone"] = {"weights": "imagenet", "version": "v1", "width": 0.25, "sha256": "1" * 64}
    assert f"- Stands on `imagenet` weights of MobileNet v1, width 0.25: SHA-256 {'1' * 64}\n" in of.card()
    of.about["backbone"] = {"weights": "mine.keras", "sha256": "1" * 64}
    assert f"- Stands on `mine.keras` weights: SHA-256 {'1' * 64}\n" in of.card()


def test_the_card_says_what_params_say(tmp_path):
    of = told(tmp_path, "tables", "binary")
    of.about["spec"] |= {"origin": "a\n## well", "licence": "CC0"}
    of.about["temperature"] = 1.5
    of.use = "To tell 0 from 1.\n\n## Not more"
    page = of.card()
    assert re.findall(r"(?m)^## (.*)", page) == SECTIONS
    for sentence in (
        "- Origin: a ## well",
        "- Licence: CC0",
        "To tell 0 from 1. ## Not more",
        "The model divides its logits by 1.5, ",
        "54 examples to train, 18 to choose the epoch and the temperature, 18 to test; drawn by chance.",
    ):
        assert sentence in page


def test_slices_are_shown_where_there_are_some(tmp_path):
    of = told(tmp_path, "tables", "binary")
    of.metrics["slices"] = {"colour": {"red": {"examples": 12, "value": 0.75, "low": 0.5, "high": None}}}
    page = of.card()
    assert "| colour: red | 12 | 0.750 | 0.500 to - |" in page
    assert "None were asked for" not in page


def test_the_interval_over_seeds_stands_beside_that_over_test_examples(tmp_path):
    of = told(tmp_path, "tables", "regression")
    assert "that was one seed" in of.card()
    ends = {"value": 0.25, "low": 0.125, "high": 0.375, "each": {"1": 0.3, "2": 0.2, "3": 0.25}}
    of.metrics["over_seeds"] = dict.fromkeys(of.metrics["test"], ends)
    page = of.card()
    assert re.findall(r"(?m)^## (.*)", page) == SECTIONS
    assert "Trained under 3 seeds, which draw initial weights and order on the same split:" in page
    assert "\n\n| metric | mean | 95% interval over seeds |\n|---|---|---|\n| mae | 0.250 | 0.125 to 0.375 |\n" in page
    assert "that was one seed" not in page


def test_a_card_with_an_empty_section_is_not_written(tmp_path, monkeypatch):
    of = told(tmp_path, "tables", "binary")
    for lost in ("Limits", "Metrics"):
        planted = re.sub(rf"(?s)(## {lost}\n).*?(?=\n## )", r"\1", of.card())
        monkeypatch.setattr(card, "render", lambda *_, page=planted, **__: page)
        with pytest.raises(ValueError, match=f"card of m: nothing under `{lost}`"):
            of.card()
        monkeypatch.setattr(card, "render", render)


def test_a_table_without_rows_is_an_empty_section():
    head = "## Metrics\n\n| metric | value |\n|---|---|\n"
    assert card.empty_sections(head) == ["Metrics"]
    assert card.empty_sections(f"{head}\n## Limits\n\nNone.\n") == ["Metrics"]
    assert card.empty_sections(f"{head}| accuracy | 1 |\n") == []
