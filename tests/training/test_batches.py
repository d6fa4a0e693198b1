"""Batches: orders that can be had again, and recordings of alike lengths together."""

import numpy as np

from trainyard.training.batches import Batches, Fed


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
    for seed in range(50):
        fed = Fed(Batches(70, 16, seed=seed, lengths=lengths), x, np.arange(70))
        assert len({fed[i][0].shape[1] for i in (0, 1)}) == 2, "Keras would take the length of the first two for fixed"
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
