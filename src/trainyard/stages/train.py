"""Stage `train`: fit one MLP, CNN or RNN of params.yaml from scratch.

In:   build/DATASET, the params blocks train.MODEL and training
Out:  models/MODEL/{model.keras, history.csv, model.json}
Exit: 2 bad params, 3 training failed (a loss that is not finite, say), 5 the GPU asked for is not there
"""

from pathlib import Path

from trainyard import kinds, tracking
from trainyard.params import Params
from trainyard.training import device


def train(name: str, params: Params) -> None:
    """Write `models/NAME` from `params.train[name]`."""
    spec = params.model(name)
    data = kinds.open_prepared(spec.dataset, params.dataset(spec.dataset))
    used = device.start(params.training, params.seed)
    from trainyard.training import distribute, fit, package, precision, resume  # Keras, once the device is chosen

    learns = precision.of(params.training, distribute.of(params.training, used))
    interrupted = resume.of(name, params)
    with tracking.live(name, params, data, used) as run:
        model, history = fit.train(spec, data, params.seed, run.log_epoch, interrupted, learns)
        package.write(name, spec, data, model, history)
        interrupted.done()
        run.finished(Path("models") / name)
