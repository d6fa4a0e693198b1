"""Pretrained weights: where they come from, in one order, each choice with its reason.

ImageNet weights are looked for in Keras' cache, then in `TRAINYARD_MIRROR` (a folder, `file://...` or `http(s)://...`
that holds files under their own names), or where none is set where Keras publishes them.
"""

import logging
import os
import socket
import threading
import warnings
import zipfile
from dataclasses import dataclass
from importlib.resources import as_file
from importlib.resources import files as resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies, urlopen

from trainyard.errors import BadInput, EnvironmentFailed
from trainyard.files import read_json, replacing, sha256, write_json
from trainyard.models import finite
from trainyard.params import Backbone

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)

HOST = ("storage.googleapis.com", 443)
"""Where `keras.applications` fetches ImageNet weights from."""
PREFLIGHT_SECONDS = 5.0
_ONLY = "for version v1, width 0.25 alone"
WEIGHTS = "backbone.weights.h5"
EMBEDDED = "mobilenet-v1-0.25-embedded.weights.h5"
PINNED = {
    "mobilenet_2_5_224_tf_no_top.h5": "dbdb03ee2a22fd895301636cd328b234bb3a9952358f436d82f46b81e0d5b0bf",
    EMBEDDED: "4ba4da341ea8531ebcc18cd114f661186510a63c80ffc4896fa4eb6699c32bc9",
}
"""SHA-256 of files for which nobody else checks one; other files of ImageNet weights must load, and be finite."""
PUBLISHED = {
    "v1": (0.25, 0.5, 0.75, 1.0),
    "v2": (0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
    "v3-small": (0.75, 1.0),
    "v3-large": (0.75, 1.0),
}
"""Widths for which Keras has ImageNet weights."""


@dataclass(frozen=True)
class Source:
    """Which weights were taken and why."""

    name: str
    reason: str


def resolve(spec: Backbone) -> tuple["keras.Model", Source]:
    """The network with the weights that `spec.weights` names, and where they came from.

    Raises BadInput for weights that do not fit or are not there, EnvironmentFailed where ImageNet cannot be had.
    """
    from trainyard.models.mobilenet import network

    shape = (224, 224, 3)  # the network is convolutional: its weights serve every size
    match spec.weights:
        case "none":
            return network(spec, shape), Source("none", "params ask for a network that is not pretrained")
        case "embedded":
            return _embedded(spec), Source("embedded", "params name them")
        case "imagenet":
            _refuse_unpublished(spec)
            return _imagenet(spec), Source("imagenet", "params name them")
        case "auto":
            _refuse_unpublished(spec)
            return _automatic(spec)
        case file if spec.own:
            return own(spec), Source(Path(file).as_posix(), "params name the network")
        case file:
            return _from_file(spec, _proven(spec)), Source(Path(file).as_posix(), "params name the file")


def own(spec: Backbone) -> "keras.Model":
    """The user's network in a `.keras` file: colour images `[n, height, width, 3]` to features, of all or each place.

    Its regularisers are left out: phases of a training are compared by the validation loss, to which Keras adds theirs
    in the second alone, where the network trains. Raises BadInput where the file is not the one that params name,
    cannot be loaded, or holds no such network.
    """
    import keras

    path = _proven(spec)
    try:
        loaded = keras.models.load_model(path, compile=False)  # in safe mode: nothing in the file is run
        takes, gives = loaded.input_shape, loaded.output_shape
    except Exception as error:  # noqa: BLE001  # what a file can hold, Keras can stumble over
        said = str(error).strip().partition("\n")[0].partition(". ")[0]
        told = said if zipfile.is_zipfile(path) else "no zip archive"
        raise BadInput(f"{path}: no .keras file of Keras' own layers that can be loaded ({told})") from None
    shapes = [(shape[-1] if isinstance(shape, tuple) else None, len(shape)) for shape in (takes, gives)]
    if shapes[0] != (3, 4) or shapes[1][0] is None or shapes[1][1] not in (2, 4):
        wanted = "[n, height, width, 3] to [n, filters] or [n, height, width, filters]"
        raise BadInput(f"{path}: takes {takes} and gives {gives} (expected {wanted})")
    if spec.resolution and None not in takes[1:3] and spec.resolution != min(takes[1:3]):
        raise BadInput(f"{path}: takes images of {takes[1]}x{takes[2]} (params.yaml: resolution is {spec.resolution})")
    finite(loaded, path)
    if _unpenalised(loaded):
        log.info("%s: its regularisers are left out, as phases are compared by the loss without them", path)
    return keras.Model(loaded.inputs[0], loaded.outputs[0], name="backbone")


def _unpenalised(network: "keras.Model") -> bool:
    """Take all regularisers from a network; gives whether it had any."""
    import keras

    found = False
    for layer in network._flatten_layers():
        for name in [name for name, value in vars(layer).items() if name.endswith("regularizer") and value]:
            setattr(layer, name, None)
            found = True
        if isinstance(layer, keras.layers.ActivityRegularization):
            layer.l1 = layer.l2 = 0.0  # what its config tells
    for weight in network.weights:
        weight.regularizer = None
    return found


def _refuse_unpublished(spec: Backbone) -> None:
    widths = PUBLISHED[spec.version]
    if spec.width not in widths:
        there = f"ImageNet weights of {spec.version} exist for {', '.join(map(str, widths))}"
        raise BadInput(f"params.yaml: backbone.width: {spec.width} ({there})")


def _automatic(spec: Backbone) -> tuple["keras.Model", Source]:
    cached, mirror = cache_file(spec).is_file(), _mirror()
    if cached or mirror or _reachable():
        where = "in Keras' cache" if cached else f"from {mirror}" if mirror else "could be fetched"
        try:
            return _imagenet(spec), Source("imagenet", where)
        except EnvironmentFailed as error:
            why = str(error)
    else:
        why = f"{HOST[0]} does not answer within {PREFLIGHT_SECONDS:.0f} s and Keras' cache has none"
    if not _has_embedded(spec):
        raise EnvironmentFailed(
            f"ImageNet weights: {why}; embedded ones exist {_ONLY} (got {spec.version}, {spec.width})"
        )
    return _embedded(spec), Source("embedded", why)


def _has_embedded(spec: Backbone) -> bool:
    return (spec.version, spec.width) == ("v1", 0.25)


def _imagenet(spec: Backbone) -> "keras.Model":
    from trainyard.models.mobilenet import network

    cached, before = cache_file(spec), socket.getdefaulttimeout()
    there = cached.is_file()
    socket.setdefaulttimeout(30)  # of one read: a stalled download must not hold the line for ever
    try:
        if not there and (mirror := _mirror()):
            _copied(mirror, cached)
        _refuse_other(cached)
        found = network(spec, (224, 224, 3), str(cached) if cached.is_file() else "imagenet")
        _refuse_other(cached)
        finite(found, cached)
    except Exception as error:  # noqa: BLE001  # Keras lets through whatever the download raised
        told = str(error).partition("\n")[0][:300]
        if not cached.is_file():
            remedy = "; try `weights: embedded`" if _has_embedded(spec) else ""
            raise EnvironmentFailed(f"ImageNet weights could not be had ({told}){remedy}") from None
        if there:
            raise EnvironmentFailed(f"{cached}: cut short, or no such weights ({told}); delete the file") from None
        cached.unlink()  # what came from the network, or it would be taken for good the next time
        raise EnvironmentFailed(f"{cached.name}: what was fetched is cut short, or another file ({told})") from None
    finally:
        socket.setdefaulttimeout(before)
    return found


def _refuse_other(cached: Path) -> None:
    """Of v1 and v2 Keras checks no hash: a file that was cut short must not be loaded, now or later."""
    if cached.is_file() and cached.name in PINNED and sha256(cached) != PINNED[cached.name]:
        raise OSError("not the ImageNet weights that Keras publishes, SHA-256 differs")


def _mirror() -> str:
    return os.environ.get("TRAINYARD_MIRROR", "").rstrip("/")


def _copied(mirror: str, cached: Path) -> None:
    """Bring a file from the mirror into Keras' cache."""
    address = mirror if "://" in mirror else Path(mirror).absolute().as_uri()
    with replacing(cached) as part, urlopen(f"{address}/{cached.name}", timeout=30) as answer:  # noqa: S310  # the user names it
        part.write_bytes(answer.read())


def _embedded(spec: Backbone) -> "keras.Model":
    if not _has_embedded(spec):
        raise BadInput(f"params.yaml: backbone.weights: embedded ones exist {_ONLY} (got {spec.version}, {spec.width})")
    with as_file(resources("trainyard.models") / "weights" / EMBEDDED) as path:
        if sha256(path) != PINNED[EMBEDDED]:
            raise EnvironmentFailed(f"{path}: not the weights that ship (SHA-256 differs); install trainyard again")
        return _from_file(spec, path)


def _from_file(spec: Backbone, path: Path) -> "keras.Model":
    from trainyard.models.mobilenet import network

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Keras only warns of layers that it leaves random
            loaded = network(spec, (224, 224, 3), str(path))
    except Exception:  # noqa: BLE001  # what somebody else made can fail in any way, and Keras tells of its own insides
        fit = f"weights of MobileNet {spec.version}, width {spec.width}, without its top"
        raise BadInput(f"{path}: expected {fit}; it holds others, or none that can be read") from None
    finite(loaded, path)
    return loaded


def _proven(spec: Backbone) -> Path:
    """The file that params name."""
    path = Path(spec.weights)
    if not path.is_file():
        raise BadInput(
            f"{path}: not found (backbone.weights takes auto, imagenet, embedded, none, or a file: weights or .keras)"
        )
    if spec.sha256 != (found := sha256(path)):
        raise BadInput(f"{path}: its SHA-256 is {found} (params.yaml: backbone.sha256 is {spec.sha256})")
    return path


def cache_file(spec: Backbone) -> Path:
    """Where Keras keeps the file of 224 pixels; the names are those of its sources."""
    from keras.src.backend.config import keras_home  # nothing public tells it

    tenths = {1.0: "1_0", 0.75: "7_5", 0.5: "5_0", 0.25: "2_5"}.get(spec.width)
    name = {
        "v1": f"mobilenet_{tenths}_224_tf_no_top.h5",
        "v2": f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{float(spec.width)}_224_no_top.h5",
        "v3-small": f"weights_mobilenet_v3_small_224_{float(spec.width)}_float_no_top_v2.h5",
        "v3-large": f"weights_mobilenet_v3_large_224_{float(spec.width)}_float_no_top_v2.h5",
    }[spec.version]
    return Path(keras_home()).expanduser() / "models" / name


def _reachable() -> bool:
    """True where the host takes a connection in time; in a thread, since the look-up of a name has no time limit.

    Behind a proxy only the download itself can tell.
    """
    if "https" in getproxies():
        return True
    found = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection(HOST, PREFLIGHT_SECONDS).close()
            found.set()
        except OSError:
            pass

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(PREFLIGHT_SECONDS)
    return found.is_set()


def save(network: "keras.Model", source: Source, spec: Backbone, folder: Path, **about: Any) -> None:
    """Write `backbone.weights.h5`, and `backbone.json` with where it came from, its SHA-256, and what else is told."""
    path = folder / WEIGHTS
    network.save_weights(path)
    write_json(folder / "backbone.json", {"weights": source.name, **_what(spec), "sha256": sha256(path), **about})


def _what(spec: Backbone) -> dict[str, Any]:
    """Of which MobileNet the weights are; of a network of the user's the file tells."""
    return {} if spec.own else {"version": spec.version, "width": spec.width}


def load(network: "keras.Model", spec: Backbone, folder: Path) -> None:
    """Give a network the weights that `save` wrote.

    Raises BadInput where the file is not the one that was written, or holds other weights than params ask for.
    """
    about = read_json(folder / "backbone.json")
    if sha256(folder / WEIGHTS) != about["sha256"]:
        raise BadInput(
            f"{folder / WEIGHTS}: its SHA-256 is not the one in backbone.json (run the stage `backbone` again)"
        )
    names = ("imagenet", "embedded") if spec.weights == "auto" else (Path(spec.weights).as_posix(),)
    if about["weights"] not in names or {key: about.get(key) for key in _what(spec)} != _what(spec):
        there = ", ".join(f"{key} {about[key]}" for key in ("version", "width", "weights") if key in about)
        raise BadInput(f"{folder / WEIGHTS}: {there} (params.yaml asks for others: run the stage `backbone` again)")
    network.load_weights(folder / WEIGHTS)
