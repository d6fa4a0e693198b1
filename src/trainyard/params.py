"""params.yaml as frozen types: what each knob means, its type and its default, in one place.

`load` reads the whole file and refuses what it does not know, with the YAML path and the nearest valid name. The JSON
Schema of `Params` is committed as params.schema.json, so that editors complete and check the file while it is typed.
"""

import math
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent

from trainyard.errors import BadInput
from trainyard.keras_names import ACTIVATIONS, ANY_OPTIMIZER, LOSSES, METRICS, NEEDED, OPTIMIZERS, SCHEDULES

PARAMS_FILE = Path("params.yaml")
MOST_BYTES = 1_000_000
DEEPEST = 50
SCHEMA_FILE = Path("params.schema.json")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def nearest(name: object, names: Iterable[str]) -> str:
    """The end of a refusal: the nearest valid name, or all of them."""
    names, given = sorted(names), str(name).lower()
    close = [known for known in names if given in (known.lower(), "".join(word[:1] for word in known.split("_")))]
    close = close or get_close_matches(str(name), names, n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else f"valid: {', '.join(names)}"


def refuse_misnamed(name: str) -> None:
    """Raises BadInput for what no block of params, and so no file, lock or model, can be called."""
    if not NAME.fullmatch(name):
        raise BadInput(f"`{name}`: no name (one is made of small letters, digits, - and _)")


def _known(names: Iterable[str]) -> AfterValidator:
    names = tuple(names)

    def check(name: str) -> str:
        if name not in names:
            raise PydanticCustomError(
                "unknown_name", "unknown name `{name}`; {hint}", {"name": name, "hint": nearest(name, names)}
            )
        return name

    return AfterValidator(check)


def _in_order(ends: tuple[Any, Any]) -> tuple[Any, Any]:
    low, high = ends
    if low is not None and high is not None and low > high:
        raise PydanticCustomError("order", "the least value comes first")
    return ends


def _divides(mark: str) -> str:
    if mark in '"\r\n\0':
        raise PydanticCustomError("delimiter", "a quotation mark, a line end or NUL divides no cells")
    return mark


class Spec(BaseModel):
    """Base of all blocks: frozen, strict, and no unknown keys."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, block: Any) -> Any:
        if isinstance(block, dict) and cls.model_config.get("extra") == "forbid":
            for key in block:
                if key not in cls.model_fields:
                    hint = nearest(key, cls.model_fields)
                    raise PydanticCustomError(
                        "unknown_key", "unknown param `{key}`; {hint}", {"key": str(key), "hint": hint}
                    )
        return block


Activation = Annotated[str, _known(ACTIVATIONS), WithJsonSchema({"enum": list(ACTIVATIONS)})]
_LOSSES = sorted({loss for losses in LOSSES.values() for loss in losses})
Loss = Annotated[str, _known(_LOSSES), WithJsonSchema({"enum": _LOSSES})]
Metric = Annotated[str, _known(METRICS), WithJsonSchema({"enum": list(METRICS)})]
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Side = Annotated[int, Field(ge=1, le=4096)]
Told = Annotated[str, Field(pattern=r"\S")]
Delimiter = Annotated[str, Field(min_length=1, max_length=1), AfterValidator(_divides)]
Block = TypeVar("Block")

# === Datasets ===


class Expectation(Spec):
    """One expectation about a column of the manifest; Great Expectations holds the data against it."""

    column: str
    """Column of the manifest: for tables and series a column of the file; for images `width`, `height`, `label` ..."""
    between: Annotated[tuple[float | None, float | None], AfterValidator(_in_order)] | None = Field(
        default=None, strict=False
    )
    """Least and greatest value, both allowed; null leaves a side open."""
    one_of: list[str] | None = None
    """All values that are allowed."""
    matches: str | None = None
    """Regular expression that each value must match, as a whole."""
    unique: bool = False
    """No value twice."""
    not_null: bool = False
    """No value missing."""

    @model_validator(mode="after")
    def _expects_something(self) -> "Expectation":
        bounded = self.between not in (None, (None, None))
        if not (bounded or self.one_of or self.matches or self.unique or self.not_null):
            raise PydanticCustomError("empty", "expects nothing; add between, one_of, matches, unique or not_null")
        return self


class Split(Spec):
    """How the examples are shared out; what is in neither validation nor test is for training."""

    validation: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the examples that chooses the best epoch."""
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the examples that is asked once, by `evaluate`."""
    given: str | None = None
    """The data is split already: for tables the column, for images `folder`, that says train, validation or test.
    Without a given validation part it is drawn from the training part."""

    @model_validator(mode="after")
    def _leaves_some(self) -> "Split":
        if self.validation + self.test >= 1:
            raise PydanticCustomError("split", "validation and test leave nothing to train on")
        return self


class Dataset(Spec):
    """What every kind of data has."""

    objectives: ClassVar[tuple[str, ...]] = ()
    label: ClassVar[str] = "label"
    """Column of the manifest that holds the answer."""

    path: str
    """File or folder, relative to the project."""
    origin: Told | None = None
    """Where the data comes from, for the model card."""
    licence: Told | None = None
    """What its licence allows, for the model card."""
    split: Split = Split()
    audit: Literal["refuse", "warn"] = "refuse"
    """What to do when the audit finds the same example, or the same group, in two splits, or the answer in a column."""
    audit_allow: list[str] = []
    """Columns that may tell the answer all alone (images: format, width, height): they are known before it is."""
    contradicting: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of the examples that may be equal to others with another label, the commonest label of each not counted:
    so many no model can answer right. Fewer are told, more are refused."""
    rows: Annotated[tuple[int, int], AfterValidator(_in_order)] = Field(default=(10, 100_000_000), strict=False)
    """Fewest and most examples that the data may have."""
    expect: list[Expectation] = []
    """Expectations beside those that the kind always has."""


class Tables(Dataset):
    """A CSV file, one example a row. Columns are found by name; numeric and categorical ones are told apart."""

    objectives: ClassVar[tuple[str, ...]] = ("binary", "multiclass", "regression")

    kind: Literal["tables"]
    objective: Literal["binary", "multiclass", "regression"]
    """binary: sigmoid, binary cross-entropy; multiclass: softmax, categorical cross-entropy; regression: linear,
    squared error."""
    target: str
    """Column of the answer."""
    delimiter: Delimiter = ","
    """Character between two cells."""
    names: list[str] | None = None
    """Names of the columns, for a file without a header."""
    positive: str | None = None
    """binary: the label that counts as 1; by default the last one in sorted order."""
    numeric: list[str] | None = None
    """Columns of numbers; by default those in which most cells are numbers."""
    categorical: list[str] | None = None
    """Columns of categories; by default those in which most cells are no numbers."""
    ignore: list[str] = []
    """Columns that the model must not see."""
    group: str | None = None
    """Column that says which rows belong together (a patient, say); a group is wholly in one split."""
    missing: list[str] = ["", "NA"]
    """Cells that mean: not known."""

    @property
    def label(self) -> str:  # type: ignore[override]  # a class constant elsewhere, the user's choice here
        """Column of the manifest that holds the answer."""
        return self.target

    @model_validator(mode="after")
    def _one_role_a_column(self) -> "Tables":
        single = {"target": self.target, "group": self.group, "split.given": self.split.given}
        several = {"numeric": self.numeric or [], "categorical": self.categorical or [], "ignore": self.ignore}
        roles = [(role, column) for role, column in single.items() if column is not None]
        roles += [(role, column) for role, columns in several.items() for column in columns]
        seen: dict[str, str] = {}
        for role, column in roles:
            if column in seen:
                context = {"column": column, "first": seen[column], "second": role}
                message = "column `{column}` is named twice, by {first} and {second}"
                raise PydanticCustomError("roles", message, context)
            seen[column] = role
        return self


class Images(Dataset):
    """A folder with one folder a class, of PNG and JPEG files."""

    objectives: ClassVar[tuple[str, ...]] = ("binary", "multiclass")

    kind: Literal["images"]
    objective: Literal["binary", "multiclass"]
    """binary: sigmoid, binary cross-entropy; multiclass: softmax, categorical cross-entropy."""
    size: tuple[Side, Side] | None = Field(default=None, strict=False)
    """Height and width in pixels that images are brought to; null where all have one size already."""
    resize: Literal["crop", "pad", "stretch"] = "crop"
    """How an image of another shape is brought to `size`."""
    channels: Literal[1, 3] = 3
    """1: grey; 3: colour."""
    positive: str | None = None
    """binary: the class that counts as 1; by default the last one in sorted order."""
    group: str | None = None
    """Regular expression on the file name; its first group says which images belong together, in one split."""

    @model_validator(mode="after")
    def _group_is_a_pattern(self) -> "Images":
        if self.group is not None:
            try:
                groups = re.compile(self.group).groups
            except re.error as error:
                raise PydanticCustomError(
                    "pattern", "group is no regular expression: {why}", {"why": str(error)}
                ) from None
            if groups < 1:
                raise PydanticCustomError("pattern", "group has no parentheses: which part of the name is the group?")
        if self.split.given not in (None, "folder"):
            raise PydanticCustomError("given", "split.given of images is `folder` (train/, validation/, test/)")
        return self


class Series(Dataset):
    """A CSV file with a time column: forecast the next values of one column from a window of past rows."""

    objectives: ClassVar[tuple[str, ...]] = ("forecast",)
    label: ClassVar[str] = "time"

    kind: Literal["series"]
    objective: Literal["forecast"] = "forecast"
    """forecast: linear, mean squared error; the head predicts the change from the window's last value."""
    time: str
    """Column of the time, ISO 8601."""
    target: str
    """Column to forecast."""
    columns: list[str] | None = None
    """Columns that the model sees; by default the target alone. The target is always among them."""
    window: Count
    """Rows that the model sees."""
    horizon: Count = 1
    """Rows ahead that it forecasts, all at once."""
    step: str | None = None
    """Time between two rows as a pandas offset (h, D, MS ...); rows that are not there count as missing. By default the
    rows themselves must be regular."""
    regular: bool = True
    """False: take the rows as they come, whatever the time between them."""
    fill: Annotated[int, Field(ge=0)] = 0
    """Missing values filled with the last known one, at most this many in a row; windows with others are left out."""
    season: Count | None = None
    """Rows in a season, for the naive and the ETS baseline; by default that of `step` (12 for months, 24 for hours)."""
    where: dict[str, str] = {}
    """Take only the rows with these values: one station of many, say."""
    delimiter: Delimiter = ","
    """Character between two cells."""
    missing: list[str] = ["", "NA"]
    """Cells that mean: not known."""

    @model_validator(mode="after")
    def _split_is_in_time(self) -> "Series":
        if self.split.given is not None:
            raise PydanticCustomError("given", "a series is split in time; it takes no split.given")
        return self

    @model_validator(mode="after")
    def _values_are_no_times(self) -> "Series":
        for column in (self.target, *(self.columns or [])):
            if column in (self.time, "time", "row"):
                message = "column `{column}` is the time, or has a name that the manifest needs; rename it"
                raise PydanticCustomError("roles", message, {"column": column})
        return self


class Text(Dataset):
    """A CSV or TSV file with a column of text and a column of its class."""

    objectives: ClassVar[tuple[str, ...]] = ("binary", "multiclass")

    kind: Literal["text"]
    objective: Literal["binary", "multiclass"]
    """binary: sigmoid, binary cross-entropy; multiclass: softmax, categorical cross-entropy."""
    text: str
    """Column of the text; an empty one is refused."""
    target: str
    """Column of the class."""
    delimiter: Delimiter = ","
    """Character between two cells."""
    names: list[str] | None = None
    """Names of the columns, for a file without a header."""
    quoting: bool = True
    """False: quotation marks are part of the text, as in most TSV files."""
    positive: str | None = None
    """binary: the label that counts as 1; by default the last one in sorted order."""
    group: str | None = None
    """Column that says which texts belong together (an author, say); a group is wholly in one split."""
    tokens: Literal["characters", "trigrams", "words"] = "characters"
    """What the model reads one by one, A to Z in small letters: characters, overlapping pieces of three characters, or
    words without their punctuation. Pieces tell of numbers, signs and unknown words what words do not."""
    vocabulary: Annotated[int, Field(ge=2)] = 10_000
    """Most tokens that are told apart, the most frequent ones of the training split; all others are one token."""
    length: Count | None = None
    """Tokens that the model reads of a text, from its beginning; by default enough for 99% of the training texts."""
    similar: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Share of common three-letter pieces (Jaccard) from which on two texts count as the same.
    Without a `group` they stay in one split."""

    @property
    def label(self) -> str:  # type: ignore[override]  # a class constant elsewhere, the user's choice here
        """Column of the manifest that holds the answer."""
        return self.target

    @model_validator(mode="after")
    def _one_role_a_column(self) -> "Text":
        roles = {"characters": "the manifest", "words": "the manifest"}
        others = {"target": self.target, "group": self.group, "split.given": self.split.given}
        for role, column in {"text": self.text, **others}.items():
            if column is not None and roles.setdefault(column, role) != role:
                message = "column `{column}` is named twice, by {first} and {second}"
                raise PydanticCustomError("roles", message, {"column": column, "first": roles[column], "second": role})
        return self


class Speech(Dataset):
    """A folder of WAV, FLAC and OGG recordings with a transcripts.csv that says what is spoken in each."""

    objectives: ClassVar[tuple[str, ...]] = ("transcription",)
    label: ClassVar[str] = "transcript"

    kind: Literal["speech"]
    objective: Literal["transcription"] = "transcription"
    """transcription: letters, one probability a letter and frame, connectionist temporal classification (CTC)."""
    rate: Annotated[int, Field(ge=1000, le=192_000)] = 8000
    """Samples a second that all recordings are brought to; one that has fewer is refused."""
    mixed: bool = False
    """Take recordings of different rates and numbers of channels; by default one unlike the others is refused."""
    alphabet: str | None = Field(default=None, min_length=1)
    """All letters that a transcript may have, the space among them; by default those that the transcripts have."""
    group: str | None = None
    """Column of transcripts.csv that says who speaks; a speaker is wholly in one split."""
    longest: Positive = 30.0
    """Seconds that a recording may have at most."""
    bands: Annotated[int, Field(ge=8)] = 24
    """Mel bands of the spectrogram; few of them blur the pitch of a voice, which says nothing of the words."""
    frame: Positive = 0.02
    """Seconds of sound in a frame of the spectrogram."""
    step: Positive = 0.01
    """Seconds from one frame to the next."""

    @model_validator(mode="after")
    def _columns_of_their_own(self) -> "Speech":
        for column in (self.group, self.split.given):
            if column in ("file", "transcript", "row", "rate", "channels", "seconds", "loudest", "clipped", "sha256"):
                message = "column `{column}` has a name that the manifest needs; rename it"
                raise PydanticCustomError("roles", message, {"column": column})
        if self.group is not None and self.group == self.split.given:
            raise PydanticCustomError("roles", "column `{column}` is named twice", {"column": self.group})
        return self

    @model_validator(mode="after")
    def _frames_hold_sound(self) -> "Speech":
        if not 1 <= self.step * self.rate <= self.frame * self.rate:
            raise PydanticCustomError("frames", "`step` is at least one sample (1 / `rate`), and at most a `frame`")
        if self.bands > self.frame * self.rate / 2:
            message = "`bands`: more than the {count} frequencies that a frame tells apart"
            raise PydanticCustomError("frames", message, {"count": int(self.frame * self.rate / 2)})
        return self


AnyDataset = Annotated[Tables | Images | Series | Text | Speech, Field(discriminator="kind")]

# === Optimizers ===


def _known_arguments(block: "Schedule | Optimizer", named: str, valid: Iterable[str]) -> None:
    for key in block.model_extra or {}:
        if key not in valid:
            message = "unknown argument `{key}` of {named}; {hint}"
            context = {"key": key, "named": named, "hint": nearest(key, (*valid, *type(block).model_fields))}
            raise PydanticCustomError("unknown_key", cast("Any", message), context)


class Schedule(Spec):
    """A learning rate that changes with the steps, with the arguments that Keras gives it (`decay_steps: 1000` ...)."""

    model_config = ConfigDict(extra="allow")

    name: Annotated[str, _known(SCHEDULES), WithJsonSchema({"enum": list(SCHEDULES)})]
    """Any of Keras' schedules."""

    @model_validator(mode="after")
    def _arguments(self) -> "Schedule":
        _known_arguments(self, self.name, SCHEDULES[self.name])
        lacking = [key for key in SCHEDULES[self.name] if key in NEEDED and key not in (self.model_extra or {})]
        if lacking:
            context = {"key": lacking[0], "named": self.name}
            raise PydanticCustomError("unknown_key", "missing; {named} needs it", context)  # its path ends in the key
        return self


class Optimizer(Spec):
    """Any Keras optimizer with the arguments that Keras gives it (`momentum: 0.9` ...)."""

    model_config = ConfigDict(extra="allow")

    name: Annotated[str, _known(OPTIMIZERS), WithJsonSchema({"enum": list(OPTIMIZERS)})] = "adam"
    """Any of Keras' optimizers."""
    learning_rate: Positive | Schedule = 0.001
    """Step size, or a schedule of it."""

    @model_validator(mode="after")
    def _arguments(self) -> "Optimizer":
        _known_arguments(self, self.name, (*OPTIMIZERS[self.name], *ANY_OPTIMIZER))
        return self


# === Models ===


class EarlyStopping(Spec):
    """Stop when the monitored figure no longer gets better."""

    patience: Count
    """Epochs without a better one."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """Change that counts as better."""


class Plateau(Spec):
    """Lower the learning rate where the validation loss no longer gets better."""

    patience: Count
    """Epochs without a better one."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """What the rate is multiplied by."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """Change that counts as better."""
    cooldown: Annotated[int, Field(ge=0)] = 0
    """Epochs after a change that do not count."""
    min_lr: Annotated[float, Field(ge=0)] = 0.0
    """Least learning rate."""


class Augment(Spec):
    """Random changes of training images, drawn anew each time; 0 leaves one out."""

    flip: Literal["none", "horizontal", "vertical", "both"] = "none"
    """Mirror images."""
    rotate: Share = 0.0
    """Greatest angle, as a share of a full turn."""
    shift: Share = 0.0
    """Greatest shift, as a share of height and width."""
    zoom: Share = 0.0
    """Greatest change of size."""
    contrast: Share = 0.0
    """Greatest change of contrast."""
    brightness: Share = 0.0
    """Greatest change of brightness, as a share of full white."""
    hue: Share = 0.0
    """Greatest turn of the colours, as a share of the full circle; colour images alone."""


class Model(Spec):
    """What the training of every model has."""

    kinds: ClassVar[tuple[str, ...]] = ()

    dataset: str
    """Name of a block in `datasets`."""
    optimizer: Optimizer = Optimizer()
    """Optimizer and learning rate."""
    loss: Loss | None = None
    """Any Keras loss that fits the objective; by default the objective's own."""
    metrics: list[Metric] = []
    """Keras metrics shown while training, beside the objective's own."""
    epochs: Count = 20
    """Passes over the training split, at most."""
    batch_size: Count = 32
    """Examples in a step."""
    early_stopping: EarlyStopping | None = None
    """When to stop before `epochs`."""
    plateau: Plateau | None = None
    """When to lower the learning rate, where no schedule does."""
    best_epoch: bool = True
    """Keep the weights of the epoch with the least validation loss, not of the last one."""
    class_weight: Literal["balanced"] | dict[str, Positive] | None = None
    """Weight of each class in the loss; balanced: inverse to how often it occurs."""
    calibrate: bool = True
    """Classifiers: after the training, divide the logits by the temperature of least validation loss; what is the most
    probable class stays it."""

    @model_validator(mode="after")
    def _one_way_for_the_rate(self) -> "Model":
        if self.plateau and isinstance(self.optimizer.learning_rate, Schedule):
            raise PydanticCustomError("plateau", "`plateau` takes a learning_rate that is a number, not a schedule")
        return self


class MLP(Model):
    """Knobs of `family: mlp`, dense layers."""

    kinds: ClassVar[tuple[str, ...]] = ("tables", "images", "series")

    family: Literal["mlp"]
    layers: list[Count] = [64, 32]
    """Units of each hidden layer."""
    activation: Activation = "relu"
    """Activation of the hidden layers."""
    dropout: Share = 0.0
    """Share of units dropped after each hidden layer."""
    batch_normalization: bool = False
    """Normalise before each activation."""
    l2: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the squared weights in the loss."""


class CNN(Model):
    """Knobs of `family: cnn`, convolution and pooling blocks."""

    kinds: ClassVar[tuple[str, ...]] = ("images",)

    family: Literal["cnn"]
    filters: list[Count] = Field(default=[32, 64], min_length=1)
    """Filters of each block: convolutions with batch normalisation and activation, then 2x2 max pooling."""
    convolutions: Count = 1
    """Convolutions in each block."""
    kernel: Count = 3
    """Side of the kernels in pixels."""
    dense: list[Count] = [64]
    """Units of each dense layer after the blocks."""
    pooling: Literal["average", "flatten"] = "average"
    """How the last block reaches the dense layers: the mean over the image, or every place of it."""
    activation: Activation = "relu"
    """Activation of all hidden layers."""
    dropout: Share = 0.2
    """Share of units dropped before each dense layer and the head."""
    augment: Augment = Augment()
    """Random changes of the training images."""


class Disturb(Spec):
    """Random changes of the spectrograms of training recordings, drawn anew each time; 0 leaves one out."""

    pitch: Share = 0.0
    """Greatest shift of all bands, as a share of them: another voice."""
    bands: Share = 0.0
    """Share of the bands that are dropped, each for the whole recording."""
    frames: Share = 0.0
    """Share of the frames that are dropped."""
    noise: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation of noise; that of a band over the training split is 1."""


class RNN(Model):
    """Knobs of `family: rnn`, recurrent layers."""

    kinds: ClassVar[tuple[str, ...]] = ("series", "text", "speech")

    family: Literal["rnn"]
    cell: Literal["simple", "lstm", "gru"] = "lstm"
    """Recurrent cell: SimpleRNN, LSTM or GRU."""
    units: list[Count] = Field(default=[32], min_length=1)
    """Units of each recurrent layer, stacked."""
    bidirectional: bool = False
    """Read from both ends."""
    activation: Activation = "tanh"
    """Activation of the cells."""
    pooling: Literal["last", "max"] = "last"
    """What is told of a sequence: the last state, or the greatest value of each unit over all steps; not for speech."""
    dense: list[Count] = []
    """Units of each dense layer after the recurrent ones, with ReLU."""
    dropout: Share = 0.0
    """Share of inputs dropped in each recurrent layer."""
    recurrent_dropout: Share = 0.0
    """Share of the recurrent state dropped."""
    head_dropout: Share = 0.0
    """Share of units dropped before each dense layer and the head."""
    embedding: Count = 32
    """Text: numbers that a token is turned into."""
    filters: list[Count] = []
    """Filters of each convolution over time before the recurrent layers, with batch normalisation and ReLU."""
    kernel: Count | Annotated[list[Count], Field(min_length=1)] = 5
    """Steps that a convolution sees at once; of several sizes, all stand side by side (Kim, 2014)."""
    stride: Count = 1
    """Steps that the last convolution goes ahead: the recurrent layers see that many times fewer."""
    disturb: Disturb = Disturb()
    """Speech: random changes of the training recordings."""
    beam: Count = 1
    """Speech: readings that are followed side by side where letters are told from probabilities; 1 is greedy."""
    words: Literal["any", "known"] = "any"
    """Speech: known: the model hears words of the training transcripts alone; it takes a beam, of 16 say."""

    @model_validator(mode="after")
    def _knobs_that_need_another(self) -> "RNN":
        if self.words == "known" and self.beam == 1:
            raise PydanticCustomError("words", "`words: known` takes a beam (`beam: 16`, say)")
        if self.stride > 1 and not self.filters:
            raise PydanticCustomError("stride", "`stride` is that of the last convolution, and `filters` names none")
        return self


class Backbone(Spec):
    """A MobileNet without its head."""

    version: Literal["v1", "v2", "v3-small", "v3-large"] = "v1"
    """Howard et al. 2017; Sandler et al. 2018; Howard et al. 2019."""
    width: Positive = 1.0
    """Multiplier of the filters (alpha). ImageNet weights exist for 0.25, 0.5, 0.75 and 1 of v1, 0.35 to 1.4 of v2,
    0.75 and 1 of v3."""
    resolution: Annotated[int, Field(ge=32)] | None = None
    """Pixels of the shorter side that images are scaled to for the network (the paper's resolution multiplier); by
    default they stay as they are prepared, with 32 at least. Weights from ImageNet have seen 128 to 224."""
    weights: str = "auto"
    """`imagenet`: Keras' own; `embedded`: those that ship (v1, width 0.25); a file of weights without a head; `auto`:
    ImageNet where it can be had within seconds, else embedded; `none`: not pretrained. A `.keras` file is a whole
    network of your own, whatever it is made of: colour images to features."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """Of a file of weights, so that other bytes are another param."""
    black_white: tuple[float, float] = Field(default=(-1.0, 1.0), strict=False)
    """What black and white are to a network of your own; a MobileNet has -1 and 1."""

    @property
    def own(self) -> bool:
        """Whether it is a network of the user's, and no MobileNet."""
        return self.weights.endswith(".keras")

    @model_validator(mode="after")
    def _file_has_a_hash(self) -> "Backbone":
        named = ("auto", "embedded", "imagenet", "none")
        hint = nearest(self.weights, named)
        if self.weights not in named and self.sha256 is None and hint.startswith("did you mean"):
            told = {"name": self.weights, "hint": hint}
            raise PydanticCustomError("weights", "unknown weights `{name}`; {hint}", told)
        if (self.weights not in named) != (self.sha256 is not None):
            raise PydanticCustomError(
                "sha256", "a file of weights comes with its sha256 (`sha256sum FILE`), others do not"
            )
        return self

    @model_validator(mode="after")
    def _what_it_is_is_said_once(self) -> "Backbone":
        if self.own and (self.version, self.width) != ("v1", 1.0):
            raise PydanticCustomError(
                "own", "`version` and `width` are those of a MobileNet; a .keras file is a network"
            )
        if self.black_white[0] == self.black_white[1]:
            raise PydanticCustomError("black_white", "black and white are the same")
        if not self.own and self.black_white != (-1.0, 1.0):
            raise PydanticCustomError("own", "`black_white` is that of a .keras file; a MobileNet has [-1, 1]")
        return self


class Thaw(Spec):
    """The second phase: the top of the backbone trains too, at a low rate."""

    layers: Annotated[int, Field(ge=0)] | Literal["all"] = 12
    """Layers from the top, those without weights counted too (activations, say), of which the others train; or `all`. 0
    leaves the phase out."""
    batch_normalization: Literal["frozen", "trained"] = "frozen"
    """frozen: that of the backbone keeps its statistics, scales and shifts; trained: those of the thawed layers follow
    the new images, for which a batch must be large, or nothing pretrained."""
    epochs: Annotated[int, Field(ge=0)] = 10
    """Epochs of the phase, at most."""
    learning_rate: Positive = 1e-5
    """Step size of the phase."""
    rate_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """What the rate is multiplied by with each layer further down (Howard & Ruder, 2018); 1: all learn alike."""
    warm_up: Annotated[int, Field(ge=0)] = 0
    """Epochs in which the rate rises from nothing; it falls to nothing along half a cosine then. 0: it is constant."""

    @model_validator(mode="after")
    def _warm_in_time(self) -> "Thaw":
        if self.warm_up and self.warm_up >= self.epochs:
            context = {"warm_up": self.warm_up, "epochs": self.epochs}
            raise PydanticCustomError("warm_up", "warm_up ({warm_up}) must be less than epochs ({epochs})", context)
        return self


class Mix(Spec):
    """Blends of two training images, which are learnt as blends of their classes."""

    kind: Literal["mixup", "cutmix"]
    """mixup: both shine through (Zhang et al., 2018); cutmix: a box of one in the other (Yun et al., 2019)."""
    alpha: Positive = 0.2
    """Of the beta distribution that the shares come from: the smaller, the more one of them prevails."""


class MobileNet(Model):
    """Knobs of `family: mobilenet`: a new head on frozen features, then the top of the backbone at a low rate."""

    kinds: ClassVar[tuple[str, ...]] = ("images",)

    family: Literal["mobilenet"]
    backbone: Backbone
    """Which pretrained network."""
    dense: list[Count] = []
    """Units of each dense layer between backbone and head."""
    activation: Activation = "relu"
    """Activation of those layers."""
    dropout: Share = 0.2
    """Share of units dropped before each dense layer and the head."""
    augment: Augment = Augment()
    """Random changes of the training images."""
    copies: Annotated[int, Field(ge=0)] = 4
    """Augmented copies of the training images, beside the plain ones, whose frozen features train the head; none where
    neither `augment` nor `mix` would make them differ."""
    label_smoothing: Share = 0.0
    """Share of certainty that is taken from the training labels and given to all classes alike (Szegedy et al., 2016).
    `metrics` of the training split are asked about such labels then."""
    mix: Mix | None = None
    """Blend training images, in the copies and in the second phase."""
    thaw: Thaw = Thaw()
    """The second phase."""

    @model_validator(mode="after")
    def _labels_that_are_shares(self) -> "MobileNet":
        softened = "label_smoothing" if self.label_smoothing else "mix" if self.mix else None
        if softened and self.loss not in (None, "binary_crossentropy", "categorical_crossentropy", "kl_divergence"):
            context = {"softened": softened, "loss": self.loss}
            raise PydanticCustomError("softened", "`{softened}` takes a cross-entropy, not `{loss}`", context)
        if self.mix and self.class_weight is not None:
            raise PydanticCustomError("mix", "a blend has no class of its own: `mix` or `class_weight`, not both")
        if self.mix and not self.copies and not (self.thaw.layers and self.thaw.epochs):
            raise PydanticCustomError("mix", "nothing is blended with neither `copies` nor a second phase")
        if self.thaw.warm_up and self.plateau:
            raise PydanticCustomError("plateau", "`thaw.warm_up` is a schedule: it or `plateau`, not both")
        return self


AnyTrained = Annotated[MLP | CNN | RNN, Field(discriminator="family")]
AnyFinetuned = MobileNet  # a union by `family`, as above, when there is a second family to fine-tune
AnyModel = Annotated[MLP | CNN | RNN | MobileNet, Field(discriminator="family")]

# === The rest ===

MEASURED = {
    "binary": ("accuracy", "auc", "precision", "recall", "f1", "log_loss", "brier", "calibration_error"),
    "multiclass": ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "brier", "calibration_error"),
    "regression": ("mae", "rmse", "r2"),
    "forecast": ("mae", "rmse"),
    "transcription": ("word_error", "character_error"),
}
"""Metrics of the test split by objective; a test holds them against `quality.objectives`."""


class Budget(Spec):
    """What a model may take."""

    megabytes: Positive | None = None
    """Size of `model.keras`, in millions of bytes."""
    milliseconds: Positive | None = None
    """Time of one answer to one raw example, the median of many, where `register` runs."""


class Evaluate(Spec):
    """What a model must show before it can be champion."""

    dataset: str
    """Name of a block in `datasets`; the same as in the model's own block."""
    floor: dict[str, float] = {}
    """Metrics of the test split and the least (for errors: the greatest) value each must reach."""
    margin: Annotated[float, Field(ge=0)] = 0.0
    """How much better than the champion, in the mean per-example score, a challenger must surely be."""
    use: Told | None = None
    """What the model is meant for, and what it is not, for its card."""
    calibration: Positive | None = None
    """Classifiers: the calibration error that the model must not surely exceed; 0.1, say, and less than a `floor` of
    accuracy leaves wrong. Null asks for none."""
    budget: Budget = Budget()
    """Size and time that the model must not exceed."""
    slices: list[str] = []
    """Columns whose values are told apart in the figures, none of which may surely be worse than the champion's:
    `label`, `group`, or a column of a table that the model sees."""
    seeds: Annotated[int, Field(ge=2, le=10)] | None = None
    """Under how many seeds the model is trained in all, for intervals over initial weights and order beside those over
    test examples; the first is that of `seed`, and alone goes to the registry. Null: under that one."""
    slice_margin: Annotated[float, Field(ge=0)] = 0.0
    """How much worse than the champion, in the mean per-example score, a slice may surely be."""

    @model_validator(mode="after")
    def _can_fail(self) -> "Evaluate":
        most = round(1 - self.floor.get("accuracy", 0.0), 9)
        if self.calibration is not None and self.calibration >= most:
            told = "`calibration: {bound}` cannot fail: at its floor of accuracy a model is too sure by {most} at most"
            raise PydanticCustomError("calibration", told, {"bound": self.calibration, "most": most})
        return self


class Training(Spec):
    """How all models are trained."""

    device: Literal["auto", "cpu", "gpu"] = "auto"
    """gpu: refuse to train without one."""
    count: Count | None = None
    """Devices that share each batch where `distribute` says so; by default all that are there. Of a CPU they are parts,
    by which one may try it out."""
    distribute: Literal["none", "mirrored", "ray"] = "none"
    """mirrored: among the devices of this machine; ray: among workers of Ray with a device each, on many machines."""
    determinism: Literal["strict", "fast"] = "strict"
    """strict: the same bits from the same seed, on the same machine; fast: only the same seed."""
    engine: Literal["auto", "tensorflow", "jax"] = "auto"
    """What Keras computes with as it trains; auto: JAX where it has a GPU and TensorFlow has none."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: the products of a training in half the bits; weights and the saved model stay float32."""

    @model_validator(mode="after")
    def _can_share(self) -> "Training":
        if self.distribute == "none" and (self.count or 1) > 1:
            raise PydanticCustomError("count", "`count` above 1 takes `distribute: mirrored` or `ray`")
        if self.distribute != "none" and self.engine == "jax":
            context = {"how": self.distribute}
            raise PydanticCustomError("engine", "`distribute: {how}` is of TensorFlow, not of `engine: jax`", context)
        return self


class Axis(Spec):
    """What a sweep tries for one knob: a range, or a list of choices."""

    low: int | float | None = None
    """Least value. Whole numbers alone are tried where `low` and `high` are written as such."""
    high: int | float | None = None
    """Greatest value."""
    log: bool = False
    """Try the orders of magnitude evenly, not the values."""
    step: Annotated[int | float, Field(gt=0)] | None = None
    """Distance between two values; by default 1 between whole numbers, and any between others."""
    choices: Annotated[list[Any], Field(min_length=1)] | None = None
    """All values that are tried, in place of a range."""

    @property
    def ends(self) -> list[Any]:
        """Values that stand for all: the ends of the range and the first step into it, or each of the choices."""
        if self.choices is not None:
            return self.choices
        first = [self.low + self.step] if self.low is not None and self.step is not None else []
        return [self.low, self.high, *first]

    @property
    def whole(self) -> bool:
        """Whether a range is one of whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int) and isinstance(self.step, int | None)

    def holds(self, value: Any) -> bool:
        """Whether `value` is one of those that are tried."""
        if self.choices is not None:
            return value in self.choices
        if not isinstance(value, int | float) or self.low is None or self.high is None:
            return False
        steps = 0.0 if self.step is None else round((value - self.low) / self.step, 9)
        return self.low <= value <= self.high and float(steps).is_integer()

    @model_validator(mode="after")
    def _range_or_choices(self) -> "Axis":
        if self.choices is not None:
            if self.log or (self.low, self.high, self.step) != (None, None, None):
                raise PydanticCustomError("axis", "either `choices` or a range, not both")
        elif self.low is None or self.high is None:
            raise PydanticCustomError("axis", "takes `low` and `high`, or `choices`")
        elif self.low >= self.high:
            context = {"low": self.low, "high": self.high}
            raise PydanticCustomError("axis", "low ({low}) must be less than high ({high})", context)
        elif self.log and (self.low <= 0 or self.step is not None):
            raise PydanticCustomError("axis", "`log` takes a `low` above 0, and no `step`")
        return self


class Tune(Spec):
    """A sweep over knobs of one model, which `trainyard tune MODEL` makes; no stage of the line reads it."""

    trials: Count = 20
    """Trainings, those that are broken off early among them."""
    space: dict[str, Axis] = {}
    """What is tried, by knob (`optimizer.learning_rate`, `layers` ...); by default learning rate, width and dropout."""
    seeds: Annotated[int, Field(ge=2)] = 3
    """Seeds under which the winner and the present block are trained in the end, to tell them from chance."""


class Drift(Spec):
    """What `trainyard drift` calls drift; no stage of the line reads it."""

    level: Annotated[float, Field(ge=0.001, le=0.2)] = 0.01
    """Share of the calls at most that find drift in data which has not drifted."""
    least: Share = 0.02
    """Effect from which on a measure has drifted, as a share of the examples: of many, differences are sure that do not
    matter."""


class Drawing(Spec):
    """How a figure is drawn: anew at every step, or the weights would learn a thousand pictures by heart."""

    size: Annotated[tuple[Positive, Positive], AfterValidator(_in_order)] = Field(default=(0.6, 1.05), strict=False)
    """Least and greatest side of the figure, as a share of the picture's."""
    stretch: Annotated[float, Field(ge=1)] = 1.15
    """Greatest ratio by which one axis is longer than it was."""
    rotate: Annotated[float, Field(ge=0, le=0.5)] = 0.04
    """Greatest angle, as a share of a full turn."""
    shift: Annotated[float, Field(ge=0, le=1)] = 0.04
    """Greatest move out of the centre, as a share of the picture's side."""
    saturation: Annotated[tuple[float, float], AfterValidator(_in_order)] = Field(default=(0.0, 1.5), strict=False)
    """Least and greatest factor on its colourfulness; the hue is any."""
    contrast: Annotated[tuple[float, float], AfterValidator(_in_order)] = Field(default=(0.5, 1.2), strict=False)
    """Least and greatest factor on its levels around the middle."""
    noise: Annotated[float, Field(ge=0)] = 0.05
    """Greatest standard deviation of the noise, where black to white is 1."""
    clutter: Annotated[int, Field(ge=0)] = 0
    """Most other figures that lie behind it, of any size and place."""


class Pretrain(Spec):
    """What `trainyard pretrain NAME` makes of random weights: a MobileNet; no stage of the line reads it."""

    figures: str
    """Folder of square PNG files of one size, in and below it; what is transparent shows the ground."""
    version: Literal["v1", "v2", "v3-small", "v3-large"] = "v1"
    """As in `backbone`."""
    width: Positive = 0.25
    """As in `backbone`."""
    task: Literal["identity", "contrast", "distillation"] = "identity"
    """identity: to tell the figures apart, one class each; contrast: to find the other drawing of the same figure among
    those of a batch (Chen et al., 2020); distillation: to see what the same network with ImageNet weights sees."""
    match: list[str] = []
    """distillation: layers whose answers must be like the teacher's (Romero et al., 2015), beside the last one."""
    side: Annotated[int, Field(ge=32)] = 96
    """Pixels of a picture's side."""
    draw: Drawing = Drawing()
    """How the figures are drawn."""
    steps: Count = 3500
    """Steps of training; the rate falls to nothing over them along half a cosine."""
    batch_size: Count = 64
    """Pictures in a step."""
    learning_rate: Positive = 0.004
    """The highest rate, of AdamW."""
    warm_up: Share = 0.05
    """Share of the steps in which the rate rises."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.02
    """Of AdamW."""
    label_smoothing: Share = 0.1
    """identity: share of certainty that all figures get alike; some are near twins."""
    temperature: Positive = 0.1
    """contrast: what the likenesses are divided by."""

    @property
    def backbone(self) -> Backbone:
        """The network that is trained."""
        return Backbone(version=self.version, width=self.width, weights="none")

    @model_validator(mode="after")
    def _matches_a_teacher(self) -> "Pretrain":
        if self.match and self.task != "distillation":
            raise PydanticCustomError("match", "`match` is of `task: distillation` alone")
        for knob, task in (("label_smoothing", "identity"), ("temperature", "contrast")):
            if self.task != task and getattr(self, knob) != type(self).model_fields[knob].default:
                raise PydanticCustomError("knob", "`{knob}` is of `task: {task}` alone", {"knob": knob, "task": task})
        return self


class Keep(Spec):
    """Requests that `trainyard serve` keeps, as `trainyard drift` takes them."""

    share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of the examples that is kept, chosen by the hash of each: of two that are the same both are, or neither."""
    megabytes: Positive = 50.0
    """Of each model at most; the oldest give way."""


class Serve(Spec):
    """What `trainyard serve` takes, and what it keeps; no stage of the line reads it."""

    hosts: list[str] = []
    """Names by which the server is called, beside its address and `localhost`; requests for others are refused."""
    rows: Count = 1000
    """Most rows or files of a request; of large files fewer, as many as are 32 MB of what the model takes."""
    megabytes: Positive | None = None
    """Largest body of a request; by default 10 of images and recordings, 1 of other kinds."""
    waiting: Count = 32
    """Requests to a model that wait or are answered at a time; of one other machine little more than half of them."""
    seconds: Positive = 10.0
    """Time for an answer; a process that takes longer is ended, and another takes its place."""
    runtime: Literal["tensorflow", "onnx", "litert"] = "tensorflow"
    """What computes answers; another than TensorFlow where it is faster at equal answers."""
    keep: Keep | None = None
    """Which requests are kept, for `trainyard drift`; by default none."""


NOT_TUNED = {
    "backbone": "another stage finds it",
    "dataset": "trials are compared on one",
    "family": "a block of another family has other knobs",
    "l2": "it is a part of the loss by which trials are compared (`optimizer.weight_decay` of adamw is none)",
    "loss": "trials are compared by it",
    "metrics": "they change no weight",
}
"""Knobs that no sweep may turn, and why."""
WIDTHS = {"mlp": "layers", "cnn": "filters", "rnn": "units", "mobilenet": "dense"}
"""The knob of each family that says how wide the network is."""


def with_knobs(model: Model, knobs: Mapping[str, Any]) -> dict[str, Any]:
    """The block of a model with other values, by knob (`optimizer.learning_rate` ...); not checked yet."""
    block: dict[str, Any] = model.model_dump()
    for knob, value in knobs.items():
        *above, last = knob.split(".")
        inner = block
        for part in above:
            if not isinstance(inner.get(part), dict):
                inner[part] = {}
            inner = inner[part]
        inner[last] = value
    return block


class Params(Spec):
    """The whole of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    """Seed of splits, initial weights, batch order, dropout and augmentation."""
    datasets: dict[str, AnyDataset]
    """Data, by name."""
    train: dict[str, AnyTrained] = {}
    """Models that are trained from scratch, by name."""
    finetune: dict[str, AnyFinetuned] = {}
    """Models that are fine-tuned from pretrained weights, by name."""
    evaluate: dict[str, Evaluate]
    """Each model's twin: what it is measured on and must reach."""
    training: Training = Training()
    """How all models are trained."""
    tune: dict[str, Tune] = {}
    """Sweeps, by model. A model without one has a small space of its own."""
    drift: Drift = Drift()
    """What counts as drift of new data."""
    pretrain: dict[str, Pretrain] = {}
    """Backbones that are trained from random weights, by name."""
    serve: Serve = Serve()
    """What the server of models takes and keeps."""

    @property
    def models(self) -> dict[str, MLP | CNN | RNN | MobileNet]:
        """All models by name, trained and fine-tuned."""
        return {**self.train, **self.finetune}

    def model(self, name: str) -> MLP | CNN | RNN | MobileNet:
        """The model block called `name`; raises BadInput where there is none."""
        return _named("model", name, self.models)

    def finetuned(self, name: str) -> MobileNet:
        """The block of `finetune` called `name`; raises BadInput where there is none."""
        return _named("model to fine-tune", name, self.finetune)

    def pretrained(self, name: str) -> Pretrain:
        """The block of `pretrain` called `name`; raises BadInput where there is none."""
        return _named("backbone to pretrain", name, self.pretrain)

    def dataset(self, name: str) -> AnyDataset:
        """The dataset block called `name`; raises BadInput where there is none."""
        return _named("dataset", name, self.datasets)

    def require_data(self, *names: str) -> None:
        """Raises BadInput with a line for each of these datasets whose data is not there."""
        paths = {name: self.dataset(name).path for name in names}
        told = f"{PARAMS_FILE}: datasets.{{}}.path: {{}}: not found"
        if absent := [told.format(name, path) for name, path in paths.items() if not Path(path).exists()]:
            raise BadInput(*absent)

    def tuned(self, name: str) -> Tune:
        """The sweep of a model, with the space of its family where params name none."""
        model, tune = self.model(name), self.tune.get(name, Tune())
        return tune if tune.space else tune.model_copy(update={"space": _usual_space(model)})

    def turned(self, name: str, knobs: Mapping[str, Any]) -> "Params":
        """The same params with other knobs of a model; raises BadInput where they do not go together."""
        section = "train" if name in self.train else "finetune"
        models = {**getattr(self, section), name: _turned(self.model(name), knobs)}
        return self.model_copy(update={section: models})

    def _contradictions(self) -> Iterable[str]:
        for section in ("datasets", "train", "finetune", "evaluate", "pretrain"):
            for name in getattr(self, section):
                if not NAME.fullmatch(name):
                    yield f"{section}.{name}: a name is made of small letters, digits, - and _"
        for name in self.train.keys() & self.finetune.keys():
            yield f"finetune.{name}: `train` has a model of that name already"
        for name, model in self.models.items():
            yield from self._misfits(f"{'train' if name in self.train else 'finetune'}.{name}", name, model)
        for name, finetuned in self.finetune.items():
            if finetuned.mix and self.training.distribute != "none":
                yield f"finetune.{name}.mix: `training.distribute: {self.training.distribute}` blends no images"
        for name, recipe in self.pretrain.items():
            if Path(recipe.figures).resolve().is_relative_to((Path("pretrained") / name).resolve()):
                yield f"pretrain.{name}.figures: they lie in pretrained/{name}, which is made anew; choose another name"
        for name in self.evaluate.keys() - self.models.keys():
            yield f"evaluate.{name}: there is no model `{name}` in train or finetune; {nearest(name, self.models)}"

    def _untunable(self) -> Iterable[str]:
        """What is wrong with sweeps; asked once the models are known to be right."""
        for name, tune in self.tune.items():
            where = f"tune.{name}"
            if name not in self.models:
                yield f"{where}: there is no model `{name}` in train or finetune; {nearest(name, self.models)}"
                continue
            for knob, axis in tune.space.items():
                if refused := next(filter(None, (self._unfit(name, knob, value) for value in axis.ends)), ""):
                    yield f"{where}.space.{knob}: {refused}"

    def _unfit(self, name: str, knob: str, value: Any) -> str:
        model, first = self.models[name], knob.partition(".")[0]
        known = [field for field in type(model).model_fields if field not in NOT_TUNED]
        if first in NOT_TUNED:
            return f"no sweep turns `{knob}`: {NOT_TUNED[first]}"
        if first not in known:
            return f"unknown knob `{knob}`; {nearest(knob, (*known, 'optimizer.learning_rate', 'optimizer.name'))}"
        try:
            turned = _turned(model, {knob: value})
        except BadInput as error:
            return str(error).removeprefix(f"{knob}: ")
        return next(iter(self._misfits("", name, turned)), "").removeprefix(f".{knob}: ")

    def _misfits(self, where: str, name: str, model: Model) -> Iterable[str]:
        dataset = self.datasets.get(model.dataset)
        if dataset is None:
            yield f"{where}.dataset: no dataset is called `{model.dataset}`; {nearest(model.dataset, self.datasets)}"
        elif dataset.kind not in model.kinds:
            takes = " or ".join(model.kinds)
            yield f"{where}.dataset: `{model.dataset}` is of kind {dataset.kind}; this family takes {takes}"
        elif dataset.objective not in ("binary", "multiclass") and model.class_weight is not None:
            yield f"{where}.class_weight: `{model.dataset}` has no classes (objective {dataset.objective})"
        elif dataset.objective == "transcription" and model.metrics:
            yield f"{where}.metrics: no Keras metric is one of transcripts; `evaluate` measures word and letter errors"
        elif dataset.objective != "transcription" and (knob := _spoken(model)):
            yield f"{where}.{knob}: of speech alone (`{model.dataset}` is of kind {dataset.kind})"
        elif model.loss is not None and model.loss not in (fit := LOSSES[dataset.objective]):
            yield f"{where}.loss: `{model.loss}` does not fit objective {dataset.objective}; {nearest(model.loss, fit)}"
        if name not in self.evaluate:
            yield f"evaluate.{name}: missing; {where} needs its twin there, `{name}: {{dataset: {model.dataset}}}`"
        elif (other := self.evaluate[name].dataset) != model.dataset:
            yield f"evaluate.{name}.dataset: `{other}`, but the model is trained on `{model.dataset}`"
        elif dataset is not None:
            objective, measured = dataset.objective, MEASURED[dataset.objective]
            if self.evaluate[name].calibration is not None and "calibration_error" not in measured:
                yield f"evaluate.{name}.calibration: `{model.dataset}` has no classes (objective {objective})"
            for metric in self.evaluate[name].floor:
                if metric not in measured:
                    yield f"evaluate.{name}.floor.{metric}: not a metric of {objective}; {nearest(metric, measured)}"


def _turned(model: Model, knobs: Mapping[str, Any]) -> Any:
    """A model with other knobs; raises BadInput, without a path, where its family refuses them."""
    block = with_knobs(model, knobs)
    try:
        return type(model).model_validate(block)
    except ValidationError as error:
        raise BadInput(_lines(error, block)[0].removeprefix("the whole file: ")) from None


def _usual_space(model: Model) -> dict[str, Axis]:
    """Learning rate and width around the present ones, and dropout."""
    space = {}
    rate, knob = model.optimizer.learning_rate, "optimizer.learning_rate"
    if isinstance(rate, Schedule):
        rate, knob = (rate.model_extra or {}).get("initial_learning_rate", 0.0), f"{knob}.initial_learning_rate"
    if rate:
        space[knob] = Axis(low=float(f"{rate / 10:.2g}"), high=float(f"{rate * 10:.2g}"), log=True)
    width = WIDTHS[model.family]  # type: ignore[attr-defined]  # every family's block has one
    present = getattr(model, width)
    widths = [[max(1, units // 2) for units in present], present, [2 * units for units in present]]
    space[width] = Axis(choices=widths if present else [[], [64], [128]])
    space["head_dropout" if isinstance(model, RNN) else "dropout"] = Axis(low=0.0, high=0.5)
    return space


def _spoken(model: Model) -> str:
    """A knob that is of speech alone and has another value than by default; nothing where there is none."""
    fields = type(model).model_fields
    knobs = [knob for knob in ("beam", "disturb", "words") if knob in fields]
    return next((knob for knob in knobs if getattr(model, knob) != fields[knob].default), "")


def _named(what: str, name: str, blocks: dict[str, Block]) -> Block:
    if name not in blocks:
        raise BadInput(f"{PARAMS_FILE}: there is no {what} `{name}`; {nearest(name, blocks)}")
    return blocks[name]


def load(path: Path = PARAMS_FILE) -> Params:
    """Read and check the whole of params.yaml; raises BadInput with one line for each fault."""
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise BadInput(f"{path}: {size:,} bytes (at most {MOST_BYTES:,})")
        text = path.read_text(encoding="utf-8")
        _refuse_unwritten(path, text)
        raw = YAML(typ="safe").load(text)
    except FileNotFoundError:
        raise BadInput(f"{path}: not found (run from the project's folder)") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 at byte {error.start}") from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise BadInput(f"{path}:{line}: no valid YAML: {str(error.problem).splitlines()[0]}") from None
    except (YAMLError, ValueError, RecursionError) as error:  # 2026-13-01; a thousand brackets
        raise BadInput(f"{path}: no valid YAML: {str(error).splitlines()[0]}") from None
    return parse(raw, path)


def _refuse_unwritten(path: Path, text: str) -> None:
    """Raises BadInput for values that do not stand where they are read, and for what is no value of params.

    `dvc exp run -S` changes nothing that an alias repeats, and a few lines of aliases stand for any number of values.
    """
    depth = 0
    for event in YAML(typ="safe").parse(text):
        where = f"{path}:{event.start_mark.line + 1}"
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > DEEPEST:
            raise BadInput(f"{where}: a value within {DEEPEST} others (a bracket that is not closed?)")
        if anchor := getattr(event, "anchor", None):
            raise BadInput(f"{where}: `{anchor}` is an anchor or an alias (write the value out where it is needed)")
        if tag := getattr(event, "ctag", None):
            raise BadInput(f"{where}: `{tag}` is a tag (params are mappings, lists, text, numbers, true and false)")
        if re.search("[\ud800-\udfff]", getattr(event, "value", "")):
            raise BadInput(f"{where}: half a surrogate pair, which is no text")


def parse(raw: Any, path: Path = PARAMS_FILE) -> Params:
    """Check params that are read already (a mapping, as YAML gives it)."""
    if not isinstance(raw, dict):
        got = "nothing" if raw is None else type(raw).__name__
        raise BadInput(f"{path}: expected a mapping with datasets, train, evaluate ..., got {got}")
    try:
        params = Params.model_validate(raw)
    except ValidationError as error:
        raise BadInput(*(f"{path}: {line}" for line in _lines(error, raw))) from None
    if faults := list(params._contradictions()) or list(params._untunable()):
        raise BadInput(*(f"{path}: {line}" for line in faults))
    return params


def _lines(error: ValidationError, raw: Any) -> list[str]:
    faults: dict[str, ErrorDetails] = {}
    for fault in error.errors(include_url=False):
        faults.setdefault(_yaml_path(fault, raw), fault)
    # a union reports every branch: the first one's fault tells enough, and one further down tells more
    return [
        f"{where}: {_message(fault)}"
        for where, fault in faults.items()
        if not any(other.startswith(f"{where}.") for other in faults)
    ]


def _yaml_path(fault: ErrorDetails, raw: Any) -> str:
    """The path as it stands in the file; pydantic's own holds the tags of unions too."""
    parts: list[str] = []
    node: Any = raw
    told = False  # the tag of this very block: `kind: text` has a key `text` too
    for part in cast("tuple[Any, ...]", fault["loc"]):
        if not told and isinstance(node, dict) and part in (node.get("kind"), node.get("family")):
            told = True
            continue
        told = False
        if (isinstance(node, dict) and part in node) or (
            isinstance(node, list) and isinstance(part, int) and part < len(node)
        ):
            node = node[part]
        elif part != fault["loc"][-1] or fault["type"] != "missing":
            continue
        parts.append(str(part))
    context = fault.get("ctx", {})
    if fault["type"] == "unknown_key":
        parts.append(context["key"])
    elif fault["type"] in ("union_tag_invalid", "union_tag_not_found"):
        parts.append(context["discriminator"].strip("'"))
    return ".".join(parts) or "the whole file"


_NO_MAPPING = ("dict_type", "model_type", "model_attributes_type")


def _message(fault: ErrorDetails) -> str:
    if fault["type"] in ("missing", "union_tag_not_found"):
        return "missing"
    if fault["type"] == "union_tag_invalid":
        names = [tag.strip("' ") for tag in fault["ctx"]["expected_tags"].split(",")]
        return f"unknown name `{fault['ctx']['tag']}`; {nearest(fault['ctx']['tag'], names)}"
    if fault["type"] == "literal_error":
        names = re.findall(r"'([^']+)'", fault["ctx"]["expected"]) or [fault["ctx"]["expected"]]
        return f"unknown name `{fault['input']}`; {nearest(fault['input'], names)}"
    told = "expected a mapping" if fault["type"] in _NO_MAPPING else fault["msg"][:1].lower() + fault["msg"][1:]
    if fault["type"] in ("unknown_key", "unknown_name") or not _is_scalar(fault["input"]):
        return told
    return f"{told}, got {fault['input']!r}"


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | bool) or (isinstance(value, float) and not math.isnan(value))
