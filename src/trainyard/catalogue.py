"""The catalogue: public data by name, from where it is published, proven by its hash, laid out as kinds read it.

`TRAINYARD_MIRROR` (a folder, `file://...` or `http(s)://...`) takes the place of all hosts where they are out of reach;
it holds the files under their own names. Nothing that is fetched is ever run or unpickled.
"""

import gzip
import io
import json
import logging
import lzma
import os
import re
import shutil
import stat
import sys
import tarfile
import tempfile
import textwrap
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from trainyard import files
from trainyard.errors import BadInput, EnvironmentFailed
from trainyard.params import nearest

log = logging.getLogger(__name__)

PAUSES = (1, 2, 4, 8)
"""Seconds before each further try of a download that broke off."""
MOST_FILES = 100_000
MOST_BYTES = 2_000_000_000
MOST_RATIO = 100
"""Bytes that an archive may unpack to, as a multiple of its own."""


@dataclass(frozen=True)
class Source:
    """A file, as it is published."""

    address: str
    size: int
    """Bytes."""
    sha256: str

    @property
    def name(self) -> str:
        """The name under which a mirror holds it."""
        return self.address.rpartition("/")[2]


@dataclass(frozen=True)
class Entry:
    """A set of data."""

    about: str
    licence: str
    sources: tuple[Source, ...]
    convert: Callable[[Path, Path], None]
    """From the folder of what was unpacked to an empty folder, laid out as a kind reads it."""
    dataset: str
    """Its block in params.yaml; PATH stands for its folder."""
    model: str
    """The block of a model for it, without the name of the dataset."""


def listing() -> str:
    """All sets, with licence, addresses, bytes and hashes, a line each."""
    return "".join(f"{line}\n" for name in CATALOGUE for line in _described(name))


def blocks(name: str, folder: Path) -> str:
    """What params.yaml needs to train a model, of the same name, on a set that lies in `folder`."""
    entry = _entry(name)

    def quoted(path: re.Match[str]) -> str:
        plain = path[0].replace("PATH", folder.as_posix())
        return plain if re.fullmatch(r"[A-Za-z][\w./-]*", plain) else json.dumps(plain)

    sections = {
        "datasets": re.sub(r"PATH[\w./]*", quoted, entry.dataset),
        "finetune" if "mobilenet" in entry.model else "train": f"dataset: {name}, {entry.model}",
        "evaluate": f"dataset: {name}",
    }
    filled = textwrap.TextWrapper(118, "  ", "    ", break_on_hyphens=False, break_long_words=False)
    return "".join(f"{section}:\n{filled.fill(f'{name}: {{{block}}}')}\n" for section, block in sections.items())


def fetch(name: str, out: Path) -> Path:
    """Fetch a set into `out/NAME`, unless it is there, and give that folder; it is whole or not there.

    A fetch that was broken off, even killed, goes on where it stopped: downloads wait in `out/.downloads` until the set
    is there. Raises BadInput for a name that the catalogue lacks and for files that are not what was published,
    EnvironmentFailed where the files cannot be had or another process is at it.
    """
    entry, target = _entry(name), out / name
    if target.is_dir():
        log.info("%s: fetched already (to fetch it anew, delete the folder)", target)
        return target
    for line in _described(name):
        log.info("%s", line)
    downloads = out / ".downloads" / name
    with _alone(downloads, target):
        archives = [_downloaded(source, downloads) for source in entry.sources]
        with tempfile.TemporaryDirectory(dir=downloads) as unpacked, files.replacing_folder(target) as draft:
            for archive in archives:
                unpack(archive, Path(unpacked))
            entry.convert(Path(unpacked), draft)
        shutil.rmtree(downloads)
    with suppress(OSError):  # another set's still waits there
        downloads.parent.rmdir()
    log.info("%s: fetched", target)
    return target


def _entry(name: str) -> Entry:
    if name not in CATALOGUE:
        raise BadInput(f"the catalogue has no set `{name}`; {nearest(name, CATALOGUE)} (`trainyard fetch --list`)")
    return CATALOGUE[name]


def _described(name: str) -> Iterator[str]:
    entry = CATALOGUE[name]
    yield f"{name}: {entry.about}; licence: {entry.licence}"
    for source in entry.sources:
        yield f"  {source.address} ({source.size:,} bytes, SHA-256 {source.sha256})"


# === Downloads ===


@contextmanager
def _alone(downloads: Path, target: Path) -> Iterator[None]:
    """Keep a second process from the downloads, which both would append to."""
    downloads.mkdir(parents=True, exist_ok=True)
    lock = downloads / "lock"
    try:
        with FileLock(lock, timeout=0):
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
    except Timeout:
        raise EnvironmentFailed(f"{target}: another process is fetching it (wait until it is there)") from None


def _downloaded(source: Source, folder: Path) -> Path:
    """The file, whole and proven, in a folder named by its hash; raises BadInput where it is another one."""
    whole = folder / source.sha256 / source.name
    address = _address(source)
    if not whole.is_file():
        part = whole.with_name(f"{whole.name}.part")
        part.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        if part.stat().st_size < source.size:
            _receive(address, part, source.size)
        part.rename(whole)
    if (found := files.sha256(whole)) != source.sha256:
        told = f"{whole.stat().st_size} bytes with SHA-256 {found}, published are {source.size} with {source.sha256}"
        whole.unlink()
        raise BadInput(f"{address}: {told} (copy deleted; fetch again, and if it stays so, the file there is another)")
    log.info("%s: %d bytes, as published", address, source.size)
    return whole


def _address(source: Source) -> str:
    mirror = os.environ.get("TRAINYARD_MIRROR", "")
    return f"{mirror.rstrip('/')}/{source.name}" if mirror else source.address


def _receive(address: str, part: Path, size: int) -> None:
    """Bring `part` to its full size, from a folder or, with further tries, over the network."""
    if not address.startswith(("http://", "https://")):
        path = Path(url2pathname(urlsplit(address).path) if address.startswith("file://") else address)
        if not path.is_file():
            raise EnvironmentFailed(f"{path}: not found (TRAINYARD_MIRROR holds the files under their own names)")
        shutil.copyfile(path, part)
        return
    for pause in (*PAUSES, None):
        told = "the connection was closed"
        try:
            _append(address, part, size)
        except OSError as error:  # as all errors of requests are
            if error.errno is not None:  # the disk, not the network
                raise
            cause = re.search(r"Caused by (\w+)", str(error))  # a name in a long tale
            told = cause[1] if cause else str(error).partition("\n")[0][:200]
        if (there := part.stat().st_size) >= size:
            return
        told = f"{address}: {told}, after {there} of {size} bytes"
        if pause is None:
            raise EnvironmentFailed(f"{told} (the same command goes on from there; a closed network: TRAINYARD_MIRROR)")
        log.info("%s; again in %d s", told, pause)
        time.sleep(pause)


class _Part(io.FileIO):
    """The beginning of a file of `size` bytes; raises BadInput for more, so that no server can fill the disk."""

    def __init__(self, path: Path, size: int, address: str) -> None:
        super().__init__(path, "a")
        self.size, self.address = size, address

    def write(self, block: Any) -> int:
        if self.tell() + len(block) > self.size:
            raise BadInput(f"{self.address}: sends more than the {self.size} bytes that are published (another file)")
        return super().write(block)


def _append(address: str, part: Path, size: int) -> None:
    """One request for the bytes that `part` lacks, with a progress bar on a terminal."""
    from pooch import HTTPDownloader

    with _Part(part, size, address) as file:
        there = file.tell()

        def look(answer: Any, **_: Any) -> None:
            status, kind = answer.status_code, answer.headers.get("Content-Type", "")
            length = answer.headers.get("Content-Length", "")
            if status in (200, 206) and "text/html" in kind:
                told = "an HTML page came in place of the file, as proxies and log-ins send it"
                raise EnvironmentFailed(f"{address}: {told} (get past it, or name a copy by TRAINYARD_MIRROR)")
            if 400 <= status < 500 and status not in (408, 416, 429):  # a further try would hear the same
                raise EnvironmentFailed(f"{address}: {status} {answer.reason} (moved? name a copy by TRAINYARD_MIRROR)")
            if status in (200, 206) and length.isdigit():
                whole = int(length) + (there if status == 206 else 0)
                if whole != size:
                    raise BadInput(f"{address}: {whole} bytes, published are {size} (cut short, or another file)")
            if status in (200, 416):  # it gives no parts, or has fewer bytes than are here: from the start
                file.truncate(0)

        # bytes as they are stored: a compressed answer would make parts of another file
        headers = {"Range": f"bytes={there}-", "Accept-Encoding": "identity"}
        how: Any = {"headers": headers, "hooks": {"response": look}, "timeout": 30}
        HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=2**16, **how)(address, file, None)


# === Archives ===

_BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError),
    *(ValueError, RuntimeError),
    *(FileExistsError, IsADirectoryError, NotADirectoryError),  # one name for a file and for a folder
)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar.gz, zip or gz file, or copy any other, into a folder that is thrown away where this raises.

    Raises BadInput for a member that is no regular file or folder or that lies outside of the folder, for more files or
    bytes than is sane, and for an archive that is cut short or is none. That its bytes are the right ones is for the
    hash to say.
    """
    most, total = min(MOST_BYTES, MOST_RATIO * archive.stat().st_size), 0
    try:
        for count, (name, stream) in enumerate(_members(archive), start=1):
            target = folder / name
            if stream is None:
                raise BadInput(f"{archive}: `{name}` is a link or a device (expected files and folders alone)")
            if ".." in PurePosixPath(name).parts or not target.resolve().is_relative_to(folder.resolve()):
                raise BadInput(f"{archive}: `{name}` lies outside of the archive's own folder")
            if count > MOST_FILES:
                raise BadInput(f"{archive}: more than {MOST_FILES} files")
            target.parent.mkdir(parents=True, exist_ok=True)
            with stream, target.open("wb") as file:
                while block := stream.read(2**16):
                    total += len(block)
                    if total > most:
                        raise BadInput(f"{archive}: unpacks to more than {most} bytes")
                    file.write(block)
    except _BROKEN as error:
        raise BadInput(f"{archive}: broken archive ({error}); delete it and fetch again") from None
    except OSError as error:
        if error.errno is not None:  # the disk, not bzip2
            raise
        raise BadInput(f"{archive}: broken archive ({error}); delete it and fetch again") from None


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes] | gzip.GzipFile | None]]:
    """Name and content of what is no folder; no content where it is no regular file."""
    if archive.name.endswith((".tar.gz", ".tgz")):
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                if not member.isdir():
                    yield member.name, tar.extractfile(member) if member.isreg() else None
    elif archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                regular = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)  # 0: made where there are no links
                if not info.is_dir():
                    yield info.filename, zipped.open(info) if regular else None
    elif archive.suffix == ".gz":
        with gzip.open(archive) as stream:
            yield archive.stem, stream
    else:
        with archive.open("rb") as plain:
            yield archive.name, plain


# === From the source's format to a kind's ===

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
GARMENTS = ("t-shirt_top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle_boot")
ADULT = (
    "age,workclass,fnlwgt,education,education_num,marital_status,occupation,relationship,race,sex,"
    "capital_gain,capital_loss,hours_per_week,native_country,income"
)


def _fashion_mnist(source: Path, target: Path) -> None:
    """IDX: a header of 16 bytes and grey pixels; a header of 8 and class numbers."""
    for split, prefix in (("train", "train"), ("test", "t10k")):
        pixels = np.fromfile(source / f"{prefix}-images-idx3-ubyte", np.uint8, offset=16).reshape(-1, 28, 28)
        labels = np.fromfile(source / f"{prefix}-labels-idx1-ubyte", np.uint8, offset=8)
        _write_images(target / split, [GARMENTS[label] for label in labels], pixels)


def _cifar10(source: Path, target: Path) -> None:
    """Rows of 3,073 bytes: the class, then the red, green and blue pixels."""
    names = (source / "cifar-10-batches-bin/batches.meta.txt").read_text().split()
    for split, batches in (("train", "data_batch_?.bin"), ("test", "test_batch.bin")):
        paths = sorted(source.glob(f"cifar-10-batches-bin/{batches}"))
        rows = np.concatenate([np.fromfile(path, np.uint8).reshape(-1, 3073) for path in paths])
        pixels = rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        _write_images(target / split, [names[label] for label in rows[:, 0]], pixels)


def _write_images(folder: Path, labels: Sequence[str], pixels: NDArray[np.uint8]) -> None:
    """CLASS/NNNNN.png by the place in the source; `pixels` `[n, height, width]` or `[n, height, width, 3]`."""
    from PIL import Image

    for label in set(labels):
        (folder / label).mkdir(parents=True)
    for place, (label, image) in enumerate(zip(labels, pixels, strict=True)):
        Image.fromarray(np.ascontiguousarray(image)).save(folder / label / f"{place:05d}.png")


def _flowers(source: Path, target: Path) -> None:
    shutil.copyfile(source / "flower_photos/LICENSE.txt", target / "LICENSE.txt")  # it credits the photographers
    for photo in source.glob("flower_photos/*/*.jpg"):
        (target / photo.parent.name).mkdir(exist_ok=True)
        shutil.copyfile(photo, target / photo.parent.name / photo.name)


def _spoken_digits(source: Path, target: Path) -> None:
    """Recordings are named DIGIT_SPEAKER_PLACE.wav."""
    (target / "recordings").mkdir()
    rows = ["file,transcript,speaker"]
    for recording in sorted(source.glob("*/recordings/*.wav")):
        digit, speaker, _ = recording.stem.split("_")
        shutil.copyfile(recording, target / "recordings" / recording.name)
        rows.append(f"recordings/{recording.name},{DIGITS[int(digit)]},{speaker}")
    files.write_text(target / "transcripts.csv", "\n".join(rows) + "\n")


def _sms_spam(source: Path, target: Path) -> None:
    (target / "messages.tsv").write_bytes(b"label\ttext\n" + (source / "SMSSpamCollection").read_bytes())


def _jena_climate(source: Path, target: Path) -> None:
    """Stretches come twice and out of order: the first row of each time stays. -9999 means: not known."""
    import pandas as pd

    table = pd.read_csv(source / "jena_climate_2009_2016.csv", dtype=str, keep_default_na=False)
    table.insert(0, "time", pd.to_datetime(table.pop("Date Time"), format="%d.%m.%Y %H:%M:%S"))
    table = table.drop_duplicates("time").sort_values("time")
    for column in table.columns[1:]:
        table[column] = table[column].mask(pd.to_numeric(table[column]) == -9999, "")
    table.to_csv(target / "climate.csv", index=False, date_format="%Y-%m-%dT%H:%M:%S", lineterminator="\n")


def _adult(source: Path, target: Path) -> None:
    """No header; a space after each comma; in the test part a remark first and a full stop after each label."""
    rows = [f"{ADULT},split"]
    for split, name in (("train", "adult.data"), ("test", "adult.test")):
        for line in (source / name).read_text(encoding="utf-8").splitlines():
            cells = [cell.strip() for cell in line.removesuffix(".").split(",")]
            if len(cells) == ADULT.count(",") + 1:
                rows.append(",".join([*cells, split]))
    files.write_text(target / "adult.csv", "\n".join(rows) + "\n")


def _wine_quality(source: Path, target: Path) -> None:
    for colour in ("red", "white"):
        shutil.copyfile(source / f"winequality-{colour}.csv", target / f"{colour}.csv")


# === The sets ===

_KERAS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets"
_UCI = "https://archive.ics.uci.edu"

CATALOGUE = {
    "fashion_mnist": Entry(
        about="70,000 grey pictures of garments, 28x28, 10 classes",
        licence="MIT",
        sources=(
            Source(
                f"{_KERAS}/train-images-idx3-ubyte.gz",
                26_421_880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            Source(
                f"{_KERAS}/train-labels-idx1-ubyte.gz",
                29_515,
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            ),
            Source(
                f"{_KERAS}/t10k-images-idx3-ubyte.gz",
                4_422_102,
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            ),
            Source(
                f"{_KERAS}/t10k-labels-idx1-ubyte.gz",
                5_148,
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        ),
        convert=_fashion_mnist,
        dataset="kind: images, path: PATH, objective: multiclass, channels: 1, split: {given: folder}",
        model="family: cnn, pooling: flatten, dense: [128], epochs: 10, batch_size: 128",
    ),
    "cifar10": Entry(
        about="60,000 colour pictures of animals and vehicles, 32x32, 10 classes",
        licence="none stated; cite A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        sources=(
            Source(
                "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                170_052_171,
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            ),
        ),
        convert=_cifar10,
        dataset="kind: images, path: PATH, objective: multiclass, split: {given: folder}, audit: warn",
        model="family: cnn, filters: [32, 64, 128], convolutions: 2, epochs: 20, batch_size: 128",
    ),
    "flowers": Entry(
        about="3,670 photos of flowers, 5 classes",
        licence="CC BY 2.0; LICENSE.txt names the photographers",
        sources=(
            Source(
                "https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz",
                228_813_984,
                "4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c",
            ),
        ),
        convert=_flowers,
        dataset="kind: images, path: PATH, objective: multiclass, size: [128, 128]",
        model="family: mobilenet, backbone: {width: 0.25}, augment: {flip: horizontal}",
    ),
    "spoken_digits": Entry(
        about="Free Spoken Digit Dataset 1.0.9: 2,500 recordings of English digits, 8 kHz, 5 speakers",
        licence="CC BY-SA 4.0",
        sources=(
            Source(
                "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/v1.0.9.tar.gz",
                11_975_353,
                "8bc44cde129d505cbbb6b365c09f80c663f2aa77578afc634e6141a2f87100c0",
            ),
        ),
        convert=_spoken_digits,
        dataset="kind: speech, path: PATH, group: speaker",
        model="family: rnn, filters: [64, 128], stride: 2, cell: gru, units: [128], bidirectional: true, "
        "dropout: 0.4, head_dropout: 0.3, disturb: {pitch: 0.08, bands: 0.15, frames: 0.1, noise: 0.7}, "
        "optimizer: {learning_rate: 0.002}, epochs: 30, words: known, beam: 16",
    ),
    "sms_spam": Entry(
        about="SMS Spam Collection: 5,574 English text messages, ham or spam",
        licence="CC BY 4.0",
        sources=(
            Source(
                f"{_UCI}/static/public/228/sms+spam+collection.zip",
                203_415,
                "1587ea43e58e82b14ff1f5425c88e17f8496bfcdb67a583dbff9eefaf9963ce3",
            ),
        ),
        convert=_sms_spam,
        dataset="kind: text, path: PATH/messages.tsv, objective: binary, text: text, target: label, positive: spam, "
        'delimiter: "\\t", quoting: false, tokens: trigrams',
        model="family: rnn, embedding: 64, filters: [128], kernel: [2, 3, 4], stride: 4, cell: gru, units: [64], "
        "bidirectional: true, pooling: max, head_dropout: 0.5, optimizer: {name: adamw, weight_decay: 0.02, "
        "learning_rate: 0.002}, epochs: 12, early_stopping: {patience: 4}",
    ),
    "jena_climate": Entry(
        about="weather of Jena, 14 columns, every 10 minutes from 2009 to 2016",
        licence="none stated; credit the Max Planck Institute for Biogeochemistry, Jena",
        sources=(
            Source(
                f"{_KERAS}/jena_climate_2009_2016.csv.zip",
                13_568_290,
                "63d757501e92284a7de7cdbef0337f03b24e13ead7ac2b5b8c86a18d8e38ba5b",
            ),
        ),
        convert=_jena_climate,
        dataset="kind: series, path: PATH/climate.csv, time: time, target: T (degC), columns: [T (degC), p (mbar), "
        "rh (%), wv (m/s)], step: 10min, fill: 6, window: 144, horizon: 36, season: 144",
        model="family: rnn, cell: gru, epochs: 5, batch_size: 256",
    ),
    "adult": Entry(
        about="Adult: 48,842 people of the US census of 1994, income above 50,000 dollars or not",
        licence="CC BY 4.0",
        sources=(
            Source(
                f"{_UCI}/ml/machine-learning-databases/adult/adult.data",
                3_974_305,
                "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
            ),
            Source(
                f"{_UCI}/ml/machine-learning-databases/adult/adult.test",
                2_003_153,
                "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05",
            ),
        ),
        convert=_adult,
        dataset='kind: tables, path: PATH/adult.csv, objective: binary, target: income, positive: ">50K", '
        'ignore: [fnlwgt], missing: ["?"], split: {given: split}, audit: warn',
        model="family: mlp, epochs: 10, batch_size: 256",
    ),
    "wine_quality": Entry(
        about="Wine Quality: 1,599 red and 4,898 white wines, 11 measurements and a grade",
        licence="CC BY 4.0",
        sources=(
            Source(
                f"{_UCI}/ml/machine-learning-databases/wine-quality/winequality-red.csv",
                84_199,
                "4a402cf041b025d4566d954c3b9ba8635a3a8a01e039005d97d6a710278cf05e",
            ),
            Source(
                f"{_UCI}/ml/machine-learning-databases/wine-quality/winequality-white.csv",
                264_426,
                "76c3f809815c17c07212622f776311faeb31e87610d52c26d87d6e361b169836",
            ),
        ),
        convert=_wine_quality,
        dataset='kind: tables, path: PATH/white.csv, delimiter: ";", objective: regression, target: quality',
        model="family: mlp, epochs: 60, early_stopping: {patience: 10}",
    ),
}
