"""Write data/digits/<digit>/NNNN.png: the UCI handwritten digits that scikit-learn carries, as picture files.

Why picture files and not an array: a folder a class is what a user brings, so the example walks the same road.
The files are stored without compression: they are tiny, and their bytes then do not depend on a zlib release.

    python scripts/make_digits.py [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

DATA = Path(__file__).resolve().parents[1] / "data"
BRIGHTEST = 16  # the source counts the inked pixels of each 4x4 block of the scan: 0 to 16


def write_digits(folder: Path) -> int:
    """Write 8x8 grey pictures (0 = no ink, 255 = all ink), named by their index in the source; return how many."""
    source = load_digits()
    pixels = np.rint(source.images * (255 / BRIGHTEST)).astype(np.uint8)
    for index, (picture, digit) in enumerate(zip(pixels, source.target, strict=True)):
        file = folder / "digits" / str(digit) / f"{index:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(file, compress_level=0)
    return len(pixels)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DATA, help="folder to write into (default: data/ of this project)")
    arguments = parser.parse_args()
    print(write_digits(arguments.out), "files in", arguments.out / "digits")
