"""Text: a CSV or TSV file with a column of text and a column of its class.

Raw is one input `text`, string `[n, 1]`. Small letters are those of A to Z: Keras leaves others as they are.
"""

import logging
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from trainyard import arrays, files
from trainyard.arrays import Array, Rows
from trainyard.errors import BadInput
from trainyard.kinds import (
    FEW,
    Examples,
    Masked,
    Measures,
    Prepared,
    Preprocessing,
    class_names,
    class_numbers,
    delimited,
    read_rows,
)
from trainyard.params import Expectation, Text
from trainyard.quality import baselines, leaks, splits
from trainyard.quality.baselines import Baseline
from trainyard.quality.importance import Part
from trainyard.quality.leaks import Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

MOST_CHARACTERS = 100_000
MOST_WORDS = 30
"""Words that are masked, those that most test texts have."""
LEAST_TEXTS = 5
"""Of words that fewer test texts have nothing can be said: their intervals are not defined."""
READ_WHOLE = 0.99
"""Share of the training texts that are read to their end, where params name no length."""
BATCH = 1024
TOKENS: dict[str, dict[str, Any]] = {
    "characters": {"standardize": "lower", "split": "character"},
    "trigrams": {"standardize": "lower", "split": "character", "ngrams": (3,)},
    "words": {"standardize": "lower_and_strip_punctuation", "split": "whitespace"},
}
SMALL = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
WORD = re.compile(r"\S+", re.ASCII)
"""What Keras splits at: a no-break space is none to it."""
MOST_TOKENS = 50
"""Tokens of which it is compared how often they come, the most frequent ones."""
# U+0080 to U+009F are not among them: old files have curly quotation marks there
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
BIDIRECTIONAL = re.compile("[\u202a-\u202e\u2066-\u2069]")
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
"""They join, part or hint, and are nothing by themselves."""


class Texts:
    """Texts that lie on the disk as UTF-8, one after the other: an array `[n, 1]`, however long one of them is."""

    def __init__(self, content: Rows, ends: Array) -> None:
        """`content` uint8 `[bytes]`; `ends` `[n]`, the place in it where each text ends."""
        self.content, self.ends = content, ends
        self.shape, self.dtype = (len(ends), 1), np.dtype(object)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: Any) -> Array:
        chosen = np.arange(len(self))[index]
        texts = [bytes(self.content[self.ends[i - 1] if i else 0 : self.ends[i]]).decode() for i in np.ravel(chosen)]
        return np.array(texts, object).reshape(*np.shape(chosen), 1)


def manifest(spec: Text) -> pd.DataFrame:
    """Text, label, group and given split, and the numbers of characters and words; indexed by the row of the file."""
    table = _read(spec, [spec.text, spec.target, spec.group, spec.split.given])
    if (bad := table[spec.target].fillna("").str.strip() == "").any():
        told = f"the label is missing; {bad.sum()} such row(s)"
        raise BadInput(f"{spec.path}:{delimited.first(bad)}: column `{spec.target}`: {told}")
    return table


def expectations(spec: Text, manifest: pd.DataFrame) -> list[Expectation]:
    """Each text has a word and a label."""
    return [Expectation(column=spec.target, not_null=True), Expectation(column="words", between=(1, None))]


def split(spec: Text, manifest: pd.DataFrame, seed: int) -> pd.Series:
    """Stratified by class; groups stay together, or without them texts that are alike."""
    given = manifest[spec.split.given] if spec.split.given else None
    together, shares = groups(spec, manifest), spec.split
    same = likeness(spec, manifest) if together is None else contents(spec, manifest)
    return splits.draw(manifest[spec.target], together, same, shares.validation, shares.test, given, seed, spec.path)


def contents(spec: Text, manifest: pd.DataFrame) -> pd.Series:
    """The letters and digits of each."""
    return manifest[spec.text].map(leaks.letters)


def likeness(spec: Text, manifest: pd.DataFrame) -> pd.Series:
    """Clusters of texts that are alike."""
    return pd.Series(leaks.alike(manifest[spec.text].tolist(), spec.similar), index=manifest.index).astype(str)


def groups(spec: Text, manifest: pd.DataFrame) -> pd.Series | None:
    """The column that the user names."""
    return manifest[spec.group] if spec.group else None


def audit(spec: Text, manifest: pd.DataFrame, parts: pd.Series) -> Iterator[Finding]:
    """Nothing that other kinds do not have."""
    return iter(())


def facts(spec: Text, manifest: pd.DataFrame) -> dict[str, Any]:
    """Classes."""
    return {"classes": class_names(spec.path, manifest[spec.target], spec.objective, spec.positive)}


def write(spec: Text, facts: Mapping[str, Any], manifest: pd.DataFrame, folder: Path) -> None:
    """`text.npy` uint8, all texts as UTF-8, and `ends.npy` `[n]`, where each ends; `target.npy`; `rows.csv`."""
    texts = [text.encode() for text in manifest[spec.text]]
    np.save(folder / "text.npy", np.frombuffer(b"".join(texts), np.uint8))
    np.save(folder / "ends.npy", np.cumsum([len(text) for text in texts]))
    np.save(folder / "target.npy", class_numbers(manifest[spec.target], facts["classes"]))
    rows = pd.DataFrame({"label": manifest[spec.target]}, index=manifest.index.rename("example"))
    if spec.group:
        rows["group"] = manifest[spec.group]
    files.write_csv(folder / "rows.csv", rows)


def read(spec: Text, facts: Mapping[str, Any], folder: Path) -> Examples:
    """The texts stay on the disk."""
    texts = Texts(arrays.Stored(folder / "text.npy"), np.load(folder / "ends.npy"))
    return Examples({"text": texts}, np.load(folder / "target.npy"), read_rows(folder))


def decode(spec: Text, facts: Mapping[str, Any], table: pd.DataFrame) -> tuple[dict[str, Array], pd.Index]:
    """Rows with the column of the text; an empty one gets the model's answer to no tokens."""
    if spec.text not in table:
        raise BadInput(f"no column `{spec.text}` in the rows to answer")
    for row, text in table[spec.text].items():
        if not isinstance(text, str):
            raise BadInput(f"row {row}: column `{spec.text}`: {type(text).__name__} (expected text)")
        if len(text) > MOST_CHARACTERS:
            raise BadInput(f"row {row}: column `{spec.text}`: more than {MOST_CHARACTERS:,} characters")
        if re.search("[\ud800-\udfff]", text):
            raise BadInput(f"row {row}: column `{spec.text}`: half a surrogate pair, which is no text")
    return {"text": table[spec.text].to_numpy(object)[:, None]}, table.index


def preprocessing(spec: Text, facts: Mapping[str, Any], train: Examples) -> Preprocessing:
    """Numbers of tokens, the most frequent first, from 2 on: 1 is any other token, 0 what comes after the last."""
    import keras
    from keras import layers, ops

    how = TOKENS[spec.tokens]
    counter = layers.TextVectorization(max_tokens=spec.vocabulary + 2, ragged=True, **how)
    counter.adapt(arrays.in_parts(train.raw["text"], BATCH))
    vocabulary = counter.get_vocabulary(include_special_tokens=False)
    if not vocabulary:
        raise BadInput(f"{spec.path}: no training text has any {spec.tokens}")
    length = spec.length
    if length is None:
        lengths = [counter(batch).row_lengths() for batch in arrays.in_parts(train.raw["text"], BATCH)]
        length = max(int(np.quantile(np.concatenate(lengths), READ_WHOLE, method="higher")), 1)
        why = f"enough for {READ_WHOLE:.0%} of the training texts"
        log.info("%s: the first %d %s are read, %s", spec.path, length, spec.tokens, why)
    # not adapted itself: its vocabulary would be saved line by line, and a line end is a token
    tokens = layers.TextVectorization(vocabulary=vocabulary, output_sequence_length=length, name="tokens", **how)
    text = keras.Input((1,), dtype="string", name="text")
    return Preprocessing({"text": text}, ops.cast(tokens(text), "int32"), tokens=len(vocabulary) + 2)


def compared(spec: Text, data: Prepared) -> tuple[Baseline, Baseline]:
    """The training targets alone; logistic regression on pieces of words."""
    train, test = data.train.raw["text"][:][:, 0], data.test.raw["text"][:][:, 0]
    naive = baselines.naive(data.objective, data.train.target, len(data.test))
    return naive, baselines.of_texts(data.objective, train, data.train.target, test)


def mistakes(spec: Text, facts: Mapping[str, Any], test: Examples, answer: Array) -> "Figure":
    """The wrong answers of which the model was surest, with their texts."""
    from trainyard import figures

    return figures.quotations(test.raw["text"], test.target, answer, facts["classes"], test.rows.index)


def masked(spec: Text, facts: Mapping[str, Any], train: Examples, test: Examples, seed: int) -> Iterator[Masked]:
    """Each of the most frequent words taken out of the texts that have it; a word is what stands between spaces."""
    having: dict[str, list[int]] = {}
    for place, (text,) in enumerate(chain.from_iterable(arrays.in_parts(test.raw["text"], BATCH))):
        for word in sorted(set(map(_word, text.split())) - {""}):
            having.setdefault(word, []).append(place)
    rng = np.random.default_rng(seed)
    frequent = sorted((-len(found), word) for word, found in having.items() if len(found) >= LEAST_TEXTS)
    for _, word in frequent[:MOST_WORDS]:
        places = np.sort(rng.choice(having[word], min(len(having[word]), FEW), replace=False))
        without = [_without(text, word) for (text,) in test.raw["text"][places]]
        yield Masked(word, places, {"text": np.array(without, object)[:, None]})


def without(spec: Text, facts: Mapping[str, Any], raw: Mapping[str, Array]) -> Iterator[tuple[str, dict[str, Array]]]:
    """One text without each of its words; of long texts the first ones."""
    text = raw["text"][0, 0]
    words = dict.fromkeys(filter(None, map(_word, text.split())))
    for word in list(words)[:MOST_WORDS]:
        yield word, {"text": np.array([[_without(text, word)]], object)}


def importances(spec: Text, test: Examples, answer: Array, parts: Sequence[Part], table: pd.DataFrame) -> "Figure":
    """A bar a word."""
    from trainyard import figures

    return figures.importances(table, "without the word")


def fresh(spec: Text, facts: Mapping[str, Any]) -> pd.DataFrame:
    """The text, the group, and the label where it is there."""
    return _read(spec, [spec.text, spec.group], spec.target)


def measures(spec: Text, facts: Mapping[str, Any], train: pd.DataFrame, manifest: pd.DataFrame) -> Measures:
    """Length, share of tokens that training never saw, how often which token; the label, where it is known."""
    counts = Counter(chain.from_iterable(_tokens(spec, text) for text in train[spec.text]))
    frequent = sorted(counts, key=lambda token: (-counts[token], token))
    vocabulary, named = set(frequent[: spec.vocabulary]), frequent[:MOST_TOKENS]
    place = {token: number for number, token in enumerate(named)}
    texts = [_tokens(spec, text) for text in manifest[spec.text]]
    numbers = [np.array([place.get(token, len(named)) for token in tokens], int) for tokens in texts]
    shares = np.array([np.bincount(found, minlength=len(named) + 1) / max(len(found), 1) for found in numbers])
    unknown = [sum(token not in vocabulary for token in tokens) / max(len(tokens), 1) for tokens in texts]
    label = {spec.target: manifest[spec.target]} if spec.target in manifest else {}
    return {
        f"number of {spec.tokens}": pd.Series([float(len(tokens)) for tokens in texts], manifest.index),
        f"unknown {spec.tokens}": pd.Series(unknown, manifest.index),
        f"which {spec.tokens}": pd.DataFrame(shares, manifest.index, [*named, "any other"]),
        **label,
    }


def _read(spec: Text, asked: Sequence[str | None], *more: str) -> pd.DataFrame:
    """Columns that must be there and, where they are there, `more`; None where a cell is empty. Raises BadInput."""
    path = Path(spec.path)
    columns = [column for column in asked if column is not None]
    cells = delimited.read(path, spec.delimiter, spec.names, columns=columns, quoting=spec.quoting)
    table = cells[columns + [column for column in more if column in cells]].copy()
    text = table[spec.text]
    table["characters"] = text.str.len().astype(float)
    table["words"] = text.map(lambda cell: float(len(INVISIBLE.sub("", cell).split())))
    for column, bad, told in [
        (spec.text, table["words"] == 0, "the text is empty"),
        (spec.text, table["characters"] > MOST_CHARACTERS, f"more than {MOST_CHARACTERS:,} characters"),
        (spec.text, text.str.contains(CONTROL), "a control character (is the file text, and UTF-8?)"),
        (spec.text, text.str.contains(BIDIRECTIONAL), "a mark that turns the direction of reading, which hides text"),
    ]:
        if bad.any():
            raise BadInput(f"{path}:{delimited.first(bad)}: column `{column}`: {told}; {bad.sum()} such row(s)")
    return table.replace("", None)


def _tokens(spec: Text, text: str) -> list[str]:
    """The tokens that a model reads, as `TOKENS` tells Keras."""
    small = text.translate(SMALL)
    if spec.tokens == "words":
        return WORD.findall(small.translate(NO_PUNCTUATION))
    size = 3 if spec.tokens == "trigrams" else 1
    return [small[i : i + size] for i in range(len(small) - size + 1)]


def _without(text: str, word: str) -> str:
    return re.sub(r"\S+\s*", lambda piece: "" if _word(piece[0].rstrip()) == word else piece[0], text)


def _word(piece: str) -> str:
    """In small letters and without the punctuation around it; "" where it is punctuation alone."""
    small = piece.casefold()
    kept = [place for place, letter in enumerate(small) if not unicodedata.category(letter).startswith("P")]
    return small[kept[0] : kept[-1] + 1] if kept else ""
