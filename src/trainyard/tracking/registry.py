"""The registry: versions of a model, found by their content's hash; `promotion` moves their aliases."""

import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from trainyard import files, kinds
from trainyard.errors import BadInput
from trainyard.kinds import Prepared
from trainyard.params import PARAMS_FILE, Params, nearest
from trainyard.quality.objectives import OBJECTIVES
from trainyard.quality.verdict import Change
from trainyard.tracking import ledger, notes, pyfunc, runs, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class Registered:
    """A version of a registered model."""

    model: str
    version: str
    """Its number; "" where it was deleted, and only its content is known."""
    content: str
    """Hash of models/MODEL; "" for a version that trainyard has not made."""
    against: str
    """Content of the champion that it was last compared with; "" where there was none."""

    @property
    def uri(self) -> str:
        """How MLflow finds it."""
        return f"models:/{self.model}/{self.version}"


def publish(name: str, params: Params) -> Registered:
    """Bring MLflow up to what models/NAME and reports/models/NAME say; what is there already stays as it is.

    Raises BadInput where the files are not there, EnvironmentFailed where MLflow does not answer.
    """
    spec = params.model(name)
    data = kinds.open_prepared(spec.dataset, params.dataset(spec.dataset))
    folder, report = Path("models") / name, Path("reports/models") / name
    about, metrics = files.read_json(folder / "model.json"), files.read_json(report / "metrics.json")
    if metrics["sha256"] != about["sha256"]:
        raise BadInput(f"{report}: about another model than {folder} (run `trainyard evaluate {name}`)")
    content = runs.content_of(folder)
    with store.connected() as client, store.lock(store.HOME / f"{name}.lock"):
        experiment = store.experiment(client, data.name)
        notes.on_experiment(client, experiment, data)
        run = runs.with_content(client, experiment, content) or runs.rebuild(client, name, params, data, folder)
        stands_on = json.dumps(about["backbone"], sort_keys=True) if about["backbone"] else ""
        tags = {"trainyard.dvc_lock": lineage(name, data.name), "trainyard.backbone": stands_on}
        for tag, value in tags.items():
            if value and run.data.tags.get(tag) != value:
                client.set_tag(run.info.run_id, tag, value)
        _evaluated(client, run, report, metrics, data)
        tags["trainyard.test"] = runs.data_digest(data.name, "test")
        version = with_content(client, name, content) or _register(client, run, content, about, data, tags)
        _made_again(client, version, tags)
        notes.on_model(client, about, params.evaluate[name].use)
        return registered(version)


def refuse_unknown(name: str, params: Params) -> None:
    """Raises BadInput for a model that neither params nor the registry nor its ledgers know."""
    if name in params.models:
        return
    with store.connected() as client:
        if client.search_registered_models(f"name = '{name}'") or ledger.read(client, name):
            return
        known = {*params.models, *(model.name for model in client.search_registered_models())}
    raise BadInput(f"{name}: neither {PARAMS_FILE} nor the registry has such a model; {nearest(name, known)}")


def compared_with(mine: Registered) -> Registered | None:
    """What this content was last compared with, None where that was no champion.

    The ledger knows it too, where a version comes back that was deleted; and what was deleted is the bar still.
    """
    with store.connected() as client:
        known = [entry.against for entry in ledger.read(client, mine.model) if entry.content == mine.content]
        against = mine.against or (known[-1] if known else "")
        if not against:
            return None
        found = with_content(client, mine.model, against)
        return registered(found) if found else Registered(mine.model, "", against, "")


def scores_on(other: Registered, data: Prepared) -> "pd.Series[float]":
    """Per-example scores of a version on the present test rows, indexed by example.

    Its own, where its run was evaluated on the same rows; else the model is loaded and asked. Raises BadInput where it
    cannot answer these rows: its classes, its columns or its windows are others.
    """
    if not other.content:
        raise BadInput("trainyard has not made it")
    with store.connected() as client, tempfile.TemporaryDirectory(prefix="trainyard-") as scratch:
        from mlflow.exceptions import MlflowException

        run = runs.with_content(client, store.experiment(client, data.name), other.content)
        if run and run.data.tags.get("trainyard.test") == runs.data_digest(data.name, "test"):
            try:
                table = pd.read_csv(client.download_artifacts(run.info.run_id, "evaluation/scores.csv", scratch))
                return table["score"].set_axis(data.test.rows.index)
            except (MlflowException, OSError):
                pass  # its files are gone, the model may be there
        answer = pyfunc.answers(_downloaded(other, scratch), data)
    return pd.Series(data.objective.score(data.test.target, answer), data.test.rows.index, name="score")


def changed(mine: Registered, other: Registered, dataset: str) -> tuple[Change, ...] | None:
    """What was trained otherwise than another version was; None where the run of one of them is gone."""
    with store.connected() as client:
        return runs.changed(client, dataset, mine.content, other.content)


def answers(other: Registered, path: str, examples: pd.Index) -> pd.DataFrame:
    """What a version answers to examples of the data at `path`, by name, those that it has an answer to.

    Raises BadInput where it cannot read them.
    """
    if not other.content:
        raise BadInput("trainyard has not made it")
    with store.connected(), tempfile.TemporaryDirectory(prefix="trainyard-") as scratch:
        return pyfunc.named_answers_to(_downloaded(other, scratch), path, examples)


def _downloaded(other: Registered, scratch: str) -> Path:
    from mlflow import artifacts
    from mlflow.exceptions import MlflowException

    deleted = BadInput("it was deleted from the registry, and was never evaluated on these rows")
    if not other.version:
        raise deleted
    try:
        return Path(artifacts.download_artifacts(other.uri, dst_path=scratch))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise deleted from None


def file_hash(mine: Registered) -> str:
    """SHA-256 of the .keras file of a version, as the registry hands it out now."""
    with store.connected(), tempfile.TemporaryDirectory(prefix="trainyard-") as scratch:
        from mlflow import artifacts

        return files.sha256(
            Path(artifacts.download_artifacts(mine.uri, dst_path=scratch)) / "artifacts" / "model.keras"
        )


def tag(mine: Registered, tags: Mapping[str, str]) -> None:
    """Tell of a version what no file may hold, as it is never the same twice."""
    with store.connected() as client:
        for key, value in tags.items():
            client.set_model_version_tag(mine.model, mine.version, key, value)


def with_alias(client: "MlflowClient", name: str, alias: str) -> "ModelVersion | None":
    """The version that bears an alias."""
    version = aliases(client, name).get(alias)
    return client.get_model_version(name, version) if version else None


def aliases(client: "MlflowClient", name: str) -> dict[str, str]:
    """The aliases of a model, and the versions that bear them; none of one that is not there."""
    found = client.search_registered_models(f"name = '{name}'")
    return dict(found[0].aliases) if found else {}


def with_content(client: "MlflowClient", name: str, content: str) -> "ModelVersion | None":
    """The first version of a content."""
    found = client.search_model_versions(f"name = '{name}' and tags.`trainyard.content` = '{content}'")
    return min(found, key=lambda version: int(version.version), default=None)


def registered(version: "ModelVersion") -> Registered:
    """What MLflow tells of a version, in our words."""
    tags = version.tags
    return Registered(
        version.name, str(version.version), tags.get("trainyard.content", ""), tags.get("trainyard.against", "")
    )


def lineage(name: str, dataset: str, lock: Path = Path("dvc.lock")) -> str:
    """Hash of the entries of dvc.lock that led to a model; "" where it was made without DVC.

    Not of the whole file: that changes when this very stage is over, and with every other model. Raises BadInput where
    the file is not a dvc.lock.
    """
    try:
        stages = YAML(typ="safe").load(lock.read_text(encoding="utf-8"))["stages"].items()
    except FileNotFoundError:
        return ""
    except (YAMLError, KeyError, TypeError, AttributeError):
        raise BadInput(f"{lock}: not a dvc.lock (no valid YAML, or without `stages`)") from None
    of_data = {f"validate@{dataset}", f"prepare@{dataset}"}  # a model may be called as data is, its own or other
    of_model = {f"{step}@{name}" for step in ("backbone", "train", "finetune", "evaluate")}
    led = {stage: entry for stage, entry in stages if stage in of_data | of_model}
    return sha256(json.dumps(led, sort_keys=True).encode()).hexdigest() if led else ""


def _evaluated(client: "MlflowClient", run: "Run", report: Path, metrics: Mapping[str, Any], data: Prepared) -> None:
    """What `evaluate` wrote, on the run: metrics, files, and the hash of the test rows that the scores are about."""
    from mlflow.entities import Metric

    written = sorted(path for path in report.glob("[!.]*") if path.name not in ("card.md", "verdict.json"))
    digest, run_id = files.digest(written, report), run.info.run_id
    notes.on_run(client, run, metrics, [path.name for path in written if path.suffix == ".png"])
    if run.data.tags.get("trainyard.evaluation") == digest:
        return
    client.set_tag(run_id, "trainyard.test", "")  # until the new scores are there they are about no rows
    for path in written:
        client.log_artifact(run_id, str(path), "evaluation")
    new = {key: value for key, value in _figures(metrics) if value is not None and run.data.metrics.get(key) != value}
    client.log_batch(run_id, metrics=[Metric(key, value, runs.now(), 0) for key, value in new.items()])
    client.set_tag(run_id, "trainyard.test", runs.data_digest(data.name, "test"))
    client.set_tag(run_id, "trainyard.evaluation", digest)


def _figures(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    """metrics.json by the names that MLflow shows: `test/accuracy`, `test/accuracy_low`, `naive/accuracy` ..."""
    intervals = {f"test/{name}": ends for name, ends in metrics["test"].items()}
    intervals |= {f"over_seeds/{name}": ends for name, ends in metrics.get("over_seeds", {}).items()}
    intervals |= {f"better_than/{which}": metrics[f"better_than_{which}"] for which in ("naive", "classical")}
    for place, ends in _slices(metrics):
        intervals[f"{place}/{OBJECTIVES[metrics['objective']].main}"] = ends
        yield f"{place}/examples", ends["examples"]
    for name, ends in intervals.items():
        yield from [(name, ends["value"]), (f"{name}_low", ends["low"]), (f"{name}_high", ends["high"])]
    for which in ("naive", "classical"):
        yield from ((f"{which}/{name}", value) for name, value in metrics[which].items() if name != "name")


def _slices(metrics: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each slice by a name that MLflow takes, `slice/label/malignant`; those that would have the same are numbered."""
    seen: Counter[str] = Counter()
    for column, values in metrics.get("slices", {}).items():
        for value, ends in values.items():
            place = "/".join(re.sub(r"[^\w.\- ]|^\.*$", "_", part)[:80] for part in (column, value))
            seen[place] += 1
            yield f"slice/{place}" + (f" {seen[place]}" if seen[place] > 1 else ""), ends


def _register(
    client: "MlflowClient", run: "Run", content: str, about: Mapping[str, Any], data: Prepared, more: Mapping[str, str]
) -> "ModelVersion":
    """A new version: it is there with its tags, or not at all."""
    from mlflow.exceptions import MlflowException

    name, logged = about["model"], _logged(client, run, content, about, data)
    source = f"models:/{logged}"
    tags = {
        **more,
        "trainyard.content": content,
        "trainyard.sha256": about["sha256"],
        "trainyard.told": client.get_logged_model(logged).tags.get("trainyard.told"),
        "trainyard.run": run.info.run_name,
        "trainyard.dvc_experiment": run.data.tags.get("DVC_EXP_NAME"),
        "trainyard.git_commit": run.data.tags.get("mlflow.source.git.commit"),
        "trainyard.data": run.data.tags.get("trainyard.data"),
        "trainyard.params": run.data.tags.get("trainyard.params"),
    }
    if not client.search_registered_models(f"name = '{name}'"):
        try:
            client.create_registered_model(name, {ledger.TAG: ledger.start(client, name)})
        except MlflowException as error:  # another machine was faster, and its ledger is the one
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    known = {key: value for key, value in tags.items() if value}
    with store.once():
        return client.create_model_version(name, source, run.info.run_id, known, model_id=logged)


def _made_again(client: "MlflowClient", version: "ModelVersion", tags: Mapping[str, str]) -> None:
    """A content that comes from other entries of dvc.lock too, or was evaluated on other rows, says so."""
    lock, test = tags["trainyard.dvc_lock"], tags["trainyard.test"]
    if lock and lock not in version.tags.values():
        client.set_model_version_tag(version.name, version.version, f"trainyard.dvc_lock.{lock[:8]}", lock)
    if version.tags.get("trainyard.test") != test:
        client.set_model_version_tag(version.name, version.version, "trainyard.test", test)


def _logged(client: "MlflowClient", run: "Run", content: str, about: Mapping[str, Any], data: Prepared) -> str:
    """The id of the run's logged model; what an earlier try left half done goes first."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    experiment, run_id = run.info.experiment_id, run.info.run_id
    for model in client.search_logged_models([experiment], f"source_run_id = '{run_id}'"):
        if model.status == LoggedModelStatus.READY:
            return str(model.model_id)
        client.delete_logged_model(model.model_id)
    with store.once():
        model = client.create_logged_model(experiment, about["model"], run_id, {"trainyard.content": content})
    with tempfile.TemporaryDirectory(prefix="trainyard-") as scratch:
        saved = pyfunc.save(Path(scratch), model.model_id, run_id, about, data)
        client.log_model_artifacts(model.model_id, str(saved))
        client.set_logged_model_tags(model.model_id, {"trainyard.told": pyfunc.told(saved / "artifacts")})
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    client.finalize_logged_model(model.model_id, "READY")
    return str(model.model_id)
