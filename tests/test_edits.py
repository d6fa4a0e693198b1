"""Knobs written into params.yaml: comments stay, no other byte changes, and what cannot be written is refused."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from trainyard import edits, params
from trainyard.errors import BadInput

SHIPPED = (Path(__file__).parents[1] / "params.yaml").read_text()


def changed(text, *edit):
    Path("params.yaml").write_bytes(text.encode())
    edits.write(*edit)
    return Path("params.yaml").read_bytes().decode()


def assert_only(text, new, name):
    """Only lines of one block changed."""
    before, after = text.split("\n"), new.split("\n")
    start = next(place for place, line in enumerate(before) if line.startswith(f"  {name}:"))
    assert after[: start + 1] == before[: start + 1]
    tail = next(place for place in range(start + 1, len(before)) if not before[place].startswith("    "))
    assert after[len(after) - (len(before) - tail) :] == before[tail:]


@pytest.mark.parametrize("name", ["mlp", "cnn", "rnn", "rnn-text", "rnn-speech", "cnn-pictograms", "mobilenet"])
def test_each_shipped_block_takes_other_knobs(here, name):
    section = "finetune" if name == "mobilenet" else "train"
    knobs = {"optimizer.name": "sgd", "optimizer.learning_rate": 0.00001234, "batch_size": 48, "plateau.patience": 3}
    knobs |= {} if section == "finetune" else {params.WIDTHS[params.parse(raw(SHIPPED)).model(name).family]: [5, 6]}
    knobs["optimizer"] = {"name": "sgd", "learning_rate": 0.01, "momentum": 0.5}
    new = changed(SHIPPED, section, name, knobs)
    assert_only(SHIPPED, new, name)
    found = raw(new)[section][name]
    assert found["optimizer"] == {"name": "sgd", "learning_rate": 0.01, "momentum": 0.5}
    assert found["batch_size"] == 48
    assert found["plateau"] == {"patience": 3}
    assert params.load().model(name).batch_size == 48
    for comment in ("# the lesson's network", "# hears number words alone", "# augmented ones"):
        assert new.count(comment) == 1


def raw(text):
    return YAML(typ="safe").load(text)


def test_the_same_value_changes_no_byte(here):
    assert changed(SHIPPED, "train", "mlp", {"layers": [64, 32], "optimizer.learning_rate": 0.002}) == SHIPPED


def test_a_block_of_one_line_and_windows_line_ends_and_another_indent(here):
    text = (
        "datasets:\n    d: {kind: tables, objective: binary, path: t.csv, target: y}\n"
        "train:\n    one: {family: mlp, dataset: d, epochs: 3}   # of one line\n"
        "    two:   # of more\n\n        family: mlp\n        dataset: d\n        layers:\n            - 3   # few\n\n"
        "    # of evaluate\nevaluate:\n    one: {dataset: d}\n    two: {dataset: d}\n"
    ).replace("\n", "\r\n")
    new = changed(text, "train", "one", {"dropout": 0.25})
    assert new == text.replace("epochs: 3}", "epochs: 3, dropout: 0.25} #").replace("#   # of one", "# of one")
    new = changed(text, "train", "two", {"layers": [8, 4], "optimizer.name": "sgd"})
    expected = "        layers: [8, 4]\r\n        optimizer: {name: sgd}\r\n\r\n    # of evaluate"
    assert new == text.replace("        layers:\r\n            - 3   # few\r\n\r\n    # of evaluate", expected)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("train: {m: {family: mlp, dataset: d}}\n", "cannot be changed as it is written"),
        ("train:\n  m: {family: mlp,\n  dataset: d}\n", "cannot be changed as it is written"),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_is(here, text, told):
    head = "datasets:\n  d: {kind: tables, objective: binary, path: t.csv, target: y}\n"
    text = f"{head}{text}evaluate: {{m: {{dataset: d}}}}\n"
    with pytest.raises(BadInput, match=told):
        changed(text, "train", "m", {"dropout": 0.5})
    assert Path("params.yaml").read_text() == text
    told = raw(edits.block("train", "m", {"dropout": 0.5}))["train"]["m"]
    assert told == {"family": "mlp", "dataset": "d", "dropout": 0.5}, "to be pasted by hand"


def test_knobs_that_the_block_refuses_are_not_written(here):
    with pytest.raises(BadInput, match=r"train\.mlp\.dropout"):
        changed(SHIPPED, "train", "mlp", {"dropout": 1.5})
    assert Path("params.yaml").read_text() == SHIPPED
