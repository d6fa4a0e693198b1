"""What the shipped models are worth over several seeds: each seed draws another split and other initial weights.

    python benchmarks/seeds.py                     all models, five seeds
    python benchmarks/seeds.py mlp rnn --seeds 3   some of them

For each model: the main metric of the test split, seed by seed, with mean and 95% t interval; the difference of the
mean per-example score from the naive and the classical baseline on the same rows; and, for models that share a dataset,
the difference between them. A backbone is looked for once, as the stage of that name does, for all seeds.
"""

import argparse
import logging
from functools import cache
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy import stats

from trainyard import files, kinds, params
from trainyard.kinds import Prepared
from trainyard.params import Backbone, Params
from trainyard.training import device


def main() -> None:
    """Train, ask the test split, and print a line a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="names in params.yaml; all by default")
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 1 on")
    asked = parser.parse_args()
    logging.getLogger("trainyard").setLevel(logging.WARNING)

    shipped = params.load()
    if asked.seeds < 2:
        parser.error("--seeds: two or more, for an interval")
    if unknown := set(asked.models) - shipped.models.keys():
        parser.error(f"no model `{unknown.pop()}` (models: {', '.join(shipped.models)})")
    results = {}
    for name in asked.models or shipped.models:
        results[name] = [once(name, shipped, seed) for seed in range(1, asked.seeds + 1)]
        main_metric = results[name][0]["metric"]
        values = [result["value"] for result in results[name]]
        print(f"{name}: test {main_metric} {interval(values)}  seeds: {' '.join(f'{value:.4f}' for value in values)}")
        for which in ("naive", "classical"):
            gains = [float(np.mean(result["score"] - result[which])) for result in results[name]]
            print(f"    better than {results[name][0][which + '_name']} by {interval(gains)}")
    for one, other in combinations(results, 2):
        if shipped.model(one).dataset == shipped.model(other).dataset:
            gains = [float(np.mean(a["score"] - b["score"])) for a, b in zip(results[one], results[other], strict=True)]
            print(f"{one} better than {other} by {interval(gains)}")


def once(name: str, shipped: Params, seed: int) -> dict:
    """One training with its own split; the per-example scores of model and baselines on the test rows."""
    spec = shipped.model(name)
    with TemporaryDirectory() as scratch:
        data = prepared(spec.dataset, shipped, seed, Path(scratch))
        model, _ = trained(name, shipped, data, seed, Path(scratch) / "backbone")
        from trainyard.models import saved
        from trainyard.training import package

        answer = saved.answers(model, package.about(spec, data), data.test.raw)
        naive, classical = kinds.of(data.spec).compared(data.spec, data)
        score = data.objective.score
        metric = data.objective.main
        return {
            "metric": metric,
            "value": data.objective.metrics[metric](data.test.target, answer),
            "score": score(data.test.target, answer),
            "naive": score(data.test.target, naive.answer),
            "naive_name": naive.name,
            "classical": score(data.test.target, classical.answer),
            "classical_name": classical.name,
        }


def prepared(name: str, shipped: Params, seed: int, folder: Path) -> Prepared:
    """A dataset as the seed splits it, below a folder."""
    spec = shipped.dataset(name)
    kind = kinds.of(spec)
    manifest = kind.manifest(spec)
    with files.replacing_folder(folder / name) as build:
        kinds.write_prepared(spec, manifest, kind.split(spec, manifest, seed), build)
    return kinds.open_prepared(name, spec, folder)


def trained(name: str, shipped: Params, data: Prepared, seed: int, backbone: Path) -> tuple:
    """A model as the line trains it, but for its temperature, and its history; its backbone is written to a folder."""
    device.start(shipped.training, seed)
    from trainyard.models import pretrained
    from trainyard.training import finetune, fit

    spec = shipped.model(name)
    if name not in shipped.finetune:
        return fit.train(spec, data, seed)
    backbone.mkdir(exist_ok=True)
    random = spec.backbone.weights == "none"  # those are the seed's
    network, source = pretrained.resolve(spec.backbone) if random else pretrained_network(spec.backbone)
    pretrained.save(network, source, spec.backbone, backbone)
    device.start(shipped.training, seed)  # as finetune is a stage of its own
    return finetune.train(spec, data, seed, backbone)


@cache
def pretrained_network(spec: Backbone) -> tuple:
    """The network with its weights, and where they came from, which is printed."""
    from trainyard.models import pretrained

    network, source = pretrained.resolve(spec)
    print(f"backbone {spec.version} {spec.width:g}: {source.name}, {source.reason}")
    return network, source


def interval(values: list[float]) -> str:
    """Mean and the ends of its 95% t interval over the seeds."""
    mean, half = np.mean(values), stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    return f"{mean:.4f} [{mean - half:.4f}, {mean + half:.4f}]"


if __name__ == "__main__":
    main()
