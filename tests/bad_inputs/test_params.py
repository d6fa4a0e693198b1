"""params.yaml and dvc.yaml that no line should begin with: cases 76 to 80, as the commands refuse them."""

import os
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from bad_inputs.planting import both, case, params, refused, remove, tree, write
from trainyard import cli
from trainyard import params as parameters

BOMB = "a: &a [x]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in pairwise("abcdefghi"))


def knob(line):
    """One more knob of the model `mlp`."""
    return params("dataset: people, epochs: 2", f"dataset: people, epochs: 2, {line}")


REFUSED = [
    refused(
        76,
        "`epoch` for `epochs`",
        params("epochs: 2", "epoch: 2"),
        "params.yaml: train.mlp.epoch: unknown param `epoch`; did you mean `epochs`?",
    ),
    refused(
        76,
        "a misspelt section",
        params("evaluate:", "evalute:"),
        "params.yaml: evalute: unknown param `evalute`; did you mean `evaluate`?",
    ),
    refused(
        76,
        "a misspelt kind",
        params("kind: tables", "kind: table"),
        "params.yaml: datasets.people.kind: unknown name `table`; did you mean `tables`?",
    ),
    refused(
        76,
        "a metric of another objective",
        params("accuracy", "acuracy"),
        "params.yaml: evaluate.mlp.floor.acuracy: not a metric of binary; did you mean `accuracy`?",
    ),
    refused(
        76,
        "a model without its twin",
        params("  rnn: {dataset: tides}\n", ""),
        "params.yaml: evaluate.rnn: missing; train.rnn needs its twin there",
    ),
    refused(
        76,
        "a model of another kind of data",
        params("rnn, dataset: tides", "cnn, dataset: tides"),
        "params.yaml: train.rnn.dataset: `tides` is of kind series; this family takes images",
    ),
    refused(
        76, "a key that must be there", params("    target: ill\n", ""), "params.yaml: datasets.people.target: missing"
    ),
    refused(
        77,
        "a number as text",
        knob("optimizer: {learning_rate: '0.1'}"),
        "params.yaml: train.mlp.optimizer.learning_rate: input should be a valid number, got '0.1'",
    ),
    refused(
        77,
        "a count as text",
        params("window: 4", "window: '4'"),
        "params.yaml: datasets.tides.window: input should be a valid integer, got '4'",
    ),
    refused(
        77,
        "`on`, which is text in YAML 1.2",
        knob("batch_normalization: on"),
        "params.yaml: train.mlp.batch_normalization: input should be a valid boolean, got 'on'",
    ),
    refused(
        78,
        "a learning rate below 0",
        knob("optimizer: {learning_rate: -1}"),
        "params.yaml: train.mlp.optimizer.learning_rate: input should be greater than 0, got -1",
    ),
    refused(
        78,
        "a test split of all",
        params("    target: ill\n", "    target: ill\n    split: {test: 1.0}\n"),
        "params.yaml: datasets.people.split.test: input should be less than 1, got 1.0",
    ),
    refused(
        78,
        "no epochs",
        params("epochs: 2", "epochs: 0"),
        "params.yaml: train.mlp.epochs: input should be greater than or equal to 1, got 0",
    ),
    refused(
        78,
        "an empty batch",
        knob("batch_size: 0"),
        "params.yaml: train.mlp.batch_size: input should be greater than or equal to 1, got 0",
    ),
    refused(
        78,
        "not a number",
        params("accuracy: 0.5", "accuracy: .nan"),
        "params.yaml: evaluate.mlp.floor.accuracy: input should be a finite number",
    ),
    refused(78, "infinity", knob("l2: .inf"), "params.yaml: train.mlp.l2: input should be a finite number, got inf"),
    refused(
        78,
        "an end of line for a delimiter",
        params("    target: ill\n", '    target: ill\n    delimiter: "\\n"\n'),
        "params.yaml: datasets.people.delimiter: a quotation mark, a line end or NUL divides no cells",
    ),
    refused(
        79,
        "a key twice",
        params("window: 4", "window: 4\n    window: 5"),
        "params.yaml:19: no valid YAML: found duplicate key",
    ),
    refused(
        79, "a few lines of anchors for 10^9 values", params("seed: 1\n", BOMB), "params.yaml:1: `a` is an anchor or an"
    ),
    refused(
        79,
        "a block that another repeats",
        both(params("  mlp: {f", "  mlp: &mlp {f"), params("training: {}", "tune: *mlp")),
        "params.yaml:30: `mlp` is an anchor or an alias (write the value out where it is needed)",
    ),
    refused(
        79,
        "an object of Python",
        params("seed: 1", "seed: !!python/object:os.system 1"),
        "params.yaml:1: `tag:yaml.org,2002:python/object:os.system` is a tag (params are mappings, lists, text",
    ),
    refused(79, "a tab", params("  people:", "\tpeople:"), "params.yaml:3: no valid YAML: found character '\\t'"),
    refused(79, "an empty file", write("params.yaml", b""), "params.yaml: expected a mapping with datasets"),
    refused(79, "a list", write("params.yaml", b"- seed: 1\n"), "params.yaml: expected a mapping with datasets, train"),
    refused(
        79,
        "100,000 brackets",
        write("params.yaml", b"seed: " + b"[" * 100_000),
        "params.yaml:1: a value within 50 others",
    ),
    refused(
        79, "a megabyte", write("params.yaml", b"#" * 1_000_001), "params.yaml: 1,000,001 bytes (at most 1,000,000)"
    ),
    refused(79, "a byte that is not UTF-8", write("params.yaml", b"seed: \xff"), "params.yaml: not UTF-8 at byte 6"),
    refused(
        79,
        "half a surrogate pair",
        params("seed: 1", 'seed: "\\ud800"'),
        "params.yaml:1: half a surrogate pair, which is",
    ),
    refused(79, "no file", remove("params.yaml"), "params.yaml: not found (run from the project's folder)"),
]


@pytest.mark.parametrize(("plant", "told", "verbs"), REFUSED)
def test_bad_params_are_refused_whatever_is_asked(project, refuses, plant, told, verbs):
    plant()
    refuses(told, ["check"], *([verb, "notes"] for verb in verbs))


CHECKED = [
    refused(
        1,
        "a path of params.yaml that leads nowhere",
        params("data/people.csv", "data/peple.csv"),
        "params.yaml: datasets.people.path: data/peple.csv: not found",
    ),
    refused(
        80,
        "params.yaml without a section that dvc.yaml reads",
        params("training: {}\n", ""),
        "params.yaml: training: missing (dvc.yaml draws its stages from it; an empty one is `{}`)",
    ),
    refused(
        80,
        "a name that leads out of the project",
        params("\n  calls:\n", "\n  ../calls:\n"),
        "params.yaml: datasets.../calls: a name is made of small letters, digits, - and _",
    ),
    refused(
        80,
        "an output outside of the project, which DVC notices once its command has run",
        write("dvc.yaml", "stages:\n  far:\n    foreach: ${train}\n    do: {cmd: trainyard train, outs: [../far]}\n"),
        "dvc.yaml: stages.far: output ../far lies outside of the project",
    ),
    refused(
        80,
        "a dvc.yaml that is none",
        write("dvc.yaml", "stages: [train]\n"),
        "dvc.yaml: no pipeline of DVC (no valid YAML, or no mapping of `stages`)",
    ),
]


@pytest.mark.parametrize(("plant", "told", "verbs"), CHECKED)
def test_check_refuses_what_dvc_would_stumble_over(project, refuses, plant, told, verbs):
    plant()
    refuses(told, ["check"])


@pytest.mark.bad_input(
    number=83, what="a model's name with `/` or `:`", then="exit 2: `a name is made of small letters, digits, - and _`"
)
@pytest.mark.parametrize("name", ["a/b", "a:b"])
def test_a_name_that_the_registry_would_not_take_is_refused(project, capsys, name):
    both(params("\n  cnn: {f", f"\n  {name}: {{f"), params("\n  cnn: {d", f"\n  {name}: {{d"))()
    assert cli.main(["check"]) == 2
    told = "error: params.yaml: {}.{}: a name is made of small letters, digits, - and _"
    assert capsys.readouterr().err.splitlines() == [told.format(section, name) for section in ("train", "evaluate")]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        case(
            77, "`1e-3`, which is text in YAML 1.1", "l2: 1e-3", ("l2", 0.001), then="taken as 0.001, as DVC reads it"
        ),
        case(77, "`012`, which is 10 in YAML 1.1", "epochs: 012", ("epochs", 12), then="taken as 12, as DVC reads it"),
    ],
)
def test_numbers_are_those_that_dvc_reads(project, line, value):
    params("epochs: 2}", f"{line}}}")()
    assert getattr(parameters.load().train["mlp"], value[0]) == value[1]
    from dvc.utils.serialize import load_yaml

    assert load_yaml("params.yaml")["train"]["mlp"][value[0]] == value[1]


# === What DVC itself refuses: exit code 255, and nothing has run ===

STAGE = "stages:\n  one: {cmd: touch ran, outs: [a]}\n"
LOCKED = (
    "schema: '2.0'\nstages:\n  one: {cmd: touch ran, outs: [{path: a, hash: md5, md5: 0cc175b9c0f1b6a8, size: 1}]}\n"
)
PIPELINES = [
    (
        "a parameter that is not there",
        {"dvc.yaml": f"{STAGE[:-2]}, params: [nosuch]}}\n", "params.yaml": "seed: 1\n"},
        "Parameters 'nosuch' are missing",
    ),
    ("`${nosuch}`", {"dvc.yaml": STAGE.replace("touch ran", "'touch ${nosuch}'")}, "Could not find 'nosuch'"),
    (
        "a cycle",
        {"dvc.yaml": f"{STAGE[:-2]}, deps: [b]}}\n  two: {{cmd: touch ran, deps: [a], outs: [b]}}\n"},
        "both a dependency and an output",
    ),
    ("two stages with the same output", {"dvc.yaml": f"{STAGE}  two: {{cmd: touch ran, outs: [a]}}\n"}, "output 'a'"),
    ("an output within another", {"dvc.yaml": f"{STAGE}  two: {{cmd: touch ran, outs: [a/b]}}\n"}, "overlap"),
    ("a stage without a command", {"dvc.yaml": "stages:\n  one: {outs: [a]}\n"}, "required key not provided"),
    (
        "an object of Python",
        {"dvc.yaml": STAGE.replace("touch ran", "!!python/object:os.system 1")},
        "Could not determine a constructor",
    ),
    ("half a dvc.lock", {"dvc.yaml": STAGE, "dvc.lock": LOCKED[: len(LOCKED) // 2]}, "'./dvc.lock' is invalid"),
    (
        "a dvc.lock that a merge left in conflict",
        {"dvc.yaml": STAGE, "dvc.lock": LOCKED.replace("stages:", "<<<<<<< HEAD\nstages:\n=======\n>>>>>>> other")},
        "possible merge conflicts",
    ),
    ("an empty dvc.lock", {"dvc.yaml": STAGE, "dvc.lock": ""}, "'./dvc.lock' validation failed"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("written", "told"),
    [case(80, what, written, told, then="DVC: exit 255, and nothing has run") for what, written, told in PIPELINES],
)
def test_dvc_refuses_a_bad_pipeline_before_anything_runs(here, written, told):
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(here / "site")}

    def dvc(*arguments):
        return subprocess.run(["dvc", *arguments], env=environment, capture_output=True, text=True, check=False)

    assert dvc("init", "--no-scm", "--quiet").returncode == 0
    for name, text in written.items():
        Path(name).write_text(text)
    before = tree(here)
    done = dvc("repro")
    assert done.returncode == 255
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path("ran").exists()
    assert {name: tree(here).get(name) for name in written} == {name: before[name] for name in written}
