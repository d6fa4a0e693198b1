"""Write data/tumours.csv: the Breast Cancer Wisconsin (Diagnostic) table that scikit-learn carries.

Why a script and not just the file: anyone can see that nothing was changed but the column names and the names of the
classes, and make the same bytes again. The source has no patient number, so the table has none either.

    python scripts/make_tumours.py [--out FOLDER]
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer

DATA = Path(__file__).resolve().parents[1] / "data"
TARGET = "diagnosis"


def shortest(value: float) -> str:
    """Return the shortest decimal without exponent that reads back as exactly this 64-bit float."""
    return np.format_float_positional(value, unique=True, trim="-")


def write_tumours(folder: Path) -> Path:
    """Write the 569 rows in the order of the source and return the file.

    Lengths are in the units of the digitised image (the source names none), areas in those units squared.
    """
    source = load_breast_cancer()
    columns = [name.replace(" ", "_") for name in source.feature_names]
    diagnoses = [str(source.target_names[number]) for number in source.target]
    file = folder / "tumours.csv"
    folder.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*columns, TARGET])
        for features, diagnosis in zip(source.data, diagnoses, strict=True):
            writer.writerow([*map(shortest, features), diagnosis])
    return file


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DATA, help="folder to write into (default: data/ of this project)")
    print(write_tumours(parser.parse_args().out))
