"""The picture of the line: the stages of dvc.yaml, each after those that it waits for, with what came of them."""

import re
from collections.abc import Iterable, Iterator, Mapping, Set
from graphlib import TopologicalSorter
from itertools import count
from pathlib import Path, PurePosixPath
from statistics import fmean
from typing import Any

from markupsafe import Markup, escape
from ruamel.yaml import YAML

from trainyard.params import Params
from trainyard.reporting import drawings

WIRING = Path("dvc.yaml")
BOX, STEP = (160, 44), (172, 54)
"""A stage's width and height, and how far it is from one to the next, across and down."""

Line = Mapping[str, Set[str]]
"""Stages, `train@mlp`, each with those right before it."""


def stages(params: Params) -> dict[str, set[str]]:
    """The stages by the names that DVC gives them, in the order of dvc.yaml; none where there is no such file."""
    if not WIRING.is_file():
        return {}
    made, needed = {}, {}
    for stage, body in YAML(typ="safe").load(WIRING.read_text(encoding="utf-8"))["stages"].items():
        does = body.get("do", body)
        for key, item in _items(body.get("foreach", {"": None}), params):
            name = f"{stage}@{key}" if key else stage
            outs = [out for kind in ("outs", "metrics", "plots") for out in does.get(kind, [])]
            made[name], needed[name] = list(_paths(outs, key, item)), list(_paths(does.get("deps", []), key, item))
    waits = {
        name: {other for other, outs in made.items() if any(_meet(path, out) for path in paths for out in outs)}
        for name, paths in needed.items()
    }
    return {name: direct - _before(direct, waits) for name, direct in waits.items()}


def drawn(line: Line, came: Mapping[str, tuple[str, str]]) -> Markup:
    """The stages as boxes from left to right; `came` is what came of one, in a word or two, and its tone."""
    (wide, high), (across, down) = BOX, STEP
    column, row = _columns(line), _rows(line)
    x, y = ({stage: place[stage] * step + 1 for stage in line} for place, step in ((column, across), (row, down)))
    tracks, boxes = [], []
    for stage, before in line.items():
        for other in sorted(before):
            start, end, gap = x[other] + wide, x[stage], (across - wide) // 2
            bend = f"C{start + gap} {y[other] + high / 2:g} {start + gap} {y[stage] + high / 2:g}"
            ends = f"M{start} {y[other] + high / 2:g}{bend} {start + 2 * gap} {y[stage] + high / 2:g}H{end}"
            tracks.append(f'<path class="track" d="{ends}"/>')
        verb, _, name = stage.rpartition("@")
        told, tone = came.get(stage, ("", ""))
        room = wide - 26 - 6.6 * len(verb)  # of what 10.5 px letters take in wide fonts
        fitted = f' textLength="{room:g}" lengthAdjust="spacingAndGlyphs"' if 5.7 * len(told) > room else ""
        shown = name if len(name) <= 19 else f"{name[:18]}…"
        boxes.append(
            f'<g class="stage {tone}" transform="translate({x[stage]} {y[stage]:g})">'
            f'<rect width="{wide}" height="{high}" rx="8"/><text x="9" y="17">{escape(verb)}</text>'
            f'<text x="{wide - 9}" y="17" text-anchor="end"{fitted} class="came">{escape(told)}</text>'
            f'<text x="9" y="34" class="name">{escape(shown)}</text></g>'
        )
    steps: dict[int, dict[str, None]] = {}
    for stage in sorted(line, key=lambda stage: column[stage]):
        steps.setdefault(column[stage], {})[stage.partition("@")[0]] = None
    order = ", then ".join(" and ".join(verbs) for verbs in steps.values())
    size = (max(column.values()) * across + wide + 2, round(max(row.values()) * down) + high + 2)
    return drawings.svg("line", size, "".join([*tracks, *boxes]), f"{len(line)} stages: {order}")


def _items(over: Any, params: Params) -> Iterable[tuple[str, Any]]:
    """What a `foreach` makes a stage for: the entries of a block of params, or those that stand in dvc.yaml itself."""
    block = getattr(params, over.strip("${}"), {}) if isinstance(over, str) else over
    return block.items() if isinstance(block, Mapping) else [(str(key), None) for key in block]


def _paths(entries: Iterable[Any], key: str, item: Any) -> Iterator[PurePosixPath]:
    """Dependencies or outputs of one stage that a `foreach` makes."""
    known = {"key": key, **{f"item.{name}": getattr(item, name) for name in getattr(type(item), "model_fields", {})}}
    for entry in entries:
        path = next(iter(entry)) if isinstance(entry, Mapping) else entry
        yield PurePosixPath(re.sub(r"\$\{(.*?)\}", lambda found: str(known.get(found[1], found[0])), path))


def _meet(one: PurePosixPath, other: PurePosixPath) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def _before(those: Set[str], waits: Line) -> set[str]:
    """All that some stages wait for, however far back."""
    found: set[str] = set()
    ahead = those
    while ahead := set().union(*(waits[name] for name in ahead)) - found:
        found |= ahead
    return found


def _after(line: Line) -> dict[str, list[str]]:
    """Each stage with those that wait for it."""
    return {stage: [other for other in line if stage in line[other]] for stage in line}


def _columns(line: Line) -> dict[str, int]:
    """Each stage as late as what waits for it allows, the first in column 0."""
    after, found = _after(line), dict[str, int]()
    for stage in reversed(list(TopologicalSorter(line).static_order())):
        found[stage] = min((found[other] for other in after[stage]), default=0) - 1
    return {stage: place - min(found.values()) for stage, place in found.items()}


def _rows(line: Line) -> dict[str, float]:
    """A stage goes on in the row of what it waits for, a second one below it; what gathers many is in their middle."""
    after, column, found, new = _after(line), _columns(line), dict[str, float](), count()
    gathers = {stage for stage, before in line.items() if len(before) > 1 and not after[stage]}

    def place(stage: str, at: float | None) -> None:
        found[stage] = next(new) if at is None else at
        goes_on: float | None = found[stage]
        for other in after[stage]:
            if other not in found and other not in gathers:
                place(other, goes_on)
                goes_on = None

    for stage, before in line.items():
        if not before:
            taken = {(column[other], found[other]) for other in found}
            beside = (found[other] for other in after[stage] if other in found)
            place(stage, next((at for at in beside if (column[stage], at) not in taken), None))
    for stage in [stage for stage in line if stage in gathers]:
        at = fmean(found[other] for other in line[stage])
        while any(column[other] == column[stage] and abs(found[other] - at) < 1 for other in found):
            at += 1
        found[stage] = at
    return found
