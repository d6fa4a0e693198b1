"""docs/lessons.md: its params load, its rows are what `dvc exp run -S` takes, its figures come again."""

import importlib
import re
import shlex
import shutil
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


def outside(table, name, value):
    """What is wrong with a figure of a row: it lies outside of what the table says of one run; "" where it does not."""
    low, high = map(float, table[name]["one run"].split(" to "))
    return "" if low <= value <= high else f"{name}: {value:.4f}, and the page says {low} to {high}"


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
        assert (ROOT / "docs/lessons" / f"{picture}.png").is_file()


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
    low, high = lessons.one_run([0.90, 0.92, 0.94, 0.96, 0.98])
    # mean 0.94, s 0.0316, t of 4 degrees 2.776, and sqrt(1 + 1/5): Hahn & Meeker, Statistical Intervals, 1991
    assert (low, high) == pytest.approx((0.84383, 1.03617), abs=1e-4)
    assert lessons.one_run([0.5, 0.5, 0.5]) == pytest.approx((0.495, 0.505))


QUICK = [
    ("layers", 1),
    ("activations", 2),
    ("losses", 1),
    ("optimizers", 3),
    ("regularisation", 1),
    ("convolution", 2),
    ("recurrence", 2),
    ("letters", 2),
    ("transfer", 0),
    ("pictures", 0),
    ("speech", 1),
    ("forecasts", 1),
]
"""A table of each lesson, and one of its rows."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "place"), QUICK)
def test_a_figure_comes_again_within_the_spread_that_the_page_says(lessons, name, place):
    table = lessons.TABLES[name]
    row = table.rows[place]
    found = lessons.outcome(row, 1)
    assert not outside(rows(MARKED[name]), lessons.told(row, table), found.figure(found.data.objective.main))


@pytest.mark.slow
def test_seed_1_is_what_the_line_reports(lessons):
    found, reported = lessons.outcome(("mlp",), 1), params.load(ROOT / "params.yaml").seed
    assert reported == 1
    from trainyard import files

    metrics = files.read_json(ROOT / "reports/models/mlp/metrics.json")["test"]
    for metric in ("accuracy", "log_loss"):
        assert found.figure(metric) == pytest.approx(metrics[metric]["value"], abs=0.01)


@pytest.mark.slow
def test_a_figure_of_another_knob_is_outside_of_the_spread(lessons):
    table = lessons.TABLES["layers"]
    learnt = lessons.outcome(("pixels", "layers=[1]"), 1).figure("accuracy")
    told = outside(rows(MARKED["layers"]), lessons.told(table.rows[0], table), learnt)
    assert "and the page says" in told


def test_a_page_without_a_table_is_refused(lessons, tmp_path):
    page = shutil.copy(ROOT / "docs/lessons.md", tmp_path)
    text = Path(page).read_text(encoding="utf-8").replace("lessons.py: layers ", "lessons.py: layer ")
    with pytest.raises(ValueError, match="no mark of `layers`"):
        lessons.replaced(text, "layers", "| |")
