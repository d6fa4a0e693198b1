"""A process that holds one champion and answers questions, so that what they hold can harm nobody else.

The server never looks into a body: it hands it on, and gives back what comes. A question that takes too long, or breaks
a decoder, ends this process and no other. What goes to and fro are frames of bytes, four that tell the length before
each: a list of what is asked in JSON and then each body; and as many answers likewise, as soon as some are there.
"""

import gc
import json
import logging
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedRWPair
from typing import Any

import numpy as np
import pandas as pd

from trainyard.errors import BadInput, TrainyardError
from trainyard.params import Series, Serve
from trainyard.quality import metrics
from trainyard.serving.champion import Champion
from trainyard.serving.kept import keeper
from trainyard.serving.question import FILES, Question, Reader, Refused
from trainyard.serving.rows import at_once
from trainyard.tracking import Pinned
from trainyard.training import device

LENGTH = 4
"""Bytes of a frame's length, the most significant first."""
ANSWERS, EXPLANATION = "answers", "explanation"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """A question as it came."""

    what: str
    """`ANSWERS` or `EXPLANATION`."""
    content_type: str
    body: bytes


@dataclass(frozen=True)
class Reply:
    """What goes back."""

    status: int
    rows: int
    body: bytes


def work(channel: socket.socket, pinned: Pinned, serve: Serve) -> None:
    """Load, prove and warm a champion, say what it is, and answer until the other end is gone."""
    for number in (signal.SIGINT, signal.SIGHUP):  # the server's own end is that of its processes
        signal.signal(number, signal.SIG_IGN)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("trainyard.kinds").setLevel(logging.ERROR)  # they warn in words of what they read
    tempfile.tempdir = str(pinned.folder.parent)  # what a death leaves there goes with the server
    with suppress(BrokenPipeError, ConnectionResetError), channel, channel.makefile("rwb") as stream:
        try:
            with device.quiet():
                answerer = Answerer(Champion(pinned), serve)
        except (TrainyardError, OSError) as error:  # files that are gone, where the server has ended meanwhile
            _send(stream, json.dumps({"refused": str(error)}).encode())
            return
        gc.freeze()  # else all of TensorFlow's objects are looked at now and then, and that takes 0.2 s
        _send(stream, json.dumps(answerer.about()).encode())
        while head := _received(stream):
            asked = [Asked(what, kind, _received(stream)) for what, kind in json.loads(head)]
            for replies in answerer.answer(asked):
                told = [[place, reply.status, reply.rows] for place, reply in replies.items()]
                _send(stream, json.dumps(told).encode(), *(reply.body for reply in replies.values()))
            answerer.keep()
        answerer.keep(now=True)


class Answerer:
    """Answers questions that came together."""

    def __init__(self, champion: Champion, serve: Serve) -> None:
        """Raises BadInput where the champion does not answer its example as it should."""
        if serve.runtime != "tensorflow":
            champion.run(serve.runtime)
        champion.prove()
        champion.warm()
        self.champion, self.seconds = champion, serve.seconds
        self.most = most = at_once(champion.spec, champion.facts)
        if isinstance(champion.spec, Series):
            most += champion.spec.window - 1  # so many windows
        elif type(champion.spec) not in FILES:
            most = serve.rows  # what is decoded is no larger than what came
        self.reader = Reader(champion.spec, champion.facts, min(serve.rows, most))
        known = champion.pinned.model, champion.spec, champion.facts
        columns, example = [*self.reader.columns()], champion.golden["rows"]
        self.kept = keeper(*known, serve.keep, columns, example) if serve.keep else None

    def about(self) -> dict[str, Any]:
        """What a caller must know."""
        pinned, champion = self.champion.pinned, self.champion
        columns: list[dict[str, Any]] = [
            {"name": name, "takes": takes} for name, takes in self.reader.columns().items()
        ]
        for column in columns:
            if column["takes"] == "category":
                column["values"] = champion.facts["categories"][column["name"]]
        return {
            "model": pinned.model,
            "version": pinned.version,
            "content": pinned.content,
            "sha256": pinned.sha256,
            "runtime": champion.runtime,
            "kind": champion.about["kind"],
            "objective": champion.about["objective"],
            "classes": champion.about["classes"] if champion.objective.classifies else [],
            "columns": columns,
            "window": getattr(champion.spec, "window", None),
            "target": champion.spec.target if isinstance(champion.spec, Series) else None,
            "delimiter": getattr(champion.spec, "delimiter", None),
            "example": champion.example,
        }

    def answer(self, asked: Sequence[Asked]) -> Iterator[dict[int, Reply]]:
        """A reply to each, by its place, as soon as it is there; when `seconds` are over nobody waits for the rest.

        Rows of several questions are computed together, and alone where one of them is refused.
        """
        latest = time.monotonic() + self.seconds
        together: dict[int, Question] = {}
        alone: dict[int, Question] = {}
        refused: dict[int, Reply] = {}
        for place, one in enumerate(asked):
            try:
                question = self.reader.read(one.body, one.content_type)
                (alone if one.what == EXPLANATION or question.table is not None else together)[place] = question
            except Exception as error:  # noqa: BLE001  # one that nobody foresaw costs its own answer alone
                refused[place] = self._refused(error)
        if refused:
            yield refused
        for group in self._groups(together):
            try:
                _refuse_late(latest)
                replies = self._jointly(group)
            except Exception:  # noqa: BLE001  # which of them it was is seen one by one
                alone |= group
            else:
                yield replies
        for place, question in alone.items():
            try:
                _refuse_late(latest)
                reply = (self._explained if asked[place].what == EXPLANATION else self._alone)(question)
            except Exception as error:  # noqa: BLE001  # as above
                reply = self._refused(error)
            yield {place: reply}

    def keep(self, *, now: bool = False) -> None:
        """Write what was kept, from time to time, or now."""
        if self.kept:
            self.kept.write(now=now)

    def _groups(self, questions: dict[int, Question]) -> Iterator[dict[int, Question]]:
        """Questions with at most `self.most` rows in all: a small file may hold a large image."""
        group: dict[int, Question] = {}
        room = self.most
        for place, question in questions.items():
            if group and len(question) > room:
                yield group
                group, room = {}, self.most
            group[place] = question
            room -= len(question)
        if group:
            yield group

    def _jointly(self, questions: dict[int, Question]) -> dict[int, Reply]:
        rows = [row for question in questions.values() for row in question.rows]
        told = list(_rows(self.champion.ask(self.reader.table(rows)), named=False))
        replies, start = {}, 0
        for place, question in questions.items():
            replies[place] = self._reply({"answers": told[start : start + len(question)]}, len(question))
            start += len(question)
        if self.kept:
            self.kept.take(rows)
        return replies

    def _alone(self, question: Question) -> Reply:
        found = self.champion.ask(self.reader.table(question.rows) if question.table is None else question.table)
        told = list(_rows(found, named=self.champion.about["kind"] == "series"))
        if self.kept:
            rows: list[Any] = question.rows if question.table is None else question.table.to_dict("records")
            self.kept.take(rows)
        return self._reply({"answers": told}, len(question))

    def _explained(self, question: Question) -> Reply:
        """The answer to one row, or to the last window, and what it would be without each part of it."""
        table = self.reader.table(question.rows) if question.table is None else question.table
        if len(question) != 1 and self.champion.about["kind"] != "series":
            raise Refused(422, f"{len(question)} rows (one answer is explained at a time)", "rows")
        whole = self.champion.ask(table).iloc[-1:]
        parts: list[dict[str, Any]] = [
            {"part": part, "answer": next(_rows(without, named=False)), "effect": self._effect(whole, without)}
            for part, without in self.champion.without_parts(table)
        ]
        parts.sort(key=lambda part: -abs(part["effect"]))
        (answer,) = _rows(whole, named=self.champion.about["kind"] == "series")
        return self._reply({"answer": answer, "parts": parts}, len(question))

    def _effect(self, whole: pd.DataFrame, without: pd.DataFrame) -> float:
        """What a part adds to the probability of the likeliest class, or to the mean; or the letters it changes."""
        first, second = whole.iloc[0], without.iloc[0]
        if self.champion.objective.name == "transcription":
            return float(metrics.character_errors(first["answer"], second["answer"]))
        if self.champion.objective.classifies:
            likeliest = str(first.astype(float).idxmax())
            return _short(float(first[likeliest]) - float(second[likeliest]))
        numbers = [name for name in map(str, whole) if not name.endswith(("_low", "_high"))]
        return _short(np.mean(first[numbers].astype(np.float64) - second[numbers].astype(np.float64)))

    def _refused(self, error: Exception) -> Reply:
        """What is told of a refusal. Where anything else failed the log tells, not what: that may be what was asked."""
        if isinstance(error, BadInput):
            error = self.reader.refusal(error)
        if not isinstance(error, Refused):
            place = error.__traceback__
            while place and place.tb_next:
                place = place.tb_next
            where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else "?"
            log.error("a question failed: %s at %s", type(error).__name__, where)
            error = Refused(500, "the server failed; its log says where")
        return Reply(error.status, 0, json.dumps(error.told).encode())

    def _reply(self, told: dict[str, Any], rows: int) -> Reply:
        pinned = self.champion.pinned
        body = {"model": pinned.model, "version": pinned.version, **told}
        return Reply(200, rows, json.dumps(body, allow_nan=False, ensure_ascii=False).encode())


def _refuse_late(latest: float) -> None:
    if time.monotonic() > latest:
        raise Refused(503, "nobody waits for it any more")


def _rows(found: pd.DataFrame, *, named: bool) -> Iterator[dict[str, Any]]:
    """Answers as JSON has them: numbers in nine digits, as in scores.csv; of series each with its time."""
    names = [str(name) for name in found]
    columns = [[_short(value) for value in found[name].tolist()] for name in names]
    for name, values in zip(found.index, zip(*columns, strict=True), strict=True):
        yield {**({"time": name} if named else {}), **dict(zip(names, values, strict=True))}


def _short(value: Any) -> Any:
    return value if isinstance(value, str) else float(f"{value:.9g}")


def _send(stream: BufferedRWPair, *frames: bytes) -> None:
    stream.writelines(len(frame).to_bytes(LENGTH) + frame for frame in frames)
    stream.flush()


def _received(stream: BufferedRWPair) -> bytes:
    """A frame; empty where the other end is gone."""
    length = int.from_bytes(stream.read(LENGTH))
    return stream.read(length)
