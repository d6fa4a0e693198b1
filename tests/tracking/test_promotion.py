"""Who may be champion: the verbs gate, promote and rollback, the ledger that decides, and a champion that was lost."""

import json
import re
import sqlite3
from functools import partial
from pathlib import Path

import pytest
from mlflow import artifacts

from trainyard import cli, files, tracking
from trainyard.errors import GateRefused
from trainyard.tracking import ledger, promotion


@pytest.fixture
def verb(project, capfd):
    """Run a verb on the project; gives its exit code and what it printed."""

    def run(*arguments):
        project.write_params()
        capfd.readouterr()
        code = cli.main([arguments[0], project.name, *arguments[1:]])
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def story(project):
    """Version 1, and version 2 which beat it."""
    project.propose("first", 14)
    project.propose("better", 7)
    return project


def aliases(client, project):
    return {alias: int(version) for alias, version in client.get_registered_model(project.name).aliases.items()}


def entries(client, project):
    return [(entry.verb, int(entry.version), int(entry.former or 0)) for entry in ledger.read(client, project.name)]


def test_champions_come_and_go_and_the_ledger_tells(story, client, verb):
    story.propose("worse", 12)
    assert aliases(client, story) == {"challenger": 3, "champion": 2}
    code, out, err = verb("gate")
    assert code == 4
    assert "FAILED better than the champion: on the same 40 rows" in out
    assert "error: " in err
    assert "did not pass the gate (failed: better than the champion); version 2 stays champion" in err
    assert verb("rollback", "--why", "wrong on\nMondays")[0] == 0
    assert aliases(client, story) == {"challenger": 3, "champion": 1}
    assert entries(client, story) == [("register", 1, 0), ("register", 2, 1), ("rollback", 1, 2)]
    code, out, _ = verb("ledger")
    assert code == 0
    assert len(out.splitlines()) == 3
    assert re.match(
        r"3\. \d{4}-.*Z, version 1 after version 2 by rollback: wrong on Mondays \(content ", out.splitlines()[2]
    )
    version = client.get_model_version(story.name, "2")
    assert f"content {version.tags['trainyard.content'][:8]}" in out
    assert f"data {version.tags['trainyard.data'][:8]}" in out
    assert "passed 2 checks" in out


def test_the_gate_lets_a_good_model_pass_in_silence(story, verb):
    code, out, err = verb("gate")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["passed", "passed"]


def test_the_gate_refuses_a_verdict_against_a_champion_of_before(story, client, verb):
    story.propose("best", 0)
    tracking.rollback(story.name, "2", None)
    assert verb("gate")[0] == 0  # it beat version 2
    tracking.rollback(story.name, "1", None)
    code, _, err = verb("gate")
    assert code == 4
    assert "passed against version 2, but version 1 is champion now (run `dvc repro register@" in err


def test_the_gate_reads_no_verdict_on_another_model(story, verb):
    story.train("not registered")
    code, out, err = verb("gate")
    assert (code, out) == (2, "")
    assert f"verdict.json: not about models/{story.name} as it is" in err


def test_the_gate_reads_no_verdict_on_a_model_of_other_params(story, verb):
    story.epochs += 1
    code, out, err = verb("gate")
    assert (code, out) == (2, "")
    assert f"verdict.json: not about train.{story.name} of params.yaml as it is" in err


def test_the_gate_reads_no_verdict_on_a_model_without_params(story, verb):
    files.write_json(story.folder / "model.json", {})
    code, out, err = verb("gate")
    assert (code, out) == (2, "")
    assert f"verdict.json: not about models/{story.name} as it is" in err


@pytest.mark.parametrize("what", ["floor", "scores"])
def test_the_gate_reads_no_verdict_on_other_floors_or_scores(story, verb, what):
    if what == "floor":
        story.floor = {"accuracy": 0.999}
        of = f"evaluate.{story.name} of params.yaml"
    else:
        story.evaluate(wrong=30)
        of = story.report / "metrics.json"
    code, out, err = verb("gate")
    assert (code, out) == (2, "")
    assert f"verdict.json: not about {of} as it is (run `dvc repro register@{story.name}`)" in err
    story.register()
    assert verb("gate")[0] == 4


def test_promote_takes_back_a_rollback_and_a_second_one_changes_nothing(story, client, verb, caplog):
    assert verb("rollback")[0] == 0
    assert aliases(client, story) == {"challenger": 2, "champion": 1}
    assert verb("promote")[0] == 0
    assert aliases(client, story) == {"challenger": 2, "champion": 2}
    known = entries(client, story)
    caplog.clear()
    assert verb("promote", "2") == (0, "", "")
    assert caplog.messages == [f"{story.name}: version 2 is champion, as it was"]
    assert (
        entries(client, story)
        == known
        == [
            ("register", 1, 0),
            ("register", 2, 1),
            ("rollback", 1, 2),
            ("promote", 2, 1),
        ]
    )


def test_promote_refuses_what_never_passed(story, client, verb):
    story.propose("worse", 12)
    code, _, err = verb("promote")
    assert code == 4
    assert "version 3 did not pass the gate (failed: better than the champion); version 2 stays champion" in err
    client.delete_model_version_tag(story.name, "3", "trainyard.verdict")
    code, _, err = verb("promote", "3")
    assert code == 4
    assert "version 3 has no verdict; version 2 stays champion" in err
    assert aliases(client, story) == {"challenger": 3, "champion": 2}


def test_promote_refuses_what_passed_against_another_champion(story, client, verb):
    story.propose("best", 0)
    tracking.rollback(story.name, "1", None)
    code, _, err = verb("promote", "3")
    assert code == 4
    assert "version 3 passed against version 2, but version 1 is champion now" in err
    assert aliases(client, story)["champion"] == 1


@pytest.mark.bad_input(number=83, what="a version that is not there", then="exit 2: `the registry has no version`")
@pytest.mark.parametrize("verb_and_version", [("promote", "9"), ("rollback", "9"), ("promote", "one")])
def test_a_version_that_is_not_there_is_the_users_mistake(story, verb, verb_and_version):
    code, _, err = verb(*verb_and_version)
    assert code == 2
    assert f"the registry has no version {verb_and_version[1]} (it has: 1, 2)" in err


def test_rollback_without_a_champion_of_before_is_refused(project, client, verb):
    code, _, err = verb("rollback")
    assert code == 4
    assert f"error: {project.name}: none was champion so far: nothing to go back to" in err
    project.propose("first", 14)
    code, _, err = verb("rollback")
    assert code == 4
    assert "version 1 is the only champion of the registry: nothing to go back to" in err
    assert aliases(client, project) == {"challenger": 1, "champion": 1}


def test_rollbacks_go_further_back_and_skip_what_was_deleted(story, client, verb):
    story.propose("best", 0)
    client.delete_model_version(story.name, "2")
    assert verb("rollback")[0] == 0
    assert aliases(client, story)["champion"] == 1
    assert verb("rollback")[0] == 4


def test_two_rollbacks_go_back_twice(story, client, verb):
    story.propose("best", 0)
    assert [verb("rollback")[0] for _ in range(3)] == [0, 0, 4]
    assert [version for _, version, _ in entries(client, story)] == [1, 2, 3, 2, 1]


def test_what_was_rolled_back_is_not_crowned_again_by_the_line(story, client, verb, caplog):
    verb("rollback", "--why", "wrong on Mondays")
    assert story.register()["decision"] == "challenger"
    assert "version 2 was rolled back (wrong on Mondays): `trainyard promote" in caplog.text
    assert aliases(client, story)["champion"] == 1
    assert verb("promote")[0] == 0
    assert story.register()["decision"] == "champion"


def raced(monkeypatch, project, rival):
    """Another machine makes a version champion after this one has looked, and before it writes."""
    append = ledger.append

    def late(client, name, entry):
        monkeypatch.setattr(ledger, "append", append)
        version = client.get_model_version(name, rival)
        now, held = promotion._present(client, name)
        promotion._move(client, version, now, held, "promote", "faster")
        return append(client, name, entry)

    monkeypatch.setattr(ledger, "append", late)


def test_of_two_promoters_that_looked_at_once_one_wins(story, client, verb, monkeypatch):
    story.propose("best", 0)
    tracking.rollback(story.name, "1", None)
    known = len(entries(client, story))
    raced(monkeypatch, story, "3")
    code, _, err = verb("promote", "2")
    assert code == 4
    assert "version 3 became champion meanwhile, after version 1; version 2 is not" in err
    assert aliases(client, story)["champion"] == 3
    assert entries(client, story)[known:] == [("promote", 3, 1)]


def test_of_two_that_promote_the_same_version_both_are_content(story, client, verb, monkeypatch, caplog):
    tracking.rollback(story.name, "1", None)
    known = len(entries(client, story))
    raced(monkeypatch, story, "2")
    caplog.clear()
    assert verb("promote", "2") == (0, "", "")
    assert caplog.messages == [f"{story.name}: version 2 is champion, as it was"]
    assert aliases(client, story)["champion"] == 2
    assert entries(client, story)[known:] == [("promote", 2, 1)]


def test_of_two_first_champions_one_wins(project, client, verb, monkeypatch):
    for weights in ("one", "other"):
        project.train(weights)
        project.evaluate(4)
        mine = tracking.publish(project.name, project.params)
        tracking.set_aliases(mine, project.verdict(mine, "", "challenger"), "", tracking.reign(project.name))
    raced(monkeypatch, project, "1")
    code, _, err = verb("promote", "2")
    assert code == 4
    assert "version 1 became champion meanwhile; version 2 is not" in err
    assert aliases(client, project) == {"challenger": 2, "champion": 1}


def test_a_rollback_is_refused_the_same_way_and_a_register_judges_again(story, client, verb, monkeypatch, caplog):
    story.propose("best", 0)
    raced(monkeypatch, story, "1")
    assert verb("rollback", "2")[0] == 4
    assert aliases(client, story)["champion"] == 1
    raced(monkeypatch, story, "3")
    verdict = story.propose("new", 1)
    assert "version 3 became champion meanwhile" in caplog.text
    assert verdict["against"] == client.get_model_version(story.name, "3").tags["trainyard.content"]
    assert aliases(client, story) == {"challenger": 4, "champion": 3}


def test_what_a_killed_promoter_left_is_done_by_the_next(story, client, verb, monkeypatch):
    from mlflow import MlflowClient

    def broken(*args):
        raise ConnectionError("planted")

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "set_registered_model_alias", broken)
        assert verb("rollback")[0] == 5
    assert entries(client, story)[-1] == ("rollback", 1, 2)
    assert aliases(client, story)["champion"] == 2
    assert tracking.champion(story.name).version == "1"
    assert aliases(client, story)["champion"] == 1


def test_an_alias_that_was_moved_by_hand_stays_and_is_told(story, client, verb):
    client.set_registered_model_alias(story.name, "champion", "1")
    assert tracking.champion(story.name).version == "1"
    assert verb("ledger")[1].endswith(f"{story.name}: the alias stands on version 1: moved by hand\n")
    assert verb("rollback")[0] == 0
    assert entries(client, story)[-1] == ("rollback", 2, 1)


def test_a_ledger_begins_with_the_champion_that_is_there(story, client, verb):
    client.delete_tag(ledger._run(client, story.name).info.run_id, ledger.TAG)
    client.delete_registered_model_tag(story.name, ledger.TAG)  # as before there was a ledger
    client.set_registered_model_alias(story.name, "champion", "1")
    assert entries(client, story) == []
    assert verb("promote", "2")[0] == 0
    assert verb("rollback")[0] == 0
    assert entries(client, story) == [("found", 1, 0), ("promote", 2, 1), ("rollback", 1, 2)]
    assert aliases(client, story)["champion"] == 1


@pytest.mark.bad_input(
    number=83,
    what="the champion's alias or version was deleted",
    then="told in a warning; it stays the bar, and no other becomes champion",
)
@pytest.mark.parametrize("how", ["version", "alias"])
def test_a_champion_that_was_lost_is_named_and_still_compared_with(story, client, verb, caplog, how):
    if how == "version":
        client.delete_model_version(story.name, "2")
        told = "the version was deleted"
    else:
        client.delete_registered_model_alias(story.name, "champion")
        told = "the alias was removed"
    lost = rf"{story.name}: the registry has lost its champion, version 2, content \w{{8}}, since .*: {told}"
    verdict = story.propose("worse than the lost one", 12)
    assert verdict["decision"] == "challenger"
    assert re.search(lost, caplog.text)
    assert "champion" not in aliases(client, story)
    for asked in ("gate", "promote"):
        caplog.clear()
        assert verb(asked)[0] == 4
        assert re.search(lost, caplog.text)
    assert re.search(lost, verb("explain")[1])
    assert re.search(lost, verb("ledger")[1])
    assert verb("rollback")[0] == 0
    assert aliases(client, story)["champion"] == 1


def test_a_lost_alias_is_given_back(story, client, verb):
    client.delete_registered_model_alias(story.name, "champion")
    assert verb("promote", "2")[0] == 0
    assert aliases(client, story)["champion"] == 2


@pytest.mark.bad_input(
    number=83,
    what="the champion's version is gone, and so are its scores",
    then="it stays the bar; the verdict says why",
)
def test_a_deleted_champion_that_cannot_be_asked_stays_the_bar(story, client):
    client.delete_model_version(story.name, "2")
    story.prepare(seed=2)
    verdict = story.propose("new", 0)
    assert verdict["decision"] == "challenger"
    assert "it was deleted from the registry" in verdict["checks"][-1]["reason"]


@pytest.mark.parametrize("beaten", ["still there", "deleted"])
def test_a_deleted_champion_that_is_made_again_is_held_against_whom_it_beat(story, client, verb, caplog, beaten):
    before = files.read_json(story.report / "verdict.json")
    client.delete_model_version(story.name, "2")
    if beaten == "deleted":
        client.delete_model_version(story.name, "1")
    assert story.register() == before, "the same bar, and not that there is no champion"
    assert "has lost its champion, version 2" in caplog.text
    assert "the version was deleted" in caplog.text
    assert aliases(client, story) == {"challenger": 3, "champion": 3}
    assert entries(client, story)[2:] == [("register", 3, 2)]
    assert story.register() == before
    story.propose("worse", 12)
    assert aliases(client, story) == {"challenger": 4, "champion": 3}
    assert verb("rollback")[0] == (0 if beaten == "still there" else 4)
    assert aliases(client, story)["champion"] == (1 if beaten == "still there" else 3)
    if beaten == "still there":  # and what was rolled back stays so, whatever version it is
        assert verb("promote", "3")[0] == 0
        assert verb("rollback")[0] == 0
        assert aliases(client, story)["champion"] == 1


def test_the_ledger_says_of_no_model_that_failed_that_it_passed(story, client):
    client.delete_model_version(story.name, "2")
    story.floor = {"accuracy": 0.99}
    verdict = story.register()
    assert (verdict["decision"], verdict["passed"]) == ("champion", False)
    assert [entry.why for entry in ledger.read(client, story.name)[1:]] == ["passed its gate", "was champion before"]
    assert aliases(client, story) == {"challenger": 3, "champion": 3}


def test_a_reigning_champion_stays_and_says_so_where_the_one_it_beat_cannot_be_asked(story, client, verb):
    client.delete_model_version(story.name, "1")
    story.prepare(seed=2)
    story.evaluate(7)
    verdict = story.register()
    assert (verdict["decision"], verdict["passed"]) == ("champion", False)
    told = verdict["checks"][-1]["reason"]
    assert told.startswith("the champion that it beat cannot be compared: it was deleted from the registry")
    assert aliases(client, story) == {"challenger": 2, "champion": 2}
    assert verb("gate")[0] == 4


def test_publish_gives_no_crown_to_what_never_beat_the_lost_champion(story, client, caplog):
    from trainyard.stages.register import register

    client.delete_model_version(story.name, "2")
    story.train("first")
    story.evaluate(14)
    verdict = files.read_json(story.report / "verdict.json")
    mine = tracking.publish(story.name, story.params)
    told = {**verdict, "content": mine.content, "against": "", "decision": "champion"}
    files.write_json(story.report / "verdict.json", told)
    tracking.restore_aliases(mine)
    assert "not made champion: the last one was version 2" in caplog.text
    assert "champion" not in aliases(client, story)
    register(story.name, story.params)
    assert "champion" not in aliases(client, story)


def test_the_ledger_outlives_the_registered_model(story, client):
    client.delete_registered_model(story.name)
    tracking.restore_aliases(tracking.publish(story.name, story.params))
    assert entries(client, story) == [("register", 1, 0), ("register", 2, 1), ("publish", 1, 2)]


def test_an_entry_is_never_written_over(story, client):
    first, second = ledger.read(client, story.name)
    assert not ledger.append(client, story.name, first)
    assert ledger.read(client, story.name) == [first, second]


@pytest.mark.parametrize(("why", "told"), [("\N{GRINNING FACE}" * 600, "\N{GRINNING FACE}" * 500), ("a\udcffb", "a?b")])
def test_any_reason_can_be_read_again(story, client, verb, why, told):
    assert verb("rollback", "--why", why)[0] == 0
    assert ledger.read(client, story.name)[-1].why == told
    assert f"by rollback: {told} (content" in verb("ledger")[1]


def test_a_ledger_that_somebody_deletes_in_the_pages_comes_back(story, client, verb):
    client.delete_run(ledger._run(client, story.name).info.run_id)
    assert verb("rollback")[0] == 0
    assert len(entries(client, story)) == 3


def test_a_ledger_that_was_purged_begins_anew(story, client, verb, database):
    run = ledger._run(client, story.name).info.run_id
    client.delete_run(run)
    with sqlite3.connect(database.removeprefix("sqlite:///")) as opened:
        for table in ("params", "tags", "runs"):
            opened.execute(f"delete from {table} where run_uuid = '{run}'")  # noqa: S608  # as `mlflow gc` does
    assert verb("rollback", "1")[0] == 0
    assert entries(client, story) == [("found", 2, 0), ("rollback", 1, 2)]


def test_looks_are_counted_over_more_ledgers_than_mlflow_gives_at_once(client, monkeypatch):
    monkeypatch.setattr(client, "search_runs", partial(client.search_runs, max_results=1))
    assert [ledger.look(client, name, "the rows", name) for name in ("one", "two", "three")] == [1, 2, 3]


def test_each_look_at_the_test_rows_is_counted(story, client, monkeypatch, caplog):
    def looks(version):
        return client.get_model_version(story.name, version).tags["trainyard.looks"]

    monkeypatch.setattr(promotion, "WORN", 3)
    assert "on these test rows" not in caplog.text
    story.propose("third", 12)
    story.register()
    assert [looks(version) for version in "123"] == ["1", "2", "3"]
    assert "3 verdicts were given on these test rows" in caplog.text
    client.delete_model_version(story.name, "1")
    story.floor = {"accuracy": 0.1}
    story.register()
    assert looks("3") == "4", "what was deleted was looked at all the same, and other floors are another look"
    client.delete_registered_model(story.name)
    story.name = f"{story.name}-b"
    story.propose("of another name", 12)
    assert looks("1") == "5"
    story.prepare(seed=2)
    story.evaluate(12)
    monkeypatch.setattr("trainyard.tracking.pyfunc.answers", lambda model, data: data.test.target[:, None] * 1.0)
    story.register()
    assert looks("1") == "1"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{}", "model: field required"),
        ("[]", "input should be a dictionary"),
        (None, "checks: 0: reason: field required"),
    ],
)
def test_a_verdict_that_is_none_is_refused_in_a_line(story, verb, text, told):
    path = story.report / "verdict.json"
    checks = [{"name": "better than naive", "passed": True}]
    path.write_text(text or json.dumps({**files.read_json(path), "checks": checks}))
    code, out, err = verb("gate")
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"error: {path}: {told}.* \(run the stage that writes it again\)\n", err)


# === What a merge brings ===


def lock(project, path, digest):
    stages = "".join(
        f"  {stage}: {{md5: {digest}}}\n" for stage in (f"prepare@{project.dataset}", f"train@{project.name}")
    )
    Path(path).write_text(f"schema: '2.0'\nstages:\n{stages}")


@pytest.fixture
def merged(story, client, monkeypatch):
    """Version 3 passed against the champion and waits for approval; gives what promotes it after its merge."""
    monkeypatch.setenv("TRAINYARD_APPROVAL", "required")
    lock(story, "before.lock", 1)
    lock(story, "dvc.lock", 2)
    story.propose("best", 0)
    assert aliases(client, story) == {"challenger": 3, "champion": 2}
    sha256 = files.read_json(story.folder / "model.json")["sha256"]

    def promote(sha256=sha256, before="before.lock"):
        tracking.promote_merged(story.name, story.dataset, Path("dvc.lock"), Path(before), sha256, "merged as abc")

    return promote


def test_what_was_merged_becomes_champion(story, client, merged):
    merged()
    assert aliases(client, story) == {"challenger": 3, "champion": 3}
    assert "merged as abc" in tracking.history(story.name)[-1]
    merged()  # once more changes nothing
    assert entries(client, story)[-1] == ("promote", 3, 2)


def test_it_is_the_version_of_the_lock_and_not_the_newest(story, client, merged):
    lock(story, "dvc.lock", 3)
    story.propose("another", 1)
    lock(story, "dvc.lock", 2)
    merged()
    assert aliases(client, story) == {"challenger": 4, "champion": 3}


def test_a_model_that_the_merge_did_not_touch_is_left_alone(story, client, merged):
    merged(before="dvc.lock")
    assert aliases(client, story)["champion"] == 2


def test_a_file_that_is_not_the_one_of_the_reports_is_refused(story, client, merged):
    with pytest.raises(GateRefused, match=r"version 3 is not the model that reports/ tells of: .* expected 00000000"):
        merged(sha256="0" * 64)
    assert aliases(client, story)["champion"] == 2


def test_a_file_that_was_changed_in_the_registry_is_refused(story, client, merged):
    folder = Path(artifacts.download_artifacts(f"models:/{story.name}/3"))  # of a folder: the files themselves
    (folder / "artifacts" / "model.keras").write_text("other weights")
    with pytest.raises(GateRefused, match="version 3 is not the model that reports/ tells of"):
        merged()
    assert aliases(client, story)["champion"] == 2


def test_what_was_registered_elsewhere_is_refused(story, client, merged):
    lock(story, "dvc.lock", 4)
    with pytest.raises(GateRefused, match=r"no version of the registry came from dvc.lock"):
        merged()


def test_what_did_not_pass_is_refused(story, client, merged):
    lock(story, "dvc.lock", 5)
    story.propose("worse", 15)
    sha256 = files.read_json(story.folder / "model.json")["sha256"]
    with pytest.raises(GateRefused, match=r"version 4 did not pass the gate \(failed: better than the champion\)"):
        merged(sha256)
    assert aliases(client, story) == {"challenger": 4, "champion": 2}
