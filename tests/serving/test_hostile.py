"""Case 84: 25 hostile requests, each to a real server. None gets 500, a NaN, or its own words back; all go on."""

import base64
import gzip
import json
import math
import socket
import struct
import time
import zlib

import pytest
from bad_inputs.planting import case

pytestmark = pytest.mark.slow

MARK = "leaked-4f1c"
"""What hostile requests hold, and no answer may."""
ANSWERS = "/models/tables/answers"
GOOD = {"size": 0.1, "weight": 0.2, "colour": "red"}


def rows(*given):
    return json.dumps({"rows": list(given)})


def with_size(text):
    """A row whose number stands there as text: what JSON knows not, Python would not write."""
    return rows({**GOOD, "size": "HERE"}).replace('"HERE"', text)


def form(content, name="rows.csv"):
    boundary = "limit"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    return head + content + f"\r\n--{boundary}--\r\n".encode()


def bomb():
    """A PNG of 30,000 x 30,000 pixels in a few kilobytes."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    )


FORM = {"content-type": "multipart/form-data; boundary=limit"}
JSON = {"content-type": "application/json"}
LONG = "1" * 5000
HOSTILE = [
    case(84, "empty body", 400, b"", JSON, then="400"),
    case(84, "no JSON", 400, f"{{{MARK}".encode(), JSON, then="400"),
    case(84, "a list", 422, json.dumps([GOOD]).encode(), JSON, then="422"),
    case(84, "an unknown key", 422, json.dumps({"instances": [GOOD], MARK: 1}).encode(), JSON, then="422"),
    case(84, "two keys", 422, json.dumps({"rows": [GOOD], MARK: 1}).encode(), JSON, then="422"),
    case(84, "a column less", 422, rows({"size": 1, "weight": 2}).encode(), JSON, then="422, the column and the row"),
    case(84, "a column more", 422, rows({**GOOD, MARK: 1}).encode(), JSON, then="422"),
    case(84, "ragged rows", 422, rows(GOOD, [1, 2], GOOD).encode(), JSON, then="422, the row"),
    case(84, "texts for numbers", 422, rows({**GOOD, "size": MARK}).encode(), JSON, then="422, the column and the row"),
    case(84, "numbers as texts", 422, rows({**GOOD, "size": "1.5"}).encode(), JSON, then="422"),
    case(84, "true for a number", 422, rows({**GOOD, "size": True}).encode(), JSON, then="422"),
    case(84, "NaN", 400, with_size("NaN").encode(), JSON, then="400"),
    case(84, "Infinity", 400, with_size("-Infinity").encode(), JSON, then="400"),
    case(84, "1e400", 400, with_size("1e400").encode(), JSON, then="400"),
    case(84, "1e39, which float32 does not hold", 422, with_size("1e39").encode(), JSON, then="422"),
    case(84, "no rows", 422, rows().encode(), JSON, then="422"),
    case(84, "a key twice", 400, b'{"rows": [{"size": 1, "size": 2}]}', JSON, then="400"),
    case(
        84, "params beside the rows", 422, json.dumps({"rows": [GOOD], "params": {"x": 1}}).encode(), JSON, then="422"
    ),
    case(84, "no content type", 415, rows(GOOD).encode(), {"content-type": ""}, then="415"),
    case(84, "5,000 brackets deep", 400, b"[" * 5000 + b"]" * 5000, JSON, then="400"),
    case(84, "a million brackets deep", 400, b"[" * 999_000, JSON, then="400"),
    case(84, "a number of 5,000 digits", 400, with_size(LONG).encode(), JSON, then="400"),
    case(84, "no UTF-8", 400, b'{"rows": [{"colour": "\xff\xfe"}]}', JSON, then="400"),
    case(84, "half a surrogate pair", 422, rows({**GOOD, "colour": "\ud800"}).encode(), JSON, then="422"),
    case(84, "XML", 415, f"<rows>{MARK}</rows>".encode(), {"content-type": "text/xml"}, then="415"),
    case(84, "garbage as a CSV file", 422, form(MARK.encode() + bytes(range(256))), FORM, then="422"),
    case(84, "a Parquet file", 422, form(b"PAR1" + MARK.encode()), FORM, then="422"),
    case(
        84,
        "a CSV file with a text for a number",
        422,
        form(f"size,weight,colour\n1,{MARK},red\n".encode()),
        FORM,
        then="422",
    ),
    case(84, "a form without its boundary", 400, form(b"x"), {"content-type": "multipart/form-data"}, then="400"),
    case(84, "a form without an end", 400, form(b"x")[:-4], FORM, then="400"),
    case(
        84,
        "a body that is packed",
        415,
        gzip.compress(rows(GOOD).encode()),
        {**JSON, "content-encoding": "gzip"},
        then="415",
    ),
]


@pytest.mark.parametrize(("status", "body", "headers"), HOSTILE)
def test_a_hostile_request_is_refused_in_the_same_form(served, status, body, headers):
    found = served.ask(
        ANSWERS, body, headers={name: text for name, text in headers.items() if text} or {"content-type": ""}
    )
    refused(found, status)
    goes_on(served)


def refused(found, status):
    assert found.status == status, found.text
    assert found.told.keys() == {"error", "field", "row"}
    assert MARK not in found.text
    assert "NaN" not in found.text.replace("NaN is no number of JSON", "")
    assert found.told["error"]


def goes_on(served):
    found = served.ask(ANSWERS, rows(GOOD).encode())
    assert found.status == 200
    assert all(math.isfinite(p) for p in found.told["answers"][0].values())
    assert MARK not in served.log.read_text()


def test_a_refusal_names_the_column_and_the_row(served):
    found = served.ask(ANSWERS, {"rows": [GOOD, {**GOOD, "weight": "x"}]})
    assert found.told == {"error": "expected a number, or null", "field": "weight", "row": 1}


@pytest.mark.bad_input(number=84, what="GET where there are questions alone", then="405")
def test_another_method_is_refused(served):
    for method in ("GET", "PUT", "DELETE"):
        refused(served.ask(ANSWERS, method=method), 405)


@pytest.mark.bad_input(number=84, what="a model that is not served", then="404")
def test_another_model_is_refused(served):
    for path in (f"/models/{MARK}/answers", "/models/..%2F..%2Fetc/answers", "/invocations"):
        refused(served.ask(path, {"rows": [GOOD]}), 404)


@pytest.mark.bad_input(number=84, what="a body of 67 MB", then="413, before it has come")
def test_a_body_without_end_is_refused_before_it_is_there(served):
    head = b"POST %b HTTP/1.1\r\nhost: localhost\r\n" % ANSWERS.encode()
    sent_alone = [
        head + b"content-length: 70254592\r\n\r\n",
        head + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (1_100_000, b"1" * 1_100_000),
    ]
    for part in sent_alone:  # the rest never comes
        with socket.create_connection(("127.0.0.1", served.port), timeout=5) as sent:
            sent.sendall(part)
            assert sent.recv(100).startswith(b"HTTP/1.1 413 ")
    goes_on(served)


ODD = {
    "two lengths": (b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}", b"400"),
    "a length and chunks": (b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", b"400"),
    "chunks that are packed": (b"transfer-encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", b"501"),
    "a negative length": (b"content-length: -1\r\n\r\n", b"400"),
    "a broken chunk": (b"transfer-encoding: chunked\r\n\r\nzz\r\n", b"400"),
    "a length of 5,001 digits": (b"content-length: " + b"0" * 5000 + b"2\r\n\r\n{}", b"413"),
    "another protocol, and a body": (b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\n{}", b"501"),
}


@pytest.mark.bad_input(number=84, what="Transfer-Encoding in odd ways, and two lengths", then="400, 413 or 501")
@pytest.mark.parametrize(("odd", "status"), ODD.values(), ids=ODD)
def test_a_request_whose_end_may_be_seen_in_two_ways_is_refused(served, odd, status):
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as sent:
        head = b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n" % ANSWERS.encode()
        sent.sendall(head + odd)
        assert sent.recv(100).split()[1] == status
    goes_on(served)


@pytest.mark.bad_input(number=84, what="headers without end", then="400")
def test_headers_without_end_are_refused(served):
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as sent:
        sent.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n" + b"x: " + b"y" * 70_000 + b"\r\n\r\n")
        assert sent.recv(100).startswith(b"HTTP/1.1 400 ")


@pytest.mark.slow
@pytest.mark.bad_input(
    number=84, what="250 slow connections of a client", then="ended after 10 s; others notice nothing"
)
def test_slow_clients_harm_nobody(served):
    slow = [socket.create_connection(("127.0.0.1", served.port), 30) for _ in range(250)]
    try:
        head = b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n" % ANSWERS.encode()
        for number, one in enumerate(slow):
            one.sendall(head[:20] if number % 2 else head + b"\r\n{")
        began, worst = time.monotonic(), 0.0
        while time.monotonic() - began < 11:
            asked = time.monotonic()
            goes_on(served)
            worst = max(worst, time.monotonic() - asked)
            time.sleep(0.5)
        assert worst < 1
        for one in slow:
            one.settimeout(5)
            assert one.recv(100)[:12] in (b"HTTP/1.1 408", b"")
    finally:
        for one in slow:
            one.close()


@pytest.mark.bad_input(number=84, what="the name of a foreign host", then="421")
def test_a_foreign_host_is_refused(served):
    for host in (MARK, "evil.example:80", "localhost.evil.example", ""):
        refused(served.ask("/models", headers={"host": host}), 421)
    for host in ("localhost", f"127.0.0.1:{served.port}", "LOCALHOST:1", "[::1]"):
        assert served.ask("/models", headers={"host": host}).status == 200


@pytest.mark.bad_input(number=84, what="a page of another site that asks", then="403")
def test_a_page_of_another_site_may_not_ask(served):
    refused(served.ask(ANSWERS, {"rows": [GOOD]}, headers={"origin": "https://evil.example"}), 403)
    refused(served.ask(ANSWERS, {"rows": [GOOD]}, headers={"origin": "null"}), 403)
    assert served.ask(ANSWERS, {"rows": [GOOD]}, headers={"origin": f"http://localhost:{served.port}"}).status == 200


IMAGES = [
    case(84, "an image bomb in base64", bomb(), "pixels", then="422"),
    case(84, "bytes that are no image", MARK.encode(), "no readable PNG or JPEG", then="422"),
    case(84, "half an image", bomb()[:60], "", then="422"),
]


@pytest.mark.parametrize(("content", "told"), IMAGES)
def test_a_hostile_image_is_refused(served, content, told):
    body = {"rows": [{"image": base64.b64encode(content).decode()}]}
    for found in (
        served.ask("/models/images/answers", body),
        served.ask("/models/images/answers", form(content, f"{MARK}.png"), headers=FORM),
    ):
        refused(found, 422)
        assert told in found.told["error"]


@pytest.mark.bad_input(number=84, what="no base64", then="422")
def test_what_is_no_base64_is_refused(served):
    found = served.ask("/models/images/answers", {"rows": [{"image": f"!{MARK}"}]})
    refused(found, 422)
    assert found.told == {"error": "no base64", "field": "image", "row": 0}


def test_a_hostile_recording_is_refused(served):
    for content in (MARK.encode(), b"RIFF\xff\xff\xff\xffWAVEfmt ", b"fLaC" + bytes(100)):
        refused(served.ask("/models/speech/answers", form(content, "a.wav"), headers=FORM), 422)


def test_a_series_that_is_none_is_refused_without_its_words(served):
    known = served.ask("/models/series").told["example"]["rows"]
    for rows_ in (
        [{**known[0], "day": MARK}],
        [{**known[0], "day": "2999-01-01"}, *known],
        known[:3],
        [known[1], known[0], *known],
        [{**row, "level": None} for row in known],
    ):
        refused(served.ask("/models/series/answers", {"rows": rows_}), 422)


def test_too_many_rows_are_refused(served):
    refused(served.ask(ANSWERS, {"rows": [GOOD] * 1001}), 413)
    assert served.ask(ANSWERS, {"rows": [GOOD] * 1000}).status == 200
