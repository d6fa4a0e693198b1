"""Requests that are kept are what `trainyard drift` takes, and no more of them than params allow."""

import pytest
from served import SETS

from trainyard import kinds
from trainyard.params import Keep
from trainyard.serving.kept import keeper
from trainyard.serving.question import FILES, Reader
from trainyard.tracking import raw

pytestmark = pytest.mark.slow


def of(registry, name, **knobs):
    """What keeps requests to a model of the registry."""
    spec = registry.params.dataset(name)
    facts = kinds.open_prepared(name, spec, registry.folder / "build").facts
    columns, example = [*Reader(spec, facts, 1).columns()], raw.as_json(registry.rows(name, 1))
    return keeper(name, spec, facts, Keep(**knobs), columns, example)


@pytest.fixture
def kept(here):
    """Keeps raw rows of a model; gives the place that `drift` is told."""

    def keep(registry, name, rows, **knobs):
        one = of(registry, name, share=1.0, **knobs)
        one.take(rows.to_dict("records"))
        one.write(now=True)
        return one.folder if type(one.spec) in FILES else one.folder / "rows.csv"

    return keep


@pytest.mark.parametrize("name", SETS)
def test_what_is_kept_is_read_as_new_data(registry, kept, name):
    rows = registry.rows(name)
    place = kept(registry, name, rows)
    spec = registry.params.dataset(name).model_copy(update={"path": place.as_posix()})
    data = kinds.open_prepared(name, registry.params.dataset(name), registry.folder / "build")
    found = kinds.of(spec).fresh(spec, data.facts)
    assert len(found) == len(rows)
    again = raw.reader(spec, data.facts)(found.index.astype(str))
    for column in rows:
        assert sorted(map(str, again[column])) == sorted(map(str, rows[column]))
    assert kinds.of(spec).units(spec, found) if hasattr(kinds.of(spec), "units") else len(kinds.units(spec, found))


@pytest.mark.parametrize("name", ["text", "images"])
def test_the_same_twice_is_kept_once_also_by_a_later_server(registry, kept, name):
    rows = registry.rows(name, 4)
    for part in (rows[:2], rows, rows[1:]):
        place = kept(registry, name, part)
    if place.is_dir():
        assert len(list(place.iterdir())) == 4
    else:
        assert len(place.read_text().splitlines()) == 5


@pytest.mark.parametrize("name", ["text", "images", "speech"])
def test_of_too_much_the_oldest_gives_way(registry, kept, name):
    rows = registry.rows(name)
    place = kept(registry, name, rows[:3])
    one = max(path.stat().st_size for path in place.parent.rglob("*") if path.is_file()) / 1e6
    place = kept(registry, name, rows[-3:], megabytes=one * (0.9 if name == "text" else 3.5))
    if name == "text":
        text = place.read_text()
        assert place.stat().st_size <= one * 0.9 * 1e6
        assert rows["said"].iloc[-1] in text
        assert rows["said"].iloc[0] not in text
    else:
        (column,) = rows
        there = {path.read_bytes() for path in place.iterdir() if path.suffix != ".csv"}
        assert rows[column].iloc[-1] in there
        assert rows[column].iloc[0] not in there
        assert sum(map(len, there)) <= one * 3.5 * 1e6
    if name == "speech":
        named = (place / "transcripts.csv").read_text().splitlines()
        assert len(named) == len(there) + 1


def test_a_share_is_kept_and_the_hash_says_which(registry, here):
    rows = registry.rows("prices").to_dict("records")
    chosen = []
    for _ in range(2):
        one = of(registry, "prices", share=0.5)
        one.take(rows)
        chosen.append(sorted(one._new))
    assert chosen[0] == chosen[1]
    assert 0.2 * len(rows) < len(chosen[0]) < 0.8 * len(rows)


def test_a_server_keeps_what_it_is_asked_and_drift_takes_it(registry, start, monkeypatch, capsys):
    from trainyard import cli

    running = start("prices", "images", serve={"keep": {"share": 1.0}})
    for name in ("prices", "images"):
        rows = raw.as_json(registry.rows(name))
        for part in (rows[:5], rows[5:]):
            assert running.ask(f"/models/{name}/answers", {"rows": part}).status == 200
    running.end()  # within ten seconds of a writing: what is new then is written at the end
    monkeypatch.chdir(running.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.uri)
    for name, place in (("prices", "prices/rows.csv"), ("images", "images")):
        capsys.readouterr()
        assert cli.main(["drift", name, f".trainyard/requests/{name}"[: -len(name)] + place]) in (0, 1), (
            capsys.readouterr().err
        )


def test_without_the_knob_nothing_is_kept(registry, start):
    running = start("prices")
    assert running.ask("/models/prices/answers", {"rows": raw.as_json(registry.rows("prices", 3))}).status == 200
    running.end()
    assert not (running.folder / ".trainyard").exists()
