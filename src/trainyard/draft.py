"""Drafts: from a user's own file or folder to blocks of params.yaml that run as they are, each choice with its reason.

A draft is a beginning: each choice is told in a line, so that the user can make another.
"""

import csv
import io
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import ceil, floor, log10
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset
from ruamel.yaml import YAML

from trainyard import edits, files, kinds, params
from trainyard.catalogue import DIGITS
from trainyard.errors import BadInput
from trainyard.kinds import delimited, images, speech
from trainyard.params import PARAMS_FILE, AnyDataset, Dataset, Params
from trainyard.quality import splits

log = logging.getLogger(__name__)

MODELS = {
    "tables": "family: mlp, epochs: 60, early_stopping: {patience: 10}",
    "series": "family: rnn, cell: gru, units: [48], epochs: 30, early_stopping: {patience: 5}",
    "text": "family: rnn, embedding: 128, filters: [128], kernel: [1, 2, 3, 4], cell: gru, units: [64], "
    "bidirectional: true, pooling: max, head_dropout: 0.5, optimizer: {name: adamw, weight_decay: 0.02, "
    "learning_rate: 0.001}, epochs: 20, early_stopping: {patience: 4}, batch_size: 32",
    "messages": "family: rnn, embedding: 64, filters: [128], kernel: [2, 3, 4], stride: 4, cell: gru, units: [64], "
    "bidirectional: true, pooling: max, head_dropout: 0.5, optimizer: {name: adamw, weight_decay: 0.02, "
    "learning_rate: 0.002}, epochs: 12, early_stopping: {patience: 4}, batch_size: 32",
    "speech": "family: rnn, filters: [64, 128], stride: 2, cell: gru, units: [128], bidirectional: true, "
    "dropout: 0.4, head_dropout: 0.3, disturb: {pitch: 0.08, bands: 0.15, frames: 0.1, noise: 0.7}, "
    "optimizer: {name: adamw, weight_decay: 0.02, learning_rate: 0.002}, epochs: 40, early_stopping: {patience: 6}, "
    "batch_size: 16",
    "photos": "family: mobilenet, backbone: {version: v1, width: 0.25, resolution: 128, weights: auto}, "
    "augment: {flip: horizontal, rotate: 0.05, shift: 0.1, zoom: 0.1}, dropout: 0.3, epochs: 20, "
    "thaw: {layers: all, epochs: 16, learning_rate: 0.0005, warm_up: 2}",
    "pictures": "family: cnn, pooling: flatten, dense: [128], dropout: 0.3, augment: {rotate: 0.03, shift: 0.1}, "
    "epochs: 30, early_stopping: {patience: 8}",
}
"""Blocks of models that train within minutes on two cores, as params.yaml has them, without their dataset."""
FEW_PHOTOS = 5000
"""Photos from which on a network learns enough from them alone."""
MOST_SEEN = 500_000
"""Examples that a model sees in all its epochs: a greater set gets fewer of them."""

TARGETS = "target|label|labels|class|diagnosis|outcome|species|survived|quality|category|y|v1|sentiment|language"
"""Names of the column that is asked for, the likeliest first."""
AMOUNTS = r".*(target|value|temp|price|close|sales|demand|load).*|y|t\b.*"
"""Names of columns that are worth a forecast."""
GROUPS = "(speaker|voice|reader|author|user|customer|client|person|patient|participant|subject)([ _]?(id|name))?"
"""Names of a column that says whose an example is."""
IDS = "(.*[ _])?id"
"""Names of whole numbers that tell rows apart, in whatever order."""
GRADES = "quality|grade|score|rating|rank|stars|points|age|year|count|number"
"""Names of whole numbers that have an order."""
DATE = r"\d{4}|\d\d?[./-]\d\d?[./-]\d\d"
"""What any date has in it."""
CALENDAR = "year|month|day|hour|minute|second|week|weekday"
"""Names of columns that repeat what the time says."""
POSITIVE = ("yes", "true", "1", "positive")
MISSING = ("?", "NaN", "nan", "N/A", "n/a", "NULL", "null", "None", "-", ".")
"""Cells that mean: not known, beside the empty one and NA; all but the first in columns of numbers alone."""
TABULAR = (".csv", ".tsv", ".txt", ".tab", ".data")
MARKS = ",;\t|"
"""Characters that may stand between two cells."""
MOST_EXPECTED = 50
"""Columns that the draft of a suite speaks about."""
FEW_WORDS = 100
"""Words of all transcripts up to which a model hears none but those."""
SHORT, LONG = 8, 60
"""Words on average below which texts are read letter by letter, and from which on word by word; in pieces between."""
MOST_MISSED = 0.02
"""Share of the values that a column of a series may lack: each gap costs as many windows as a window has rows."""
WINDOWS = {"D": (28, 7), "B": (20, 5), "W": (52, 4), "MS": (24, 6), "ME": (24, 6), "QS": (8, 2), "QE": (8, 2)}
"""Rows that are seen and forecast, by the pandas offset between two rows."""
MOST_VALUES = 20
"""Values that a column of categories has at most, to be listed or to be a target without an order."""


@dataclass
class Draft:
    """Blocks of params.yaml, and why they are what they are."""

    dataset: dict[str, Any]
    reasons: list[str] = field(default_factory=list)
    """A line for each choice."""
    like: str = ""
    """Name of the model's block in `MODELS`; by default the kind."""
    model: dict[str, Any] = field(default_factory=dict)
    """Knobs of the model that are not in that block."""
    why: str = "a model that trains within minutes on two cores, to begin with"
    """The reason for the model's family."""

    def choose(self, reason: str, **knobs: Any) -> None:
        """Set knobs of the dataset, all for one reason."""
        self.dataset |= knobs
        self.reasons.append(reason)

    def spec(self, **other: Any) -> AnyDataset:
        """The dataset as params.py checks it, with other knobs for a look at the data."""
        return params.parse({"datasets": {"draft": self.dataset | other}, "evaluate": {}}).dataset("draft")


def init(path: Path, name: str | None, loaded: Params) -> None:
    """Draft a dataset, a model and its twin for the data at `path`, tell why, and add them to params.yaml.

    Raises BadInput for data of no kind, for a name that is taken, and where the line would refuse the draft.
    """
    if not path.exists():
        raise BadInput(f"{path}: not found")
    name = _free_name(path, name, loaded)
    with _transcribed(path) as told:
        draft = _of_folder(path) if path.is_dir() else _of_file(path)
        examples = _complete(draft, loaded.seed)
        model = YAML(typ="safe", pure=True).load(f"{{{MODELS[draft.like or draft.dataset['kind']]}}}")
        model = {"family": model["family"], "dataset": name} | model | draft.model
        if (most := max(3, MOST_SEEN // examples)) < model["epochs"]:
            model["epochs"] = most
            draft.reasons.append(f"epochs {most}: {examples:,} training examples are many for two cores")
        section = "finetune" if model["family"] == "mobilenet" else "train"
        edits.add(name, {"datasets": draft.dataset, section: model, "evaluate": {"dataset": name}})
    draft.reasons.append(f"family {model['family']}: {draft.why}")
    for reason in [*told, *draft.reasons]:
        log.info("%s: %s", name, reason)
    added = f"added datasets.{name}, {section}.{name} and evaluate.{name}"
    log.info("%s: %s (then: dvc repro register@%s)", PARAMS_FILE, added, name)


def _free_name(path: Path, name: str | None, loaded: Params) -> str:
    asked = name or re.sub(r"[^a-z0-9]+", "-", path.resolve().stem.lower()).strip("-")
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", asked) or not isinstance(YAML(typ="safe", pure=True).load(asked), str):
        raise BadInput(f"`{asked}` is no name: small letters, digits, - and _ (name it yourself: --name NAME)")
    for section in ("datasets", "train", "finetune", "evaluate"):
        if asked in getattr(loaded, section):
            raise BadInput(f"{PARAMS_FILE}: {section}.{asked}: is there already (choose another name: --name NAME)")
    return asked


def _complete(draft: Draft, seed: int) -> int:
    """Read and split the data as the line will, so that no draft is written that would stop there, and add a suite.

    Gives the number of training examples.
    """
    spec = draft.spec()
    kind = kinds.of(spec)
    manifest = kind.manifest(spec)
    if len(manifest) < spec.rows[0]:
        raise BadInput(f"{spec.path}: {len(manifest)} example(s) (expected {spec.rows[0]} or more)")
    parts = kind.split(spec, manifest, seed)
    kind.facts(spec, manifest)
    if found := [finding for finding in kinds.audit(spec, manifest, parts) if finding.grave]:
        draft.choose(f"audit warn: it would be refused for {len(found)} finding(s), first: {found[0]}", audit="warn")
    shown = {"images": ["label", "width", "height"], "text": [spec.label, "characters"], "speech": ["seconds"]}
    columns = shown.get(spec.kind, [column for column in map(str, manifest) if column not in ("time", "row")])
    suite = [expected for column in columns if (expected := _expected(manifest[column]))][:MOST_EXPECTED]
    draft.choose(
        f"{len(suite)} expectation(s), ranges wide around what is there, lists of just that: adjust them",
        expect=suite,
    )
    return int((parts == splits.TRAIN).sum())


def _expected(values: pd.Series) -> dict[str, Any] | None:
    """What can be expected of a column, judging by its values; None where that is nothing."""
    expected: dict[str, Any] = {"column": str(values.name)}
    known = values.dropna()
    if known.empty:
        return None
    if pd.api.types.is_numeric_dtype(known):
        expected["between"] = _bounds(float(known.min()), float(known.max()))
    elif known.nunique() <= MOST_VALUES:
        expected["one_of"] = sorted(known.unique())
    if _is_id(values) and values.astype(str).str.count(r"\S+").mean() < SHORT:  # a free text may come again
        expected["unique"] = True
    if len(known) == len(values):
        expected["not_null"] = True
    return expected if len(expected) > 1 else None


def _bounds(low: float, high: float) -> list[float]:
    """Half the range more at each end, rounded outwards; what has no negative values keeps to that."""
    room = (high - low or abs(high) or 1.0) / 2
    digits = min(-floor(log10(2 * room)), 30)
    least, most = floor((low - room) * 10.0**digits) / 10.0**digits, ceil((high + room) * 10.0**digits) / 10.0**digits
    ends = [max(least, 0.0) if low >= 0 else least, min(most, 0.0) if high <= 0 else most]
    return [int(end) if end.is_integer() else round(end, max(digits, 0)) for end in ends]


# === Folders ===


def _of_folder(path: Path) -> Draft:
    if (path / speech.TRANSCRIPTS).exists():
        return _speech(path)
    names = [child.name for child in path.iterdir() if child.is_dir()]
    if splits.TRAIN in names and (other := {"val", "valid", "dev"} & set(names)):
        raise BadInput(f"{path / other.pop()}: unknown part (rename it to `validation`, beside train and test)")
    given = {splits.TRAIN, splits.TEST} <= set(names)
    if any(file.suffix.lower() in images.SUFFIXES for file in path.glob("*/*/*" if given else "*/*")):
        return _images(path, given)
    found = sorted({file.suffix.lower() or "nameless" for file in path.rglob("*") if file.is_file()})
    told = f"files of type {', '.join(found[:5])}" if found else "no files"
    raise BadInput(
        f"{path}: folder with {told}, in no layout that is known (expected one folder a class with PNG or JPEG files, "
        f"also in train/ and test/, or recordings with a {speech.TRANSCRIPTS}; for a table name the file, "
        "and for texts a CSV with a column of text and one of labels)"
    )


def _images(path: Path, given: bool) -> Draft:
    from PIL import Image

    draft = Draft({"kind": "images", "path": path.as_posix()})
    if given:
        parts = [part for part in splits.SPLITS if (path / part).is_dir()]
        draft.choose(f"split as given, by the folders {', '.join(parts)}", split={"given": "folder"})
    look = draft.spec(objective="multiclass")
    manifest = kinds.of(look).manifest(look)
    classes, sizes = manifest["label"].nunique(), manifest[["width", "height"]].drop_duplicates()
    draft.reasons.insert(0, f"kind images: {len(manifest):,} PNG or JPEG files in {classes} class folders")
    draft.dataset["objective"] = "binary" if classes == 2 else "multiclass"
    modes = set()
    for example in manifest.index[:: max(1, len(manifest) // 200)]:
        with Image.open(path / example) as image:
            modes.add(image.mode)
    grey = modes <= {"1", "L", "LA", "I", "I;16", "F"}
    draft.choose("channels 1: all is grey" if grey else "channels 3: there is colour", channels=1 if grey else 3)
    usual = int(manifest[["width", "height"]].min(axis=1).median())
    photos = not grey and len(manifest) < FEW_PHOTOS and usual >= 32
    draft.like, most = ("photos", 128) if photos else ("pictures", 64)
    if len(sizes) > 1 or usual > most:
        side = min(max(round(usual / 8), 1) * 8, most)
        told = f"images have {len(sizes)} size(s), median of the shorter sides {usual}"
        reason = f"{most} is all the network sees" if usual > most else "a multiple of 8"
        draft.choose(f"size [{side}, {side}]: {told}; {reason}", size=[side, side])
    draft.why = (
        "a pretrained network, as colour photos are few" if photos else "from scratch, as images are many or plain"
    )
    return draft


def _speech(path: Path) -> Draft:
    draft = Draft({"kind": "speech", "path": path.as_posix()})
    draft.reasons.append(f"kind speech: there is a {speech.TRANSCRIPTS}")
    sheet = Sheet(path, delimited.read(path / speech.TRANSCRIPTS, ","), {}, True, ["", "NA"], [])
    _choose_group(draft, sheet, sheet.columns, least=3)
    look = draft.spec(rate=1000, bands=8, mixed=True, longest=1e6)
    manifest = kinds.of(look).manifest(look)
    if (least := int(manifest["rate"].min())) < 8000:
        draft.choose(f"rate {least}: some recordings have no more samples a second", rate=least)
    if len(manifest[["rate", "channels"]].drop_duplicates()) > 1:
        draft.choose("mixed: the recordings differ in rate or channels", mixed=True)
    if (longest := manifest["seconds"].max()) > 30:
        draft.choose(f"longest {ceil(longest)}: so many seconds has the longest one", longest=float(ceil(longest)))
    if (words := len(set(" ".join(manifest["transcript"]).split()))) <= FEW_WORDS:
        draft.model |= {"words": "known", "beam": 16}
        draft.reasons.append(f"words known: the {words} of the transcripts are few, and the model hears no other")
    return draft


@contextmanager
def _transcribed(path: Path) -> Iterator[list[str]]:
    """Write transcripts.csv for a folder of recordings whose names tell what is said and by whom; taken back on errors.

    Gives the lines that tell so. Raises BadInput where there are recordings and names that do not tell, or tell but one
    word.
    """
    target, rows = path / speech.TRANSCRIPTS, []
    found = sorted(path.rglob("*")) if path.is_dir() and not target.exists() else []
    if sets := [file.parent for file in found if file.name == target.name]:
        raise BadInput(f"{path}: no set, but what holds one (name that folder: {sets[0]})")
    for file in (file for file in found if file.suffix.lower() in speech.SUFFIXES):
        said = re.fullmatch(r"(\d|[^\W\d_]+)_([^_]+)_\d+", file.stem)
        if not said:
            raise BadInput(
                f"{file}: recording without {target.name} (write one in {path}, with columns file and transcript; from "
                "names such as yes_anna_3.wav it is made for you)"
            )
        word = DIGITS[int(said[1])] if said[1].isdecimal() else said[1]
        rows.append([file.relative_to(path).as_posix(), word, said[2]])
    if not rows:
        yield []
        return
    if len(words := {word for _, word, _ in rows}) == 1:
        told = f"all {len(rows)} names begin with `{words.pop()}`, which tells nothing of what is said"
        raise BadInput(f"{path}: {told} (write a {target.name}, with columns file and transcript)")
    files.write_text(target, pd.DataFrame(rows, columns=["file", "transcript", "speaker"]).to_csv(index=False))
    try:
        yield [f"wrote {target}: all {len(rows):,} names have the shape WORD_SPEAKER_TAKE, as {Path(rows[0][0]).name}"]
    except BaseException:
        target.unlink()
        raise


# === Delimited files ===


@dataclass(frozen=True)
class Sheet:
    """A delimited file as it was read."""

    path: Path
    cells: pd.DataFrame
    how: dict[str, Any]
    """Knobs by which it is read: names, delimiter."""
    quoting: bool
    missing: list[str]
    """Cells that mean: not known."""
    reasons: list[str]

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(map(str, self.cells))

    def numeric(self, column: str) -> bool:
        """Whether all cells that are known are numbers."""
        known = self.known(column)
        numbers = pd.to_numeric(known, errors="coerce").astype(float)
        return len(known) > 0 and bool((numbers.abs() <= np.finfo(np.float32).max).all())

    def known(self, column: str) -> pd.Series:
        """The cells that are not missing."""
        return self.cells[column][delimited.known(self.cells[column], self.missing)]

    def missed(self, column: str) -> float:
        """Share of the cells that are missing."""
        return 1 - len(self.known(column)) / len(self.cells)

    def words(self, column: str) -> float:
        """Words of a cell on average, in a column of free text: most cells have one of their own; 0 in any other."""
        cells = self.cells[column]
        if self.numeric(column) or cells.nunique() <= len(cells) / 2 or _dated(self, column):
            return 0
        return float(cells.str.count(r"\S+").mean())

    def few(self, column: str) -> bool:
        """Whether the column may be one of classes: a few values, each of them often, none missing."""
        return not self.missed(column) and 2 <= self.cells[column].nunique() <= min(100, len(self.cells) / 5)

    def draft(self, kind: str, reason: str) -> Draft:
        """The beginning of a draft; raises BadInput for quotation marks that only a text may have."""
        if not self.quoting and kind != "text":
            told = "quotation marks do not come in pairs around cells"
            raise BadInput(f"{self.path}: {told} (in {kind} they must: take them out, or double those within a cell)")
        how = self.how | ({"missing": self.missing} if len(self.missing) > 2 and kind != "text" else {})
        reasons = [f"kind {kind}: {reason}", *self.reasons]
        return Draft({"kind": kind, "path": self.path.as_posix()} | how, reasons)


def _of_file(path: Path) -> Draft:
    sheet = _sheet(path)
    if len(sheet.cells) < (least := Dataset.model_fields["rows"].default[0]):
        raise BadInput(f"{path}: {len(sheet.cells)} example(s) (expected {least} or more)")
    for column in sheet.columns:
        commas = sheet.known(column).str.fullmatch(r"-?[\d.]+,\d+").astype(bool)
        if commas.mean() > 0.5:
            told = f"{sheet.known(column)[commas].iloc[0]!r} has a comma in a number"
            where = f"{path}:{delimited.first(commas)}: column `{column}`"
            raise BadInput(f"{where}: {told}; {commas.sum()} such cell(s) (write 1234.5)")
    return _series(sheet) or _text(sheet) or _tables(sheet)


def _sheet(path: Path) -> Sheet:
    """Find delimiter, quoting and header: the delimiter is the one by which all rows are equally wide, and widest."""
    if path.suffix.lower() not in TABULAR:
        raise BadInput(f"{path}: of no kind that is known (expected {', '.join(TABULAR)}, or a folder)")
    text = path.read_bytes().decode(errors="replace").removeprefix("\ufeff")
    width, rows, mark = max((*_extent(text, mark, True), mark) for mark in MARKS)
    plain = max((*_extent(text, mark, False), mark) for mark in MARKS) if '"' in text else (0, 0, "")
    # a mark without its other half takes the cells and rows up to the next one for its own
    quoting = plain[0] < 2 or (width >= 2 and (plain[0] != width or plain[1] <= rows))
    if not quoting:
        width, _, mark = plain
    if width < 2:  # the reader says where it is at odds
        cells = delimited.read(path, max(MARKS, key=text.partition("\n")[0].count))
        raise BadInput(f"{path}:1: one column, `{cells.columns[0]}` (expected several, between `,` `;` tabs or `|`)")
    how: dict[str, Any] = {}
    reasons = []
    names = [f"column{place}" for place in range(1, width + 1)]
    cells = delimited.read(path, mark, names, quoting=quoting)
    if _has_header(cells):
        cells = delimited.read(path, mark, quoting=quoting)
    else:
        how["names"] = names
        reasons.append("names: the first row is data, not a header")
    if mark != ",":
        how["delimiter"] = mark
        reasons.append(f"delimiter {mark!r}: it cuts all rows into {width} cells")
    numbers = [column for column in cells if delimited.share_of_numbers(cells[column], ["", "NA"]) >= 0.5]
    marks = [sign for sign in MISSING if (cells[list(cells) if sign == "?" else numbers] == sign).any(axis=None)]
    marks += sorted({cell for column in numbers for cell in set(cells[column]) if cell and not cell.strip()})
    if marks:
        reasons.append(f"missing: also cells of {', '.join(f'`{sign}`' for sign in marks)}")
    return Sheet(path, cells, how, quoting, ["", "NA", *marks], reasons)


def _extent(text: str, mark: str, quoting: bool) -> tuple[int, int]:
    """Width and number of the rows; 0 where they are not equally wide."""
    how: Any = csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE
    width = count = 0
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=mark, quoting=how, strict=True):
            width = width or len(row)
            if len(row) not in (0, width) or width == 1:
                return 0, 0
            count += bool(row)
    except csv.Error:
        return 0, 0
    return width, count


def _has_header(cells: pd.DataFrame) -> bool:
    """Not where the names of columns of numbers would be numbers, or a name one of a few values that come again.

    Years one after the other are names.
    """
    first, rest = cells.iloc[0], cells.iloc[1:]
    numeric = [
        column for column in map(str, cells) if delimited.share_of_numbers(rest[column], ["", "NA", *MISSING]) >= 0.5
    ]
    if numeric:
        named = pd.to_numeric(first[numeric].replace(["", "NA", *MISSING], "0"), errors="coerce")
        years = len(numeric) > 1 and named.between(1000, 2999).all() and (named.diff().iloc[1:] == 1).all()
        return bool(years or named.isna().any())
    return not any(
        first[column] in values for column in map(str, cells) if len(values := set(rest[column])) <= MOST_VALUES
    )


def _is_id(values: pd.Series) -> bool:
    """Whether each row has its own text, or its own whole number, ascending."""
    if not values.is_unique or values.isna().any():
        return False
    numbers = pd.to_numeric(values, errors="coerce")
    return bool(numbers.isna().all() or ((numbers % 1 == 0).all() and numbers.is_monotonic_increasing))


def _counts_rows(values: pd.Series) -> bool:
    return bool((pd.to_numeric(values, errors="coerce").diff().iloc[1:] == 1).all())


def _named(pattern: str, columns: list[str]) -> list[str]:
    return [column for column in columns if re.fullmatch(pattern, column.strip(), re.IGNORECASE)]


def _choose_group(draft: Draft, sheet: Sheet, columns: list[str], least: int) -> None:
    """Take a column that says whose an example is, where there are enough of them to split by."""
    for column in _named(GROUPS, columns):
        count = sheet.cells[column].nunique()
        if least <= count < len(sheet.cells) and not sheet.missed(column):
            draft.choose(f"group `{column}`, by its name: none of the {count} is in two splits", group=column)
            return


def _given(sheet: Sheet) -> str | None:
    """The column that says train and test, where there is one."""
    for column in sheet.columns:
        if {splits.TRAIN, splits.TEST} <= set(sheet.cells[column].unique()) <= set(splits.SPLITS):
            return column
    return None


def _choose_given(draft: Draft, given: str | None) -> None:
    if given:
        draft.choose(f"split as given, by column `{given}`", split={"given": given})


def _dated(sheet: Sheet, column: str) -> bool:
    """Whether a column of texts holds dates, in whatever form."""
    known = sheet.known(column).head(100)
    if known.empty or sheet.numeric(column) or not known.str.contains(DATE).all():
        return False
    with warnings.catch_warnings(action="ignore"):  # of forms that could be read in two ways: either is a date
        return bool(pd.to_datetime(known, errors="coerce", format="mixed", utc=True).notna().mean() > 0.5)


def _choose_target(draft: Draft, sheet: Sheet, columns: list[str], classes: bool = False) -> str:
    """Take the column of the answer among `columns`, by its name or its place, and what is asked of it."""
    by_name = [column for name in TARGETS.split("|") for column in _named(name, columns)]
    if _named("x", sheet.columns):  # a place has a y, and is no answer
        by_name = [column for column in by_name if column not in _named("y", by_name)]
    target = by_name[0] if by_name else columns[-1]
    which = "of a few values, none missing" if classes else "that is not ignored and has no missing cell"
    place = "by its name" if by_name else f"the {'last' if len(columns) > 1 else 'only'} column {which}"
    draft.choose(f"target `{target}`: {place}", target=target)
    counts = sheet.cells[target].value_counts()
    numbers = pd.to_numeric(sheet.cells[target], errors="coerce")
    if len(counts) == 2:
        positive = next((name for name in counts.index if name.lower() in POSITIVE), str(counts.index[1]))
        reason = "by its name" if positive.lower() in POSITIVE else "the rarer"
        draft.choose(f"objective binary: two values; positive `{positive}`: {reason}", objective="binary")
        draft.dataset["positive"] = positive
    elif classes or numbers.isna().any():
        draft.choose(f"objective multiclass: {len(counts)} values", objective="multiclass")
    elif (numbers % 1 != 0).any() or len(counts) > MOST_VALUES:
        draft.choose(f"objective regression: {len(counts)} different numbers", objective="regression")
    elif _named(GRADES, [target]):
        reason = f"{len(counts)} whole numbers with an order, by the name (or multiclass, with no `between` expected)"
        draft.choose(f"objective regression: {reason}", objective="regression")
    else:
        reason = f"{len(counts)} whole numbers (if they have an order: regression)"
        draft.choose(f"objective multiclass: {reason}", objective="multiclass")
    return target


def _tables(sheet: Sheet) -> Draft:
    numeric = [column for column in sheet.columns if sheet.numeric(column)]
    texts = [column for column in sheet.columns if sheet.words(column) >= SHORT]
    lacking = "no series" if texts else "neither a series nor free text"
    told = f"{len(numeric)} of {len(sheet.columns)} columns are numbers, and there is {lacking}"
    draft = sheet.draft("tables", told)
    given = _given(sheet)
    _choose_given(draft, given)
    ignore = {column: why for column in sheet.columns if column != given and (why := _useless(sheet, column))}
    free = [column for column in sheet.columns if column not in (*ignore, given) and not sheet.missed(column)]
    named = [column for column in _named(TARGETS, sheet.columns) if column != given]
    times = [column for column in sheet.columns if _dated(sheet, column)]
    told = f"`{times[0]}` holds dates, and no series: they do not ascend by a step as YYYY-MM-DD" if times else ""
    if not free and not named:
        raise BadInput(
            f"{sheet.path}: no column can be the target: all are ids or free text, or have missing cells"
            + (f"; {told}" if times else "")
        )
    target = _choose_target(draft, sheet, [*(column for column in named if column not in free), *free])
    ignore.pop(target, None)
    if times:
        if len(ignore) + 1 + bool(given) == len(sheet.columns):
            raise BadInput(f"{sheet.path}: {told} (sort and write them so)")
        draft.reasons.append(f"{told}: for a forecast, sort and write them so, as these splits are drawn across time")
    _choose_group(draft, sheet, [column for column in sheet.columns if column not in (target, given)], least=30)
    ignore.pop(draft.dataset.get("group", ""), None)
    if ignore:
        told = ", ".join(f"`{column}` ({why})" for column, why in ignore.items())
        draft.choose(f"ignored: {told}", ignore=list(ignore))
    if texts:
        unseen = (*ignore, target, given, draft.dataset.get("group"))
        others = ", ".join(f"`{column}`" for column in sheet.columns if column not in unseen)
        alone = f"; for a model of the text: `trainyard init` a CSV of `{texts[0]}` and `{target}` alone"
        draft.reasons.append(
            f"the free text `{texts[0]}` is left out, as other columns tell something ({others})"
            + (alone if sheet.few(target) else "")
        )
    return draft


def _useless(sheet: Sheet, column: str) -> str:
    """Why a model of tables can learn nothing from a column; nothing where it can."""
    cells, known = sheet.cells[column], sheet.known(column)
    if known.empty or _dated(sheet, column):
        return "empty" if known.empty else "dates"
    if sheet.words(column) >= SHORT:
        return "free text"
    if _is_id(cells) or (known.is_unique and sheet.numeric(column) and _named(IDS, [column])):
        return "an id in each row"
    if sheet.numeric(column):
        return ""
    if delimited.share_of_numbers(cells, sheet.missing) >= 0.5:
        return "not all are numbers"
    return f"{known.nunique():,} texts" if known.nunique() > max(MOST_VALUES, min(100, len(known) / 2)) else ""


def _text(sheet: Sheet) -> Draft | None:
    """A column of free text and one of few values; beside a third that tells something only where texts are long.

    Beside more of them the table may tell more than the text.
    """
    text = max(sheet.columns, key=sheet.words)
    words, people, given = sheet.words(text), _named(GROUPS, sheet.columns), _given(sheet)
    others = [column for column in sheet.columns if column not in (text, *people, given)]
    labels = [column for column in others if sheet.few(column) and not _dated(sheet, column)]
    telling = [column for column in others if column in labels or not _useless(sheet, column)]
    if not words or not labels or len(telling) > (2 if words >= SHORT else 1):
        return None
    draft = sheet.draft("text", f"`{text}` is free text, {words:.1f} words on average")
    draft.dataset["text"] = text
    _choose_given(draft, given)
    target = _choose_target(draft, sheet, labels, classes=True)
    _choose_group(draft, sheet, [column for column in people if column != text], least=30)
    if words < SHORT:
        draft.choose("tokens characters: the texts are short", tokens="characters")
    elif words < LONG:
        draft.like = "messages"
        told = f"{SHORT} to {LONG} words on average are read in overlapping pieces of three characters"
        draft.choose(f"tokens trigrams: texts of {told}", tokens="trigrams")
    else:
        draft.choose("tokens words: the texts are long", tokens="words")
    if not sheet.quoting:
        draft.choose("quoting false: quotation marks do not come in pairs around cells", quoting=False)
    used = (text, target, given, draft.dataset.get("group"))
    if left := ", ".join(f"`{column}`" for column in sheet.columns if column not in used):
        draft.reasons.append(f"not used: {left}; a model of texts sees `{text}` alone")
    if "names" in sheet.how:
        called = {text: "text", target: "label"}
        draft.dataset |= {"names": [called.get(column, column) for column in sheet.columns]}
        draft.dataset |= {"text": "text", "target": "label"}
    return draft


# === Series ===


def _series(sheet: Sheet) -> Draft | None:
    """A column of times in order, in the whole file or among the rows of each station, with a step between them."""
    if "names" in sheet.how:  # the kind takes a header alone
        return None
    whole = pd.Series("", index=sheet.cells.index)
    for time in sheet.columns:
        if not sheet.cells[time].str.fullmatch(r"\d{4}-\d\d\b.*").all():
            continue
        times = pd.to_datetime(sheet.cells[time], format="ISO8601", errors="coerce", utc=True).dt.tz_localize(None)
        stations = {column: sheet.cells[column] for column in sheet.columns if sheet.few(column)}
        for column, names in {"": whole, **stations}.items():
            if times.notna().all() and (times.groupby(names).diff().dropna().to_numpy() > np.timedelta64(0)).all():
                station = names.value_counts().index[0]
                where = {column: station} if column else {}
                draft = _series_of(sheet, time, times[names == station], where)
                if draft is not None:
                    return draft
    return None


def _series_of(sheet: Sheet, time: str, times: pd.Series, where: dict[str, str]) -> Draft | None:
    part = replace(sheet, cells=sheet.cells.loc[times.index])
    columns = [
        column
        for column in part.columns
        if part.numeric(column) and part.cells[column].nunique() > 1 and not _counts_rows(part.cells[column])
    ]
    columns = [column for column in columns if column not in (*_named(CALENDAR, columns), "time", "row")]
    step = _step(times)
    classes = [column for column in _named(TARGETS, part.columns) if column not in columns]
    if step is None or not columns or classes:
        return None
    draft = sheet.draft("series", f"`{time}` holds times in order, one step (`{step}`) apart")
    draft.dataset["time"] = time
    if where:
        told = ", ".join(f"{column} {value}" for column, value in where.items())
        draft.choose(f"where {told}: times come again for each of them, and this one has the most rows", where=where)
    if not (complete := _frequency(times) is not None):
        draft.choose(f"step {step}: the usual time between two rows; rows that are not there are missing", step=step)
    _choose_window(draft, step, len(pd.date_range(times.iloc[0], times.iloc[-1], freq=step)))
    by_name = _named(AMOUNTS, columns)
    target = (by_name or columns)[-1]
    draft.choose(f"target `{target}`: {'by its name' if by_name else 'the last column of numbers'}", target=target)
    seen = [column for column in columns if column == target or part.missed(column) <= MOST_MISSED]
    left = ", ".join(f"`{column}` ({part.missed(column):.0%} missing)" for column in columns if column not in seen)
    draft.choose(f"columns: {len(seen)} with numbers{f'; left out: {left}' if left else ''}", columns=seen)
    if not complete or any(part.missed(column) for column in seen):
        draft.choose("fill 3: short gaps take the last known value; windows with longer ones are left out", fill=3)
    return draft


def _step(times: pd.Series) -> str | None:
    """The pandas offset on whose grid all times are, and at least half of its places are taken; None where none is."""
    if len(times) < 3:
        return None
    if found := _frequency(times):
        return found
    first, last = times.iloc[0], times.iloc[-1]
    usual: Any = times.diff().mode().iloc[0]
    if (last - first) / usual > 100 * len(times):
        return None
    usual_offset = {pd.Timedelta(days=1): ["B", "D"], pd.Timedelta(days=7): [f"W-{first:%a}".upper()]}
    for step in (*usual_offset.get(usual, [str(to_offset(usual).freqstr)]), "MS", "ME", "QS", "QE"):
        grid = pd.date_range(first, last, freq=step)
        if len(grid) < 2 * len(times) and times.isin(grid).all():
            return step
    return None


def _frequency(times: pd.Series) -> str | None:
    """The pandas offset between all rows; None where it is not the same."""
    with pd.option_context("future.infer_freq_returns_offset", True):
        offset: Any = pd.infer_freq(pd.DatetimeIndex(times)) if len(times) > 2 else None
    return None if offset is None else str(offset.freqstr)


def _choose_window(draft: Draft, step: str, rows: int) -> None:
    """Two days and a quarter of one ahead, or what is usual for longer steps; less where the rows are few."""
    offset: Any = to_offset(step)
    base = offset.base.freqstr.partition("-")[0]
    window, horizon = WINDOWS.get(base, (24, 6))
    reason = f"usual for a step of {step}"
    if base in ("h", "min", "s"):
        day = int(pd.Timedelta(days=1) / pd.Timedelta(offset))
        if 4 <= day <= 300:
            window, horizon, reason = (2 if day <= 48 else 1) * day, day // 4, f"a day is {day} rows"
            if base != "h":
                draft.choose(f"season {day}: {reason}", season=day)
    while 2 * (window + horizon) > rows / 5 and window > 1:
        window, horizon = window // 2, max(1, horizon // 2)
        reason = "the test takes a fifth of the rows, and several windows must fit"
    draft.choose(f"window {window}, horizon {horizon}: {reason}", window=window, horizon=horizon)
