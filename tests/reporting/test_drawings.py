import re

import pytest

from trainyard.reporting import brief, cell, drawings, figure, sentence


def test_each_count_that_is_not_zero_has_a_bar_to_see():
    heights = re.findall(r'height="([\d.]+)"/>', drawings.histogram([0, 1, 1000, 500]))
    assert heights == ["1.0", "28.0", "14.0"]


def test_an_interval_is_drawn_between_the_ends_of_its_scale():
    values = {"value": 0.5, "low": 0.25, "high": 0.75, "naive": 0.0, "classical": 1.0}
    drawn = drawings.interval(values, (0.0, 1.0))
    assert 'cx="140.0"' in drawn
    assert "M74.0 13H206.0" in drawn
    assert 'class="naive" d="M8.0' in drawn
    assert 'class="classical" d="M272.0' in drawn
    assert "<title>value 0.5, low 0.25, high 0.75, naive 0, classical 1</title>" in drawn


def test_what_is_not_defined_is_not_drawn():
    drawn = drawings.interval({"value": 0.5}, (0.0, 1.0))
    assert "whisker" not in drawn
    assert "naive" not in drawn


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.97368, "0.974"),
        (0.0, "0.000"),
        (-0.0207, "-0.021"),
        (0.00571, "0.0057"),
        (12.3456, "12.35"),
        (12345.6, "12,346"),
        (None, "-"),
    ],
)
def test_figures_are_short(value, told):
    assert figure(value) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [(2.61049e5, "261,000"), (0.0, "0"), (1e-7, "1e-07"), ("2020-01-01T00:00:00", "2020-01-01"), (1e300, "1e+300")],
)
def test_ends_of_a_column_are_brief(value, told):
    assert brief(value) == told


def test_names_between_backticks_are_code_and_the_rest_stays_text():
    assert sentence("`a<b` is > 0") == "<code>a&lt;b</code> is &gt; 0"


def test_a_cell_stays_one_cell():
    assert cell("a | b\n<img> @all ![x](y)") == "a \\| b &lt;img> &#64;all ![x]\\(y)"
