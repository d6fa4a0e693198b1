"""Write data/spoken: number words spoken by voices of espeak-ng, FLAC at 8 kHz, with transcripts.csv.

    python scripts/make_spoken.py                           what ships
    python scripts/make_spoken.py --takes 60 --out FOLDER   more of it

A voice is one of espeak-ng's variants with one of four accents of English; each take draws a number, a speed and a
pitch anew. Robots, whispers and other effects are left out; variants of one voice bear one name.
"""

import argparse
import csv
import ctypes
import sys
from pathlib import Path

import espeakng_loader
import numpy as np
import soundfile
from scipy.signal import resample_poly

from trainyard import files

DATA = Path(__file__).parents[1] / "data"
RATE = 8000
ACCENTS = ("en-us", "en", "en-gb-x-rp", "en-gb-x-gbclan")
VARIANTS = (
    *(f"f{i}" for i in range(1, 6)), *(f"m{i}" for i in range(1, 9)),
    "Alex", "Andrea", "Andy", "Annie", "Diogo", "Gene", "Henrique", "Hugo", "Jacky", "Lee", "Marco", "Mario",
    "Michael", "Mike", "Nguyen", "Reed", "adam", "anika", "antonio", "belinda", "benjamin", "boris", "caleb", "david",
    "ed", "edward", "gustave", "ian", "john", "linda", "marcelo", "max", "michel", "miguel", "norbert", "pablo", "paul",
    "pedro", "quincy", "rob", "robert", "sandro", "steph", "travis", "victor", "zac",
)  # fmt: skip
TWINS = dict.fromkeys(("henrique", "hugo", "michel", "miguel"), "diogo") | {"norbert": "john"}
"""Variants that differ from another in a filter of all sounds alone: the same voice, in whatever accent."""
ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
SPEED, VOLUME, PITCH, RANGE = 1, 2, 3, 4
"""Parameters of espeak-ng, by their numbers in speak_lib.h."""


def words(number: int) -> str:
    """A number below 100 in words."""
    if number < 20:
        return ONES[number]
    return TENS[number // 10 - 2] + (f" {ONES[number % 10]}" if number % 10 else "")


class Speaker:
    """espeak-ng, which gives sound in place of playing it."""

    def __init__(self) -> None:
        """Load the library and its voices."""
        self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = str(Path(espeakng_loader.get_data_path()).parent).encode()
        self.rate = self.library.espeak_Initialize(1, 0, data, 0)  # 1: give the sound to the callback
        self.heard: list[np.ndarray] = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self.callback = kind(self._listen)  # kept, or Python would free it
        self.library.espeak_SetSynthCallback(self.callback)

    def say(self, text: str, voice: str, speed: int, pitch: int) -> np.ndarray:
        """Float samples at 8 kHz, without the silence around them, with the same greatest value for all."""
        if self.library.espeak_SetVoiceByName(voice.encode()):
            sys.exit(f"espeak-ng has no voice {voice}")
        for parameter, value in ((SPEED, speed), (PITCH, pitch), (VOLUME, 100), (RANGE, 50)):
            self.library.espeak_SetParameter(parameter, value, 0)
        self.library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # of breath
        self.heard = []
        content = text.encode()
        self.library.espeak_Synth(content, len(content) + 1, 0, 1, 0, 1, None, None)  # 1: in UTF-8
        self.library.espeak_Synchronize()
        sound = resample_poly(np.concatenate(self.heard).astype(np.float64), RATE * 2 // 100, self.rate * 2 // 100)
        loud = np.flatnonzero(np.abs(sound) > 0.02 * np.abs(sound).max())
        sound = sound[max(loud[0] - 200, 0) : loud[-1] + 400]
        return 0.05 * sound / np.abs(sound).max()  # quiet: FLAC needs fewer bits for it

    def _listen(self, samples: ctypes.c_void_p, count: int, _: ctypes.c_void_p) -> int:
        if samples and count:
            self.heard.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0


def main() -> None:
    """Speak, write, and say how much it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--takes", type=int, default=16, help="recordings of each voice")
    parser.add_argument("--out", type=Path, default=DATA, help="folder in which `spoken` is made")
    asked = parser.parse_args()
    with files.replacing_folder(asked.out / "spoken") as folder:
        print(f"{asked.out / 'spoken'}: {write_spoken(folder, asked.takes)}")


def write_spoken(folder: Path, takes: int) -> str:
    """Write recordings and transcripts; gives how much it is."""
    (folder / "recordings").mkdir()
    speaker, rows = Speaker(), []
    for place, variant in enumerate(VARIANTS):
        accent = ACCENTS[place % len(ACCENTS)]
        rng = np.random.default_rng([place, 8])
        numbers = rng.integers(0, 100, takes)
        for take, number in enumerate(numbers):
            text = words(int(number))
            speed, pitch = int(rng.integers(140, 220)), int(rng.integers(25, 75))
            sound = speaker.say(text, f"{accent}+{variant}", speed, pitch)
            name = f"recordings/{accent}-{variant.lower()}-{take:02d}.flac"
            soundfile.write(folder / name, sound, RATE, subtype="PCM_16")
            voice = TWINS.get(variant.lower(), variant.lower())
            rows.append((name, text, voice, f"{len(sound) / RATE:.2f}"))
    with (folder / "transcripts.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("file", "transcript", "voice"), *(row[:3] for row in rows)])
    seconds = sum(float(row[3]) for row in rows)
    size = sum(file.stat().st_size for file in folder.rglob("*.*"))
    voices = len({row[2] for row in rows})
    return f"{len(rows)} recordings of {voices} voices, {seconds:.0f} s, {size:,} bytes"


if __name__ == "__main__":
    main()
