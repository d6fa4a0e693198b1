"""The model as the registry holds it: raw rows in, answers out. MLflow stores this file and runs it to load the model.

It comes with a copy of the package's code, and with model.keras and model.json, whose SHA-256 is checked before Keras
reads anything. Nothing is pickled.
"""

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from pydantic import TypeAdapter

from trainyard import files, kinds
from trainyard.params import AnyDataset
from trainyard.quality.evaluation import named_answers
from trainyard.quality.objectives import OBJECTIVES


class RawRows(PythonModel):
    """Answers raw rows, texts, images, recordings, or windows of a series: what `kinds.KIND.decode` takes."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the model; raises BadInput where the file is not the one that was trained."""
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        from trainyard.models import saved

        self.about = files.read_json(Path(context.artifacts["about"]))
        self.spec = TypeAdapter(AnyDataset).validate_json(json.dumps(self.about["spec"]))
        self.model = saved.load(Path(context.artifacts["keras"]), self.about["sha256"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """The answers with the columns of scores.csv, indexed by row, or by time where a row ends a whole window."""
        from trainyard.models import saved

        raw, names = kinds.of(self.spec).decode(self.spec, self.about["facts"], model_input)
        answer = saved.answers(self.model, self.about, raw)
        return pd.DataFrame(
            named_answers(OBJECTIVES[self.about["objective"]], self.about["classes"], answer), index=names
        )


set_model(RawRows())
