"""A model as MLflow keeps it: model.py with a copy of the code, model.keras and a schema; and how one is asked."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pydantic import TypeAdapter

import trainyard
from trainyard import files
from trainyard.arrays import Array
from trainyard.errors import BadInput
from trainyard.kinds import Prepared
from trainyard.params import AnyDataset
from trainyard.quality import intervals
from trainyard.quality.evaluation import named_answers
from trainyard.tracking import raw

if TYPE_CHECKING:
    from mlflow.types import DataType
    from mlflow.types.schema import AnyType


REQUIRED = (
    "keras",
    "matplotlib",
    "numpy",
    "pandas",
    "pillow",
    "pydantic",
    "ruamel-yaml",
    "scipy",
    "soundfile",
    "tensorflow",
    "tensorflow-cpu",
)
"""What a model needs where it is served, in the versions that are installed here; of TensorFlow either is."""


def save(scratch: Path, model_id: str, run_id: str, about: Mapping[str, Any], data: Prepared) -> Path:
    """Write the folder that MLflow takes, below `scratch`; Keras is not imported."""
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import AnyType

    sample = raw.reader(data.spec, data.facts)(data.test.rows.index[:2])
    columns = [ColSpec(_type(sample[name]), str(name)) for name in sample]
    columns += [ColSpec(AnyType(), name, required=False) for name in getattr(data.spec, "where", ())]  # type: ignore[no-untyped-call]
    inputs = Schema([*columns])
    outputs = Schema([ColSpec(_answered(data), name) for name in _columns(data)])
    code, folder = scratch / "trainyard", Path("models") / about["model"]
    files.write_json(scratch / "golden.json", golden(data, sample, Path("reports/models") / about["model"]))
    shutil.copytree(Path(trainyard.__file__).parent, code, ignore=_all_but_python)
    pyfunc.save_model(
        str(scratch / "model"),
        python_model=str(code / "tracking" / "model.py"),
        code_paths=[str(code)],
        artifacts={
            "keras": str(folder / "model.keras"),
            "about": str(folder / "model.json"),
            "golden": str(scratch / "golden.json"),
        },
        pip_requirements=list(_requirements()),
        signature=ModelSignature(inputs, outputs),
        input_example=sample.reset_index(drop=True),
        mlflow_model=Model(model_id=model_id, run_id=run_id),
    )
    return scratch / "model"


def golden(data: Prepared, rows: pd.DataFrame, report: Path) -> dict[str, Any]:
    """A question whose answers are known, and how far answers were off: what proves a model where it is served.

    `answers` are those of scores.csv to the raw `rows`, each with its example; `within` tells by answer how far 95% of
    new truths are from it at most, of answers that are numbers. Both are empty where scores.csv is not there.
    """
    found: dict[str, Any] = {"rows": raw.as_json(rows), "answers": [], "within": {}}
    if (report / "scores.csv").is_file():
        scores = pd.read_csv(report / "scores.csv", index_col="example", dtype={"example": str})
        known = scores.loc[rows.index.intersection(scores.index), _columns(data)]
        found["answers"] = known.reset_index(names="example").to_dict("records")
        for name in _columns(data) if data.objective.name in ("regression", "forecast") else []:
            width = intervals.half_width(scores[name.replace("answer", "target")] - scores[name])
            found["within"] |= {name: width} if width is not None else {}
    return found


def told(folder: Path) -> str:
    """Hash of what says how a model is asked and what it answers: model.json and golden.json."""
    return files.digest([folder / "model.json", folder / "golden.json"], folder)


def answers(folder: Path, data: Prepared) -> Array:
    """What the model in `folder` answers to the test rows of `data`, which it reads in its own way.

    Raises BadInput where it cannot: its classes, its columns or its windows are others.
    """
    about = files.read_json(folder / "artifacts" / "model.json")
    if set(about["classes"]) != set(data.classes):
        raise BadInput(f"its classes are {', '.join(about['classes'])}, here they are {', '.join(data.classes)}")
    examples = data.test.rows.index
    found = named_answers_to(folder, data.spec.path, examples)
    if len(lacking := examples.difference(found.index)):
        raise BadInput(f"it has no answer for {len(lacking)} of {len(examples)} test rows, first {lacking[0]}")
    if lacks := [name for name in _columns(data) if name not in found]:
        raise BadInput(f"it does not answer these rows: it has no `{lacks[0]}`")
    told = found.loc[examples, _columns(data)]
    if data.objective.name == "transcription":
        return told["answer"].to_numpy(object)
    answer = told.to_numpy(np.float64)
    return answer[:, 1:] if data.objective.name == "binary" else answer


def named_answers_to(folder: Path, path: str, examples: pd.Index) -> pd.DataFrame:
    """What the model in `folder` answers to examples of the data at `path`, those that it has an answer to.

    The columns are those of `named_answers`. Raises BadInput where it cannot read them.
    """
    from mlflow import pyfunc

    about = files.read_json(folder / "artifacts" / "model.json")
    try:
        spec = TypeAdapter(AnyDataset).validate_json(json.dumps({**about["spec"], "path": path}))
        read, model = raw.reader(spec, about["facts"]), pyfunc.load_model(str(folder))
        parts = [model.predict(read(examples[start : start + 1024])) for start in range(0, len(examples), 1024)]
        found = pd.concat(parts)
    except BadInput:
        raise
    except Exception as error:  # an old model, with code and columns of its day, can fail in any way
        raise BadInput(f"it does not answer these rows: {' '.join(str(error).split())[:200]}") from error
    return found[~found.index.duplicated()]


def _columns(data: Prepared) -> list[str]:
    return list(named_answers(data.objective, data.classes, np.zeros((1, data.units))))


def _answered(data: Prepared) -> "DataType":
    from mlflow.types import DataType

    return DataType.string if data.objective.name == "transcription" else DataType.float


def _type(column: "pd.Series[Any]") -> "DataType | AnyType":
    """Any, but for images: MLflow takes no int64 for a number or a text, which pandas reads; `decode` checks."""
    from mlflow.types import DataType
    from mlflow.types.schema import AnyType

    return DataType.binary if isinstance(column.iloc[0], bytes) else AnyType()  # type: ignore[no-untyped-call]


def _all_but_python(folder: str, names: list[str]) -> list[str]:
    """Weights and templates are not needed for an answer."""
    return [name for name in names if not name.endswith(".py") and not Path(folder, name).is_dir()]


def _requirements() -> Iterator[str]:
    for name in REQUIRED:
        with suppress(metadata.PackageNotFoundError):
            yield f"{name}=={metadata.version(name)}"
