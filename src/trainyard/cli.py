"""`trainyard <verb> [name]`: one verb a stage, and what people ask for between stages."""

import argparse
import errno
import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from trainyard import guard, job, params
from trainyard.errors import BadInput, EnvironmentFailed, TrainyardError
from trainyard.params import Params

NAMED_STAGES = {
    "validate": "hold a dataset against its expectations",
    "prepare": "split a dataset and write what training reads",
    "backbone": "find the pretrained weights of a model",
    "train": "fit a model from scratch",
    "finetune": "fit a model on a pretrained backbone",
    "evaluate": "ask a model the test split",
    "register": "log a model to the registry and pass it through the gate",
}

OF_A_MODEL = {
    "gate": "print the verdict on a model; exit code 4 where it may not be champion",
    "ledger": "print who was champion when, and why",
}

ALONE = {
    "report": "write the page about all data and models",
    "changed": "print the stages that have to run; a fresh clone can be asked too",
    "check": "check the whole of params.yaml",
    "doctor": "look at the environment, and say what is well and what to mend; exit code 5, or 2",
}

MOVES = {
    "promote": ("make a version champion that passed against the present one", "the challenger"),
    "rollback": ("make an earlier champion, or a version that you name, champion again", "the champion before"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives its exit code: 2 bad input, 3 training failed, 4 gate refused, 5 environment.

    1 is `drift`'s alone, which found some.
    """
    asked = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("trainyard").setLevel(logging.INFO)
    try:
        with guard.in_order():
            return _run(asked)
    except TrainyardError as error:
        if asked.debug:
            raise
        for line in str(error).splitlines():
            sys.stderr.write(f"error: {line}\n")
        return error.exit_code
    except FileNotFoundError as error:
        if asked.debug:
            raise
        sys.stderr.write(f"error: {error.filename}: not found (run `dvc repro` first)\n")
        return BadInput.exit_code
    except OSError as error:
        if asked.debug or error.strerror is None:
            raise
        sys.stderr.write(f"error: {error.filename or 'the system'}: {error.strerror}{_remedy(error)}\n")
        return EnvironmentFailed.exit_code
    except MemoryError as error:
        if asked.debug:
            raise
        told = f" ({error})" if str(error) else ""
        sys.stderr.write(f"error: out of memory{told} (free some; of a training a smaller `batch_size` takes less)\n")
        return EnvironmentFailed.exit_code
    except KeyboardInterrupt:
        return 130


def _run(asked: argparse.Namespace) -> int:
    alone: dict[str, Callable[[], None]] = {
        "schema": lambda: _schema(check=asked.check),
        "fetch": lambda: _fetch(asked.name, asked.out),
        "verify": lambda: import_module("trainyard.cache").verify(asked.remote),
    }
    if asked.verb in alone:
        alone[asked.verb]()
        return 0
    loaded = params.load()
    if asked.verb != "init" and getattr(asked, "name", None) is not None:
        _refuse_unknown(asked.verb, asked.name, loaded)
    if asked.verb == "init":
        import_module("trainyard.draft").init(Path(asked.path), asked.name, loaded)
    elif asked.verb in ("check", "doctor"):
        {"check": _check, "doctor": _doctor}[asked.verb](loaded)
    elif asked.verb == "publish":
        _publish(asked.name, loaded)
    elif asked.verb == "ui":
        _ui(asked.host, asked.port)
    elif asked.verb in ("repro", "changed", "offer", "accept"):
        _retrain(asked, loaded)
    elif asked.verb in (*MOVES, "ledger", "explain"):
        _registry(asked, loaded)
    elif asked.verb == "tune":
        tune = import_module("trainyard.stages.tune").tune
        sys.stdout.write(tune(asked.name, loaded, trials=asked.trials, apply=asked.apply))
    elif asked.verb in ("serve", "predict"):
        _ask(asked, loaded)
    elif asked.verb == "drift":
        return int(import_module("trainyard.stages.drift").drift(asked.name, Path(asked.path), loaded, asked.out))
    else:
        of = [] if asked.verb == "report" else [asked.name]
        how = {"to": asked.to} if asked.verb == "export" else {}
        with guard.alone(" ".join([asked.verb, *of])):
            getattr(import_module(f"trainyard.stages.{asked.verb}"), asked.verb)(*of, loaded, **how)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="trainyard", description="From data to a proven model, one stage at a time.")
    parser.add_argument("--debug", action="store_true", help="show the traceback of a refusal")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    for verb, what in NAMED_STAGES.items():
        verbs.add_parser(verb, help=what).add_argument("name", help="its name in params.yaml")
    for verb, what in OF_A_MODEL.items():
        verbs.add_parser(verb, help=what).add_argument("name", help="a model")
    for verb, what in ALONE.items():
        verbs.add_parser(verb, help=what)
    for verb, (what, default) in MOVES.items():
        move = verbs.add_parser(verb, help=what)
        move.add_argument("name", help="a model")
        move.add_argument("version", nargs="?", help=f"a version of the registry (by default {default})")
        move.add_argument("--why", help="a reason, for the ledger")
    explain = verbs.add_parser("explain", help="print what a version came from, or which versions came from a dvc.lock")
    of = explain.add_mutually_exclusive_group(required=True)
    of.add_argument("name", nargs="?", help="NAME, NAME@ALIAS or NAME/VERSION (by default the champion)")
    of.add_argument("--lock", nargs="?", const="dvc.lock", metavar="FILE", help="a dvc.lock (%(const)s)")
    init = verbs.add_parser("init", help="draft what params.yaml needs to train on data of your own, and say why")
    init.add_argument("path", help="a CSV or TSV file, or a folder of images or recordings")
    init.add_argument("--name", help="name of dataset and model (by default that of the file or folder)")
    repro = verbs.add_parser("repro", help="check params.yaml, then run the line by DVC, alone in this folder")
    repro.add_argument("stages", nargs="*", help="stages of dvc.yaml, `register@mlp` (by default all)")
    repro.add_argument(
        "--pull", action="store_true", help="fetch from DVC's default remote what any clone has run already"
    )
    repro.add_argument(
        "--jobs", type=_count, default=1, help="how many stages of the whole line at a time (%(default)s)"
    )
    verbs.add_parser("offer", help="push dvc.lock and reports/, and open or update a pull request about them")
    accept = verbs.add_parser("accept", help="make champion what a merge has brought, if it passed its gate")
    accept.add_argument("--since", default="HEAD^", metavar="COMMIT", help="the commit before the merge (%(default)s)")
    accept.add_argument("--why", help="a reason, for the ledger")
    schema = verbs.add_parser("schema", help="write params.schema.json, by which editors check params.yaml")
    schema.add_argument("--check", action="store_true", help="only compare it with the one that is there")
    publish = verbs.add_parser("publish", help="bring the registry up to what the files say")
    publish.add_argument("name", nargs="?", help="a model; all of them by default")
    verify = verbs.add_parser("verify", help="hash again what dvc.lock names: in cache and workspace, or in a remote")
    verify.add_argument("--remote", nargs="?", const="", metavar="NAME", help="a remote of DVC (else its default)")
    fetch = verbs.add_parser("fetch", help="fetch public data by name, ready for params.yaml")
    which = fetch.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?", help="a set of the catalogue")
    which.add_argument("--list", action="store_true", help="show the sets with licence, addresses, bytes and hashes")
    fetch.add_argument("--out", default="data/fetched", help="folder for the set's own (%(default)s)")
    verbs.add_parser("pretrain", help="train a backbone from random weights, on figures").add_argument(
        "name", help="its name below `pretrain` in params.yaml"
    )
    tune = verbs.add_parser("tune", help="search better params of a model by its validation loss")
    tune.add_argument("name", help="a model of params.yaml; `tune` there says what is tried")
    tune.add_argument("--trials", type=_count, help="how many (by default as params.yaml says, else 20)")
    tune.add_argument("--apply", action="store_true", help="write the best into params.yaml")
    drift = verbs.add_parser("drift", help="hold new data against a dataset; exit code 1 where it has drifted")
    drift.add_argument("name", help="a dataset of params.yaml; `drift` there says how sure and how far")
    drift.add_argument("path", help="a file or folder as the dataset's; labels may be missing")
    drift.add_argument("--out", type=Path, help="folder for the report (.trainyard/drift/NAME)")
    _asking(verbs)
    return parser


def _asking(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Verbs by which models, and what MLflow knows, are asked."""
    predict = verbs.add_parser("predict", help="answer all rows of a file or a folder by a registered model")
    predict.add_argument("model", help="NAME (its champion), NAME@ALIAS or NAME/VERSION")
    predict.add_argument("input", type=Path, help="a CSV or Parquet file, or a folder of images, recordings or texts")
    predict.add_argument("output", type=Path, help="the file to write; it ends in .csv or .parquet")
    predict.add_argument("--keep", action="append", default=[], metavar="COLUMN", help="a column to write again")
    export = verbs.add_parser("export", help="write a model as a file for LiteRT or ONNX Runtime, held against Keras")
    export.add_argument("name", help="a model")
    export.add_argument("--to", required=True, choices=["litert", "litert-int8", "onnx"], help="the format")
    serve = verbs.add_parser("serve", help="answer over HTTP, and on a page, as models of the registry do")
    serve.add_argument("names", nargs="*", metavar="name", help="NAME, NAME@ALIAS or NAME/VERSION (all champions)")
    serve.add_argument("--host", default="127.0.0.1", help="the address to listen on (%(default)s)")
    serve.add_argument("--port", type=int, default=8000, help="(%(default)s)")
    ui = verbs.add_parser("ui", help="open MLflow's pages on this project")
    ui.add_argument("--host", default="127.0.0.1", help="the address to listen on (%(default)s)")
    ui.add_argument("--port", type=int, default=5000, help="(%(default)s)")


def _refuse_unknown(verb: str, name: str, loaded: Params) -> None:
    """Before anything is locked, or looked for, by the name."""
    model = re.split("[@/]", name)[0] if verb == "explain" else name
    params.refuse_misnamed(model)
    if verb in (*MOVES, "ledger", "explain"):
        import_module("trainyard.tracking").refuse_unknown(model, loaded)


def _remedy(error: OSError) -> str:
    remedies = {
        errno.EMFILE: "a process may have too few files open: `ulimit -n 4096`",
        errno.EROFS: "make it writable, or work in a folder that is",
        errno.EACCES: "make it readable and writable for you",
    }
    return f" ({remedies[error.errno]})" if error.errno in remedies else ""


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _check(loaded: Params) -> None:
    if missing := Params.model_fields.keys() - loaded.model_fields_set - {"drift", "pretrain", "serve", "tune"}:
        told = "params.yaml: {}: missing (dvc.yaml draws its stages from it; an empty one is `{{}}`)"
        raise BadInput(*(told.format(section) for section in sorted(missing)))
    loaded.require_data(*loaded.datasets)
    _refuse_strays(Path("dvc.yaml"))
    logging.getLogger(__name__).info(
        "params.yaml: %d dataset(s), %d model(s), no fault", len(loaded.datasets), len(loaded.models)
    )


def _refuse_strays(pipeline: Path) -> None:
    """Raises BadInput for an output outside of the project: DVC notices it only once the command has run."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        stages = YAML(typ="safe").load(pipeline.read_text(encoding="utf-8"))["stages"]
        outputs = [
            (name, out if isinstance(out, str) else next(iter(out)))
            for name, stage in stages.items()
            for kind in ("outs", "metrics", "plots")
            for out in stage.get("do", stage).get(kind, [])
        ]
    except FileNotFoundError:
        return
    except (YAMLError, ValueError, LookupError, TypeError, AttributeError):
        raise BadInput(f"{pipeline}: no pipeline of DVC (no valid YAML, or no mapping of `stages`)") from None
    told = f"{pipeline}: stages.{{}}: output {{}} lies outside of the project"
    if strays := [told.format(*out) for out in outputs if Path(out[1]).is_absolute() or ".." in Path(out[1]).parts]:
        raise BadInput(*strays)


def _repro(asked: argparse.Namespace, loaded: Params) -> None:
    pull = ["--pull"] if asked.pull else []
    if asked.stages and asked.jobs > 1:
        raise BadInput("--jobs is of the whole line: name no stage beside it")
    _check(loaded)
    with guard.alone("repro"):
        line = import_module("trainyard.line")
        if code := line.side_by_side(asked.jobs, pull) if asked.jobs > 1 else line.repro([*pull, *asked.stages]):
            sys.exit(code)
        line.refuse_uncached()


def _doctor(loaded: Params) -> None:
    from trainyard import doctor

    for line in doctor.examine(loaded):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def _retrain(asked: argparse.Namespace, loaded: Params) -> None:
    from trainyard import line, offer

    if asked.verb == "repro":
        _repro(asked, loaded)
    elif asked.verb == "offer":
        offer.offer(loaded)
    elif asked.verb == "accept":
        offer.accept(loaded, asked.since, asked.why)
    else:
        stages = line.changed()
        sys.stdout.write("".join(f"{stage}\n" for stage in stages))
        job.output("changed", value=bool(stages))


def _schema(*, check: bool) -> None:
    text = json.dumps(Params.model_json_schema(), indent=2, sort_keys=True) + "\n"
    if check:
        if not params.SCHEMA_FILE.is_file() or params.SCHEMA_FILE.read_text(encoding="utf-8") != text:
            raise BadInput(f"{params.SCHEMA_FILE}: not what params.py says (run `trainyard schema`)")
    else:
        params.SCHEMA_FILE.write_text(text, encoding="utf-8", newline="\n")


def _fetch(name: str | None, out: str) -> None:
    from trainyard import catalogue

    if name is None:
        sys.stdout.write(catalogue.listing())
        return
    folder = catalogue.fetch(name, Path(out))
    sys.stdout.write(f"# put this into params.yaml\n{catalogue.blocks(name, folder)}")


def _publish(name: str | None, loaded: Params) -> None:
    from trainyard import tracking

    for model in [name] if name else loaded.models:
        loaded.model(model)
        published = tracking.publish(model, loaded)
        tracking.restore_aliases(published)
        logging.getLogger(__name__).info("%s: version %s of the registry", model, published.version)


def _registry(asked: argparse.Namespace, loaded: Params) -> None:
    from trainyard import tracking

    if asked.verb in MOVES:
        getattr(tracking, asked.verb)(asked.name, asked.version, asked.why)
        return
    if asked.verb == "ledger":
        lines = tracking.history(asked.name)
    else:
        lines = tracking.explain(asked.name) if asked.name is not None else tracking.made_from(Path(asked.lock), loaded)
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _ask(asked: argparse.Namespace, loaded: Params) -> None:
    if asked.verb == "serve":
        import_module("trainyard.serving.server").serve(asked.names, loaded, asked.host, asked.port)
    else:
        predict = import_module("trainyard.serving.batch").predict
        predict(asked.model, asked.input, asked.output, loaded, asked.keep)


def _ui(host: str, port: int) -> None:
    from trainyard import tracking

    address = tracking.uri()
    if address.startswith("http"):
        logging.getLogger(__name__).info("the pages are those of the server at %s", address)
        return
    with tracking.connected():  # makes the database where there is none yet, and sets how MLflow shall behave
        pass
    pages = f"http://{host}:{port}/#/experiments?workflowType=machine_learning"  # else MLflow shows those of prompts
    logging.getLogger(__name__).info("runs and models: %s", pages)
    where = ["--host", host, "--port", str(port)]
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", address, *where]
    with subprocess.Popen(command, start_new_session=True) as pages_of:  # noqa: S603  # our own arguments
        try:
            code = pages_of.wait()
        finally:  # told to end: so are the workers, which MLflow leaves behind
            with suppress(ProcessLookupError):
                os.killpg(pages_of.pid, signal.SIGTERM)
    if code:
        raise EnvironmentFailed(f"MLflow's pages ended by themselves (is port {port} taken? `trainyard ui --port`)")


if __name__ == "__main__":
    sys.exit(main())
