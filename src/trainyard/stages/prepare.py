"""Stage `prepare`: read the validated data, split it, look for leaks, and write what training reads.

In:   the data, reports/data/DATASET
Out:  build/DATASET/{train,validation,test}, build/DATASET/facts.json
Exit: 2 bad data or params, or the same example in two splits
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
    spec = params.dataset(name)
    kind = kinds.of(spec)
    if not files.read_json(Path("reports/data") / name / "verdict.json")["passed"]:
        raise BadInput(f"{spec.path}: did not pass `trainyard validate {name}` (see reports/data/{name}/page.html)")
    manifest = kind.manifest(spec)
    splits = kind.split(spec, manifest, params.seed)

    found = list(leaks.audit(splits, kind.contents(spec, manifest), kind.groups(spec, manifest)))
    for leak in found[:20]:
        log.warning("%s: %s", spec.path, leak)
    if found and spec.audit == "refuse":
        raise BadInput(
            f"{spec.path}: {len(found)} leak(s) between splits; first: {found[0]} (mend the data, or say `audit: warn`)"
        )

    with files.replacing_folder(Path("build") / name) as folder:
        kinds.write_prepared(spec, manifest, splits, folder)
    counts = splits.value_counts()
    log.info("%s: %s", name, ", ".join(f"{counts[split]} {split}" for split in ("train", "validation", "test")))
