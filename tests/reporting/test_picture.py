"""The picture of the line, against DVC's own graph of the line that ships, and of lines that a user may make of it."""

import re
import shutil
from itertools import combinations
from pathlib import Path

import pytest

from trainyard import params
from trainyard.reporting import picture

ROOT = Path(__file__).parents[2]


def boxes(drawn):
    """Name of each stage with its place."""
    found = re.findall(r'translate\((\d+) ([\d.]+)\)">.*?<text[^>]*>(.*?)</text>.*?class="name">(.*?)</text>', drawn)
    return {f"{verb}@{name}" if verb else name: (float(x), float(y)) for x, y, verb, name in found}


@pytest.fixture
def shipped(here):
    shutil.copy(ROOT / "dvc.yaml", here)
    return picture.stages(params.load(ROOT / "params.yaml"))


def test_the_stages_are_those_of_dvc(shipped, here):
    from dvc.repo import Repo

    shutil.copy(ROOT / "params.yaml", here)
    with Repo.init(no_scm=True) as repo:
        graph = repo.index.graph
        waits = {stage.addressing: {one.addressing for one in graph.successors(stage)} for stage in graph}
    assert shipped.keys() == waits.keys()
    for stage, before in shipped.items():
        behind = set().union(*(picture._before({other}, waits) for other in before))
        assert before <= waits[stage]
        assert waits[stage] <= before | behind, "what was left out follows from the rest"
        assert not before & behind, "what follows from the rest was left out"
    assert shipped["report"] == {f"register@{name}" for name in params.load(ROOT / "params.yaml").evaluate}
    assert shipped["finetune@mobilenet"] == {"backbone@mobilenet", "prepare@pictograms"}


def apart(drawn):
    found = boxes(drawn)
    wide, high = picture.BOX
    return all(
        abs(one[0] - other[0]) >= wide or abs(one[1] - other[1]) >= high
        for one, other in combinations(found.values(), 2)
    )


def test_every_stage_stands_after_those_that_it_waits_for_and_none_on_another(shipped):
    drawn = picture.drawn(shipped, {"register@mlp": ("champion", "good"), "validate@digits": ("<b>", "")})
    found = boxes(drawn)
    assert found.keys() == shipped.keys()
    for stage, before in shipped.items():
        assert all(found[other][0] + picture.BOX[0] < found[stage][0] for other in before)
    assert found["backbone@mobilenet"][0] == found["prepare@digits"][0], "as late as what waits for it allows"
    assert found["evaluate@mlp"][1] == found["validate@tumours"][1], "a model stands in the row of its data"
    assert apart(drawn)
    assert drawn.count('class="track"') == sum(map(len, shipped.values()))
    assert '<g class="stage good"' in drawn
    assert "&lt;b&gt;" in drawn
    order = "validate, then prepare and backbone, then train and finetune, then evaluate, then register, then report"
    assert f"<title>{len(shipped)} stages: {order}</title>" in drawn


def test_two_boxes_on_one_place_would_be_found(shipped):
    assert not apart(picture.drawn(shipped, {}).replace(f"translate({picture.STEP[0] + 1} ", "translate(1 "))


@pytest.mark.parametrize("models", [("a",), ("a", "b", "c")])
def test_models_fine_tuned_on_the_same_data_stand_apart(here, models):
    shutil.copy(ROOT / "dvc.yaml", here)
    block = {"family": "mobilenet", "dataset": "d", "backbone": {}}
    made = params.parse(
        {
            "datasets": {name: {"kind": "images", "objective": "multiclass", "path": name} for name in "dx"},
            "finetune": dict.fromkeys(models, block),
            "evaluate": {name: {"dataset": "d"} for name in models},
        }
    )
    line = picture.stages(made)
    assert "prepare@x" in line["report"], "data without a model"
    drawn = picture.drawn(line, {})
    assert boxes(drawn).keys() == line.keys()
    assert apart(drawn)


def test_stages_that_a_user_adds_are_drawn_too(here):
    more = """
  tell:
    foreach: [one, two]
    do:
      cmd: tell ${item}
      deps: [report/report.md, "${unknown}"]
      outs: ["told/${key}"]
  sum: {cmd: sum, deps: [told]}
"""
    (here / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text() + more)
    line = picture.stages(params.load(ROOT / "params.yaml"))
    assert line["tell@one"] == line["tell@two"] == {"report"}
    assert line["sum"] == {"tell@one", "tell@two"}
    assert apart(picture.drawn(line, {}))


def test_without_dvc_there_is_no_picture(here):
    assert picture.stages(params.load(ROOT / "params.yaml")) == {}
