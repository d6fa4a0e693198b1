"""MLflow servers that are none, or that refuse: case 82."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from bad_inputs.planting import case

COMMANDS = (["ledger", "mlp"], ["explain", "mlp"])


@pytest.fixture
def server():
    """An address at which every request gets the same answer."""

    class Answer(BaseHTTPRequestHandler):
        def answer(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(given.status)
            self.send_header("Content-Type", given.kind)
            self.send_header("Content-Length", str(len(given.body)))
            self.end_headers()
            self.wfile.write(given.body)

        do_GET = do_POST = answer  # noqa: N815  # the names that the server looks for

        def log_message(self, *arguments):
            pass

    given = SimpleNamespace(status=200, kind="text/html", body=b"")
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        given.address = f"http://127.0.0.1:{serving.server_port}"
        yield given
        serving.shutdown()
        thread.join()


LINE = "exit 5, one line"
ANSWERS = [
    case(82, "401", 401, "application/json", b'{"message": "who are you?"}', then=LINE),
    case(82, "403, for the name of the host", 403, "text/plain", b"Invalid Host header", then=LINE),
    case(82, "500", 500, "application/json", b"{}", then=f"{LINE}, after one more try"),
    case(82, "200 and the page of a proxy", 200, "text/html", b"<html>\nLog in\n</html>", then=LINE),
    case(82, "200 and half a JSON", 200, "application/json", b'{"experiments": [', then=LINE),
]


@pytest.mark.parametrize(("status", "kind", "body"), ANSWERS)
def test_a_server_that_is_none_is_told_in_a_line(project, refuses, server, monkeypatch, status, kind, body):
    server.status, server.kind, server.body = status, kind, body
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    refuses(f"MLflow at {server.address}: ", *COMMANDS, code=5)


FOLDER = "MLFLOW_TRACKING_URI names a folder, file:mlruns (expected http://HOST:PORT or sqlite:///FILE)"
ADDRESSES = [
    case(82, "nobody at the address", "http://127.0.0.1:9", "MLflow at http://127.0.0.1:9: ", then=f"{LINE}, in 11 s"),
    case(82, "a folder, which MLflow takes no longer", "file:mlruns", FOLDER, then=f"exit 5: `{FOLDER}`"),
    case(82, "a scheme that is none", "htp://127.0.0.1:5000", "MLflow at htp://127.0.0.1:5000: ", then=LINE),
    case(82, "a database that is none", "sqlite:///params.yaml", "MLflow at sqlite:///params.yaml: ", then=LINE),
]


@pytest.mark.parametrize(("uri", "told"), ADDRESSES)
def test_an_address_that_leads_nowhere_is_told_in_a_line(project, refuses, monkeypatch, uri, told):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    refuses(told, *COMMANDS, code=5)
