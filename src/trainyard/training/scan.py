"""The scan: on a GPU by JAX, many ordinary training steps in one program, as `steps` has them for TensorFlow.

For dense layers a GPU waits for Python most of the time. Here it is given the numbers of the examples of many batches;
each turn of a loop on it gathers its batch and makes Keras' own `train_step` of it.
"""

import logging
from typing import Any

import jax
import keras
import numpy as np
from jax import numpy as jnp

from trainyard import models
from trainyard.arrays import resident, row_bytes
from trainyard.training.batches import Batches, Fed

TOGETHER = 512
"""Steps in a call: a fraction of a second's."""
MOST_BYTES = 2**26
"""Of features and targets in a call, where those of the next batches alone lie on the GPU."""

log = logging.getLogger(__name__)


def made(core: keras.Model, batches: Batches, arrays: tuple[Any, ...]) -> tuple[keras.Model, Fed]:
    """The model to fit in place of `core`, which has the same layers, and what it is fed of `arrays` `[count, ...]`."""
    most = TOGETHER if resident(*arrays) else MOST_BYTES // (row_bytes(*arrays) * batches.size)
    most = min(most, TOGETHER, batches.count // batches.size)
    names = {type(layer).__name__ for layer in models.layers(core)}
    if jax.default_backend() == "cpu":
        reason = "a CPU is not waited for"
    elif any("Conv" in name for name in names) or not names.isdisjoint(models.RECURRENT):
        reason = "a step of other than dense layers takes longer than a call"
    elif most < 2:
        reason = f"one would hold a single batch of {batches.size}"
    else:
        log.info("steps: up to %d a call, in a loop on the device", most)
        return Scan(core.inputs, core.outputs), Calls(batches, most, *arrays)
    log.info("steps: one a call, %s", reason)
    return core, Fed(batches, *arrays)


class Scan(keras.Model):
    """A model that shares all layers of another, and whose `train_step` makes the steps of many batches."""

    def fit(self, calls: "Calls", **more: Any) -> keras.callbacks.History:
        """As Keras' own, which would learn shapes from the first call as if it were a batch."""
        x, y, *weight = (part[:1] for part in calls.arrays)
        with keras.StatelessScope():  # dropout of a recurrent layer would draw
            answer = self(x)
        self.compute_loss(x, y, answer, *weight)
        self.compute_metrics(x, y, answer, *weight)
        self.reset_metrics()
        return super().fit(calls, **more)

    def train_step(self, state: Any, data: Any) -> tuple[dict[str, Any], Any]:
        """Make the steps of the first `count` batches, by the numbers of their rows `[steps, size]`."""
        held, numbers, count = data
        step = super().train_step

        def turn(number: jax.Array, state: Any) -> Any:
            return step(state, tuple(part[numbers[number]] for part in held))[1]

        state = jax.lax.fori_loop(0, count, turn, state)
        with keras.StatelessScope([*zip(self.metrics_variables, state[3], strict=True)]):
            return self.get_metrics_result(), state


class Calls(Fed):
    """Batches of an epoch, many in a call: their numbers, and all rows, which lie on the GPU, or those of the call."""

    def __init__(self, batches: Batches, most: int, *arrays: Any) -> None:
        """At most `most` batches in a call; `arrays` `[count, ...]` as in `Fed`."""
        super().__init__(batches, *arrays)
        self.full = batches.count // batches.size
        self.together = -(-self.full // -(-self.full // most))
        """Batches in a call: as many in each, so that none is nearly empty."""
        self.held = [jnp.asarray(np.asarray(array[:])) for array in arrays] if resident(*arrays) else None

    def __len__(self) -> int:
        return -(-self.full // self.together) + (len(self.batches) > self.full)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        start = index * self.together
        chosen = self.order[start : min(start + self.together, self.full)] or self.order[self.full :]
        count = np.int32(len(chosen))
        # filled up, since each shape is compiled anew
        numbers = np.resize(chosen, (self.together if start < self.full else 1, len(chosen[0]))).astype(np.int32)
        if self.held is not None:
            return self.held, numbers, count
        rows = [np.asarray(array[numbers.ravel()]) for array in self.arrays]
        return rows, np.arange(numbers.size, dtype=np.int32).reshape(numbers.shape), count
