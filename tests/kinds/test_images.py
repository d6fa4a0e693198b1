import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFile, ImageOps

from trainyard import figures, kinds
from trainyard.arrays import Stored
from trainyard.kinds import images
from trainyard.params import Images, Split
from trainyard.quality import leaks

PETS = Path("pets")
EACH = 10


def noise(height=6, width=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def encoded(image, **how):
    content = io.BytesIO()
    image.save(content, **{"format": "PNG"} | how)
    return content.getvalue()


def pets(classes=("cat", "dog"), each=EACH, root=PETS, height=6, width=8, **how):
    """A folder a class, of small PNG files that all differ."""
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(each):
            image = Image.fromarray(noise(height, width, seed=100 * number + i))
            (root / name / f"{name}-{i // 2}-{i}.png").write_bytes(encoded(image, **how))


def spec(**knobs):
    return Images(**{"kind": "images", "objective": "binary", "path": str(PETS)} | knobs)


def pixels(content, shape, **knobs):
    raw, _ = images.decode(spec(**knobs), {"shape": list(shape)}, pd.DataFrame({"image": [content]}))
    assert raw["image"].shape == (1, *shape)
    assert raw["image"].dtype == np.uint8
    return raw["image"][0]


# === What is read ===


def test_the_manifest_has_a_row_a_file(here):
    pets(each=2)
    (PETS / "cat" / "a.JPG").write_bytes(encoded(Image.fromarray(noise(4, 5)), format="JPEG"))
    for clutter in (".DS_Store", "Thumbs.db"):
        (PETS / "cat" / clutter).write_text("x")
    (PETS / ".ipynb_checkpoints").mkdir()
    (PETS / "README.md").write_text("about pets")
    manifest = images.manifest(spec())
    assert list(manifest.index) == [
        "cat/a.JPG",
        "cat/cat-0-0.png",
        "cat/cat-0-1.png",
        "dog/dog-0-0.png",
        "dog/dog-0-1.png",
    ]
    assert list(manifest) == ["label", "format", "width", "height", "bytes", "sha256"]
    first = manifest.iloc[0]
    assert first.tolist()[:4] == ["cat", "JPEG", 5, 4]
    assert first["bytes"] == (PETS / "cat" / "a.JPG").stat().st_size
    assert images.contents(spec(), manifest).is_unique
    assert images.groups(spec(), manifest) is None


@pytest.mark.parametrize(
    ("pattern", "groups"),
    [
        (r"^[a-z]+-(\d)-", ["0", "0", "1", "0", "0", "1"]),
        (r"^(c|d)", ["c"] * 3 + ["d"] * 3),
    ],
)
def test_a_pattern_on_the_file_name_says_the_group(here, pattern, groups):
    pets(each=3)
    assert images.manifest(spec(group=pattern))["group"].tolist() == groups


def plant(name, content):
    path = PETS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


PNG = encoded(Image.fromarray(noise(seed=999)))
JPEG = encoded(Image.fromarray(noise(seed=999)), format="JPEG")
BAD = {
    "an empty class": ((PETS / "emu").mkdir, {}, "pets/emu: class folder without images (remove it, or put"),
    "a web page": (lambda: plant("cat/x.jpg", "<html>404</html>"), {}, "pets/cat/x.jpg: no readable PNG or JPEG"),
    "zero bytes": (lambda: plant("cat/x.png", b""), {}, "pets/cat/x.png: no readable PNG or JPEG"),
    "a cut JPEG": (lambda: plant("cat/x.jpg", JPEG[:-40]), {}, "pets/cat/x.jpg: broken image ("),
    "a cut PNG": (lambda: plant("cat/x.png", PNG[:-40]), {}, "pets/cat/x.png: broken image ("),
    "a GIF called PNG": (
        lambda: plant("cat/x.png", encoded(Image.fromarray(noise()), format="GIF")),
        {},
        "pets/cat/x.png: no readable PNG or JPEG",
    ),
    "another suffix": (
        lambda: plant("cat/x.gif", PNG),
        {},
        "pets/cat/x.gif: expected PNG or JPEG files only in a class",
    ),
    "a folder in a class": (lambda: plant("cat/more/x.png", PNG), {}, "pets/cat/more: expected PNG or JPEG files only"),
    "an image outside": (lambda: plant("x.png", PNG), {}, "pets/x.png: image outside of the class folders"),
    "a link to nowhere": (
        lambda: (PETS / "cat/x.png").symlink_to("nowhere.png"),
        {},
        "pets/cat/x.png: expected PNG or JPEG files only",
    ),
    "a line break in a name": (
        lambda: plant("cat/a\nb.png", PNG),
        {},
        r"'pets/cat/a\nb.png': control characters, or bytes",
    ),
    "two sizes": (
        lambda: plant("cat/x.png", encoded(Image.fromarray(noise(3, 3)))),
        {},
        "pets: images of 2 sizes (cat/cat-0-0.png is 6x8, cat/x.png is 3x3); name the `size` they are brought to",
    ),
    "a name without a group": (
        lambda: plant("cat/x.png", PNG),
        {"group": r"-(\d+)-"},
        "pets/cat/x.png: the pattern `-(\\d+)-` of `group` finds nothing in the name",
    ),
    "an empty group": (
        lambda: plant("cat/cat.png", PNG),
        {"group": r"cat(-\d+)?|dog-(\d+)"},
        "pets/cat/cat.png: the pattern",
    ),
    "a rare class": (
        lambda: [plant(f"emu/{i}.png", PNG) for i in range(5)],  # five times the same
        {"objective": "multiclass"},
        "pets: label `emu` has 1 example(s) that are neither equal nor of one group (a split in 3 takes at least 3: ad",
    ),
    "three classes": (
        lambda: pets(("emu",)),
        {},
        "pets: 3 classes (objective binary takes two; `objective: multiclass` takes more)",
    ),
    "positive": (lambda: None, {"positive": "dogg"}, "pets: no class `dogg`, named by `positive`; did you mean `dog`?"),
    "no given folders": (lambda: None, {"split": Split(given="folder")}, "pets: holds no folder train"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_folder_is_refused_with_the_file(prepared, refusal, case):
    change, knobs, told = BAD[case]
    pets()
    change()
    assert refusal(lambda: prepared(spec(**knobs))).startswith(told)
    assert not Path("build/data").exists()


def test_a_name_that_is_not_utf8_is_refused(here, refusal):
    pets()
    try:
        plant(b"cat/\xff.png".decode("utf-8", "surrogateescape"), PNG)
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    told = r"'pets/cat/\udcff.png': control characters, or bytes that are not UTF-8, in the name"
    assert refusal(lambda: images.manifest(spec())) == told


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: None, "pets: not found (expected a folder with one folder a class)"),
        (lambda: PETS.write_text("x"), "pets: is a file (expected a folder with one folder a class)"),
        (PETS.mkdir, "pets: holds no folders (expected one a class)"),
        (lambda: pets(("cat",)), "pets: one class only, `cat` (a classifier takes two or more)"),
    ],
    ids=["nothing", "a file", "an empty folder", "one class"],
)
def test_what_is_no_folder_of_classes_is_refused(prepared, refusal, make, told):
    make()
    assert refusal(lambda: prepared(spec())) == told


def test_sizes_are_looked_at_before_anything_is_decoded(refusal, monkeypatch):
    bomb = encoded(Image.new("1", (9000, 9000)))
    assert len(bomb) < 20_000
    decoded, load = [], ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: decoded.append(image.size) or load(image))
    assert refusal(lambda: pixels(bomb, (6, 8, 3))) == "row 0: 9000x9000 pixels (at most 50000000 in all)"
    assert not decoded
    assert pixels(PNG, (6, 8, 3)).any()
    assert set(decoded) == {(8, 6)}


def test_a_file_of_too_many_bytes_is_refused(refusal, monkeypatch):
    monkeypatch.setattr(images, "MOST_BYTES", len(PNG) - 1)
    assert refusal(lambda: pixels(PNG, (6, 8, 3))) == f"row 0: {len(PNG)} bytes (at most {len(PNG) - 1})"


# === How an image becomes pixels ===


def test_plain_images_come_through_bit_by_bit():
    assert np.array_equal(pixels(PNG, (6, 8, 3)), noise(seed=999))


@pytest.mark.parametrize("how", ["PNG", "JPEG"])
def test_grey_is_what_pillow_says(how):
    content = encoded(Image.fromarray(noise(seed=1)), format=how)
    assert np.array_equal(pixels(content, (6, 8, 1), channels=1)[..., 0], Image.open(io.BytesIO(content)).convert("L"))


@pytest.mark.bad_input(
    number=43, what="grey, palette, CMYK and RGBA", then="taken, in the colours that `channels` names"
)
@pytest.mark.parametrize(
    ("mode", "how"),
    [("L", "PNG"), ("1", "PNG"), ("P", "PNG"), ("LA", "PNG"), ("RGBA", "PNG"), ("L", "JPEG"), ("CMYK", "JPEG")],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_comes_in_the_colours_of_the_set(mode, how, channels):
    image = Image.fromarray(noise(seed=2)).convert(mode)
    content = encoded(image, format=how)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("L" if channels == 1 else "RGB"))
    assert np.array_equal(pixels(content, (6, 8, channels), channels=channels), expected.reshape(6, 8, channels))


@pytest.mark.bad_input(number=43, what="an alpha channel", then="taken without it")
def test_an_alpha_channel_is_dropped():
    colours = np.full((6, 8, 4), 200, np.uint8)
    colours[..., 3] = 0
    assert (pixels(encoded(Image.fromarray(colours)), (6, 8, 3)) == 200).all()


def test_a_transparent_palette_costs_no_warning():
    image = Image.fromarray(noise()).convert("P")
    plain = pixels(encoded(image), (6, 8, 3))
    assert np.array_equal(pixels(encoded(image, transparency=bytes([0, 128] + [255] * 254)), (6, 8, 3)), plain)


@pytest.mark.bad_input(number=43, what="16 bits a channel", then="taken, scaled to 8 bits")
def test_sixteen_bits_are_scaled_and_not_clipped():
    values = np.array([[0, 257, 300, 32896, 65400, 65535]], np.uint16)
    found = pixels(encoded(Image.fromarray(values)), (1, 6, 1), channels=1)
    assert found[0, :, 0].tolist() == [0, 1, 1, 128, 254, 255]


@pytest.mark.bad_input(number=44, what="a photograph that EXIF says is turned", then="taken upright")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(noise(6, 8))
    turned = {
        1: None, 2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270",
        7: "TRANSVERSE", 8: "ROTATE_90",
    }[orientation]  # fmt: skip
    expected = np.asarray(image.transpose(Image.Transpose[turned]) if turned else image)
    assert np.array_equal(pixels(encoded(image, exif=exif), expected.shape), expected)


def test_photographs_that_are_all_turned_have_one_size(prepared):
    exif = Image.Exif()
    exif[0x0112] = 6
    pets(exif=exif)
    assert images.manifest(spec())[["height", "width"]].drop_duplicates().to_numpy().tolist() == [[8, 6]]
    assert prepared(spec()).facts["shape"] == [8, 6, 3]


def test_broken_exif_says_nothing():
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.fromarray(noise(8, 8)), format="JPEG", exif=exif, quality=100)
    broken = content.replace(b"\x01\x12\x00\x03\x00\x00\x00\x01", b"\x01\x12\x00\x03\xff\xff\xff\xff")
    assert broken != content
    plain = encoded(Image.fromarray(noise(8, 8)), format="JPEG", quality=100)
    assert np.array_equal(pixels(broken, (8, 8, 3)), pixels(plain, (8, 8, 3)))


@pytest.mark.parametrize(("height", "width"), [(6, 8), (8, 6), (5, 5), (20, 3), (3, 300)])
@pytest.mark.parametrize(
    ("resize", "bring"),
    [
        ("crop", lambda image: ImageOps.fit(image, (7, 4), Image.Resampling.BILINEAR)),
        ("pad", lambda image: ImageOps.pad(image, (7, 4), Image.Resampling.BILINEAR)),
        ("stretch", lambda image: image.resize((7, 4), Image.Resampling.BILINEAR)),
    ],
)
def test_images_of_any_shape_are_brought_to_the_size(resize, bring, height, width):
    image = Image.fromarray(noise(height, width))
    found = pixels(encoded(image), (4, 7, 3), size=(4, 7), resize=resize)
    assert np.array_equal(found, np.asarray(bring(image)))


def test_padding_keeps_all_and_cropping_keeps_the_proportions():
    white = encoded(Image.new("L", (20, 10), 255))
    padded = pixels(white, (10, 10, 1), size=(10, 10), resize="pad", channels=1)[..., 0]
    assert padded.min(axis=1).tolist() == padded.max(axis=1).tolist() == [0, 0, 255, 255, 255, 255, 255, 0, 0, 0]
    assert (pixels(white, (10, 10, 1), size=(10, 10), channels=1) == 255).all()


def test_an_image_of_another_size_is_refused_where_none_is_named(refusal):
    told = refusal(lambda: pixels(PNG, (5, 5, 3)))
    assert told == "row 0: 6x8 pixels (expected 5x5)"


# === Splits ===


def test_groups_and_equal_files_stay_together(here):
    pets(each=12)
    for copy in range(3):
        plant(f"cat/copy-9-{copy}.png", PNG)
    for asked in (spec(), spec(group=r"-(\d)-")):
        manifest = images.manifest(asked)
        parts = images.split(asked, manifest, 1)
        assert set(zip(manifest["label"], parts, strict=True)) == {
            (label, part) for label in ("cat", "dog") for part in ("train", "validation", "test")
        }
        assert parts[manifest["sha256"] == manifest["sha256"]["cat/copy-9-0.png"]].nunique() == 1
        if asked.group:
            assert (parts.groupby(manifest["group"]).nunique() == 1).all()
        assert not kinds.audit(asked, manifest, parts)


@pytest.mark.parametrize(("given", "validation"), [(("train", "validation", "test"), 10), (("train", "test"), 4)])
def test_given_folders_are_the_splits(prepared, given, validation):
    for place, part in enumerate(given):
        pets(root=PETS / part, each=5)
        for file in (PETS / part).rglob("*.png"):
            file.write_bytes(file.read_bytes() + bytes([place]))  # what follows the image is not read
    data = prepared(spec(split=Split(given="folder", validation=0.4)))
    assert len(data.validation) == validation
    assert len(data.test) == 10
    assert all(name.startswith("test/") for name in data.test.rows.index)
    assert data.classes == ["cat", "dog"]
    assert set(data.test.rows["label"]) == {"cat", "dog"}


@pytest.mark.bad_input(
    number=49, what="the same file in two given splits", then="the audit's finding `the same content in 2 splits`"
)
def test_a_planted_copy_in_a_given_split_is_a_leak(here):
    for part in ("train", "validation", "test"):
        pets(root=PETS / part, each=3)
        for file in (PETS / part).rglob("*.png"):
            file.write_bytes(file.read_bytes() + part.encode())
    (PETS / "test/dog/copy-9-9.png").write_bytes((PETS / "train/cat/cat-0-0.png").read_bytes())
    asked = spec(split=Split(given="folder"), group=r"-(\d)-")
    manifest = images.manifest(asked)
    parts = images.split(asked, manifest, 1)
    found = leaks.shared(parts, images.contents(asked, manifest))
    assert [finding.told for finding in found] == [
        "the same content in 2 splits: train/cat/cat-0-0.png (train), test/dog/copy-9-9.png (test)"
    ]
    groups = list(leaks.shared(parts, manifest["sha256"].index.to_series(), images.groups(asked, manifest)))
    assert groups[0].told == (
        "the same group in 3 splits: train/cat/cat-0-0.png (train), validation/cat/cat-0-0.png (validation), "
        "test/cat/cat-0-0.png (test)"
    )


# === What is written is what is read, and what decode gives ===

SHAPES = {
    "plain": {},
    "grey": {"channels": 1},
    "crop": {"size": (4, 4)},
    "pad": {"size": (9, 5), "resize": "pad"},
    "positive": {"positive": "cat"},
    "groups": {"group": r"-(\d)-"},
}


@pytest.mark.parametrize("case", SHAPES)
def test_what_is_written_is_what_is_read_and_what_decode_gives(prepared, case):
    pets()
    data = prepared(spec(**SHAPES[case]))
    assert data.facts["classes"] == (["dog", "cat"] if case == "positive" else ["cat", "dog"])
    names = []
    for part in (data.train, data.validation, data.test):
        files = pd.DataFrame({"image": [(PETS / name).read_bytes() for name in part.rows.index]}, index=part.rows.index)
        raw, answers = images.decode(data.spec, data.facts, files.assign(extra=1))
        assert list(answers) == list(part.rows.index)
        assert raw["image"].shape == part.raw["image"].shape == (len(part), *data.facts["shape"])
        assert np.array_equal(raw["image"], part.raw["image"][:])
        labels = [data.classes[number] for number in part.target]
        assert labels == [Path(name).parent.name for name in part.rows.index] == list(part.rows["label"])
        assert ("group" in part.rows) == (case == "groups")
        names += list(part.rows.index)
    assert sorted(names) == sorted(images.manifest(data.spec).index)


def test_opened_images_stay_on_the_disk_and_cannot_be_changed(prepared):
    pets()
    images = prepared(spec()).train.raw["image"]
    assert isinstance(images, Stored)
    before = images[:]
    images[:2][:] = 255 - before[:2]
    assert np.array_equal(images[:], before)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("pets/cat.png", "row 3: str (expected the bytes of a PNG or JPEG file)"),
        (None, "row 3: NoneType (expected the bytes of a PNG or JPEG file)"),
        (float("nan"), "row 3: float (expected the bytes of a PNG or JPEG file)"),
        (5_000_000_000, "row 3: int (expected the bytes of a PNG or JPEG file)"),
        (b"", "row 3: no readable PNG or JPEG"),
        (JPEG[:-40], "row 3: broken image ("),
    ],
    ids=["a path", "nothing", "not a number", "a number", "no bytes", "a cut image"],
)
def test_what_is_no_image_is_refused_with_its_row(refusal, value, told):
    rows = pd.DataFrame({"image": pd.Series([PNG, value], dtype=object, index=[2, 3])})
    assert refusal(lambda: images.decode(spec(), {"shape": [6, 8, 3]}, rows)).startswith(told)


def test_rows_without_images_are_refused_and_no_rows_are_no_images(refusal):
    told = refusal(lambda: images.decode(spec(), {"shape": [6, 8, 3]}, pd.DataFrame({"picture": [PNG]})))
    assert told == "no column `image` (the bytes of a PNG or JPEG file) in the rows to answer"
    raw, _ = images.decode(spec(), {"shape": [6, 8, 3]}, pd.DataFrame({"image": []}))
    assert raw["image"].shape == (0, 6, 8, 3)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_of_any_type_are_an_image(kind):
    assert np.array_equal(pixels(kind(PNG), (6, 8, 3)), noise(seed=999))


def test_no_damage_is_told_otherwise_than_in_a_line(refusal):
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = [
        PNG,
        encoded(Image.fromarray(noise()).convert("P")),
        encoded(Image.fromarray(noise()), format="JPEG", exif=exif),
    ]
    refused = 0
    for turn in range(600):
        content = bytearray(whole[turn % 3])
        for place in rng.integers(0, len(content), 1 + turn % 3):
            content[place] = rng.integers(0, 256)
        try:
            pixels(
                bytes(content[: rng.integers(1, len(content))] if turn % 5 == 0 else content), (4, 4, 3), size=(4, 4)
            )
        except images.BadInput as error:
            assert "\n" not in str(error)  # noqa: PT017
            refused += 1
    assert 100 < refused < 600


# === Preprocessing, baselines and figures ===


def test_pixels_are_brought_to_0_to_1(prepared):
    import keras

    pets()
    data = prepared(spec())
    model = images.preprocessing(data.spec, data.facts, data.train).model()
    assert model.input["image"].dtype == "uint8"
    found = keras.ops.convert_to_numpy(model({"image": data.test.raw["image"][:]}))
    np.testing.assert_allclose(found, data.test.raw["image"] / np.float32(255), atol=1e-7)


def test_baselines_answer_the_test_split(prepared):
    pets()
    data = prepared(spec())
    naive, classical = images.compared(data.spec, data)
    assert (naive.name, classical.name) == ("shares of the classes", "linear model on pixels")
    assert naive.answer.tolist() == [[0.5]] * len(data.test)
    assert classical.answer.shape == (len(data.test), 1)
    figure = images.mistakes(data.spec, data.facts, data.test, classical.answer)
    figures.save(figure, Path("mistakes.png"))
    assert {axes.get_title().splitlines()[0] for axes in figure.axes} == {
        Path(name).name for name in data.test.rows.index
    }


def test_what_the_kind_expects(here):
    pets(each=1)
    expected = images.expectations(spec(), images.manifest(spec()))
    assert [(one.column, one.not_null, one.between) for one in expected] == [
        ("label", True, None),
        ("width", False, (2, None)),
        ("height", False, (2, None)),
    ]
