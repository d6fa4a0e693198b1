"""Recordings and transcripts that no model should learn from: cases 52 and 54 to 61."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bad_inputs.planting import CALLS, SAID, both, change, cut, params, refused, remove, write
from trainyard import cli, files

CALL = f"{CALLS}/3.wav"
RIFF = struct.Struct("<4sI4s4sIHHIIHH4sI")
"""The header of a WAV file, from `RIFF` to the size of the sound."""


def sound(count=4000, channels=1, rate=8000, **how):
    """Noise in place of one recording."""
    noise = np.random.default_rng(0).normal(0, 0.1, (count, channels))
    return lambda: soundfile.write(CALL, noise, rate, **{"format": "WAV"} | how)


def wave(samples):
    return lambda: soundfile.write(CALL, samples, 8000)


def claims(size, bytes_there=8000):
    """A WAV file of 8 kHz and 16 bits whose header claims so many bytes of sound; what is not written takes no room."""

    def plant():
        riff = min(size + 36, 2**32 - 1)
        head = RIFF.pack(b"RIFF", riff, b"WAVE", b"fmt ", 16, 1, 1, 8000, 16_000, 2, 16, b"data", min(size, 2**32 - 1))
        with Path(CALL).open("wb") as file:
            file.write(head)
            file.truncate(RIFF.size + bytes_there)

    return plant


REFUSED = [
    refused(
        52,
        "a recording outside of the folder",
        change(SAID, "3.wav", "../3.wav"),
        f"{SAID}:5: column `file`: '../3.wav' (expected a WAV, FLAC or OGG file below {CALLS})",
    ),
    refused(
        54,
        "44.1 kHz among recordings of 8 kHz",
        sound(22_050, rate=44_100),
        f"{CALL}: 44100 Hz and 1 channel(s), most have 8000 and 1; 1 such (`mixed: true` takes them as they are)",
    ),
    refused(
        54,
        "8 kHz where params ask for 16",
        params("kind: speech\n", "kind: speech\n    rate: 16000\n"),
        f"{CALLS}/0.wav: 8000 samples a second (expected 16000 or more: see `rate`)",
    ),
    refused(
        55,
        "a recording in stereo among others",
        sound(channels=2),
        f"{CALL}: 8000 Hz and 2 channel(s), most have 8000 and 1; 1 such",
    ),
    refused(55, "33 channels", sound(channels=33), f"{CALL}: 33 channels (at most 32)"),
    refused(
        56,
        "samples that are no numbers",
        lambda: soundfile.write(CALL, np.full(4000, np.nan), 8000, subtype="FLOAT"),
        f"{CALL}: broken recording (4000 of 4000 samples can be read)",
    ),
    refused(57, "zero samples", sound(0), f"{CALL}: holds no sound (0 samples)"),
    refused(57, "zero bytes", write(CALL, b""), f"{CALL}: no readable WAV, FLAC or OGG"),
    refused(
        58,
        "silence",
        wave(np.zeros(4000)),
        f"{CALL}: column loudest: -120 is not at least -60 (see reports/data/calls/page.html)",
        "validate",
    ),
    refused(
        58,
        "a recording that is cut off at full scale",
        wave(np.clip(np.random.default_rng(0).normal(0, 2, 4000), -1, 1)),
        f"{CALL}: column clipped: 0.6",
        "validate",
    ),
    refused(
        59, "a header that claims 4 GB", claims(2**32), f"{CALL}: cut short (8044 bytes; its header says 4294967303)"
    ),
    refused(59, "a WAV file cut short", cut(CALL, 5000), f"{CALL}: cut short (5000 bytes; its header says 8044)"),
    refused(59, "a WAV file cut in its header", cut(CALL, 30), f"{CALL}: no readable WAV, FLAC or OGG"),
    refused(60, "an MP3 called .wav", sound(format="MP3"), f"{CALL}: holds MP3 (expected WAV, FLAC or OGG)"),
    refused(
        60, "a tag of an MP3 called .wav", write(CALL, b"ID3" + bytes(99)), f"{CALL}: no readable WAV, FLAC or OGG"
    ),
    refused(
        61,
        "two hours",
        claims(115_200_000, 115_200_000),
        f"{CALL}: 7200 s (at most 30: cut it, or raise `longest`)",
    ),
]


@pytest.mark.parametrize(("plant", "told", "verbs"), REFUSED)
def test_a_bad_recording_is_refused(project, refuses, plant, told, verbs):
    plant()
    refuses(told, *([verb, "calls"] for verb in verbs))


TRANSCRIPTS = {
    "no folder": (lambda: Path(CALLS).rename("calls"), f"params.yaml: datasets.calls.path: {CALLS}: not found"),
    "no file": (remove(SAID), f"{SAID}: not found"),
    "untold": (write(f"{CALLS}/12.wav", b"RIFF"), f"{CALLS}/12.wav: has no transcript in transcripts.csv; 1 such"),
    "empty text": (change(SAID, "3.wav,yes", "3.wav,"), f"{SAID}:5: column `transcript`: is empty"),
    "missing recording": (remove(CALL), f"{SAID}:5: column `file`: '3.wav' is not there"),
    "two transcripts": (change(SAID, "4.wav", "3.wav"), f"{SAID}:6: column `file`: '3.wav' has a transcript in row 5"),
    "unknown letter": (
        both(params("group: voice", "group: voice\n    alphabet: enosy"), change(SAID, "3.wav,yes", "3.wav,yés")),
        f"{SAID}:5: column `transcript`: letter 'é' is not in `alphabet`",
    ),
    "too much text": (
        change(SAID, "3.wav,yes", "3.wav," + "yes" * 30),
        f"{SAID}:5: '3.wav' has 0.50 s, too few for a",
    ),
}


@pytest.mark.parametrize(("plant", "told"), TRANSCRIPTS.values(), ids=TRANSCRIPTS)
def test_bad_transcripts_are_refused(project, refuses, plant, told):
    plant()
    refuses(told, ["prepare", "calls"], ["validate", "calls"])


@pytest.mark.parametrize(
    "subtype",
    [
        pytest.param(
            subtype,
            id=f"56: {subtype}",
            marks=pytest.mark.bad_input(number=56, what=what, then="taken, and heard as any other"),
        )
        for subtype, what in {"PCM_U8": "8 bits", "PCM_24": "24 bits", "FLOAT": "float32", "DOUBLE": "float64"}.items()
    ],
)
def test_samples_of_any_width_are_taken(project, subtype):
    sound(subtype=subtype)()
    assert cli.main(["prepare", "calls"]) == 0
    assert files.read_json(Path("build/calls/facts.json")) == {"classes": ["e", "n", "o", "s", "y"]}


@pytest.mark.bad_input(
    number=54,
    what="a whole set of 44.1 kHz stereo",
    then="taken, brought to `rate` and one channel, and told in a line",
)
def test_a_set_of_another_rate_is_brought_to_it(project, caplog):
    caplog.set_level("INFO", "trainyard")
    for path in Path(CALLS).glob("*.wav"):
        soundfile.write(path, np.random.default_rng(int(path.stem)).normal(0, 0.1, (22_050, 2)), 44_100)
    assert cli.main(["prepare", "calls"]) == 0
    told = f"{CALLS}: 12 recordings of 44100 Hz, 2 channel(s): brought to 8000 Hz, 1 channel, as params say"
    assert told in caplog.messages
