"""What the shipped speech model is worth on people: the Free Spoken Digit Dataset, with speakers never heard.

    trainyard fetch spoken_digits
    python benchmarks/spoken_digits.py data/fetched/spoken_digits/recordings
    python benchmarks/spoken_digits.py RECORDINGS --held theo yweweler --utterances 1200

RECORDINGS is the folder of `DIGIT_SPEAKER_TAKE.wav`. Beside the single digits, utterances of three to five digits are
put together of one speaker's takes, with short pauses; a take is wholly in one part. The network is the `rnn-speech` of
params.yaml, trained on the other speakers, on both at once, each heard at three speeds, as if by more speakers (Ko et
al., 2015); the word error of the held-out speakers is told for single digits and for utterances.
"""

import argparse
import logging
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import soundfile
from scipy.signal import resample_poly

from trainyard import files, kinds, params
from trainyard.catalogue import DIGITS
from trainyard.params import Disturb, Optimizer, Speech, Split
from trainyard.quality import evaluation, intervals
from trainyard.training import device

SPEEDS = (0.85, 1, 1.15)


def main() -> None:
    """Put utterances together, train, ask the held-out speakers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--held", nargs="+", default=["theo", "yweweler"], help="speakers of the test")
    parser.add_argument("--utterances", type=int, default=1800, help="how many of three to five digits")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("trainyard").setLevel(logging.INFO)

    shipped = params.load()
    device.start(shipped.training, asked.seed)
    from trainyard.models import saved
    from trainyard.training import fit, package

    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        put_together(asked.recordings, folder / "spoken", set(asked.held), asked.utterances, asked.seed)
        dataset = Speech(
            kind="speech", path=str(folder / "spoken"), group="speaker", split=Split(given="part"), audit="warn"
        )
        kind = kinds.of(dataset)
        manifest = kind.manifest(dataset)
        with files.replacing_folder(folder / "build" / "spoken") as build:
            kinds.write_prepared(dataset, manifest, kind.split(dataset, manifest, asked.seed), build)
        data = kinds.open_prepared("spoken", dataset, folder / "build")
        # a larger set: fewer epochs in larger batches; the speeds shift the pitch already
        steps = asked.epochs * -(-len(data.train) // 32)
        rate = {"name": "CosineDecay", "initial_learning_rate": 0.004, "decay_steps": steps}
        changes = {
            "epochs": asked.epochs,
            "batch_size": 32,
            "optimizer": Optimizer(name="adamw", weight_decay=0.02, learning_rate=rate),
            "disturb": Disturb(pitch=0.08, bands=0.15, frames=0.1, noise=0.7),
        }
        spec = shipped.model("rnn-speech").model_copy(update=changes)
        model, _ = fit.train(spec, data, asked.seed)
        about = package.about(spec, data)
        for what, changed in (("beam, known words", {}), ("greedy, any words", {"words": None, "params": {"beam": 1}})):
            answer = saved.answers(model, {**about, **changed}, data.test.raw)
            single = np.array([" " not in said for said in data.test.target])
            for name, chosen in (("single digits", single), ("3 to 5 digits", ~single)):
                target, heard, rows = data.test.target[chosen], answer[chosen], data.test.rows[chosen]
                # as few as the speakers are, they are no basis for an interval: it is of takes of these speakers
                sample = evaluation.draws(data.objective, rows.drop(columns="group"), target)
                found = intervals.of_metrics(data.objective.metrics, target, heard, sample)
                told = ", ".join(f"{metric.replace('_', ' ')} {interval}" for metric, interval in found.items())
                print(f"{', '.join(asked.held)}: {name} ({len(target)}), {what}: {told}")


def put_together(recordings: Path, folder: Path, held: set[str], count: int, seed: int) -> None:
    """Write single digits and utterances with transcripts.csv; `part` is test for the held-out speakers."""
    folder.mkdir()
    rng, rows = np.random.default_rng(seed), []
    takes: dict[tuple[str, str], list] = {}
    for file in sorted(recordings.glob("*.wav")):
        digit, speaker, _ = file.stem.split("_")
        part = "test" if speaker in held else "validation" if rng.random() < 0.1 else "train"
        takes.setdefault((speaker, part), []).append((DIGITS[int(digit)], *soundfile.read(file)))
    speakers = sorted({speaker for speaker, _ in takes})
    if not held < set(speakers):
        sys.exit(f"--held: the speakers are {', '.join(speakers)}")

    def write(spoken: list, speaker: str, part: str) -> None:
        rate = spoken[0][2]
        pauses = [np.zeros(int(rng.uniform(0.02, 0.2) * rate)) for _ in spoken[1:]]
        pieces = [piece for pair in zip([take[1] for take in spoken], [*pauses, []], strict=True) for piece in pair]
        for speed in SPEEDS if part == "train" else (1,):
            name = f"{len(rows):05d}.flac"
            sound = resample_poly(np.concatenate(pieces), 20, round(20 * speed))
            soundfile.write(folder / name, np.clip(sound, -1, 1), rate)
            rows.append((name, " ".join(take[0] for take in spoken), speaker, part))

    for (speaker, part), spoken in takes.items():
        for take in spoken:
            write([take], speaker, part)
    for place in range(count):
        speaker = speakers[place % len(speakers)]
        part = "test" if speaker in held else "validation" if rng.random() < 0.1 else "train"
        spoken = takes[speaker, part]
        write([spoken[pick] for pick in rng.integers(0, len(spoken), rng.integers(3, 6))], speaker, part)
    frame = pd.DataFrame(rows, columns=["file", "transcript", "speaker", "part"])
    frame.to_csv(folder / "transcripts.csv", index=False)


if __name__ == "__main__":
    main()
