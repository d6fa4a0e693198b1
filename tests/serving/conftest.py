"""The registry and a server of all its champions are made once."""

from pathlib import Path

import pytest
from served import SETS, Registry, Served, block, crown, train

from trainyard import files, kinds, params


@pytest.fixture(scope="session")
def registry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registry")
    blocks = {name: block(name, folder / "data") for name in SETS}
    loaded = params.parse(
        {
            "datasets": {name: dataset for name, (dataset, _) in blocks.items()},
            "train": {name: model for name, (_, model) in blocks.items()},
            "evaluate": {name: {"dataset": name} for name in SETS},
        }
    )
    made = Registry(folder, loaded)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", made.uri)
        for name in SETS:
            spec = loaded.dataset(name)
            manifest = kinds.of(spec).manifest(spec)
            with files.replacing_folder(Path("build") / name) as build:
                kinds.write_prepared(spec, manifest, kinds.of(spec).split(spec, manifest, 1), build)
            made.scores[name] = train(name, loaded)
            crown(name, loaded)
    return made


@pytest.fixture
def inside(registry, monkeypatch):
    """The project's folder, and its registry."""
    monkeypatch.chdir(registry.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.uri)
    return registry


@pytest.fixture(scope="session")
def served(registry, tmp_path_factory):
    running = Served(registry, tmp_path_factory.mktemp("served"), list(SETS))
    yield running
    assert running.end() == 0, running.log.read_text()


@pytest.fixture
def start(registry, tmp_path):
    """Starts a server, which ends with the test."""
    started = []

    def begin(*names, **given):
        folder = tmp_path / f"server-{len(started)}"
        folder.mkdir()
        started.append(Served(registry, folder, names, **given))
        return started[-1]

    yield begin
    for running in started:
        running.end()
