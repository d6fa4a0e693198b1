from pathlib import Path

import pytest

from trainyard import files, kinds
from trainyard.errors import BadInput


@pytest.fixture
def prepared(here):
    """What `prepare` does with a dataset, and its result opened."""

    def prepare(spec, seed=1):
        kind = kinds.of(spec)
        manifest = kind.manifest(spec)
        with files.replacing_folder(Path("build/data")) as folder:
            kinds.write_prepared(spec, manifest, kind.split(spec, manifest, seed), folder)
        return kinds.open_prepared("data", spec)

    return prepare


@pytest.fixture
def refusal():
    """The one line with which a call is refused."""

    def ask(call):
        with pytest.raises(BadInput) as refused:
            call()
        assert "\n" not in str(refused.value)
        return str(refused.value)

    return ask
