"""Export every model of params.yaml to every format that can hold it, and write the table of docs/export.md.

Models must be there (`make pull` or `make repro`). Each is exported anew: the code that does it may have changed. The
milliseconds of Keras are those of the first export of a model, and stand in all of its rows.

    python scripts/make_exports.py
"""

import re
import subprocess
import sys
from pathlib import Path

from trainyard import files, params
from trainyard.exporting import CANNOT, FORMATS, page

PAGE = Path(__file__).resolve().parents[1] / "docs" / "export.md"
TABLE = re.compile(r"(?<=<!-- make_exports.py -->\n).*?(?=<!-- end -->)", re.DOTALL)


def exported(pairs: list[tuple[str, str]]) -> list[dict]:
    """What model.json of each export says."""
    took: dict[str, float] = {}
    found = []
    for model, to in pairs:
        subprocess.run([sys.executable, "-m", "trainyard.cli", "export", model, "--to", to], check=True)  # noqa: S603
        told = files.read_json(Path("exports") / model / to / "model.json")
        told["milliseconds"]["keras"] = took.setdefault(model, told["milliseconds"]["keras"])
        found.append(told)
    return found


if __name__ == "__main__":
    families = {model: spec.family for model, spec in params.load().models.items()}
    pairs = [(model, to) for model, family in families.items() for to in FORMATS if (family, to) not in CANNOT]
    table = page.table(exported(pairs))
    PAGE.write_text(TABLE.sub(lambda _: table, PAGE.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
    print(table)
