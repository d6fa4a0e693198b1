import json
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trainyard import params
from trainyard.errors import BadInput
from trainyard.params import Params, Spec
from trainyard.quality.objectives import OBJECTIVES

PROJECT = Path(__file__).parents[1]

GOOD = """\
datasets:
  t: {{kind: tables, path: t.csv, objective: binary, target: ill{t}}}
  i: {{kind: images, path: i, objective: multiclass{i}}}
  s: {{kind: series, path: s.csv, time: day, target: level, window: 4{s}}}
  x: {{kind: text, path: x.csv, objective: multiclass, text: said, target: tone{x}}}
  v: {{kind: speech, path: v{v}}}
train:
  m: {{family: mlp, dataset: t{m}}}
  c: {{family: cnn, dataset: i{c}}}
  r: {{family: rnn, dataset: s{r}}}
finetune:
  f: {{family: mobilenet, dataset: i{f}}}
evaluate:
  m: {{dataset: t{evaluate}}}
  c: {{dataset: i}}
  r: {{dataset: s}}
  f: {{dataset: i}}
{rest}"""


def text(**more):
    """Good params, with more keys in one block."""
    blocks = {
        name: f", {more[name]}" if name in more else ""
        for name in ("t", "i", "s", "x", "v", "m", "c", "r", "f", "evaluate")
    }
    blocks["f"] += "" if "backbone:" in blocks["f"] else ", backbone: {}"
    return GOOD.format(**blocks, rest=more.get("rest", ""))


def loaded(here, content):
    (here / "params.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    return params.load()


def refusals(here, content):
    """The lines of a refusal, without the name of the file."""
    with pytest.raises(BadInput) as refusal:
        loaded(here, content)
    lines = str(refusal.value).splitlines()
    assert all(line.startswith("params.yaml:") for line in lines)
    return [line.removeprefix("params.yaml:").strip() for line in lines]


# === One line a fault, with its path and what would be right ===

ACTIVATIONS = "celu, elu, exponential, gelu, hard_shrink"
FAULTS = [
    # unknown keys
    ("m", "epoch: 3", "train.m.epoch: unknown param `epoch`; did you mean `epochs`?"),
    ("m", "zzz: 3", "train.m.zzz: unknown param `zzz`; valid: activation, batch_normalization, batch_size, best_epoch"),
    ("m", "1: 2", "train.m.1: unknown param `1`; valid: activation"),
    ("m", "null: 2", "train.m.None: unknown param `None`; valid: activation"),
    ("t", "positve: yes", "datasets.t.positve: unknown param `positve`; did you mean `positive`?"),
    ("t", "split: {tset: 0.1}", "datasets.t.split.tset: unknown param `tset`; did you mean `test`?"),
    ("t", "window: 3", "datasets.t.window: unknown param `window`; "),
    ("rest", "sed: 1", "sed: unknown param `sed`; did you mean `seed`?"),
    ("rest", "training: {devise: cpu}", "training.devise: unknown param `devise`; did you mean `device`?"),
    ("f", "thaw: {layer: 3}", "finetune.f.thaw.layer: unknown param `layer`; did you mean `layers`?"),
    ("f", "backbone: {widht: 1}", "finetune.f.backbone.widht: unknown param `widht`; did you mean `width`?"),
    ("evaluate", "slice: 3", "evaluate.m.slice: unknown param `slice`; did you mean `slices`?"),
    (
        "evaluate",
        "floor: {accuracy: 0.97}, calibration: 0.03",
        "evaluate.m: `calibration: 0.03` cannot fail: at its floor of accuracy a model is too sure by 0.03 at most",
    ),
    (
        "evaluate",
        "budget: {megabyte: 3}",
        "evaluate.m.budget.megabyte: unknown param `megabyte`; did you mean `megabytes`",
    ),
    # unknown names
    ("m", "activation: relo", "train.m.activation: unknown name `relo`; did you mean `relu`?"),
    ("m", "activation: on", f"train.m.activation: unknown name `on`; valid: {ACTIVATIONS}"),
    (
        "m",
        "loss: mean_square_error",
        "train.m.loss: unknown name `mean_square_error`; did you mean `mean_squared_error`?",
    ),
    ("m", "metrics: [AUC, Acuracy]", "train.m.metrics.1: unknown name `Acuracy`; did you mean `Accuracy`?"),
    ("m", "optimizer: {name: adm}", "train.m.optimizer.name: unknown name `adm`; did you mean `adam`?"),
    (
        "m",
        "optimizer: {lerning_rate: 1}",
        "train.m.optimizer.lerning_rate: unknown argument `lerning_rate` of adam; did",
    ),
    (
        "m",
        "optimizer: {name: sgd, momentm: 1}",
        "train.m.optimizer.momentm: unknown argument `momentm` of sgd; did you mean `momentum`?",
    ),
    (
        "m",
        "optimizer: {learning_rate: {name: Cosine}}",
        "train.m.optimizer.learning_rate.name: unknown name `Cosine`; did you mean `CosineDecay`?",
    ),
    (
        "m",
        "optimizer: {learning_rate: {name: CosineDecay, decy_steps: 3}}",
        "train.m.optimizer.learning_rate.decy_steps: unknown argument `decy_steps` of CosineDecay; did you mean ",
    ),
    ("r", "cell: gruu", "train.r.cell: unknown name `gruu`; did you mean `gru`?"),
    ("i", "channels: 4", "datasets.i.channels: unknown name `4`; valid: 1 or 3"),
    ("t", "audit: no", "datasets.t.audit: unknown name `no`; valid: refuse, warn"),
    ("m", "class_weight: balance", "train.m.class_weight: unknown name `balance`; did you mean `balanced`?"),
    ("rest", "training: {device: gpuu}", "training.device: unknown name `gpuu`; did you mean `gpu`?"),
    ("rest", "training: {count: 2}", "training: `count` above 1 takes `distribute: mirrored` or `ray`"),
    ("rest", "training: {count: 0, distribute: ray}", "training.count: "),
    (
        "rest",
        "training: {distribute: mirrored, engine: jax}",
        "training: `distribute: mirrored` is of TensorFlow, not of `engine: jax`",
    ),
    # what does not fit
    (
        "m",
        "loss: categorical_crossentropy",
        "train.m.loss: `categorical_crossentropy` does not fit objective binary; did",
    ),
    (
        "r",
        "loss: binary_crossentropy",
        "train.r.loss: `binary_crossentropy` does not fit objective forecast; valid: huber",
    ),
    ("f", "backbone: {weights: embeded}", "finetune.f.backbone: unknown weights `embeded`; did you mean `embedded`?"),
    ("f", "backbone: {weights: mine.h5}", "finetune.f.backbone: a file of weights comes with its sha256"),
    ("f", f"backbone: {{sha256: {'a' * 64}}}", "finetune.f.backbone: a file of weights comes with its sha256"),
    ("f", "backbone: {weights: mine.h5, sha256: 0a}", "finetune.f.backbone.sha256: "),
    (
        "f",
        f"backbone: {{weights: my.keras, width: 0.25, sha256: {'a' * 64}}}",
        "finetune.f.backbone: `version` and `wid",
    ),
    ("f", "backbone: {black_white: [0, 1]}", "finetune.f.backbone: `black_white` is that of a .keras file"),
    ("f", "backbone: {black_white: [1, 1]}", "finetune.f.backbone: black and white are the same"),
    ("f", "thaw: {layers: some}", "finetune.f.thaw.layers: "),
    ("f", "thaw: {rate_decay: 1.5}", "finetune.f.thaw.rate_decay: "),
    ("f", "thaw: {warm_up: 3, epochs: 3}", "finetune.f.thaw: warm_up (3) must be less than epochs (3)"),
    ("f", "thaw: {batch_normalization: warm}", "finetune.f.thaw.batch_normalization: unknown name `warm`; valid: fro"),
    ("f", "thaw: {warm_up: 1}, plateau: {patience: 2}", "finetune.f: `thaw.warm_up` is a schedule: it or `plateau`"),
    ("f", "label_smoothing: 1", "finetune.f.label_smoothing: "),
    ("f", "label_smoothing: 0.1, loss: categorical_hinge", "finetune.f: `label_smoothing` takes a cross-entropy"),
    ("f", "mix: {kind: cutup}", "finetune.f.mix.kind: unknown name `cutup`; valid: cutmix, mixup"),
    (
        "f",
        "mix: {kind: mixup}, class_weight: balanced",
        "finetune.f: a blend has no class of its own: `mix` or `class_",
    ),
    ("f", "mix: {kind: mixup, alpha: 0}", "finetune.f.mix.alpha: "),
    ("f", "mix: {kind: mixup}, copies: 0, thaw: {layers: 0}", "finetune.f: nothing is blended with neither `copies`"),
    ("m", "activation: Relu", "train.m.activation: unknown name `Relu`; did you mean `relu`?"),
    ("r", "loss: mae", "train.r.loss: unknown name `mae`; did you mean `mean_absolute_error`?"),
    (
        "m",
        "optimizer: {learning_rate: {name: CosineDecay, decay_steps: 3}}",
        "train.m.optimizer.learning_rate.initial_learning_rate: missing; CosineDecay needs it",
    ),
    ("evaluate", "use: ' '", "evaluate.m.use: string should match pattern"),
    ("t", "licence: ''", "datasets.t.licence: string should match pattern"),
    # wrong types
    ("m", "epochs: '3'", "train.m.epochs: input should be a valid integer, got '3'"),
    ("m", "epochs: 3.0", "train.m.epochs: input should be a valid integer, got 3.0"),
    ("m", "epochs: true", "train.m.epochs: input should be a valid integer, got True"),
    ("m", "layers: 5", "train.m.layers: input should be a valid list, got 5"),
    ("m", "layers: [8, x]", "train.m.layers.1: input should be a valid integer, got 'x'"),
    ("m", "batch_normalization: on", "train.m.batch_normalization: input should be a valid boolean, got 'on'"),
    ("m", "optimizer: adam", "train.m.optimizer: expected a mapping, got 'adam'"),
    (
        "m",
        "optimizer: {learning_rate: fast}",
        "train.m.optimizer.learning_rate: input should be a valid number, got 'f",
    ),
    ("m", "optimizer: {learning_rate: [1]}", "train.m.optimizer.learning_rate: input should be a valid number"),
    ("m", "optimizer: {learning_rate: {decay_steps: 1}}", "train.m.optimizer.learning_rate.name: missing"),
    ("m", "early_stopping: {}", "train.m.early_stopping.patience: missing"),
    ("m", "plateau: {patience: 2, factor: 1}", "train.m.plateau.factor: input should be less than 1, got 1"),
    (
        "m",
        (
            "plateau: {patience: 2}, optimizer: {learning_rate: "
            "{name: CosineDecay, initial_learning_rate: 1, decay_steps: 9}}"
        ),
        "train.m: `plateau` takes a learning_rate that is a number, not a schedule",
    ),
    ("m", "class_weight: [1]", "train.m.class_weight: unknown name `[1]`; valid: balanced"),
    ("i", "size: [8]", "datasets.i.size.1: missing"),
    ("i", "size: [8, 5000]", "datasets.i.size.1: input should be less than or equal to 4096, got 5000"),
    ("t", "delimiter: '\"'", "datasets.t.delimiter: a quotation mark, a line end or NUL divides no cells, got '\"'"),
    ("i", "size: ['8', 8]", "datasets.i.size.0: input should be a valid integer, got '8'"),
    ("t", "positive: 1", "datasets.t.positive: input should be a valid string, got 1"),
    ("t", "rows: [10]", "datasets.t.rows.1: missing"),
    ("t", "expect: [age]", "datasets.t.expect.0: expected a mapping, got 'age'"),
    ("evaluate", "floor: {accuracy: high}", "evaluate.m.floor.accuracy: input should be a valid number, got 'high'"),
    ("evaluate", "seeds: 1", "evaluate.m.seeds: input should be greater than or equal to 2, got 1"),
    ("evaluate", "seeds: 11", "evaluate.m.seeds: input should be less than or equal to 10, got 11"),
    ("evaluate", "seeds: [1, 2]", "evaluate.m.seeds: input should be a valid integer"),
    ("evaluate", "floor: 0.9", "evaluate.m.floor: expected a mapping, got 0.9"),
    # out of range
    ("m", "epochs: 0", "train.m.epochs: input should be greater than or equal to 1, got 0"),
    ("m", "batch_size: -1", "train.m.batch_size: input should be greater than or equal to 1, got -1"),
    ("m", "layers: [0]", "train.m.layers.0: input should be greater than or equal to 1, got 0"),
    ("m", "dropout: 1", "train.m.dropout: input should be less than 1, got 1"),
    ("m", "dropout: -0.1", "train.m.dropout: input should be greater than or equal to 0, got -0.1"),
    ("m", "optimizer: {learning_rate: -1}", "train.m.optimizer.learning_rate: input should be greater than 0, got -1"),
    ("m", "class_weight: {ill: 0}", "train.m.class_weight.ill: input should be greater than 0, got 0"),
    ("c", "filters: []", "train.c.filters: list should have at least 1 item after validation, not 0"),
    ("t", "split: {test: 1.0}", "datasets.t.split.test: input should be less than 1, got 1.0"),
    ("t", "split: {test: 0}", "datasets.t.split.test: input should be greater than 0, got 0"),
    ("t", "rows: [10, 5]", "datasets.t.rows: the least value comes first"),
    ("t", "delimiter: ''", "datasets.t.delimiter: string should have at least 1 character, got ''"),
    ("t", "delimiter: ab", "datasets.t.delimiter: string should have at most 1 character, got 'ab'"),
    ("s", "horizon: 0", "datasets.s.horizon: input should be greater than or equal to 1, got 0"),
    ("s", "fill: -1", "datasets.s.fill: input should be greater than or equal to 0, got -1"),
    ("rest", "seed: -1", "seed: input should be greater than or equal to 0, got -1"),
    ("rest", "drift: {level: 0.0001}", "drift.level: input should be greater than or equal to 0.001, got 0.0001"),
    ("rest", "seed: 2147483648", "seed: input should be less than 2147483648, got 2147483648"),
    # what is no number is never a value
    ("m", "dropout: .nan", "train.m.dropout: input should be a finite number"),
    ("m", "l2: .inf", "train.m.l2: input should be a finite number, got inf"),
    ("m", "optimizer: {learning_rate: .nan}", "train.m.optimizer.learning_rate: input should be a finite number"),
    (
        "m",
        "early_stopping: {patience: 1, min_delta: .inf}",
        "train.m.early_stopping.min_delta: input should be a finite",
    ),
    ("t", "split: {test: .nan}", "datasets.t.split.test: input should be a finite number"),
    (
        "t",
        "expect: [{column: age, between: [.nan, 1]}]",
        "datasets.t.expect.0.between.0: input should be a fin",
    ),
    ("evaluate", "floor: {accuracy: .nan}", "evaluate.m.floor.accuracy: input should be a finite number"),
    ("evaluate", "margin: .inf", "evaluate.m.margin: input should be a finite number, got inf"),
    # blocks that contradict themselves
    (
        "t",
        "split: {test: 0.5, validation: 0.5}",
        "datasets.t.split: validation and test leave nothing to train",
    ),
    ("t", "expect: [{column: age}]", "datasets.t.expect.0: expects nothing; add between, one_of, matches"),
    ("t", "expect: [{column: age, between: [null, null]}]", "datasets.t.expect.0: expects nothing"),
    (
        "t",
        "expect: [{column: age, between: [5, 1]}]",
        "datasets.t.expect.0.between: the least value comes first",
    ),
    ("t", "ignore: [ill]", "datasets.t: column `ill` is named twice, by target and ignore"),
    ("t", "group: ill", "datasets.t: column `ill` is named twice, by target and group"),
    ("t", "group: who, numeric: [who]", "datasets.t: column `who` is named twice, by group and numeric"),
    (
        "t",
        "numeric: [a], categorical: [a]",
        "datasets.t: column `a` is named twice, by numeric and categorical",
    ),
    (
        "t",
        "split: {given: a}, ignore: [a]",
        "datasets.t: column `a` is named twice, by split.given and ignore",
    ),
    ("i", "group: '('", "datasets.i: group is no regular expression: missing ), unterminated subpattern"),
    ("i", "group: abc", "datasets.i: group has no parentheses"),
    ("i", "split: {given: part}", "datasets.i: split.given of images is `folder`"),
    ("s", "split: {given: part}", "datasets.s: a series is split in time; it takes no split.given"),
    ("s", "columns: [day]", "datasets.s: column `day` is the time"),
    ("s", "columns: [row]", "datasets.s: column `row` is the time, or has a name that the manifest needs"),
    # blocks that contradict each other
    ("evaluate", "floor: {acuracy: 0.9}", "evaluate.m.floor.acuracy: not a metric of binary; did you mean `accuracy`?"),
    ("evaluate", "floor: {rmse: 9}", "evaluate.m.floor.rmse: not a metric of binary; valid: accuracy, auc, brier"),
    ("r", "class_weight: balanced", "train.r.class_weight: `s` has no classes (objective forecast)"),
    ("r", "words: known, beam: 4", "train.r.beam: of speech alone (`s` is of kind series)"),
    ("r", "disturb: {noise: 1}", "train.r.disturb: of speech alone (`s` is of kind series)"),
    ("r", "words: known", "train.r: `words: known` takes a beam (`beam: 16`, say)"),
    ("r", "stride: 2", "train.r: `stride` is that of the last convolution, and `filters` names none"),
    ("v", "group: rate", "datasets.v: column `rate` has a name that the manifest needs; rename it"),
    ("v", "group: who, split: {given: who}", "datasets.v: column `who` is named twice"),
    ("v", "step: 0.00001", "datasets.v: `step` is at least one sample (1 / `rate`), and at most a `frame`"),
    ("v", "step: 0.05", "datasets.v: `step` is at least one sample (1 / `rate`), and at most a `frame`"),
    ("v", "bands: 100", "datasets.v: `bands`: more than the 80 frequencies that a frame tells apart"),
]


@pytest.mark.parametrize(("block", "more", "told"), FAULTS, ids=[f"{block}: {more}" for block, more, _ in FAULTS])
def test_a_fault_is_one_line_with_its_path_and_what_would_be_right(here, block, more, told):
    (line,) = refusals(here, text(**{block: more}))
    assert line.startswith(told)


CHANGES = [
    ("kind: tables, ", "", ["datasets.t.kind: missing"]),
    ("kind: tables", "kind: tabels", ["datasets.t.kind: unknown name `tabels`; did you mean `tables`?"]),
    ("family: mlp, ", "", ["train.m.family: missing"]),
    ("family: mlp", "family: mpl", ["train.m.family: unknown name `mpl`; did you mean `mlp`?"]),
    ("path: t.csv, ", "", ["datasets.t.path: missing"]),
    ("objective: binary, ", "", ["datasets.t.objective: missing"]),
    (
        "objective: binary",
        "objective: forecast",
        ["datasets.t.objective: unknown name `forecast`; valid: binary, mu"],
    ),
    (", window: 4", "", ["datasets.s.window: missing"]),
    ("target: level", "target: time", ["datasets.s: column `time` is the time, or has a name that the manifest"]),
    ("target: level", "target: day", ["datasets.s: column `day` is the time, or has a name that the manifest"]),
    ("{family: mlp, dataset: t}", "5", ["train.m: expected a mapping, got 5"]),
    ("\n  m: {dataset: t}", "\n  m: 5", ["evaluate.m: expected a mapping, got 5"]),
    ("\n  m: {family", "\n  M x: {family", ["train.M x: a name is made of small letters, digits, - and _", "", ""]),
    ("\n  t: {kind", "\n  1: {kind", ["datasets.1: input should be a valid string, got 1"]),
    (
        "\n  m: {dataset: t}",
        "",
        ["evaluate.m: missing; train.m needs its twin there, `m: {dataset: t}`"],
    ),
    (
        "\n  f: {dataset: i}",
        "\n  f: {dataset: i}\n  ff: {dataset: i}",
        ["evaluate.ff: there is no model `ff` in train or finetune; did you mean `f`?"],
    ),
    (
        "mlp, dataset: t",
        "mlp, dataset: u",
        [
            "train.m.dataset: no dataset is called `u`; valid: i, s, t",
            "evaluate.m.dataset: `t`, but the model is trained on `u`",
        ],
    ),
    (
        "\n  m: {dataset: t}",
        "\n  m: {dataset: i}",
        ["evaluate.m.dataset: `i`, but the model is trained on `t`"],
    ),
    (
        "cnn, dataset: i",
        "cnn, dataset: t",
        [
            "train.c.dataset: `t` is of kind tables; this family takes images",
            "evaluate.c.dataset: `i`, but the model is trained on `t`",
        ],
    ),
    (
        "finetune:\n  f",
        "finetune:\n  m",
        ["finetune.m: `train` has a model of that name already", "", "evaluate.f: there"],
    ),
    (
        "finetune:\n  f: {family: mobilenet",
        "training: {distribute: mirrored}\nfinetune:\n  f: {family: mobilenet, mix: {kind: mixup}",
        ["finetune.f.mix: `training.distribute: mirrored` blends no images"],
    ),
    # a fault does not hide that of a neighbour whose name begins alike
    (
        "\n  c: {dataset: i}",
        "\n  c: 5\n  c-2: {flor: 1}",
        ["evaluate.c: expected a mapping, got 5", "evaluate.c-2.flor: unknown param `flor`; did you mean `floor`?"],
    ),
]


@pytest.mark.parametrize(("old", "new", "told"), CHANGES, ids=[f"{old} -> {new}".strip() for old, new, _ in CHANGES])
def test_a_changed_block_is_told_in_a_line_a_fault(here, old, new, told):
    assert text().count(old) == 1
    lines = refusals(here, text().replace(old, new))
    assert len(lines) == len(told)
    for line, start in zip(lines, told, strict=True):
        assert line.startswith(start)


WHOLE_FILES = {
    "empty": (b"", "expected a mapping with datasets, train, evaluate ..., got nothing"),
    "a comment alone": (b"# nothing\n", "expected a mapping with datasets, train, evaluate ..., got nothing"),
    "a list": (b"- seed: 1\n", "expected a mapping with datasets, train, evaluate ..., got list"),
    "a word": (b"seed\n", "expected a mapping with datasets, train, evaluate ..., got str"),
    "a key twice": (b"seed: 1\n\nseed: 2\n", '3: no valid YAML: found duplicate key "seed"'),
    "a tab": (b"seed: 1\ndatasets:\n\tpeople: 1\n", "3: no valid YAML: found character '\\t'"),
    "two documents": (b"seed: 1\n---\nseed: 2\n", "2: no valid YAML: but found another document"),
    "two colons": (b"seed: 1\ntrain: a: b\n", "2: no valid YAML: mapping values are not allowed here"),
    "open bracket": (b"train: [1\n", "2: no valid YAML"),
    "Latin-1": (b"seed: 1 # \xe9\n", "not UTF-8 at byte 10"),
    "UTF-16": ("seed: 1".encode("utf-16"), "not UTF-8 at byte 0"),
    "NUL": (b"seed: \0", "no valid YAML: unacceptable character #x0000"),
    "an object": (b"seed: !!python/object:os.system 1\n", "1: `tag:yaml.org,2002:python/object:os.system` is a tag"),
    "a day that is none": (b"seed: 2026-13-01\n", "no valid YAML: month must be in 1..12"),
    "5,000 digits": (b"seed: " + b"9" * 5000, "no valid YAML: Exceeds the limit"),
    "700 brackets": (b"seed: " + b"[" * 700, "1: a value within 50 others (a bracket that is not closed?)"),
}


@pytest.mark.parametrize("case", WHOLE_FILES)
def test_a_file_that_cannot_be_read_is_told_in_a_line(here, case):
    content, told = WHOLE_FILES[case]
    (line,) = refusals(here, content)
    assert line.startswith(told)


def test_a_file_that_is_not_there_says_where_to_go(here):
    with pytest.raises(BadInput, match=r"^params.yaml: not found \(run from the project's folder\)$"):
        params.load()


def test_a_folder_is_no_file(here):
    (here / "params.yaml").mkdir()
    with pytest.raises(BadInput, match=r"^params.yaml: cannot be read \(Is a directory\)$"):
        params.load()


def test_a_mark_of_the_byte_order_is_no_fault(here):
    assert loaded(here, b"\xef\xbb\xbf" + text().encode()).seed == 1


# === YAML 1.2, as DVC reads it ===

YAML_12 = [
    ("m", "l2: 1e-3", lambda p: p.train["m"].l2, 0.001),
    ("m", "l2: 1.5E+1", lambda p: p.train["m"].l2, 15.0),
    ("m", "epochs: 012", lambda p: p.train["m"].epochs, 12),
    ("m", "epochs: 0o14", lambda p: p.train["m"].epochs, 12),
    ("t", "positive: on", lambda p: p.datasets["t"].positive, "on"),
    ("t", "positive: yes", lambda p: p.datasets["t"].positive, "yes"),
    ("t", "positive: 1:30", lambda p: p.datasets["t"].positive, "1:30"),
    ("m", "best_epoch: false", lambda p: p.train["m"].best_epoch, False),
    ("m", "dropout: 0", lambda p: p.train["m"].dropout, 0.0),
    (
        "t",
        "expect: [{column: a, between: [null, 5]}]",
        lambda p: p.datasets["t"].expect[0].between,
        (None, 5.0),
    ),
]


@pytest.mark.bad_input(
    number=77, what="`on`, `yes`, `0o14` and `1:30`", then="taken as YAML 1.2 has them, and so does DVC"
)
@pytest.mark.parametrize(("block", "more", "get", "value"), YAML_12, ids=[more for _, more, _, _ in YAML_12])
def test_values_are_those_of_yaml_12(here, block, more, get, value):
    got = get(loaded(here, text(**{block: more})))
    assert (got, type(got)) == (value, type(value))


def test_dvc_reads_the_same_values(here):
    from dvc.utils.serialize import parse_yaml

    mapping = "a: 1e-3\nb: on\nc: 012\nd: 0x1F\ne: yes\nf: 1_000\ng: .5\nh: 1:30\ni: ~\n"
    assert parse_yaml(mapping, "params.yaml") == params.YAML(typ="safe").load(mapping)


# === Good params ===


def test_defaults_are_what_a_short_file_means(here):
    found = loaded(here, text())
    assert found.seed == 1
    assert list(found.models) == ["m", "c", "r", "f"]
    assert found.model("f") is found.finetuned("f") is found.finetune["f"]
    assert found.dataset("t").label == "ill"
    assert found.dataset("i").label == "label"
    assert found.dataset("s").label == "time"
    assert found.model("m").optimizer.learning_rate == 0.001


def test_columns_of_any_name_are_told(here):
    for names in (["a__b", "_x"], ["_", ""]):
        assert params.nearest("other", names) == f"valid: {', '.join(sorted(names))}"
    assert params.nearest("ab", ["a__b", "other"]) == "did you mean `a__b`?"


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda p: p.model("mm"), "params.yaml: there is no model `mm`; did you mean `m`?"),
        (lambda p: p.finetuned("m"), "params.yaml: there is no model to fine-tune `m`; valid: f"),
        (lambda p: p.dataset("tt"), "params.yaml: there is no dataset `tt`; did you mean `t`?"),
    ],
    ids=["model", "finetuned", "dataset"],
)
def test_a_name_that_is_not_there_is_told_with_the_nearest(here, ask, told):
    found = loaded(here, text())
    with pytest.raises(BadInput) as refusal:
        ask(found)
    assert str(refusal.value) == told


def test_params_are_frozen(here):
    found = loaded(here, text())
    with pytest.raises(ValueError, match="frozen"):
        found.train["m"].epochs = 3


FULL = {
    "t": "expect: [{column: age, between: [0, 150], one_of: [a], matches: b, unique: true, not_null: true}]",
    "r": "plateau: {patience: 3}",
    "m": "early_stopping: {patience: 3}, optimizer: {beta_1: 0.8, learning_rate: "
    "{name: CosineDecay, initial_learning_rate: 0.1, decay_steps: 9}}",
    "rest": "tune: {m: {space: {dropout: {low: 0.1, high: 0.5, log: true}, epochs: {choices: [3, 9]}}}}\n"
    "pretrain: {p: {figures: figures, draw: {clutter: 2}}}\nserve: {keep: {share: 0.5}}",
    "f": "mix: {kind: cutmix}",
}


def full():
    return params.parse(params.YAML(typ="safe").load(text(**FULL)))


@pytest.mark.parametrize("mode", ["python", "json"])
def test_what_is_written_out_in_full_means_the_same(mode):
    assert params.parse(full().model_dump(mode=mode)) == full()


def test_the_shipped_params_are_good_and_mean_the_same_written_out_in_full():
    shipped = params.load(PROJECT / "params.yaml")
    assert params.parse(shipped.model_dump(mode="json")) == shipped


def test_the_committed_schema_is_current():
    committed = json.loads((PROJECT / "params.schema.json").read_text(encoding="utf-8"))
    assert committed == Params.model_json_schema()


def test_the_schema_takes_the_shipped_params_and_refuses_a_typo():
    from jsonschema import Draft202012Validator

    schema = Draft202012Validator(Params.model_json_schema())
    shipped = params.YAML(typ="safe").load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    assert not list(schema.iter_errors(shipped))
    shipped["train"]["mlp"]["epoch"] = 3
    assert list(schema.iter_errors(shipped))


def test_every_knob_says_what_it_means():
    schema = Params.model_json_schema()
    silent = [
        f"{name}.{key}"
        for name, block in {"Params": schema, **schema["$defs"]}.items()
        for key, knob in block["properties"].items()
        if not {"description", "const", "$ref"} & knob.keys()  # a block says it itself
    ]
    assert not silent
    assert all(block["description"] for block in schema["$defs"].values())


def test_floors_can_name_what_is_measured():
    assert {name: tuple(objective.metrics) for name, objective in OBJECTIVES.items()} == params.MEASURED


# === Typos ===


def keys(block, path=()):
    """Each known key of all blocks, with the path of its block."""
    if isinstance(block, Spec):
        for key in type(block).model_fields:
            yield path, key, type(block)
            yield from keys(getattr(block, key), (*path, key))
    elif isinstance(block, dict):
        for key, inner in block.items():
            yield from keys(inner, (*path, key))
    elif isinstance(block, list):
        for place, inner in enumerate(block):
            yield from keys(inner, (*path, place))


KEYS = [found for found in keys(full()) if found[1] not in ("kind", "family")]


@st.composite
def typos(draw):
    path, key, block = draw(st.sampled_from(KEYS))
    place = draw(st.integers(0, len(key) - 1))
    change = draw(st.sampled_from(["drop", "double", "swap", "capital"]))
    typo = {
        "drop": key[:place] + key[place + 1 :],
        "double": key[:place] + key[place] + key[place:],
        "swap": key[:place] + key[place : place + 2][::-1] + key[place + 2 :],
        "capital": key[:place] + key[place].upper() + key[place + 1 :],
    }[change]
    assume(typo not in block.model_fields)
    return path, key, typo


def test_all_blocks_are_in_the_typos():
    blocks = {block.__name__ for _, _, block in KEYS}
    every = {block.__name__ for block in vars(params).values() if isinstance(block, type) and issubclass(block, Spec)}
    assert every - blocks == {"Spec", "Dataset", "Model"}
    assert len(KEYS) > 120


@given(typos())
def test_a_typo_of_any_key_is_told_with_that_key_and_its_path(case):
    path, key, typo = case
    raw = full().model_dump(mode="python")
    block = raw
    for part in path:
        block = block[part]
    block[typo] = block.pop(key)
    with pytest.raises(BadInput) as refusal:
        params.parse(raw)
    where = ".".join(map(str, (*path, typo)))
    (line,) = str(refusal.value).splitlines()
    if path[-1:] == ("learning_rate",) and key == "name":
        assert line == f"params.yaml: {'.'.join(path)}.name: missing"
    else:
        assert line.startswith(f"params.yaml: {where}: unknown ")
        assert line.endswith(f"; did you mean `{key}`?") or (len(key) < 4 and "; valid: " in line)
