"""Another runtime answers as TensorFlow does, and is taken only where it is faster at equal answers."""

import dataclasses
import json
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from served import SETS

from trainyard import exporting, tracking
from trainyard.params import Serve
from trainyard.serving import runtime
from trainyard.serving.champion import Champion
from trainyard.serving.worker import Answerer


@pytest.fixture
def champion(inside, tmp_path):
    return lambda name: Champion(tracking.pin(name, tmp_path))


@pytest.fixture
def faster(monkeypatch):
    """Whatever is tried takes no time."""
    monkeypatch.setattr(runtime, "_milliseconds", lambda ask, raw: 1.0 if "tensorflow" in ask.__name__ else 0.5)


@pytest.mark.parametrize("to", runtime.NAMES)
@pytest.mark.parametrize("name", SETS)
def test_each_kind_is_answered_as_evaluate_did(champion, registry, faster, name, to):
    asked, expected = champion(name), registry.answers(name)
    asked.run(to)
    assert asked.runtime.startswith(f"{runtime.NAMES[to]}: 0.5 ms for 1 ms of TensorFlow at 1 row, 0.5 ms")
    asked.prove()
    asked.warm()
    before = len(asked._compiled.sizes)
    found = asked.ask(registry.rows(name)).loc[expected.index, expected.columns]
    assert len(asked._compiled.sizes) == before, "TensorFlow was asked"
    if expected.dtypes.iloc[0].kind == "f":
        np.testing.assert_allclose(found, expected, rtol=runtime.NEAR, atol=runtime.NEAR)
    else:
        assert found["answer"].tolist() == expected["answer"].tolist()


def test_one_that_is_slower_is_not_taken(champion, monkeypatch):
    monkeypatch.setattr(runtime, "_milliseconds", lambda ask, raw: 1.0 if "tensorflow" in ask.__name__ else 2.0)
    asked = champion("tables")
    asked.run("onnx")
    assert asked.runtime == "TensorFlow: ONNX Runtime takes 2 ms for 1 ms of TensorFlow at 1 row"
    assert asked._ask == asked._by_tensorflow


@pytest.mark.parametrize("name", ["prices", "speech"])
def test_one_that_answers_otherwise_is_not_taken(champion, monkeypatch, faster, name):
    form = exporting.FORMATS["onnx"]

    def session(path):
        ask = form.session(path)
        return lambda fed: np.roll(ask(fed) * np.float32(1.001), 1, axis=-1)

    monkeypatch.setitem(exporting.FORMATS, "onnx", dataclasses.replace(form, session=session))
    asked = champion(name)
    asked.run("onnx")
    assert asked.runtime == "TensorFlow: ONNX Runtime answers 1 of its examples otherwise"


def test_what_a_format_cannot_hold_is_answered_by_tensorflow(champion, monkeypatch):
    def convert(graph, path):
        raise ValueError("no such operation")

    monkeypatch.setitem(exporting.FORMATS, "onnx", dataclasses.replace(exporting.FORMATS["onnx"], convert=convert))
    asked = champion("tables")
    asked.run("onnx")
    assert asked.runtime == "TensorFlow: tables: onnx cannot hold it: no such operation"
    asked.prove()


def test_the_next_process_converts_and_measures_nothing(champion, faster, monkeypatch, registry):
    first = champion("tables")
    first.run("onnx")
    monkeypatch.setattr(exporting, "written", None)
    monkeypatch.setattr(runtime, "_milliseconds", None)
    again = Champion(first.pinned)
    again.run("onnx")
    assert again.runtime == first.runtime
    rows = registry.rows("tables")
    assert again.ask(rows).equals(first.ask(rows))


def test_params_say_which_and_the_answerer_tells(champion, faster):
    told = Answerer(champion("tables"), Serve(runtime="onnx")).about()["runtime"]
    assert told.startswith("ONNX Runtime: ")
    assert Answerer(champion("tables"), Serve()).about()["runtime"] == "TensorFlow"


def test_a_runtime_that_is_not_installed_is_told_before_anything_is_served(registry, inside, monkeypatch):
    from trainyard.errors import EnvironmentFailed
    from trainyard.serving.server import serve

    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == "onnxruntime" else find_spec(name))
    asked = registry.params.model_copy(update={"serve": Serve(runtime="onnx")})
    with pytest.raises(EnvironmentFailed, match=r"^serve\.runtime onnx: onnxruntime is not installed \(pip install"):
        serve(["tables"], asked, "127.0.0.1", 0)


def test_a_server_says_by_what_it_answers(start, registry):
    running = start("tables", "images", serve={"runtime": "onnx"})
    for one in running.ask("/models").told:
        name = one["model"]
        told = running.until(f"{name}: version 1, content [0-9a-f]{{8}}, answers its example by (.*)")[1]
        assert told == one["runtime"]
        rows = (
            json.loads(registry.rows(name, 5).to_json(orient="records")) if name == "tables" else one["example"]["rows"]
        )
        found = pd.DataFrame(running.ask(f"/models/{name}/answers", {"rows": rows}).told["answers"])
        expected = registry.answers(name).iloc[: len(found)]
        np.testing.assert_allclose(found[expected.columns], expected, rtol=runtime.NEAR, atol=runtime.NEAR)
