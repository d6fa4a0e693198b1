"""Batches: which examples make each step of an epoch, a pure function of seed, epoch and place."""

import math
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Batches:
    """The order in which examples are learnt.

    Where the examples have lengths, those of alike lengths come together, cut to one of four, so that little of what
    is learnt is padding and few shapes are compiled.
    """

    def __init__(self, count: int, size: int, seed: int | None, lengths: Array | None = None) -> None:
        """`count` examples, `size` in a batch; without a seed the order is always the same.

        `lengths` int `[count]`: the steps of each example that are not padding.
        """
        self.count, self.size, self.seed = count, size, seed
        self.cut = None
        if lengths is not None:
            ends = np.quantile(lengths, (0.25, 0.5, 0.75, 1), method="higher")
            self.cut = ends[np.searchsorted(ends, lengths)]

    def __len__(self) -> int:
        return math.ceil(self.count / self.size)

    def of(self, epoch: int) -> list[Array]:
        """The numbers of the examples in each batch of an epoch, counted from 0; the last one may be smaller."""
        if self.seed is None:
            return self._divided(np.arange(self.count))
        rng = np.random.default_rng([self.seed, epoch])
        batches = self._divided(rng.permutation(self.count))
        if self.cut is not None:
            rng.shuffle(batches)
        return batches

    def _divided(self, order: Array) -> list[Array]:
        if self.cut is not None:
            order = order[np.argsort(self.cut[order], kind="stable")]
        return np.split(order, range(self.size, len(order), self.size))


class Fed(keras.utils.PyDataset):
    """Batch after batch of an epoch, as plain `fit` and `evaluate` take them."""

    def __init__(self, batches: Batches, *arrays: Any) -> None:
        """`arrays` `[count, ...]`: features, which may lie on the disk, what is learnt of them, perhaps weights."""
        super().__init__()
        self.batches, self.arrays = batches, arrays
        # the longest first, then the shortest: of two first batches alike Keras takes the length for fixed
        *others, last = batches.of(0)
        self.order = [last, *others]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[Array, ...]:
        chosen = self.order[index]
        x, *more = (np.asarray(array[chosen]) for array in self.arrays)
        return (x if self.batches.cut is None else x[:, : self.batches.cut[chosen].max()], *more)

    def start(self, epoch: int) -> None:
        """Lay down the order of an epoch, counted from 0."""
        self.order = self.batches.of(epoch)
