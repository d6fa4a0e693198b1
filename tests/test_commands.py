"""Every command that README and the pages show is one: its parser takes it, its target, stage or file is there."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from trainyard import cli

ROOT = Path(__file__).parents[1]
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md")), *sorted(ROOT.glob("docs/*.md"))]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.MULTILINE))
STAGES = set(YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"])
OURS = ("trainyard", "make", "dvc", "python", "pytest")
OTHERS = {".", "$EDITOR", "./config.sh", "./run.sh", ".venv/bin/pip", "curl", "docker", "export", "git", "mlflow"}
OTHERS |= {"pip", "ray", "sky"}
"""Programs of others, of which no more is asked here."""


def fenced(page):
    """The commands of a page's `sh` blocks, each as a list of words, without comments, variables and `[OPTIONAL]`."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [words for line in lines for words in parts(line) if words]


def parts(line):
    """A line's commands, one after the other."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
    lexer.whitespace_split = True
    found = [[]]
    for word in lexer:
        if set(word) <= set("&|;"):
            found.append([])
        elif not re.fullmatch(r"\[[A-Z_]+\]", word) and (found[-1] or not re.match(r"[A-Z_]+=", word)):
            found[-1].append(word)
    return found


def inline(page):
    """Commands that a page names between backticks, whose arguments may be placeholders."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]
    return [parts(span)[0] for span in spans if re.match(rf"(?:[A-Z_]+=\S+ )?(?:{'|'.join(OURS)}) \S", span)]


def fault(program, *words):
    """What is wrong with a command; "" where nothing is."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
            return CHECKS[program](*words)
    except SystemExit as end:
        return told.getvalue() if end.code else ""


def of_trainyard(*words):
    cli._parser().parse_args(words)
    return ""


def of_make(*words):
    names = {word.partition("=")[0] for word in words if "=" in word}
    unknown = {word for word in words if "=" not in word} - TARGETS
    unknown |= {name for name in names if not re.search(rf"\b{name}\b", MAKEFILE)}
    return f"make knows no {', '.join(sorted(unknown))}" if unknown else ""


def of_dvc(*words):
    from dvc.cli import DvcParserError
    from dvc.cli.parser import get_main_parser

    try:
        asked = get_main_parser().parse_args(words)
    except DvcParserError:
        return f"dvc takes no `{' '.join(words)}`"
    targets = (getattr(asked, "targets", None) or []) if asked.cmd in ("repro", "exp") else []
    unknown = [target for target in targets if target.partition("@")[0] not in STAGES]
    return f"dvc.yaml has no {', '.join(unknown)}" if unknown else ""


def of_python(*words):
    return "" if words[0].startswith("-") or (ROOT / words[0]).is_file() else f"there is no {words[0]}"


def of_pytest(*words):
    known = re.findall(r'^    "(\w+): ', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    expression = words[words.index("-m") + 1] if "-m" in words else ""
    unknown = set(re.findall(r"[a-z_]+", re.sub(r"\(.*?\)", "", expression))) - {*known, "and", "or", "not"}
    return f"no test is marked {', '.join(unknown)}" if unknown else ""


CHECKS = {"trainyard": of_trainyard, "make": of_make, "dvc": of_dvc, "python": of_python, "pytest": of_pytest}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_each_command_is_one(page):
    faults = []
    for program, *words in fenced(page):
        assert program in CHECKS or program in OTHERS, program
        if program in CHECKS and (told := fault(program, *words)):
            faults.append(f"{program} {' '.join(words)}: {told}")
    assert not faults


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_each_command_that_is_named_is_one(page):
    from dvc.cli.parser import get_main_parser

    known = {"make": TARGETS, "trainyard": verbs(cli._parser()), "dvc": verbs(get_main_parser())}
    for program, word, *_ in inline(page):
        if not word.startswith("-"):
            assert word in known[program] if program in known else not fault(program, word), f"{program} {word}"


def verbs(parser):
    (group,) = parser._subparsers._group_actions
    return set(group.choices)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("trainyard trian mlp", "invalid choice: 'trian'"),
        ("trainyard export mlp --to pdf", "invalid choice: 'pdf'"),
        ("make check && trainyard predict mlp new.csv", "required: output"),
        ("DEVICE=gpu make rerpo", "make knows no rerpo"),
        ("make repro WORKERS=2", "make knows no WORKERS"),
        ("dvc exp rum -S seed=2", "dvc takes no"),
        ("dvc repro regsiter@mlp   # a stage", "dvc.yaml has no regsiter@mlp"),
        ("python benchmarks/sedes.py mlp", "there is no benchmarks/sedes.py"),
        ('pytest -m "bad_imput(number=41)"', "no test is marked bad_imput"),
    ],
)
def test_a_command_that_is_none_is_found(tmp_path, line, told):
    page = tmp_path / "page.md"
    page.write_text(f"Do this:\n\n```sh\nmake setup    # first\n{line}\n```\n")
    assert told in "".join(fault(*words) for words in fenced(page))
