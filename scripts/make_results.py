"""Write the figures of README's table `What ships`: of reports/, and of each training's run in MLflow.

    python scripts/make_results.py            after `make repro`
    python scripts/make_results.py --check    only holds the figures of reports/ against it; exit code 1 if they differ

What a row is about, its first three cells, is written by hand. A run that was rebuilt from files knows no minutes.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trainyard import files, params, tracking
from trainyard.quality.objectives import OBJECTIVES
from trainyard.tracking import runs

README = Path("README.md")
TABLE = re.compile(r"(?<=<!-- make_results\.py -->\n).*?(?=<!-- end -->)", re.DOTALL)
HEAD = ["data", "kind, objective", "model", "test split; a classical and a naive baseline", "minutes", "device"]
UNKNOWN = ("-", "-")

Took = Callable[[str], tuple[str, str]]


def figures(model: str) -> str:
    """What the test split says of a model, as reports/ has it."""
    metrics = files.read_json(Path("reports/models") / model / "metrics.json")
    main = OBJECTIVES[metrics["objective"]].main
    value, low, high = (metrics["test"][main][key] for key in ("value", "low", "high"))
    beside = ", ".join(f"{metrics[which]['name']} {metrics[which][main]:.3f}" for which in ("classical", "naive"))
    return f"{main.replace('_', ' ')} {value:.3f} [{low:.3f}, {high:.3f}]; {beside}"


@contextmanager
def registry() -> Iterator[Took]:
    """Minutes and device of a model's training, as its run tells them."""
    with tracking.connected() as client:

        def took(model: str) -> tuple[str, str]:
            experiment = client.get_experiment_by_name(params.load().model(model).dataset)
            content = tracking.content_of(Path("models") / model)
            run = runs.with_content(client, experiment.experiment_id, content) if experiment else None
            if run is None or "training/seconds" not in run.data.metrics:
                return UNKNOWN
            return f"{run.data.metrics['training/seconds'] / 60:.1f}", run.data.tags["trainyard.device"]

        yield took


def table(text: str, took: Took) -> str:
    """The table anew: its rows, with the figures of now."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]
    lines = []
    for row in rows:
        model = re.findall(r"`([^`]+)`", row[2])[0]
        lines.append([*row[:3], figures(model), *took(model)])
    head = f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}\n"
    return head + "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare")
    page = README.read_text(encoding="utf-8")
    (found,) = TABLE.findall(page)
    if parser.parse_args().check:
        said = dict(
            zip(re.findall(r"^\|[^|]+\|[^|]+\| `([^`]+)`", found, re.MULTILINE), found.splitlines()[2:], strict=True)
        )
        if others := [model for model in params.load().models if figures(model) not in said.get(model, "")]:
            sys.exit(f"{README}: not what reports/ say of {', '.join(others)} (run `make results`)")
    else:
        with registry() as took_by_run:
            made = table(found, took_by_run)
        README.write_text(TABLE.sub(lambda _: made, page), encoding="utf-8", newline="\n")
        print(made)
