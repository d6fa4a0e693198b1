"""What the process of a model does with questions, without a process, a registry or TensorFlow."""

import asyncio
import io
import json
import socket
import tempfile
import threading
import time
from base64 import b64encode
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy_champion import NumpyChampion

from trainyard.errors import BadInput
from trainyard.params import Series, Serve, Speech
from trainyard.quality.objectives import OBJECTIVES
from trainyard.serving import worker
from trainyard.serving.desk import Worker
from trainyard.serving.worker import ANSWERS, EXPLANATION, Answerer, Asked
from trainyard.tracking import Pinned

PINNED = Pinned("m", "1", "c", "0" * 64, "t", Path())
ROW = {"a": 0.5, "b": -1.0, "c": "x"}


class Quiet(NumpyChampion):
    """Proves nothing, and tells how many rows it was asked at a time."""

    def __init__(self, *given):
        super().__init__(PINNED, *given)
        self.rows = []

    def prove(self):
        pass

    def warm(self):
        pass

    def ask(self, table):
        self.rows.append(len(table))
        return super().ask(table)


class Deaf(Quiet):
    """Hears nothing in recordings."""

    def ask(self, table):
        self.rows.append(len(table))
        return pd.DataFrame({"answer": ["nothing"] * len(table)}, index=table.index)


@pytest.fixture
def answerer():
    return lambda *given, champion=Quiet, **knobs: Answerer(champion(*given), Serve(**knobs))


def asked(*rows, what=ANSWERS):
    return Asked(what, "application/json", json.dumps({"rows": rows}).encode())


def replies(one, *questions):
    """In the order of the questions."""
    found = {place: reply for some in one.answer(questions) for place, reply in some.items()}
    return [found[place] for place in range(len(questions))]


def told(reply):
    return json.loads(reply.body)


def silence(seconds, rate):
    import soundfile

    content = io.BytesIO()
    soundfile.write(content, np.zeros(seconds * rate, np.float32), rate, format="FLAC")
    return {"recording": b64encode(content.getvalue()).decode()}


def test_files_are_counted_by_what_they_are_decoded_to(answerer):
    """A thousand recordings of half a minute of silence are less than a megabyte, and two gigabytes."""
    one = answerer(Speech(kind="speech", path="calls", rate=16_000, longest=30.0), {"classes": []}, champion=Deaf)
    clip = silence(30, 16_000)
    (refused,) = replies(one, asked(*[clip] * 1000))
    assert (refused.status, told(refused)["error"]) == (413, "1000 rows (at most 17)")
    found = replies(one, *[asked(clip)] * 40, asked(*[clip] * 17))
    assert [reply.status for reply in found] == [200] * 41
    assert one.champion.rows == [17, 17, 6, 17]


def test_windows_of_a_series_are_counted_not_its_rows(answerer):
    spec = Series(kind="series", path="x", time="day", target="level", window=4000, horizon=1)
    one = answerer(spec, {"columns": ["level"] * 100}, rows=10_000)
    assert one.most == 20  # of 1.6 MB each
    assert one.reader.most == 4019


def test_rows_of_a_table_are_few_bytes_and_go_together(answerer):
    one = answerer()
    assert [reply.status for reply in replies(one, *[asked(*[ROW] * 1000)] * 3)] == [200] * 3
    assert one.champion.rows == [3000]


class Lazy(Quiet):
    """Takes a while, and refuses what is far from 0."""

    def ask(self, table):
        time.sleep(0.2)
        if (table["a"].abs() > 1).any():
            raise BadInput("row 0: the model has no finite answer to it")
        return super().ask(table)

    def without_parts(self, row):
        return iter(())


def test_replies_go_as_they_come_and_none_is_made_for_whom_nobody_waits(answerer):
    one = answerer(champion=Lazy, seconds=0.5)
    explained, far = asked(ROW, what=EXPLANATION), asked({**ROW, "a": 2.0})
    began, came = time.monotonic(), {}
    for some in one.answer([*[explained] * 5, asked(ROW), asked({}), asked(ROW)]):
        came |= {place: (reply.status, time.monotonic() - began) for place, reply in some.items()}
    assert [status for status, _ in came.values()] == [422, 200, 200, 200, 200, 503, 503, 503]
    assert came[6][1] < 0.1  # what is refused at once
    assert came[5][1] < 0.3  # rows, together
    assert came[0][1] < 0.5
    assert came[4][1] < 0.8
    assert [reply.status for reply in replies(one, asked(ROW), far)] == [200, 422]


def test_both_ends_of_a_process_understand_each_other(monkeypatch):
    champion = Quiet()
    champion.about["objective"] = "binary"
    monkeypatch.setattr(worker, "Champion", lambda pinned: champion)
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)  # for the main thread alone
    monkeypatch.setattr(tempfile, "tempdir", None)
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=worker.work, args=(theirs, PINNED, Serve()))
    thread.start()
    questions = [asked(ROW, what=EXPLANATION), asked({}), asked(ROW, ROW), Asked(ANSWERS, "", b"")]

    async def run():
        end = Worker(None, await asyncio.open_connection(sock=ours))
        assert json.loads(await end._frame())["columns"][0] == {"name": "a", "takes": "number"}
        for _ in range(2):
            found = {place: (reply.status, reply.rows) async for place, reply in end.exchange(questions)}
            assert found == {0: (200, 1), 1: (422, 0), 2: (200, 2), 3: (415, 0)}
        end._write.close()
        await end._write.wait_closed()

    asyncio.run(run())
    thread.join(10)
    assert not thread.is_alive()


# === Explanations ===


class Extreme(Quiet):
    """Answers with numbers near the ends of float32."""

    def __init__(self, answers, within):
        super().__init__()
        self.objective, self.given = OBJECTIVES["regression"], iter(answers)
        self.about = {**self.about, "classes": []}
        self.golden = {**self.golden, "within": within}

    def answers(self, values):
        return np.array([[next(self.given)]], np.float32)


BIG = float(np.finfo(np.float32).max)


@pytest.mark.parametrize(
    ("answers", "within", "status"),
    [
        ([BIG, -BIG, 0, 0], {}, 200),  # their difference is no float32
        ([0, np.inf, 0, 0], {}, 422),  # not finite without a part
        ([0.99 * BIG] * 4, {"answer": 0.1 * BIG}, 422),  # an end of the interval is not
    ],
)
def test_an_explanation_is_one_or_is_refused(answerer, answers, within, status):
    one = answerer(answers, within, champion=Extreme)
    (found,) = replies(one, asked(ROW, what=EXPLANATION))
    assert found.status == status, found.body
    if status == 200:
        assert max(part["effect"] for part in told(found)["parts"]) == pytest.approx(2 * BIG)
    else:
        assert told(found)["error"] == "no finite answer to it"


def test_an_interval_without_an_end_is_no_answer(answerer):
    one = answerer([0.99 * BIG] * 2, {"answer": 0.1 * BIG}, champion=Extreme)
    (found,) = replies(one, asked(ROW))
    assert (found.status, told(found)["error"]) == (422, "no finite answer to it")
