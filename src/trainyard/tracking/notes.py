"""What MLflow's pages say in words, in Markdown: of a dataset's experiment, of a run, of a registered model."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainyard.kinds import Prepared
from trainyard.quality.objectives import OBJECTIVES
from trainyard.tracking.store import NOTE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def on_experiment(client: "MlflowClient", experiment: str, data: Prepared) -> None:
    """What the data is and where it comes from."""
    spec, counts = data.spec, (len(data.train), len(data.validation), len(data.test))
    split = "{:,} examples to train, {:,} to choose the epoch, {:,} to test".format(*counts)
    kind = spec.kind  # type: ignore[attr-defined]  # every kind has one
    origin = [f"{name}: {told}" for name, told in (("Origin", spec.origin), ("Licence", spec.licence)) if told]
    note = "\n\n".join([f"`{spec.path}` ({kind}, {data.objective.name}): {split}.", *origin])
    if client.get_experiment(experiment).tags.get(NOTE) != note:
        client.set_experiment_tag(experiment, NOTE, note)


def on_run(client: "MlflowClient", run: "Run", metrics: Mapping[str, Any], figures: Sequence[str]) -> None:
    """What the model is worth beside its baselines, and its figures."""
    main = OBJECTIVES[metrics["objective"]].main
    ends = {end: "-" if value is None else f"{value:.4g}" for end, value in metrics["test"][main].items()}
    than = [metrics[which] for which in ("classical", "naive")]
    others = "; ".join(f"{one['name']} {one[main]:.4g}" for one in than if one.get(main) is not None)
    told = f"{main.replace('_', ' ')} **{ends['value']}** [{ends['low']}, {ends['high']}] on {metrics['examples']:,}"
    drawn = [f"![{name}](get-artifact?path=evaluation/{name}&run_uuid={run.info.run_id})" for name in figures]
    note = "\n\n".join([f"{told} test examples; {others}.", *drawn])
    if run.data.tags.get(NOTE) != note:
        client.set_tag(run.info.run_id, NOTE, note)


def on_model(client: "MlflowClient", about: Mapping[str, Any], use: str | None) -> None:
    """What the model is for, and what its aliases say."""
    name = about["model"]
    what = f"`{about['family']}` for `{about['dataset']}` ({about['kind']}, {about['objective']})"
    aliases = "`champion`, where there is one, has passed its gate and answers; `challenger` was registered last."
    verbs = f"`trainyard explain {name}` says what a version came from, `trainyard ledger {name}` who was champion."
    note = "\n\n".join([f"{what}{f': {use}' if use else ''}.", aliases, verbs])
    if client.get_registered_model(name).description != note:
        client.update_registered_model(name, note)
