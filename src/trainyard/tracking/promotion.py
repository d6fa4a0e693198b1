"""Promotion: the aliases `challenger` and `champion`, moved by a verdict or by hand; of each champion the ledger tells.

A champion is moved where the one of before is still the one that was looked at: by the ledger's numbers, however many
machines move at once. Processes of one folder wait for each other besides.
"""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import wraps
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainyard import files
from trainyard.errors import BadInput, EnvironmentFailed, GateRefused
from trainyard.params import Params, nearest, refuse_misnamed
from trainyard.quality.verdict import Verdict
from trainyard.tracking import ledger, registry, runs, store
from trainyard.tracking.ledger import Entry
from trainyard.tracking.registry import Registered

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

log = logging.getLogger(__name__)

MOST_LETTERS = 5000
"""As many as a database takes of a description."""
WORN = 10
"""Verdicts on the same test rows, of all models, from which on that is worth a word."""


class NoAlias(BadInput):
    """No version of a model bears such an alias."""


class Overtaken(EnvironmentFailed):
    """Somebody else moved an alias at the same time: what was judged is no longer what is there."""


def again_if_overtaken(judge: Callable[[str, Params], None]) -> Callable[[str, Params], None]:
    """Judges a model once more where it was overtaken, against what is there now."""

    @wraps(judge)
    def judged(name: str, params: Params) -> None:
        try:
            judge(name, params)
        except Overtaken as overtaken:
            log.warning("%s: so it is judged again", overtaken)
            judge(name, params)

    return judged


@dataclass(frozen=True)
class Reign:
    """Who is champion, and since which entry of the ledger: what a verdict has looked at."""

    champion: Registered | None
    entry: int
    """0 where the ledger has none."""


def reign(name: str) -> Reign:
    """The present one; where the registry has lost its champion, that of the ledger's last entry, and a warning."""
    with _moving(name) as client:
        return _reign(*_present(client, name))


def champion(name: str) -> Registered | None:
    """The version with the alias `champion`; where the registry has lost it, the ledger's last one, and a warning."""
    return reign(name).champion


def _reign(now: Registered | None, held: Sequence[Entry]) -> Reign:
    return Reign(now, held[-1].number if held else 0)


def withdrawn(mine: Registered) -> bool:
    """Whether a content was champion until somebody went back to another by hand; a warning says why."""
    with store.connected() as client:
        for entry in reversed(ledger.read(client, mine.model)):
            if entry.content == mine.content:
                return False
            if entry.verb == "rollback" and entry.former_content == mine.content:
                told = "%s: version %s was rolled back (%s): `trainyard promote %s %s` makes it champion again"
                log.warning(told, mine.model, mine.version, entry.why, mine.model, mine.version)
                return True
    return False


def set_aliases(mine: Registered, verdict: Verdict, card: str, looked: Reign) -> None:
    """Make a version the challenger, and the champion too where the verdict says so; the card is its description.

    `looked` is what the verdict has looked at. Raises Overtaken where somebody else moved an alias since.
    """
    _judge(mine, verdict, card, looked, "register")


def restore_aliases(mine: Registered) -> None:
    """Give a version the aliases of its verdict file, where MLflow knows of no champion: its store is new."""
    report = Path("reports/models") / mine.model
    with store.connected() as client:
        there = registry.with_alias(client, mine.model, "champion")
    if there is None and (report / "verdict.json").is_file():
        verdict = files.read_as(Verdict, report / "verdict.json")
        if verdict.content == mine.content:
            looked = reign(mine.model)
            last = looked.champion
            if last and last.content not in (mine.content, verdict.against):
                verdict = replace(verdict, decision="challenger")
                log.warning("%s: not made champion: the last one was version %s", mine.model, last.version)
            elif verdict.decision != "champion":
                told = "its champion comes back with `dvc repro` of the params that made it, and publish"
                why = told if verdict.against else verdict.remark or "none has passed its gate"
                log.warning("%s: no champion: models/ holds a challenger; %s", mine.model, why)
            card = (report / "card.md").read_text(encoding="utf-8")
            _judge(mine, verdict, card, looked, "publish")


def gate(verdict: Verdict) -> None:
    """Hold a verdict against the present champion.

    Raises GateRefused where it did not pass, or passed against another champion.
    """
    name, content = verdict.model, verdict.content
    with _moving(name) as client:
        now, _ = _present(client, name)
        _pass(client, name, f"content {content[:8]}", asdict(verdict), verdict.against, content, now)


def promote(name: str, version: str | None, why: str | None) -> None:
    """Make a version, by default the challenger, the champion, if its verdict passed against the present one.

    A content that is champion already stays so. Raises BadInput where there is no such version, GateRefused where it
    never passed, or not against the present champion, or somebody else was faster with another version.
    """
    with _moving(name) as client:
        to = version_of(client, name, version) if version else registry.with_alias(client, name, "challenger")
        if to is None:
            raise BadInput(f"{name}: the registry has no challenger (run `dvc repro register@{name}`)")
        mine = registry.registered(to)
        verdict = json.loads(to.tags.get("trainyard.verdict", "{}"))
        now, held = _present(client, name)
        if now is None or _key(now) != _key(mine):  # the champion whose alias was lost has passed once
            _pass(client, name, f"version {mine.version}", verdict, mine.against, mine.content, now)
        how = _move(client, to, now, held, "promote", why or _reason(verdict))
        log.info("%s: version %s is champion%s", name, mine.version, how)


def promote_merged(name: str, dataset: str, lock: Path, before: Path, sha256: str, why: str | None) -> None:
    """Promote the version that came from a model's entries in `lock`, where those in `before` were others.

    Raises GateRefused like `promote`; also where no version came from them, or its .keras file has not this `sha256`.
    """
    digest = registry.lineage(name, dataset, lock)
    if digest == registry.lineage(name, dataset, before):
        return
    with store.connected() as client:
        versions = client.search_model_versions(f"name = '{name}'")
        made = [one for one in versions if digest and digest in one.tags.values()]
        if not made:
            raise GateRefused(f"{name}: no version of the registry came from {lock} (was it registered elsewhere?)")
        mine = registry.registered(max(made, key=lambda one: int(one.version)))
    if (found := registry.file_hash(mine)) != sha256:
        told = (
            f"{name}: version {mine.version} is not the model that reports/ tells of: its file has SHA-256 {found[:8]}"
        )
        raise GateRefused(f"{told}, expected {sha256[:8]}")
    promote(name, mine.version, why)


def rollback(name: str, version: str | None, why: str | None) -> None:
    """Make the champion before the present one champion again, or a version that is named, whatever its verdict.

    Raises BadInput where there is no such version, GateRefused where there was no champion before, or somebody else
    moved it at the same time, to yet another version.
    """
    with _moving(name) as client:
        now, held = _present(client, name)
        to = version_of(client, name, version) if version else _before(client, name, now, held)
        if to is None:
            told = f"version {now.version} is the only champion of the registry" if now else "none was champion so far"
            raise GateRefused(f"{name}: {told}: nothing to go back to (`trainyard rollback {name} VERSION`)")
        how = _move(client, to, now, held, "rollback", why or f"back from version {now.version if now else '-'}")
        log.info("%s: version %s is champion%s", name, to.version, how)


def _description(card: str, cost: str) -> str:
    """The card without its heading, with what no file may hold; or as many lines as fit, with where the rest is."""
    card = card.partition("\n\n")[2]
    more = f"\n## Time and energy of training\n\n{cost}\n" if cost else ""
    if len(card) + len(more) <= MOST_LETTERS:
        return card + more
    end = f"\n\n(The whole card: `card.md` of its run)\n{more}"
    return card[: card.rindex("\n", 0, MOST_LETTERS - len(end))] + end


@contextmanager
def _moving(name: str) -> Iterator["MlflowClient"]:
    with store.connected() as client, store.lock(store.HOME / f"{name}.lock"):
        yield client


def _judge(mine: Registered, verdict: Verdict, card: str, looked: Reign, verb: str) -> None:
    """Write a verdict on its version, and move the aliases that it gives."""
    name, crown = mine.model, verdict.decision == "champion"
    told = {key: value for key, value in asdict(verdict).items() if key in ("passed", "checks")}
    with _moving(name) as client:
        now, held = _present(client, name)
        if crown and _reign(now, held) != looked:
            who = f"version {now.version} became champion" if now else "the champion was deleted"
            raise Overtaken(f"{name}: {who} meanwhile (register again)")
        run_id = client.get_model_version(name, mine.version).run_id
        if run := runs.with_content(client, store.experiment(client, verdict.dataset), mine.content):
            client.log_text(run.info.run_id, card, "card.md")
        client.update_model_version(name, mine.version, _description(card, runs.cost(client, run_id)))
        client.set_model_version_tag(name, mine.version, "trainyard.against", verdict.against)
        client.set_model_version_tag(name, mine.version, "trainyard.verdict", json.dumps(told))
        _count_looks(client, mine, verdict)
        if crown:
            try:
                _move(client, client.get_model_version(name, mine.version), now, held, verb, _reason(told))
            except GateRefused as refused:
                raise Overtaken(f"{refused} (register again)") from None
        client.set_registered_model_alias(name, "challenger", mine.version)
        # MLflow has no compare-and-set
        if (version := str(client.get_model_version_by_alias(name, "challenger").version)) != mine.version:
            raise Overtaken(f"{name}: challenger was moved to version {version} meanwhile (register again)")


def _present(client: "MlflowClient", name: str) -> tuple[Registered | None, Sequence[Entry]]:
    """The champion, and the ledger by which it is that; what a mover that died left undone is done first.

    A ledger begins with the champion that is there already, so that its loss will be noticed too.
    """
    held = ledger.read(client, name)
    if held and not held[-1].moved:
        ledger.settle(client, name, held)
        held = ledger.read(client, name)
    if there := registry.with_alias(client, name, "champion"):
        if held:
            return registry.registered(there), held
        ledger.append(client, name, _entry(1, there, None, "found", "champion before the ledger began"))
        return _present(client, name)
    if not held:
        return None, held
    last = held[-1]
    log.warning(lost(client, name))
    found = registry.with_content(client, name, last.content) if last.content else None
    return registry.registered(found) if found else Registered(name, last.version, last.content, last.against), held


def lost(client: "MlflowClient", name: str) -> str:
    """A line about a champion that the ledger knows of and the registry no longer has; "" where all is well."""
    last = next(reversed(ledger.read(client, name)), None)
    if last is None or registry.with_alias(client, name, "champion"):
        return ""
    still = registry.with_content(client, name, last.content) if last.content else None
    told = f"{name}: the registry has lost its champion, version {last.version}, content {last.content[:8]}, "
    told += f"since {last.at}: "
    told += "the alias was removed" if still and str(still.version) == last.version else "the version was deleted"
    back = f"; `trainyard promote {name} {still.version}` gives it back" if still else ""
    return f"{told} (`trainyard rollback {name}` puts the one before in its place{back})"


def _move(
    client: "MlflowClient", to: "ModelVersion", now: Registered | None, held: Sequence[Entry], verb: str, why: str
) -> str:
    """Make a version champion after `now`, by the entry that follows those of `held`; says how, in a few words."""
    mine, name = registry.registered(to), to.name
    there = registry.with_alias(client, name, "champion")
    if there and now and _key(now) == _key(mine):
        return ", as it was"
    if now and not there:  # what was lost, not what has come back of the same content
        now = replace(now, version=held[-1].version)
    entry = _entry(held[-1].number + 1 if held else 1, to, now, verb, why)
    if not ledger.append(client, name, entry):
        rival = _present(client, name)[1][-1]
        if _known_by(rival.version, rival.content) == _key(mine):
            return ", as it was"
        told = f"{name}: version {rival.version} became champion meanwhile"
        raise GateRefused(f"{told}{_after(rival.former)}; version {mine.version} is not")
    stands = ledger.settle(client, name, [*held, entry])
    if stands != mine.version and ledger.read(client, name)[-1].number == entry.number:
        raise GateRefused(f"{name}: champion was moved to version {stands or '-'} meanwhile, away from {mine.version}")
    return _after(entry.former)


def _entry(number: int, to: "ModelVersion", now: Registered | None, verb: str, why: str) -> Entry:
    mine = registry.registered(to)
    return Entry(
        number=number,
        version=mine.version,
        content=mine.content,
        former=now.version if now else "",
        former_content=now.content if now else "",
        verb=verb,
        why=" ".join(why.split()).encode(errors="replace").decode(),  # a terminal may give what is no text
        commit=to.tags.get("trainyard.git_commit", ""),
        data=to.tags.get("trainyard.data", ""),
        against=mine.against,
        verdict=told_verdict(json.loads(to.tags.get("trainyard.verdict", "{}"))),
    )


def _reason(verdict: Mapping[str, Any]) -> str:
    return "passed its gate" if verdict.get("passed") else "was champion before"


def _after(former: str) -> str:
    return f", after version {former}" if former else ""


def _pass(
    client: "MlflowClient",
    name: str,
    what: str,
    verdict: Mapping[str, Any],
    against: str,
    content: str,
    now: Registered | None,
) -> None:
    """Refuse what did not pass, or passed against another champion than the present one."""
    stays = f"version {now.version} stays champion" if now else "there is no champion"
    if not verdict:
        raise GateRefused(f"{name}: {what} has no verdict; {stays} (run `dvc repro register@{name}`)")
    if not verdict["passed"]:
        raise GateRefused(f"{name}: {what} did not pass the gate ({told_verdict(verdict)}); {stays}")
    if now and _key(now) not in (against, content):
        beaten = registry.with_content(client, name, against) if against else None
        whom = f"version {beaten.version}" if beaten else f"content {against[:8]}" if against else "no champion"
        told = f"{name}: {what} passed against {whom}, but version {now.version} is champion now"
        raise GateRefused(f"{told} (run `dvc repro register@{name}`)")


def told_verdict(verdict: Mapping[str, Any]) -> str:
    """A verdict in a few words."""
    if not verdict:
        return "never judged"
    failed = [check["name"] for check in verdict["checks"] if not check["passed"]]
    return f"failed: {', '.join(failed)}" if failed else f"passed {len(verdict['checks'])} checks"


def named(client: "MlflowClient", asked: str, aliases: Sequence[str]) -> "ModelVersion":
    """The version that NAME@ALIAS or NAME/VERSION names, or NAME alone by the first of `aliases` that there is.

    Raises BadInput where the registry has no such version, NoAlias where none of the model bears such an alias.
    """
    name, sign, which = re.fullmatch(r"([^@/]*)([@/]?)(.*)", asked, re.DOTALL).groups()  # type: ignore[union-attr]
    refuse_misnamed(name)
    if sign == "/":
        return version_of(client, name, which)
    if sign and not which:
        raise BadInput(f"{asked}: no alias after the @ (expected {name}@{' or '.join(aliases)})")
    aliases = [which] if sign else aliases
    there = registry.aliases(client, name)
    if found := next((there[alias] for alias in aliases if alias in there), None):
        return client.get_model_version(name, found)
    hint = f"run `dvc repro register@{name}`"
    if there:
        hint = nearest(which, there) if sign else f"ask for {' or '.join(f'{name}@{alias}' for alias in there)}"
    raise NoAlias(f"{name}: the registry has no {' or '.join(aliases)} ({hint})")


def version_of(client: "MlflowClient", name: str, version: str) -> "ModelVersion":
    """A version by its number; raises BadInput where there is none."""
    found = client.search_model_versions(f"name = '{name}'")
    by_number = {str(one.version): one for one in found}
    if version not in by_number:
        there = ", ".join(sorted(by_number, key=int)) or "none"
        raise BadInput(f"{name}: the registry has no version {version} (it has: {there})")
    return by_number[version]


def _before(client: "MlflowClient", name: str, now: Registered | None, held: Sequence[Entry]) -> "ModelVersion | None":
    """The champion before the present one, of those that the registry still has; a rollback takes back what it left."""
    reigns: list[str] = []
    for entry in held:
        former, mine = _known_by(entry.former, entry.former_content), _known_by(entry.version, entry.content)
        if entry.former and reigns[-1:] != [former]:
            reigns.append(former)  # made champion by hand
        if entry.verb == "rollback" and mine in reigns:
            del reigns[reigns.index(mine) + 1 :]
        elif reigns[-1:] != [mine]:
            reigns.append(mine)
    versions = client.search_model_versions(f"name = '{name}'", order_by=["version_number DESC"])
    there = {_key(registry.registered(one)): one for one in versions}
    return next((there[key] for key in reversed(reigns) if key in there and (now is None or key != _key(now))), None)


def _key(version: Registered) -> str:
    return _known_by(version.version, version.content)


def _known_by(version: str, content: str) -> str:
    """By what a champion is known: its content, where trainyard has made it."""
    return content or f"version {version}"


def _count_looks(client: "MlflowClient", mine: Registered, verdict: Verdict) -> None:
    """Say how many verdicts there were on the same test rows (the reusable holdout, Dwork et al., Science 2015).

    The same content under other floors is judged anew.
    """
    test = client.get_model_version(mine.model, mine.version).tags.get("trainyard.test", "")
    judged = sha256(json.dumps([mine.content, verdict.asked], sort_keys=True).encode()).hexdigest()
    looks = ledger.look(client, mine.model, test, judged)
    client.set_model_version_tag(mine.model, mine.version, "trainyard.looks", str(looks))
    if looks >= WORN:
        told = "%s: %d verdicts were given on these test rows; each makes the winner's figure a little too good %s"
        log.warning(told, mine.model, looks, "(take new test rows: more data, or another seed)")
