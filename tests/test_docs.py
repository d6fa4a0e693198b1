"""docs/your-data.md: every excerpt of data, block, knob, refusal and question of the page is run as it stands there.

Data is drawn from the page's own excerpt and begins with it; the line trains on it, in a project of all five kinds.
"""

import ast
import csv
import io
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from ruamel.yaml import YAML

from trainyard import catalogue, cli, kinds, params
from trainyard.files import sha256

PAGE = Path(__file__).parent.parent / "docs" / "your-data.md"
KINDS = ("tables", "images", "series", "text", "speech")
SECTIONS = ("datasets", "train", "finetune", "evaluate")


@dataclass(frozen=True)
class Section:
    """A part of the page, between two headings."""

    text: str

    def blocks(self, language):
        return re.findall(rf"```{language}\n(.*?)```", self.text, re.DOTALL)

    @property
    def excerpt(self):
        """Of a CSV file."""
        (block,) = self.blocks("csv")
        return block

    @property
    def tree(self):
        """Files of the excerpt of a folder, in order."""
        (block,) = self.blocks("text")
        folders, files = [], []
        for line in block.splitlines():
            name = line.strip()
            folders[(len(line) - len(line.lstrip())) // 2 :] = [name]
            if not name.endswith("/"):
                files.append("".join(folders))
        return files

    @property
    def params(self):
        """All YAML blocks as one."""
        found = {section: {} for section in SECTIONS}
        for block in self.blocks("yaml"):
            for section, named in YAML(typ="safe").load(block).items():
                found[section] |= named
        return found

    @property
    def name(self):
        """Of the dataset, and of its first model."""
        (name,) = self.params["datasets"]
        return name

    @property
    def knobs(self):
        """Knobs of the list as they stand there, each with the name of the knob whose place it takes."""
        found = [
            (YAML(typ="safe").load(knob), re.findall(r"in place of `(\w+)`", line))
            for line in self.text.splitlines()
            for knob in re.findall(r"^- `([^`]+: [^`]+)`", line)
        ]
        assert len(found) == len(re.findall(r"^- ", self.text, re.MULTILINE))
        return found

    @property
    def refusals(self):
        """Commands with the lines they print."""
        return [
            (command, line)
            for block in self.blocks("console")
            for command, line in re.findall(r"\$ (.*)\n(error: .*)\n", block)
        ]


def sections():
    head, *parts = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {"head": Section(head)} | {part.split("\n")[0].lower(): Section(part) for part in parts}


SECTION = sections()

# === Data that begins as the page's excerpt ===


def drawn(excerpt, n, fixed):
    """`n` rows more: columns of numbers between those that are there, others out of them; `fixed` columns as given."""
    header, *rows = [line.split(",") for line in excerpt.splitlines()]
    rng, columns = np.random.default_rng(0), {}
    for name, cells in zip(header, zip(*rows, strict=True), strict=True):
        known = pd.to_numeric(pd.Series(cells), errors="coerce").dropna()
        if name in fixed:
            columns[name] = fixed[name]
        elif len(known) >= 2:
            whole = bool((known % 1 == 0).all())
            values = rng.uniform(known.min(), known.max() + whole, n)
            columns[name] = [str(int(value)) if whole else f"{value:.2f}" for value in values]
        else:
            columns[name] = rng.choice(cells, n).tolist()
    return excerpt + "".join(",".join(map(str, row)) + "\n" for row in zip(*(columns[name] for name in header)))  # noqa: B905


def write_tables(section, path):
    """Customers of three orders each; what is dear comes back."""
    customers = [f"c{300 + i // 3}" for i in range(240)]
    table = drawn(section.excerpt, 240, {"customer": customers, "returned": [""] * 240}).splitlines()
    start = section.excerpt.count("\n")
    price = table[0].split(",").index("price")
    dear = ["yes" if float(line.split(",")[price]) > 150 else "no" for line in table[start:]]
    path.write_text("\n".join(table[:start] + [line + label for line, label in zip(table[start:], dear, strict=True)]))


def write_images(section, path):
    rng = np.random.default_rng(0)
    labels = sorted({Path(file).parent.name for file in section.tree})
    more = [path / label / f"t{50 + 10 * place + i}-1.jpg" for place, label in enumerate(labels) for i in range(8)]
    for file in [*map(Path, section.tree), *more]:
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 90, (48, 40, 3)) + 80 * labels.index(file.parent.name)
        Image.fromarray(pixels.astype(np.uint8)).save(file)


def write_series(section, path):
    """Hours of each station, some left out."""
    _, *rows = [line.split(",") for line in section.excerpt.splitlines()]
    stations = sorted({row[1] for row in rows})
    hours = pd.date_range(rows[-1][0], periods=400, freq="h")[1:]
    hours = hours[np.arange(399) % 90 != 50]
    times = [hour.strftime("%Y-%m-%dT%H:%M") for hour in hours for _ in stations]
    fixed = {"time": times, "station": stations * len(hours)}
    path.write_text(drawn(section.excerpt, len(times), fixed))


def write_text(section, path):
    """Words of the excerpt's texts, mixed."""
    rng = np.random.default_rng(0)
    table = pd.read_csv(io.StringIO(section.excerpt))
    words = table.groupby(table.columns[1])[table.columns[0]].apply(lambda texts: " ".join(texts).split())
    lines = [
        f'"{" ".join(rng.permutation(words.iloc[i % 3])[:6])} {i * 7919}",{words.index[i % 3]}\n' for i in range(90)
    ]
    path.write_text(section.excerpt + "".join(lines))


def write_speech(section, path):
    """A tone a letter, some of them louder; every speaker says everything."""
    import soundfile

    rng = np.random.default_rng(0)
    table = pd.read_csv(io.StringIO(section.excerpt))
    said, speakers = sorted(set(table["transcript"])), sorted(set(table["speaker"]))
    more = [(f"recordings/{who}-{20 + i}.wav", what, who) for who in speakers for i, what in enumerate(said * 3)]
    letters = sorted(set("".join(said)))
    for file, what, _ in [*table.itertuples(index=False), *more]:
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        time = np.arange(400) / 8000
        tones = [
            rng.uniform(0.5, 1.5) * np.sin(2 * np.pi * (300 + 200 * letters.index(letter)) * time) for letter in what
        ]
        soundfile.write(path / file, 0.3 * np.concatenate(tones) + rng.normal(0, 0.003, 400 * len(what)), 8000)
    (path / "transcripts.csv").write_text(section.excerpt + "".join(f"{','.join(row)}\n" for row in more))
    assert set(section.tree) <= {file.as_posix() for file in path.rglob("*") if file.is_file()}


def write(kind, blocks):
    path = Path(blocks["path"])
    path.parent.mkdir(exist_ok=True)
    globals()[f"write_{kind}"](SECTION[kind], path)


def dump(loaded):
    YAML().dump({"seed": 1, "training": {}, **loaded}, Path("params.yaml"))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """All examples of the page in one project, with fewer epochs and weights that ship."""
    place = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        whole = {section: {} for section in SECTIONS}
        for kind in KINDS:
            assert next(iter(SECTION[kind].params["datasets"].values()))["kind"] == kind
            for section, named in SECTION[kind].params.items():
                whole[section] |= named
        for name, model in {**whole["train"], **whole["finetune"]}.items():
            model["epochs"] = 20 if name == SECTION["tables"].name else 1
            if model["family"] == "rnn":
                model |= {"units": [8], "cell": "simple"}  # what takes the time is the compilation of the others
        for model in whole["finetune"].values():
            assert model["backbone"]["weights"] == "auto"
            model["backbone"]["weights"] = "embedded"
            model |= {"copies": 0, "thaw": {"layers": 2, "epochs": 1}}
        dump(whole)
        for kind in KINDS:
            write(kind, whole["datasets"][SECTION[kind].name])
    return place


@pytest.fixture
def in_project(project, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return project


@pytest.fixture
def copied(project, here):
    """A copy without what was trained, to plant faults in."""
    shutil.copy(project / "params.yaml", here)
    shutil.copytree(project / "data", here / "data")
    return here


def run(command):
    program, *arguments = command.split()
    assert program == "trainyard"
    return cli.main(arguments)


def commands(block):
    return [line.partition("#")[0].strip() for line in block.splitlines()]


def raw_params():
    return YAML(typ="safe").load(Path("params.yaml"))


# === The page's tests ===


def test_the_page_has_all_kinds_and_no_block_that_is_not_run():
    assert list(SECTION) == ["head", *KINDS]
    assert re.findall(r"\]\(#(\w+)\)", SECTION["head"].text) == list(KINDS)
    found = {name: re.findall(r"^```(\w+)$", section.text, re.MULTILINE) for name, section in SECTION.items()}
    assert found == {
        "head": ["sh", "sh", "console", "python"],
        "tables": ["csv", "yaml", "console", "python"],
        "images": ["text", "yaml", "yaml", "console", "python"],
        "series": ["csv", "yaml", "console", "python"],
        "text": ["csv", "yaml", "console", "python"],
        "speech": ["text", "csv", "yaml", "console", "python"],
    }
    assert all(4 <= len(SECTION[kind].knobs) <= 8 for kind in KINDS)
    for link in re.findall(r"\]\(([^#)]+)\)", PAGE.read_text(encoding="utf-8")):
        assert (PAGE.parent / link).is_file()


def test_the_three_ways_in(copied, capsys, monkeypatch):
    ways, then = SECTION["head"].blocks("sh")
    init, fetch, _ = commands(ways)
    assert commands(then) == ["trainyard check", f"dvc repro register@{SECTION['tables'].name}", "trainyard report"]
    whole = raw_params()
    path = whole["datasets"][SECTION["tables"].name]["path"]
    assert init == f"trainyard init {path}"

    name = fetch.split()[-1]
    entry = catalogue.CATALOGUE[name]
    (copied / "mirror").mkdir()
    sources = []
    for source in entry.sources:
        file = copied / "mirror" / source.name
        file.write_text("a file")
        sources.append(replace(source, size=6, sha256=sha256(file)))
    monkeypatch.setitem(catalogue.CATALOGUE, name, replace(entry, sources=tuple(sources)))
    monkeypatch.setenv("TRAINYARD_MIRROR", str(copied / "mirror"))
    assert run(fetch) == 0
    printed = YAML(typ="safe").load(capsys.readouterr().out)
    assert printed["datasets"][name]["path"].startswith("data/fetched/")
    assert run("trainyard fetch --list") == 0
    assert name in capsys.readouterr().out
    dump({section: {**whole[section], **printed.get(section, {})} for section in SECTIONS})
    assert run("trainyard check") == 0


@pytest.mark.parametrize("kind", KINDS)
def test_init_drafts_what_the_page_shows(copied, kind):
    block = raw_params()["datasets"][SECTION[kind].name]
    dump({section: {} for section in SECTIONS})
    assert run(f"trainyard init {block['path']} --name drafted") == 0
    drafted = params.load().dataset("drafted")
    assert drafted.kind == kind
    groups = ["group"] if kind in ("tables", "speech") else []  # of texts and photos one must know more
    for knob in ("target", "text", "objective", "positive", "where", "step", *groups):
        if knob in block:
            assert getattr(drafted, knob) == block[knob]
    assert run("trainyard check") == 0
    assert run("trainyard validate drafted") == 0


@pytest.fixture
def trained(in_project):
    """Runs the page's example of a kind up to the model; gives the names of its models, all or those fine-tuned."""

    def run_stages(kind, *stages):
        section, loaded = SECTION[kind], params.load()
        source = Path(loaded.dataset(section.name).path)
        for excerpt in section.blocks("csv"):
            assert (source / "transcripts.csv" if source.is_dir() else source).read_text().startswith(excerpt)
        for stage in ("validate", "prepare"):
            assert run(f"trainyard {stage} {section.name}") == 0
        assert set(section.params["evaluate"]) == {*section.params["train"], *section.params["finetune"]}
        (name,) = section.params[stages[-1]]
        for stage in stages:
            assert run(f"trainyard {stage} {name}") == 0
        return name

    return run_stages


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_becomes_a_model_that_answers_what_the_page_asks(trained, kind):
    answers_the_page(kind, opened(trained(kind, "train")))


@pytest.mark.slow
def test_the_network_that_is_fine_tuned_answers_as_well(trained):
    answers_the_page("images", opened(trained("images", "backbone", "finetune")))


@pytest.mark.slow
def test_the_first_example_is_found_in_the_registry_as_the_page_says(trained):
    name = trained("tables", "train")
    for stage in ("evaluate", "register"):
        assert run(f"trainyard {stage} {name}") == 0
    (load,), names = SECTION["head"].blocks("python"), {}
    exec(load, names)  # noqa: S102  # the page's own code is what is tested
    answers_the_page("tables", names["model"])


def opened(name):
    """The model as the registry would load it."""
    from trainyard.tracking.model import RawRows

    folder, model = Path("models") / name, RawRows()
    model.load_context(SimpleNamespace(artifacts={"keras": folder / "model.keras", "about": folder / "model.json"}))
    return SimpleNamespace(predict=lambda rows: model.predict(None, rows))


def answers_the_page(kind, model):
    section, loaded = SECTION[kind], params.load()
    (question,) = section.blocks("python")
    (asked,) = ast.parse(question).body
    found = eval(ast.unparse(asked), {"model": model, "pd": pd, "Path": Path})  # noqa: S307
    rows = eval(ast.unparse(asked.value.args[0]), {"pd": pd, "Path": Path})  # noqa: S307
    assert list(found.columns) == re.search(r"^# (.+)$", question, re.MULTILINE)[1].split(", ")
    spec = loaded.dataset(section.name)
    if kind == "series":
        assert set(found.index) <= set(pd.to_datetime(rows[spec.time]).map(pd.Timestamp.isoformat))
        assert len(found) > 1
    else:
        assert list(found.index) == list(rows.index)
    if kind == "speech":
        assert found["answer"].map(lambda said: isinstance(said, str)).all()
    else:
        assert np.isfinite(found.to_numpy(float)).all()
    if kind in ("tables", "images", "text"):
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


# === Knobs ===


def _csv(change):
    """Changes the rows of the CSV file, as lists of cells."""

    def apply(block):
        path = Path(block["path"])
        path = path / "transcripts.csv" if path.is_dir() else path
        with path.open(newline="") as file:
            rows = change(list(csv.reader(file)))
        mark = block.get("delimiter", ",")
        if not block.get("quoting", True):
            path.write_text("".join(f"{mark.join(row)}\n" for row in rows))
            return
        with path.open("w", newline="") as file:
            csv.writer(file, delimiter=mark).writerows(rows)

    return apply


def _with(column, value):
    return _csv(lambda rows: [[*rows[0], column], *([*row, value(i, row)] for i, row in enumerate(rows[1:]))])


def _in_parts(block):
    root = Path(block["path"])
    for label in [folder for folder in root.iterdir() if folder.is_dir()]:
        for i, file in enumerate(sorted(label.iterdir())):
            target = root / ("test" if i % 3 == 0 else "train") / label.name / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            file.rename(target)
        label.rmdir()


def _one_in_half_the_rate(block):
    import soundfile

    file = min(Path(block["path"]).rglob("*.wav"))
    sound, rate = soundfile.read(file)
    soundfile.write(file, np.stack([sound.repeat(2)] * 2, axis=1), 2 * rate)


def _one_longer(seconds):
    def apply(block):
        import soundfile

        file = min(Path(block["path"]).rglob("*.wav"))
        sound, rate = soundfile.read(file)
        soundfile.write(file, np.resize(sound, seconds * rate), rate)

    return apply


def _unseen(column, mark):
    """A cell of the third row holds a mark."""

    def change(rows):
        rows[3][rows[0].index(column)] = mark
        return rows

    return _csv(change)


def _quotation_marks(rows):
    rows[1][0] = '"My parcel has not come'
    return [[cell.replace(",", "") for cell in row] for row in rows]


def _gaps(rows):
    return [row for i, row in enumerate(rows) if i % 31 != 5]


PARTS = ("train", "test", "validation")
NEEDED = {
    ("tables", "missing"): _unseen("price", "?"),
    ("tables", "delimiter"): _csv(lambda rows: rows),
    ("tables", "names"): _csv(lambda rows: rows[1:]),
    ("tables", "split"): _with("part", lambda i, row: PARTS[int(row[0][1:]) % 3]),
    ("images", "split"): _in_parts,
    ("series", "regular"): _csv(_gaps),
    ("series", "missing"): _unseen("temp", "-9999"),
    ("text", "delimiter"): _csv(lambda rows: rows),
    ("text", "quoting"): _csv(_quotation_marks),
    ("text", "group"): _with("author", lambda i, row: f"author {i % 15}"),
    ("speech", "split"): _with("part", lambda i, row: PARTS[("anna", "ben", "ida").index(row[2])]),
    ("speech", "mixed"): _one_in_half_the_rate,
    ("speech", "longest"): _one_longer(45),
}
"""Data in which a knob of the page is needed: without it the line refuses them, or reads them as something else."""
WITHOUT = {("tables", "missing"), ("tables", "delimiter"), ("tables", "names"), ("series", "regular")} | {
    ("text", "delimiter"),
    ("text", "quoting"),
    ("speech", "mixed"),
    ("speech", "longest"),
}
"""Knobs without which such data are refused."""


@pytest.mark.parametrize("kind", KINDS)
def test_each_knob_of_the_page_is_known_and_reads_the_data_that_it_is_for(copied, kind):
    section, whole = SECTION[kind], raw_params()
    used = set()
    for knobs, instead in [*SECTION["head"].knobs, *section.knobs]:
        (knob,) = knobs
        changed = {name: {key: dict(block) for key, block in whole[name].items()} for name in SECTIONS}
        block = changed["datasets"][section.name]
        for name in instead:
            del block[name]
        plain = dict(block)
        own = knob in type(params.load().dataset(section.name)).model_fields
        (block if own else changed["train"][section.name]).update(knobs)
        loaded = params.parse({"seed": 1, **changed})  # an unknown knob ends here
        if not own:
            assert getattr(loaded.model(section.name), knob) == knobs[knob]
            continue
        shared = (knobs, instead) in SECTION["head"].knobs
        need = None if shared else NEEDED.get((kind, knob))
        if need:
            used.add((kind, knob))
            need(block)
        spec = loaded.dataset(section.name)
        checked(spec)
        if need and (kind, knob) in WITHOUT:
            dump({**changed, "datasets": {**changed["datasets"], section.name: plain}})
            assert run(f"trainyard validate {section.name}") == 2, knob
        if need:
            shutil.rmtree("data")
            write(kind, plain)
    assert used == {key for key in NEEDED if key[0] == kind}


def checked(spec):
    kind = kinds.of(spec)
    manifest = kind.manifest(spec)
    assert len(set(kind.split(spec, manifest, 1))) == 3
    kind.facts(spec, manifest)
    for expected in spec.expect:
        assert expected.column in manifest


# === Refusals ===


def set_cell(path, line, place, value):
    lines = path.read_text().splitlines(keepends=True)
    cells = lines[line - 1].rstrip("\n").split(",")
    cells[place] = value
    lines[line - 1] = ",".join(cells) + "\n"
    path.write_text("".join(lines))


def plant(line):
    """The fault of which a refusal speaks, in the file, row and column that it names."""
    path, row, told = re.fullmatch(r"error: ([^:]+?):(?:(\d+):)? (.*)", line).groups()
    path = Path(path)
    if path.name == "params.yaml":
        wrong, right = re.search(r"unknown param `(\w+)`; did you mean `(\w+)`", told).groups()
        path.write_text(path.read_text().replace(f"{right}:", f"{wrong}:", 1))
    elif "only in a class folder" in told:
        path.write_text("a note")
    elif "no readable" in told:
        assert path.is_file()
        path.write_bytes(b"no image")
    elif "has no transcript" in told:
        shutil.copy(min(path.parent.glob("*.wav")), path)
    else:
        header = path.read_text().splitlines()[0].split(",")
        named = re.match(r"column `?(\w+)`?: ", told)
        column = named[1] if named else "time"
        said = told.removeprefix(named[0]) if named else told
        value = re.match(r"'[^']*'|[^ ]+", said)[0]
        if said.startswith("the text is empty"):
            value = '" "'
        elif value.startswith("'") and "," in value:
            value = value.replace("'", '"')
        elif re.fullmatch(r"\d{4}-.*", value):
            value = value[:16]
        set_cell(path, int(row), header.index(column), value.strip("'"))


@pytest.mark.parametrize("kind", ["head", *KINDS])
def test_each_refusal_of_the_page_is_printed_where_its_fault_is_planted(copied, project, kind, capsys):
    refusals = SECTION[kind].refusals
    assert len(refusals) == SECTION[kind].text.count("\nerror: ") == SECTION[kind].text.count("\n$ ") > 0
    for command, line in refusals:
        shutil.rmtree("data")
        shutil.copytree(project / "data", "data")
        plant(line)
        capsys.readouterr()
        assert run(command) == 2
        errors = [told for told in capsys.readouterr().err.splitlines() if told.startswith("error: ")]
        assert errors == [line]
