"""The device that trains, and how exactly it repeats itself."""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from trainyard.errors import EnvironmentFailed
from trainyard.params import Training

log = logging.getLogger(__name__)


def start(training: Training, seed: int) -> str:
    """Import Keras, choose the device (printed with its reason), seed everything; gives `cpu` or `gpu`.

    Raises EnvironmentFailed where params ask for a GPU and there is none.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _quiet():
        import keras
        import tensorflow as tf

        found = tf.config.list_physical_devices("GPU")
    if training.device == "gpu" and not found and training.engine != "jax":
        built = (
            "sees none" if tf.test.is_built_with_cuda() else "is a build without CUDA (install requirements/gpu.lock)"
        )
        raise EnvironmentFailed(f"training.device is gpu, but TensorFlow {built}")
    if training.device == "cpu":
        tf.config.set_visible_devices([], "GPU")
    device = "gpu" if found and training.device != "cpu" else "cpu"
    reason = (
        f"params ask for it ({training.device})"
        if training.device != "auto"
        else "there is one"
        if found
        else "there is no GPU"
    )
    log.info("device: %s, %s; determinism: %s", device, reason, training.determinism)
    keras.utils.set_random_seed(seed)
    if training.determinism == "strict":
        tf.config.experimental.enable_op_determinism()
    return device


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep TensorFlow's start-up lines, which its C++ writes past Python, off the terminal; an error shows them."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as noise:
        os.dup2(noise.fileno(), 2)
        try:
            yield
        except BaseException:
            noise.seek(0)
            os.write(kept, noise.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
