"""Stage `backbone`: find the pretrained weights that a model asks for, and say which were taken and why.

In:   the params block finetune.MODEL.backbone; Keras' cache, the network, a file, or the weights that ship
Out:  backbones/MODEL/{backbone.weights.h5, backbone.json}
Exit: 2 weights that do not fit or are not there, 5 ImageNet weights cannot be had
"""

import logging
from pathlib import Path

from trainyard import files
from trainyard.params import Params
from trainyard.training import device

log = logging.getLogger(__name__)


def backbone(name: str, params: Params) -> None:
    """Write `backbones/NAME` from `params.finetune[name].backbone`."""
    spec = params.finetuned(name).backbone
    device.start(params.training, params.seed)
    from trainyard.models import pretrained  # Keras, and TensorFlow below it, only once the device is chosen

    network, source = pretrained.resolve(spec)
    with files.replacing_folder(Path("backbones") / name) as folder:
        pretrained.save(network, source, spec, folder)
    log.info("backbone: %s weights (%s)", source.name, source.reason)
