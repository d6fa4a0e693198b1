"""The device: what is asked for and not there is refused before anything trains."""

import pytest

from trainyard.errors import EnvironmentFailed
from trainyard.params import Training
from trainyard.training import device


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    with pytest.raises(EnvironmentFailed, match="device is gpu"):
        device.start(Training(device="gpu"), 1)


def test_the_choice_is_told_with_its_reason(monkeypatch, caplog):
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    with caplog.at_level("INFO"):
        assert device.start(Training(determinism="fast"), 1) == "cpu"
    assert "device: cpu, there is no GPU" in caplog.text
