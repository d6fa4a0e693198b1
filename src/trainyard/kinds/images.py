"""Images: a folder with one folder a class, of PNG and JPEG files.

Raw is one input `image`, uint8 `[n, height, width, channels]`.
"""

import hashlib
import io
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from trainyard import arrays, files
from trainyard.arrays import Array
from trainyard.errors import BadInput
from trainyard.kinds import (
    Examples,
    Masked,
    Measures,
    Prepared,
    Preprocessing,
    class_names,
    class_numbers,
    few,
    read_rows,
)
from trainyard.params import Expectation, Images
from trainyard.quality import baselines, leaks, splits
from trainyard.quality.baselines import Baseline
from trainyard.quality.importance import Part
from trainyard.quality.leaks import Finding
from trainyard.quality.metrics import of_target

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = {".png", ".jpg", ".jpeg"}
MOST_PIXELS = 50_000_000
MOST_BYTES = 20_000_000
GRID = 4
"""Patches on a side of an image."""
CONTRAST = 40
"""Standard deviation to which that of a thumbnail is brought, in levels of 255."""
ALIKE = 3.0
"""Levels by which thumbnails of the same image differ: a photo saved as JPEG of quality 50 by about 2."""
FEW_SEEN = 128
"""Images that are looked at again without each patch."""


def manifest(spec: Images) -> pd.DataFrame:
    """One row a file: label, group, format, width, height, bytes, sha256; indexed by the path below the folder."""
    root = Path(spec.path)
    if not root.is_dir():
        what = "is a file" if root.exists() else "not found"
        raise BadInput(f"{root}: {what} (expected a folder with one folder a class)")
    return _table(
        _describe(spec, root, split, folder, file)
        for split, folder in _class_folders(spec, root)
        for file in _files(folder)
    )


def expectations(spec: Images, manifest: pd.DataFrame) -> list[Expectation]:
    """Each image has a label and a size that is an image's."""
    return [
        Expectation(column="label", not_null=True),
        Expectation(column="width", between=(2, None)),
        Expectation(column="height", between=(2, None)),
    ]


def split(spec: Images, manifest: pd.DataFrame, seed: int) -> pd.Series:
    """Stratified by class; groups, or else images that are equal or nearly so, stay together."""
    given = manifest["split"] if spec.split.given else None
    together, shares = groups(spec, manifest), spec.split
    same = likeness(spec, manifest) if together is None else contents(spec, manifest)
    return splits.draw(manifest["label"], together, same, shares.validation, shares.test, given, seed, spec.path)


def contents(spec: Images, manifest: pd.DataFrame) -> pd.Series:
    """The files' hashes."""
    return manifest["sha256"]


def likeness(spec: Images, manifest: pd.DataFrame) -> pd.Series:
    """Clusters of images of which one may be another, saved anew or in another size, by thumbnails of 8x8 pixels.

    Their contrast is brought to that of most photos: what is pale is not alike for it. Cuttings and mirror images
    are not found.
    """
    thumbnails = [_thumbnail((Path(spec.path) / example).read_bytes(), example) for example in manifest.index]
    return pd.Series(leaks.near(np.stack(thumbnails), ALIKE), manifest.index).astype(str)


def groups(spec: Images, manifest: pd.DataFrame) -> pd.Series | None:
    """What the user's pattern finds in the file names."""
    return manifest["group"] if spec.group and "group" in manifest else None


def audit(spec: Images, manifest: pd.DataFrame, parts: pd.Series) -> Iterator[Finding]:
    """Classes that are told apart by the format or the size of their files."""
    told = manifest[["format", "width", "height"]].astype({"width": float, "height": float})
    return leaks.giveaways(told, manifest["label"], parts, spec.audit_allow, classifies=True)


def facts(spec: Images, manifest: pd.DataFrame) -> dict[str, Any]:
    """Classes, and height, width and channels of all images."""
    if spec.size is None:
        sizes = manifest[["height", "width"]].drop_duplicates()
        if len(sizes) > 1:
            first, second = sizes.index[:2]
            shown = ", ".join(
                f"{example} is {manifest['height'][example]}x{manifest['width'][example]}"
                for example in (first, second)
            )
            raise BadInput(f"{spec.path}: images of {len(sizes)} sizes ({shown}); name the `size` they are brought to")
        height, width = (int(side) for side in sizes.iloc[0])
    else:
        height, width = spec.size
    classes = class_names(spec.path, manifest["label"], spec.objective, spec.positive)
    return {"classes": classes, "shape": [height, width, spec.channels]}


def write(spec: Images, facts: Mapping[str, Any], manifest: pd.DataFrame, folder: Path) -> None:
    """`images.npy` uint8 `[n, height, width, channels]`, written image by image; `target.npy`; `rows.csv`."""
    paths = (Path(spec.path) / example for example in manifest.index)
    images = (_pixels(spec, facts, path.read_bytes(), str(path)) for path in paths)
    arrays.write(folder / "images.npy", (image[None] for image in images))
    np.save(folder / "target.npy", class_numbers(manifest["label"], facts["classes"]))
    files.write_csv(folder / "rows.csv", manifest[[column for column in ("label", "group") if column in manifest]])


def read(spec: Images, facts: Mapping[str, Any], folder: Path) -> Examples:
    """The images stay on the disk."""
    return Examples({"image": arrays.Stored(folder / "images.npy")}, np.load(folder / "target.npy"), read_rows(folder))


def decode(spec: Images, facts: Mapping[str, Any], table: pd.DataFrame) -> tuple[dict[str, Array], pd.Index]:
    """Rows with a column `image`, the bytes of a PNG or JPEG file each."""
    if "image" not in table:
        raise BadInput("no column `image` (the bytes of a PNG or JPEG file) in the rows to answer")
    images = np.empty((len(table), *facts["shape"]), np.uint8)
    for i, (row, image) in enumerate(table["image"].items()):
        if not isinstance(image, bytes | bytearray | memoryview):
            raise BadInput(f"row {row}: {type(image).__name__} (expected the bytes of a PNG or JPEG file)")
        images[i] = _pixels(spec, facts, bytes(image), f"row {row}")
    return {"image": images}, table.index


def preprocessing(spec: Images, facts: Mapping[str, Any], train: Examples) -> Preprocessing:
    """Pixels to [0, 1]."""
    import keras
    from keras import layers

    image = keras.Input(tuple(facts["shape"]), dtype="uint8", name="image")
    return Preprocessing({"image": image}, layers.Rescaling(1 / 255, name="pixels")(image), anew=True)


def compared(spec: Images, data: Prepared) -> tuple[Baseline, Baseline]:
    """The training targets alone; a linear model on pixels."""
    train, test = data.train.raw["image"], data.test.raw["image"]
    naive = baselines.naive(data.objective, data.train.target, len(data.test))
    return naive, baselines.of_images(data.objective, train, data.train.target, test)


def mistakes(spec: Images, facts: Mapping[str, Any], test: Examples, answer: Array) -> "Figure":
    """The wrong answers of which the model was surest, or the right ones of which it was least sure."""
    from trainyard import figures

    return figures.gallery(test.raw["image"], test.target, answer, facts["classes"], test.rows.index)


def masked(spec: Images, facts: Mapping[str, Any], train: Examples, test: Examples, seed: int) -> Iterator[Masked]:
    """Each patch of a grid with the mean of the training images in its place (Zeiler & Fergus, 2014)."""
    places = few(test, seed, FEW_SEEN)
    mean = np.rint(train.raw["image"][few(train, seed)].mean(axis=0)).astype(np.uint8)
    for part, patched in _patched(test.raw["image"][places], mean):
        yield Masked(part, places, {"image": patched})


def without(spec: Images, facts: Mapping[str, Any], raw: Mapping[str, Array]) -> Iterator[tuple[str, dict[str, Array]]]:
    """One image with each patch of a grid in the mean colour of the whole."""
    images = raw["image"]
    mean = np.rint(images[0].mean(axis=(0, 1))).astype(np.uint8)
    for part, patched in _patched(images, np.broadcast_to(mean, images.shape[1:])):
        yield part, {"image": patched}


def importances(spec: Images, test: Examples, answer: Array, parts: Sequence[Part], table: pd.DataFrame) -> "Figure":
    """A map of the patches, and maps of the images whose answer hangs most on a single one."""
    from trainyard import figures

    places, (height, width) = parts[0].places, test.raw["image"].shape[1:3]
    target, cuts = test.target[places], (_cuts(height), _cuts(width))
    sure = of_target(target, answer[places])
    lost = np.stack([sure - of_target(target, part.answer) for part in parts], axis=1)
    telling = np.argsort(-lost.max(axis=1), kind="stable")[:5]
    images, names = test.raw["image"][places[telling]], test.rows.index[places[telling]]
    drops = table["drop"].loc[[part.name for part in parts]].to_numpy()
    return figures.occlusion(drops, cuts, images, names, lost[telling])


def fresh(spec: Images, facts: Mapping[str, Any]) -> pd.DataFrame:
    """Images in class folders or, without labels, in the folder itself."""
    root = Path(spec.path)
    if not (root.is_dir() and any(file.suffix.lower() in SUFFIXES and file.is_file() for file in root.iterdir())):
        return manifest(spec)
    found = _files(root)
    if spec.group and not re.search(spec.group, found[0].name):  # requests that were kept bear other names
        spec = spec.model_copy(update={"group": None})
    return _table(_describe(spec, root, None, root, file) for file in found).drop(columns="label")


def measures(spec: Images, facts: Mapping[str, Any], train: pd.DataFrame, manifest: pd.DataFrame) -> Measures:
    """Light, contrast, colour and sharpness as the model sees them; size and format of the files; the label, if known.

    Brightness and contrast are mean and standard deviation of the grey levels, of 1 at most; saturation and warmth the
    means of what the strongest colour has more than the weakest, and red more than blue; sharpness is the logarithm of
    the variance of the Laplacian (Pech-Pacheco et al., 2000).
    """
    seen = [
        _look(_pixels(spec, facts, (Path(spec.path) / example).read_bytes(), str(Path(spec.path) / example)))
        for example in manifest.index
    ]
    told = [column for column in ("width", "height", "format", "label") if column in manifest]
    found = pd.DataFrame(seen, manifest.index).join(manifest[told].astype({"width": float, "height": float}))
    return {str(column): found[column] for column in found}


def _look(image: Array) -> dict[str, float]:
    levels = image.astype(np.float64) / 255
    grey = levels.mean(axis=-1)
    around = np.pad(grey, 1, mode="edge")
    edges = around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:] - 4 * grey
    found = {"brightness": grey.mean(), "contrast": grey.std(), "sharpness": np.log(edges.var() + 1e-6)}
    if image.shape[-1] == 3:
        found["saturation"] = np.ptp(levels, axis=-1).mean()
        found["warmth"] = (levels[..., 0] - levels[..., 2]).mean()
    return {name: float(value) for name, value in found.items()}


def _patched(images: Array, cover: Array) -> Iterator[tuple[str, Array]]:
    """Images `[n, height, width, channels]` with each patch of a grid as in `cover` `[height, width, channels]`."""
    height, width = images.shape[1:3]
    for row, (top, bottom) in enumerate(pairwise(_cuts(height)), 1):
        for column, (left, right) in enumerate(pairwise(_cuts(width)), 1):
            patched = images.copy()
            patched[:, top:bottom, left:right] = cover[top:bottom, left:right]
            yield f"row {row}, column {column}", patched


def _cuts(side: int) -> list[int]:
    """Where a side of so many pixels is cut into patches, its ends among them."""
    return [int(cut) for cut in np.linspace(0, side, min(side, GRID) + 1).round()]


def _class_folders(spec: Images, root: Path) -> Iterator[tuple[str | None, Path]]:
    parts = [root / split for split in splits.SPLITS if (root / split).is_dir()] if spec.split.given else [root]
    if not parts:
        raise BadInput(f"{root}: holds no folder train (params say `given: folder`)")
    for part in parts:
        if stray := sorted(file for file in part.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file()):
            raise BadInput(f"{stray[0]}: image outside of the class folders")
        folders = sorted(folder for folder in part.iterdir() if folder.is_dir() and not folder.name.startswith("."))
        if not folders:
            raise BadInput(f"{part}: holds no folders (expected one a class)")
        alike: dict[str, Path] = {}
        for folder in folders:
            if (other := alike.setdefault(folder.name.casefold(), folder)) != folder:
                raise BadInput(f"{folder}: differs from `{other.name}` in case alone (on other machines they are one)")
            yield part.name if spec.split.given else None, folder


def _files(folder: Path) -> list[Path]:
    found = sorted(file for file in folder.iterdir() if not file.name.startswith(".") and file.name != "Thumbs.db")
    if not found:
        raise BadInput(f"{folder}: class folder without images (remove it, or put images in)")
    for file in found:
        if re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", f"{folder.name}/{file.name}"):
            raise BadInput(f"{str(file)!a}: control characters, or bytes that are not UTF-8, in the name")
        if not file.is_file() or file.suffix.lower() not in SUFFIXES:
            hint = " (`split: {given: folder}`?)" if folder.name in splits.SPLITS else ""
            raise BadInput(f"{file}: expected PNG or JPEG files only in a class folder{hint}")
        if (size := file.stat().st_size) > MOST_BYTES:
            raise BadInput(f"{file}: {size} bytes (at most {MOST_BYTES})")
    return found


def _table(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(rows).set_index("example")
    return table.drop(columns=[column for column in ("group", "split") if table[column].isna().all()])


def _describe(spec: Images, root: Path, split: str | None, folder: Path, file: Path) -> dict[str, Any]:
    group = None
    if spec.group is not None:
        found = re.search(spec.group, file.name)
        if found is None or found[1] is None:
            raise BadInput(f"{file}: the pattern `{spec.group}` of `group` finds nothing in the name")
        group = found[1]
    content = file.read_bytes()
    image = _opened(content, str(file))
    return {
        "example": file.relative_to(root).as_posix(),
        "label": folder.name,
        "group": group,
        "split": split,
        "format": image.format,
        "width": image.width,
        "height": image.height,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _opened(content: bytes, where: str) -> Any:
    """A decoded Pillow image, upright; raises BadInput. Sizes are looked at before anything is decoded."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    if len(content) > MOST_BYTES:
        raise BadInput(f"{where}: {len(content)} bytes (at most {MOST_BYTES})")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # broken EXIF says nothing, and that is all
            image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
            if image.width * image.height > MOST_PIXELS:
                raise BadInput(f"{where}: {image.width}x{image.height} pixels (at most {MOST_PIXELS} in all)")
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
    except UnidentifiedImageError:
        raise BadInput(f"{where}: no readable PNG or JPEG") from None
    except Image.DecompressionBombError:  # of so many that Pillow itself refuses
        raise BadInput(f"{where}: too many pixels (at most {MOST_PIXELS} in all)") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise BadInput(f"{where}: broken image ({error}; replace or remove it)") from None
    return image


def _pixels(spec: Images, facts: Mapping[str, Any], content: bytes, where: str) -> Array:
    """The image upright, in the set's size and colours: uint8 `[height, width, channels]`."""
    from PIL import Image, ImageOps

    height, width, channels = facts["shape"]
    image = _opened(content, where)
    image.info.pop("transparency", None)  # dropped, as an alpha channel is; of palettes Pillow would warn
    if image.mode.startswith(("I", "F")):  # 16 bits and more: Pillow would clip, not scale
        image = Image.fromarray((np.asarray(image, np.float64) / 257).clip(0, 255).astype(np.uint8))
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        if spec.size is None:
            raise BadInput(f"{where}: {image.height}x{image.width} pixels (expected {height}x{width})")
        bring: Any = {"crop": ImageOps.fit, "pad": ImageOps.pad, "stretch": Image.Image.resize}[spec.resize]
        image = bring(image, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8).reshape(height, width, channels)


def _thumbnail(content: bytes, where: str) -> Array:
    """Float32 `[8 * 8 * 3]`, in levels of 255."""
    from PIL import Image

    image = _opened(content, where).convert("RGB").resize((8, 8), Image.Resampling.BOX)
    levels = np.asarray(image, np.float32).ravel()
    mean = levels.mean()
    thumbnail: Array = mean + (levels - mean) * CONTRAST / max(levels.std(), 4)
    return thumbnail
