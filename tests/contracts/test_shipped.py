"""Every model of the shipped params.yaml: it builds at the size it says, on the data that ships, and takes a step."""

import json
from pathlib import Path

import numpy as np
import pytest

from contracts.test_families import parts
from trainyard import kinds, params

ROOT = Path(__file__).parents[2]
SHIPPED = params.load(ROOT / "params.yaml")
GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text())


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    made: dict[str, kinds.Prepared] = {}

    def open_or_make(name: str) -> kinds.Prepared:
        if name not in made:
            spec = SHIPPED.dataset(name)
            spec = spec.model_copy(update={"path": str(ROOT / spec.path)})
            manifest = kinds.of(spec).manifest(spec)
            build = tmp_path_factory.mktemp("build")
            (build / name).mkdir()
            kinds.write_prepared(spec, manifest, kinds.of(spec).split(spec, manifest, SHIPPED.seed), build / name)
            made[name] = kinds.open_prepared(name, spec, build)
        return made[name]

    return open_or_make


# the larger ones take their time, and the line trains them all
LARGER = ("mobilenet", "rnn-speech", "rnn-text")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LARGER)) for name in SHIPPED.models]
)
def test_a_shipped_model_builds_and_takes_a_step(prepared, name):
    from trainyard.training import fit

    spec = SHIPPED.model(name)
    data = prepared(spec.dataset)
    _, core, _, x, y = parts(data, spec, 8)
    assert core.count_params() == GOLDEN["parameters"][name]
    fit.compile_core(core, spec, data, spec.optimizer)
    before = [np.array(weight) for weight in core.get_weights()]
    core.train_on_batch(x, y)
    assert any((old != new).any() for old, new in zip(before, core.get_weights(), strict=True))


@pytest.mark.parametrize("name", SHIPPED.datasets)
def test_shipped_data_splits_as_ever(prepared, name):
    data = prepared(name)
    assert {part: len(getattr(data, part)) for part in ("train", "validation", "test")} == GOLDEN["examples"][name]


@pytest.mark.parametrize("name", [name for name, asked in SHIPPED.evaluate.items() if asked.slices])
def test_a_shipped_model_tells_its_slices_apart(prepared, name):
    asked = SHIPPED.evaluate[name]
    data = prepared(asked.dataset)
    columns = kinds.told_apart(data, asked.slices)
    assert set(columns["label"]) == set(data.classes)


@pytest.mark.parametrize("name", SHIPPED.datasets)
def test_shipped_data_passes_its_audit(name):
    spec = SHIPPED.dataset(name)
    spec = spec.model_copy(update={"path": str(ROOT / spec.path)})
    manifest = kinds.of(spec).manifest(spec)
    assert kinds.audit(spec, manifest, kinds.of(spec).split(spec, manifest, SHIPPED.seed)) == []


def test_the_lessons_network_learns_as_ever(prepared):
    """The losses of the default `mlp`, epoch by epoch; another processor may differ in the last digits."""
    import keras

    from trainyard.models import saved
    from trainyard.training import features, fit

    spec, data = SHIPPED.model("mlp"), prepared("tumours")
    keras.utils.set_random_seed(SHIPPED.seed)
    preprocessing, core, _, x, y = parts(data, spec, len(data.train))
    val_x = saved.predict(preprocessing.model(), data.validation.raw)
    history = fit.fit(
        core, (x, y), (val_x, features.learnt(data, preprocessing, data.validation)), spec, data, SHIPPED.seed
    )
    np.testing.assert_allclose(history["val_loss"], GOLDEN["mlp_val_loss"], rtol=1e-3)
