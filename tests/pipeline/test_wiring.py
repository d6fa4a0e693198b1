"""dvc.yaml says of each stage which code shapes its outputs; the imports say what it runs. They must agree."""

from pathlib import Path

import grimp
import pytest
from ruamel.yaml import YAML

from trainyard import params

ROOT = Path(__file__).parents[2]
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
SHIPPED = params.load(ROOT / "params.yaml")

# imported, but shapes no output of the stage: what shows a training, and what kinds offer to `evaluate` alone; and what
# `evaluate` trains with under other seeds, as models/MODEL is another one wherever that is
SHOWS_ONLY = {
    "validate": {"figures", "quality.baselines", "quality.importance"},
    "prepare": {"figures", "quality.baselines", "quality.importance"},
    "backbone": {"kinds"},
    "train": {"figures", "quality.baselines", "quality.importance", "tracking"},
    "finetune": {"figures", "quality.baselines", "quality.importance", "tracking"},
    "evaluate": {f"training.{name}" for name in ("engine", "finetune", "fit", "package", "precision", "resume")},
    "register": {"figures", "quality.importance"},
    "report": {"quality.baselines"},
}


def blocks(stage: str) -> dict[str, params.Spec]:
    """The params block of each stage that a `foreach` makes, by key."""
    source = str(STAGES[stage].get("foreach", "")).strip("${}")
    return getattr(SHIPPED, source) if source else {"": SHIPPED}


def by_name(stage: str, key: str) -> set[str]:
    """Modules that a stage finds by a name in params, which no import shows."""
    if stage in ("validate", "prepare"):
        return {f"kinds.{SHIPPED.dataset(key).kind}"}
    if stage in ("train", "finetune"):
        return {f"kinds.{spec.kind}" for spec in SHIPPED.datasets.values()} | {f"models.{SHIPPED.model(key).family}"}
    if stage in ("evaluate", "register"):
        return {f"kinds.{spec.kind}" for spec in SHIPPED.datasets.values()}
    return {"models.mobilenet"} if stage == "backbone" else set()


def runs(graph: grimp.ImportGraph, stage: str, key: str) -> set[str]:
    """Modules that a stage imports, and those they import, but for what shapes no output."""
    left_out = {f"trainyard.{module}" for module in SHOWS_ONLY.get(stage, set())}
    found: set[str] = set()
    ahead = {f"trainyard.stages.{stage}"} | {f"trainyard.{module}" for module in by_name(stage, key)}
    while ahead:
        module = ahead.pop()
        if (
            module in found
            or module == "trainyard"
            or any(module == out or module.startswith(f"{out}.") for out in left_out)
        ):
            continue
        found.add(module)
        ahead |= graph.find_modules_directly_imported_by(module)
        ahead |= {module.rpartition(".")[0]} if module.count(".") > 1 and has_code(module.rpartition(".")[0]) else set()
    return {str(path(module)) for module in found}


def path(module: str) -> Path:
    base = Path("src", *module.split("."))
    return base / "__init__.py" if (ROOT / base).is_dir() else base.with_suffix(".py")


def has_code(package: str) -> bool:
    return "import " in (ROOT / path(package)).read_text()


def declared(stage: str, key: str) -> dict[str, set[str]]:
    """Each dependency on code that dvc.yaml names, with the Python files it stands for."""
    body = STAGES[stage].get("do", STAGES[stage])
    block = blocks(stage)[key]
    named = {}
    for dependency in body["deps"]:
        text = dependency.replace("${key}", key)
        for field in ("kind", "family", "dataset", "path"):
            text = text.replace(f"${{item.{field}}}", str(getattr(block, field, "")))
        found = ROOT / text
        if text.startswith("src/") and (
            found.suffix == ".py" or list(found.rglob("*.py"))
        ):  # code, not templates or weights
            files = found.rglob("*.py") if found.is_dir() else [found]
            named[text] = {str(file.relative_to(ROOT)) for file in files}
    return named


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("trainyard", cache_dir=None)


CASES = [(stage, key) for stage in STAGES for key in blocks(stage)]


@pytest.mark.parametrize(("stage", "key"), CASES)
def test_a_stage_declares_all_code_that_it_runs(graph, stage, key):
    missing = runs(graph, stage, key) - set().union(*declared(stage, key).values())
    assert not missing, f"dvc.yaml: {stage} does not depend on {sorted(missing)}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_no_code_that_it_does_not_run(graph, stage):
    run = set().union(*(runs(graph, stage, key) for key in blocks(stage)))
    for key in blocks(stage):
        for dependency, stands_for in declared(stage, key).items():
            assert stands_for & run, f"dvc.yaml: {stage} does not run {dependency}"


def test_touching_a_family_reruns_its_models_alone(graph):
    touched = {
        key for key in SHIPPED.train if "src/trainyard/models/mlp.py" in set().union(*declared("train", key).values())
    }
    assert touched == {key for key, spec in SHIPPED.train.items() if spec.family == "mlp"}
    for stage in ("validate", "prepare", "evaluate", "report"):
        assert all(
            "src/trainyard/models/mlp.py" not in set().union(*declared(stage, key).values()) for key in blocks(stage)
        )


@pytest.mark.parametrize("stage", ["train", "finetune"])
def test_a_model_depends_on_the_block_by_which_it_reads_raw_rows(stage):
    assert "datasets.${item.dataset}" in STAGES[stage]["do"]["params"]


def test_a_missing_dependency_would_be_found(graph, monkeypatch):
    body = STAGES["prepare"]["do"]
    monkeypatch.setitem(body, "deps", [dependency for dependency in body["deps"] if "leaks" not in dependency])
    with pytest.raises(AssertionError, match="leaks"):
        test_a_stage_declares_all_code_that_it_runs(graph, "prepare", next(iter(SHIPPED.datasets)))
