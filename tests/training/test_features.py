"""Features and what is learnt of them: what is refused, and what each example weighs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from contracts.samples import prepared

from trainyard.errors import BadInput
from trainyard.kinds import Examples
from trainyard.params import MLP, RNN
from trainyard.training import features


def block(**knobs):
    return MLP(**{"family": "mlp", "dataset": "sample", **knobs})


def test_recordings_too_short_for_their_transcripts_are_refused():
    examples = Examples({}, np.array(["no", "all"]), pd.DataFrame(index=["a.wav", "b.wav"]))
    frames = np.zeros((2, 9, 4), np.float32)
    frames[0, :8], frames[1, :7] = 1, 1
    letters = np.array([[1, 2, 0], [3, 4, 4]])

    def ask(**knobs):
        spec = RNN(family="rnn", dataset="d", filters=[2], **knobs)
        return features.lengths(spec, Path("calls"), examples, frames, letters)

    assert ask(stride=2).tolist() == [8, 7]  # "all" takes four: a blank divides its two l
    with pytest.raises(BadInput, match=r"^calls/b\.wav: 3 steps for 3 letters; 1 such recording\(s\) \(lower the"):
        ask(stride=3)
    frames[1] = 0
    with pytest.raises(BadInput, match="0 steps"):
        ask()


def test_class_weights_are_those_of_scikit_learn(tmp_path):
    from sklearn.utils.class_weight import compute_sample_weight

    tables = prepared(tmp_path, "tables", "binary")
    learnt = tables.train.target[:, None].astype(np.float32)
    found = features.weights(block(class_weight="balanced"), tables, learnt)
    np.testing.assert_allclose(found, compute_sample_weight("balanced", tables.train.target), rtol=1e-6)
    assert features.weights(block(), tables, learnt) is None
    with pytest.raises(BadInput, match="no class `2`"):
        features.weights(block(class_weight={"2": 3.0}), tables, learnt)


def test_smoothed_labels_weigh_as_their_classes(tmp_path):
    tables = prepared(tmp_path, "tables", "binary")
    spec = block(class_weight={tables.classes[0]: 0.5, tables.classes[1]: 3.0})
    assert features.weights(spec, tables, np.float32([[0.95], [0.05]])).tolist() == [3.0, 0.5]


def test_class_weights_go_by_name_where_classes_are_one_hot(tmp_path):
    tables = prepared(tmp_path, "tables", "multiclass")
    one_hot = np.eye(3, dtype=np.float32)[[2, 0, 1]]
    found = features.weights(block(class_weight={tables.classes[2]: 5.0, tables.classes[0]: 0.5}), tables, one_hot)
    assert found.tolist() == [5.0, 0.5, 1.0]
