"""Stage `finetune`: train a new head on a pretrained backbone, then the backbone's top at a low rate.

In:   build/DATASET, backbones/MODEL, the params blocks finetune.MODEL and training
Out:  models/MODEL/{model.keras, history.csv, model.json}
Exit: 2 bad params, 3 training failed (a loss that is not finite, say), 5 the GPU asked for is not there
"""

from pathlib import Path

from trainyard import kinds, models, tracking
from trainyard.params import Params
from trainyard.training import device


def finetune(name: str, params: Params) -> None:
    """Write `models/NAME` from `params.finetune[name]`."""
    spec = params.finetuned(name)
    data = kinds.open_prepared(spec.dataset, params.dataset(spec.dataset))
    device.start(params.training, params.seed)
    from trainyard.models import pretrained  # Keras, and TensorFlow below it, only once the device is chosen
    from trainyard.training import finetune as phases
    from trainyard.training import fit, package

    preprocessing = kinds.of(data.spec).preprocessing(data.spec, data.facts, data.train)
    core = models.build(spec, tuple(preprocessing.features.shape[1:]), data.objective, data.units)
    pretrained.load(core.get_layer("trunk").get_layer("backbone"), Path("backbones") / name)
    with (
        tracking.live(name, params, data) as run,
        fit.features(preprocessing, data.train, data.validation) as (x, val_x),
    ):
        train_on = x, fit.learnt(data, preprocessing, data.train)
        validate_on = val_x, fit.learnt(data, preprocessing, data.validation)
        history = phases.finetune(core, train_on, validate_on, spec, data, params.seed, run.log_epoch)
        package.write(name, spec, data, preprocessing.join(core), history)
        run.finished(Path("models") / name)
