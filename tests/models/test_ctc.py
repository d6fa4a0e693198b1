"""CTC: the loss is that of the true lengths, whatever the padding; readings are those of the textbook."""

import keras
import numpy as np
import pytest

from trainyard.models import Features, ctc
from trainyard.params import RNN
from trainyard.quality.objectives import TRANSCRIPTION


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


@pytest.fixture(scope="module")
def core():
    from trainyard import models

    spec = RNN(
        family="rnn", dataset="speech", cell="gru", units=[6], bidirectional=True, filters=[5, 7], kernel=3, stride=2
    )
    model = models.build(spec, Features((None, 4)), TRANSCRIPTION, 5)
    rng = np.random.default_rng(9)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):  # as if trained: padding would not stay 0 of itself
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    return model


def padded(frames, by):
    return np.pad(frames, ((0, 0), (0, by), (0, 0)))


@pytest.mark.parametrize("by", [2, 9, 30])
def test_padding_changes_neither_answers_nor_loss(core, by):
    frames = np.random.default_rng(0).normal(size=(3, 24, 4)).astype(np.float32)
    letters = np.array([[1, 2, 2], [3, 0, 0], [4, 1, 0]])
    alone, more = np.asarray(core(frames)), np.asarray(core(padded(frames, by)))
    np.testing.assert_allclose(more[:, :12], alone, atol=1e-5)
    np.testing.assert_allclose(np.exp(more[:, 12:, 0]), 1)
    np.testing.assert_allclose(ctc.loss(letters, more), ctc.loss(letters, alone), rtol=1e-4)
    assert (ctc.read(more, "abcd") == ctc.read(alone, "abcd")).all()


def test_gradients_do_not_see_padding(core):
    import tensorflow as tf

    frames = np.random.default_rng(1).normal(size=(2, 16, 4)).astype(np.float32)
    letters, found = np.array([[1, 2], [3, 0]]), []
    for x in (frames, padded(frames, 8)):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(ctc.loss(letters, core(x, training=True)))
        found.append(tape.gradient(loss, core.trainable_variables))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_loss_sums_over_all_alignments():
    """Against all paths of four steps, one by one."""
    from itertools import groupby, product

    log_probabilities = log_softmax(np.random.default_rng(2).normal(size=(1, 4, 3))).astype(np.float32)
    for letters in ([1], [1, 2], [1, 1], [2, 1, 2]):
        total = 0.0
        for path in product(range(3), repeat=4):
            if [key for key, _ in groupby(path) if key] == letters:
                total += np.exp(sum(log_probabilities[0, step, unit] for step, unit in enumerate(path)))
        label = np.array([letters + [0] * (3 - len(letters))])
        np.testing.assert_allclose(ctc.loss(label, log_probabilities), [-np.log(total)], rtol=1e-4)


@pytest.mark.parametrize(
    "letters", [[[1, 2, 2, 3], [3, 0, 0, 0], [4, 1, 4, 0]], [[1, 1, 1, 1], [0, 0, 0, 0], [2, 3, 0, 0]]]
)
def test_loss_and_gradient_are_those_of_keras(letters):
    """Of logits, as the gradient by log probabilities is not unique."""
    import tensorflow as tf
    from keras import ops

    logits = tf.constant(3 * np.random.default_rng(3).normal(size=(3, 14, 5)).astype(np.float32))
    lengths, steps = np.count_nonzero(letters, axis=1), np.full(3, 14)
    found = []
    for loss in (
        lambda y: ctc.loss(np.array(letters), y),
        lambda y: ops.ctc_loss(np.array(letters), y, lengths, steps),
    ):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(ops.log_softmax(logits))
        found.append((value, tape.gradient(value, logits)))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_greedy_reading_takes_out_repetitions_and_blanks():
    path = [0, 1, 1, 0, 1, 2, 2, 0]
    sure = log_softmax(8 * np.eye(3)[path][None]).astype(np.float32)
    assert list(ctc.read(sure, "ab")) == ["aab"]
    assert list(ctc.read(sure[:0], "ab")) == []


def test_a_beam_finds_what_no_single_path_shows():
    """Graves' example: the blank is the best path, but both paths to `a` together are more probable."""
    steps = np.log(np.array([[[0.6, 0.4], [0.6, 0.4]]], np.float32))
    assert list(ctc.read(steps, "a")) == [""]
    assert list(ctc.read(steps, "a", beam=4)) == ["a"]


def test_needed_steps_count_a_blank_between_equal_letters():
    assert list(ctc.needed(np.array([[1, 1, 2], [3, 0, 0], [1, 2, 1]]))) == [4, 1, 3]


def all_readings(steps, words, longest=2):
    """Each sentence of these words with its probability, summed over all alignments by the loss."""
    from itertools import product

    sentences = [" ".join(chosen) for count in range(1, longest + 1) for chosen in product(words, repeat=count)]
    numbers = {letter: number for number, letter in enumerate(ALPHABET, 1)}
    return {
        sentence: float(ctc.loss(np.array([[numbers[letter] for letter in sentence]]), steps[None])[0])
        for sentence in sentences
        if ctc.needed(np.array([[numbers[letter] for letter in sentence]]))[0] <= len(steps)
    }


ALPHABET = [" ", "a", "b", "c"]


@pytest.mark.parametrize("seed", range(8))
def test_a_beam_along_known_words_finds_the_most_probable_sentence_of_them(seed):
    steps = log_softmax(2 * np.random.default_rng(seed).normal(size=(7, 5))).astype(np.float32)
    words = ["ab", "cab", "b", "bb"]
    every = all_readings(steps, words)
    heard = ctc.read(steps[None], ALPHABET, 500, words)[0]
    assert heard in every or len(heard.split()) > 2
    if heard in every:
        assert every[heard] == pytest.approx(min(every.values()), abs=1e-3)


def test_known_words_alone_are_heard():
    letters = "ac b"  # nobody said `ac`
    path = [x for letter in letters for x in (0, 1 + ALPHABET.index(letter))]
    steps = log_softmax(5 * np.eye(5)[path]).astype(np.float32)
    assert ctc.read(steps[None], ALPHABET)[0] == "ac b"
    assert ctc.read(steps[None], ALPHABET, 16, ["ab", "b"])[0] == "ab b"
    assert set(ctc.read(steps[None], ALPHABET, 16, ["b"])[0].split()) == {"b"}
    assert ctc.read(np.log(np.full((1, 3, 5), 0.2)), ALPHABET, 4, ["abcabc"])[0] == ""
