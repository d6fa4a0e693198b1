"""Small drawings inside pages: SVG that takes its colours from the page's style."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape


def histogram(counts: Sequence[int]) -> Markup:
    """Bars side by side, the highest as high as the drawing; no bar that stands for something is too low to be seen."""
    width, height = 144, 28
    step = width / len(counts)
    bars = []
    for place, count in enumerate(counts):
        if count:
            size = max(height * count / max(counts), 1)
            bars.append(
                f'<rect x="{place * step:.1f}" y="{height - size:.1f}" width="{step - 1:.1f}" height="{size:.1f}"/>'
            )
    return svg("histogram", (width, height), "".join(bars), "how often which value occurs")


def interval(values: Mapping[str, float], scale: tuple[float, float]) -> Markup:
    """A dot `value` on a whisker from `low` to `high`, among the marks `naive` and `classical`; those that are there.

    `scale` is what its left and its right end stand for.
    """
    width, height, line, margin = 280, 34, 13, 8
    start, end = scale
    x = {name: margin + (width - 2 * margin) * (value - start) / (end - start) for name, value in values.items()}
    drawn = [f'<path class="axis" d="M{margin} {line}H{width - margin}"/>']
    if "low" in x:
        ends = f"M{x['low']:.1f} {line}H{x['high']:.1f}M{x['low']:.1f} {line - 5}v10M{x['high']:.1f} {line - 5}v10"
        drawn.append(f'<path class="whisker" d="{ends}"/>')
    drawn += [_mark(name, x[name], line) for name in ("naive", "classical", "value") if name in x]
    for figure, anchor, place in [(start, "start", 0), (end, "end", width)]:
        drawn.append(f'<text x="{place}" y="{height - 1}" text-anchor="{anchor}">{figure:.3g}</text>')
    told = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    return svg("interval", (width, height), "".join(drawn), told)


def key(name: str) -> Markup:
    """A mark of `interval` by itself, for the legend."""
    return svg("interval", (14, 14), _mark(name, 7, 7), name)


def _mark(name: str, x: float, y: float) -> str:
    if name == "value":
        return f'<circle class="value" cx="{x:.1f}" cy="{y}" r="5"/>'
    return f'<path class="{name}" d="M{x:.1f} {y - 6}l6 6l-6 6l-6 -6z"/>'


def svg(style: str, size: tuple[int, int], drawn: str, told: str) -> Markup:
    """An image of some width and height: `drawn` is SVG already, `told` is what it says in words."""
    width, height = size
    head = f'<svg class="{style}" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
    return Markup(f"{head}<title>{escape(told)}</title>{drawn}</svg>")  # noqa: S704  # numbers, and escaped text
