"""The embedded weights: what they are, and that nothing of the shipped pictograms was seen when they were made."""

import importlib
import sys
from pathlib import Path

import h5py
import pandas as pd
import pytest
from PIL import Image

from trainyard import files, params
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
    measured = pd.read_csv(ROOT / "benchmarks/routes.csv", index_col="route").drop(index="imagenet")
    assert set(measured[["pictograms", "photos"]].idxmax()) == {"distillation-glyphs"}
    assert imported("routes").ROUTES["distillation-glyphs"] == {}


def test_the_weights_are_those_of_their_card_half_precise_and_small():
    path = FOLDER / pretrained.EMBEDDED
    assert f"SHA-256 {files.sha256(path)}" in path.with_name("mobilenet-v1-0.25-embedded.md").read_text()
    assert files.sha256(path) == pretrained.PINNED[pretrained.EMBEDDED]
    assert path.stat().st_size < 1_000_000
    found = []
    with h5py.File(path) as held:
        held.visititems(lambda _, item: found.append(item.dtype) if isinstance(item, h5py.Dataset) else None)
    assert {str(dtype) for dtype in found} == {"float16"}


def test_no_group_of_the_pictograms_can_be_among_the_figures(script):
    groups = {int(path.name.partition("-")[0], 16) for path in PICTOGRAMS.glob("*/*.jpg")}
    assert len(groups) > 100
    assert [hex(number) for number in groups if not script.within(number, script.BARRED)] == []
    for bear_or_carp in (0x1F9F8, 0x1F38F):
        assert script.within(bear_or_carp, script.BARRED)


def test_no_picture_of_the_pictograms_is_among_the_figures(script):
    """By what its pixels are; drawing takes the font."""
    if not script.FONT.is_file():
        pytest.skip(f"the font {script.FONT} is not installed")
    font = script.open_font(script.FONT)
    shipped = {script.cut_glyph(font, one).tobytes() for ones in script.GLYPHS.values() for one in ones}
    drawn = script.glyphs(script.FONT)
    assert len(drawn) > 900
    assert not shipped & {script.cut_glyph(font, chr(number)).tobytes() for number in drawn}


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


def test_embedded_weights_that_were_damaged_are_refused(monkeypatch):
    from trainyard.errors import EnvironmentFailed
    from trainyard.params import Backbone

    monkeypatch.setitem(pretrained.PINNED, pretrained.EMBEDDED, "0" * 64)
    with pytest.raises(
        EnvironmentFailed, match=r"not the weights that ship \(SHA-256 differs\); install trainyard again"
    ):
        pretrained.resolve(Backbone(width=0.25, weights="embedded"))
