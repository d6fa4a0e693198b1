import contextlib
import dataclasses
import gzip
import hashlib
import http.server
import io
import os
import random
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from ruamel.yaml import YAML

from trainyard import catalogue, cli, kinds, params
from trainyard.catalogue import CATALOGUE, Entry, Source

ROOT = Path(__file__).parents[1]
REAL = os.environ.get("TRAINYARD_REAL_SETS")
FETCHED = Path("data/fetched")
NOISE = random.Random(0).randbytes(300_000)


def tar_gz(*members):
    """Pairs of a name, or of a TarInfo, and its bytes."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for member, content in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def zipped(*members, how=zipfile.ZIP_DEFLATED):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", how) as archive:
        for member, content in members:
            archive.writestr(member, content)
    return packed.getvalue()


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def copied(source, target):
    for path in source.rglob("*"):
        if path.is_file():
            (target / path.name).write_bytes(path.read_bytes())


GOOD = tar_gz(("set/noise.bin", NOISE), ("set/deep/a.txt", b"a"))
PIECE = 2**16


def publish(monkeypatch, content, name="tiny.tar.gz", host="https://example.invalid"):
    """The catalogue has one more set, `tiny`, of one file with these bytes."""
    source = Source(f"{host}/{name}", len(content), hashlib.sha256(content).hexdigest())
    entry = Entry("a test", "CC0", (source,), copied, "kind: images, path: PATH", "family: cnn")
    monkeypatch.setitem(CATALOGUE, "tiny", entry)
    return source


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """No mirror or proxy of who runs the tests."""
    monkeypatch.delenv("TRAINYARD_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def mirror(here, monkeypatch):
    """A folder that takes the place of all hosts."""
    (here / "a mirror #1").mkdir()
    monkeypatch.setenv("TRAINYARD_MIRROR", str(here / "a mirror #1"))
    return here / "a mirror #1"


@pytest.fixture
def refused(capsys):
    """Run `trainyard fetch tiny`: it must end with that code and one line, and leave nothing under the final name."""

    def run(code, told):
        capsys.readouterr()
        assert cli.main(["fetch", "tiny"]) == code
        shown = capsys.readouterr()
        assert shown.out == ""
        errors = [line for line in shown.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert told in errors[0]
        assert "Traceback" not in shown.err
        left = {path.name for path in FETCHED.iterdir()} if FETCHED.exists() else set()
        assert left <= {".downloads"}
        return errors[0]

    return run


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`; of `faults` each request takes the first."""

    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Answer)
        self.content, self.faults, self.asked, self.ended = content, [], [], threading.Event()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        content, fault = self.server.content, self.server.faults.pop(0) if self.server.faults else None
        self.server.asked.append((self.path, self.headers["Range"]))
        start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])
        if isinstance(fault, int):
            self.send_error(fault)
        elif fault == "moved":
            self.answer(302, b"<html>moved</html>", kind="text/html", Location="/elsewhere")
        elif fault == "page":
            self.answer(200, b"<!doctype html><title>Log in</title>", kind="text/html; charset=utf-8")
        elif fault == "other":
            self.answer(200, b"none")
        elif fault == "endless":  # with no length told, in more pieces than the file has
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):  # the other side hangs up
                for _ in range(200):
                    self.wfile.write(bytes(PIECE))
        elif fault == "whole":
            self.answer(200, content)
        elif start >= len(content):
            self.send_error(416)
        elif fault in ("die", "hang"):
            self.answer(206, content[start : start + PIECE], length=len(content) - start)
            if fault == "hang":
                self.server.ended.wait(20)
        else:
            self.answer(206, content[start:])

    def answer(self, status, content, length=None, kind="application/octet-stream", **headers):
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": length or len(content), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(here, monkeypatch):
    """A host from which the set `tiny` comes."""
    monkeypatch.setattr(catalogue, "PAUSES", (0, 0))
    with Server(GOOD) as running:
        publish(monkeypatch, GOOD, host=running.address)
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.ended.set()
        running.shutdown()
        thread.join()


def whole():
    return tree(FETCHED) == {"tiny/noise.bin": NOISE, "tiny/a.txt": b"a"}


# === Downloads ===


@pytest.mark.parametrize("form", ["folder", "file://", "http://"])
def test_a_mirror_takes_the_place_of_the_host(mirror, monkeypatch, server, form):
    source = publish(monkeypatch, GOOD)  # at a host that is out of reach
    (mirror / source.name).write_bytes(GOOD)
    address = {"folder": str(mirror), "file://": mirror.as_uri(), "http://": f"{server.address}/mirror/"}[form]
    monkeypatch.setenv("TRAINYARD_MIRROR", address)
    assert cli.main(["fetch", "tiny"]) == 0
    assert whole()
    assert server.asked == ([("/mirror/tiny.tar.gz", "bytes=0-")] if form == "http://" else [])


def test_what_is_fetched_already_is_left_as_it_is(mirror, monkeypatch, caplog, capsys):
    source = publish(monkeypatch, GOOD)
    (mirror / source.name).write_bytes(GOOD)
    assert cli.main(["fetch", "tiny"]) == 0
    assert "as published" in caplog.text
    before = FETCHED.stat().st_mtime_ns, (FETCHED / "tiny/a.txt").stat().st_mtime_ns
    (mirror / source.name).unlink()
    caplog.clear()
    assert cli.main(["fetch", "tiny"]) == 0
    assert "fetched already" in caplog.text
    assert whole()
    assert (FETCHED.stat().st_mtime_ns, (FETCHED / "tiny/a.txt").stat().st_mtime_ns) == before
    assert "path: data/fetched/tiny}" in capsys.readouterr().out


def test_a_set_goes_where_it_is_asked_to(mirror, monkeypatch, capsys):
    (mirror / publish(monkeypatch, GOOD).name).write_bytes(GOOD)
    assert cli.main(["fetch", "tiny", "--out", "elsewhere"]) == 0
    assert set(tree(Path("elsewhere"))) == {"tiny/noise.bin", "tiny/a.txt"}
    assert "path: elsewhere/tiny}" in capsys.readouterr().out


@pytest.mark.parametrize("out", ["data, new", "d #1", "x: y", "C}", "2024", "long" * 40])
def test_the_blocks_are_read_as_they_are_meant_whatever_the_folder(out):
    printed = YAML(typ="safe").load(catalogue.blocks("wine_quality", Path(out) / "wine_quality"))
    assert printed["datasets"]["wine_quality"]["path"] == f"{out}/wine_quality/white.csv"


@pytest.mark.fault(
    number=29,
    what="a byte of a download is another one",
    then="refused in one line with both hashes, and not kept",
)
def test_a_wrong_byte_is_refused_and_not_kept(mirror, monkeypatch, refused):
    source = publish(monkeypatch, GOOD)
    wrong = flipped(GOOD, 5000)
    (mirror / source.name).write_bytes(wrong)
    line = refused(2, hashlib.sha256(wrong).hexdigest())
    assert source.sha256 in line
    assert not tree(FETCHED)
    (mirror / source.name).write_bytes(GOOD)
    assert cli.main(["fetch", "tiny"]) == 0
    assert whole()


def test_a_file_cut_short_in_a_mirror_is_refused(mirror, monkeypatch, refused):
    (mirror / publish(monkeypatch, GOOD).name).write_bytes(GOOD[:1000])
    refused(2, f": 1000 bytes with SHA-256 {hashlib.sha256(GOOD[:1000]).hexdigest()}, published are {len(GOOD)}")


def test_a_file_that_a_mirror_lacks_is_told(mirror, monkeypatch, refused):
    publish(monkeypatch, GOOD)
    refused(5, f"{mirror}/tiny.tar.gz: not found (TRAINYARD_MIRROR")


@pytest.mark.fault(
    number=28,
    what="the host hangs up in the middle of a download",
    then="it is asked for the rest",
)
def test_a_download_that_breaks_off_goes_on_where_it_stopped(server):
    server.faults = ["die"]
    assert cli.main(["fetch", "tiny"]) == 0
    assert whole()
    assert server.asked == [("/tiny.tar.gz", "bytes=0-"), ("/tiny.tar.gz", f"bytes={PIECE}-")]


def test_a_host_that_gives_no_parts_is_asked_for_the_whole(server):
    server.faults = ["die", "whole"]
    assert cli.main(["fetch", "tiny"]) == 0
    assert whole()


def test_a_host_that_sends_without_end_does_not_fill_the_disk(server, refused):
    server.faults = ["endless"]
    refused(2, f"/tiny.tar.gz: sends more than the {len(GOOD)} bytes that are published (another file)")
    assert sum(map(len, tree(FETCHED).values())) <= len(GOOD)


def test_a_whole_of_another_length_costs_nothing_that_was_there(server, refused):
    server.faults = ["die", "other"]
    refused(2, f"/tiny.tar.gz: 4 bytes, published are {len(GOOD)} (cut short, or another file)")
    assert cli.main(["fetch", "tiny"]) == 0
    assert whole()
    assert server.asked[-1][1] == f"bytes={PIECE}-"


KILLED = """
import sys
from trainyard import catalogue
source = catalogue.Source(*sys.argv[1:2], int(sys.argv[2]), sys.argv[3])
catalogue.CATALOGUE["tiny"] = catalogue.Entry("a test", "CC0", (source,), print, "", "")
catalogue.fetch("tiny", catalogue.Path("data/fetched"))
"""


@contextlib.contextmanager
def fetching(server):
    """Another process that has a piece of the file, gets no more, and is killed at the end."""
    server.faults = ["hang"]
    source = CATALOGUE["tiny"].sources[0]
    command = [sys.executable, "-c", KILLED, source.address, str(source.size), source.sha256]
    with subprocess.Popen(command) as process:
        part = FETCHED / ".downloads/tiny" / source.sha256 / "tiny.tar.gz.part"
        patience = time.monotonic() + 20
        while not (part.exists() and part.stat().st_size == PIECE) and time.monotonic() < patience:
            time.sleep(0.02)
        try:
            yield part
        finally:
            process.send_signal(signal.SIGKILL)


def test_a_second_fetch_of_a_set_waits_for_nothing_and_harms_nothing(server, refused):
    with fetching(server) as part:
        refused(5, "data/fetched/tiny: another process is fetching it (wait until it is there)")
        assert part.stat().st_size == PIECE


def test_a_file_that_moved_is_followed(server):
    server.faults = ["moved"]
    assert cli.main(["fetch", "tiny"]) == 0
    assert whole()
    assert [path for path, _ in server.asked] == ["/tiny.tar.gz", "/elsewhere"]


@pytest.mark.fault(
    number=1,
    what="a download is killed (SIGKILL)",
    then="nothing lies under the final name; the next one goes on where it stopped",
)
def test_a_fetch_that_is_killed_goes_on_where_it_stopped(server):
    with fetching(server) as part:
        assert part.stat().st_size == PIECE
    assert not (FETCHED / "tiny").exists()
    assert cli.main(["fetch", "tiny"]) == 0
    assert whole()
    assert [part for _, part in server.asked] == ["bytes=0-", f"bytes={PIECE}-"]


@pytest.mark.fault(
    number=29,
    what="the page of a proxy comes with 200 in place of a file",
    then="refused in one line, exit 5; what was there stays",
)
def test_a_proxy_s_page_is_refused_and_costs_nothing_that_was_there(server, refused):
    server.faults = ["die", "page"]
    refused(5, "/tiny.tar.gz: an HTML page came in place of the file")
    assert cli.main(["fetch", "tiny"]) == 0
    assert whole()
    assert server.asked[-1][1] == f"bytes={PIECE}-"


@pytest.mark.fault(
    number=28,
    what="a host answers with 404, 403, 503 or 429, or hangs up again and again",
    then="exit 5 in one line after a few tries; nothing lies under the final name",
)
@pytest.mark.parametrize(("fault", "times"), [(404, 1), (403, 1), (503, 3), (429, 3), ("die", 3)])
def test_a_host_that_does_not_answer_is_asked_again_only_where_that_may_help(server, refused, fault, times):
    server.faults = [fault] * times
    refused(5, f"{server.address}/tiny.tar.gz: {fault if isinstance(fault, int) else ''}")
    assert len(server.asked) == times
    assert cli.main(["fetch", "tiny"]) == 0
    assert whole()


def test_a_host_that_is_out_of_reach_is_told(here, monkeypatch, refused):
    monkeypatch.setattr(catalogue, "PAUSES", ())
    with Server(GOOD) as closed:
        publish(monkeypatch, GOOD, host=closed.address)
    refused(5, f"0 of {len(GOOD)} bytes")


@pytest.mark.parametrize("there", [0, 500, 2000])
@pytest.mark.parametrize("length", [1000, len(GOOD) + 1])
def test_a_file_of_another_size_is_refused(server, refused, length, there):
    server.content = (GOOD + b"more")[:length]
    part = FETCHED / ".downloads/tiny" / CATALOGUE["tiny"].sources[0].sha256 / "tiny.tar.gz.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(GOOD[:there])
    refused(2, f": {length} bytes, published are {len(GOOD)}")


def test_a_part_that_is_longer_than_the_file_is_given_up(server):
    part = FETCHED / ".downloads/tiny" / CATALOGUE["tiny"].sources[0].sha256 / "tiny.tar.gz.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(GOOD + b"more")
    assert cli.main(["fetch", "tiny"]) == 2
    assert cli.main(["fetch", "tiny"]) == 0
    assert whole()


def test_a_full_disk_is_not_taken_for_the_network(server, monkeypatch, refused):
    def full(*_):
        raise OSError(28, "No space left on device", "tiny.tar.gz.part")

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", full)
    refused(5, "tiny.tar.gz.part: No space left on device")
    assert not server.asked


def test_a_terminal_gets_a_progress_bar(server, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert cli.main(["fetch", "tiny"]) == 0
    assert "100%" in capsys.readouterr().err


# === Archives ===

EVIL = {
    "above": ("a.tar.gz", tar_gz(("fine.txt", b"1"), ("../evil.txt", b"1")), "`../evil.txt` lies outside"),
    "above and back": ("a.tgz", tar_gz(("set/../evil.txt", b"1")), "`set/../evil.txt` lies outside"),
    "absolute": ("a.tar.gz", tar_gz(("/evil.txt", b"1")), "`/evil.txt` lies outside"),
    "link": ("a.tar.gz", tar_gz((special("l", tarfile.SYMTYPE, "/etc"), b""), ("l/evil", b"1")), "`l` is a link"),
    "hard link": ("a.tar.gz", tar_gz((special("l", tarfile.LNKTYPE, "/etc/passwd"), b"")), "`l` is a link"),
    "pipe": ("a.tar.gz", tar_gz((special("p", tarfile.FIFOTYPE), b"")), "`p` is a link or a device"),
    "device": ("a.tar.gz", tar_gz((special("d", tarfile.CHRTYPE), b"")), "`d` is a link or a device"),
    "above, zip": ("a.zip", zipped(("fine.txt", b"1"), ("../evil.txt", b"1")), "`../evil.txt` lies outside"),
    "absolute, zip": ("a.zip", zipped(("/evil.txt", b"1")), "`/evil.txt` lies outside"),
    "link, zip": ("a.zip", zipped((zip_link("l"), b"/etc/passwd")), "`l` is a link"),
    "many": ("a.tar.gz", tar_gz(*[(f"{i}", b"") for i in range(11)]), "more than 10 files"),
    "large": ("a.tar.gz", tar_gz(("a", NOISE), ("b", NOISE)), "unpacks to more than 500000 bytes"),
    "bomb": ("a.gz", gzip.compress(bytes(400_000)), "unpacks to more than"),
    "bomb, zip": ("a.zip", zipped(("a", bytes(400_000))), "unpacks to more than"),
    "cut": ("a.tar.gz", GOOD[:100_000], "broken archive"),
    "cut after a file": ("a.tar.gz", tar_gz(("a", NOISE[:512]), ("b", NOISE))[:1000], "broken archive"),
    "cut, zip": ("a.zip", zipped(("a", NOISE))[:-40], "broken archive"),
    "cut, gz": ("a.gz", gzip.compress(NOISE)[:-10], "broken archive"),
    "no archive": ("a.tar.gz", NOISE, "broken archive"),
    "no archive, zip": ("a.zip", NOISE, "broken archive"),
    "no archive, gz": ("a.gz", NOISE, "broken archive"),
    "wrong byte, zip": ("a.zip", flipped(zipped(("a", NOISE)), 5000), "broken archive"),
    "wrong byte, LZMA": ("a.zip", flipped(zipped(("a", NOISE), how=zipfile.ZIP_LZMA), 5000), "broken archive"),
    "wrong byte, bzip2": ("a.zip", flipped(zipped(("a", NOISE), how=zipfile.ZIP_BZIP2), 5000), "broken archive"),
    "a file as a folder": ("a.tar.gz", tar_gz(("a", b"1"), ("a/b", b"1")), "broken archive"),
    "wrong byte, gz": ("a.gz", flipped(gzip.compress(NOISE), 5000), "broken archive"),
}


@pytest.mark.parametrize(("name", "archive", "told"), EVIL.values(), ids=EVIL)
def test_an_archive_that_is_evil_or_broken_is_refused(mirror, monkeypatch, refused, name, archive, told):
    monkeypatch.setattr(catalogue, "MOST_FILES", 10)
    monkeypatch.setattr(catalogue, "MOST_BYTES", 500_000)
    (mirror / publish(monkeypatch, archive, name).name).write_bytes(archive)
    refused(2, told)
    assert {path.rsplit("/", 1)[-1] for path in tree(mirror.parent)} == {name}  # in the mirror and among the downloads


@pytest.mark.parametrize(
    ("name", "content", "unpacked"),
    [
        ("a.tar.gz", GOOD, {"set/noise.bin": NOISE, "set/deep/a.txt": b"a"}),
        ("a.tgz", tar_gz((special("set", tarfile.DIRTYPE), b""), ("set/a", b"1")), {"set/a": b"1"}),
        ("a.zip", zipped(("set/", b""), ("set/a", b"1"), ("b", NOISE)), {"set/a": b"1", "b": NOISE}),
        ("a.csv.gz", gzip.compress(b"a,b\n", mtime=0), {"a.csv": b"a,b\n"}),
        ("a.csv", b"a,b\n", {"a.csv": b"a,b\n"}),
    ],
)
def test_files_and_folders_are_unpacked(tmp_path, name, content, unpacked):
    (tmp_path / name).write_bytes(content)
    (tmp_path / "folder").mkdir()
    catalogue.unpack(tmp_path / name, tmp_path / "folder")
    assert tree(tmp_path / "folder") == unpacked


def test_a_conversion_that_fails_leaves_nothing(mirror, monkeypatch):
    def fail(source, target):
        (target / "half.csv").write_text("half")
        raise ZeroDivisionError

    (mirror / publish(monkeypatch, GOOD).name).write_bytes(GOOD)
    monkeypatch.setitem(CATALOGUE, "tiny", dataclasses.replace(CATALOGUE["tiny"], convert=fail))
    with pytest.raises(ZeroDivisionError):
        cli.main(["fetch", "tiny"])
    assert {path.name for path in FETCHED.iterdir()} == {".downloads"}
    assert [Path(name).name for name in tree(FETCHED)] == ["tiny.tar.gz"]


# === The sets ===

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (12, 28, 28), np.uint8)
COLOUR = RNG.integers(0, 256, (12, 3, 32, 32), np.uint8)
CIFAR_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
TIMES = pd.date_range("2009-01-01 00:10", periods=300, freq="10min")


def idx(values):
    return gzip.compress(bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes() + values.tobytes())


def cifar(places):
    return b"".join(bytes([place % 10]) + COLOUR[place].tobytes() for place in places)


def jpeg():
    file = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (20, 30, 3), np.uint8)).save(file, "JPEG")
    return file.getvalue()


def wav(samples):
    data = RNG.integers(-3000, 3000, samples, np.int16).tobytes()
    header = b"WAVEfmt " + np.array([16], "<u4").tobytes() + np.array([1, 1], "<u2").tobytes()
    header += np.array([8000, 16000], "<u4").tobytes() + np.array([2, 16], "<u2").tobytes()
    body = header + b"data" + np.array([len(data)], "<u4").tobytes() + data
    return b"RIFF" + np.array([len(body)], "<u4").tobytes() + body


def weather():
    """Twice the same stretch, and a later one that comes first; the last wind is not known."""
    rows = [
        f"{at:%d.%m.%Y %H:%M:%S},996.52,{place}.50,93.30,{'-9999.00' if place == 299 else '1.03'}"
        for place, at in enumerate(TIMES)
    ]
    rows = rows[200:] + rows[:210].copy()
    rows[-1] = rows[-1].replace("209.50", "7.77")
    return "\n".join(['"Date Time","p (mbar)","T (degC)","rh (%)","wv (m/s)"', *rows, ""])


PEOPLE = "39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, Male, 2174, 0, 40, "
RECORDINGS = {
    f"{digit}_{speaker}_{i}": wav(4000) for digit in (0, 7) for speaker in ("theo", "jackson") for i in (0, 1)
}
FLOWERS = {f"{kind}/{i}.jpg": jpeg() for kind in ("daisy", "roses") for i in range(6)}
WINE = (
    '"fixed acidity";"pH";"quality"\n' + "".join(f"7.{i};3.{i};{5 + i % 3}\n" for i in range(9)) + "6.9;3.1;6\n"
).encode()
SPAM = b'ham\tGo until jurong point, "crazy\nspam\tFree entry \xc2\xa3100\n' * 6

RAW = {
    "fashion_mnist": {
        "train-images-idx3-ubyte.gz": idx(GREY[:10]),
        "train-labels-idx1-ubyte.gz": idx(np.arange(10, dtype=np.uint8)),
        "t10k-images-idx3-ubyte.gz": idx(GREY[10:]),
        "t10k-labels-idx1-ubyte.gz": idx(np.array([9, 0], np.uint8)),
    },
    "cifar10": {
        "cifar-10-binary.tar.gz": tar_gz(
            ("cifar-10-batches-bin/batches.meta.txt", "\n".join([*CIFAR_CLASSES, "", ""]).encode()),
            ("cifar-10-batches-bin/readme.html", b"<html>"),
            *[(f"cifar-10-batches-bin/data_batch_{i + 1}.bin", cifar([2 * i, 2 * i + 1])) for i in range(5)],
            ("cifar-10-batches-bin/test_batch.bin", cifar([10, 11])),
        )
    },
    "flowers": {
        "flower_photos.tgz": tar_gz(
            ("flower_photos/LICENSE.txt", b"CC BY"),
            *[(f"flower_photos/{name}", photo) for name, photo in FLOWERS.items()],
        )
    },
    "spoken_digits": {
        "v1.0.9.tar.gz": tar_gz(
            ("free-spoken-digit-dataset-1.0.9/README.md", b"#"),
            *[(f"free-spoken-digit-dataset-1.0.9/recordings/{name}.wav", wave) for name, wave in RECORDINGS.items()],
        )
    },
    "sms_spam": {"sms+spam+collection.zip": zipped(("SMSSpamCollection", SPAM), ("readme", b"..."))},
    "jena_climate": {
        "jena_climate_2009_2016.csv.zip": zipped(
            ("jena_climate_2009_2016.csv", weather()), ("__MACOSX/._jena_climate_2009_2016.csv", b"\0")
        )
    },
    "adult": {
        "adult.data": f"{PEOPLE}United-States, <=50K\n{PEOPLE}?, >50K\n\n".encode() * 5,
        "adult.test": f"|1x3 Cross validator\n{PEOPLE}Cuba, <=50K.\n{PEOPLE}Cuba, >50K.\n\n".encode(),
    },
    "wine_quality": {"winequality-red.csv": WINE, "winequality-white.csv": WINE.replace(b"7.", b"8.")},
}


@pytest.fixture
def fetched(mirror, monkeypatch, capsys):
    """Fetch a set of the real format, made by hand: its folder, its block in params.yaml and its manifest."""

    def run(name):
        sources = []
        for source in CATALOGUE[name].sources:
            content = RAW[name][source.name]
            (mirror / source.name).write_bytes(content)
            sha256 = hashlib.sha256(content).hexdigest()
            sources.append(dataclasses.replace(source, size=len(content), sha256=sha256))
        monkeypatch.setitem(CATALOGUE, name, dataclasses.replace(CATALOGUE[name], sources=tuple(sources)))
        assert cli.main(["fetch", name]) == 0
        loaded = params.parse(YAML(typ="safe").load(capsys.readouterr().out))
        spec = loaded.dataset(name)
        assert loaded.model(name).dataset == name
        return FETCHED / name, spec, kinds.of(spec).manifest(spec)

    return run


def test_every_set_of_the_catalogue_is_tried():
    assert RAW.keys() == CATALOGUE.keys()


def test_fashion_mnist_becomes_folders_of_classes(fetched):
    folder, _, manifest = fetched("fashion_mnist")
    assert len(tree(folder)) == 12
    assert np.array_equal(np.asarray(Image.open(folder / "train/t-shirt_top/00000.png")), GREY[0])
    assert np.array_equal(np.asarray(Image.open(folder / "train/sneaker/00007.png")), GREY[7])
    assert np.array_equal(np.asarray(Image.open(folder / "test/ankle_boot/00000.png")), GREY[10])
    assert manifest["split"].value_counts().to_dict() == {"train": 10, "test": 2}


def test_cifar10_becomes_folders_of_classes(fetched):
    folder, _, manifest = fetched("cifar10")
    assert len(tree(folder)) == 12
    assert np.array_equal(np.asarray(Image.open(folder / "train/truck/00009.png")), COLOUR[9].transpose(1, 2, 0))
    assert np.array_equal(np.asarray(Image.open(folder / "test/automobile/00001.png")), COLOUR[11].transpose(1, 2, 0))
    assert manifest["split"].value_counts().to_dict() == {"train": 10, "test": 2}


def test_flowers_keep_their_folders_and_their_credits(fetched):
    folder, _, manifest = fetched("flowers")
    assert tree(folder) == {"LICENSE.txt": b"CC BY", **FLOWERS}
    assert manifest["label"].value_counts().to_dict() == {"daisy": 6, "roses": 6}


def test_spoken_digits_come_with_what_is_said_and_by_whom(fetched):
    folder, _, manifest = fetched("spoken_digits")
    recordings = {f"recordings/{name}.wav": wave for name, wave in RECORDINGS.items()}
    table = pd.read_csv(folder / "transcripts.csv")
    assert tree(folder) == {"transcripts.csv": (folder / "transcripts.csv").read_bytes(), **recordings}
    assert list(table) == ["file", "transcript", "speaker"]
    assert set(table["file"]) == set(recordings)
    assert table.iloc[-1].tolist() == ["recordings/7_theo_1.wav", "seven", "theo"]
    assert len(manifest) == 8


def test_sms_spam_gets_a_header_and_stays_as_it_is(fetched):
    folder, _, manifest = fetched("sms_spam")
    assert tree(folder) == {"messages.tsv": b"label\ttext\n" + SPAM}
    assert manifest["label"].value_counts().to_dict() == {"ham": 6, "spam": 6}


def test_jena_climate_is_in_order_with_each_time_once(fetched):
    folder, _, manifest = fetched("jena_climate")
    lines = (folder / "climate.csv").read_text().splitlines()
    assert lines[:2] == ["time,p (mbar),T (degC),rh (%),wv (m/s)", "2009-01-01T00:10:00,996.52,0.50,93.30,1.03"]
    assert len(lines) == 301
    assert manifest["time"].tolist() == TIMES.tolist()
    assert manifest["T (degC)"].tolist() == [place + 0.5 for place in range(300)]  # of two rows the first
    assert manifest["wv (m/s)"].isna().tolist() == [False] * 299 + [True]


def test_adult_has_a_header_and_one_spelling_of_its_labels(fetched):
    folder, spec, manifest = fetched("adult")
    lines = (folder / "adult.csv").read_text().splitlines()
    assert lines[0].startswith("age,workclass,fnlwgt,")
    assert lines[2] == PEOPLE.replace(", ", ",") + "?,>50K,train"
    assert lines[-1] == PEOPLE.replace(", ", ",") + "Cuba,>50K,test"
    assert manifest["split"].value_counts().to_dict() == {"train": 10, "test": 2}
    assert set(manifest["income"]) == {"<=50K", spec.positive}
    assert manifest["native_country"].isna().sum() == 5


def test_wine_quality_comes_as_it_is(fetched):
    folder, _, manifest = fetched("wine_quality")
    assert tree(folder) == {f"{wine}.csv": RAW["wine_quality"][f"winequality-{wine}.csv"] for wine in ("red", "white")}
    assert manifest["fixed acidity"].min() == 6.9
    assert len(manifest) == 10


def test_the_list_tells_all_that_is_known_before_a_download(capsys):
    assert cli.main(["fetch", "--list"]) == 0
    shown = capsys.readouterr().out
    for name, entry in CATALOGUE.items():
        assert f"{name}: {entry.about}; licence: {entry.licence}\n" in shown
        for source in entry.sources:
            assert f"  {source.address} ({source.size:,} bytes, SHA-256 {source.sha256})\n" in shown


def test_a_name_that_the_catalogue_lacks_gets_the_nearest(here, capsys):
    assert cli.main(["fetch", "cifar"]) == 2
    assert "no set `cifar`; did you mean `cifar10`?" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        cli.main(["fetch"])


def test_every_source_has_a_hash_and_a_name_of_its_own():
    sources = [source for entry in CATALOGUE.values() for source in entry.sources]
    assert all(re.fullmatch(r"[0-9a-f]{64}", source.sha256) and source.size > 0 for source in sources)
    assert all(source.address.startswith("https://") for source in sources)
    assert len({source.name for source in sources}) == len({source.sha256 for source in sources}) == len(sources)


@pytest.mark.skipif(REAL is None, reason="TRAINYARD_REAL_SETS names no folder")
@pytest.mark.parametrize(
    "source",
    [source for name in ("fashion_mnist", "wine_quality") for source in CATALOGUE[name].sources],
    ids=lambda source: source.name,
)
def test_the_hashes_are_those_of_the_real_files(source):
    path = next(Path(REAL).rglob(source.name))
    assert (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()) == (source.size, source.sha256)


def test_git_does_not_take_what_is_fetched():
    assert "/data/fetched/" in (ROOT / ".gitignore").read_text().splitlines()
