"""docs/serving.md: its knobs are the defaults, and each of its requests is one that a shipped model takes."""

import json
import re
import shlex
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from trainyard import cli, kinds, params
from trainyard.kinds import delimited
from trainyard.params import Keep, Serve

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/serving.md").read_text(encoding="utf-8")
SHIPPED = params.load(ROOT / "params.yaml")
BLOCKS = {language: re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) for language in ("sh", "yaml")}
LINES = "\n".join(BLOCKS["sh"]).replace("\\\n", " ").splitlines()


def test_the_knobs_that_are_shown_are_the_defaults():
    limits, keep = (YAML(typ="safe").load(block)["serve"] for block in BLOCKS["yaml"])
    assert Serve(**{**limits, "megabytes": None, "seconds": float(limits["seconds"])}) == Serve()
    assert Keep(**{**keep["keep"], "megabytes": float(keep["keep"]["megabytes"])}) == Keep()
    assert set(limits) | {"keep"} == set(Serve.model_fields)


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("trainyard ")])
def test_each_command_is_one(line):
    asked = cli._parser().parse_args(shlex.split(line, comments=True)[1:])
    if asked.verb == "serve":
        assert {re.split("[@/]", name)[0] for name in asked.names} <= set(SHIPPED.models)
    else:
        model = Path(asked.path).parts[2]
        assert SHIPPED.model(model).dataset == asked.name


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("curl ") and "/models/" in line])
def test_each_request_is_one_that_its_model_takes(line):
    words = shlex.split(line)
    name, route = re.search(r"localhost:8000/models/([\w-]+)/(\w+)", line).groups()
    assert route in ("answers", "explanation")
    spec = SHIPPED.dataset(SHIPPED.model(name).dataset)
    if "-d" in words:
        (column,) = {column for row in json.loads(words[words.index("-d") + 1])["rows"] for column in row}
        assert column == spec.text
        return
    files = [ROOT / word.removeprefix("file=@") for word in words if word.startswith("file=@")]
    assert files
    for file in files:
        assert file.is_relative_to(ROOT / spec.path)
        if spec.kind in ("images", "speech"):
            assert file.suffix in kinds.of(spec).SUFFIXES
            assert file.is_file()
        else:
            assert len(delimited.read(file, spec.delimiter)) <= Serve().rows
