"""The embedded weights: what they are, and that nothing of the shipped pictograms was seen when they were made."""

import importlib
import sys
from hashlib import sha256
from pathlib import Path

import h5py
import pandas as pd
import pytest
from PIL import Image

from trainyard import files, kinds, params
from trainyard.models import pretrained

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "src/trainyard/models/weights"
PICTOGRAMS = ROOT / "data/pictograms"


def imported(name):
    folders = [str(ROOT / "scripts"), str(ROOT / "benchmarks")]
    sys.path[:0] = folders
    try:
        return importlib.import_module(name)
    finally:
        del sys.path[: len(folders)]


@pytest.fixture(scope="module")
def script():
    """scripts/make_figures.py"""
    return imported("make_figures")


def test_the_recipe_of_the_embedded_weights_takes_the_glyphs_below(script):
    """What is tested of the list below is then true of what they were made of."""
    recipe = params.load(ROOT / "params.yaml").pretrain["embedded"]
    assert ROOT / recipe.figures == script.OUT / "glyphs"


def test_the_embedded_weights_are_of_the_best_route():
    """By the mean of both probes."""
    measured = pd.read_csv(ROOT / "benchmarks/routes.csv", index_col="route").drop(index="imagenet")
    best = measured[["pictograms", "photos"]].mean(axis=1).idxmax()
    assert pretrained.PINNED[pretrained.EMBEDDED].startswith(measured["sha256"][best])
    assert imported("routes").ROUTES[best] == {}


def test_no_glyph_of_the_line_s_validation_or_test_chose_the_route(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    told = params.load()
    dataset = told.dataset("pictograms")
    manifest = kinds.of(dataset).manifest(dataset)
    split = kinds.of(dataset).split(dataset, manifest, told.seed)
    asked = set(manifest["group"][split.isin(["validation", "test"])])
    chose = set(imported("routes").chosen_by(PICTOGRAMS, tmp_path).train.rows["group"])
    assert len(chose) > 20
    assert not chose & asked


def test_the_weights_are_those_of_their_card_half_precise_and_small():
    path = FOLDER / pretrained.EMBEDDED
    assert f"SHA-256 {files.sha256(path)}" in path.with_name("mobilenet-v1-0.25-embedded.md").read_text()
    assert files.sha256(path) == pretrained.PINNED[pretrained.EMBEDDED]
    assert path.stat().st_size < 1_000_000
    found = []
    with h5py.File(path) as held:
        held.visititems(lambda _, item: found.append(item.dtype) if isinstance(item, h5py.Dataset) else None)
    assert {str(dtype) for dtype in found} == {"float16"}


@pytest.fixture(scope="module")
def seen():
    """What the embedded weights learnt from: the SHA-256 of the pixels of each figure, by its code point."""
    found = pd.read_csv(FOLDER / "mobilenet-v1-0.25-embedded.figures.csv", index_col="figure")["sha256_of_pixels"]
    return found.rename(lambda name: int(name.removesuffix(".png"), 16))


@pytest.fixture(scope="module")
def pictograms():
    """The SHA-256 of what each glyph of the pictograms would be as a figure, by its code point."""
    found = pd.read_csv(Path(__file__).with_name("pictogram_glyphs.csv"), index_col="group")["sha256_of_pixels"]
    return found.rename(lambda name: int(name, 16))


def test_no_glyph_of_the_pictograms_was_seen(script, seen, pictograms):
    """By group, and by hash: some code points share a picture."""
    groups = {int(path.name.partition("-")[0], 16) for path in PICTOGRAMS.glob("*/*.jpg")}
    assert set(pictograms.index) == groups
    assert f"{len(seen):,} emoji" in (FOLDER / "mobilenet-v1-0.25-embedded.md").read_text()
    assert not set(seen.index) & groups
    assert not set(seen) & set(pictograms)
    assert [hex(code) for code in seen.index if script.within(code, script.BARRED)] == []


def test_no_group_of_the_pictograms_can_be_among_the_figures(script, pictograms):
    assert [hex(code) for code in pictograms.index if not script.within(code, script.BARRED)] == []
    for bear_or_carp in (0x1F9F8, 0x1F38F):
        assert script.within(bear_or_carp, script.BARRED)


def test_the_hashes_are_those_of_what_is_drawn(script, seen, pictograms):
    """Drawing takes the font."""
    try:
        font = script.open_font(script.FONT)
    except (OSError, script.WrongFont) as error:
        pytest.skip(f"{script.FONT}: {error}")
    assert {code: hashed(glyph) for code, glyph in script.glyphs(script.FONT).items()} == seen.to_dict()
    shipped = {ord(one): script.cut_glyph(font, one) for ones in script.GLYPHS.values() for one in ones}
    assert {code: hashed(script.squared(cut, script.SIDE)) for code, cut in shipped.items()} == pictograms.to_dict()


def hashed(glyph):
    return sha256(glyph.tobytes()).hexdigest()


def test_a_shipped_glyph_among_the_figures_is_refused(script):
    """By code point, and by picture under another code point."""
    one, other = Image.new("RGBA", (4, 4), "red"), Image.new("RGBA", (4, 4), "blue")
    script.refuse_shipped({1: one}, {2: other})
    with pytest.raises(script.Seen, match=r"U\+2 is a glyph"):
        script.refuse_shipped({2: one}, {2: other})
    with pytest.raises(script.Seen, match=r"U\+1 is a glyph"):
        script.refuse_shipped({1: one}, {2: one.copy()})


def test_formulas_draw_the_same_again_and_each_another_picture(script):
    for draw in (script.fractal, script.contour):
        first, again, other = (draw(number).tobytes() for number in (3, 3, 4))
        assert first == again
        assert first != other
