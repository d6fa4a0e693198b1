"""Write data/phrases.csv: names of months, days, countries and languages in twelve languages, from Unicode's CLDR.

Why a script and not just the file: anyone can see which names were taken and make the same bytes again. What two
languages spell alike (Angola, September) says nothing of either, so it is left out; so is what one language says twice.

    python scripts/make_phrases.py [--out FOLDER]
"""

import argparse
import csv
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from babel import Locale, localedata

DATA = Path(__file__).resolve().parents[1] / "data"
LANGUAGES = {
    "en": "English",
    "de": "German",
    "nl": "Dutch",
    "sv": "Swedish",
    "nb": "Norwegian",
    "es": "Spanish",
    "pt": "Portuguese",
    "it": "Italian",
    "tr": "Turkish",
    "el": "Greek",
    "ru": "Russian",
    "uk": "Ukrainian",
}


def names(locale: Locale) -> Iterator[str]:
    """What the locale calls months and days, countries and regions, languages and their varieties; some come twice."""
    for calendar in (locale.months, locale.days):
        for form in ("format", "stand-alone"):
            yield from calendar[form]["wide"].values()
    yield from (name for _, name in sorted(locale.territories.items()))
    yield from (name for _, name in sorted(locale.languages.items()))


def letters(name: str) -> str:
    """What is left of a name that is compared: letters and digits, without case."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", name).casefold()))


def write_phrases(folder: Path) -> Path:
    """Write a row a phrase, language by language, and Unicode's licence beside it; return the file."""
    phrases = {language: {letters(name): name for name in names(Locale(code))} for code, language in LANGUAGES.items()}
    speakers = defaultdict(set)
    for language, found in phrases.items():
        for spelling in found:
            speakers[spelling].add(language)
    file = folder / "phrases.csv"
    folder.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["phrase", "language"])
        for language, found in phrases.items():
            writer.writerows([name, language] for spelling, name in found.items() if len(speakers[spelling]) == 1)
    licence = Path(localedata.__file__).parent / "locale-data" / "LICENSE.unicode"
    (folder / "phrases.LICENSE.txt").write_bytes(licence.read_bytes())
    return file


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DATA, help="folder to write into (default: data/ of this project)")
    print(write_phrases(parser.parse_args().out))
