"""What every refusal has in common, asked of the real commands, and refusals that are in no list."""

import subprocess
import sys
from pathlib import Path

import pytest

from bad_inputs.planting import DATASETS, NOTES, PEOPLE, PETS, both, change, copy, lines, params, remove, tree
from trainyard import cli, files

PREPARE = {
    "people": {
        "few rows": (
            lines(PEOPLE, lambda n: n < 9),
            f"{PEOPLE}: ill `no` has 2 example(s) that are neither equal nor of",
        ),
        "a leak": (
            change(PEOPLE, "20.00,green,f0", "24.00,green,f0"),
            f"{PEOPLE}: 1 finding(s) of the audit, all in reports/audits/people.json; first: the same content in ",
        ),
        "unknown param": (
            params("group", "gruop"),
            "params.yaml: datasets.people.gruop: unknown param `gruop`; did you mean",
        ),
        "two roles": (
            params("group: family", "group: ill"),
            "params.yaml: datasets.people: column `ill` is named twice, by target",
        ),
        "not validated": (
            remove("reports/data/people/verdict.json"),
            "reports/data/people/verdict.json: not found (run `dvc repro`, or the stage",
        ),
    },
    "pets": {
        "third class": (
            both(
                copy(f"{PETS}/cat/3.png", f"{PETS}/emu/3.png"),
                params("kind: images", "kind: images\n    contradicting: 1.0"),
            ),
            f"{PETS}: 3 classes (objective binary takes two; `objective: multiclass` takes more)",
        ),
    },
    "notes": {
        "misspelt column": (change(NOTES, "note", "notes"), f"{NOTES}:1: no column `note` (did you mean `notes`?)"),
    },
    "peple": {
        "unknown dataset": (lambda: None, "params.yaml: there is no dataset `peple`; did you mean `people`?"),
    },
}
CASES = [
    pytest.param(name, plant, told, id=f"{name}: {case}")
    for name, faults in PREPARE.items()
    for case, (plant, told) in faults.items()
]


@pytest.mark.parametrize(("name", "plant", "told"), CASES)
def test_prepare_refuses_and_writes_nothing(project, refuses, name, plant, told):
    plant()
    refuses(told, ["prepare", name])


@pytest.mark.parametrize("name", DATASETS)
def test_what_was_prepared_before_stays_as_it_was(project, refuses, name):
    assert cli.main(["prepare", name]) == 0
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("path: data/", "path: nowhere/"))
    refuses(f"params.yaml: datasets.{name}.path: nowhere/", ["prepare", name])
    assert (project / "build" / name / "facts.json").is_file()


def test_the_project_without_a_fault_passes(project):
    assert cli.main(["check"]) == 0
    for name in DATASETS:
        assert cli.main(["prepare", name]) == 0
        assert {path.name for path in (project / "build" / name).iterdir()} == {
            "facts.json",
            "train",
            "validation",
            "test",
        }
    assert not list(project.glob("build/.*"))


def test_a_leak_that_is_only_warned_of_does_not_stop(project):
    change(PEOPLE, "20.00,green,f0,no", "24.00,green,f0,no")()
    params("target: ill", "target: ill\n    audit: warn")()
    assert cli.main(["prepare", "people"]) == 0
    told = files.read_json(Path("reports/audits/people.json"))
    assert told["checks"]["duplicates"] == 1
    assert told["findings"][0]["told"].startswith("the same content in 2 splits: ")


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["train", "mlp"], "build/people/facts.json: not found"),
        (["evaluate", "mlp"], "build/people/facts.json: not found"),
        (["register", "mlp"], "build/people/facts.json: not found"),
        (["report"], "reports/models/mlp/scores.csv: not found"),
    ],
)
def test_a_stage_whose_inputs_are_not_there_says_which(project, refuses, command, told):
    if command == ["report"]:  # as in a fresh clone: verdicts and metrics are in git, scores are not
        (project / "reports/models/mlp").mkdir(parents=True)
        for name, text in {"verdict": "{}", "metrics": '{"dataset": "people"}'}.items():
            (project / f"reports/models/mlp/{name}.json").write_text(text)
    refuses(told, command)


def test_debug_shows_where_a_refusal_comes_from(project):
    remove("params.yaml")()
    with pytest.raises(cli.BadInput):
        cli.main(["--debug", "check"])


@pytest.mark.parametrize(
    ("arguments", "plant", "told"),
    [
        (
            ["check"],
            change("params.yaml", "epochs: 2", "epoch: 2"),
            "params.yaml: train.mlp.epoch: unknown param `epoch`; did y",
        ),
        (["prepare", "people"], change(PEOPLE, "20.33", "n/a"), f"{PEOPLE}:3: column `age`: 'n/a' is no number"),
    ],
    ids=["check", "prepare"],
)
def test_the_command_itself_says_one_line_and_exits_with_2(project, arguments, plant, told):
    plant()
    before = tree(project)
    run = subprocess.run(
        [sys.executable, "-m", "trainyard.cli", *arguments], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout) == (2, "")
    (line,) = run.stderr.splitlines()
    assert line.startswith(f"error: {told}")
    assert tree(project) == before
