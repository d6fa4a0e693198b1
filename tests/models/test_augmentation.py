"""Disturbances of spectrograms: each does what its name says, and nothing where a model answers."""

import numpy as np
import pytest

from trainyard.models.augmentation import disturbance
from trainyard.params import Disturb

FRAMES = np.random.default_rng(0).uniform(1, 2, (4, 30, 12)).astype(np.float32)


def disturbed(training=True, **knobs):
    return np.asarray(disturbance(Disturb(**knobs), (None, 12))(FRAMES, training=training))


@pytest.mark.parametrize("knobs", [{"pitch": 0.3}, {"bands": 0.5}, {"frames": 0.5}, {"noise": 1.0}])
def test_an_answer_is_not_disturbed_and_training_is(knobs):
    np.testing.assert_allclose(disturbed(training=False, **knobs), FRAMES, atol=1e-6)
    assert np.abs(disturbed(**knobs) - FRAMES).max() > 0.1


def test_bands_are_dropped_for_a_whole_recording_and_frames_in_all_bands():
    bands, frames = disturbed(bands=0.5) == 0, disturbed(frames=0.5) == 0
    assert (bands == bands[:, :1]).all()
    assert (frames == frames[:, :, :1]).all()
    for dropped in (bands[:, 0], frames[:, :, 0]):
        assert 0.2 < dropped.mean() < 0.8
        assert len({tuple(row) for row in dropped}) == 4  # another draw for each recording


def test_a_pitch_moves_all_frames_of_a_recording_alike():
    ramp = np.broadcast_to(np.arange(12, dtype=np.float32), (4, 30, 12))
    moved = np.asarray(disturbance(Disturb(pitch=0.25), (None, 12))(ramp, training=True))
    by = (moved - ramp)[:, :, 4:8]  # away from the edges, which are filled with the nearest band
    np.testing.assert_allclose(by, np.broadcast_to(by[:, :1, :1], by.shape), atol=1e-3)
    assert len(set(by[:, 0, 0].round(3))) == 4
    assert np.abs(by).max() <= 3.001
