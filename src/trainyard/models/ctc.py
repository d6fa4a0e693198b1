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
    """The loss `[n]` of letters `[n, longest]`, padded with 0, under the log probabilities `[n, steps, units]`."""
    letters = ops.cast(letters, "int32")
    lengths = ops.sum(ops.cast(ops.not_equal(letters, 0), "int32"), axis=-1)
    steps = ops.zeros_like(lengths) + ops.shape(log_probabilities)[1]
    return ops.ctc_loss(letters, log_probabilities, lengths, steps, mask_index=0)


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
