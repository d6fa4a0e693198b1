"""Batches: orders that can be had again, and recordings of alike lengths together."""

import numpy as np
import pytest

from trainyard.params import Mix
from trainyard.training import piped
from trainyard.training.batches import Batches, Fed, Mixing


def test_epochs_differ_in_their_order_and_can_be_had_again():
    batches = Batches(41, 8, seed=1)
    orders = [np.concatenate(batches.of(epoch)) for epoch in range(3)]
    assert all(sorted(order) == list(range(41)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert [len(batch) for batch in batches.of(2)] == [8] * 5 + [1]
    np.testing.assert_array_equal(np.concatenate(Batches(41, 8, seed=1).of(2)), orders[2])
    assert (np.concatenate(Batches(41, 8, seed=2).of(2)) != orders[2]).any()


def test_without_a_seed_the_order_stays():
    assert [batch.tolist() for batch in Batches(5, 2, None).of(7)] == [[0, 1], [2, 3], [4]]


def test_a_batch_is_taken_from_every_array():
    fed = Fed(Batches(10, 4, seed=3), np.arange(10), np.arange(10) * 2, np.arange(10) * 3)
    fed.start(5)
    x, y, weight = fed[1]
    assert x.tolist() == Batches(10, 4, seed=3).of(5)[1].tolist()
    assert (y.tolist(), weight.tolist()) == ((x * 2).tolist(), (x * 3).tolist())


def test_recordings_of_alike_lengths_are_learnt_together_and_cut():
    rng = np.random.default_rng(2)
    lengths = rng.integers(5, 100, size=70)
    x = np.array([np.where(np.arange(120)[:, None] < length, 1.0, 0.0) for length in lengths])
    fed = Fed(Batches(70, 16, seed=1, lengths=lengths), x, np.arange(70))
    orders = []
    for epoch in range(3):
        fed.start(epoch)
        order = []
        for frames, chosen in (fed[i] for i in range(len(fed))):
            assert frames.sum() == lengths[chosen].sum(), "sound was cut off"
            order.extend(chosen)
        assert sorted(order) == list(range(70))
        orders.append(tuple(order))
    assert len(set(orders)) == 3
    assert len({fed[i][0].shape[1] for i in range(len(fed))}) <= 4
    assert sum(fed[i][0].size for i in range(len(fed))) < 0.7 * x.size


# === Examples that are read from the disk ===


def test_blocks_are_read_together_and_every_example_is_learnt_once():
    batches = Batches(10_000, 32, seed=3, row=1024)
    assert (batches.block, batches.pool) == (64, 2**15)
    batches.pool = 2048
    orders = [batches.order(epoch) for epoch in (1, 2)]
    for order in orders:
        assert sorted(order) == list(range(10_000))
        assert len({*(order[:2048] // 64)}) <= 33, "what is shuffled together comes from few places of the disk"
    assert (orders[0] != orders[1]).any()
    again = Batches(10_000, 32, seed=3, row=1024)
    again.pool = 2048
    np.testing.assert_array_equal(again.order(2), orders[1])


def test_large_examples_are_shuffled_wholly():
    np.testing.assert_array_equal(Batches(500, 8, seed=3, row=2**16).order(4), Batches(500, 8, seed=3).order(4))


def test_batches_of_blocks_are_as_good_as_drawn_from_all():
    """Of data that lie class by class, the worst case: class counts of batches spread as those of a whole shuffle do.

    A batch of 32 of which each example is one of ten classes: the spread of a count is that of a draw without
    replacement, within 5%, and no class is missing longer from the batches.
    """
    count, size = 400_000, 32
    labels = np.repeat(np.arange(10), count // 10)

    def counts(row, blocks=512):
        batches = Batches(count, size, seed=1, row=row)
        assert (batches.block, batches.pool) == ((163, 163 * 512) if row else (1, 512)), "a fifth of all, not all"
        batches.pool = batches.block * blocks
        return np.stack([np.bincount(labels[batch], minlength=10) for batch in batches.order(0).reshape(-1, size)])

    whole, blocks = counts(None), counts(400)
    assert abs(blocks.std() / whole.std() - 1) < 0.05
    assert counts(400, blocks=8).std() > 1.05 * whole.std(), "a pool of few blocks would be seen here"
    away = [np.diff(np.flatnonzero(found[:, 0])).max() for found in (whole, blocks)]
    assert away[1] <= 2 * away[0]


def test_a_network_learns_as_much_from_blocks_as_from_a_whole_shuffle():
    """Logistic regression by stochastic gradients on rows sorted by class: the same loss after an epoch, five seeds."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0.7, 1, (60_000, 8)), rng.normal(1.3, 1, (60_000, 8))])
    x[:, 0] = 1
    y = np.repeat([0.0, 1.0], 60_000)

    def loss(seed, row):
        weights, batches = np.zeros(8), Batches(len(y), 32, seed=seed, row=row)
        batches.pool = min(batches.pool, 20_000)
        for batch in batches.of(0):
            slope = 1 / (1 + np.exp(-x[batch] @ weights)) - y[batch]
            weights -= 0.05 * slope @ x[batch] / len(batch)
        margin = np.where(y == 1, 1, -1) * (x @ weights)
        return np.log1p(np.exp(-margin)).mean()

    whole, blocks = ([loss(seed, row) for seed in range(5)] for row in (None, 1024))
    assert abs(np.mean(blocks) - np.mean(whole)) < 2 * np.std(whole) + 1e-3
    assert loss(None, None) > np.mean(whole) + 10 * np.std(whole), "rows in the order of the disk would be seen here"


PICTURES = np.stack([np.full((4, 6, 3), value, np.float32) for value in (0, 1, 2, 3)])
CLASSES = np.eye(4, dtype=np.float32)


def test_mixup_blends_labels_as_it_blends_images():
    images, labels = Mixing(Mix(kind="mixup", alpha=1.0), 3)(PICTURES, CLASSES, 0, 0, 0)
    draws = np.random.default_rng([3, 0, 0, 0])
    share, other = draws.beta(1.0, 1.0), draws.permutation(4)
    np.testing.assert_allclose(images[:, 0, 0, 0], share * np.arange(4) + (1 - share) * other, rtol=1e-6)
    np.testing.assert_allclose(labels, share * CLASSES + (1 - share) * CLASSES[other], rtol=1e-6)
    np.testing.assert_allclose(labels @ np.arange(4), images.mean(axis=(1, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize("place", range(8))
def test_cutmix_gives_a_label_the_share_of_its_pixels(place):
    images, labels = Mixing(Mix(kind="cutmix", alpha=1.0), 3)(PICTURES, CLASSES, 0, 0, place)
    assert set(np.unique(images)) <= {0, 1, 2, 3}
    for image, label in zip(images[..., 0], labels, strict=True):
        np.testing.assert_allclose(label, [(image == value).mean() for value in range(4)], atol=1e-6)


def test_blends_are_the_same_at_the_same_place_and_others_elsewhere():
    mixing = Mixing(Mix(kind="mixup", alpha=1.0), 3)
    first, again, later = (mixing(PICTURES, CLASSES, 0, epoch, 0)[1] for epoch in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != later).any()


def test_what_is_fed_is_blended_epoch_by_epoch():
    mixing = Mixing(Mix(kind="mixup", alpha=1.0), 3)
    plain, blended = Fed(Batches(4, 2, 1), PICTURES, CLASSES), Fed(Batches(4, 2, 1), PICTURES, CLASSES, mixing=mixing)
    for epoch in (0, 1):
        for source in (plain, blended):
            source.start(epoch)
        for index in (0, 1):
            for one, other in zip(mixing(*plain[index], 0, epoch, index), blended[index], strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("lengths", [None, np.array([3, 9, 4, 9, 5, 9, 6])])
def test_tensorflow_is_fed_them_without_the_tuner_that_epochs_wait_for(lengths):
    x = np.random.default_rng(1).random((7, 9, 2), np.float32)
    fed = Fed(Batches(7, 3, seed=1, lengths=lengths), x, np.arange(7))
    given = piped.batches(fed)
    assert given.options().autotune.enabled is False
    assert given.element_spec[0].shape.as_list() == [None, 9 if lengths is None else None, 2], "of what length"
    for epoch in (0, 1):
        fed.start(epoch)
        batches = [*given.as_numpy_iterator()]
        assert len(batches) == len(given) == 3
        for index, batch in enumerate(batches):
            for told, held in zip(batch, fed[index], strict=True):
                np.testing.assert_array_equal(told, held)
