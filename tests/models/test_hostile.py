"""Models and weights that somebody else made: none runs code, none fills the memory, each is refused in one line."""

import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from trainyard import files
from trainyard.errors import BadInput, EnvironmentFailed
from trainyard.params import Backbone

CODE = "open('canary', 'w').close()"
"""What must not run."""
ABOUT = {"objective": "multiclass", "classes": ["a", "b", "c"], "params": {}}
RAW = {name: np.ones((2, 1), np.float32) for name in ("size", "weight")}


@pytest.fixture
def model(here):
    """A good model, as a file."""
    from trainyard.models import saved

    path = here / "model.keras"
    saved.save(built(3), path, RAW)
    return path


def built(units, names=("size", "weight"), extra=None):
    import keras

    keras.utils.set_random_seed(1)
    inputs = {name: keras.Input((1,), name=name) for name in names}
    x = keras.layers.Concatenate()([*inputs.values()])
    x = extra(x) if extra else x
    return keras.Model(inputs, keras.layers.Dense(units, activation="softmax")(x))


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path, content, kind=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, text in content.items():
            archive.writestr(name, text)


def config(path, change):
    content = members(path)
    config = json.loads(content["config.json"])
    change(config)
    write(path, {**content, "config.json": json.dumps(config)})


def layer(path, **values):
    """Put another layer in the place of the dense one."""

    def change(config):
        (dense,) = [one for one in config["config"]["layers"] if one["class_name"] == "Dense"]
        dense.update(values)

    config(path, change)


def weights(path, change):
    """Change the HDF5 file in the archive."""
    import h5py

    content = members(path)
    held = io.BytesIO(content["model.weights.h5"])
    with h5py.File(held, "r+") as file:
        change(file, first(file))
    write(path, {**content, "model.weights.h5": held.getvalue()})


def first(file):
    import h5py

    found = []
    file.visititems(lambda name, one: found.append(name) if isinstance(one, h5py.Dataset) and one.ndim == 2 else None)
    return found[0]


def bomb(file, name):
    del file[name]
    file.create_dataset(name, shape=(2**20, 2**20), chunks=(1024, 1), dtype="f4", fillvalue=0.0)


def linked(file, name):
    import h5py

    del file[name]
    with h5py.File("elsewhere.h5", "w") as other:
        other["secret"] = np.ones((2, 3), np.float32)
    file[name] = h5py.ExternalLink("elsewhere.h5", "/secret")


def raw_of_a_system_file(file, name):
    del file[name]
    file.create_dataset(name, shape=(2, 3), dtype="f4", external=[("/proc/version", 0, 24)])


def spoilt(file, name):
    file[name][0, 0] = np.nan


def all_spoilt(file, name):
    file[name][...] = np.nan


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def lambda_layer(path):
    import keras

    layers = vars(keras.layers)
    model = built(3, extra=layers["Lambda"](lambda x: x * 2, output_shape=(2,)))
    model.save("lambda.keras")
    write(path, members("lambda.keras"))


def compressed(path):
    write(path, {**members(path), "assets/zeros": bytes(10**7)}, zipfile.ZIP_DEFLATED)


HOSTILE = {
    "a Lambda": (lambda_layer, "Keras refuses it: "),
    "`exec` in the config": (
        lambda path: layer(path, module="builtins", class_name="exec", config=CODE, registered_name=None),
        "Keras refuses it: ",
    ),
    "a function of `os` in the config": (
        lambda path: layer(path, module="os", class_name="system", config={"command": "touch canary"}),
        "Keras refuses it: ",
    ),
    "a TFSMLayer": (
        lambda path: layer(path, class_name="TFSMLayer", config={"filepath": "elsewhere", "name": "dense"}),
        "Keras refuses it: ",
    ),
    "an HDF5 bomb": (lambda path: weights(path, bomb), "Keras refuses it: "),
    "an HDF5 link to another file": (lambda path: weights(path, linked), "Keras refuses it: "),
    "an HDF5 data set that is a file of the system": (
        lambda path: weights(path, raw_of_a_system_file),
        "Keras refuses it: ",
    ),
    "a zip that writes elsewhere": (
        lambda path: write(path, {**members(path), "../canary": ""}),
        "no .keras file of trainyard: it holds `../canary`",
    ),
    "a zip that writes elsewhere from its assets": (
        lambda path: write(path, {**members(path), "assets/../../canary": ""}),
        "no .keras file of trainyard: it holds `assets/../../canary`",
    ),
    "a zip bomb": (compressed, "no .keras file of trainyard: it holds `config.json`, or inflates it"),
    "code beside the model": (
        lambda path: write(path, {**members(path), "model.py": CODE}),
        "no .keras file of trainyard: it holds `model.py`",
    ),
    "NaN among the weights": (lambda path: weights(path, spoilt), "the weights of `"),
    "a flipped bit": (flipped, "Keras refuses it: "),
    "a layer of a newer Keras": (lambda path: layer(path, class_name="Denser"), "Keras refuses it: "),
    "a cut file": (lambda path: path.write_bytes(path.read_bytes()[:-200]), "no .keras file: "),
    "an empty file": (lambda path: path.write_bytes(b""), "no .keras file: "),
    "a page of a proxy": (lambda path: path.write_bytes(b"<html>Log in</html>"), "no .keras file: "),
    "HDF5 with the name of a .keras file": (
        lambda path: path.write_bytes(members(path)["model.weights.h5"]),
        "no .keras file: ",
    ),
    "another zip": (lambda path: write(path, {"a.txt": "a"}), "no .keras file of trainyard: it holds `a.txt`"),
    "a zip without weights": (
        lambda path: write(path, {"config.json": members(path)["config.json"]}),
        "Keras refuses it: ",
    ),
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case,
            marks=pytest.mark.bad_input(
                number=81, what=f"model: {case}", then="refused in one line; nothing of it ran or was read"
            ),
        )
        for case in HOSTILE
    ],
)
def test_a_hostile_model_is_refused(model, case):
    """Even where whoever made it could write the hash that is expected, too."""
    from trainyard.models import saved

    plant, told = HOSTILE[case]
    plant(model)
    with pytest.raises(BadInput) as refused:
        saved.load(model, files.sha256(model))
    assert str(refused.value).startswith(f"{model}: {told}")
    assert "\n" not in str(refused.value)
    assert not list(model.parent.parent.rglob("canary"))


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_model_has_another_hash_and_is_not_opened(model, case, monkeypatch):
    from trainyard.models import saved

    sha256 = files.sha256(model)
    HOSTILE[case][0](model)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(BadInput, match="not the file that was trained"):
        saved.load(model, sha256)


def test_the_model_without_a_fault_is_loaded(model):
    from trainyard.models import saved

    loaded = saved.load(model, files.sha256(model))
    assert saved.answers(loaded, ABOUT, RAW).shape == (2, 3)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        pytest.param(
            {"units": 4},
            "has 4 outputs, model.json 3 classes",
            marks=pytest.mark.bad_input(number=81, what="model: another number of classes", then="refused in one line"),
        ),
        pytest.param(
            {"units": 3, "names": ("height", "weight")},
            "takes height, weight, here is size, weight",
            marks=pytest.mark.bad_input(number=81, what="model: another architecture", then="refused in one line"),
        ),
    ],
)
def test_a_model_for_other_data_is_refused(here, other, told):
    from trainyard.models import saved

    model = built(**other)
    with pytest.raises(BadInput, match=told):
        saved.answers(model, ABOUT, RAW)


# === Weights ===


@pytest.fixture
def backbone(here):
    from trainyard.models import mobilenet

    path = here / "mine.weights.h5"
    mobilenet.network(of(path, sha256=None), (64, 64, 3)).save_weights(path)
    return path


def of(path, **knobs):
    return Backbone(width=0.25, weights=str(path), sha256=files.sha256(path) if path.exists() else "0" * 64)


def in_file(change):
    def plant(path):
        import h5py

        with h5py.File(path, "r+") as file:
            found = []
            file.visititems(lambda name, one: found.append(name) if isinstance(one, h5py.Dataset) else None)
            change(file, found)

    return plant


def renamed(file, found):
    for name in list(file["layers"]):
        file["layers"].move(name, f"other-{name}")


def swapped_for(make):
    def change(file, found):
        make(file, found[0])

    return change


WEIGHTS = {
    "an HDF5 bomb": in_file(swapped_for(bomb)),
    "an HDF5 link to another file": in_file(swapped_for(linked)),
    "an HDF5 data set that is a file of the system": in_file(swapped_for(raw_of_a_system_file)),
    "NaN among the weights": in_file(
        lambda file, found: file[found[0]].write_direct(np.full(file[found[0]].shape, np.nan, "f4"))
    ),
    "names of which none fits, which `skip_mismatch` would hide": in_file(renamed),
    "a cut file": lambda path: path.write_bytes(path.read_bytes()[:-1000]),
    "another zip": lambda path: write(path, {"a.txt": "a"}),
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.bad_input(number=81, what=f"weights: {case}", then="refused in one line"))
        for case in WEIGHTS
    ],
)
def test_hostile_weights_are_refused(backbone, case):
    from trainyard.models import pretrained

    WEIGHTS[case](backbone)
    with pytest.raises(BadInput) as refused:
        pretrained.resolve(of(backbone))
    assert str(refused.value).startswith(f"{backbone}: ")
    assert "\n" not in str(refused.value)


@pytest.mark.bad_input(
    number=81,
    what="weights: a flipped bit, which Keras loads without a word",
    then="refused by the SHA-256 in params.yaml",
)
def test_a_flipped_bit_of_weights_is_refused(backbone):
    from trainyard.models import pretrained

    spec = of(backbone)
    flipped(backbone)
    with pytest.raises(BadInput, match="its SHA-256 is "):
        pretrained.resolve(spec)


def test_the_weights_that_ship_have_their_hash(monkeypatch):
    from trainyard.models import pretrained

    monkeypatch.setattr(pretrained, "sha256", lambda path: "0" * 64)
    with pytest.raises(
        EnvironmentFailed, match=r"not the weights that ship \(SHA-256 differs\); install trainyard again"
    ):
        pretrained.resolve(Backbone(width=0.25, weights="embedded"))


def test_no_line_of_ours_opens_a_door():
    source = Path(__file__).parents[2] / "src"
    text = "".join(path.read_text() for path in source.rglob("*.py"))
    doors = r"enable_unsafe_deserialization|safe_mode\s*=|custom_objects|skip_mismatch|get_file\(|allow_pickle=True"
    assert not re.findall(doors, text)
