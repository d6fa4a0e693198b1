"""Connectionist temporal classification: letters of an utterance without knowing when each is spoken.

Graves, Fernandez, Gomez & Schmidhuber, 2006. Number 0 is the blank; letters are counted from 1.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

SURE = 1e9
"""Logit of the blank where there is no sound."""
NEVER = -math.inf
IMPOSSIBLE = -1e30
"""Log probability of what cannot be, where a difference of two must stay a number."""
UNLIKELY = -12.0
"""Log probability up to which a beam search does not follow a letter."""


def head(x: keras.KerasTensor, there: keras.KerasTensor, units: int) -> keras.KerasTensor:
    """Natural logarithms of the probabilities `[n, steps, units]` of blank and letters, from states `[n, steps, ...]`.

    Where `there` `[n, steps]` is false the blank is sure. Steps of sure blanks at the end change neither the loss nor
    a reading, so that both are those of the true length and nobody needs to be told it.
    """
    blank = np.zeros(units, np.float32)
    blank[0] = SURE
    logits = layers.Dense(units, name="head")(x)
    return ops.log_softmax(ops.where(ops.expand_dims(there, -1), logits, blank))


def loss(letters: keras.KerasTensor, log_probabilities: keras.KerasTensor) -> keras.KerasTensor:
    """The loss `[n]` of letters `[n, longest]`, padded with 0, under the log probabilities `[n, steps, units]`.

    The forward and the backward sums of the paper's section 4.1 run in one loop, as the backward ones are forward ones
    of the reversed recording. Their product is the gradient, so none is taken of the loop, and it compiles by XLA, as
    `ops.ctc_loss` of TensorFlow does not: a step of training takes half the time.
    """
    letters = ops.cast(letters, "int32")
    n, longest = ops.shape(letters)
    blanks = ops.zeros_like(letters)
    path = ops.pad(ops.reshape(ops.stack([blanks, letters], axis=2), (n, 2 * longest)), ((0, 0), (0, 1)))
    said = 2 * ops.sum(ops.cast(letters != 0, "int32"), axis=1, keepdims=True)
    place = ops.arange(2 * longest + 1)[None]
    ends = (place == said) | (place == said - 1)
    emitted = ops.stop_gradient(ops.take_along_axis(log_probabilities, path[:, None], axis=2))

    forward, backward = ops.split(
        _sums(
            ops.concatenate([emitted, ops.flip(emitted, axis=(1, 2))]),
            ops.concatenate([path, ops.flip(path, axis=1)]),
            ops.concatenate([ops.broadcast_to(place < 2, ops.shape(path)), ops.flip(ends, axis=1)]),
        ),
        2,
    )
    through = forward + ops.flip(backward, axis=(1, 2)) - emitted
    whole = ops.logsumexp(ops.where(ends, forward[:, -1], IMPOSSIBLE), axis=1)
    share = ops.exp(through - whole[:, None, None])
    units = ops.one_hot(path, ops.shape(log_probabilities)[-1])
    gradient = ops.matmul(share, units)
    return -whole - ops.sum(gradient * (log_probabilities - ops.stop_gradient(log_probabilities)), axis=(1, 2))


def _sums(emitted: keras.KerasTensor, path: keras.KerasTensor, starts: keras.KerasTensor) -> keras.KerasTensor:
    """Log probabilities `[n, steps, places]` to have come to a place of the path by a step, over all ways there."""
    skips = (path[:, 2:] != 0) & (path[:, 2:] != path[:, :-2])

    def ahead(sums: keras.KerasTensor, now: keras.KerasTensor) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        one = ops.pad(sums[:, :-1], ((0, 0), (1, 0)), constant_values=IMPOSSIBLE)
        two = ops.pad(ops.where(skips, sums[:, :-2], IMPOSSIBLE), ((0, 0), (2, 0)), constant_values=IMPOSSIBLE)
        sums = ops.logsumexp(ops.stack([sums, one, two]), axis=0) + now
        return sums, sums

    by_step = ops.transpose(emitted, (1, 0, 2))
    first = ops.where(starts, by_step[0], IMPOSSIBLE)
    _, rest = ops.scan(ahead, first, by_step[1:])
    return ops.transpose(ops.concatenate([first[None], rest]), (1, 0, 2))


def needed(letters: NDArray[np.integer]) -> NDArray[np.integer]:
    """Steps `[n]` that letters `[n, longest]`, padded with 0, take at least: a blank stands between two equal ones."""
    repeated = (letters[:, 1:] == letters[:, :-1]) & (letters[:, 1:] != 0)
    return (letters != 0).sum(axis=1) + repeated.sum(axis=1)


def read(
    log_probabilities: NDArray[np.floating], alphabet: Sequence[str], beam: int = 1, words: Sequence[str] | None = None
) -> NDArray[np.object_]:
    """The letters `[n]`, text, that log probabilities `[n, steps, units]` speak for.

    Greedy with a beam of 1: the most probable letter of each step, repetitions and blanks taken out. Else the most
    probable reading, over all its alignments, of those that a beam search of that width follows; with `words` it
    follows these words alone.
    """
    if words is not None:
        tree = _tree(words)
        return np.array([_along(steps, alphabet, tree, beam) for steps in log_probabilities], object)
    if not len(log_probabilities):
        return np.zeros(0, object)
    lengths = np.full(len(log_probabilities), log_probabilities.shape[1], np.int32)
    how = {"strategy": "greedy"} if beam == 1 else {"strategy": "beam_search", "beam_width": beam}
    readings, _ = ops.ctc_decode(log_probabilities, lengths, mask_index=0, **how)
    numbers = ops.convert_to_numpy(readings)[0]
    return np.array(["".join(alphabet[number - 1] for number in row if number > 0) for row in numbers], object)


def _tree(words: Iterable[str]) -> dict[str, Any]:
    """Words as a tree of letters; "" stands where one ends."""
    root: dict[str, Any] = {}
    for word in words:
        node = root
        for letter in word:
            node = node.setdefault(letter, {})
        node[""] = {}
    return root


def _along(steps: NDArray[np.floating], alphabet: Sequence[str], root: dict[str, Any], beam: int) -> str:
    """Prefix beam search (Graves & Jaitly, 2014; Hannun et al., 2014) in log probabilities `[steps, units]`.

    Of each prefix two sums over its alignments are kept, of those that end in a blank and of those that do not.
    """
    numbers = {letter: number for number, letter in enumerate(alphabet, 1)}
    held, nodes = {"": (0.0, NEVER)}, {"": root}
    for step in steps:
        likely = [(letter, step[number]) for letter, number in numbers.items() if step[number] > UNLIKELY]
        found: dict[str, tuple[float, float]] = {}
        for text, (blank, sound) in held.items():
            either = np.logaddexp(blank, sound)
            before = found.get(text, (NEVER, NEVER))
            again = sound + step[numbers[text[-1]]] if text else NEVER
            found[text] = (np.logaddexp(before[0], either + step[0]), np.logaddexp(before[1], again))
            for letter, probability in likely:
                node = root if letter == " " and "" in nodes[text] else nodes[text].get(letter)
                if node is not None:
                    longer = text + letter
                    before, arrives = found.get(longer, (NEVER, NEVER)), blank if text.endswith(letter) else either
                    found[longer] = (before[0], np.logaddexp(before[1], arrives + probability))
                    nodes[longer] = node
        held = dict(sorted(found.items(), key=lambda item: -np.logaddexp(*item[1]))[:beam])
    whole = [text for text in held if "" in nodes[text]]
    return whole[0] if whole else next(iter(held)).rpartition(" ")[0]
