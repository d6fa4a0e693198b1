"""Stage `prepare`: read the validated data, split it, audit the split, and write what training reads.

In:   the data, reports/data/DATASET
Out:  build/DATASET/{train,validation,test}, build/DATASET/facts.json, reports/audits/DATASET.json, which an audit that
      refuses writes too
Exit: 2 bad data or params, or an audit that found the same example in two splits, or the answer in a column
"""

import logging
from pathlib import Path

from trainyard import files, kinds
from trainyard.errors import BadInput
from trainyard.params import Params
from trainyard.quality import leaks

log = logging.getLogger(__name__)


def prepare(name: str, params: Params) -> None:
    """Write `build/NAME` from `params.datasets[name]`."""
    params.require_data(name)
    spec = params.dataset(name)
    kind = kinds.of(spec)
    if not files.read_json(Path("reports/data") / name / "verdict.json")["passed"]:
        raise BadInput(f"{spec.path}: did not pass `trainyard validate {name}` (see reports/data/{name}/page.html)")
    manifest = kind.manifest(spec)
    splits = kind.split(spec, manifest, params.seed)

    found, listed = kinds.audit(spec, manifest, splits), Path("reports/audits") / f"{name}.json"
    files.write_json(listed, leaks.told(found))
    for finding in found[:20]:
        log.warning("%s: %s", spec.path, finding)
    grave = [finding for finding in found if finding.grave]
    if grave and spec.audit == "refuse":
        told = f"{len(grave)} finding(s) of the audit, all in {listed}; first: {grave[0].told}"
        raise BadInput(f"{spec.path}: {told} ({leaks.REMEDIES[grave[0].check]}; or say `audit: warn`)")

    with files.replacing_folder(Path("build") / name) as folder:
        kinds.write_prepared(spec, manifest, splits, folder)
    counts = splits.value_counts()
    log.info("%s: %s", name, ", ".join(f"{counts[split]} {split}" for split in ("train", "validation", "test")))
