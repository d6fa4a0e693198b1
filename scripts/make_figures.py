"""Draw figures to pretrain a backbone on: glyphs of an emoji font, fractals and contours.

Why drawn: transfer learning should work on a closed network, and on pictures that anybody may have. A figure is a PNG
file with a transparent ground; `trainyard pretrain` draws each anew at every step, in any colour, size and place.

- glyphs/CODEPOINT.png: food, objects, faces, plants, signs and so on. No animal, vehicle or landmark: the script
  refuses to start if a glyph of data/pictograms is among its own, by code point or by picture, so that their use as a
  test stays honest.
- formulas/fractal-NUMBER.png: attractors of random systems of affine maps (Kataoka et al., 2020).
- formulas/contour-NUMBER.png: nested random outlines (Kataoka et al., 2022).

Each fractal and contour has its own random stream, seeded by its number.

    apt-get install fonts-noto-color-emoji
    python scripts/make_figures.py [--font FILE] [--out FOLDER]
    trainyard pretrain NAME        with `figures: pretrained/figures` in its block of params.yaml
"""

import argparse
import colorsys
import sys
from pathlib import Path

import numpy as np
from fontTools.ttLib import TTFont
from make_pictograms import FONT, GLYPHS, SEED, WrongFont, cut_glyph, open_font
from PIL import Image, ImageDraw

from trainyard import files

OUT = Path(__file__).resolve().parents[1] / "pretrained" / "figures"
SIDE = 128  # pixels: what a glyph has
FRACTALS, CONTOURS = 600, 400

# Emoji are scattered over these code points; what the font does not draw is left out.
EMOJI = [(0x2190, 0x3300), (0x1F000, 0x1FAFF)]
# Animals, vehicles and landmarks, with everything near them in Unicode that shows one: not only the shipped glyphs.
BARRED = [
    *[(0x1F400, 0x1F43F), (0x1F980, 0x1F9AE), (0x1F54A, 0x1F54A), (0x1F577, 0x1F578), (0x1FAB0, 0x1FAB3)],  # animals
    *[(0x1FABC, 0x1FABF), (0x1FACE, 0x1FACF), (0x1F638, 0x1F640), (0x1F648, 0x1F64A), (0x1F3C7, 0x1F3C7)],  # animals
    *[(0x1F680, 0x1F6FF), (0x2708, 0x2708), (0x26F4, 0x26F5), (0x1F3CD, 0x1F3CE), (0x1F9BC, 0x1F9BD)],  # vehicles
    *[(0x1F3D4, 0x1F3F0), (0x1F5FA, 0x1F5FF), (0x1F300, 0x1F30C), (0x1F320, 0x1F320), (0x1F3A0, 0x1F3AA)],  # landmarks
    *[(0x1F386, 0x1F387), (0x1F391, 0x1F391), (0x26E9, 0x26EA), (0x26F0, 0x26FA), (0x1F54B, 0x1F54D)],  # landmarks
    *[(0x1F492, 0x1F492), (0x1F1E6, 0x1F1FF), (0x1F3FB, 0x1F3FF)],  # a wedding chapel; letters and tones for sequences
    *[(0x1F9F8, 0x1F9F8), (0x1F38F, 0x1F38F)],  # a teddy bear, streamers that are carps
]


class Seen(Exception):
    """A glyph to learn is one of those that the pictograms are drawn from."""


def within(code: int, ranges: list[tuple[int, int]]) -> bool:
    """Tell whether a code point lies in one of the ranges, both ends counted in."""
    return any(first <= code <= last for first, last in ranges)


def glyphs(file: Path, side: int = SIDE) -> dict[int, Image.Image]:
    """Return the glyphs to learn as square RGBA pictures, by code point, none of them a shipped one."""
    font = open_font(file)
    codes = [code for code in sorted(TTFont(file).getBestCmap()) if within(code, EMOJI) and not within(code, BARRED)]
    cut = {code: cut_glyph(font, chr(code)) for code in codes}
    refuse_shipped(cut, {ord(one): cut_glyph(font, one) for ones in GLYPHS.values() for one in ones})
    first: dict[bytes, int] = {}  # some code points share a picture
    for code, glyph in cut.items():
        first.setdefault(glyph.tobytes(), code)
    return {code: squared(cut[code], side) for code in first.values()}


def refuse_shipped(cut: dict[int, Image.Image], shipped: dict[int, Image.Image]) -> None:
    """Raise Seen where a glyph is a shipped one, by code point or by picture."""
    pictures = {glyph.tobytes(): code for code, glyph in shipped.items()}
    for code, glyph in cut.items():
        if code in shipped or glyph.tobytes() in pictures:
            raise Seen(f"U+{code:X} is a glyph of data/pictograms, or has the picture of one")


def squared(glyph: Image.Image, side: int) -> Image.Image:
    """Return the glyph in the middle of a transparent square."""
    canvas = Image.new("RGBA", (max(glyph.size), max(glyph.size)))
    canvas.paste(glyph, ((canvas.width - glyph.width) // 2, (canvas.height - glyph.height) // 2))
    return canvas.resize((side, side), Image.Resampling.LANCZOS)


def fractal(number: int) -> Image.Image:
    """Return the attractor of two to eight random affine maps, each map's points in a colour of its own."""
    random = np.random.default_rng([SEED, 1, number])
    while True:
        count = int(random.integers(2, 9))
        linear, offset = random.uniform(-1, 1, (count, 2, 2)), random.uniform(-1, 1, (count, 2))
        # maps that stretch draw nothing that stays
        linear /= np.maximum(1, np.linalg.norm(linear, 2, axis=(1, 2)) / 0.9)[:, None, None]
        chance = np.abs(np.linalg.det(linear)) + 0.01
        points, seen = np.zeros((500, 2)), []
        for step in range(260):
            chosen = random.choice(count, size=len(points), p=chance / chance.sum())
            points = np.einsum("nij,nj->ni", linear[chosen], points) + offset[chosen]
            if step >= 20:
                seen.append(np.column_stack([points, chosen]))
        found = np.concatenate(seen)
        low, high = np.quantile(found[:, :2], (0.005, 0.995), axis=0)
        at = ((found[:, :2] - (low + high) / 2) / max(*(high - low), 1e-9) * 0.95 + 0.5) * SIDE
        inside = ((at >= 0) & (at < SIDE)).all(axis=1)
        columns, rows = at[inside].astype(int).T
        picture = np.zeros((SIDE, SIDE, 4), np.uint8)
        hues = random.uniform(0, 1, count)
        colours = np.array([colorsys.hsv_to_rgb(hue, random.uniform(0.4, 1), random.uniform(0.4, 1)) for hue in hues])
        picture[rows, columns, :3] = np.rint(255 * colours[found[inside, 2].astype(int)])
        picture[rows, columns, 3] = 255
        if (picture[..., 3] > 0).mean() > 0.15:  # else a few scattered dots
            return Image.fromarray(picture)


def contour(number: int) -> Image.Image:
    """Return filled outlines around one centre, from the outermost inwards, their radii random waves."""
    random = np.random.default_rng([SEED, 2, number])
    angles = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    waves = np.arange(1, int(random.integers(3, 14)))
    heights = random.normal(0, 1, len(waves)) / waves ** random.uniform(0.3, 1.5)
    phases, turn = random.uniform(0, 2 * np.pi, len(waves)), random.uniform(-0.2, 0.2)
    canvas = Image.new("RGBA", (2 * SIDE, 2 * SIDE))
    pen, rings = ImageDraw.Draw(canvas), int(random.integers(2, 16))
    hue, step = random.uniform(0, 1), random.uniform(-0.15, 0.15)
    for ring in range(rings):
        wave = np.sum(heights[:, None] * np.cos(np.outer(waves, angles + ring * turn) + phases[:, None]), axis=0)
        radius = (1 - ring / rings) * SIDE * np.clip(0.7 + 0.25 * wave, 0.1, 1)
        corners = np.column_stack([np.cos(angles), np.sin(angles)]) * radius[:, None] + SIDE
        colour = colorsys.hsv_to_rgb((hue + ring * step) % 1, random.uniform(0.2, 1), random.uniform(0.2, 1))
        fill = (*(round(255 * level) for level in colour), 255)
        pen.polygon([tuple(corner) for corner in corners.tolist()], fill=fill)
    return canvas.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def write_figures(folder: Path, font: Path) -> int:
    """Draw all figures into a new folder in place of what was there, and return how many files that made."""
    drawn = {f"glyphs/{code:x}": glyph for code, glyph in glyphs(font).items()}
    drawn |= {f"formulas/fractal-{number:04d}": fractal(number) for number in range(FRACTALS)}
    drawn |= {f"formulas/contour-{number:04d}": contour(number) for number in range(CONTOURS)}
    with files.replacing_folder(folder) as build:
        for name, picture in drawn.items():
            path = build / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
    return len(drawn)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--font", type=Path, default=FONT, help=f"the emoji font (default: {FONT})")
    parser.add_argument("--out", type=Path, default=OUT, help=f"folder to write into (default: {OUT})")
    arguments = parser.parse_args()
    try:
        written = write_figures(arguments.out, arguments.font)
    except (WrongFont, Seen) as problem:
        sys.exit(str(problem))
    print(written, "files in", arguments.out)
