"""The device that trains, and how exactly it repeats itself."""

import logging
import os
import platform
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trainyard.errors import EnvironmentFailed
from trainyard.params import Training

DRIVER = Path("/proc/driver/nvidia/version")
SETUP = "run `make setup`, or install requirements/cpu.lock or gpu.lock"
NO_JAX = "training.engine is jax, but JAX is not installed (pip install 'jax[cuda13]', or 'jax')"
NO_GPU_OF_JAX = "training.device is gpu, but JAX sees none"

log = logging.getLogger(__name__)


def start(training: Training, seed: int) -> dict[str, str]:
    """Import Keras, choose the device (printed with its reason), seed everything; gives `described` of it.

    Raises EnvironmentFailed where TensorFlow is not installed; where params ask for a GPU and it is built without CUDA,
    there is none, or what is placed on it is computed elsewhere; and where they ask for more than there are.
    """
    chosen = choose(training, seed)
    if training.device == "gpu":
        placed(len(chosen))
    return described(chosen)


def choose(training: Training, seed: int) -> list[Any]:
    """As `start`, before TensorFlow computes anything; gives the GPUs that it may use, none for the CPU."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # else one process takes the memory of a GPU whole
    with quiet():
        try:
            import keras
            import tensorflow as tf
        except ModuleNotFoundError as error:
            raise EnvironmentFailed(f"{error.name} is not installed ({SETUP})") from error

        found = tf.config.list_physical_devices("GPU")
    by_others = training.engine == "jax" or training.distribute == "ray"  # which look for themselves
    if training.device == "gpu" and not found and not by_others:
        built = (
            "sees none" if tf.test.is_built_with_cuda() else "is a build without CUDA (install requirements/gpu.lock)"
        )
        raise EnvironmentFailed(f"training.device is gpu, but TensorFlow {built}")
    count = training.count or (len(found) if training.distribute == "mirrored" else 1)
    chosen = [] if training.device == "cpu" or training.distribute == "ray" else found[:count]
    if chosen and count > len(chosen):
        raise EnvironmentFailed(f"training.count is {count}, but TensorFlow sees {len(found)} GPU(s)")
    if chosen != found:
        tf.config.set_visible_devices(chosen, "GPU")
    if not chosen and training.distribute == "mirrored" and count > 1:
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    reason = (
        "as the workers of Ray choose their own"
        if training.distribute == "ray"
        else f"params ask for it ({training.device})"
        if training.device != "auto"
        else "there is one"
        if found
        else "there is no GPU"
    )
    log.info("device: %s, %s; determinism: %s", "gpu" if chosen else "cpu", reason, training.determinism)
    keras.utils.set_random_seed(seed)
    if training.determinism == "strict":
        tf.config.experimental.enable_op_determinism()
    return chosen


def placed(count: int) -> None:
    """Have each of so many GPUs compute something; raises EnvironmentFailed where it is computed elsewhere."""
    import tensorflow as tf

    soft = tf.config.get_soft_device_placement()  # with which TensorFlow would take the CPU, and say nothing
    tf.config.set_soft_device_placement(False)
    told = "training.device is gpu, but what is placed on GPU"
    try:
        for number in range(count):
            with tf.device(f"/GPU:{number}"):
                on = tf.linalg.matmul(tf.ones((2, 2)), tf.ones((2, 2))).device
            if not on.endswith(f"GPU:{number}"):
                raise EnvironmentFailed(f"{told} {number} is computed on {on.rpartition('device:')[2]}")
    except tf.errors.OpError as error:
        raise EnvironmentFailed(f"{told} {number} fails: {error.message.splitlines()[0]}") from error
    finally:
        tf.config.set_soft_device_placement(soft)


def described(gpus: Sequence[Any]) -> dict[str, str]:
    """What computes with TensorFlow, as tags of a run: device, driver of the GPUs, and build."""
    import tensorflow as tf

    built = tf.sysconfig.get_build_info()
    cuda = f"CUDA {built['cuda_version']}, cuDNN {built['cudnn_version']}" if built["is_cuda_build"] else "without CUDA"
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus]
    return {
        "trainyard.device": ", ".join(names) or _processor(),
        "trainyard.build": f"TensorFlow {tf.__version__}, {cuda}",
        **(driver() if gpus else {}),
    }


def driver() -> dict[str, str]:
    """The driver of NVIDIA's GPUs, as a tag of a run; nothing where the system does not tell."""
    found = re.search(r"\d+(\.\d+)+", DRIVER.read_text(encoding="utf-8")) if DRIVER.exists() else None
    return {"trainyard.driver": found[0]} if found else {}


def _processor() -> str:
    told = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", told.read_text(encoding="utf-8")) if told.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def start_alone(training: Training, seed: int) -> str:
    """Choose engine and device of a process that needs no TensorFlow beside JAX; gives the engine.

    Raises EnvironmentFailed where JAX or the GPU is asked for and not there.
    """
    if training.engine == "tensorflow" or (training.engine == "auto" and not gpu_of_jax_alone(training)):
        start(training, seed)
        return "tensorflow"
    os.environ.update(environment_of_jax(training))
    if find_spec("jax") is None:
        raise EnvironmentFailed(NO_JAX)
    import jax
    import keras

    device = jax.devices()[0]
    if training.device == "gpu" and device.platform == "cpu":
        raise EnvironmentFailed(NO_GPU_OF_JAX)
    log.info("engine: jax %s on %s; determinism: %s", jax.__version__, device.device_kind, training.determinism)
    keras.utils.set_random_seed(seed)
    return "jax"


def environment_of_jax(training: Training) -> dict[str, str]:
    """What the environment of a process in which JAX computes must say, before JAX is imported."""
    chosen = {"KERAS_BACKEND": "jax"}
    if training.device == "cpu":
        chosen["JAX_PLATFORMS"] = "cpu"
    if training.determinism == "strict":
        chosen["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true"
    return chosen


def gpu_of_jax_alone(training: Training) -> bool:
    """Whether JAX has a GPU that may be used, and TensorFlow has none."""
    if training.device == "cpu" or not entry_points(group="jax_plugins"):
        return False
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")


@contextmanager
def quiet() -> Iterator[None]:
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
