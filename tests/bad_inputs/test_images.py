"""Folders of images that no model should learn from: cases 37 to 53; others stand where images are read."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bad_inputs.planting import PETS, both, case, copy, cut, huge, link, params, refused, write
from trainyard import cli, files, kinds
from trainyard import params as parameters

SIZED = params("kind: images\n", "kind: images\n    size: [8, 8]\n")


def encoded(image, kind, **how):
    content = io.BytesIO()
    image.save(content, kind, **how)
    return content.getvalue()


def photo(height=8, width=8):
    levels = np.random.default_rng(1).integers(0, 256, (height, width, 3))
    return Image.fromarray(levels.astype(np.uint8))


GIF = encoded(photo(), "GIF", save_all=True, append_images=[photo(), photo()])
WEBP = encoded(photo(), "WEBP")
JPEG = encoded(photo(), "JPEG")


def as_jpeg(change):
    """One image more, a JPEG that is damaged."""
    return lambda: Path(f"{PETS}/cat/x.jpg").write_bytes(change(JPEG))


def another(content, kind):
    """A format that is not taken, by its own name and by another."""
    suffix = kind.lower()
    return [
        refused(
            42,
            kind,
            write(f"{PETS}/cat/x.{suffix}", content),
            f"{PETS}/cat/x.{suffix}: expected PNG or JPEG files only in a class folder",
        ),
        refused(
            42,
            f"{kind} that is called .png",
            write(f"{PETS}/cat/x.png", content),
            f"{PETS}/cat/x.png: no readable PNG or JPEG",
        ),
    ]


REFUSED = [
    refused(
        37, "a web page", write(f"{PETS}/cat/x.jpg", "<html>404</html>"), f"{PETS}/cat/x.jpg: no readable PNG or JPEG"
    ),
    refused(
        38,
        "a JPEG cut short",
        as_jpeg(lambda jpeg: jpeg[:-40]),
        f"{PETS}/cat/x.jpg: broken image (image file is truncated (18 bytes not processed); replace or remove it)",
    ),
    refused(
        38, "a JPEG without its last two bytes", as_jpeg(lambda jpeg: jpeg[:-2]), f"{PETS}/cat/x.jpg: broken image ("
    ),
    refused(38, "a PNG cut short", cut(f"{PETS}/cat/3.png", 100), f"{PETS}/cat/3.png: broken image ("),
    refused(40, "zero bytes", write(f"{PETS}/cat/3.png", b""), f"{PETS}/cat/3.png: no readable PNG or JPEG"),
    refused(
        41,
        "a PNG of 12,000x12,000 pixels in 20 KB",
        lambda: Image.new("1", (12_000, 12_000)).save(f"{PETS}/cat/x.png"),
        f"{PETS}/cat/x.png: 12000x12000 pixels (at most 50000000 in all)",
    ),
    refused(41, "a file of 20 MB", huge(f"{PETS}/cat/x.png", 20_000_001), f"{PETS}/cat/x.png: 20000001 bytes (at most"),
    *another(GIF, "GIF"),
    *another(WEBP, "WebP"),
    *another(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
    *another(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
    refused(
        45,
        "a class folder without images",
        lambda: Path(PETS, "emu").mkdir(),
        f"{PETS}/emu: class folder without images (remove it, or put images in)",
    ),
    refused(
        46,
        "one class only",
        lambda: Path(PETS, "dog").rename("dog"),
        f"{PETS}: one class only, `cat` (a classifier takes two or more)",
        "prepare",
    ),
    refused(
        46,
        "no folder at all",
        lambda: Path(PETS).rename("pets"),
        f"params.yaml: datasets.pets.path: {PETS}: not found",
    ),
    refused(
        47,
        "an image outside of the class folders",
        copy(f"{PETS}/cat/3.png", f"{PETS}/3.png"),
        f"{PETS}/3.png: image outside of the class folders",
    ),
    refused(
        47,
        "a folder in a class folder",
        copy(f"{PETS}/cat/3.png", f"{PETS}/cat/more/3.png"),
        f"{PETS}/cat/more: expected PNG or JPEG files only in a class folder",
    ),
    refused(
        47,
        "folders of splits that params do not name",
        lambda: [Path(PETS).rename("all"), Path(PETS).mkdir(), Path("all").rename(f"{PETS}/train")],
        f"{PETS}/train/cat: expected PNG or JPEG files only in a class folder (`split: {{given: folder}}`?)",
    ),
    refused(
        48,
        "a link to nowhere",
        link(f"{PETS}/cat/x.png", "nowhere.png"),
        f"{PETS}/cat/x.png: expected PNG or JPEG files only in a class folder",
    ),
    refused(
        48,
        "a link to itself",
        link(f"{PETS}/cat/x.png", "x.png"),
        f"{PETS}/cat/x.png: expected PNG or JPEG files only in a class folder",
    ),
    refused(
        48,
        "a link to the folder above",
        link(f"{PETS}/loop", "."),
        f"{PETS}/loop/cat: expected PNG or JPEG files only in a class folder",
    ),
    refused(
        50,
        "the same image under two labels",
        copy(f"{PETS}/cat/3.png", f"{PETS}/dog/9.png"),
        f"{PETS}: 1 finding(s) of the audit, all in reports/audits/pets.json; first: equal examples "
        "with different labels: cat/3.png (cat), dog/9.png",
        "prepare",
    ),
    refused(
        51,
        "an image of 20,000x1 pixels",
        both(SIZED, lambda: photo(1, 20_000).save(f"{PETS}/cat/x.png")),
        f"{PETS}/cat/x.png: column height: 1 is not at least 2 (see reports/data/pets/page.html)",
        "validate",
    ),
    refused(
        51,
        "an image of 1x1 pixel among others",
        lambda: photo(1, 1).save(f"{PETS}/cat/x.png"),
        f"{PETS}: images of 2 sizes (cat/0.png is 8x8, cat/x.png is 1x1); name the `size` they are brought to",
        "prepare",
    ),
    refused(
        52,
        "a line end in a file's name",
        copy(f"{PETS}/cat/3.png", f"{PETS}/cat/a\nb.png"),
        rf"'{PETS}/cat/a\nb.png': control characters, or bytes that are not UTF-8, in the name",
    ),
    refused(
        52,
        "a line end in a name, and another format",
        copy(f"{PETS}/cat/3.png", f"{PETS}/cat/a\nb.gif"),
        rf"'{PETS}/cat/a\nb.gif': control characters, or bytes that are not UTF-8, in the name",
    ),
    refused(
        52,
        "an order to the terminal in an empty class folder's name",
        lambda: Path(PETS, "\x1b[2J").mkdir(),
        rf"{PETS}/\x1b[2J: class folder without images",
    ),
    refused(
        53,
        "classes that differ in case alone",
        copy(f"{PETS}/cat/3.png", f"{PETS}/Cat/3.png"),
        f"{PETS}/cat: differs from `Cat` in case alone (on other machines they are one)",
    ),
]


@pytest.mark.parametrize(("plant", "told", "verbs"), REFUSED)
def test_a_bad_folder_is_refused(project, refuses, plant, told, verbs):
    plant()
    refuses(told, *([verb, "pets"] for verb in verbs))


@pytest.mark.bad_input(
    number=52,
    what="a name that is not UTF-8",
    then="exit 2: `control characters, or bytes that are not UTF-8, in the name`",
)
def test_a_name_that_is_not_utf8_is_refused(project, refuses):
    try:
        copy(f"{PETS}/cat/3.png", f"{PETS}/cat/" + b"\xff.png".decode("utf-8", "surrogateescape"))()
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    refuses(rf"'{PETS}/cat/\udcff.png': control characters, or bytes that are not UTF-8", ["prepare", "pets"])


@pytest.mark.parametrize(
    "plant",
    [
        case(
            47,
            "what file managers and notebooks leave behind",
            both(
                write(f"{PETS}/.DS_Store", b"\0"),
                write(f"{PETS}/cat/.DS_Store", b"\0"),
                write(f"{PETS}/dog/Thumbs.db", b"\0"),
                write(f"{PETS}/.ipynb_checkpoints/x.png", b"\0"),
                write(f"{PETS}/cat/.ipynb_checkpoints/x.png", b"\0"),
            ),
            then="left out",
        ),
        case(
            48,
            "a link to an image elsewhere",
            both(lambda: Path(f"{PETS}/cat/3.png").rename("3.png"), link(f"{PETS}/cat/3.png", "../../../3.png")),
            then="taken: DVC itself may link data to its cache",
        ),
        case(52, "an emoji in a name", lambda: Path(f"{PETS}/cat/3.png").rename(f"{PETS}/cat/🐈.png"), then="taken"),
    ],
)
def test_what_is_no_fault_is_taken(project, plant):
    plant()
    assert cli.main(["validate", "pets"]) == 0
    assert cli.main(["prepare", "pets"]) == 0
    assert files.read_json(Path("reports/data/pets/verdict.json"))["rows"] == 12


@pytest.mark.bad_input(
    number=39,
    what="a JPEG with one bit flipped",
    then="no decoder sees it; its hash in the manifest is another, and DVC's too",
)
def test_a_flipped_bit_shows_in_the_hash(project):
    def manifest():
        return kinds.of(spec).manifest(spec)

    spec = parameters.load().dataset("pets")
    file = Path(f"{PETS}/cat/x.jpg")
    file.write_bytes(JPEG)
    before = manifest()
    content = bytearray(JPEG)
    content[content.index(b"\xff\xda") + 20] ^= 1  # within the scan
    file.write_bytes(content)
    after = manifest()
    assert list(before.index[before["sha256"] != after["sha256"]]) == ["cat/x.jpg"]
    assert kinds.of(spec).contents(spec, after)["cat/x.jpg"] != kinds.of(spec).contents(spec, before)["cat/x.jpg"]
