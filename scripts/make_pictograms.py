"""Draw data/pictograms/{animals,vehicles,landmarks}/<codepoint>-<nn>.jpg from the glyphs of an emoji font.

Why drawn: a picture set for three classes whose licence, size and difficulty are known, made again by one command.
A glyph is drawn several times in varied colour, size, angle and noise. Its drawings share the part of the file name
before the dash, and that part is the group: split by it, so that the test asks about things never seen.

Every picture has its own random stream, seeded by its code point and number: adding a glyph changes no other picture.

    apt-get install fonts-noto-color-emoji
    python scripts/make_pictograms.py [--font FILE] [--out FOLDER]
"""

import argparse
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

DATA = Path(__file__).resolve().parents[1] / "data"
# Noto Color Emoji 2.042, SIL Open Font License 1.1, as the Debian package fonts-noto-color-emoji installs it.
FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
FONT_SHA256 = "e5899ed38b8ed83e08bd3ac5de09791e9d19d288333a796de1d35ad17396f1ec"
STRIKE = 109  # the one bitmap size in the font, in pixels per em; a glyph is 136 x 128 pixels

SEED = 20240229
DRAWINGS = 5  # of each glyph
SIDE = 96  # pixels: what a laptop still trains quickly
QUALITY = 90  # of the JPEG file, 1 to 95

GLYPHS = {
    "animals": (
        "🐀🐁🐂🐃🐄🐅🐆🐇🐈🐊🐋🐌🐍🐎🐏🐐🐑🐒🐓🐔🐖🐘🐙🐛🐜🐝🐞🐟🐠🐡🐢🐣🐦🐧🐨🐩🐪🐫🐬🐮🐰🐳🐴🐵🐶🐺🐻🐼🐿"
        "🕷🦀🦁🦃🦅🦆🦇🦈🦉🦊🦋🦌🦍🦎🦏🦐🦒🦓🦔🦗🦘🦙🦚🦛🦜🦟🦢🦥🦩"
    ),
    "vehicles": (
        "🚀🚁🚂🚃🚄🚅🚆🚇🚈🚊🚋🚌🚍🚎🚐🚑🚒🚓🚔🚕🚖🚗🚘🚙🚚🚛🚜🚝🚞🚟🚠🚡🚢🚤🚲🛥🛩🛰🛳🛴🛵🛶🛸🛹🛺🛻✈🛫🛬⛵⛴🏍🏎🦼🦽🛷"
    ),
    "landmarks": (
        "🏔⛰🌋🗻🏕🏖🏜🏝🏞🏟🏛🏗🛖🏘🏚🏠🏡🏢🏣🏤🏥🏦🏨🏩🏪🏫🏬🏭🏯🏰💒🗼🗽⛪🕌🛕🕍⛩🕋⛲⛺🌁🌃🏙🌄🌅🌆🌇🌉🎠🎡🎢🎪🗾🎑🗿🛤🛣🌌🛝"
    ),
}


@dataclass(frozen=True)
class Style:
    """How far a drawing may stray from the plain glyph; the defaults are those of the shipped pictures."""

    size: tuple[float, float] = (0.7, 0.98)  # longer side of the glyph, as a part of the picture's side
    angle: float = 10.0  # largest rotation to either side, in degrees
    flip: float = 0.5  # chance of a mirrored glyph
    shift: float = 0.04  # largest move out of the centre, as a part of the picture's side
    hue: float = 0.5  # largest turn of the glyph's hues, as a part of the colour circle: half is any hue
    saturation: tuple[float, float] = (0.0, 1.5)  # factor on the glyph's saturation
    brightness: tuple[float, float] = (0.4, 1.4)  # factor on the glyph's brightness
    ground: tuple[float, float] = (180.0, 255.0)  # grey level of the background, of 255
    unevenness: float = 15.0  # largest change of that level inside one background, in grey levels
    tint: float = 35.0  # largest change of that level in one colour channel, in grey levels
    blobs: int = 0  # most discs and boxes strewn over the background
    light: tuple[float, float] = (0.7, 1.1)  # factor on each colour channel of the whole picture
    noise: tuple[float, float] = (0.0, 8.0)  # standard deviation of the sensor noise, in grey levels of 255
    blur: tuple[float, float] = (0.0, 0.5)  # radius of the Gaussian blur, in pixels


class WrongFont(Exception):
    """The font file is missing or is not the release that the shipped pictures were drawn from."""


def open_font(file: Path) -> ImageFont.FreeTypeFont:
    """Open the emoji font after checking its SHA-256, because another release draws other pictures."""
    advice = "install the Debian package fonts-noto-color-emoji 2.042, or name its file with --font"
    if not file.is_file():
        raise WrongFont(f"{file}: no such font; {advice}")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != FONT_SHA256:
        raise WrongFont(f"{file}: SHA-256 is {found}, wanted {FONT_SHA256}; {advice}")
    return ImageFont.truetype(file, STRIKE)


def to_levels(values: np.ndarray) -> np.ndarray:
    """Round to whole grey levels and cut off what lies outside 0 to 255."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def cut_glyph(font: ImageFont.FreeTypeFont, text: str) -> Image.Image:
    """Return the glyph in its own colours on a transparent ground (RGBA), cropped to what is inked."""
    canvas = Image.new("RGBA", (2 * STRIKE, 2 * STRIKE))
    ImageDraw.Draw(canvas).text((STRIKE // 4, STRIKE // 4), text, font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise WrongFont(f"the font draws nothing for {text!r}")
    return canvas.crop(box)


def recolour(glyph: Image.Image, random: np.random.Generator, style: Style) -> Image.Image:
    """Turn the hues of an RGBA glyph and scale its saturation and brightness, all at random; keep its outline."""
    turn = round(random.uniform(-style.hue, style.hue) * 256)
    factors = (random.uniform(*style.saturation), random.uniform(*style.brightness))
    hue, *others = glyph.convert("RGB").convert("HSV").split()
    bands = [hue.point([(level + turn) % 256 for level in range(256)])]
    for band, factor in zip(others, factors, strict=True):
        bands.append(band.point([min(255, round(level * factor)) for level in range(256)]))
    coloured = Image.merge("HSV", bands).convert("RGB")
    coloured.putalpha(glyph.getchannel("A"))
    return coloured


def draw_background(random: np.random.Generator, style: Style, side: int = SIDE) -> Image.Image:
    """Return an RGB ground of one colour, a gradient between corners or soft clouds, with a few shapes strewn on it."""
    cells = int(random.choice([1, 2, 4]))  # corners of the colour mesh: plain, gradient, clouds
    base = random.uniform(*style.ground) + random.uniform(-style.tint, style.tint, size=3)
    mesh = base + random.uniform(-style.unevenness, style.unevenness, size=(cells, cells, 1))
    mesh += random.uniform(-style.tint / 2, style.tint / 2, size=(cells, cells, 3))
    ground = Image.fromarray(to_levels(mesh)).resize((side, side), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(ground)
    for _ in range(int(random.integers(0, style.blobs + 1))):
        left, top = (int(value) for value in random.integers(-side // 8, side, size=2))
        wide, high = (int(value) for value in random.integers(side // 12, side // 3, size=2))
        colour = to_levels(base + random.uniform(-3 * style.tint, 3 * style.tint, size=3))
        shape = pen.ellipse if random.random() < 0.5 else pen.rectangle
        shape((left, top, left + wide, top + high), fill=tuple(colour.tolist()))
    return ground


def draw_picture(glyph: Image.Image, random: np.random.Generator, style: Style, side: int = SIDE) -> Image.Image:
    """Return one RGB drawing of an RGBA glyph: recoloured, mirrored, turned, scaled, placed, blurred and noisy."""
    picture = draw_background(random, style, side)
    subject = recolour(glyph, random, style)
    if random.random() < style.flip:
        subject = subject.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    subject = subject.rotate(random.uniform(-style.angle, style.angle), Image.Resampling.BICUBIC, expand=True)
    scale = random.uniform(*style.size) * side / max(glyph.size)
    wide, high = (max(1, round(length * scale)) for length in subject.size)
    subject = subject.resize((wide, high), Image.Resampling.LANCZOS)
    across, down = (round(value * side) for value in random.uniform(-style.shift, style.shift, size=2))
    picture.paste(subject, ((side - wide) // 2 + across, (side - high) // 2 + down), subject)
    picture = picture.filter(ImageFilter.GaussianBlur(random.uniform(*style.blur)))
    noise = random.normal(0.0, random.uniform(*style.noise), size=(side, side, 1))
    return Image.fromarray(to_levels(np.asarray(picture) * random.uniform(*style.light, size=3) + noise))


def write_pictograms(folder: Path, font: ImageFont.FreeTypeFont) -> int:
    """Draw every glyph into FOLDER/pictograms, a folder a class, and return how many files that made."""
    style, count = Style(), 0
    for label, characters in GLYPHS.items():
        home = folder / "pictograms" / label
        home.mkdir(parents=True, exist_ok=True)
        for character in characters:
            glyph = cut_glyph(font, character)
            for number in range(DRAWINGS):
                random = np.random.default_rng([SEED, ord(character), number])
                picture = draw_picture(glyph, random, style)
                picture.save(home / f"{ord(character):x}-{number:02d}.jpg", quality=QUALITY)
                count += 1
    return count


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--font", type=Path, default=FONT, help=f"the emoji font (default: {FONT})")
    parser.add_argument("--out", type=Path, default=DATA, help="folder to write into (default: data/ of this project)")
    arguments = parser.parse_args()
    try:
        written = write_pictograms(arguments.out, open_font(arguments.font))
    except WrongFont as problem:
        sys.exit(str(problem))
    print(written, "files in", arguments.out / "pictograms")
