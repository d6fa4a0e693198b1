"""docs/lessons.md: its params load, its rows are what `dvc exp run -S` takes, its figures come again."""

import importlib
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from trainyard import params

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/lessons.md").read_text(encoding="utf-8")
MARKED = dict(re.findall(r"<!-- lessons\.py: ([\w-]+) -->\n(.*?)\n<!-- end -->", PAGE, re.DOTALL))


@pytest.fixture(scope="module")
def lessons():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        patch.chdir(ROOT)
        yield importlib.import_module("lessons")


def rows(text):
    """What stands in a table by row: cells by the head of their column."""
    head, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return {cells[0]: dict(zip(head, cells, strict=True)) for cells in lines}


def outside(name, cells, figures):
    """The figures of a row that lie outside of what its cells say of one run."""
    wrong = []
    for column, (value,) in figures.items():
        said = cells.get(column.replace("_", " ")) or cells["one run"]
        if column == "weights":
            good = said == f"{value:,}"
        elif "±" in said:
            middle, wide = map(float, said.split(" ± "))
            good = abs(value - middle) <= wide
        else:
            low, high = map(float, said.split(" to "))
            good = low <= value <= high
        if not good:
            wrong.append(f"{name}: {column} {value}, and the page says {said}")
    return wrong


def test_a_figure_outside_of_its_spread_is_told():
    cells = {"weights": "8,970", "log loss": "0.109 ± 0.031", "one run": "0.942 to 0.994"}
    assert not outside("pixels", cells, {"weights": [8970], "log_loss": [0.139], "accuracy": [0.943]})
    assert outside("pixels", cells, {"weights": [8971], "log_loss": [0.141], "accuracy": [0.94]}) == [
        "pixels: weights 8971, and the page says 8,970",
        "pixels: log_loss 0.141, and the page says 0.109 ± 0.031",
        "pixels: accuracy 0.94, and the page says 0.942 to 0.994",
    ]


def test_the_page_has_the_tables_of_the_script_and_their_rows(lessons):
    assert list(MARKED) == list(lessons.TABLES)
    for name, text in MARKED.items():
        table = lessons.TABLES[name]
        told = [lessons.told(row, table) for row in table.rows]
        assert list(rows(text))[: len(told)] == told
        assert len(rows(text)) == len(told) + 2 * table.baselines


def test_the_page_shows_the_curves_of_the_script(lessons):
    shown = set(re.findall(r"\]\(lessons/([\w-]+)\.png\)", PAGE))
    assert shown == {picture for table in lessons.TABLES.values() for picture in table.pictures}
    for picture in shown:
        assert (ROOT / "docs/lessons" / f"{picture}.png").stat().st_size < 100_000


def test_all_rows_of_a_table_are_asked_the_same(lessons):
    for table in lessons.TABLES.values():
        datasets = {lessons.turned(row).model(row[0]).dataset for row in table.rows}
        if len(datasets) > 1:
            assert len({tuple(lessons.drawn(dataset, 1).test.rows.index) for dataset in datasets}) == 1


def test_what_is_linked_is_there():
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / link).is_file(), link


def test_the_page_s_blocks_are_new(lessons):
    yaml = YAML(typ="safe")
    shipped = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL):
        for section, named in yaml.load(block).items():
            assert not shipped[section].keys() & named.keys()


def test_each_row_is_what_dvc_makes_of_it(lessons, tmp_path):
    from dvc.utils.hydra import apply_overrides

    whole, file = lessons.taught(), tmp_path / "params.yaml"
    for row in {row for table in lessons.TABLES.values() for row in table.rows}:
        model = whole.model(row[0])
        section = "train" if row[0] in whole.train else "finetune"
        alone = {"evaluate": {row[0]: {"dataset": model.dataset}}, section: {row[0]: model.model_dump(mode="json")}}
        alone["datasets"] = {model.dataset: whole.dataset(model.dataset).model_dump(mode="json")}
        YAML().dump(alone, file)
        apply_overrides(file, [f"++{section}.{row[0]}.{knob}" for knob in row[1:]])
        assert params.load(file).model(row[0]) == lessons.turned(row).model(row[0])


def test_each_command_of_the_page_names_what_there_is(lessons):
    lines = "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)).replace("\\\n", " ").splitlines()
    for words in [shlex.split(line, comments=True) for line in lines]:
        if words[:2] == ["python", "benchmarks/lessons.py"]:
            assert set(words[2:]) <= lessons.TABLES.keys()
        if words[:3] == ["dvc", "exp", "run"]:
            (model,) = (word.partition("@")[2] for word in words if word.startswith("evaluate@"))
            knobs = [word.partition(f".{model}.")[2] for word in words if word.startswith("++")]
            lessons.turned((model, *knobs))


def test_a_row_that_the_page_does_not_explain_is_refused(lessons):
    from trainyard.errors import BadInput

    with pytest.raises(BadInput, match="unknown param `activatoin`"):
        lessons.turned(("pixels", "activatoin=relu"))


def test_an_interval_holds_what_it_should(lessons):
    values = [0.90, 0.92, 0.94, 0.96, 0.98]
    # mean 0.94, s 0.0316, t of 4 degrees 2.776, and sqrt(1 + 1/5): Hahn & Meeker, Statistical Intervals, 1991
    assert lessons.one_run("mae", values) == pytest.approx((0.84383, 1.03617), abs=1e-4)
    assert lessons.one_run("accuracy", values) == pytest.approx((0.84383, 1), abs=1e-4)
    assert lessons.one_run("mae", [0.5, 0.5, 0.5]) == pytest.approx((0.495, 0.505))
    assert lessons.cell("log_loss", values) == "0.940 ± 0.096"
    assert lessons.cell("epoch", [20, 20, 20]) == "20.0 ± 1.0"
    assert lessons.cell("weights", [8970, 8970]) == "8,970"
    # the mean: s / sqrt(5), times t
    assert lessons.interval(values) == "0.940 [0.901, 0.979]"


FOUND = {
    "layers": [
        ("below", "`layers=[]`"),
        ("around", "`layers=[]` `optimizer.learning_rate=0.01`"),
        ("below", "`layers=[8]`"),
        ("around", "`layers=[64]`"),
        ("below", "`layers=[32, 32, 32, 32, 32, 32, 32, 32]`"),
        ("below", "`layers=[32, 32, 32, 32, 32, 32, 32, 32]` `activation=sigmoid`"),
        ("around", "`layers=[32, 32, 32, 32, 32, 32, 32, 32]` `activation=sigmoid` `batch_normalization=true`"),
    ],
    "layers-tumours": [
        ("below", "`layers=[]`"),
        ("around", "`layers=[256, 256]`"),
        ("around", "logistic regression (classical)"),
    ],
    "activations": [
        ("around", "`activation=linear`"),
        ("below", "`activation=sigmoid`"),
        ("around", "`activation=tanh`"),
        ("around", "`activation=leaky_relu`"),
        ("around", "`activation=gelu`"),
    ],
    "losses": [
        ("around", "`loss=mean_squared_error`"),
        ("around", "`loss=mean_absolute_error`"),
        ("around", "`loss=categorical_focal_crossentropy`"),
    ],
    "losses-tumours": [("around", "`loss=mean_squared_error`")],
    "losses-climate": [("around", "`loss=mean_absolute_error`")],
    "optimizers": [
        ("below", "`optimizer.name=sgd` `optimizer.learning_rate=0.01`"),
        ("below", "`optimizer.name=sgd` `optimizer.learning_rate=0.1`"),
        ("around", "`optimizer.name=sgd` `optimizer.learning_rate=0.1` `optimizer.momentum=0.9`"),
        ("around", "`optimizer.learning_rate=0.01`"),
        ("below", "`optimizer.learning_rate=0.1`"),
        ("above", "`optimizer.learning_rate={name: CosineDecay, initial_learning_rate: 0.01, decay_steps: 680}`"),
    ],
    "regularisation": [
        ("around", "`dropout=0.5`"),
        ("around", "`l2=0.001`"),
        ("around", "`best_epoch=true`"),
        ("around", "`best_epoch=true` `early_stopping.patience=5`"),
    ],
    "recurrence": [
        ("below", "`rnn` `cell=gru`"),
        ("around", "`rnn` `cell=simple`"),
        ("above", "`months`"),
        ("above", "ETS (classical)"),
        ("above", "seasonal naive (12) (naive)"),
    ],
    "convolution": [
        ("below", "`pixels`"),
        ("below", "`strokes` `kernel=1`"),
        ("around", "`strokes` `filters=[16]`"),
        ("around", "`strokes` `pooling=average`"),
        ("around", "`strokes` `augment.shift=0.1` `augment.rotate=0.03`"),
    ],
    "letters": [
        ("around", "`cell=lstm`"),
        ("below", "`cell=simple`"),
        ("above", "n-gram logistic regression (classical)"),
    ],
    "transfer": [
        ("around", "`sprites` `thaw.layers=12`"),
        ("below", "`nothing`"),
        ("around", "`glyphs`"),
        ("below", "linear model on pixels (classical)"),
    ],
    "pictures": [("around", "`glyphs`")],
    "speech": [
        ("above", "`words=any`"),
        ("above", "`words=any` `beam=1`"),
        ("around", "`disturb.pitch=0` `disturb.bands=0` `disturb.frames=0` `disturb.noise=0`"),
        ("above", "nearest recording (classical)"),
    ],
    "forecasts": [
        ("above", "`half-year`"),
        ("around", "`three-years`"),
        ("above", "ETS (classical)"),
        ("above", "seasonal naive (12) (naive)"),
    ],
}
"""Where the interval against the first row lies, of 0, in the words below the tables."""


def side(cell):
    """Where an interval lies of 0."""
    low, high = map(float, re.search(r"\[(.+), (.+)\]", cell).groups())
    return "below" if high < 0 else "above" if low > 0 else "around"


def test_a_finding_that_another_table_does_not_bear_is_told():
    assert [side(f"0.1 [{ends}]") for ends in ("-0.2, -0.1", "-0.1, 0.3", "0.000, 0.000", "0.1, 0.2")] == [
        "below",
        "around",
        "around",
        "above",
    ]


@pytest.mark.parametrize("name", MARKED)
def test_the_words_below_a_table_are_what_it_bears(name):
    table = rows(MARKED[name])
    assert [(side(table[row]["against the first row"]), row) for _, row in FOUND[name]] == FOUND[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", MARKED)
def test_figures_come_again_within_the_spread_that_the_page_says(lessons, name):
    table, page = replace(lessons.TABLES[name], seeds=1), rows(MARKED[name])
    found = lessons.measured(table, [1])
    assert found.keys() == page.keys()
    assert [wrong for row, figures in found.items() for wrong in outside(row, page[row], figures)] == []
    for draw in table.pictures.values():
        assert draw(table).axes


@pytest.mark.slow
def test_seed_1_is_what_the_line_reports(lessons):
    found, reported = lessons.outcome(("mlp",), 1), params.load(ROOT / "params.yaml").seed
    assert reported == 1
    from trainyard import files

    metrics = files.read_json(ROOT / "reports/models/mlp/metrics.json")["test"]
    for metric in ("accuracy", "log_loss"):
        assert found.figure(metric) == pytest.approx(metrics[metric]["value"], abs=0.01)


@pytest.mark.slow
def test_absolute_error_gives_up_a_class_under_seed_1(lessons):
    """As lesson 3 says."""
    found = lessons.outcome(("pixels", "loss=mean_absolute_error"), 1)
    recalls = {digit: found.figure(digit) for digit in found.data.classes}
    assert recalls.pop("8") == 0
    assert min(recalls.values()) > 0.85


@pytest.mark.slow
def test_a_figure_of_another_knob_is_outside_of_the_spread(lessons):
    table, knob = lessons.TABLES["layers"], ("pixels", "layers=[1]")
    figures = lessons.measured(replace(table, rows=[knob], baselines=False), [1])[lessons.told(knob, table)]
    cells = rows(MARKED["layers"])[lessons.told(table.rows[0], table)]
    assert [wrong.split()[1] for wrong in outside("thin", cells, figures)] == ["weights", "accuracy"]


def test_a_page_without_a_table_is_refused(lessons, tmp_path):
    page = shutil.copy(ROOT / "docs/lessons.md", tmp_path)
    text = Path(page).read_text(encoding="utf-8").replace("lessons.py: layers ", "lessons.py: layer ")
    with pytest.raises(ValueError, match="no mark of `layers`"):
        lessons.replaced(text, "layers", "| |")
