"""A real `trainyard serve` of all kinds: what it answers is what `evaluate` scored, and how it tells of itself."""

import base64
import json
import re

import numpy as np
import pandas as pd
import pytest
from served import SETS

from trainyard.tracking import raw

pytestmark = pytest.mark.slow

COLUMN = {"images": "image", "speech": "recording"}


def form(files):
    """A form of files, by name."""
    parts = [
        f'--limit\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode() + content
        for name, content in files.items()
    ]
    return b"\r\n".join([*parts, b"--limit--\r\n"]), {"content-type": "multipart/form-data; boundary=limit"}


def same(told, expected, names):
    found = pd.DataFrame(told, index=[one.pop("time", name) for one, name in zip(told, names, strict=True)])
    found = found.loc[expected.index, expected.columns]
    if expected.to_numpy().dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    else:
        assert found.to_numpy().tolist() == expected.to_numpy().tolist()


@pytest.mark.parametrize("name", SETS)
def test_rows_as_json_are_answered_as_evaluate_did(served, registry, name):
    rows, expected = registry.rows(name), registry.answers(name)
    found = served.ask(f"/models/{name}/answers", {"rows": raw.as_json(rows)})
    assert found.status == 200, found.text
    assert (found.told["model"], found.told["version"]) == (name, "1")
    same(found.told["answers"], expected, rows.index[-len(found.told["answers"]) :])


@pytest.mark.parametrize("name", SETS)
def test_files_are_answered_as_evaluate_did(served, registry, name):
    rows, expected = registry.rows(name), registry.answers(name)
    if name in COLUMN:
        files = {str(file): content for file, content in rows[COLUMN[name]].items()}
    else:
        files = {"rows.csv": rows.to_csv(index=False).encode()}
    body, headers = form(files)
    found = served.ask(f"/models/{name}/answers", body, headers=headers)
    assert found.status == 200, found.text
    same(found.told["answers"], expected, rows.index[-len(found.told["answers"]) :])


@pytest.mark.parametrize("name", SETS)
def test_what_an_answer_rests_on_is_told(served, registry, name):
    rows = raw.as_json(registry.rows(name, 3 if name == "series" else 1))
    answer = served.ask(f"/models/{name}/answers", {"rows": rows}).told["answers"][-1]
    found = served.ask(f"/models/{name}/explanation", {"rows": rows})
    assert found.status == 200, found.text
    assert found.told["answer"] == answer
    effects = [abs(part["effect"]) for part in found.told["parts"]]
    assert effects == sorted(effects, reverse=True)
    assert effects[0] > 0


def test_only_one_row_is_explained_at_a_time(served, registry):
    rows = raw.as_json(registry.rows("tables", 2))
    assert served.ask("/models/tables/explanation", {"rows": rows}).status == 422


def test_every_model_tells_what_it_is_and_how_it_is_asked(served, registry):
    found = served.ask("/models").told
    assert [one["model"] for one in found] == list(SETS)
    for one in found:
        assert one["ready"]
        assert one == served.ask(f"/models/{one['model']}").told
        answer = served.ask(f"/models/{one['model']}/answers", one["example"])
        assert answer.status == 200
        assert answer.headers["model-version"] == f"{one['model']}/1"
        assert answer.headers["model-sha256"] == one["sha256"]
    columns = {column["name"]: column for column in found[0]["columns"]}
    assert columns["colour"] == {"name": "colour", "takes": "category", "values": ["green", "red"]}


def test_columns_of_the_data_that_no_model_sees_do_no_harm(served, registry):
    row = raw.as_json(registry.rows("tables", 1))[0]
    assert served.ask("/models/tables/answers", {"rows": [{**row, "answer": "1"}]}).status == 200


def test_a_category_is_the_same_as_a_text_and_as_a_number(served, registry):
    row = raw.as_json(registry.rows("tables", 1))[0]
    answers = [
        served.ask("/models/tables/answers", {"rows": [{**row, "colour": colour}]}).told["answers"]
        for colour in ("7", 7, 7.0, "unknown")
    ]
    assert answers.count(answers[0]) == 4
    assert served.ask("/models/tables/answers", {"rows": [{**row, "colour": None}]}).status == 200


def test_it_is_live_and_ready_and_counts(served):
    assert served.ask("/live").told == {"live": True}
    assert served.ask("/ready").told == {"ready": True}
    before = measured(served, 'trainyard_rows_total{model="text"}')
    served.ask("/models/text/answers", served.ask("/models/text").told["example"])
    assert measured(served, 'trainyard_rows_total{model="text"}') == before + 2
    assert measured(served, 'trainyard_model{model="text"}') == 1
    assert measured(served, 'trainyard_waiting{model="text"}') == 0


def measured(served, name):
    return float(re.search(rf"^{re.escape(name)} (\S+)$", served.ask("/metrics").text, re.MULTILINE)[1])


def test_openapi_tells_all_of_it_and_nothing_is_fetched_from_elsewhere(served):
    found = served.ask("/openapi.json").told
    assert {"/models", "/models/{name}", "/models/{name}/answers", "/models/{name}/explanation", "/ready"} <= set(
        found["paths"]
    )
    asked = found["paths"]["/models/{name}/answers"]["post"]
    assert [one["name"] for one in asked["parameters"]] == ["name"]
    assert asked["operationId"] == "answers"
    assert set(asked["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    assert {"200", "400", "413", "415", "422", "503"} <= set(asked["responses"])
    for path in ("/docs", "/redoc"):
        assert served.ask(path).status == 404


def test_the_page_is_one_file_that_fetches_nothing_and_is_no_frame(served):
    page = served.ask("/")
    assert page.status == 200
    assert not re.findall(r"""(?:src|href)=["'](?!data:)|https?://(?!www\.w3\.org/2000/svg)|@import|url\(""", page.text)
    assert "connect-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["x-content-type-options"] == "nosniff"


def test_a_line_a_request_tells_when_and_how_much_and_not_what(served, registry):
    row = {"said": "a-secret-text"}
    served.ask("/models/text/answers", {"rows": [row]})
    body, headers = form({"a-secret-name.png": base64.b64decode("aGVsbG8=")})
    served.ask("/models/images/answers", body, headers=headers)
    served.until(r"text answers 200 [\d.]+ ms, 1 rows, 37 bytes, version 1\n")
    served.until(r"images answers 422 [\d.]+ ms, 0 rows, \d+ bytes, version 1\n")
    log = served.log.read_text()
    assert not re.search(r"POST \S+ (200|422)", log), "one line is enough"
    assert "a-secret" not in log
    assert "Traceback" not in log


def test_requests_that_come_together_are_answered_each_its_own(served, registry):
    from concurrent.futures import ThreadPoolExecutor

    rows, expected = raw.as_json(registry.rows("prices")), registry.answers("prices")["answer"]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda row: served.ask("/models/prices/answers", {"rows": [row]}), rows))
    assert {one.status for one in found} == {200}
    answers = [json.loads(one.text)["answers"][0]["answer"] for one in found]
    np.testing.assert_allclose(answers, expected, rtol=1e-6, atol=1e-6)


def test_a_refused_request_costs_those_that_came_with_it_nothing(served, registry):
    from concurrent.futures import ThreadPoolExecutor

    good = raw.as_json(registry.rows("prices", 1))[0]
    bad = {**good, "size": 3e38, "age": 3e38}  # float32 holds them, but not the answer
    with ThreadPoolExecutor(16) as pool:
        asked = [bad if i % 5 == 0 else good for i in range(60)]
        found = list(pool.map(lambda row: served.ask("/models/prices/answers", {"rows": [row]}), asked))
    assert [one.status for one in found] == [422 if row is bad else 200 for row in asked]
