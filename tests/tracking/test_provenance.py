"""What a version came from, one line a fact; and which versions came from a dvc.lock."""

import re
from pathlib import Path

import pytest

from trainyard import cli, files, tracking
from trainyard.tracking import energy, runs


@pytest.fixture
def told(project, capfd):
    """Run a verb; gives its exit code, and its lines by what stands before the colon."""

    def run(*arguments):
        project.write_params()
        capfd.readouterr()
        code = cli.main(list(arguments))
        out, err = capfd.readouterr()
        return code, dict(line.split(": ", 1) for line in out.splitlines() if ": " in line), out, err

    return run


def lock(project, digest):
    entries = [f"  {stage}: {{md5: {digest}}}\n" for stage in (f"prepare@{project.dataset}", f"train@{project.name}")]
    Path("dvc.lock").write_text("schema: '2.0'\nstages:\n" + "".join(entries))


def test_a_version_says_what_it_came_from(project, client, told, monkeypatch):
    lock(project, 1)
    monkeypatch.setenv("DVC_EXP_NAME", "hazel-fawn")
    backbone = {"weights": "embedded", "version": "v1", "width": 0.25, "sha256": "ab" * 32}
    first = project.propose("first", 14)
    project.train("better")
    about = files.read_json(project.folder / "model.json")
    files.write_json(project.folder / "model.json", {**about, "backbone": backbone})
    project.evaluate(7)
    second = project.register()
    tags = client.get_model_version(project.name, "2").tags
    code, facts, out, _ = told("explain", project.name)
    assert code == 0
    assert out.splitlines()[0] == f"{project.name} version 2"
    assert facts["aliases"] == "challenger, champion"
    assert facts["content"] == second["content"] == runs.content_of(project.folder)
    assert facts["run"] == f"{project.name}-{second['content'][:8]}"
    assert facts["DVC experiment"] == "hazel-fawn"
    assert facts["git commit"] == "-"  # made outside of git
    assert [facts["data"], facts["params"]] == [tags["trainyard.data"], tags["trainyard.params"]]
    assert len(facts["dvc.lock"]) == 64
    assert facts["time and energy of training"] == "-"  # nobody saw it
    assert facts["backbone"] == f"sha256 {'ab' * 32}, version v1, weights embedded, width 0.25"
    assert facts["compared with"] == f"version 1, content {first['content']}"
    assert facts["verdicts on its test rows"] == "2"
    assert facts["verdict"] == "passed 2 checks"
    assert facts["  passed better than the champion"].startswith("on the same 40 rows")
    assert facts["ledger"].startswith("2. ")
    assert f"version 2 after version 1 by register: passed its gate (content {second['content'][:8]}" in facts["ledger"]


def test_time_and_energy_are_told_and_in_no_file(project, client, told, monkeypatch):
    monkeypatch.setattr(energy, "_readable", lambda found: [])
    with runs.live(project.name, project.params, project.data) as run:
        project.train()
        run.finished(project.folder)
    project.evaluate(2)
    project.register()
    fact = told("explain", project.name)[1]["time and energy of training"]
    assert re.fullmatch(r"\d+\.\d s, energy unknown", fact)
    card, description = (
        (project.report / "card.md").read_text(),
        client.get_model_version(project.name, "1").description,
    )
    assert f"# {project.name}\n\n{description}" == f"{card}\n## Time and energy of training\n\n{fact}\n"
    assert "## Time and energy" not in card


def test_versions_are_named_by_number_and_by_alias(project, told):
    project.propose("first", 14)
    project.propose("worse", 19)
    for asked, version in [("", 1), ("/1", 1), ("/2", 2), ("@challenger", 2), ("@champion", 1)]:
        code, _, out, _ = told("explain", project.name + asked)
        assert (code, out.splitlines()[0]) == (0, f"{project.name} version {version}")


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("", "the registry has no champion or challenger (run `dvc repro register@"),
        ("@", "no alias after the @ (expected"),
        ("@blue", "the registry has no blue (run `dvc repro register@"),
        ("/3", "the registry has no version 3 (it has: none)"),
    ],
)
def test_a_version_that_is_not_there_is_the_users_mistake(project, told, asked, why):
    code, _, out, err = told("explain", project.name + asked)
    assert (code, out) == (2, "")
    assert why in err
    assert err.count("\n") == 1


def test_a_lock_names_the_versions_that_came_from_it(project, told):
    lock(project, 1)
    project.propose("first", 14)
    Path("dvc.lock").rename("before.lock")
    lock(project, 2)
    project.propose("better", 7)
    assert told("explain", "--lock")[1][project.name].startswith("version 2 (dvc.lock ")
    assert told("explain", "--lock", "before.lock")[1][project.name].startswith("version 1 (dvc.lock ")
    lock(project, 3)
    assert told("explain", "--lock")[1][project.name].startswith("no version of the registry (dvc.lock ")
    project.register()  # other code, say, that made the same bits
    for which in ("--lock", "--lock=dvc.lock"):
        assert told("explain", which)[1][project.name].startswith("version 2 (dvc.lock ")
    lock(project, 2)
    assert told("explain", "--lock")[1][project.name].startswith("version 2 (dvc.lock ")
    assert told("explain", f"{project.name}/2")[1]["dvc.lock"].count(", ") == 1
    Path("other.lock").write_text("schema: '2.0'\nstages:\n  train@other: {md5: 1}\n")
    code, facts, _, _ = told("explain", "--lock", "other.lock")
    assert (code, facts[project.name]) == (0, "no version of the registry (the lock has no entry of it)")


def test_what_the_registry_lacks_is_told(project, client):
    lock(project, 1)
    project.propose("first", 14)
    assert tracking.amiss(Path("dvc.lock"), project.params) == []
    lock(project, 2)
    assert tracking.amiss(Path("dvc.lock"), project.params) == [
        f"{project.name}: no version came from dvc.lock (run `trainyard publish {project.name}`)"
    ]
    tracking.publish(project.name, project.params)
    client.delete_registered_model_alias(project.name, "champion")
    (told,) = tracking.amiss(Path("dvc.lock"), project.params)
    assert told.startswith(f"{project.name}: the registry has lost its champion, version 1")


@pytest.mark.bad_input(
    number=80, what="a dvc.lock that is none, to `trainyard explain`", then="exit 2: `not a dvc.lock`"
)
@pytest.mark.parametrize("lock", ["none.lock", "table.csv", "params.yaml", "report.html", "empty.lock"])
def test_a_file_that_is_no_lock_is_refused(project, told, lock):
    Path("report.html").write_text("<p>: {")
    Path("empty.lock").write_text("stages:\n")
    code, _, out, err = told("explain", "--lock", lock)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {lock}: not ")
    assert err.count("\n") == 1


def test_a_ledger_without_entries_says_so(project, told):
    assert told("ledger", project.name)[:2] == (0, {project.name: "the ledger has no entry"})


# === Names that are none ===


@pytest.mark.bad_input(
    number=83,
    what="a name that no model can have, to any verb",
    then="exit 2: `` `a'b`: no name (one is made of small letters, digits, - and _) ``; no file is written",
)
@pytest.mark.parametrize(
    "verb", ["ledger", "explain", "promote", "rollback", "gate", "publish", "register", "train", "tune"]
)
def test_what_is_no_name_is_refused_before_anything_is_locked(project_folder, project, capfd, verb):
    project.write_params()
    before = sorted(project_folder.rglob("*"))
    for name in ("a'b", "../../../esc/x", "", "trainyard.ledger", "a\nb", "M"):
        capfd.readouterr()
        assert cli.main([verb, name]) == 2
        out, err = capfd.readouterr()
        told = (name.partition("/")[0] if verb == "explain" else name).replace("\n", "\\n")
        assert (out, err) == ("", f"error: `{told}`: no name (one is made of small letters, digits, - and _)\n")
    assert sorted(project_folder.rglob("*")) == before


@pytest.mark.parametrize("verb", ["ledger", "explain", "promote", "rollback"])
def test_a_model_that_nobody_knows_is_the_users_mistake(project, capfd, verb):
    project.write_params()
    assert cli.main([verb, f"{project.name}s"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert f"error: {project.name}s: neither params.yaml nor the registry has such a model; did you mean" in err


def test_a_model_that_the_registry_alone_knows_is_told_of(project, told, client, new_project):
    project.propose("first", 14)
    client.delete_registered_model(project.name)  # its ledger is there still
    name, project.name = project.name, f"{project.name}-b"
    assert told("ledger", name)[0] == 0


@pytest.mark.parametrize("asked", ["/", "@a\nb", "/1/2", "@a@b", "/x"])
def test_odd_questions_are_the_users_mistake(project, capfd, asked):
    project.propose("first", 14)
    project.write_params()
    capfd.readouterr()
    assert cli.main(["explain", project.name + asked]) == 2
    assert capfd.readouterr().err.startswith(f"error: {project.name}: the registry has no ")
