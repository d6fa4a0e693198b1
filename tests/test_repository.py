"""What stands beside the code: the data and its scripts, README, and the gates of `make check`, each with a fault."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
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
        ("make_spoken.py", "spoken"),
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
        ("stages/report.py", "import dvc", "only cache knows DVC"),
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


def test_a_workflow_that_runs_what_a_stranger_wrote_is_refused(tmp_path):
    shutil.copytree(ROOT / ".github", tmp_path / ".github")
    workflow = tmp_path / ".github/workflows/ci.yml"
    workflow.write_text(
        workflow.read_text().replace("- run: make check", "- run: echo ${{ github.event.head_commit.message }}")
    )
    audit = ("zizmor", "--offline", "--strict-collection", "--persona", "auditor", "--no-progress", "--quiet")
    done = run(*audit, ".github/workflows", cwd=tmp_path)
    assert done.returncode != 0
    assert "template-injection" in done.stdout + done.stderr
