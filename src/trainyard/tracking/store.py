"""Where MLflow keeps runs and models: the server that MLFLOW_TRACKING_URI names, else a database in the project."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from trainyard import files
from trainyard.errors import EnvironmentFailed

if TYPE_CHECKING:
    from mlflow import MlflowClient

HOME = Path("mlruns")
SQLITE = "sqlite:///"

NOTE, KIND = "mlflow.note.content", "mlflow.experimentKind"
"""Tags of MLflow's pages: a description in Markdown, and which pages an experiment has."""

DEFAULTS = {
    "GIT_PYTHON_REFRESH": "quiet",  # a machine without git is not worth a word
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # MLflow's own 7 wait four minutes for a server that is down
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # of `ui`: eight processes that wait for jobs of language models
}
"""What the user may set otherwise; MLflow reads some of it when it is imported."""

FIRST_CALL = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "4"}
"""The first call asks whether anybody is there at all: 9 seconds at most."""


def uri() -> str:
    """The tracking URI. Raises EnvironmentFailed for a folder: MLflow has retired its file store."""
    named = os.environ.get("MLFLOW_TRACKING_URI")
    if not named:
        return f"{SQLITE}{(HOME / 'mlflow.db').absolute().as_posix()}"
    if named.startswith("file:") or ("://" not in named and named != "databricks"):
        raise EnvironmentFailed(
            f"MLFLOW_TRACKING_URI names a folder, {named} (expected http://HOST:PORT or sqlite:///FILE)"
        )
    return named


@contextmanager
def connected() -> Iterator["MlflowClient"]:
    """A client of a store that answers, which MLflow's own functions use too; a database that is not there is made.

    Raises EnvironmentFailed in one line where nobody answers, or no longer does while the block runs.
    """
    address = uri()
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = (
        "false"  # our models hold none, and a foreign one must not run code
    )
    import mlflow
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it tells of every retry
    try:
        if address.startswith(SQLITE):
            _create(address)
        with _current(address):
            client = mlflow.MlflowClient(address, address)
            with _environment(FIRST_CALL):
                client.search_experiments(max_results=1)
            yield client
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise EnvironmentFailed(f"MLflow at {public(address)}: {' '.join(str(error).split())[:300]}") from error


def experiment(client: "MlflowClient", dataset: str, note: str = "") -> str:
    """The id of a dataset's experiment; one that is not there is made, one that was deleted is brought back.

    A new one is shown as one of trained models, not of prompts, with a note.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(dataset)
    if found is None:
        try:
            tags = {KIND: "custom_model_development", **({NOTE: note} if note else {})}
            return client.create_experiment(dataset, _artifacts(uri()), tags)
        except MlflowException:  # another process may have been faster
            found = client.get_experiment_by_name(dataset)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def once() -> AbstractContextManager[None]:
    """Within, what MLflow makes it makes once: where an answer is lost it would ask again, and there would be two."""
    return _environment({"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"})


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """One process at a time; raises EnvironmentFailed after two minutes of waiting."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=120):
            yield
    except Timeout:
        raise EnvironmentFailed(f"{path}: another process has held it for two minutes") from None


def _create(address: str) -> None:
    """Make the database beside its place, so that it is whole or not there however many processes start at once."""
    database = Path(address.removeprefix(SQLITE)).absolute()
    if database.exists():
        return
    with lock(database.with_suffix(".lock")):
        if database.exists():
            return
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        with files.replacing(database) as draft:
            SqlAlchemyStore(f"{SQLITE}{draft.as_posix()}", _artifacts(address)).engine.dispose()  # type: ignore[no-untyped-call]


def _artifacts(address: str) -> str | None:
    """Where artifacts lie beside a database, absolute, whatever the working folder; a server knows its own."""
    if address.startswith(SQLITE):
        return (Path(address.removeprefix(SQLITE)).absolute().parent / "artifacts").as_uri()
    return None if address.startswith(("http", "databricks")) else (HOME / "artifacts").absolute().as_uri()


@contextmanager
def _current(address: str) -> Iterator[None]:
    """Some of what a client does asks MLflow's current URI, which MLflow keeps in the environment as well."""
    import mlflow

    with _environment({"MLFLOW_TRACKING_URI": address}):
        mlflow.set_tracking_uri(address)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # back to what the environment says


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def public(address: str) -> str:
    """An address without the name and the password that it may hold."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else address
