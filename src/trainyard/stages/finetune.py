"""Stage `finetune`: train a new head on a pretrained backbone, then the backbone's top at a low rate.

In:   build/DATASET, backbones/MODEL, the params blocks finetune.MODEL and training
Out:  models/MODEL/{model.keras, history.csv, model.json}
Exit: 2 bad params, 3 training failed (a loss that is not finite, say), 5 the GPU asked for is not there
"""

from pathlib import Path

from trainyard import files, kinds, tracking
from trainyard.params import Params
from trainyard.training import device


def finetune(name: str, params: Params) -> None:
    """Write `models/NAME` from `params.finetune[name]`."""
    spec = params.finetuned(name)
    weights = Path("backbones") / name
    data = kinds.open_prepared(spec.dataset, params.dataset(spec.dataset))
    used = device.start(params.training, params.seed)
    from trainyard.training import distribute, finetune, package, precision, resume  # Keras, once the device is chosen

    learns = precision.of(params.training, distribute.of(params.training, used))
    interrupted = resume.of(name, params)
    with tracking.live(name, params, data, used) as run:
        model, history = finetune.train(spec, data, params.seed, weights, run.log_epoch, interrupted, learns)
        package.write(name, spec, data, model, history, files.read_json(weights / "backbone.json"))
        interrupted.done()
        run.finished(Path("models") / name)
