"""Write data/climate.csv: monthly sea surface temperatures of NOAA, from the table that statsmodels carries.

Why long: the source has a row a year and a column a month; a series that a user brings has a row a moment.

    python scripts/make_climate.py [--out FOLDER]
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from statsmodels.datasets import elnino

DATA = Path(__file__).resolve().parents[1] / "data"
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


def write_climate(folder: Path) -> Path:
    """Write one row a month in time order (first day of the month, degrees Celsius) and return the file."""
    years = elnino.load_pandas().data.sort_values("YEAR")
    file = folder / "climate.csv"
    folder.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["month", "sea_temperature"])
        for _, year in years.iterrows():
            for number, name in enumerate(MONTHS, start=1):
                temperature = np.format_float_positional(year[name], unique=True, trim="-")
                writer.writerow([f"{int(year['YEAR'])}-{number:02d}-01", temperature])
    return file


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DATA, help="folder to write into (default: data/ of this project)")
    print(write_climate(parser.parse_args().out))
