"""What people read of an exported file: how it compares with its model, and how it is asked."""

from collections.abc import Iterable, Mapping
from typing import Any

HEAD = (
    "| model | format | metric | examples | Keras | file | same answers | largest difference | MB | ms | ms of Keras |"
)
RULE = "|---|---|---|---|---|---|---|---|---|---|---|"
ASK = {
    "model.tflite": """from ai_edge_litert.interpreter import Interpreter

run = Interpreter("model.tflite").get_signature_runner()
answer = run({fed})["answer"]""",
    "model.onnx": """import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
(answer,) = session.run(None, {{{fed}}})""",
}


def table(exported: Iterable[Mapping[str, Any]]) -> str:
    """A row a file, of what its model.json says."""
    return "\n".join([HEAD, RULE, *map(_row, exported), ""])


def _row(written: Mapping[str, Any]) -> str:
    found, took = written["parity"], written["milliseconds"]
    cells = [
        written["model"]["model"],
        written["format"],
        found["metric"],
        f"{found['examples']:,}",
        f"{found['model']:.4f}",
        f"{found['file']:.4f}",
        f"{found['same']:.1%}",
        f"{found['difference']:.1e}",
        f"{written['bytes'] / 1e6:.3f}",
        f"{took['file']:.3g}",
        f"{took['keras']:.3g}",
    ]
    return f"| {' | '.join(cells)} |"


def readme(written: Mapping[str, Any]) -> str:
    """The page beside a file."""
    about, source, inputs = written["model"], written["source"], written["inputs"]
    onnx = written["file"].endswith(".onnx")
    fed = ", ".join(f'"{name}": {name}' if onnx else f"{name}={name}" for name in inputs)
    takes = "\n".join(f"- `{name}`, {told['dtype']}: {told['holds']}" for name, told in inputs.items())
    version = f"version {source['version']} of the registry" if source["version"] else "no version of the registry"
    return f"""# {about["model"]} as {written["format"]}

Made of `models/{about["model"]}` ({version}, content `{source["content"][:12]}`), trained on `{about["dataset"]}`.

{table([written])}
On the test split, Keras and this file asked about the same examples. The largest difference is of any one output: a
probability, or a number as a part of the spread of all. ms is the median of 40 whole answers to one row.

## What it takes and gives

A call takes {"any number of rows" if onnx else "one row"}. Sizes and whole lists stand in `model.json`.

{takes}
- gives `answer`, float32: {written["outputs"]["answer"]}

```python
{ASK[written["file"]].format(fed=fed)}
```
"""


def holds(about: Mapping[str, Any]) -> str:
    """What the outputs are, in words."""
    classes = about["classes"]
    return {
        "binary": f"the probability of `{classes[-1] if classes else ''}`",
        "multiclass": f"the probabilities of {', '.join(f'`{name}`' for name in classes)}",
        "regression": "the number that was asked for, in the data's units",
        "forecast": "the next values, in the data's units",
        "transcription": "of each step the logarithms of the probabilities of CTC's blank and of the letters of "
        "`model.classes`; greedily read: the most probable of each step, without repetitions and then blanks",
    }[about["objective"]]
