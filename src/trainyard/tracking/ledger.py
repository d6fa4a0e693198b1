"""The ledger of a model: who was champion when, why and by which verdict; a run in MLflow that can only grow.

Entry 12 is that run's param `000012`. MLflow refuses to change a param, so of two who write the same entry, on however
many machines, one is refused: the compare-and-set that aliases lack. The ledger decides, the alias `champion` follows:
who has written an entry moves the alias and marks the entry as moved; where that one died in between, the next does it.
The ledger lives where the registry lives, and survives the deletion of a version and of the registered model. What was
judged on which test rows stands there too.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from trainyard.tracking import store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENT = "trainyard.ledger"  # no dataset can have a dot in its name
NOTE = "Who was champion, since when and why: a run a model, a param an entry. `trainyard ledger MODEL` reads it."
TAG = "trainyard.ledger"
"""On the run, the model; on the registered model, the run."""
TRIES = 3


@dataclass(frozen=True)
class Entry:
    """One champion's coming, by number from 1."""

    number: int
    version: str
    content: str
    """Hash of models/MODEL; "" for a version that trainyard has not made."""
    former: str
    """Version of the champion before; "" where there was none."""
    former_content: str
    verb: str
    """What moved it: register, publish, promote or rollback; or `found`, where the ledger began with it."""
    why: str
    commit: str
    data: str
    against: str
    """Content of the champion that the verdict compares it with; "" where there was none."""
    verdict: str
    at: str = ""
    """UTC; `append` sets it."""
    moved: bool = False
    """Whether the alias has followed."""

    def __str__(self) -> str:
        """As people read it, one line."""
        after = f" after version {self.former}" if self.former else ""
        told = f"{self.at}, version {self.version}{after} by {self.verb}: {self.why}"
        facts = [("content", self.content), ("commit", self.commit), ("data", self.data), ("against", self.against)]
        known = [f"{name} {value[:8]}" for name, value in facts if value]
        return f"{self.number}. {told} ({', '.join([*known, self.verdict])})"


def start(client: "MlflowClient", name: str) -> str:
    """The id of the run that a new registered model names as its ledger: the one of before, where there was one."""
    if before := _of(client, name):
        return before[0].info.run_id
    experiment = store.experiment(client, EXPERIMENT, NOTE)
    run_id = client.create_run(experiment, tags={TAG: name}, run_name=name).info.run_id
    client.update_run(run_id, "FINISHED")
    return run_id


def read(client: "MlflowClient", name: str) -> list[Entry]:
    """All entries in order; none for a model without a ledger."""
    run = _run(client, name)
    params = run.data.params if run else {}
    entries = [(int(key), json.loads(value)) for key, value in params.items() if re.fullmatch(r"\d{6}", key)]
    known = Entry.__dataclass_fields__.keys()
    return [
        Entry(
            number, **{key: text for key, text in entry.items() if key in known}, moved=f"{number:06}.moved" in params
        )
        for number, entry in sorted(entries, key=lambda numbered: numbered[0])
    ]


def append(client: "MlflowClient", name: str, entry: Entry) -> bool:
    """Write an entry; False where another one has that number already."""
    from mlflow.exceptions import MlflowException

    run_id = _opened(client, name)
    if client.get_registered_model(name).tags.get(TAG) != run_id:  # registered before there was a ledger
        client.set_registered_model_tag(name, TAG, run_id)
    told = asdict(replace(entry, why=entry.why[:500], verdict=entry.verdict[:1000], at=f"{datetime.now(UTC):%FT%TZ}"))
    told["token"] = uuid4().hex  # a param may be written twice with the same value: no two entries are equal
    told = {fact: value for fact, value in told.items() if fact not in ("number", "moved")}
    # MLflow cuts a param of more than 6,000 characters, and an escape would be up to twelve of them
    key, value = f"{entry.number:06}", json.dumps(told, ensure_ascii=False)
    try:
        client.log_param(run_id, key, value)
    except MlflowException:
        there = client.get_run(run_id).data.params.get(key)
        if there is None:
            raise
        return there == value
    return True


def look(client: "MlflowClient", name: str, test: str, judged: str) -> int:
    """Note that something was judged on test rows, both told by hashes; gives how much was on these, of all models.

    A note outlives version and model.
    """
    which = f"look.{test[:8]}."
    client.log_param(_opened(client, name), which + judged[:8], "yes")
    return len({key for run in _runs(client, "") for key in run.data.params if key.startswith(which)})


def settle(client: "MlflowClient", name: str, entries: Sequence[Entry]) -> str:
    """Have the alias follow the last of these entries, or a later one; gives the version that it stands on.

    That is another one than the entry's where somebody moves the alias by hand at the same time, and "" where the
    entry's version was deleted.
    """
    from mlflow.exceptions import MlflowException

    last, stands = entries[-1], ""
    for left in reversed(range(TRIES)):
        found = client.search_model_versions(f"name = '{name}' and version_number = {last.version}")
        if not any(version.tags.get("trainyard.content", "") == last.content for version in found):
            stands = ""
            break
        try:
            client.set_registered_model_alias(name, "champion", last.version)
        except MlflowException:  # the database refuses one of two who set a new alias at once
            if not left:
                raise
            continue
        # the alias first: who comes later writes an entry before he moves it
        stands = str(client.get_registered_model(name).aliases.get("champion", ""))
        newest = read(client, name)[-1]
        if newest.number == last.number and stands == last.version:
            break
        last = newest
    if run := _run(client, name):
        client.log_param(run.info.run_id, f"{last.number:06}.moved", "yes")
    return stands


def _opened(client: "MlflowClient", name: str) -> str:
    """The id of the run, which can be written to: one that somebody deleted in the pages comes back."""
    run = _run(client, name)
    if run and run.info.lifecycle_stage == "deleted":
        client.restore_run(run.info.run_id)
    return run.info.run_id if run else start(client, name)


def _run(client: "MlflowClient", name: str) -> "Run | None":
    """The run that the registered model names, else the oldest one that names the model."""
    from mlflow.exceptions import MlflowException

    for model in client.search_registered_models(f"name = '{name}'"):
        if run_id := model.tags.get(TAG):
            try:
                return client.get_run(run_id)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
    return next(iter(_of(client, name)), None)


def _of(client: "MlflowClient", name: str) -> "Sequence[Run]":
    return _runs(client, f"tags.`{TAG}` = '{name}'")


def _runs(client: "MlflowClient", asked: str) -> "Sequence[Run]":
    from mlflow.entities import ViewType

    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return []
    found: list[Run] = []
    page: str | None = None
    while page != "":
        part = client.search_runs(
            [experiment.experiment_id], asked, ViewType.ALL, order_by=["attributes.start_time ASC"], page_token=page
        )
        found += part
        page = part.token or ""
    return found
