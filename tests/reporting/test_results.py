"""A project of made-up results: two models on one dataset, one on another, and folders that params do not name."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from trainyard import figures, files, params, reporting
from trainyard.errors import BadInput
from trainyard.reporting import results
from trainyard.stages.report import report

ROWS = 60
PARAMS = {
    "datasets": {
        "tiles": {"kind": "images", "objective": "multiclass", "path": "data/tiles"},
        "tide": {"kind": "series", "path": "data/tide.csv", "time": "day", "target": "level", "window": 4},
    },
    "train": {
        "cnn": {"family": "cnn", "dataset": "tiles"},
        "rnn": {"family": "rnn", "dataset": "tide", "optimizer": {"name": "sgd"}},
    },
    "finetune": {"mobilenet": {"family": "mobilenet", "dataset": "tiles", "backbone": {}}},
    "evaluate": {"cnn": {"dataset": "tiles"}, "rnn": {"dataset": "tide"}, "mobilenet": {"dataset": "tiles"}},
}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded = params.parse(PARAMS)
    write_data(tmp_path, "tiles", kind="images", objective="multiclass", labels=[["cat", 40], ["dog", 20]])
    write_data(tmp_path, "tide", kind="series", objective="forecast", remarks=["`level`: no <value>|@all"])
    write_model(tmp_path, loaded, "cnn", right=50)
    write_model(tmp_path, loaded, "mobilenet", right=30, decision="challenger")
    write_model(tmp_path, loaded, "rnn", right=45)
    return tmp_path


def write_data(folder, name, *, kind, objective, labels=(), remarks=()):
    column = {"name": "level", "type": "number", "missing": 2, "distinct": 9}
    column |= {"least": 0.5, "mean": 1.0, "greatest": 2.0, "histogram": [1, 2, 3]}
    expectations = [{"what": "`level` has values", "column": "level", "passed": True, "unexpected": 0}]
    verdict = {"dataset": name, "kind": kind, "objective": objective, "path": f"data/{name}", "passed": True}
    verdict |= {"rows": 60, "expectations": expectations, "faults": 0, "columns": [column]}
    files.write_json(folder / f"reports/data/{name}/verdict.json", {**verdict, "labels": labels, "remarks": remarks})


def write_model(folder, loaded, name, *, right, decision="champion", remark=""):
    spec = loaded.model(name)
    about = {"model": name, "family": spec.family, "dataset": spec.dataset, "parameters": 12345}
    about["backbone"] = {"weights": "none"} if name in loaded.finetune else None
    files.write_json(folder / f"models/{name}/model.json", {**about, "params": spec.model_dump(mode="json")})
    history = pd.DataFrame({"loss": [0.9, 0.5], "val_loss": [0.8, 0.9], "kept": [1, 0]}, pd.Index([1, 2], name="epoch"))
    files.write_csv(folder / f"models/{name}/history.csv", history)

    forecast = loaded.dataset(spec.dataset).kind == "series"
    scores = pd.DataFrame(index=pd.Index([f"example {i}" for i in range(ROWS)], name="example"))
    scores["group"] = [f"group {i // 2}" for i in range(ROWS)]
    scores["label"] = "NA"
    scores["score"] = np.where(np.arange(ROWS) < right, 1.0, 0.0) - float(forecast)
    if forecast:
        scores["target_1"], scores["target_2"] = 1.0, 2.0
    files.write_csv(folder / f"reports/models/{name}/scores.csv", scores)

    value = abs(float(scores["score"].mean()))
    names = (
        ["mae", "rmse"]
        if forecast
        else ["accuracy", "balanced_accuracy", "macro_f1", "log_loss", "brier", "calibration_error"]
    )
    metrics = {"model": name, "dataset": spec.dataset, "objective": "forecast" if forecast else "multiclass"}
    metrics |= {"examples": ROWS, "test": {m: {"value": value, "low": value - 0.1, "high": value + 0.1} for m in names}}
    for which, baseline in [("naive", "last value"), ("classical", "ETS")]:
        metrics[which] = {"name": baseline} | dict.fromkeys(names, 0.4)
        metrics[f"better_than_{which}"] = {"value": 0.1, "low": 0.05, "high": 0.15}
    metrics["test"]["rmse" if forecast else "log_loss"] = {"value": 0.3, "low": None, "high": None}
    metrics["classical"]["rmse" if forecast else "log_loss"] = None
    files.write_json(folder / f"reports/models/{name}/metrics.json", metrics)
    check = {"name": "better than naive", "passed": decision == "champion", "reason": "0.1 | <is> enough"}
    verdict = {"model": name, "dataset": spec.dataset, "content": "0123456789abcdef", "decision": decision}
    verdict |= {
        "passed": check["passed"],
        "checks": [check],
        "against": "",
        "metrics": "",
        "asked": {},
        "remark": remark,
    }
    files.write_json(folder / f"reports/models/{name}/verdict.json", verdict)
    (folder / f"reports/models/{name}/card.md").write_text(f"# {name}\n\n## For <whom>\n")
    for figure in results.FIGURES:
        figures.save(Figure(figsize=(1, 1)), folder / f"reports/models/{name}/{figure}.png")


def pages(folder, loaded=None):
    report(loaded or params.parse(PARAMS))
    return ((folder / "report" / name).read_text() for name in ("index.html", "report.md"))


def empty_sections(page):
    """Headings of a page below which there is no text up to the next heading of the same or a higher level."""
    _, *found = re.split(r"(?s)<h([2-4])[^>]*>(.*?)</h\1>", page)
    headings = [(int(level), re.sub("<.*?>", "", name)) for level, name in zip(found[::3], found[1::3], strict=True)]
    texts = [re.sub(r"(?s)<.*?>|\s", "", text) for text in found[2::3]]
    for place, (level, name) in enumerate(headings):
        end = next((i for i in range(place + 1, len(headings)) if headings[i][0] <= level), len(headings))
        if not any(texts[place:end]):
            yield name


def test_both_pages_tell_of_every_model_and_dataset(project):
    for page in pages(project):
        for told in [
            "tiles",
            "tide",
            "cnn",
            "mobilenet",
            "rnn",
            "champion",
            "challenger",
            "12,345",
            "last value",
            "ETS",
        ]:
            assert told in page
        for name in ("cnn", "mobilenet", "rnn"):
            assert f"{name}-01234567" in page
        assert "0.833 " in page
        assert "3 models on 2 datasets, 2 of them champion" in page


def test_the_page_has_no_empty_section_and_no_dead_link(project):
    page, markdown = pages(project)
    assert list(empty_sections(page)) == []
    assert not re.search(
        r"<(tbody|ul|dl|dd|p|div|nav|figcaption)[^>]*>\s*</\1>",
        page.replace('<div class="rails" aria-hidden="true"></div>', ""),
    )
    linked = re.findall(r'href="([^#].*?)"', page) + re.findall(r"\]\((.*?)\)", markdown)
    assert not [path for path in linked if path.endswith(".md")], "git does not keep the cards"
    assert set(re.findall(r'href="#(.*?)"', page)) <= set(re.findall(r'id="(.*?)"', page))
    tables = re.findall(r"(?m)^\|[-|]+\|\n(.?)", markdown)
    assert set(tables) == {"|"}, "a table without rows"
    assert not re.search(r"(?m)^#.*\n+(#|\Z)", markdown), "a heading without text"


def test_an_empty_section_would_be_found():
    assert list(empty_sections("<h2>a</h2><h3>b</h3><p>text</p><h3>c</h3><p> </p><h2>d</h2>")) == ["c", "d"]


def test_the_page_is_one_file_that_loads_nothing(project):
    page, markdown = pages(project)
    sources = re.findall(r'src="(.*?)"', page)
    assert len(sources) == 12
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http" not in page
    assert "<script" not in page
    for path in re.findall(r"!\[.*?\]\((.*?)\)", markdown):
        assert (project / "report" / path).is_file()


def test_the_same_results_give_the_same_bytes(project):
    assert list(pages(project)) == list(pages(project))


def test_what_users_and_gates_say_stays_text(project):
    page, markdown = pages(project)
    assert "<value>" not in page
    assert "<h5>For &lt;whom&gt;</h5>" in page
    assert "0.1 | &lt;is&gt; enough" in page
    assert "0.1 \\| &lt;is> enough" in markdown
    assert "&lt;value>\\|&#64;all" in markdown


def test_what_a_challenger_waits_for_is_told(project):
    assert not any("is left to" in page for page in pages(project))
    write_model(project, params.parse(PARAMS), "cnn", right=50, decision="challenger", remark="It is left to `you`.")
    page, markdown = pages(project)
    assert '<p class="small">It is left to <code>you</code>.</p>' in page
    assert "\nIt is left to `you`.\n" in markdown


def test_models_of_one_dataset_are_compared_on_the_same_rows(project):
    for page in pages(project):
        told = re.sub(r"</?code>", "`", page)
        (sentence,) = re.findall(r"On `tiles`, .*", told)
        assert sentence.startswith(
            "On `tiles`, `cnn` (accuracy 0.833) is ahead of `mobilenet` (accuracy 0.500): 0.333 ["
        )
        assert "more on the same 60 test examples; the network trained from scratch wins here." in sentence


@pytest.mark.parametrize(
    ("right", "standing", "end"),
    [
        (51, "`mobilenet` (accuracy 0.850) is ahead of `cnn` (accuracy 0.833)", "no clear winner."),
        (50, "`cnn` (accuracy 0.833) is level with `mobilenet` (accuracy 0.833)", "no clear winner."),
        (60, "`mobilenet` (accuracy 1.000) is ahead of `cnn` (accuracy 0.833)", "the fine-tuned network wins here."),
    ],
)
def test_only_an_interval_without_zero_makes_a_winner(project, right, standing, end):
    loaded = params.parse(PARAMS)
    write_model(project, loaded, "mobilenet", right=right)
    _, markdown = pages(project)
    (sentence,) = re.findall(r"On `tiles`, .*", markdown)
    assert standing in sentence
    assert sentence.endswith(end)


def test_groups_are_drawn_together(project):
    loaded = params.parse(PARAMS)
    (sentence,) = results.read(loaded).groups[0].comparisons
    for name in ("cnn", "mobilenet"):
        path = project / f"reports/models/{name}/scores.csv"
        pd.read_csv(path, index_col="example").drop(columns="group").to_csv(path)
    (ungrouped,) = results.read(loaded).groups[0].comparisons
    low, other_low = (float(re.search(r"\[(.*?),", told)[1]) for told in (sentence, ungrouped))
    assert low < other_low


def test_slices_are_told_where_params_name_some(project):
    assert not any(">Slice</th>" in page or "| slice |" in page for page in pages(project))
    path = project / "reports/models/cnn/metrics.json"
    slices = {"label": {"a|b": {"examples": 1234, "value": 0.75, "low": 0.5, "high": 0.875}}}
    slices["label"]["<few>"] = {"examples": 4, "value": 0.5, "low": None, "high": None}
    files.write_json(path, {**files.read_json(path), "slices": slices})
    html, markdown = pages(project)
    assert '<th scope="row" class="metric">label: a|b</th>' in html
    assert "label: &lt;few&gt;" in html
    for page in (html, markdown):
        assert "1,234" in page
        assert "0.750" in page


def test_the_mean_over_seeds_is_told_where_params_ask_for_some(project):
    assert not any("seeds" in page for page in pages(project))
    path = project / "reports/models/cnn/metrics.json"
    ends = {"value": 0.75, "low": 0.5, "high": 0.9, "each": {"1": 0.8, "2": 0.7}}
    files.write_json(path, {**files.read_json(path), "over_seeds": {"accuracy": ends}})
    for page in pages(project):
        assert "over 2 seeds, on the same split: mean accuracy 0.750 [0.500, 0.900]" in page


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ([{"what": "epochs", "was": "5", "now": "a|b"}], "`epochs` 5 → a|b"),
        ([], "of the same params and data"),
        (None, "its params are no longer known"),
    ],
)
def test_what_changed_since_the_champion_before_is_told(project, changed, told):
    assert not any("ince the champion before" in page for page in pages(project))
    path = project / "reports/models/cnn/verdict.json"
    before = {"value": 0.75, "changed": changed}
    files.write_json(path, {**files.read_json(path), "against": "fedcba98" * 8, "before": before})
    for page in pages(project):
        text = re.sub(r"</?code>", "`", page).replace('<span role="img" aria-label="became">→</span>', "→")
        assert "ince the champion before" in text
        assert "accuracy 0.750, now 0.833, on the same test examples" in text
        assert "`cnn-fedcba98`" in text
        assert told in text.replace("\\|", "|")


def test_a_challenger_is_held_against_the_champion_that_stays(project):
    path = project / "reports/models/cnn/verdict.json"
    before = {"value": 0.75, "changed": []}
    verdict = {**files.read_json(path), "decision": "challenger", "against": "fedcba98" * 8, "before": before}
    files.write_json(path, verdict)
    for page in pages(project):
        assert "eside the champion" in page
        assert "ince the champion before" not in page


def test_a_smaller_error_is_told_as_less(project):
    blocks = json.loads(json.dumps(PARAMS))
    blocks["train"]["mlp"] = {"family": "mlp", "dataset": "tide"}
    blocks["evaluate"]["mlp"] = {"dataset": "tide"}
    loaded = params.parse(blocks)
    write_model(project, loaded, "rnn", right=ROWS)
    write_model(project, loaded, "mlp", right=0)
    (sentence,) = results.read(loaded).groups[1].comparisons
    assert sentence.startswith("On `tide`, `rnn` (mae 0.000) is ahead of `mlp` (mae 1.000): 1.000 [")
    assert sentence.endswith("less on the same 60 test examples; `rnn` wins here.")


def test_what_params_do_not_name_is_left_out(project):
    loaded = params.parse(PARAMS)
    blocks = json.loads(json.dumps(PARAMS))
    del blocks["finetune"], blocks["evaluate"]["mobilenet"]
    write_data(project, "stale-data", kind="tables", objective="binary")
    for page in pages(project, params.parse(blocks)):
        assert "mobilenet" not in page
        assert "stale" not in page
    assert len(results.read(loaded).models) == 3


def test_what_has_not_run_yet_is_named(project):
    (project / "reports/models/cnn/verdict.json").unlink()
    (project / "reports/data/tide/verdict.json").unlink()
    for page in pages(project):
        told = re.sub(r"</?code>", "`", page)
        assert "Not there yet: `cnn`, `tide` (run `dvc repro`)" in told
        assert "1 model on 1 dataset, no champion among them" in told


def test_results_of_another_dataset_do_not_count(project):
    blocks = json.loads(json.dumps(PARAMS))
    blocks["datasets"]["others"] = blocks["datasets"]["tiles"]
    blocks["train"]["cnn"]["dataset"] = blocks["evaluate"]["cnn"]["dataset"] = "others"
    assert results.read(params.parse(blocks)).absent == ["cnn", "others"]


def test_without_any_result_there_is_no_report(project):
    for name in ("cnn", "mobilenet", "rnn"):
        (project / f"reports/models/{name}/verdict.json").unlink()
    with pytest.raises(BadInput, match="run `dvc repro` first"):
        report(params.parse(PARAMS))


def test_the_weights_of_a_backbone_are_named(project):
    path = project / "models/mobilenet/model.json"
    files.write_json(path, {**files.read_json(path), "backbone": {"weights": "embedded"}})
    for page in pages(project):
        assert "fine-tuned from embedded weights" in page


def test_what_the_audit_found_is_told(project):
    checks = {"duplicates": 1, "time": 0}
    finding = {"check": "duplicates", "told": "the same content in 2 splits: a (train), b (test)", "grave": True}
    files.write_json(project / "reports/audits/tiles.json", {"checks": checks, "findings": [finding]})
    files.write_json(project / "reports/audits/tide.json", {"checks": dict.fromkeys(checks, 0), "findings": []})
    tiles, tide = results.read(params.parse(PARAMS)).groups
    assert tiles.remarks == ["the audit found: the same content in 2 splits: a (train), b (test)"]
    assert tide.remarks[1:] == ["the audit found nothing: no duplicates, time"]
    assert "- tiles: the audit found: the same content" in reporting.render(
        "report.md", report=results.read(params.parse(PARAMS))
    )
