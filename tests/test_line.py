"""DVC asked what has to run, and stages side by side, in projects whose stages are shell commands."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trainyard import cli, line

PIPELINE = """\
stages:
  b:
    cmd: sleep {b} && cat data.txt code.py > b.txt
    deps: [data.txt, code.py]
    outs: [b.txt]
  a:
    cmd: sleep {a} && cat data.txt code.py > a.txt
    deps: [data.txt, code.py]
    params: [knob]
    outs: [a.txt]
  join:
    cmd: cat a.txt b.txt > join.txt
    deps: [a.txt, b.txt]
    outs: [join.txt]
  alone:
    cmd: echo alone > alone.txt
    deps: [code.py]
    outs: [alone.txt: {{cache: false}}]
  report:
    cmd: ls folder > report.txt
    deps: [folder, join.txt]
    outs: [report.txt]
"""


def run(*command, expect=0):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def dvc(*arguments, expect=0):
    return run(sys.executable, "-m", "dvc", *arguments, expect=expect)


def write(text, a=0, b=0):
    Path("dvc.yaml").write_text(text.format(a=a, b=b))


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A project of DVC whose line has not run."""
    folder = tmp_path_factory.mktemp("template")
    (folder / "folder").mkdir()
    files = {"data.txt": "1\n", "code.py": "code\n", "folder/kept": "x", "params.yaml": "knob: 1\n"}
    for file, text in {**files, "dvc.yaml": PIPELINE.format(a=0, b=0)}.items():
        (folder / file).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run("git", "init", "-q")
        dvc("init", "-q")
    return folder


@pytest.fixture(scope="module")
def cloned(template, tmp_path_factory):
    """A fresh clone of a project whose line has run: of what dvc.lock names there is only what git holds."""
    origin, clone = (tmp_path_factory.mktemp(name) for name in ("origin", "clone"))
    shutil.copytree(template, origin, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(origin)
        run("git", "add", "-A")
        Path("folder", "not-in-git").write_text("the rest of a folder that git has a part of")
        dvc("repro", "-q")
        run("git", "add", "dvc.lock", "alone.txt")
        run("git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "the line has run")
        run("git", "clone", "-q", origin, clone)
    assert not (clone / "a.txt").exists()
    return clone


@pytest.fixture
def project(template, tmp_path, monkeypatch):
    def make(name, **seconds):
        shutil.copytree(template, tmp_path / name)
        monkeypatch.chdir(tmp_path / name)
        write(PIPELINE, **seconds)

    return make


@pytest.fixture
def clone(cloned, tmp_path, monkeypatch):
    shutil.copytree(cloned, tmp_path / "clone")
    monkeypatch.chdir(tmp_path / "clone")


def test_a_clone_that_holds_what_the_lock_tells_of_has_nothing_to_run(clone):
    assert "'report'" in dvc("repro", "--dry", "--allow-missing", expect=255)  # DVC itself wants the files
    assert line.changed() == []


@pytest.mark.parametrize(
    ("file", "text", "stages"),
    [
        ("params.yaml", "knob: 2\n", ["a", "join", "report"]),
        ("data.txt", "2\n", ["b", "a", "join", "report"]),
        ("code.py", "other\n", ["b", "a", "join", "report", "alone"]),
        ("alone.txt", "by hand\n", ["alone"]),
    ],
)
def test_what_data_params_and_code_leave_behind_is_found(clone, file, text, stages):
    Path(file).write_text(text)
    assert sorted(line.changed()) == sorted(stages)


def test_a_command_that_changed_is_found(clone):
    write(PIPELINE, a=1)
    assert line.changed() == ["a", "join", "report"]


def test_the_stages_are_in_the_order_in_which_dvc_runs_them(project):
    project("order")
    told = dvc("repro")
    ran = [text.split("'")[1] for text in told.splitlines() if text.startswith("Running stage")]
    for out in ("a.txt", "b.txt", "join.txt", "alone.txt", "report.txt"):
        Path(out).unlink()
    Path("dvc.lock").unlink()
    assert line.changed() == ran


def test_github_is_told_in_a_word(tmp_path, clone, monkeypatch, capsys):
    monkeypatch.setattr(cli.params, "load", lambda: None)
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    assert cli.main(["changed"]) == 0
    Path("params.yaml").write_text("knob: 2\n")
    assert cli.main(["changed"]) == 0
    assert (tmp_path / "output").read_text() == "changed=false\nchanged=true\n"
    assert capsys.readouterr().out == "a\njoin\nreport\n"


def test_stages_side_by_side_leave_the_lock_of_one_repro(project, capfd):
    project("serial")
    dvc("repro", "-q")
    lock = Path("dvc.lock").read_bytes()
    project("parallel", b=1)  # begins first and ends last
    assert line.side_by_side(2) == 0
    written = Path("dvc.lock").read_text().replace("sleep 1 &&", "sleep 0 &&").encode()
    assert written == lock
    told = capfd.readouterr().err
    assert "join: Running stage 'join'" in told
    assert told.index("a: Running") < told.index("join: Running")


def test_the_lock_keeps_its_old_entries_where_they_are(project):
    project("again")
    dvc("repro", "-q", "-s", "alone")
    dvc("repro", "-q", "-s", "a")
    first = Path("dvc.lock").read_text()
    assert line.side_by_side(2) == 0
    assert Path("dvc.lock").read_text().startswith(first)
    assert "up to date" in dvc("repro")
    assert line.changed() == []


def test_independent_stages_run_at_the_same_time(project):
    project("together")
    # each waits for the other, and would wait for ever if it had to be over first
    meet = "touch {mine} && timeout 60 bash -c 'until [ -e {other} ]; do sleep 0.1; done' && cp data.txt {out}"
    pipeline = {
        "stages": {
            "a": {"cmd": meet.format(mine="a.at", other="b.at", out="a.txt"), "deps": ["data.txt"], "outs": ["a.txt"]},
            "b": {"cmd": meet.format(mine="b.at", other="a.at", out="b.txt"), "deps": ["data.txt"], "outs": ["b.txt"]},
        }
    }
    Path("dvc.yaml").write_text(json.dumps(pipeline))
    assert line.side_by_side(2) == 0
    assert Path("a.txt").is_file()
    assert Path("b.txt").is_file()


def test_after_a_stage_that_fails_no_other_begins(project, capfd):
    project("failing")
    write(PIPELINE.replace("sleep {a} && cat", "false && cat"), b=1)
    assert line.side_by_side(2) == line.FAILED
    assert Path("b.txt").is_file()  # it ran already
    assert not Path("join.txt").exists()
    assert "failed to run: false" in capfd.readouterr().err
    assert "  b:\n" in Path("dvc.lock").read_text()
    assert "  a:\n" not in Path("dvc.lock").read_text()


def test_a_project_that_dvc_cannot_read_is_refused_in_one_line(project, capsys, monkeypatch):
    project("broken")
    Path("dvc.yaml").write_text("stages: [")
    monkeypatch.setattr(cli.params, "load", lambda: None)
    assert cli.main(["changed"]) == 5
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("error: DVC: ")
    assert "dvc.yaml" in told
