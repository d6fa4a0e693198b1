"""Provenance: what a version of the registry came from, and which versions came from a dvc.lock."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from trainyard.errors import BadInput
from trainyard.params import Params
from trainyard.tracking import ledger, promotion, registry, runs, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

UNKNOWN = "-"


def explain(asked: str) -> list[str]:
    """One line a fact about NAME, NAME@ALIAS or NAME/VERSION; NAME alone is its champion, else its challenger.

    Raises BadInput where the registry has no such version.
    """
    with store.connected() as client:
        version = promotion.named(client, asked, ["champion", "challenger"])
        lost = promotion.lost(client, version.name)
        return [*([lost] if lost else []), *_facts(client, version)]


def history(name: str) -> list[str]:
    """The ledger, one line a champion; and where the alias stands, if the ledger does not know of it."""
    with store.connected() as client:
        entries = ledger.read(client, name)
        now = registry.with_alias(client, name, "champion")
        told = [str(entry) for entry in entries] or [f"{name}: the ledger has no entry"]
        if now and (not entries or str(now.version) != entries[-1].version):
            told.append(f"{name}: the alias stands on version {now.version}: moved by hand")
        lost = promotion.lost(client, name)
        return [*told, lost] if lost else told


def made_from(lock: Path, params: Params) -> list[str]:
    """The versions of each model that came from the entries of a dvc.lock; raises BadInput where it is not there."""
    told = []
    with store.connected() as client:
        for name, digest, made in _made_from(client, lock, params):
            numbers = ", ".join(str(number) for number in made)
            of = f"dvc.lock {digest}" if digest else "the lock has no entry of it"
            told.append(f"{name}: {f'version {numbers}' if made else 'no version of the registry'} ({of})")
    return told


def amiss(lock: Path, params: Params) -> list[str]:
    """What the registry lacks of what a dvc.lock and the ledgers tell of, one line each.

    Raises BadInput where there is no dvc.lock.
    """
    told = []
    with store.connected() as client:
        for name, digest, made in _made_from(client, lock, params):
            if digest and not made and (Path("models") / name).is_dir():  # else it was never made or pulled here
                told.append(f"{name}: no version came from {lock} (run `trainyard publish {name}`)")
            if lost := promotion.lost(client, name):
                told.append(lost)
    return told


def _made_from(client: "MlflowClient", lock: Path, params: Params) -> Iterator[tuple[str, str, list[int]]]:
    """Of each model its name, the digest of its entries in a dvc.lock, and the versions that came from them."""
    if not lock.is_file():
        raise BadInput(f"{lock}: not found (expected a dvc.lock)")
    for name, spec in params.models.items():
        digest = registry.lineage(name, spec.dataset, lock)
        versions = client.search_model_versions(f"name = '{name}'")
        yield name, digest, sorted(int(one.version) for one in versions if digest in _locks(one))


def page(dataset: str, content: str) -> str:
    """Address of the run of a content on the server's own pages; "" where there is no server, or no such run."""
    if not store.uri().startswith("http"):
        return ""
    with store.connected() as client:
        experiment = client.get_experiment_by_name(dataset)
        run = runs.with_content(client, experiment.experiment_id, content) if experiment else None
        return (
            f"{store.public(store.uri())}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}" if run else ""
        )


def _facts(client: "MlflowClient", version: "ModelVersion") -> Iterator[str]:
    tags, name = version.tags, version.name
    registered = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
    aliases = client.get_model_version(name, version.version).aliases
    against = tags.get("trainyard.against", "")
    beaten = registry.with_content(client, name, against) if against else None
    which = f"version {beaten.version}" if beaten else "a version that was deleted"
    backbone = json.loads(tags.get("trainyard.backbone", "{}"))
    verdict = json.loads(tags.get("trainyard.verdict", "{}"))
    yield f"{name} version {version.version}"
    for fact, value in {
        "aliases": ", ".join(sorted(aliases)),
        "registered": f"{registered:%FT%TZ}",
        "content": tags.get("trainyard.content"),
        "run": tags.get("trainyard.run"),
        "DVC experiment": tags.get("trainyard.dvc_experiment"),
        "git commit": tags.get("trainyard.git_commit"),
        "dvc.lock": ", ".join(_locks(version)),
        "data": tags.get("trainyard.data"),
        "params": tags.get("trainyard.params"),
        "time and energy of training": runs.cost(client, version.run_id),
        "backbone": ", ".join(f"{key} {value}" for key, value in backbone.items()),
        "compared with": f"{which}, content {against}" if against else "",
        "verdicts on its test rows": tags.get("trainyard.looks"),
        "verdict": promotion.told_verdict(verdict),
    }.items():
        yield f"{fact}: {value or UNKNOWN}"
    for check in verdict.get("checks", []):
        yield f"  {'passed' if check['passed'] else 'FAILED'} {check['name']}: {check['reason']}"
    content = tags.get("trainyard.content")
    for entry in ledger.read(client, name):
        if (entry.content == content) if content else (entry.version == version.version):
            yield f"ledger: {entry}"


def _locks(version: "ModelVersion") -> list[str]:
    return [value for tag, value in version.tags.items() if tag.startswith("trainyard.dvc_lock")]
