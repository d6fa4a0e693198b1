"""Verb `export`: a model as a file for LiteRT or ONNX Runtime, held against Keras on the test split. No DVC stage.

In:   models/MODEL, build/DATASET, the registry for the number of the version
Out:  exports/MODEL/FORMAT/{model.tflite or model.onnx, model.json, README.md}
Exit: 2 a model that the format cannot hold, or another than was trained; 4 the file answers otherwise than Keras; 5 the
      extra `export` is not installed
"""

import logging
import os
import sys
from pathlib import Path

from trainyard import exporting, files, kinds
from trainyard.errors import BadInput, EnvironmentFailed, GateRefused
from trainyard.exporting import page
from trainyard.params import Params
from trainyard.quality import parity
from trainyard.tracking import content_of, registry, store
from trainyard.training import device

log = logging.getLogger(__name__)


def export(name: str, params: Params, to: str) -> None:
    """Write `exports/NAME/TO`, and print how it compares; raises GateRefused where it answers otherwise."""
    spec, source = params.model(name), Path("models") / name
    data = kinds.open_prepared(spec.dataset, params.dataset(spec.dataset))
    about = files.read_json(source / "model.json")
    exporting.check(about["family"], to)
    if about["facts"] != dict(data.facts):
        raise BadInput(f"{source}: trained on other data than {data.folder} (run `dvc repro evaluate@{name}`)")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with device.quiet():
        import tensorflow as tf

        tf.config.set_visible_devices([], "GPU")  # whose kernels no other runtime has
    from trainyard.exporting.compiled import Compiled
    from trainyard.models import saved

    model, raw = saved.load(source / "model.keras", about["sha256"]), data.test.raw
    ours = saved.predict(model, raw)
    with files.replacing_folder(Path("exports") / name / to) as draft:
        with device.quiet():
            file = exporting.written(to, model, about, draft, data.train, params.seed)
            theirs = file.outputs(raw)
        answers = exporting.read(about, ours), exporting.read(about, theirs)
        found = parity.compare(data.objective, data.test.target, (ours, theirs), answers)
        if why := found.broken(file.form.bound):
            raise GateRefused(f"{name} as {to}: {why}; it was not written")
        content, size = content_of(source), (source / "model.keras").stat().st_size
        made_of = {"version": _version(name, content), "content": content, "bytes": size}
        took = {
            "keras": saved.latency(model, about, raw, Compiled(model)),  # as a server asks it
            "file": saved.latency(model, about, raw, file.outputs, to),
        }
        told = file.told(made_of, found, took)
        files.write_json(draft / "model.json", told)
        files.write_text(draft / "README.md", page.readme(told))
    sys.stdout.write(page.table([told]))
    log.info("exports/%s/%s: written; it answers as the model does", name, to)


def _version(name: str, content: str) -> str | None:
    """The version of the registry that has this content; None, and said so, where there is none."""
    address = store.uri()
    try:
        if not address.startswith(store.SQLITE) or Path(address.removeprefix(store.SQLITE)).exists():
            with store.connected() as client:
                if version := registry.with_content(client, name, content):
                    return str(version.version)
        log.info("%s: no version of the registry (`trainyard publish %s` makes one)", name, name)
    except EnvironmentFailed as error:
        log.warning("%s: which version it is stays unknown: %s", name, error)
    return None
