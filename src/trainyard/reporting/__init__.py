"""Pages for people: one file each, readable offline, the same bytes for the same results.

What the pages say stands in the templates beside this file; what is drawn in them, in `drawings`; where the figures of
the report come from, in `results`.
"""

import re
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markdown_it import MarkdownIt
from markupsafe import Markup, escape

from trainyard.reporting import drawings

MOST_FAULTS = 50
"""Values at fault that a page shows, shared among what was expected; faults.csv beside it has more."""


def render(template: str, **values: Any) -> str:
    """The page that a template of this folder makes of the values."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "base64": lambda path: b64encode(path.read_bytes()).decode(),
        "brief": brief,
        "cell": cell,
        "count": "{:,}".format,
        "figure": figure,
        "markdown": markdown,
        "sentence": sentence,
        "words": lambda name: name.replace("_", " "),
    }
    environment.globals["draw"] = drawings
    return environment.get_template(template).render(**values)


def data_page(verdict: Mapping[str, Any], faults: pd.DataFrame) -> str:
    """The page of a dataset, of what `validate` found: verdict.json and faults.csv."""
    by_check = faults.reset_index().groupby("what", sort=False)
    shown = by_check.head(MOST_FAULTS // max(1, by_check.ngroups)).to_dict("records")
    return render("data.html", data=verdict, faults=shown)


def figure(value: float | None) -> str:
    """A figure as people read it: three decimals where they tell something, and no exponent where it can be helped."""
    if value is None:
        return "-"
    size = abs(value)
    if 0 < size < 0.01:
        return f"{value:.2g}"
    return f"{value:.3f}" if size < 10 else f"{value:.4g}" if size < 1000 else f"{value:,.0f}"


def brief(value: float | str) -> str:
    """A number in four digits, without an exponent where it can be helped; or a time, without midnight."""
    if isinstance(value, str):
        return value.removesuffix("T00:00:00")
    return f"{float(f'{value:.4g}'):,.0f}" if 1e4 <= abs(value) < 1e12 else f"{value:.4g}"


def sentence(text: str) -> Markup:
    """Text whose names stand between backticks, as HTML."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704  # escaped just before


def markdown(text: str, under: int) -> Markup:
    """Markdown as HTML, its headings below those of a level; HTML in it stays text, and no image is loaded."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    tokens = parser.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + under, 6)}"
        elif token.type == "th_open":
            token.attrSet("scope", "col")
    return Markup(parser.renderer.render(tokens, parser.options, {}))  # noqa: S704  # it escapes all text


def cell(text: object) -> str:
    """Text that stays one cell of a Markdown table, and text, whatever the user's data holds."""
    text = re.sub(r"\s+", " ", str(text))
    for mark, told in {"|": "\\|", "<": "&lt;", "@": "&#64;", "](": "]\\("}.items():
        text = text.replace(mark, told)
    return text
