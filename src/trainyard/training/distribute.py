"""Distribution: the devices that share each batch of a training, on this machine or, by Ray Train, on many.

The fit is the one of a single device in the scope of a strategy of TensorFlow. By Ray a core goes over to the workers
as it does to another engine, as numbers in a folder that all of them see. Rank 0 keeps the state that an interrupted
training goes on from: where a worker is lost, all are started anew and go on after the last epoch that was kept.
"""

import logging
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import tensorflow as tf

from trainyard.arrays import Array
from trainyard.errors import EnvironmentFailed, TrainingFailed
from trainyard.params import Training
from trainyard.training import device, engine
from trainyard.training.fit import Fit, OnEpoch, fit, remade
from trainyard.training.resume import Resume

if TYPE_CHECKING:
    from ray.util.queue import Queue

LOST = 3
"""Times that workers are started anew before a training is given up."""
LOCAL: dict[str, Any] = {"object_store_memory": 2**27, "include_dashboard": False}
"""A Ray of this machine alone: small, as no data goes through it."""

log = logging.getLogger(__name__)


def of(training: Training, used: dict[str, str]) -> Fit:
    """The fit by the engine, and by as many devices, as params ask for; printed with its reason.

    What another process computes on replaces what is in `used`, the tags of a run. Raises EnvironmentFailed where JAX
    or Ray is asked for and not installed.
    """
    learns = engine.of(training, used)
    if training.distribute == "none":
        return learns
    if training.distribute == "ray":
        if find_spec("ray") is None:
            raise EnvironmentFailed("training.distribute is ray, but Ray is not installed (pip install '.[ray]')")
        log.info("distribute: by Ray, params ask for it")
        return remade(_synchronized, partial(engine.elsewhere, training, partial(_taught_by_ray, training, used)))
    devices = [each.name for each in tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")]
    count = training.count or len(devices)
    if count == 1:
        log.info("distribute: not at all, as there is one device alone")
        return learns
    log.info("distribute: mirrored on %d devices, params ask for it", count)
    return partial(_fit_in_mirrors, devices, count)


def connected(strategy: tf.distribute.Strategy, count: int) -> None:
    """Raises EnvironmentFailed where not so many devices share each batch: each would train a model of its own."""
    if strategy.num_replicas_in_sync != count:
        told = f"{count} devices are to share each batch, but {strategy.num_replicas_in_sync} of them found each other"
        raise EnvironmentFailed(f"training.distribute: {told}")


def _fit_in_mirrors(devices: list[str], count: int, *arguments: Any, **more: Any) -> pd.DataFrame:
    """As `fit`."""
    strategy = tf.distribute.MirroredStrategy(devices)
    connected(strategy, count)
    with strategy.scope():
        return remade(_synchronized, fit)(*arguments, **more)


def _synchronized(config: Any) -> Any:
    """The config of a core in which batch normalisation counts the whole batch, not the share of one device."""
    if isinstance(config, list):
        return [_synchronized(part) for part in config]
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "BatchNormalization":
        return {**config, "config": {**config["config"], "synchronized": True}}
    return {key: _synchronized(part) for key, part in config.items()}


# === Ray: the process that asks for a training ===


def _taught_by_ray(how: Training, used: dict[str, str], folder: Path, on_epoch: OnEpoch) -> pd.DataFrame | None:
    with _ray():
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.tensorflow import TensorflowTrainer
        from ray.util.queue import Queue

        count, kind = _workers(how)
        log.info("Ray: %d worker(s) with a %s each", count, kind)
        told = Queue(actor_options={"num_cpus": 0})
        trainer = TensorflowTrainer(
            _work,
            train_loop_config={"folder": str(folder), "count": count, "device": kind, "told": told},
            scaling_config=ScalingConfig(num_workers=count, use_gpu=kind == "gpu"),
            run_config=RunConfig("ray", str(folder), failure_config=FailureConfig(max_failures=LOST)),
        )
        # in a thread, so that this one hears what is told, and can be interrupted
        over = ThreadPoolExecutor(1).submit(trainer.fit)
        history = engine.heard(_messages(told, over), on_epoch, used)
        if history is None and (error := over.exception()):
            raise TrainingFailed(f"Ray gave the training up: {str(error).splitlines()[0]}") from error
        return history


@contextmanager
def _ray() -> Iterator[None]:
    """The Ray at RAY_ADDRESS, or one of this machine for as long as a training takes."""
    address = os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None and "RAY_AUTH_MODE" not in os.environ:  # its ports are open to who has the token
        os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})
    import ray

    try:
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **({} if address else LOCAL))
        except ConnectionError as error:
            raise EnvironmentFailed(f"RAY_ADDRESS is {address}, but no Ray answers there") from error
        yield
    except ray.exceptions.RayError as error:
        raise EnvironmentFailed(f"Ray failed: {str(error).splitlines()[0]}") from error
    finally:
        ray.shutdown()


def _workers(how: Training) -> tuple[int, str]:
    """How many workers, and the device of each; raises EnvironmentFailed where Ray has fewer."""
    import ray

    there = ray.cluster_resources()  # type: ignore[no-untyped-call]
    kind = "gpu" if how.device == "gpu" or (how.device == "auto" and there.get("GPU")) else "cpu"
    most = int(there.get(kind.upper(), 0))
    if not most:
        raise EnvironmentFailed(f"training.device is {kind}, but Ray has none")
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    count = how.count or (most if kind == "gpu" else sum(node["Alive"] for node in nodes))
    if count > most:
        raise EnvironmentFailed(f"training.count is {count}, but Ray has {most} {kind}(s)")
    return count, kind


def _messages(told: "Queue", over: "Future[Any]") -> Iterator[Mapping[str, Any]]:
    """What workers tell until the training is over; of an epoch once, though those that were started anew repeat it."""
    from ray.util.queue import Empty

    last = 0
    while not over.done() or not told.empty():
        with suppress(Empty):
            message = told.get(timeout=1)
            if message.get("epoch", last + 1) > last:
                last = message.get("epoch", last)
                yield message


# === Ray: a worker ===


def _work(asked: Mapping[str, Any]) -> None:
    """Learn, with all other workers, the core of a folder."""
    from ray.train import get_context

    rank = get_context().get_world_rank()

    def tell(**what: Any) -> None:
        asked["told"].put(what)

    one_tells = tell if rank == 0 else lambda **_: None
    logger = logging.getLogger("trainyard")
    logger.handlers, logger.propagate = [_Telling(one_tells)], False
    logger.setLevel(logging.INFO)
    with engine.refusals(tell):
        _learn(Path(asked["folder"]), rank, asked["count"], asked["device"], one_tells)


def _learn(folder: Path, rank: int, count: int, kind: str, tell: Callable[..., None]) -> None:
    lesson = engine.asked(folder)
    mine = {"device": kind, "count": None, "distribute": "none"}
    chosen = device.choose(lesson.how.model_copy(update=mine), lesson.seed)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()  # before anything is computed
    connected(strategy, count)
    device.placed(len(chosen))
    found = device.described(chosen)
    tell(used=found | {"trainyard.device": f"{count} workers of Ray, the first on {found['trainyard.device']}"})
    with strategy.scope():
        state = Common(lesson.resume or folder / "state", rank)
        core, history = engine.learn(folder, lesson, tell, state)
    if rank == 0:
        engine.leave(folder, core, history, tell)


class Common(Resume):
    """The state that all workers go on from, and rank 0 writes."""

    def __init__(self, folder: Path, rank: int) -> None:
        """`folder` is the same for all of them."""
        super().__init__(folder)
        self.rank = rank

    def read(self) -> tuple[dict[str, Array], dict[str, Any]] | None:
        """Raises RuntimeError where workers read different ones: they are started anew then."""
        found = super().read()
        epochs = len(found[1]["rows"]) if found else 0
        strategy = tf.distribute.get_strategy()
        of_all = strategy.reduce("SUM", strategy.run(lambda: tf.constant(epochs)), axis=None)
        if int(of_all) != epochs * strategy.num_replicas_in_sync:
            raise RuntimeError(f"{self.folder}: workers read different states")
        return found

    def write(self, epochs: int, arrays: Mapping[str, Array], told: Mapping[str, Any]) -> None:
        """Of rank 0 alone."""
        if self.rank == 0:
            super().write(epochs, arrays, told)


class _Telling(logging.Handler):
    """Has lines of the log told where the training was asked for."""

    def __init__(self, tell: Callable[..., None]) -> None:
        super().__init__()
        self.tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """As is the custom of handlers."""
        self.tell(line=record.getMessage())
