"""Edits of params.yaml: a new block, or other values in one; comments stay, and no byte of other blocks changes."""

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
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

    def edited() -> str:
        lines, start, stop = _found(text, section, name)
        turned = _turned(lines[start:stop], name, knobs).replace("\n", "\r\n" if "\r\n" in text else "\n")
        return "".join([*lines[:start], turned, *lines[stop:]])

    told = f"{section}.{name} cannot be changed as it is written (give it lines of its own, or paste the block)"
    _put(path, edited, meant, told)


def add(name: str, blocks: Mapping[str, dict[str, Any]], path: Path = PARAMS_FILE) -> None:
    """Add a block called `name` to each section of params.yaml, atomically; raises BadInput as `write` does.

    Lines are put in, not dumped: ruamel would move the lists that are there.
    """
    text = path.read_bytes().decode()
    meant = YAML(typ="safe").load(text)
    for section, block in blocks.items():
        meant[section] = (meant.get(section) or {}) | {name: block}

    def edited() -> str:
        longer = text
        for section, block in blocks.items():
            longer = _with_block(longer, section, name, block)
        return longer

    _put(path, edited, meant, "nothing can be added to it as it is written (give each block lines of its own)")


def _put(path: Path, edited: Callable[[], str], meant: Any, told: str) -> None:
    """Write the edited text, if it says what is meant and is valid."""
    try:
        text = edited()
        same = YAML(typ="safe").load(text) == meant
    except (YAMLError, LookupError):
        same = False
    if not same:
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


def _with_block(text: str, section: str, name: str, block: dict[str, Any]) -> str:
    lines = text.splitlines(keepends=True)
    end = "\r\n" if lines[0].endswith("\r\n") else "\n"
    lines[-1] = lines[-1].rstrip("\r\n") + end
    sections = [
        (key.value, key.start_mark.line, value) for key, value in YAML(typ="safe", pure=True).compose(text).value
    ]
    stops = [start for _, start, _ in sections[1:]] + [len(lines)]
    place, indent = len(lines), 2
    for (found, start, value), stop in zip(sections, stops, strict=True):
        if found == section:
            place = stop
            while re.match(r"\s*$|#|\.\.\.", lines[place - 1]):  # what stands before the next section is its own
                place -= 1
            if value.value:
                indent = value.value[0][0].start_mark.column
            else:  # `finetune: {}`: what follows takes the place of the braces
                lines[start] = re.sub(r"\s*\{\s*\}", "", lines[start], count=1)
            break
    else:
        lines += [end, f"{section}:{end}"]
        place += 2
    lines[place:place] = [f"{' ' * indent}{line}{end}" for line in _lines(name, block)]
    return "".join(lines)


def _lines(name: str, block: dict[str, Any]) -> Iterator[str]:
    if len(block) == 1:
        yield f"{name}: {{{_flow(block)}}}"
        return
    yield f"{name}:"
    for key, value in block.items():
        if key == "expect":
            yield "  expect:"
            yield from (f"    - {{{_flow(one)}}}" for one in value)
        else:
            yield f"  {_flow({key: value})}"


def _flow(block: dict[str, Any]) -> str:
    """Keys and values on one line, as between braces."""
    yaml, text = YAML(), io.StringIO()
    yaml.default_flow_style, yaml.width = True, 1_000_000
    yaml.dump(block, text)
    return text.getvalue().strip()[1:-1]
