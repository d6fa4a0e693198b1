"""Routes to a backbone from drawings alone: which way of pretraining is worth most?

    python scripts/make_figures.py
    python benchmarks/routes.py --photos FOLDER                             all routes, a day of two CPU cores
    python benchmarks/routes.py contrast --engine jax --photos FOLDER       one of them, minutes of a GPU

Each route trains a MobileNet v1, width 0.25, from random weights. What it is worth is told by linear probes, a logistic
regression on its frozen features: of the pictograms' glyphs that are set aside for this choice, which no route has seen
and neither transfer.py nor the line asks to judge by, five parts of them, each asked of the four others; and of the
clothing photos, the validation images asked of the training images. Figures are kept in routes.csv, which the page of
transfer.py shows; `imagenet`, or any file of weights, is probed as it is.
"""

import argparse
import logging
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from transfer import ROUTED, TASKS, Run, prepared, set_aside, source, written

from trainyard import files, kinds, params
from trainyard.kinds import Examples, Prepared
from trainyard.params import Backbone, Pretrain

FIGURES = "pretrained/figures"
IDENTITY = {"task": "identity", "match": [], "draw": {}}
ROUTES = {
    "identity-glyphs": IDENTITY,
    "identity-formulas": {**IDENTITY, "figures": f"{FIGURES}/formulas"},
    "identity": {**IDENTITY, "figures": FIGURES},
    "contrast": {
        "task": "contrast",
        "match": [],
        "figures": FIGURES,
        "draw": {"size": (0.5, 1.3), "rotate": 0.06, "shift": 0.1, "clutter": 1},
    },
    "distillation-last": {"match": [], "figures": FIGURES},
    "distillation": {"figures": FIGURES},
    "distillation-glyphs": {},
}
"""What is changed of `pretrain.embedded` in params.yaml, whose weights ship."""


def main() -> None:
    """Pretrain along each route, and probe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("routes", nargs="*", help=f"{', '.join(ROUTES)}, or a file of weights; all by default")
    parser.add_argument("--photos", type=Path, help="the clothing photos")
    parser.add_argument("--engine", choices=["tensorflow", "jax"], default="tensorflow")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--out", type=Path, default=Path("pretrained/routes"), help="%(default)s")
    asked = parser.parse_args()
    os.environ["KERAS_BACKEND"] = asked.engine
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("trainyard").setLevel(logging.INFO)
    for route in asked.routes or ROUTES:
        row = {"route": route, **(pretrained_along(route, asked) if route in ROUTES else {"weights": route})}
        row |= probed(Path(row["weights"]), asked.photos)
        print(*row.values(), flush=True)
        known = pd.read_csv(ROUTED).set_index("route") if ROUTED.exists() else pd.DataFrame()
        now = pd.DataFrame([row]).set_index("route").drop(columns="weights")
        files.write_csv(ROUTED, pd.concat([known.drop(index=route, errors="ignore"), now]))


def recipe(route: str, steps: int) -> Pretrain:
    """A route as a block of params.yaml."""
    shipped = params.load().pretrain["embedded"]
    return Pretrain(**params.with_knobs(shipped, {"steps": steps, **ROUTES[route]}))


def pretrained_along(route: str, asked: argparse.Namespace) -> dict:
    """Train; gives the file of weights, steps, minutes and the loss of the last part."""
    import keras

    from trainyard.models import pretrained
    from trainyard.training import pretrain

    spec = recipe(route, asked.steps)
    _, shown = pretrain.figures(Path(spec.figures))
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    began = time.monotonic()
    network, history = pretrain.train(spec, shown, 1)
    minutes = (time.monotonic() - began) / 60
    with files.replacing_folder(asked.out / route) as folder:
        pretrained.save(pretrain.halved(network, spec), pretrained.Source(route, ""), spec.backbone, folder)
        files.write_csv(folder / "history.csv", history)
    weights = asked.out / route / pretrained.WEIGHTS
    device = "CPU"
    if asked.engine == "jax":
        import jax

        device = jax.devices()[0].device_kind
    told = {"steps": spec.steps, "batch": spec.batch_size, "device": device, "minutes": round(minutes, 2)}
    told |= {"loss": round(history["loss"].iloc[-1], 4), "sha256": files.sha256(weights)[:12]}
    return {"weights": weights.as_posix(), **told}


def probed(weights: Path, photos: Path | None) -> dict:
    """Accuracy of linear probes."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    named = "imagenet" if weights.name == "imagenet" else weights.as_posix()
    spec = Backbone(width=0.25, weights=named, sha256=files.sha256(weights) if weights.is_file() else None)
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    with TemporaryDirectory() as scratch:
        glyphs = chosen_by(Path("data/pictograms"), Path(scratch)).train
        seen, groups = features(spec, glyphs, "pictograms"), glyphs.rows["group"]
        scores = cross_val_score(linear, seen, glyphs.target, groups=groups, cv=GroupKFold(5))
        found = {"pictograms": round(float(np.mean(scores)), 4)}
        if photos:
            data = prepared(Run("photos", "", "", 0, 1), photos, Path(scratch))
            linear.fit(features(spec, data.train, "photos"), data.train.target)
            score = linear.score(features(spec, data.validation, "photos"), data.validation.target)
            found["photos"] = round(float(score), 4)
    return found


def chosen_by(folder: Path, scratch: Path) -> Prepared:
    """Pictograms, of which the training part is what is set aside for the choice, and no test of the line's either."""
    dataset, manifest = source("pictograms", folder)
    parts = kinds.of(dataset).split(dataset, manifest, params.load().seed)  # the line's own
    parts[(parts == "train") & ~set_aside(manifest)] = ""
    return written("pictograms", folder, parts, scratch)


def features(spec: Backbone, part: Examples, task: str) -> np.ndarray:
    """What a frozen backbone sees in images, `[n, filters]`."""
    import keras

    from trainyard.models import mobilenet, pretrained

    network, _ = pretrained.resolve(spec)
    side, images = TASKS[task]["resolution"], part.raw["image"][:].astype(np.float32)
    inputs = keras.Input(images.shape[1:])
    resized = keras.layers.Resizing(side, side, antialias=True)(keras.layers.Rescaling(1 / 127.5, -1.0)(inputs))
    sized = mobilenet.network(params.Backbone(width=0.25), (side, side, 3))
    sized.set_weights(network.get_weights())
    trunk = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(sized(resized)))
    return trunk.predict(images, batch_size=256, verbose=0)


if __name__ == "__main__":
    main()
