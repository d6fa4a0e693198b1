"""Edits of params.yaml: other values for knobs of one block; comments stay, and no byte of other blocks changes."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from trainyard import files, params
from trainyard.errors import BadInput
from trainyard.params import PARAMS_FILE


def block(section: str, name: str, knobs: Mapping[str, Any], path: Path = PARAMS_FILE) -> str:
    """The lines of a model's block, with other values by knob, under the name of their section."""
    text = path.read_bytes().decode()
    try:
        lines, start, stop = _found(text, section, name)
        return f"{section}:\n{_turned(lines[start:stop], name, knobs)}"
    except (YAMLError, LookupError):  # not in lines of its own
        plain, told = YAML(typ="safe").load(text)[section][name], io.StringIO()
        _turn(plain, knobs)
        YAML().dump({section: {name: plain}}, told)
        return told.getvalue()


def write(section: str, name: str, knobs: Mapping[str, Any], path: Path = PARAMS_FILE) -> None:
    """Give a block of params.yaml other values, by knob, atomically.

    Raises BadInput where the whole would not be valid, or the file is written in a way that nothing can be put into.
    """
    text = path.read_bytes().decode()
    meant = YAML(typ="safe").load(text)
    _turn(meant[section][name], knobs)
    try:
        lines, start, stop = _found(text, section, name)
        turned = _turned(lines[start:stop], name, knobs).replace("\n", "\r\n" if "\r\n" in text else "\n")
        text = "".join([*lines[:start], turned, *lines[stop:]])
        same = YAML(typ="safe").load(text) == meant
    except (YAMLError, LookupError):
        same = False
    if not same:
        told = f"{section}.{name} cannot be changed as it is written (give it lines of its own, or paste the block)"
        raise BadInput(f"{path}: {told}")
    params.parse(meant, path)
    files.write_bytes(path, text.encode())


def _found(text: str, section: str, name: str) -> tuple[list[str], int, int]:
    """The lines of a file, and the first of a block with the one after its last."""
    lines = text.splitlines(keepends=True)
    (inside,) = (value for key, value in YAML(typ="safe", pure=True).compose(text).value if key.value == section)
    (start,) = (key.start_mark.line for key, _ in inside.value if key.value == name)
    stop = start + 1
    for place in range(start + 1, len(lines)):
        written = lines[place].strip()
        if written and not written.startswith("#"):  # comments after the last knob belong to what comes next
            if _indent(lines[place]) <= _indent(lines[start]):
                break
            stop = place + 1
    return lines, start, stop


def _turned(lines: Sequence[str], name: str, knobs: Mapping[str, Any]) -> str:
    """The lines of a block, by a round trip: its comments stay."""
    outer = _indent(lines[0])
    inner = next((_indent(line) for line in lines[1:] if line.strip()[:1] not in ("", "#")), outer + 2) - outer
    yaml, text = YAML(), io.StringIO()
    yaml.width, yaml.preserve_quotes = 1_000_000, True
    yaml.indent(mapping=inner, sequence=inner + 2, offset=inner)
    loaded = yaml.load("".join(line[outer:] if line.strip() else line for line in lines).replace("\r", ""))
    _turn(loaded[name], knobs)
    yaml.dump(loaded, text)
    return "".join(" " * outer + line if line.strip() else line for line in text.getvalue().splitlines(keepends=True))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _turn(block: Any, knobs: Mapping[str, Any]) -> None:
    """Set values by knob; what is a list or a mapping is written on one line."""
    for knob, value in knobs.items():
        *above, last = knob.split(".")
        inner = block
        for part in above:
            if not isinstance(inner.get(part), dict):
                inner[part] = _on_one_line({})
            inner = inner[part]
        inner[last] = _on_one_line(value)


def _on_one_line(value: Any) -> Any:
    if isinstance(value, dict):
        made: CommentedMap | CommentedSeq = CommentedMap({key: _on_one_line(inner) for key, inner in value.items()})
    elif isinstance(value, list):
        made = CommentedSeq(map(_on_one_line, value))
    else:
        return value
    made.fa.set_flow_style()
    return made
