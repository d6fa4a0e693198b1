"""`trainyard pretrain`: train a backbone from random weights, on figures. No DVC stage.

In:   the figures and the params block pretrain.NAME, training and seed; for a distillation ImageNet weights
Out:  pretrained/NAME/{backbone.weights.h5, backbone.json, figures.csv, history.csv}
Exit: 2 bad figures or params, 3 training failed, 5 no GPU, JAX or ImageNet weights where they are asked for
"""

import logging
from hashlib import sha256
from pathlib import Path

from trainyard import files
from trainyard.params import Params
from trainyard.training import device

log = logging.getLogger(__name__)


def pretrain(name: str, params: Params) -> None:
    """Write `pretrained/NAME` from `params.pretrain[name]`."""
    spec = params.pretrained(name)
    device.start_alone(params.training, params.seed)
    import pandas as pd

    from trainyard.models import pretrained
    from trainyard.training import pretrain  # Keras, once engine and device are chosen

    paths, shown = pretrain.figures(Path(spec.figures))
    network, history = pretrain.train(spec, shown, params.seed)
    names = pd.Index([path.relative_to(spec.figures).as_posix() for path in paths], name="figure")
    seen = pd.DataFrame({"sha256_of_pixels": [sha256(figure.tobytes()).hexdigest() for figure in shown]}, names)
    half, source = pretrain.halved(network, spec), pretrained.Source(name, "pretrained here")
    recipe = {"teacher": "imagenet" if spec.task == "distillation" else None, **spec.model_dump(mode="json")}
    with files.replacing_folder(Path("pretrained") / name) as folder:
        pretrained.save(half, source, spec.backbone, folder, seed=params.seed, recipe=recipe)
        files.write_csv(folder / "figures.csv", seen)
        files.write_csv(folder / "history.csv", history)
    path = Path("pretrained") / name / pretrained.WEIGHTS
    log.info(
        "for a model: backbone: {version: %s, width: %g, weights: %s, sha256: %s}",
        spec.version,
        spec.width,
        path,
        files.sha256(path),
    )
