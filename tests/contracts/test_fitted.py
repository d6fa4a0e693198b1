"""What is fitted before training knows the training split alone: whatever the other examples are, it is the same bits.

Classes and letters are facts of the whole data, as a head has a unit for each and a class that training does not see is
refused; so are the categories of a column, which only tell what `decode` has ever seen.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from PIL import Image

from contracts.samples import SAMPLES
from contracts.test_families import KINDS
from trainyard import kinds
from trainyard.kinds import tables
from trainyard.models import saved

CASES = [(kind, objective) for kind, spec in KINDS.items() for objective in spec.objectives]


def fitted(spec, manifest, splits, build):
    """All that comes of preprocessing: its layers with their weights, what training examples become, what is learnt."""
    import keras

    keras.backend.clear_session()  # or layers would be numbered on
    (build / "sample").mkdir(parents=True)
    kinds.write_prepared(spec, manifest, splits, build / "sample")
    data = kinds.open_prepared("sample", spec, build)
    preprocessing = kinds.of(spec).preprocessing(spec, data.facts, data.train)
    model, output = preprocessing.model(), keras.Input(data.train.target.shape[1:] or (1,), name="output")
    answer = keras.Model([*preprocessing.inputs.values(), output], preprocessing.answer(output))
    told = [json.dumps(part.get_config(), default=str) for part in (model, answer)]
    values = [*model.get_weights(), saved.predict(model, data.train.raw), preprocessing.learns(data.train)]
    return told, [np.asarray(value).tobytes() for value in values]


def change_cells(path, rows):
    """Other numbers, texts and categories in these rows of a CSV file; time and classes stay."""
    frame = pd.read_csv(path, keep_default_na=False)
    numbered = pd.Index(frame.index + 2).isin(rows)
    for column in frame.columns.difference(["day", "place"]):
        if column == "said":
            frame.loc[numbered, column] = "Nebel über dem Meer " + frame.loc[numbered, column].str[::-1]
        elif pd.to_numeric(frame[column], errors="coerce").notna().any() and column != "answer":
            frame[column] = pd.to_numeric(frame[column], errors="coerce").where(~numbered, 70 + 9.0 * len(frame))
        elif column == "answer" and pd.api.types.is_float_dtype(frame[column]):
            frame.loc[numbered, column] *= 9
        elif column != "answer":
            frame.loc[numbered, column] = "ultramarine"
    frame.to_csv(path, index=False)


def change_others(spec, manifest, splits):
    """Every example of validation and test, in the user's own files."""
    others = manifest.index[splits != "train"]
    if spec.kind == "images":
        for example in others:
            pixels = np.asarray(Image.open(Path(spec.path) / example))
            Image.fromarray(255 - pixels).save(Path(spec.path) / example)
    elif spec.kind == "speech":
        rng = np.random.default_rng(1)
        for example in others:
            sound, rate = soundfile.read(Path(spec.path) / example)
            soundfile.write(Path(spec.path) / example, rng.normal(0, 0.2, len(sound)), rate)
    else:
        change_cells(spec.path, manifest["row"][others].astype(int) if spec.kind == "series" else others)


def before_and_after(folder, kind, objective):
    spec = SAMPLES[kind](folder, objective)
    manifest = kinds.of(spec).manifest(spec)
    splits = kinds.of(spec).split(spec, manifest, 1)
    before = fitted(spec, manifest, splits, folder / "before")
    change_others(spec, manifest, splits)
    changed = kinds.of(spec).manifest(spec)
    compared = [column for column in manifest if column not in ("label", "time", "row")]
    assert not changed.loc[splits != "train", compared].equals(manifest.loc[splits != "train", compared])
    return before, fitted(spec, changed, splits, folder / "after")


@pytest.mark.parametrize(("kind", "objective"), CASES)
def test_preprocessing_knows_the_training_split_alone(tmp_path, kind, objective):
    before, after = before_and_after(tmp_path, kind, objective)
    assert before == after


def test_a_scaler_that_is_fitted_on_all_rows_is_caught(tmp_path, monkeypatch):
    """As scikit-learn's guide warns of: the mean of the whole table, handed on with the facts."""
    right = tables.preprocessing, tables.facts

    def preprocessing(spec, facts, train):
        from keras import layers

        made = right[0](spec, facts, train)
        return kinds.Preprocessing(made.inputs, layers.Rescaling(1.0, -facts["mean"], name="all")(made.features))

    monkeypatch.setattr(tables, "facts", lambda spec, rows: right[1](spec, rows) | {"mean": float(rows["size"].mean())})
    monkeypatch.setattr(tables, "preprocessing", preprocessing)
    before, after = before_and_after(tmp_path, "tables", "binary")
    assert before != after
