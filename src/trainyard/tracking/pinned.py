"""A version of the registry, pinned: its files lie here, whatever becomes of the registry and its aliases."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from trainyard import files
from trainyard.errors import BadInput
from trainyard.tracking import promotion, pyfunc, raw, registry, store

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Pinned:
    """Where a version lies, and by what it is known."""

    model: str
    version: str
    content: str
    """Hash of the models/MODEL that was registered."""
    sha256: str
    """Of model.keras."""
    told: str
    """Hash of what is told of it, model.json and golden.json."""
    folder: Path
    """With model.keras, model.json, and golden.json (`pyfunc.golden`)."""

    def refuse_changed(self) -> None:
        """Raises BadInput where model.json or golden.json is not as it was pinned; `saved.load` holds model.keras."""
        if pyfunc.told(self.folder) != self.told:
            raise BadInput(f"{self.model}: version {self.version}: model.json or golden.json is not as it was pinned")


def pin(asked: str, place: Path, aliases: Sequence[str] = ("champion",)) -> Pinned:
    """Fetch the version that NAME@ALIAS, NAME/VERSION or NAME (by `aliases`) names to a folder below `place`.

    Raises BadInput where there is none, trainyard has not made it, its files are gone, or are not those that were
    registered (of versions of before there was a tag for them: model.keras is not); EnvironmentFailed where MLflow does
    not answer.
    """
    with store.connected() as client, tempfile.TemporaryDirectory(prefix="trainyard-") as scratch:
        from mlflow import artifacts
        from mlflow.exceptions import MlflowException
        from mlflow.models import Model

        version = promotion.named(client, asked, aliases)
        mine = registry.registered(version)
        where = f"{mine.model}: version {mine.version} of the registry"
        if not mine.content:
            raise BadInput(f"{where}: trainyard has not made it")
        try:
            fetched = Path(artifacts.download_artifacts(mine.uri, dst_path=scratch))
            about = files.read_json(fetched / "artifacts" / "model.json")
            found = files.sha256(fetched / "artifacts" / "model.keras")
        except (MlflowException, OSError, BadInput) as error:
            if isinstance(error, MlflowException) and error.error_code == "INTERNAL_ERROR":
                raise
            raise BadInput(f"{where}: its files are gone (name another: {mine.model}/VERSION)") from None
        if found != version.tags.get("trainyard.sha256", about["sha256"]):
            raise BadInput(f"{where}: its file is not the one that was registered (SHA-256 {found[:12]}…)")
        folder = place / f"{mine.model}-{mine.version}-{mine.content[:8]}"
        with files.replacing_folder(folder) as draft:
            for name in ("model.keras", "model.json"):
                shutil.copy(fetched / "artifacts" / name, draft / name)
            golden = fetched / "artifacts" / "golden.json"
            if golden.is_file():
                shutil.copy(golden, draft / "golden.json")
            else:  # registered before there was one
                rows = raw.as_json(cast("pd.DataFrame", Model.load(str(fetched)).load_input_example(str(fetched))))
                files.write_json(draft / "golden.json", {"rows": rows, "answers": [], "within": {}})
            told = pyfunc.told(draft)
            if told != version.tags.get("trainyard.told", told):
                raise BadInput(f"{where}: its model.json or golden.json is not the one that was registered")
    return Pinned(mine.model, mine.version, mine.content, found, told, folder)
