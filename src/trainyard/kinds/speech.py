"""Speech: a folder of WAV, FLAC and OGG recordings with a transcripts.csv that says what is spoken in each.

Raw is `samples`, float32 `[n, samples]` at the set's rate and padded with 0, and `length`, int32 `[n, 1]`, how many of
them are sound; answers are text.
"""

import io
import logging
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
import pandas as pd

from trainyard import arrays, files
from trainyard.arrays import Array, Rows
from trainyard.errors import BadInput
from trainyard.kinds import Examples, Masked, Measures, Prepared, Preprocessing, delimited, few, read_rows
from trainyard.params import Expectation, Speech
from trainyard.quality import baselines, leaks, splits
from trainyard.quality.baselines import Baseline
from trainyard.quality.importance import Part
from trainyard.quality.leaks import Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

TRANSCRIPTS = "transcripts.csv"
SUFFIXES = {".wav", ".flac", ".ogg"}
FORMATS = {"WAV", "WAVEX", "FLAC", "OGG"}
MOST_CHANNELS = 32
MOST_RATE = 192_000
ALIKE = 0.05
"""Standard deviations by which the sound of the same recording differs: with noise 25 dB below it by half of that."""
SILENCE = -60
"""Decibels below full scale: a recording that is nowhere louder holds no speech."""
CLIPPED = 0.1
"""Share of a recording's samples at full scale from which on it was cut off there; of a pure tone it is 0.03."""
QUIET = 1e-4
"""Power that is added to each band, as a share of the recording's greatest: a room's noise is not to be learnt."""


BANDS = 6
"""Into which the frequencies are cut, to mask one after the other."""
FEW_HEARD = 64
"""Recordings that are heard again without each band: to read one takes far longer than to look at an image."""


class Clips:
    """Recordings of several lengths that lie one after the other, padded with 0 when they are asked for."""

    def __init__(self, sound: Rows, starts: Array, lengths: Array) -> None:
        """`sound` float32 `[time]`; `starts` and `lengths` `[n]`, in samples."""
        self.sound, self.starts, self.lengths = sound, starts, lengths
        self.shape, self.dtype = (len(starts), int(lengths.max(initial=1))), sound.dtype

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: Any) -> Array:
        starts, lengths = self.starts[index], self.lengths[index]
        if np.ndim(starts) == 0:
            return self[[index]][0]
        clips = np.zeros((len(starts), self.shape[1]), np.float32)
        for clip, start, length in zip(clips, starts, lengths, strict=True):
            clip[:length] = self.sound[start : start + length]
        return clips


def manifest(spec: Speech) -> pd.DataFrame:
    """One row a recording: transcript, group, row of transcripts.csv, rate, channels, seconds, loudest, clipped, hash.

    Indexed by the path below the folder; transcripts are in small letters (NFC), with single spaces. `loudest` is that
    of all channels' mean, in decibels of full scale; `clipped` is the share of the samples at full scale, in any
    channel. Raises BadInput.
    """
    return _read(spec, labelled=True)


def expectations(spec: Speech, manifest: pd.DataFrame) -> list[Expectation]:
    """Each recording has sound in it, of a shape that a voice has, and a transcript."""
    return [
        Expectation(column="transcript", not_null=True),
        Expectation(column="seconds", between=(0.05, spec.longest)),
        Expectation(column="loudest", between=(SILENCE, None)),
        Expectation(column="clipped", between=(None, CLIPPED)),
    ]


def split(spec: Speech, manifest: pd.DataFrame, seed: int) -> pd.Series:
    """Speakers, or else recordings that are equal or nearly so, stay together; training hears each letter."""
    same_for_all = pd.Series("recordings", index=manifest.index, name="stratum")
    given = manifest[spec.split.given] if spec.split.given else None
    together, shares = groups(spec, manifest), spec.split
    same = likeness(spec, manifest) if together is None else contents(spec, manifest)
    parts = splits.draw(same_for_all, together, same, shares.validation, shares.test, given, seed, spec.path)
    taught = set("".join(manifest["transcript"][parts == splits.TRAIN]))
    for said, row in zip(manifest["transcript"], manifest["row"], strict=True):
        if untaught := sorted(set(said) - taught):
            where = f"{Path(spec.path) / TRANSCRIPTS}:{row:.0f}"
            told = f"letter {untaught[0]!r} is in no transcript of the training part"
            raise BadInput(f"{where}: column `transcript`: {told} (spell it otherwise, or record more)")
    return parts


def contents(spec: Speech, manifest: pd.DataFrame) -> pd.Series:
    """The files' hashes."""
    return manifest["sha256"]


def likeness(spec: Speech, manifest: pd.DataFrame) -> pd.Series:
    """Clusters of recordings of which one may be another, louder or with some noise.

    Compared is where in time and frequency the sound is: 16 parts of the recording, 12 bands. Cuttings and recordings
    that are played faster are not found.
    """
    paths = (Path(spec.path) / example for example in manifest.index)
    prints = [_print(_decoded(spec, path.read_bytes(), str(path))) for path in paths]
    return pd.Series(leaks.near(np.stack(prints), ALIKE), manifest.index).astype(str)


def groups(spec: Speech, manifest: pd.DataFrame) -> pd.Series | None:
    """The speakers, where a column says who speaks."""
    return manifest[spec.group] if spec.group else None


def audit(spec: Speech, manifest: pd.DataFrame, parts: pd.Series) -> Iterator[Finding]:
    """Nothing that other kinds do not have."""
    return iter(())


def facts(spec: Speech, manifest: pd.DataFrame) -> dict[str, Any]:
    """The alphabet, sorted, as `classes`."""
    letters = sorted(set(_letters(spec.alphabet or "".join(manifest["transcript"]))))
    reason = "as params say" if spec.alphabet else "those of the transcripts"
    log.info("%s: alphabet of %d letters, %s: %s", spec.path, len(letters), reason, "".join(letters))
    for _, alike in manifest.groupby(["rate", "channels"]):
        rate, channels = alike["rate"].iloc[0], alike["channels"].iloc[0]
        if rate != spec.rate or channels > 1:
            told = f"{len(alike)} recordings of {rate:.0f} Hz, {channels:.0f} channel(s)"
            log.info("%s: %s: brought to %d Hz, 1 channel, as params say", spec.path, told, spec.rate)
    return {"classes": letters}


def write(spec: Speech, facts: Mapping[str, Any], manifest: pd.DataFrame, folder: Path) -> None:
    """Float32 `sound.npy` `[time]`, recording after recording; int `lengths.npy` `[n]`; `target.npy`; `rows.csv`."""
    lengths = []

    def clips() -> Iterator[Array]:
        for example in manifest.index:
            path = Path(spec.path) / example
            clip = _decoded(spec, path.read_bytes(), str(path))
            lengths.append(len(clip))
            yield clip

    arrays.write(folder / "sound.npy", clips())
    np.save(folder / "lengths.npy", np.array(lengths))
    np.save(folder / "target.npy", manifest["transcript"].to_numpy(np.str_))
    rows = pd.DataFrame({"label": manifest["transcript"]}, index=manifest.index)
    if spec.group:
        rows["group"] = manifest[spec.group]
    files.write_csv(folder / "rows.csv", rows)


def read(spec: Speech, facts: Mapping[str, Any], folder: Path) -> Examples:
    """The sound stays on the disk."""
    lengths = np.load(folder / "lengths.npy")
    sound = arrays.Stored(folder / "sound.npy")
    raw = {"samples": Clips(sound, np.cumsum(lengths) - lengths, lengths), "length": lengths.astype(np.int32)[:, None]}
    return Examples(raw, np.load(folder / "target.npy"), read_rows(folder))


def decode(spec: Speech, facts: Mapping[str, Any], table: pd.DataFrame) -> tuple[dict[str, Array], pd.Index]:
    """Rows with a column `recording`, the bytes of a WAV, FLAC or OGG file each."""
    if "recording" not in table:
        raise BadInput("no column `recording` (the bytes of a WAV, FLAC or OGG file) in the rows to answer")
    clips = []
    for row, content in table["recording"].items():
        if not isinstance(content, bytes | bytearray | memoryview):
            raise BadInput(f"row {row}: {type(content).__name__} (expected the bytes of a WAV, FLAC or OGG file)")
        clips.append(_decoded(spec, bytes(content), f"row {row}"))
    lengths = np.array([len(clip) for clip in clips], np.int32)
    samples = Clips(np.concatenate([np.zeros(0, np.float32), *clips]), np.cumsum(lengths) - lengths, lengths)[:]
    return {"samples": samples, "length": lengths[:, None]}, table.index


def preprocessing(spec: Speech, facts: Mapping[str, Any], train: Examples) -> Preprocessing:
    """Logarithm of the mel spectrogram `[n, frames, bands]`, less its mean over the recording, scaled to variance 1.

    What a recording has in common over all of its frames is the microphone's and the voice's, not the words', as is its
    loudness: one that is twice as loud has the same features. Frames beyond the end are 0.
    """
    import keras
    from keras import layers, ops

    samples, length = keras.Input((None,), name="samples"), keras.Input((1,), dtype="int32", name="length")
    step, window = round(spec.step * spec.rate), round(spec.frame * spec.rate)
    mel = layers.MelSpectrogram(
        fft_length=1 << (window - 1).bit_length(),
        sequence_stride=step,
        sequence_length=window,
        sampling_rate=spec.rate,
        num_mel_bins=spec.bands,
        power_to_db=False,  # it would cut at a level that depends on the loudest recording of the batch
        name="mel",
    )
    padded = ops.pad(samples, ((0, 0), (0, mel.fft_length)))  # or the layer would mirror what comes before the end
    power = ops.transpose(mel(padded), (0, 2, 1))
    place = ops.cumsum(ops.ones_like(power[..., :1]), axis=1) - 1
    there = ops.cast(place * step < ops.cast(ops.expand_dims(length, -1), "float32"), "float32")
    level = ops.log(power + QUIET * ops.max(power, axis=(1, 2), keepdims=True) + 1e-12)
    count = ops.maximum(ops.sum(there, axis=1, keepdims=True), 1.0)
    centred = (level - ops.sum(level * there, axis=1, keepdims=True) / count) * there
    inputs = {"samples": samples, "length": length}
    raw = keras.Model(inputs, centred)
    total, frames = np.zeros(spec.bands), 0.0
    for start in range(0, len(train), 64):
        chunk = {name: values[start : start + 64] for name, values in train.raw.items()}
        found = ops.convert_to_numpy(raw(chunk))
        total += np.square(found, dtype=np.float64).sum(axis=(0, 1))
        frames += float(np.ceil(chunk["length"] / step).sum())
    scale = 1 / np.sqrt(np.maximum(total / frames, 1e-6))
    features = layers.Rescaling(scale.tolist(), name="bands")(centred)
    numbers = {letter: number for number, letter in enumerate(facts["classes"], 1)}

    def learns(examples: Examples) -> Array:
        coded = np.zeros((len(examples), max(map(len, examples.target))), np.int32)
        for row, said in zip(coded, examples.target, strict=True):
            row[: len(said)] = [numbers[letter] for letter in said]
        return coded

    return Preprocessing(inputs, features, learns=learns)


def compared(spec: Speech, data: Prepared) -> tuple[Baseline, Baseline]:
    """The most frequent transcript; that of the training recording that sounds most alike."""
    naive = baselines.naive(data.objective, data.train.target, len(data.test))
    return naive, baselines.of_recordings(_clips(data.train), data.train.target, _clips(data.test), spec.rate)


def mistakes(spec: Speech, facts: Mapping[str, Any], test: Examples, answer: Array) -> "Figure":
    """Spectrograms with what was said and what was heard, those with most errors first."""
    from trainyard import figures

    return figures.heard(_clips(test), spec.rate, test.target, answer, test.rows.index)


def masked(spec: Speech, facts: Mapping[str, Any], train: Examples, test: Examples, seed: int) -> Iterator[Masked]:
    """The sound without one band of frequencies; bands are equally wide on the mel scale, as one hears."""
    places = few(test, seed, FEW_HEARD)
    raw = {name: values[places] for name, values in test.raw.items()}
    for part, muffled in without(spec, facts, raw):
        yield Masked(part, places, muffled)


def without(spec: Speech, facts: Mapping[str, Any], raw: Mapping[str, Array]) -> Iterator[tuple[str, dict[str, Array]]]:
    """The sound of recordings without one band of frequencies."""
    from scipy import fft

    samples, length = raw["samples"], raw["length"]
    size = fft.next_fast_len(samples.shape[1], real=True)
    spectrum, hertz = fft.rfft(samples, size), fft.rfftfreq(size, 1 / spec.rate)
    there = np.arange(samples.shape[1]) < length
    ends = 700 * np.expm1(np.linspace(0, np.log1p(spec.rate / 1400), BANDS + 1))
    band = np.digitize(hertz, ends[1:-1])
    for number, (low, high) in enumerate(pairwise(ends)):
        muffled = fft.irfft(np.where(band == number, 0, spectrum), size)[:, : samples.shape[1]]
        yield f"{low:.0f} to {high:.0f} Hz", {"samples": muffled * there, "length": length}


def importances(spec: Speech, test: Examples, answer: Array, parts: Sequence[Part], table: pd.DataFrame) -> "Figure":
    """A bar a band."""
    from trainyard import figures

    return figures.importances(table, "without the band")


def fresh(spec: Speech, facts: Mapping[str, Any]) -> pd.DataFrame:
    """The recordings that transcripts.csv names; what is said in them need not be told."""
    return _read(spec, labelled=False)


def measures(spec: Speech, facts: Mapping[str, Any], train: pd.DataFrame, manifest: pd.DataFrame) -> Measures:
    """Loudness, noise floor, duration and where the spectrum's centre is; rate and channels of the files.

    Loudness is the root mean square, the noise floor that of the quietest tenth of frames, in decibels of full scale.
    """
    paths = (Path(spec.path) / example for example in manifest.index)
    heard = [_hear(spec, _decoded(spec, path.read_bytes(), str(path))) for path in paths]
    found = pd.DataFrame(heard, manifest.index).join(manifest[["seconds", "rate", "channels"]])
    return {str(column): found[column] for column in found}


def _hear(spec: Speech, clip: Array) -> dict[str, float]:
    frame = min(round(spec.frame * spec.rate), len(clip))
    frames = np.square(clip[: len(clip) // frame * frame].reshape(-1, frame)).mean(axis=1)
    power = np.square(np.abs(np.fft.rfft(clip)))
    hertz = np.fft.rfftfreq(len(clip), 1 / spec.rate)
    return {
        "loudness": _decibels(np.square(clip).mean()),
        "noise floor": _decibels(np.quantile(frames, 0.1)),
        "spectral centroid": float((power * hertz).sum() / max(power.sum(), 1e-12)),
    }


def _decibels(power: float) -> float:
    return float(10 * np.log10(max(power, 1e-12)))


def _clips(examples: Examples) -> list[Array]:
    clips = cast("Clips", examples.raw["samples"])
    return [clips.sound[start : start + length] for start, length in zip(clips.starts, clips.lengths, strict=True)]


def _read(spec: Speech, *, labelled: bool) -> pd.DataFrame:
    root, path = Path(spec.path), Path(spec.path) / TRANSCRIPTS
    if not root.is_dir():
        what = "is a file" if root.exists() else "not found"
        raise BadInput(f"{root}: {what} (expected a folder with {TRANSCRIPTS} and recordings)")
    asked = [column for column in (spec.group, spec.split.given) if column]
    cells = delimited.read(path, ",", columns=["file", *(["transcript"] if labelled else []), *asked])
    if spec.group and (missed := cells[spec.group].str.strip() == "").any():
        told = f"is empty; {missed.sum()} such row(s)"
        raise BadInput(f"{path}:{delimited.first(missed)}: column `{spec.group}`: {told}")
    cells["file"] = cells["file"].map(lambda name: Path(name).as_posix())  # ./a.wav is a.wav
    rows = [_describe(spec, path, row, cells.loc[row], labelled=labelled) for row in cells.index]
    _refuse_untold(root, path, cells["file"])
    table = pd.DataFrame(rows).set_index("example")
    for column in asked:
        table[column] = cells[column].to_numpy()
    if not spec.mixed:
        _refuse_unlike(spec, table)
    return table


def _refuse_untold(root: Path, path: Path, named: pd.Series) -> None:
    """Raises BadInput for a file that is named twice or not at all."""
    if (twice := named.duplicated(keep=False)).any():
        rows = named.index[twice & (named == named[twice].iloc[0])]
        raise BadInput(f"{path}:{rows[1]}: column `file`: {named[rows[1]]!r} has a transcript in row {rows[0]} already")
    there = {file.relative_to(root).as_posix() for file in root.rglob("*") if file.suffix.lower() in SUFFIXES}
    if untold := sorted(there - set(named)):
        raise BadInput(f"{root / untold[0]}: has no transcript in {TRANSCRIPTS}; {len(untold)} such recording(s)")


def _describe(spec: Speech, path: Path, row: Any, cells: pd.Series, *, labelled: bool) -> dict[str, Any]:
    where, said = f"{path}:{row}", " ".join(_letters(cells.get("transcript", "")).split())
    if labelled and not said:
        raise BadInput(
            f"{where}: column `transcript`: is empty (a recording without speech teaches nothing; remove it)"
        )
    if spec.alphabet and (strange := sorted(set(said) - set(_letters(spec.alphabet)))):
        raise BadInput(f"{where}: column `transcript`: letter {strange[0]!r} is not in `alphabet` ({spec.alphabet!r})")
    if not said.isprintable():
        raise BadInput(f"{where}: column `transcript`: control characters in {said!r}")
    name = cells["file"]
    file = path.parent / name
    if Path(name).is_absolute() or ".." in Path(name).parts or file.suffix.lower() not in SUFFIXES:
        raise BadInput(f"{where}: column `file`: {name!r} (expected a WAV, FLAC or OGG file below {path.parent})")
    if not file.is_file():
        raise BadInput(f"{where}: column `file`: {name!r} is not there")
    with file.open("rb") as content:  # which may be far longer than what is asked for
        sound, rate = _opened(spec, content, str(file))
    seconds = len(sound) / rate
    steps, needed = int(seconds / spec.step), len(said) + sum(a == b for a, b in pairwise(said))
    if steps < needed:
        raise BadInput(f"{where}: {name!r} has {seconds:.2f} s, too few for a transcript of {len(said)} letters")
    loudest = float(np.abs(sound.mean(axis=1)).max())
    return {
        "example": Path(name).as_posix(),
        "transcript": said,
        "row": float(row),
        "rate": float(rate),
        "channels": float(sound.shape[1]),
        "seconds": seconds,
        "loudest": 20 * np.log10(max(loudest, 1e-6)),
        "clipped": float((np.abs(sound).max(axis=1) > 0.999).mean()),
        "sha256": files.sha256(file),
    }


def _letters(text: str) -> str:
    """Small letters, each of them one character where Unicode has it."""
    return unicodedata.normalize("NFC", text).lower()


def _refuse_unlike(spec: Speech, table: pd.DataFrame) -> None:
    """Raises BadInput for a recording whose rate or channels are not those of most."""
    usual = table[["rate", "channels"]].value_counts().index[0]
    unlike = (table["rate"] != usual[0]) | (table["channels"] != usual[1])
    if unlike.any():
        first = table[unlike].iloc[0]
        told = f"{first['rate']:.0f} Hz and {first['channels']:.0f} channel(s)"
        where = Path(spec.path) / str(table.index[unlike][0])
        most = f"most have {usual[0]:.0f} and {usual[1]:.0f}"
        raise BadInput(f"{where}: {told}, {most}; {unlike.sum()} such (`mixed: true` takes them as they are)")


def _opened(spec: Speech, content: BinaryIO, where: str) -> tuple[Array, int]:
    """Samples float32 `[time, channels]` and their rate; raises BadInput. The header is looked at before any sound."""
    import soundfile

    begin, size = content.read(8), content.seek(0, 2)
    content.seek(0)
    try:
        with soundfile.SoundFile(content) as file:
            if file.format not in FORMATS:
                raise BadInput(f"{where}: holds {file.format} (expected WAV, FLAC or OGG)")
            # of a WAV file that was cut short libsndfile reads what is there
            if begin[:4] == b"RIFF" and (told := int.from_bytes(begin[4:], "little") + 8) > size + 1:
                raise BadInput(f"{where}: cut short ({size} bytes; its header says {told})")
            if not 1 <= file.channels <= MOST_CHANNELS:
                raise BadInput(f"{where}: {file.channels} channels (at most {MOST_CHANNELS})")
            if file.samplerate > MOST_RATE:
                raise BadInput(f"{where}: {file.samplerate} samples a second (at most {MOST_RATE})")
            if file.samplerate < spec.rate:
                raise BadInput(
                    f"{where}: {file.samplerate} samples a second (expected {spec.rate} or more: see `rate`)"
                )
            if file.frames > spec.longest * file.samplerate:
                seconds = file.frames / file.samplerate
                raise BadInput(f"{where}: {seconds:.0f} s (at most {spec.longest:g}: cut it, or raise `longest`)")
            expected = file.frames
            sound = file.read(dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise BadInput(f"{where}: no readable WAV, FLAC or OGG ({error.error_string.strip()})") from None
    if not len(sound):
        raise BadInput(f"{where}: holds no sound (0 samples)")
    if len(sound) < expected or not np.isfinite(sound).all():
        raise BadInput(f"{where}: broken recording ({len(sound)} of {expected} samples can be read)")
    return sound, file.samplerate


def _decoded(spec: Speech, content: bytes, where: str) -> Array:
    """One channel at the set's rate, float32 `[time]`; resampled by a polyphase filter."""
    from scipy.signal import resample_poly

    sound, rate = _opened(spec, io.BytesIO(content), where)
    mixed = sound.mean(axis=1, dtype=np.float64)
    if rate != spec.rate:
        common = np.gcd(rate, spec.rate)
        mixed = resample_poly(mixed, spec.rate // common, rate // common)
    return mixed.astype(np.float32)


def _print(clip: Array) -> Array:
    """Logarithm of the power in 16 parts of the recording and 12 bands, mean 0, variance 1: float64 `[16 * 12]`."""
    window = max(len(clip) // 16, 64)
    clip = np.pad(clip, (0, max(16 * window - len(clip), 0)))
    starts = np.linspace(0, len(clip) - window, 16).astype(int)
    power = np.stack([np.square(np.abs(np.fft.rfft(clip[i : i + window] * np.hanning(window)))) for i in starts])
    bands = np.stack([band.sum(axis=1) for band in np.array_split(power[:, 1:], 12, axis=1)], axis=1)
    level: Array = np.log(bands / max(bands.max(), 1e-12) + 0.01)
    return (level - level.mean()).ravel() / max(level.std(), 0.1)
