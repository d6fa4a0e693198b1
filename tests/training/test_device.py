"""The device: what is asked for and not there is refused before anything trains."""

import os
import re
import subprocess
import sys

import pytest
from contracts.samples import prepared

from trainyard import cli
from trainyard.errors import EnvironmentFailed
from trainyard.params import Training
from trainyard.training import device


@pytest.fixture
def machine(monkeypatch):
    """A machine with other GPUs than this one, and TensorFlow built as the test says."""
    import tensorflow as tf

    def has(gpus, cuda):
        found = [tf.config.PhysicalDevice(f"/physical_device:GPU:{number}", "GPU") for number in range(gpus)]
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: found)
        monkeypatch.setattr(tf.test, "is_built_with_cuda", lambda: cuda)
        return found

    return has


NO_GPU = [
    (0, False, "error: training.device is gpu, but TensorFlow is a build without CUDA (install requirements/gpu.lock)"),
    (0, True, "error: training.device is gpu, but TensorFlow sees none"),
    (1, True, "error: training.device is gpu, but what is placed on GPU "),
]
PARAMS = """
datasets: {sample: {kind: tables, path: table.csv, target: answer, objective: binary}}
train: {m: {family: mlp, dataset: sample}}
evaluate: {m: {dataset: sample}}
training: {device: gpu, determinism: fast}
"""


@pytest.mark.parametrize(("gpus", "cuda", "told"), NO_GPU, ids=["without CUDA", "none", "not placed"])
def test_a_gpu_that_cannot_be_had_ends_the_stage_with_exit_code_5(here, machine, monkeypatch, capsys, gpus, cuda, told):
    prepared(here, "tables", "binary")
    (here / "params.yaml").write_text(PARAMS)
    monkeypatch.setattr(device, "placed", lambda count, check=device.placed: check(64 * count))  # more than any has
    machine(gpus, cuda)
    assert cli.main(["train", "m"]) == 5
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.startswith(told)
    assert not (here / "models").exists()


@pytest.mark.parametrize("package", ["tensorflow", "keras"])
def test_without_tensorflow_a_line_says_what_to_install(package):
    program = f"""
import sys
sys.modules["{package}"] = None
from trainyard.params import Training
from trainyard.training import device
device.start(Training(), 1)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    told = rf".*EnvironmentFailed: {package}(\.python)? is not installed \(run `make setup`"
    assert re.match(told, done.stderr.splitlines()[-1])


def test_what_is_placed_on_a_gpu_and_computed_on_the_cpu_is_refused(monkeypatch):
    """TensorFlow as it is, with soft placement, says nothing of it."""
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "set_soft_device_placement", lambda enabled: None)
    with pytest.raises(EnvironmentFailed, match=r"what is placed on GPU \d+ is computed on CPU:0"):
        device.placed(64)
    assert tf.config.get_soft_device_placement()


def test_soft_placement_comes_back():
    import tensorflow as tf

    before = tf.config.get_soft_device_placement()
    with pytest.raises(EnvironmentFailed):
        device.placed(64)
    assert tf.config.get_soft_device_placement() == before


@pytest.mark.parametrize("asked", ["auto", "gpu"])
def test_more_gpus_than_there_are_are_refused(machine, asked):
    machine(2, cuda=True)
    with pytest.raises(EnvironmentFailed, match=r"training.count is 3, but TensorFlow sees 2 GPU\(s\)"):
        device.start(Training(device=asked, distribute="mirrored", count=3), 1)


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        ({"device": "gpu"}, 1),
        ({"device": "cpu"}, 0),
        ({"distribute": "mirrored"}, 3),
        ({"distribute": "mirrored", "count": 2}, 2),
        ({"distribute": "ray", "device": "gpu", "count": 8}, 0),
    ],
)
def test_a_training_takes_the_gpus_that_it_can_use(machine, monkeypatch, asked, taken):
    """The workers of Ray take theirs themselves, and would find the memory of one full that this process has."""
    import tensorflow as tf

    found, visible = machine(3, cuda=True), []
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda devices, kind: visible.append(devices))
    assert device.choose(Training(determinism="fast", **asked), 1) == found[:taken]
    assert visible == ([] if taken == 3 else [found[:taken]])


@pytest.mark.parametrize(("set_before", "after"), [(None, "true"), ("false", "false")])
def test_of_a_gpu_no_more_memory_is_taken_than_is_needed_unless_one_says_so(monkeypatch, set_before, after):
    monkeypatch.setattr(device.os, "environ", {"TF_FORCE_GPU_ALLOW_GROWTH": set_before} if set_before else {})
    device.choose(Training(determinism="fast"), 1)
    assert device.os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == after


def test_the_choice_is_told_with_its_reason(machine, caplog):
    machine(0, cuda=False)
    with caplog.at_level("INFO"):
        used = device.start(Training(determinism="fast"), 1)
    assert "device: cpu, there is no GPU" in caplog.text
    assert used.keys() == {"trainyard.device", "trainyard.build"}


def test_a_gpu_is_told_by_its_name_driver_and_build(machine, monkeypatch, tmp_path):
    import tensorflow as tf

    built = {"is_cuda_build": True, "cuda_version": "12.5.1", "cudnn_version": "9"}
    monkeypatch.setattr(tf.sysconfig, "get_build_info", lambda: built)
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda gpu: {"device_name": f"Tesla {gpu.name[-1]}"}
    )
    monkeypatch.setattr(device, "DRIVER", tmp_path / "version")
    device.DRIVER.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023\n"
    )
    assert device.described(machine(2, cuda=True)) == {
        "trainyard.device": "Tesla 0, Tesla 1",
        "trainyard.driver": "535.129.03",
        "trainyard.build": f"TensorFlow {tf.__version__}, CUDA 12.5.1, cuDNN 9",
    }


@pytest.mark.parametrize("determinism", ["strict", "fast"])
def test_a_process_of_jax_alone_repeats_itself_where_params_ask_for_it(determinism):
    """In a process of its own: JAX reads the flags once."""
    pytest.importorskip("jax")
    program = f"""
import os
from trainyard.params import Training
from trainyard.training import device
assert device.start_alone(Training(engine="jax", device="cpu", determinism="{determinism}"), 1) == "jax"
print(os.environ["KERAS_BACKEND"], os.environ["JAX_PLATFORMS"], os.environ.get("XLA_FLAGS", ""))
"""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["jax", "cpu", *["--xla_gpu_deterministic_ops=true"] * (determinism == "strict")]
