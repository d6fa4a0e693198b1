"""What the shipped speech model is worth on people: the Free Spoken Digit Dataset, with speakers never heard.

    trainyard fetch spoken_digits
    python benchmarks/spoken_digits.py data/fetched/spoken_digits/recordings
    python benchmarks/spoken_digits.py RECORDINGS --held theo yweweler --utterances 1200

RECORDINGS is the folder of `DIGIT_SPEAKER_TAKE.wav`. Beside the single digits, utterances of three to five digits are
put together of one speaker's takes, with short pauses. The network is the `rnn-speech` of params.yaml, trained on the
other speakers, on both at once; the word error of the held-out speakers is told for single digits and for utterances.
"""

import argparse
import logging
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import soundfile

from trainyard import files, kinds, params
from trainyard.catalogue import DIGITS
from trainyard.params import Optimizer, Speech, Split
from trainyard.quality import evaluation, intervals
from trainyard.training import device


def main() -> None:
    """Put utterances together, train, ask the held-out speakers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--held", nargs="+", default=["theo", "yweweler"], help="speakers of the test")
    parser.add_argument("--utterances", type=int, default=1200, help="how many of three to five digits")
    parser.add_argument("--epochs", type=int, default=25)
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
        # a larger set: fewer epochs in larger steps
        rate = {"name": "adam", "learning_rate": 0.002}
        changes = {"epochs": asked.epochs, "batch_size": 32, "optimizer": Optimizer(**rate)}
        spec = shipped.model("rnn-speech").model_copy(update=changes)
        model, _ = fit.train(spec, data, asked.seed)
        about = package.about(spec, data)
        for what, changed in (("beam, known words", {}), ("greedy, any words", {"words": None, "params": {"beam": 1}})):
            answer = saved.answers(model, {**about, **changed}, data.test.raw)
            single = np.array([" " not in said for said in data.test.target])
            for name, chosen in (("single digits", single), ("3 to 5 digits", ~single)):
                target, heard, rows = data.test.target[chosen], answer[chosen], data.test.rows[chosen]
                # as few as the speakers are, they are no basis for an interval: it is of takes of these speakers
                sample = evaluation.draws(data.objective, rows.drop(columns="group"), target, asked.seed)
                found = intervals.of_metrics(data.objective.metrics, target, heard, sample)
                told = ", ".join(f"{metric.replace('_', ' ')} {interval}" for metric, interval in found.items())
                print(f"{', '.join(asked.held)}: {name} ({len(target)}), {what}: {told}")


def put_together(recordings: Path, folder: Path, held: set[str], count: int, seed: int) -> None:
    """Write single digits and utterances with transcripts.csv; `part` is test for the held-out speakers."""
    folder.mkdir()
    rng, rows, takes = np.random.default_rng(seed), [], {}
    for file in sorted(recordings.glob("*.wav")):
        digit, speaker, _ = file.stem.split("_")
        sound, rate = soundfile.read(file)
        takes.setdefault(speaker, []).append((DIGITS[int(digit)], sound))
    if not held < takes.keys():
        sys.exit(f"--held: the speakers are {', '.join(takes)}")

    def write(sound: np.ndarray, said: str, speaker: str) -> None:
        part = "test" if speaker in held else "validation" if rng.random() < 0.1 else "train"
        soundfile.write(folder / f"{len(rows):05d}.flac", sound, rate)
        rows.append((f"{len(rows):05d}.flac", said, speaker, part))

    for speaker, spoken in takes.items():
        for said, sound in spoken:
            write(sound, said, speaker)
    for place in range(count):
        speaker = sorted(takes)[place % len(takes)]
        chosen = [takes[speaker][pick] for pick in rng.integers(0, len(takes[speaker]), rng.integers(3, 6))]
        pauses = [np.zeros(int(rng.uniform(0.02, 0.2) * rate)) for _ in chosen]
        pieces = [piece for (_, sound), pause in zip(chosen, pauses, strict=True) for piece in (sound, pause)]
        write(np.concatenate(pieces), " ".join(said for said, _ in chosen), speaker)
    frame = pd.DataFrame(rows, columns=["file", "transcript", "speaker", "part"])
    frame.to_csv(folder / "transcripts.csv", index=False)


if __name__ == "__main__":
    main()
