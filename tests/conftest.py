"""What all tests share: properties that draw the same examples in every run, and a quiet Keras."""

import os
import sys

import browsing
import pytest
from hypothesis import settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

settings.register_profile("same", derandomize=True, database=None, deadline=None, max_examples=30)
settings.load_profile("same")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def browser(tmp_path_factory):
    with browsing.opened(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(autouse=True)
def _as_shipped():
    """A test that asks TensorFlow for deterministic operations asks for itself alone."""
    yield
    if "tensorflow" in sys.modules:
        from tensorflow.python.framework.config import disable_op_determinism

        disable_op_determinism()
