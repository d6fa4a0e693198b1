"""A question: the body of a request as raw rows that `kinds.KIND.decode` takes, or a refusal that repeats none of it.

JSON is `{"rows": [{column: value, ...}, ...]}`, strict: no key twice, no key that is unknown, no NaN and no number that
float32 does not hold, and each value of the type that its column has. An image or a recording is the bytes of its file
in base64. By multipart come files: images or recordings, a row each, or one CSV file as the dataset's own.
"""

import json
import logging
import math
import re
import tempfile
from base64 import b64decode
from binascii import Error as NoBase64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from trainyard.errors import BadInput
from trainyard.kinds import delimited
from trainyard.params import Dataset, Images, Series, Speech, Tables, Text, nearest

BIGGEST = float(np.finfo(np.float32).max)
FILES: dict[type[Dataset], tuple[str, str]] = {
    Images: ("image", "PNG or JPEG"),
    Speech: ("recording", "WAV, FLAC or OGG"),
}
"""Kinds of which a row is a file: its column, and what the file may be."""
LONGEST = 100_000
"""Characters of a text, or of the name of a category."""
FIXED = re.compile(
    r"is no number|is too large for float32|has digits that no number keeps|none of its values"
    r"|no column|occurs twice|has no name|has a header but no rows|no rows to answer|begins with an empty line|is empty"
    r"|not UTF-8 at byte \d+|holds a NUL byte|is a spreadsheet|packed by gzip|a Parquet file|a line of [\d,]+ bytes"
    r"|\d+ cells \(expected \d+|unexpected end of data|field larger than field limit|expected after"
    r"|is no time \(expected ISO 8601|is not later than the row before|unlike the rows before"
    r"|is not on the grid of step|after the row before, elsewhere|makes [\d,]+ rows, of which \d+ are there|no row has"
    r"|\d+ rows hold no whole window \(expected \d+ rows in a row without a missing value\)"
    r"|more than [\d,]+ characters|half a surrogate pair|\(expected text\)|no finite answer to it"
    r"|no readable PNG or JPEG|broken image|(\d+x\d+|too many) pixels \((at most \d+ in all|expected \d+x\d+)"
    r"|[\d,]+ bytes \(at most [\d,]+\)"
    r"|no readable WAV, FLAC or OGG|\(expected WAV, FLAC or OGG\)|cut short|broken recording|holds no sound"
    r"|\d+ channels \(at most \d+\)|\d+ samples a second \((at most|expected) \d+|\d+ s \(at most [\d.]+"
)
"""What refusals of `kinds` say in words of their own: all else in them may be what was asked."""

logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it warns in words of what it reads


class Refused(Exception):
    """Why a request gets no answer: a status of HTTP, and what, at which field and row, from 0 on."""

    def __init__(self, status: int, error: str, field: str | None = None, row: int | None = None) -> None:
        super().__init__(error)
        self.status = status
        self.told: dict[str, Any] = {"error": error, "field": field, "row": row}


@dataclass(frozen=True)
class Question:
    """What is asked: rows as JSON has them, which may be answered with those of others, or a table that may not."""

    rows: list[dict[str, Any]]
    table: pd.DataFrame | None = None

    def __len__(self) -> int:
        return len(self.rows) if self.table is None else len(self.table)


@dataclass(frozen=True)
class Reader:
    """Reads questions to a model: `spec` and `facts` are those of its data, `most` the rows of a question."""

    spec: Dataset
    facts: Mapping[str, Any]
    most: int

    def read(self, body: bytes, content_type: str) -> Question:
        """Raises Refused."""
        kind = content_type.partition(";")[0].strip().lower()
        if kind == "application/json":
            return self._of_json(body)
        if kind == "multipart/form-data":
            return self._of_files(_files(body, content_type))
        told = f"content type {'is missing' if not kind else 'is another'}"
        raise Refused(415, f"{told} (expected application/json or multipart/form-data)")

    def table(self, rows: list[dict[str, Any]]) -> pd.DataFrame:
        """Checked rows, of one question or of many, as `decode` takes them."""
        columns = self.columns()
        numbers = [name for name, takes in columns.items() if takes == "number"]
        block = np.array([[row[name] for name in numbers] for row in rows], np.float64)
        table = pd.DataFrame(block, columns=numbers)  # as a whole: column by column it takes four times as long
        for name in columns.keys() - set(numbers):
            table[name] = pd.array([row[name] for row in rows], dtype="str" if columns[name] == "category" else object)
        return table

    def columns(self) -> dict[str, str]:
        """What each column of a row takes: `number`, `category`, `text`, `time` or `file`."""
        spec = self.spec
        if isinstance(spec, Tables):
            return dict.fromkeys(self.facts["numeric"], "number") | dict.fromkeys(self.facts["categorical"], "category")
        if isinstance(spec, Text):
            return {spec.text: "text"}
        if isinstance(spec, Series):
            return {spec.time: "time", **dict.fromkeys(self.facts["columns"], "number")}
        return {FILES[type(spec)][0]: "file"}

    def refusal(self, error: BadInput) -> Refused:
        """What `kinds` refuse, in words of `FIXED` alone, with a column of the model and the row, from 0 on."""
        told = str(error).splitlines()[0]
        found, column = FIXED.search(told), re.search(r"column `([^`]*)`", told)
        fixed = found[0] if found else "is not as the model's data"
        line, row = re.search(r"rows\.csv:(\d+)", told), re.match(r"rows?[: ](\d+)", told)
        at = int(row[1]) if row else None
        if line:  # of a file, counted from 1 on, the header too
            at = int(line[1]) - (1 if getattr(self.spec, "names", None) else 2)
        return Refused(
            422,
            fixed + ")" * (fixed.count("(") - fixed.count(")")),
            column[1] if column and column[1] in self.columns() else None,
            at if at is None or at >= 0 else None,
        )

    def _of_json(self, body: bytes) -> Question:
        asked = parse(body)
        if not isinstance(asked, dict):
            raise Refused(422, "expected an object with `rows`")
        if strange := asked.keys() - {"rows"}:
            raise Refused(422, f"unknown key beside `rows`; {len(strange)} such")
        if "rows" not in asked:
            raise Refused(422, "missing", "rows")
        rows = asked["rows"]
        if not isinstance(rows, list) or not rows:
            raise Refused(422, "expected a list of at least one row", "rows")
        if len(rows) > self.most:
            raise Refused(413, f"{len(rows)} rows (at most {self.most})", "rows")
        columns, also = self.columns(), self._also()
        checks = [(name, CHECKS[takes]) for name, takes in columns.items()]
        found = [_checked(row, number, checks, also) for number, row in enumerate(rows)]
        if isinstance(self.spec, Series):
            return Question([], self.table(found))
        return Question(found)

    def _also(self) -> set[str]:
        """Columns of the user's data that are not asked about, and do no harm in a row."""
        spec = self.spec
        named = [spec.split.given, *getattr(spec, "ignore", []), *getattr(spec, "where", [])]
        named += [getattr(spec, name, None) for name in ("target", "group")]
        return {name for name in named if name is not None}

    def _of_files(self, files: list[bytes]) -> Question:
        spec = self.spec
        if type(spec) in FILES:
            if len(files) > self.most:
                raise Refused(413, f"{len(files)} files (at most {self.most})", "file")
            return Question([{FILES[type(spec)][0]: content} for content in files])
        if len(files) != 1:
            raise Refused(422, f"{len(files)} files (expected one CSV file)", "file")
        with tempfile.TemporaryDirectory(prefix="trainyard-") as folder:
            path = Path(folder) / "rows.csv"
            path.write_bytes(files[0])
            try:
                names, quoting = getattr(spec, "names", None), getattr(spec, "quoting", True)
                table = delimited.read(path, spec.delimiter, names, columns=self.columns(), quoting=quoting)  # type: ignore[attr-defined]  # of kinds that are a CSV file
            except BadInput as error:
                raise self.refusal(error) from None
        if len(table) > self.most:
            raise Refused(413, f"{len(table)} rows (at most {self.most})", "file")
        table = table[[*self.columns(), *(name for name in getattr(spec, "where", ()) if name in table)]]
        return Question([], table.reset_index(drop=True))


def parse(body: bytes) -> Any:
    """Strict JSON; raises Refused."""
    if not body:
        raise Refused(400, "the body is empty")
    try:
        return json.loads(body.decode(), object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise Refused(400, f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise Refused(400, f"no JSON at byte {error.pos}: {error.msg}") from None
    except RecursionError:
        raise Refused(400, "no JSON that is read: too deep") from None
    except ValueError:  # Python's own limit of digits
        raise Refused(400, "a number with too many digits") from None


def _checked(row: Any, number: int, checks: list[tuple[str, Callable[[Any], Any]]], also: set[str]) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise Refused(422, "expected an object with a value for each column", "rows", number)
    found = {}
    for name, check in checks:
        try:
            found[name] = check(row[name])
        except KeyError:
            raise Refused(422, "missing", name, number) from None
        except ValueError as error:
            raise Refused(422, str(error), name, number) from None
    if len(row) > len(found) and (strange := row.keys() - found.keys() - also):
        known = [name for name, _ in checks]
        raise Refused(422, f"{len(strange)} unknown column(s); {nearest(min(strange), known)}", "rows", number)
    return found


def _number(value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("expected a number, or null")  # all checks fail in one way
    if not -BIGGEST <= value <= BIGGEST:
        raise ValueError("too large for float32")
    if isinstance(value, int) and abs(value) >= 2**53 and int(float(value)) != value:
        raise ValueError("has digits that no number keeps")
    return float(value)


def _category(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise ValueError("expected a text, a number or null")
    if isinstance(value, float):
        return np.format_float_positional(value, trim="-")
    return None if value is None else _text(str(value))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected a text")
    if len(value) > LONGEST:
        raise ValueError(f"more than {LONGEST:,} characters")
    if re.search("[\ud800-\udfff]", value):
        raise ValueError("half a surrogate pair, which is no text")
    return value


def _file(value: Any) -> bytes:
    if not isinstance(value, str):
        raise ValueError("expected the bytes of a file in base64")
    try:
        return b64decode(value, validate=True)
    except (NoBase64, ValueError):
        raise ValueError("no base64") from None


CHECKS: dict[str, Callable[[Any], Any]] = {
    "number": _number,
    "category": _category,
    "text": _text,
    "time": _text,
    "file": _file,
}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Refused(400, "a key that comes twice in one object")
    return found


def _no_number(name: str) -> NoReturn:
    raise Refused(400, f"{name} is no number of JSON")


def _finite(text: str) -> float:
    if math.isinf(value := float(text)):
        raise Refused(400, "a number that no float holds")
    return value


def _files(body: bytes, content_type: str) -> list[bytes]:
    """The files of a form, whatever their fields are called; raises Refused."""
    from python_multipart import create_form_parser
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartState

    found: list[bytes] = []

    def kept(file: Any) -> None:
        file.file_object.seek(0)
        found.append(file.file_object.read())

    try:
        limits = {"MAX_MEMORY_FILE_SIZE": len(body) + 1}  # nothing goes to the disk
        parser = create_form_parser({"Content-Type": content_type.encode()}, None, kept, config=limits)
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError, UnicodeDecodeError):
        raise Refused(400, "no form that can be read (its boundary, or a part without a name?)") from None
    if parser.parser.state != MultipartState.END:  # type: ignore[union-attr]  # of a form it is one of these
        raise Refused(400, "the form was cut short")
    if not found:
        raise Refused(422, "no file in the form", "file")
    return found
