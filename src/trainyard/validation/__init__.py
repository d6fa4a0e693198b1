"""Great Expectations: is the data what its kind and its user expect? The only room that imports great_expectations.

Great Expectations decides. The rows at fault are found with pandas masks: its own lists of them take seconds and
megabytes. It takes seconds to import, so `run` alone does that.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from trainyard import kinds
from trainyard.errors import BadInput
from trainyard.params import PARAMS_FILE, Dataset, Series, Tables, Text, nearest
from trainyard.validation import checks, summary
from trainyard.validation.checks import Check

MOST_FAULTS = 1000
"""Values at fault that are listed, shared among the checks that failed; all are counted."""
MOST_LINES = 20
"""Lines of a refusal."""
MOST_CHARACTERS = 80
"""Characters of a value that are shown."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a text begins that a spreadsheet takes for a formula."""


@dataclass(frozen=True)
class Outcome:
    """What became of one check."""

    check: Check
    passed: bool
    faults: pd.Series
    """Values at fault, indexed as the manifest is; none where the table as a whole is at fault."""


@dataclass(frozen=True)
class Result:
    """What became of all checks of a dataset."""

    dataset: str
    spec: Dataset
    manifest: pd.DataFrame
    outcomes: tuple[Outcome, ...]

    @property
    def passed(self) -> bool:
        """True where no check failed."""
        return not self.failed

    @property
    def failed(self) -> list[Outcome]:
        """The checks that failed."""
        return [outcome for outcome in self.outcomes if not outcome.passed]

    def faults(self) -> pd.DataFrame:
        """Values at fault: text columns `column`, `value`, `what` was expected; indexed by `example`.

        At most `MOST_FAULTS` rows; text that a spreadsheet would run as a formula is marked as text.
        """
        most = MOST_FAULTS // max(1, len(self.failed))
        rows = [
            (_cell(example), _cell(outcome.check.column), _cell(value), outcome.check.what)
            for outcome in self.failed
            for example, value in outcome.faults.head(most).items()
        ]
        return pd.DataFrame(rows, columns=["example", "column", "value", "what"], dtype=object).set_index("example")

    def refusal(self, page: str) -> list[str]:
        """A line for each check that failed, at most `MOST_LINES`, naming the page that shows all."""
        shown = self.failed if len(self.failed) <= MOST_LINES else self.failed[: MOST_LINES - 1]
        lines = []
        for outcome in shown:
            count = len(outcome.faults)
            lines.append(f"{self._where(outcome)} ({f'{count:,} rows in all; ' if count > 1 else ''}see {page})")
        if more := len(self.failed) - len(shown):
            lines.append(f"{self.spec.path}: {more} more expectations fail (see {page})")
        return lines

    def as_dict(self) -> dict[str, Any]:
        """As it stands in verdict.json."""
        return {
            "dataset": self.dataset,
            "passed": self.passed,
            "expectations": [
                {
                    "what": one.check.what,
                    "column": one.check.column,
                    "passed": one.passed,
                    "unexpected": len(one.faults),
                }
                for one in self.outcomes
            ],
            "faults": sum(len(one.faults) for one in self.outcomes),
            **summary.of(self.spec, self.manifest),
        }

    def _where(self, outcome: Outcome) -> str:
        """The file and the row, or the file in the folder, of the first value at fault, and what is wrong with it."""
        path, fails = self.spec.path, outcome.check.fails
        if outcome.faults.empty:
            return f"{path}: {fails}"
        example, value = next(iter(outcome.faults.items()))
        if isinstance(self.spec, Series):  # a row that the grid of `step` added is in no line of the file
            row = self.manifest["row"].loc[str(example)]
            place = f"{path}: {example}" if pd.isna(row) else f"{path}:{row:.0f}"
        else:
            place = f"{path}:{example}" if self.manifest.index.name == "row" else f"{path}/{example}"
        told = repr(value[:MOST_CHARACTERS]) if isinstance(value, str) else _cell(value) or "the value"
        return f"{place}: column {outcome.check.column}: {told} {fails}"


def check(name: str, spec: Dataset, manifest: pd.DataFrame) -> Result:
    """Hold the manifest of the dataset `name` against what its kind and its user expect.

    Raises BadInput where params expect something of a column that is not there, or that it cannot be asked.
    """
    suite = list({asked.what: asked for asked in _suite(name, spec, manifest)}.values())  # none twice
    held = zip(suite, run(suite, manifest), strict=True)
    outcomes = (Outcome(asked, fine, asked.faults(manifest if not fine else manifest[:0])) for asked, fine in held)
    return Result(name, spec, manifest, tuple(outcomes))


def run(suite: Sequence[Check], manifest: pd.DataFrame) -> list[bool]:
    """Whether each check holds, as Great Expectations sees it: no files, no sockets, no progress bars.

    Raises ValueError for a suite of nothing, which anything would pass.
    """
    if not suite:
        raise ValueError("a suite without expectations passes on anything")
    logging.getLogger("great_expectations").propagate = False  # a level would not help: its children have their own
    with warnings.catch_warnings():  # the import changes what the whole process sees of warnings
        warnings.simplefilter("ignore")
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig

        logging.captureWarnings(False)
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        asset = context.data_sources.add_pandas("manifests").add_dataframe_asset("manifest")
        batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": manifest})
        asked = [
            getattr(gx.expectations, one.type)(**one.arguments, meta={"place": place})
            for place, one in enumerate(suite)
        ]
        results = batch.validate(gx.ExpectationSuite(name="suite", expectations=asked), result_format="SUMMARY").results
    # they come in an order of their own
    held = {one.expectation_config.meta["place"]: bool(one.success) for one in results if one.expectation_config}
    return [held[place] for place in range(len(suite))]


def _suite(name: str, spec: Dataset, manifest: pd.DataFrame) -> Iterator[Check]:
    of_kind = kinds.of(spec).expectations(spec, manifest)
    complete, named, only = [spec.label], [one.column for one in of_kind], False
    if isinstance(spec, Tables | Text):
        complete += [column for column in (spec.group, spec.split.given) if column]
    if isinstance(spec, Tables):
        named += [*(spec.numeric or []), *(spec.categorical or [])]
        only = None not in (spec.numeric, spec.categorical)  # then the user has named all that the model may see
    yield from checks.of_table(manifest, spec.rows, list(dict.fromkeys(complete + named)), only)
    yield from (checks.known(column) for column in complete if column in manifest)
    for one in of_kind:
        if one.column in manifest:
            yield from checks.of_values(one, manifest[one.column], f"{spec.path}: the kind")
    for place, one in enumerate(spec.expect):
        where = f"{PARAMS_FILE}: datasets.{name}.expect.{place}"
        if one.column not in manifest:
            hint = nearest(one.column, manifest.columns)
            raise BadInput(f"{where}.column: the data has no column `{one.column}`; {hint}")
        yield from checks.of_values(one, manifest[one.column], where)


def _cell(value: Any) -> str:
    """A cell of faults.csv; nothing for what is missing."""
    if isinstance(value, str):
        return f"'{value[:MOST_CHARACTERS]}" if value.startswith(FORMULA) else value[:MOST_CHARACTERS]
    return "" if pd.isna(value) else f"{value:.10g}" if isinstance(value, float | int) else str(value)
