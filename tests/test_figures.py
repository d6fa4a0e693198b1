import numpy as np
import pandas as pd
import pytest

from trainyard import figures
from trainyard.quality.objectives import OBJECTIVES

TARGET = np.array([0, 1, 1, 0])
ANSWER = np.array([[0.2], [0.7], [0.3], [0.9]])  # the third and the fourth are wrong, the fourth surer
NAMES = pd.Index(["2", "3", "4", "5"])
IMAGES = np.arange(4 * 6 * 5).reshape(4, 6, 5, 1).astype(np.uint8)
QUOTED = np.array([["so"], ["no $5_$6"], ["word" * 99], ["\u732b \U0001f600\nand\tmore"]], object)
HISTORY = pd.DataFrame(
    {"loss": [3.0, 2.0, 1.0], "val_loss": [3.0, 1.0, 2.0], "learning_rate": 0.1, "kept": [0, 1, 0]},
    index=pd.Index([1, 2, 3], name="epoch"),
)
RESTS = pd.DataFrame(
    {"drop": [0.5, 0.1, -0.2], "low": [0.2, np.nan, -0.3], "high": [0.9, np.nan, 0.0], "examples": [9, 4, 7]},
    index=pd.Index(["sun", "word" * 20, "$5_$6"], name="part"),
)
MEAN, LOST, CUTS = np.array([0.5, -0.004, 0, 0.1]), np.array([[1, 0, 0, 0], [0, 0.5, -0.5, 0]]), ([0, 3, 6], [0, 2, 5])
FORECASTS = (np.arange(8.0).reshape(2, 4), np.ones((2, 3)), np.zeros((2, 3)), pd.Index(["2020-01-01", "2020-01-02"]))

DRAWN = {
    "learning": lambda: figures.learning(HISTORY),
    "one epoch": lambda: figures.learning(HISTORY[:1]),
    "binary": lambda: figures.answers(OBJECTIVES["binary"], TARGET, ANSWER, ["no", "yes"]),
    "a temperature": lambda: figures.answers(OBJECTIVES["binary"], TARGET, ANSWER, ["no", "yes"], 1.5),
    "multiclass": lambda: figures.answers(OBJECTIVES["multiclass"], np.arange(3), np.eye(3), ["a", "b", "c"]),
    "numbers": lambda: figures.answers(OBJECTIVES["regression"], np.ones((3, 1)), np.ones((3, 1)), []),
    "one step ahead": lambda: figures.answers(OBJECTIVES["forecast"], np.ones((3, 1)), np.zeros((3, 1)), []),
    "steps ahead": lambda: figures.answers(OBJECTIVES["forecast"], np.ones((3, 2)), np.zeros((3, 2)), []),
    "rows, binary": lambda: figures.answers_by_row(NAMES, TARGET, ANSWER, ["no", "yes"]),
    "rows, multiclass": lambda: figures.answers_by_row(NAMES[:3], np.arange(3), np.eye(3), ["a", "b", "c"]),
    "rows, numbers": lambda: figures.answers_by_row(NAMES, TARGET[:, None] * 1.0, ANSWER, []),
    "gallery": lambda: figures.gallery(IMAGES, TARGET, ANSWER, ["no", "yes"], NAMES),
    "one image": lambda: figures.gallery(IMAGES[:1], TARGET[:1], ANSWER[:1], ["no", "yes"], NAMES[:1]),
    "quotations": lambda: figures.quotations(QUOTED, TARGET, ANSWER, ["no", "yes"], NAMES),
    "no wrong answer": lambda: figures.quotations(QUOTED, TARGET, 1.0 * TARGET[:, None], ["no", "yes"], NAMES),
    "forecasts": lambda: figures.forecasts(*FORECASTS),
    "importances": lambda: figures.importances(RESTS, "without the word"),
    "no importances": lambda: figures.importances(RESTS[:0], "without the word"),
    "occlusion": lambda: figures.occlusion(MEAN, CUTS, IMAGES[:2], NAMES[:2], LOST),
    "occlusion in colour": lambda: figures.occlusion(MEAN, CUTS, IMAGES[:2].repeat(3, axis=3), NAMES[:2], LOST),
    "a dollar in a name": lambda: figures.confusion(TARGET, 1 - TARGET, ["cost_$5_$6", "b"]),
    "a script without glyphs": lambda: figures.confusion(TARGET, 1 - TARGET, ["猫", "犬"]),
    "a class that no row has": lambda: figures.confusion(TARGET, TARGET, ["a", "b", "c"]),
}


def texts(axes):
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_is_the_same_bytes_for_the_same_numbers(tmp_path, name):
    for file in ("a.png", "b.png"):
        figures.save(DRAWN[name](), tmp_path / file)
    content = (tmp_path / "a.png").read_bytes()
    assert content == (tmp_path / "b.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert b"Software" not in content


def test_other_numbers_are_another_figure(tmp_path):
    figures.save(DRAWN["learning"](), tmp_path / "a.png")
    figures.save(figures.learning(HISTORY.assign(loss=HISTORY["loss"] + 1)), tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()


def test_learning_shows_what_has_a_validation_figure_and_the_kept_epoch():
    (axes,) = figures.learning(HISTORY).axes
    train, validation, kept = axes.lines
    assert axes.get_title() == "loss"
    assert list(train.get_ydata()) == [3, 2, 1]
    assert list(validation.get_ydata()) == [3, 1, 2]
    assert list(kept.get_xdata()) == [2, 2]


def test_a_confusion_counts_rows_by_their_true_class():
    (axes,) = figures.confusion(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), ["a", "b"]).axes
    assert texts(axes) == ["2", "1", "1"]
    np.testing.assert_allclose(axes.images[0].get_array(), [[2 / 3, 1 / 3], [0, 1]])


def test_reliability_is_drawn_in_bins_with_counts_before_and_after_the_temperature():
    target, sure = np.arange(50) % 2, np.linspace(0.51, 0.99, 50)
    answer = np.where(target == 1, sure, 1 - sure)[:, None]  # all right
    matrix, diagram = figures.answers(OBJECTIVES["binary"], target, answer, ["no", "yes"], 2.0).axes
    assert texts(matrix) == ["25", "25"]
    assert texts(diagram) == ["25", "25"]
    _, before, after = diagram.lines
    np.testing.assert_allclose(after.get_xdata(), [sure[:25].mean(), sure[25:].mean()])
    np.testing.assert_allclose(after.get_ydata(), [1, 1])
    surer = sure**2 / (sure**2 + (1 - sure) ** 2)
    np.testing.assert_allclose(before.get_xdata(), [surer[:25].mean(), surer[25:].mean()])
    told = [line.get_label() for line in (before, after)]
    assert told == [
        f"before its temperature 2: error {1 - surer.mean():.3f}",
        f"as it answers: error {1 - sure.mean():.3f}",
    ]
    for temperature in (None, 1.0):
        assert len(figures.answers(OBJECTIVES["binary"], target, answer, ["no", "yes"], temperature).axes[1].lines) == 2


@pytest.mark.parametrize(
    ("case", "named"), [("rows, binary", ["5", "4"]), ("rows, multiclass", []), ("rows, numbers", ["5", "4", "3", "2"])]
)
def test_the_most_wrong_rows_carry_their_name(case, named):
    (axes,) = DRAWN[case]().axes
    assert texts(axes) == named


def test_a_gallery_begins_with_the_surest_mistakes():
    titles = [axes.get_title() for axes in DRAWN["gallery"]().axes]
    assert titles == ["5\nyes 0.90\nis no", "4\nno 0.70\nis yes", "3\nyes 0.70", "2\nno 0.80"]


def test_a_gallery_shows_no_more_than_asked():
    assert len(figures.gallery(IMAGES, TARGET, ANSWER, ["no", "yes"], NAMES, most=2).axes) == 2


def test_errors_are_told_by_the_step_ahead():
    target, answer = np.zeros((2, 3)), np.array([[1.0, 2, 3], [-1, 2, -5]])
    (axes,) = figures.answers(OBJECTIVES["forecast"], target, answer, []).axes
    assert [bar.get_height() for bar in axes.patches] == [1, 2, 4]


def test_a_forecast_begins_at_the_last_known_value():
    first = figures.forecasts(*FORECASTS).axes[0]
    past, came, forecast = (list(line.get_ydata()) for line in first.lines)
    assert (past, came, forecast) == ([0, 1, 2, 3], [3, 1, 1, 1], [3, 0, 0, 0])
    assert first.get_title() == "after 2020-01-01"


def test_a_confusion_of_many_classes_stays_a_figure():
    names = [f"class {i}" for i in range(300)]
    target = np.arange(300)
    figure = figures.confusion(target, target[::-1], names)
    assert max(figure.get_size_inches()) < 25
    assert not figure.axes[0].texts


def test_importances_are_bars_with_their_intervals_and_counts():
    (axes,) = DRAWN["importances"]().axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert (names[0], names[2]) == ("sun (9)", "$5_$6 (7)")
    assert names[1].startswith("wordword")
    assert names[1].endswith(" ... (4)")
    assert [bar.get_width() for bar in axes.patches] == [0.5, 0.1, -0.2]
    (whiskers,) = axes.collections
    assert whiskers.get_segments()[0].tolist() == [[0.2, 0], [0.9, 0]]
    (axes,) = figures.importances(RESTS.assign(examples=9), "without the word").axes
    assert axes.get_yticklabels()[0].get_text() == "sun"
    assert axes.get_title() == "mean score lost without the word"
    assert DRAWN["no importances"]().axes[0].get_title() == "no part that enough examples have"
    assert len(figures.importances(RESTS, "", most=2).axes[0].patches) == 2


def test_an_occlusion_maps_what_is_lost_patch_by_patch():
    mean, first, second = DRAWN["occlusion"]().axes
    assert texts(mean) == ["0.50", "0.00", "0.00", "0.10"]
    assert [text.get_position() for text in mean.texts] == [(1, 1.5), (3.5, 1.5), (1, 4.5), (3.5, 4.5)]
    assert [axes.get_title() for axes in (mean, first, second)] == ["mean score lost", "2", "3"]
    (shade,) = second.collections
    np.testing.assert_allclose(shade.get_array().ravel(), [0, 1, -1, 0])  # lost, and gained
    np.testing.assert_allclose(np.ravel(shade.get_alpha()), [0, 0.3, 0.3, 0])


def test_wrong_answers_are_quoted_the_surest_first():
    (axes,) = DRAWN["quotations"]().axes
    assert axes.get_title(loc="left") == "2 of 2 wrong answers, the surest first"
    told = texts(axes)
    assert told[:4] == ["5", "is no", "yes 0.90", "\u732b \U0001f600 and more"]
    assert told[4:7] == ["4", "is yes", "no 0.70"]
    assert told[7].startswith("wordword")
    assert told[7].endswith(" ...")
    assert len(told[7]) <= 90
    assert texts(DRAWN["no wrong answer"]().axes[0]) == []
