import json

import pandas as pd
import pytest

from trainyard import params
from trainyard.errors import BadInput
from trainyard.stages.validate import validate


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def loaded(expect):
    people = {"kind": "tables", "objective": "binary", "path": "people.csv", "target": "ill", "expect": expect}
    return params.parse({"datasets": {"people": people}, "train": {}, "evaluate": {}})


def write(folder, **columns):
    table = {"age": [20 + i for i in range(12)], "city": ["Oslo", "Rome"] * 6, "ill": ["no", "yes", "no"] * 4} | columns
    pd.DataFrame(table).to_csv(folder / "people.csv", index=False)


def test_good_data_leaves_the_same_bytes_each_time(folder):
    write(folder)
    report = folder / "reports/data/people"
    written = []
    for _ in range(2):
        validate("people", loaded([{"column": "age", "between": [0, 120]}]))
        written.append({file.name: file.read_bytes() for file in sorted(report.iterdir())})
    assert written[0] == written[1]
    assert set(written[0]) == {"verdict.json", "faults.csv", "page.html"}
    verdict = json.loads(written[0]["verdict.json"])
    assert verdict["passed"]
    assert (verdict["dataset"], verdict["rows"], verdict["labels"]) == ("people", 12, [["no", 8], ["yes", 4]])
    assert written[0]["faults.csv"] == b"example,column,value,what\n"


def test_bad_data_is_refused_and_its_page_left_to_look_at(folder):
    write(folder, age=[999, *range(20, 31)])
    with pytest.raises(BadInput) as refused:
        validate("people", loaded([{"column": "age", "between": [0, 120]}]))
    assert refused.value.exit_code == 2
    page = "reports/data/people/page.html"
    assert str(refused.value) == f"people.csv:2: column age: 999 is not between 0 and 120 (see {page})"
    assert not json.loads((folder / "reports/data/people/verdict.json").read_text())["passed"]
    assert (folder / "reports/data/people/faults.csv").read_text().splitlines() == [
        "example,column,value,what",
        "2,age,999,`age` is between 0 and 120",
    ]
    told = (folder / page).read_text()
    assert "refused" in told
    assert "<code>999</code>" in told


def test_the_page_is_one_file_and_takes_no_orders_from_the_data(folder):
    write(folder, **{"<script>alert(1)</script>": ["<img src=x>"] * 12, "city": ["=1+1"] * 12})
    with pytest.raises(BadInput):
        validate("people", loaded([{"column": "city", "one_of": ["Oslo"]}]))
    page = (folder / "reports/data/people/page.html").read_text()
    assert "<script" not in page
    assert "<img" not in page
    assert "http" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "2,city,'=1+1," in (folder / "reports/data/people/faults.csv").read_text()
