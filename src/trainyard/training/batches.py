"""Batches: which examples make each step of an epoch, a pure function of seed, epoch and place."""

import math
from typing import Any

import keras
import numpy as np

from trainyard.arrays import Array
from trainyard.params import Mix

BLOCK, POOL = 2**16, 2**25
"""Bytes that lie together on the disk and are read together, and bytes of which the order is any."""


class Batches:
    """The order in which examples are learnt.

    Where the examples have lengths, those of alike lengths come together, cut to one of four, so that little of what
    is learnt is padding and few shapes are compiled.
    """

    def __init__(
        self, count: int, size: int, seed: int | None, lengths: Array | None = None, row: int | None = None
    ) -> None:
        """`count` examples, `size` in a batch; without a seed the order is always the same.

        `lengths` int `[count]`: the steps of each example that are not padding. `row`: the bytes of an example, where
        they are read from the disk. Neighbours are read together then: blocks of them in any order, and as many blocks
        as memory holds are shuffled with each other.
        """
        self.count, self.size, self.seed = count, size, seed
        self.block = max(1, BLOCK // row) if row else 1
        self.pool = self.block * (POOL // BLOCK)
        self.cut = None
        if lengths is not None:
            ends = np.quantile(lengths, (0.25, 0.5, 0.75, 1), method="higher")
            self.cut = ends[np.searchsorted(ends, lengths)]

    def __len__(self) -> int:
        return math.ceil(self.count / self.size)

    def order(self, epoch: int) -> Array:
        """The numbers of the examples `[count]` in the order of an epoch, counted from 0, whatever their lengths."""
        return self._drawn(epoch)[0]

    def of(self, epoch: int) -> list[Array]:
        """The numbers of the examples in each batch of an epoch; the last one may be smaller, or with lengths any."""
        order, draws = self._drawn(epoch)
        if self.cut is not None:
            order = order[np.argsort(self.cut[order], kind="stable")]
        batches = np.split(order, range(self.size, self.count, self.size))
        if self.cut is not None and self.seed is not None:
            draws.shuffle(batches)
        return batches

    def _drawn(self, epoch: int) -> tuple[Array, np.random.Generator]:
        draws = np.random.default_rng([self.seed or 0, epoch])
        if self.seed is None:
            return np.arange(self.count), draws
        if self.block == 1:
            return draws.permutation(self.count), draws
        blocks = draws.permutation(-(-self.count // self.block))[:, None] * self.block
        order = (blocks + np.arange(self.block)).ravel()
        order = order[order < self.count]
        for start in range(0, self.count, self.pool):
            draws.shuffle(order[start : start + self.pool])
        return order, draws


class Mixing:
    """Blends a batch with itself in another order, a pure function of seed and place."""

    def __init__(self, spec: Mix, seed: int) -> None:
        """What to blend and how far."""
        self.spec, self.seed = spec, seed

    def __call__(self, images: Array, learnt: Array, *place: int) -> tuple[Array, Array]:
        """Of images `[n, height, width, channels]` and what is learnt of them `[n, ...]`, both float32."""
        draws = np.random.default_rng([self.seed, *place])
        share, other = np.float32(draws.beta(self.spec.alpha, self.spec.alpha)), draws.permutation(len(images))
        if self.spec.kind == "mixup":
            images = share * images + (1 - share) * images[other]
        else:
            height, width = images.shape[1:3]
            high, wide = (round(side * math.sqrt(1 - share)) for side in (height, width))
            top, left = draws.integers(0, (height - high + 1, width - wide + 1))
            images, box = images.copy(), (slice(None), slice(top, top + high), slice(left, left + wide))
            images[box] = images[other][box]
            share = np.float32(1 - high * wide / (height * width))
        return images, share * learnt + (1 - share) * learnt[other]


class Fed(keras.utils.PyDataset):
    """Batch after batch of an epoch, as plain `fit` and `evaluate` take them."""

    def __init__(self, batches: Batches, *arrays: Any, mixing: Mixing | None = None) -> None:
        """`arrays` `[count, ...]`: features, which may lie on the disk, what is learnt of them, perhaps weights."""
        super().__init__()
        self.batches, self.arrays, self.mixing, self.epoch = batches, arrays, mixing, 0
        self.order = batches.of(0)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[Array, ...]:
        batch = self.share(self.order[index], self.order[index])
        return self.mixing(batch[0], batch[1], 0, self.epoch, index) if self.mixing else batch

    def share(self, chosen: Array, batch: Array) -> tuple[Array, ...]:
        """Those examples of a batch whose numbers are `chosen`, as long as the batch is."""
        x, *more = (np.asarray(array[chosen]) for array in self.arrays)
        return (x if self.batches.cut is None else x[:, : self.batches.cut[batch].max()], *more)

    def start(self, epoch: int) -> None:
        """Lay down the order of an epoch, counted from 0."""
        self.epoch, self.order = epoch, self.batches.of(epoch)
