"""The server: routes by FastAPI, and before them a gate that lets through what it knows, of a size that it takes.

No body is read here: `desk` hands each to the process of its model.
"""

import asyncio
import hmac
import json
import logging
import time
from base64 import b64encode
from collections import Counter as Tally
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from hashlib import sha256
from importlib import metadata
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.exceptions import HTTPException
from starlette.routing import Route

from trainyard.params import Serve
from trainyard.serving.desk import Busy, Desk
from trainyard.serving.question import Refused
from trainyard.serving.worker import ANSWERS, EXPLANATION, Asked

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

QUESTIONS = {
    "/models/{name}/answers": (ANSWERS, "Answers to rows, or to files"),
    "/models/{name}/explanation": (EXPLANATION, "What the answer to one row rests on"),
}
"""Paths of questions, with what is asked, in a word and in words."""
OPEN = {"/", "/live", "/ready"}
"""Paths that tell nothing: asked without a token."""
HELD = 2**28
"""Bytes of bodies, beyond which those of more than an even share of it are sent away; of one other machine half."""
UPLOAD = 60.0
"""Seconds in which a whole body must have come."""
PAUSE = 0.04
"""Seconds after which who comes in vain is told so: asking again at once, it takes no time from those who wait."""
LARGE = {"images": 10.0, "speech": 10.0}
"""Megabytes of a body by default; of other kinds 1."""
ALWAYS = {"cache-control": "no-store", "x-content-type-options": "nosniff", "x-frame-options": "DENY"}
BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
"""Seconds."""

log = logging.getLogger(__name__)


class Measured:
    """What /metrics tells."""

    def __init__(self, desks: Mapping[str, Desk]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        told: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("trainyard_requests", "Requests answered.", ["model", "route", "status"], **told)
        self.rows = Counter("trainyard_rows", "Rows answered.", ["model"], **told)
        self.seconds = Histogram("trainyard_seconds", "Time to an answer.", ["model", "route"], buckets=BUCKETS, **told)
        waiting = Gauge("trainyard_waiting", "Requests that wait or are answered.", ["model"], **told)
        about = Gauge("trainyard_model", "1 where the model is ready.", ["model"], **told)
        for name, desk in desks.items():
            waiting.labels(name).set_function(partial(getattr, desk, "load"))
            about.labels(name).set_function(partial(getattr, desk, "ready"))


@dataclass(frozen=True)
class Gate:
    """What stands before the routes."""

    inner: Application
    hosts: frozenset[str]
    """Names and addresses by which the server may be called; any address where a token is asked for."""
    token: str | None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Refuse, or pass on; with the headers that every answer has."""
        if scope["type"] != "http":
            return

        status = 0

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_ALWAYS]
            await send(message)

        inner: Application = self.inner
        if refusal := self._refusal(scope, dict(scope["headers"])):
            number, error, more = refusal
            inner = _problem(number, error, headers=more)
        await inner(scope, receive, told)
        if "told" not in scope:
            log.info("%s %s %d", scope["method"], getattr(scope.get("route"), "path", "-"), status)

    def _refusal(self, scope: Message, headers: dict[bytes, bytes]) -> tuple[int, str, dict[str, str]] | None:
        if not self._known(headers.get(b"host", b"")):
            return 421, "this server does not answer to that host (see `serve.hosts` of params.yaml)", {}
        origin = headers.get(b"origin")
        if origin is not None and not self._known(origin.rpartition(b"//")[2]):
            return 403, "a page of another site may not ask", {}
        other = b"upgrade" in headers and scope["method"] == "POST"  # for whose sake no body is read
        if other or headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            return 501, "a transfer encoding other than chunked, or another protocol", {}
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            return 415, "a body that is packed is not read", {}
        if self.token and scope["path"] not in OPEN:
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, f"Bearer {self.token}".encode()):
                return 401, "a bearer token is needed", {"www-authenticate": "Bearer"}
        return None

    def _known(self, host: bytes) -> bool:
        name = _without_port(host)
        return name in self.hosts or (self.token is not None and _is_address(name))


def build(desks: Mapping[str, Desk], serve: Serve, hosts: Sequence[str], token: str | None) -> Gate:
    """The whole application."""
    measured, bodies = Measured(desks), Bodies()

    async def ask(what: str, request: Request) -> Response:
        name, began, rows, version = request.path_params["name"], time.perf_counter(), 0, "-"
        status, size = 500, 0
        try:
            desk = _desk(desks, name)
            most = int(1e6 * (serve.megabytes or LARGE.get(desk.about["kind"], 1.0)))
            client = request.client.host if request.client and not bound(request.client.host) else None
            desk.refuse(client)  # before a body is read in vain; one that comes slowly takes no place
            async with bodies.read(request, most, client) as body, desk.place(client):
                size = len(body)
                reply, about = await desk.ask(Asked(what, request.headers.get("content-type", ""), body))
            status, rows, version = reply.status, reply.rows, about["version"]
            told = {"model-version": f"{name}/{version}", "model-sha256": about["sha256"]}
            return Response(reply.body, status, told, media_type="application/json")
        except (Refused, Busy) as refused:
            status = refused.status
            raise
        except HTTPException as error:
            status = error.status_code
            raise
        finally:
            took = time.perf_counter() - began
            of = name if name in desks else "-"
            measured.requests.labels(of, what, status).inc()
            if status < 400:
                measured.rows.labels(of).inc(rows)
                measured.seconds.labels(of, what).observe(took)
            request.scope["told"] = True  # the gate has no line about it
            log.info(
                "%s %s %d %.1f ms, %d rows, %d bytes, version %s", of, what, status, 1000 * took, rows, size, version
            )

    app = FastAPI(
        title="trainyard",
        description="Registered models, asked. A row is an object with a value a column; `GET /models` tells them.",
        version=metadata.version("trainyard"),
        docs_url=None,  # they fetch a script from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        # not FastAPI's own, as what it does for a route costs as much as an answer
        routes=[Route(path, partial(ask, what), methods=["POST"]) for path, (what, _) in QUESTIONS.items()],
    )
    app.openapi = partial(_described, app)  # type: ignore[method-assign]  # as FastAPI has one extend it

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        text, policy = _page()
        return Response(text, media_type="text/html", headers={"content-security-policy": policy})

    @app.get("/live", summary="Whether the server answers")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/ready", summary="Whether every model answers its example as it was registered")
    async def ready(response: Response) -> dict[str, bool]:
        found = all(desk.ready for desk in desks.values())
        response.status_code = 200 if found else 503
        return {"ready": found}

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(measured.registry), media_type="text/plain; version=0.0.4")

    @app.get("/models", summary="All models: version, columns, and an example of each")
    async def models() -> list[dict[str, Any]]:
        return [{**desk.about, "ready": desk.ready} for desk in desks.values()]

    @app.get("/models/{name}", summary="A model: version, columns, and an example")
    async def model(name: str) -> dict[str, Any]:
        desk = _desk(desks, name)
        return {**desk.about, "ready": desk.ready}

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return _problem(error.status, **error.told)

    @app.exception_handler(Busy)
    async def busy(request: Request, error: Busy) -> Response:
        await asyncio.sleep(PAUSE)
        return _problem(error.status, error.told, headers={"retry-after": str(error.again)})

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return _problem(500, "a fault of the server")

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        return _problem(error.status_code, str(error.detail), headers=dict(error.headers or {}))

    return Gate(app, frozenset(hosts), token)


@lru_cache(2**10)
def bound(host: str) -> bool:
    """Whether an address is of this machine alone."""
    if not _is_address(host):
        return host == "localhost"
    address = ip_address(host)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback  # what `::` takes in by IPv4 is mapped


class Bodies:
    """Bodies of requests in memory: `count` of them, of `size` bytes in all."""

    def __init__(self) -> None:
        self.count = self.size = 0
        self._of: Tally[str] = Tally()

    @asynccontextmanager
    async def read(self, request: Request, most: int, client: str | None = None) -> AsyncIterator[bytes]:
        """One more, read piece by piece; raises Refused where it is too large or slow, Busy where all are together.

        Where they fill the memory, small ones pass: only those of more than an even share are sent away. A `client`
        has no more than half of it; None is one that is not told from another.
        """
        told, parts, size, more = request.headers.get("content-length", "0"), [], 0, True
        self.count += 1
        try:
            if not told.isdecimal() or len(told) > 19 or int(told) > most:
                raise Refused(413, f"the body has more than {most:,} bytes")
            async with asyncio.timeout(UPLOAD):
                while more:
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(400, "the body was cut short")
                    part, more = message.get("body", b""), message.get("more_body", False)
                    size += len(part)
                    self.size += len(part)
                    if client is not None:
                        self._of[client] += len(part)
                        if 2 * self._of[client] > HELD:
                            raise Busy("bodies of yours fill half of the memory", 1, 429)
                    if size > most:
                        raise Refused(413, f"the body has more than {most:,} bytes")
                    if self.size > HELD and size * self.count > HELD:
                        raise Busy("bodies of other requests fill the memory", 1)
                    parts.append(part)
        except TimeoutError:
            raise Refused(408, "the request came too slowly") from None
        else:
            body = b"".join(parts)
            parts.clear()  # or all of it would be there twice
            yield body
        finally:
            self.count -= 1
            self.size -= size
            if client is not None:
                self._of[client] -= size
                if not self._of[client]:
                    del self._of[client]


def _desk(desks: Mapping[str, Desk], name: str) -> Desk:
    if name not in desks:
        raise HTTPException(404, f"no such model (it is one of: {', '.join(desks)})")
    return desks[name]


def _problem(
    status: int, error: str, field: str | None = None, row: int | None = None, headers: dict[str, str] | None = None
) -> Response:
    told = json.dumps({"error": error, "field": field, "row": row})
    return Response(told, status, headers, media_type="application/json")


def _described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI of all routes, those of questions too, of which FastAPI knows nothing."""
    told = FastAPI.openapi(app)
    told["paths"] |= {
        path: {"post": {"summary": summary, "operationId": what, **_question()}}
        for path, (what, summary) in QUESTIONS.items()
    }
    return told


def _question() -> dict[str, Any]:
    """An operation of OpenAPI: the body, which the process of the model reads, and what comes back."""
    rows = {"type": "array", "minItems": 1, "items": {"type": "object"}}
    json_body = {"type": "object", "required": ["rows"], "additionalProperties": False, "properties": {"rows": rows}}
    files = {
        "type": "object",
        "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}},
    }
    content = {"application/json": {"schema": json_body}, "multipart/form-data": {"schema": files}}
    told = {"type": ["string", "null"]}
    error = {
        "type": "object",
        "properties": {"error": {"type": "string"}, "field": told, "row": {"type": ["integer", "null"]}},
    }
    refusals = {
        "400": "not JSON, or no form",
        "401": "no token",
        "403": "a page of another site asks",
        "404": "no such model",
        "408": "it came too slowly",
        "413": "too large, or too many rows",
        "415": "another content type",
        "421": "a host by which the server is not called",
        "422": "rows that the model does not take",
        "429": "one address holds more than half of the places, or of the memory; Retry-After says when to come again",
        "500": "a fault of the server; its log says where",
        "501": "another transfer encoding than chunked, or another protocol",
        "503": "no answer now; Retry-After says when to come again",
    }
    found: dict[str, Any] = {"200": {"description": "answers", "content": {"application/json": {"schema": {}}}}}
    found |= {
        status: {"description": what, "content": {"application/json": {"schema": error}}}
        for status, what in refusals.items()
    }
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    return {"parameters": [name], "requestBody": {"required": True, "content": content}, "responses": found}


@cache
def _page() -> tuple[str, str]:
    """The page, and the policy that lets it do what it does and no more."""
    text = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
    style = (Path(__file__).parent.parent / "reporting" / "style.css").read_text(encoding="utf-8")
    text = text.replace("/* style.css */", style)
    script = text.partition("<script>")[2].partition("</script>")[0]
    digest = b64encode(sha256(script.encode()).digest()).decode()
    allowed = {
        "default-src": "'none'",
        "script-src": f"'sha256-{digest}'",
        "style-src": "'unsafe-inline'",
        "connect-src": "'self'",
        "img-src": "blob: data:",
        "media-src": "blob: data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return text, "; ".join(f"{name} {value}" for name, value in allowed.items())


def _without_port(host: bytes) -> str:
    name = host.decode("latin-1").lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


_ALWAYS = [(name.encode(), value.encode()) for name, value in ALWAYS.items()]
