import shutil

import pytest

from bad_inputs import planting
from trainyard import cli


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    planting.build(folder)
    return folder


@pytest.fixture
def project(here, made):
    """A small project in which nothing is wrong."""
    shutil.copytree(made, here, dirs_exist_ok=True)
    return here


TOLD = {"validate": "reports/data/", "prepare": "reports/audits"}


@pytest.fixture
def refuses(here, capsys):
    """Runs commands that must refuse, each in a line of this begin; all stays as it was but what tells of faults."""

    def ask(told, *commands, code=2):
        for command in commands:
            before = planting.tree(here)
            capsys.readouterr()
            assert cli.main(command) == code
            after = planting.tree(here)
            changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
            assert not [path for path in changed if not path.startswith(TOLD.get(command[0], ()))]
            out, err = capsys.readouterr()
            assert out == ""
            assert "Traceback" not in err
            (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
            assert line.removeprefix("error: ").startswith(told)

    return ask
