"""Limits that each refuse in their own way, and what a server survives: slow, dead and replaced champions."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from served import SETS, Served, crown, train

from trainyard import cli, tracking
from trainyard.serving import app
from trainyard.serving.server import _listening
from trainyard.tracking import pyfunc, raw

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-more-than-16-letters"  # noqa: S105  # no secret
ROW = {"size": 0.1, "weight": 0.2, "colour": "red"}
ASK = ("/models/tables/answers", {"rows": [ROW]})


# === Who may ask ===


def test_an_address_of_the_network_needs_a_token(inside, capsys, monkeypatch):
    monkeypatch.delenv("TRAINYARD_TOKEN", raising=False)
    write_params(inside)
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.org"):  # noqa: S104  # what is refused
        assert cli.main(["serve", "tables", "--host", host]) == 2
        assert f"--host {host} is reached from other machines: set TRAINYARD_TOKEN" in capsys.readouterr().err
    monkeypatch.setenv("TRAINYARD_TOKEN", "short")
    assert cli.main(["serve", "tables"]) == 2
    assert "TRAINYARD_TOKEN: 5 characters (at least 16" in capsys.readouterr().err


def write_params(registry):
    from ruamel.yaml import YAML

    with (registry.folder / "params.yaml").open("w") as file:
        YAML().dump(registry.params.model_dump(mode="json", exclude_none=True), file)


def test_with_a_token_nothing_is_told_without_it(start):
    running = start("tables", arguments=["--host", "0.0.0.0"], TRAINYARD_TOKEN=TOKEN)  # noqa: S104  # with a token
    known = {"authorization": f"Bearer {TOKEN}"}
    for path, body in [("/models", None), ("/metrics", None), ("/openapi.json", None), ASK]:
        for headers in (
            {},
            {"authorization": "Bearer "},
            {"authorization": TOKEN},
            {"authorization": f"Bearer {TOKEN}x"},
        ):
            found = running.ask(path, body, headers=headers)
            assert (found.status, found.headers["www-authenticate"]) == (401, "Bearer")
        assert running.ask(path, body, headers=known).status == 200
    for path in ("/", "/live", "/ready"):
        assert running.ask(path).status == 200
    assert running.ask("/models", headers={**known, "host": "evil.example"}).status == 421
    assert running.ask("/models", headers={**known, "host": "192.168.0.7:80"}).status == 200
    assert TOKEN not in running.log.read_text()
    assert running.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_end_before_it_listens_ends_well(inside, tmp_path_factory, number):
    write_params(inside)
    import psutil

    scratch = tmp_path_factory.mktemp("s")  # a socket is made in it, whose path may have 107 bytes
    process = subprocess.Popen(
        [sys.executable, "-m", "trainyard.cli", "serve", "tables", "--port", "0"],
        env={**os.environ, "TMPDIR": str(scratch)},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not any("forkserver" in " ".join(child.cmdline()) for child in psutil.Process(process.pid).children()):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert b"Traceback" not in told
    assert not list(scratch.glob("trainyard-*"))


# === How much ===


@pytest.fixture(scope="module")
def tight(registry, tmp_path_factory):
    """A server with low limits."""
    limits = {"rows": 3, "megabytes": 0.01, "waiting": 2, "seconds": 2.0, "hosts": ["yard.example"]}
    running = Served(registry, tmp_path_factory.mktemp("tight"), ["tables"], limits)
    yield running
    running.end()


def test_limits_of_params_hold(tight):
    assert tight.ask(ASK[0], {"rows": [ROW] * 3}).status == 200
    found = tight.ask(ASK[0], {"rows": [ROW] * 4})
    assert (found.status, found.told["error"], found.told["field"]) == (413, "4 rows (at most 3)", "rows")
    found = tight.ask(ASK[0], {"rows": [{**ROW, "colour": "x" * 10_000}]})
    assert (found.status, found.told["error"]) == (413, "the body has more than 10,000 bytes")
    assert tight.ask("/models", headers={"host": "yard.example"}).status == 200


def test_what_is_too_much_is_sent_away_soon_and_told_when_to_come_again(tight):
    (worker,) = tight.workers().values()
    worker.suspend()
    waiting = [threading.Thread(target=tight.ask, args=ASK) for _ in range(2)]
    try:
        for one in waiting:
            one.start()
        deadline = time.monotonic() + 1.5
        while 'trainyard_waiting{model="tables"} 2.0' not in tight.ask("/metrics").text:
            assert time.monotonic() < deadline
        began = time.monotonic()
        found = tight.ask(*ASK)
        assert app.PAUSE <= time.monotonic() - began < 0.1
        assert (found.status, found.headers["retry-after"]) == (503, "1")
        assert found.told["error"] == "2 requests wait already"
    finally:
        worker.resume()
        for one in waiting:
            one.join()
    answers_again(tight)


def answers_again(running, seconds=60):
    deadline = time.monotonic() + seconds
    while (found := running.ask(*ASK)).status != 200:
        assert found.status == 503, found.text
        assert int(found.headers["retry-after"]) > 0
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_an_answer_that_takes_too_long_ends_its_process_and_no_other_work(tight):
    (worker,) = tight.workers().values()
    worker.suspend()  # as one that loops for ever
    began = time.monotonic()
    found = tight.ask(*ASK)
    assert (found.status, found.told["error"]) == (503, "an answer took more than 2 s")
    assert 1.9 < time.monotonic() - began < 4
    assert tight.ask("/live").status == 200
    answers_again(tight)
    assert not worker.is_running()
    tight.until("tables: an answer took more than 2 s; its process is ended, and another started")


def test_a_process_that_dies_is_replaced(tight):
    (worker,) = tight.workers().values()
    worker.kill()
    answers_again(tight)
    assert worker.pid not in tight.workers()
    assert tight.ask("/ready").status == 200


# === Champions come and go ===


def test_a_champion_that_is_deleted_while_it_serves_answers_on(registry, start, inside):
    train("prices", registry.params, seed=7)
    version = crown("prices", registry.params)
    running = start(f"prices/{version}")
    rows = {"rows": raw.as_json(registry.rows("prices", 5))}
    before = running.ask("/models/prices/answers", rows).told
    with tracking.connected() as client:
        client.delete_model_version("prices", version)
    for path in sorted((registry.folder / "artifacts").rglob("model.keras")):
        path.rename(path.with_suffix(".gone"))
    try:
        assert running.ask("/models/prices/answers", rows).told == before
        (worker,) = running.workers().values()
        worker.kill()
        deadline = time.monotonic() + 60
        while (found := running.ask("/models/prices/answers", rows)).status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert found.told == before
        os.kill(running.process.pid, signal.SIGHUP)
        running.until(rf"the registry has no version {version} \(it has: 1\); version {version} answers on")
        assert running.ask("/models/prices/answers", rows).told == before
    finally:
        for path in sorted((registry.folder / "artifacts").rglob("model.gone")):
            path.rename(path.with_suffix(".keras"))
        with tracking.connected() as client:
            client.set_registered_model_alias("prices", "champion", "1")


def test_a_new_champion_takes_over_without_a_request_lost(registry, start, inside):
    running = start("series")
    known = running.ask("/models/series").told["example"]
    statuses, versions, stop = [], [], threading.Event()

    def ask():
        while not stop.is_set():
            found = running.ask("/models/series/answers", known)
            statuses.append(found.status)
            versions.append(found.headers["model-version"])

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for one in asking:
        one.start()
    try:
        train("series", registry.params, seed=3)
        assert crown("series", registry.params) == "2"
        os.kill(running.process.pid, signal.SIGHUP)
        running.until("series: version 2, content [0-9a-f]{8}, answers from now on")
        time.sleep(0.5)
    finally:
        stop.set()
        for one in asking:
            one.join()
        with tracking.connected() as client:
            client.set_registered_model_alias("series", "champion", "1")
    assert set(statuses) == {200}
    assert versions[0] == "series/1"
    assert versions[-1] == "series/2"
    assert len(running.workers()) == 1
    assert running.ask("/models/series").told["version"] == "2"


def test_a_new_champion_that_does_not_prove_itself_takes_nobodys_place(registry, start, inside):
    running = start("text")
    known = running.ask("/models/text").told["example"]
    before = running.ask("/models/text/answers", known).told
    with tracking.connected() as client:
        source = client.get_model_version("text", "1")
        planted = registry.folder / "artifacts-planted"
        from mlflow import artifacts

        folder = artifacts.download_artifacts("models:/text/1", dst_path=str(planted))
        golden = planted / "artifacts" / "golden.json"
        golden.write_text(golden.read_text().replace("0.", "0.9", 1))
        tags = {**source.tags, "trainyard.told": pyfunc.told(golden.parent)}
        version = client.create_model_version("text", folder, tags=tags)
        client.set_registered_model_alias("text", "champion", version.version)
    try:
        os.kill(running.process.pid, signal.SIGHUP)
        running.until(
            "text: version 2 does not answer its example as it did when it was registered; version 1 answers on"
        )
        assert running.ask("/models/text/answers", known).told == before
    finally:
        with tracking.connected() as client:
            client.set_registered_model_alias("text", "champion", "1")


# === Registries in which something is wrong: case 83 ===


REGISTRIES = {
    "tables@champoin": "tables: the registry has no champoin (did you mean `champion`?)",
    "tables@nobody": "tables: the registry has no nobody (valid: champion)",
    "tables/9": "tables: the registry has no version 9 (it has: 1)",
    "tables/latest": "tables: the registry has no version latest (it has: 1)",
    "nothing": "nothing: the registry has no champion (run `dvc repro register@nothing`)",
    "a:b": "`a:b`: no name (one is made of small letters, digits, - and _)",
    "../etc": "`..`: no name (one is made of small letters, digits, - and _)",
    "x' OR 1=1": "",
}


@pytest.mark.bad_input(
    number=83, what="served: a name, an alias or a version that is not there", then="exit 2, one line"
)
@pytest.mark.parametrize("asked", REGISTRIES)
def test_what_the_registry_does_not_have_is_told_in_a_line(inside, capsys, asked):
    write_params(inside)
    assert cli.main(["serve", asked, "--port", "0"]) in ((2,) if REGISTRIES[asked] else (2, 5))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {REGISTRIES[asked]}")


def test_without_a_name_all_champions_are_served_and_who_has_none_is_left_out(inside, start, capsys):
    with tracking.connected() as client:
        version = client.get_model_version_by_alias("prices", "champion").version
        client.delete_registered_model_alias("prices", "champion")
        client.set_registered_model_alias("prices", "challenger", version)
    try:
        write_params(inside)
        assert cli.main(["predict", "prices", "data/prices/prices.csv", "out.csv"]) == 2
        told = "prices: the registry has no champion (ask for prices@challenger)"
        assert capsys.readouterr().err.splitlines()[-1] == f"error: {told}"
        running = start()
        assert f"{told}; it is left out" in running.log.read_text()
        assert {one["model"] for one in running.ask("/models").told} == {*SETS} - {"prices"}
    finally:
        with tracking.connected() as client:
            client.delete_registered_model_alias("prices", "challenger")
            client.set_registered_model_alias("prices", "champion", version)


def test_where_nobody_is_champion_nothing_is_served(inside, tmp_path, monkeypatch, capsys):
    write_params(inside)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/empty.db")
    assert cli.main(["serve", "--port", "0"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: no model of params.yaml has a champion (run `dvc repro`)"
    )


def test_a_port_is_taken_before_any_model_is_loaded(inside, monkeypatch, capsys):
    write_params(inside)
    with _listening("127.0.0.1", 0) as listener:
        assert cli.main(["serve", "tables", "--port", str(listener.getsockname()[1])]) == 5
    assert "Address already in use (`--port` names another)" in capsys.readouterr().err


@pytest.fixture
def planted(inside, tmp_path):
    """A version of its own, whose files a test may harm."""
    from mlflow import artifacts

    with tracking.connected() as client:
        folder = artifacts.download_artifacts("models:/images/1", dst_path=str(tmp_path / "planted"))
        tags = client.get_model_version("images", "1").tags
        version = client.create_model_version("images", folder, tags=tags).version
        yield tmp_path / "planted", f"images/{version}"
        client.delete_model_version("images", version)


@pytest.mark.bad_input(number=83, what="served: a version whose files are gone", then="exit 2: `its files are gone`")
def test_a_version_whose_files_are_gone_is_refused(planted, inside, capsys):
    folder, asked = planted
    (folder / "artifacts" / "model.keras").unlink()
    write_params(inside)
    assert cli.main(["serve", asked, "--port", "0"]) == 2
    assert "its files are gone (name another: images/VERSION)" in capsys.readouterr().err


@pytest.mark.bad_input(number=83, what="served: a version whose file is another", then="exit 2, before it is read")
def test_a_version_whose_file_is_another_is_refused(planted, inside, capsys):
    folder, asked = planted
    with (folder / "artifacts" / "model.keras").open("ab") as file:
        file.write(b"more")
    write_params(inside)
    assert cli.main(["serve", asked, "--port", "0"]) == 2
    assert "its file is not the one that was registered (SHA-256" in capsys.readouterr().err


@pytest.mark.bad_input(number=83, what="served: a version of which something else is told", then="exit 2")
@pytest.mark.parametrize("name", ["model.json", "golden.json"])
def test_a_version_of_which_something_else_is_told_is_refused(planted, inside, capsys, name):
    folder, asked = planted
    with (folder / "artifacts" / name).open("a") as file:
        file.write("\n")
    write_params(inside)
    assert cli.main(["serve", asked, "--port", "0"]) == 2
    assert "its model.json or golden.json is not the one that was registered" in capsys.readouterr().err


@pytest.mark.bad_input(number=83, what="served: a version that another program registered", then="exit 2")
def test_a_version_that_trainyard_has_not_made_is_refused(inside, tmp_path, capsys):
    with tracking.connected() as client:
        client.create_registered_model("foreign")
        client.create_model_version("foreign", str(tmp_path))
    write_params(inside)
    assert cli.main(["serve", "foreign/1", "--port", "0"]) == 2
    assert "foreign: version 1 of the registry: trainyard has not made it" in capsys.readouterr().err


def test_a_model_that_is_named_twice_is_refused(inside, capsys):
    write_params(inside)
    assert cli.main(["serve", "tables", "tables/1", "--port", "0"]) == 2
    assert "tables is named twice" in capsys.readouterr().err


def test_a_port_that_is_taken_is_told_in_a_line(inside, served, capsys):
    write_params(inside)
    assert cli.main(["serve", "tables", "--port", str(served.port)]) == 5
    assert f"--host 127.0.0.1 --port {served.port}: Address already in use" in capsys.readouterr().err
    assert cli.main(["serve", "tables", "--host", "no.such.host.invalid"]) == 2
