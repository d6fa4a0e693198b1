"""What stands beside the code: the data and its scripts, README, and the gates of `make check`, each with a fault."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fake_gh import FakeGh
from ruamel.yaml import YAML

from trainyard import cli, params

ROOT = Path(__file__).parents[1]
FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")


def run(*command, cwd, **environment):
    paths = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **paths, **environment}, capture_output=True, text=True, check=False
    )


def tree(path):
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path.parent).as_posix(): file.read_bytes() for file in files}


@pytest.mark.parametrize(
    ("script", "made"),
    [
        ("make_tumours.py", "tumours.csv"),
        ("make_digits.py", "digits"),
        ("make_climate.py", "climate.csv"),
        ("make_phrases.py", "phrases.csv"),
        pytest.param("make_spoken.py", "spoken", marks=pytest.mark.slow),
        ("make_phrases.py", "phrases.LICENSE.txt"),
        pytest.param(
            "make_pictograms.py",
            "pictograms",
            marks=pytest.mark.skipif(not FONT.is_file(), reason="fonts-noto-color-emoji is not installed"),
        ),
    ],
)
def test_the_data_that_ships_is_what_its_script_makes(tmp_path, script, made):
    done = run(sys.executable, ROOT / "scripts" / script, "--out", tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert tree(tmp_path / made) == tree(ROOT / "data" / made)


def test_the_params_in_the_readme_are_valid():
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(params.parse(YAML(typ="safe").load(block)).models) == 5


@pytest.mark.parametrize("planted", ["tool @ https://packages.example/tool.whl", "--no-binary :all:"])
def test_a_lock_that_names_a_host_or_an_option_is_refused(tmp_path, planted):
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    with (tmp_path / "requirements/gpu.lock").open("a") as lock:
        lock.write(f"{planted}\n")
    done = run(ROOT / "scripts/check_lock.sh", cwd=tmp_path)
    assert done.returncode == 1
    assert "a lock must name no host" in done.stderr


def test_a_schema_that_is_not_that_of_the_types_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["schema", "--check"]) == 2
    assert cli.main(["schema"]) == 0
    assert cli.main(["schema", "--check"]) == 0
    schema = tmp_path / "params.schema.json"
    assert schema.read_bytes() == (ROOT / "params.schema.json").read_bytes()
    schema.write_text(schema.read_text().replace("horizon", "horizn", 1))
    assert cli.main(["schema", "--check"]) == 2


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("kinds/tables.py", "import mlflow", "Only tracking knows MLflow"),
        ("stages/report.py", "import dvc", "Only cache and line know DVC"),
        ("quality/gate.py", "import keras", "Quality is pure"),
        ("models/mlp.py", "import tensorflow", "Models are Keras alone"),
        ("params.py", "from trainyard import kinds", "Imports run one way"),
    ],
)
def test_an_import_that_runs_the_wrong_way_is_refused(tmp_path, module, line, contract):
    shutil.copytree(ROOT / "src", tmp_path / "src")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    planted = tmp_path / "src/trainyard" / module
    planted.write_text(f"{planted.read_text()}\n{line}\n")
    done = run("lint-imports", "--no-logo", "--no-cache", cwd=tmp_path, PYTHONPATH=str(tmp_path / "src"))
    assert done.returncode == 1
    assert re.search(rf"{contract}.* BROKEN", done.stdout)


# === Workflows ===


def gates(program):
    """Those lines of `make check` that start a program."""
    told = run("make", "--dry-run", "check", cwd=ROOT).stdout.splitlines()
    return [line for line in told if line.startswith(f"{program} ")]


def verdict(program, place):
    """Whether they refuse the workflows of a place, and what they say."""
    done = [run("bash", "-c", command, cwd=place) for command in gates(program)]
    assert done
    return any(one.returncode for one in done), "".join(one.stdout + one.stderr for one in done)


@pytest.mark.parametrize("program", ["zizmor", "check-jsonschema"])
def test_the_workflows_that_ship_pass(program):
    assert not verdict(program, ROOT)[0]


@pytest.mark.parametrize(
    ("program", "old", "new", "told"),
    [
        ("zizmor", "- run: make check", "- run: echo ${{ github.event.head_commit.message }}", "template-injection"),
        ("zizmor", r"@[0-9a-f]{40} # (v[0-9.]+)", r"@\1", "unpinned-uses"),
        ("zizmor", "permissions: {}", "permissions: write-all", "excessive-permissions"),
        ("zizmor", "  pull_request:", "  pull_request_target:", "dangerous-triggers"),
        ("zizmor", "persist-credentials: false", "persist-credentials: true", "artipacked"),
        ("zizmor", "runs-on: ubuntu-24.04", "runs-on: [self-hosted, gpu]", "self-hosted"),
        ("zizmor", "jobs:\n", "jobs: [\n", "failed to load"),
        ("check-jsonschema", "timeout-minutes: 15", "timeout-mins: 15", "timeout-mins"),
        ("check-jsonschema", "    timeout-minutes: 15\n", "", "timeout-minutes"),
        ("check-jsonschema", "contents: read", "contents: reed", "reed"),
        ("check-jsonschema", "jobs:\n", "jobs: [\n", "Failed to parse"),
    ],
)
def test_a_fault_in_a_workflow_is_refused(tmp_path, program, old, new, told):
    shutil.copytree(ROOT / ".github", tmp_path / ".github")
    workflow = tmp_path / ".github/workflows/ci.yml"
    planted = re.sub(old, new, workflow.read_text(), count=1)
    assert planted != workflow.read_text()
    workflow.write_text(planted)
    refused, said = verdict(program, tmp_path)
    assert refused
    assert told in said


# === A tag and what it publishes ===


@pytest.mark.parametrize(
    ("tag", "heading", "told"),
    [
        ("v0.1.0", "## [0.1.0] - 2026-11-26", ""),
        ("v0.2.0", "## [0.2.0] - 2026-11-26", "the tag is v0.2.0, but pyproject.toml has version 0.1.0"),
        ("v0.1.0", "## [Unreleased]", "no heading `## [0.1.0]`"),
    ],
)
def test_tag_version_and_changelog_must_agree(tmp_path, tag, heading, told):
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "trainyard"\nversion = "0.1.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n{heading}\n")
    done = run(ROOT / "scripts/check_tag.sh", cwd=tmp_path, GITHUB_REF_TYPE="tag", GITHUB_REF_NAME=tag)
    assert (done.returncode, bool(done.stderr)) == ((1, True) if told else (0, False))
    assert told in done.stderr
    done = run(ROOT / "scripts/check_tag.sh", cwd=tmp_path, GITHUB_REF_TYPE="branch", GITHUB_REF_NAME=tag)
    assert done.returncode == 0


def test_a_release_tells_what_the_changelog_tells_of_it(tmp_path):
    gh = FakeGh(tmp_path / "gh")
    shutil.copy(ROOT / "Makefile", tmp_path)
    changes = {"Unreleased": "- next", "0.2.0] - 2026-11-26": "### Added\n\n- this", "0.1.0] - 2026-01-01": "- before"}
    text = "".join(f"## [{heading}{'' if ']' in heading else ']'}\n\n{told}\n\n" for heading, told in changes.items())
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n{text}")
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "a.whl").touch()
    done = run("make", "release", cwd=tmp_path, GITHUB_REF_NAME="v0.2.0", PATH=gh.path)
    assert done.returncode == 0, done.stderr
    (((tag, file, *_), told),) = gh.asked("release", "create")
    assert (tag, file, told.strip()) == ("v0.2.0", "dist/a.whl", "### Added\n\n- this")
