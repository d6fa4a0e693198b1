"""docs/reliability.md is what the marks of the tests say."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPT = "scripts/make_reliability.py"


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, folder / SCRIPT, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_page_is_what_the_tests_say():
    done = run(ROOT, "--check")
    assert done.returncode == 0, done.stderr


def test_every_bad_input_of_the_list_has_its_test():
    text = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    listed = text.partition("<!-- table of bad_input -->")[2].partition("<!-- end -->")[0]
    assert "Not tested" not in listed
    assert {int(number) for number in re.findall(r"^\| (\d+) \|", listed, re.MULTILINE)} == set(range(1, 85))


def test_a_page_that_is_not_what_the_tests_say_is_refused(tmp_path):
    for name in ("scripts", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_one.py").write_text(
        "import pytest\n\n"
        "@pytest.mark.bad_input(number=7, what='a | b', then='refused')\n"
        "@pytest.mark.fault(number=3, what='a crash', then='all is well')\n"
        "def test_one():\n    raise AssertionError\n"
    )
    done = run(tmp_path, "--check")
    assert done.returncode == 1
    assert done.stderr == f"docs/reliability.md: not what the tests say (run {SCRIPT})\n"
    assert run(tmp_path).returncode == 0
    assert run(tmp_path, "--check").returncode == 0
    text = (tmp_path / "docs/reliability.md").read_text(encoding="utf-8")
    assert "| 7 | a \\| b | refused |\n\nNot tested: 1, 2, " in text
    assert "| 3 | a crash | all is well |\n\nNot tested: 1, 2, 4, 5," in text
