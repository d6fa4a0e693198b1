"""`trainyard tune`: search better params of a model by its validation split, and tell what came of it. No DVC stage.

In:   build/DATASET, backbones/MODEL for one to fine-tune, the params blocks of the model, training and tune.MODEL
Out:  .trainyard/tune/MODEL-HASH.db, the study; with `apply` params.yaml, where the winner is believed
Exit: 2 bad params, 3 no trial came to its end, 5 the GPU asked for is not there, or another process has the study
"""

import json

from trainyard import edits, kinds, tracking
from trainyard.params import Params
from trainyard.quality import sweeps
from trainyard.quality.sweeps import Comparison, Trial
from trainyard.training import device

SHOWN = 5


def tune(name: str, params: Params, *, trials: int | None = None, apply: bool = False) -> str:
    """Make the trials that are missing, and give the text about all of them; no trial sees the test split.

    `apply` writes the best into params.yaml, where it is believed.
    """
    spec, asked = params.model(name), params.tuned(name)
    data = kinds.open_prepared(spec.dataset, params.dataset(spec.dataset))
    used = device.start(params.training, params.seed)
    from trainyard.training import distribute, precision, tuning  # Keras, once the device is chosen

    learns = precision.of(params.training, distribute.of(params.training, used))
    with tuning.study(name, params, data, learns) as study, tracking.sweep(name, params, data, study.id) as shown:
        study.run(trials or asked.trials, shown.trial)
        best, compared = study.best, study.compared()
        shown.result(_figures(best[0], compared))
        told = _table(best, len(study.trials))
    if compared is None:
        return f"{told}\nThe present block is the best of them: there is nothing to change.\n"
    seeds = f"seeds {params.seed + 1} to {params.seed + asked.seeds}, mean ± sd of val_loss"
    told += (
        f"\n{seeds}: winner {sweeps.spread(compared.winner)}, present {sweeps.spread(compared.present)}\n{compared}\n"
    )
    section = "train" if name in params.train else "finetune"
    if not compared.believed:
        how = "not written: not believed" if apply else "not believed, so that --apply would not write it"
        return f"{told}\n# {how}\n{edits.block(section, name, best[0].knobs)}"
    if apply:
        edits.write(section, name, best[0].knobs)
        told += f"\nwritten into params.yaml: {section}.{name}\n"
    else:
        how = "put this into params.yaml, or let --apply do it"
        told += f"\n# {how}\n{edits.block(section, name, best[0].knobs)}"
    return f"{told}\n# next, through the gate: dvc repro register@{name}\n"


def _table(best: list[Trial], ended: int) -> str:
    import pandas as pd

    rows = [
        {"trial": trial.number, "val_loss": f"{trial.value:.4g}"}
        | {knob: json.dumps(value) for knob, value in trial.knobs.items()}
        for trial in best[:SHOWN]
    ]
    broken_off = f", {ended - len(best)} of them broken off" if len(best) < ended else ""
    return f"{ended} trial(s){broken_off}; the best:\n{pd.DataFrame(rows).to_string(index=False)}\n"


def _figures(best: Trial, compared: Comparison | None) -> dict[str, float]:
    found = {"best/val_loss": float(best.value or 0.0), "best/trial": float(best.number)}
    for which, values in vars(compared).items() if compared else ():
        found[f"{which}/val_loss"] = sum(values) / len(values)
    return found
