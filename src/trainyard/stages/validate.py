"""Stage `validate`: hold a dataset against what its kind and its user expect, and block the line where it fails.

In:   the data, the params block datasets.NAME, the seed of the split
Out:  reports/data/NAME/{verdict.json, faults.csv, page.html}, written where the data fails too: it says what to mend
Exit: 2 bad params, data that cannot be read or split, or an expectation that does not hold
"""

import logging
from pathlib import Path

from trainyard import files, kinds, reporting, validation
from trainyard.errors import BadInput
from trainyard.params import Params

log = logging.getLogger(__name__)


def validate(name: str, params: Params) -> None:
    """Write `reports/data/NAME` about `params.datasets[name]`; raises BadInput where an expectation does not hold."""
    params.require_data(name)
    spec = params.dataset(name)
    kind = kinds.of(spec)
    manifest = kind.manifest(spec)
    result = validation.check(name, spec, manifest)

    verdict, faults = result.as_dict(), result.faults()
    report = Path("reports/data") / name
    with files.replacing_folder(report) as folder:
        files.write_json(folder / "verdict.json", verdict)
        files.write_csv(folder / "faults.csv", faults)
        files.write_text(folder / "page.html", reporting.data_page(verdict, faults))
    if not result.passed:
        raise BadInput(*result.refusal((report / "page.html").as_posix()))
    kind.split(
        spec, manifest, params.seed
    )  # what `prepare` would refuse, but leaks, stops the line before it is in dvc.lock
    kind.facts(spec, manifest)
    for remark in verdict["remarks"]:
        log.info("%s: %s", spec.path, remark)
    log.info("%s: %d rows, %d expectations hold", name, len(manifest), len(result.outcomes))
