"""Export every model of params.yaml to every format that can hold it, and write the table of docs/export.md.

Models must be there (`make pull` or `make repro`). What was exported already, of the same content, is not again.

    python scripts/make_exports.py
"""

import re
import subprocess
import sys
from pathlib import Path

from trainyard import files, params
from trainyard.exporting import CANNOT, FORMATS, page
from trainyard.tracking import content_of

PAGE = Path(__file__).resolve().parents[1] / "docs" / "export.md"
TABLE = re.compile(r"(?<=<!-- make_exports.py -->\n).*?(?=<!-- end -->)", re.DOTALL)


def exported(model: str, to: str) -> dict:
    """What model.json of an export says, which is made where there is none of the present model."""
    told = Path("exports") / model / to / "model.json"
    if not told.exists() or files.read_json(told)["source"]["content"] != content_of(Path("models") / model):
        subprocess.run([sys.executable, "-m", "trainyard.cli", "export", model, "--to", to], check=True)  # noqa: S603
    return files.read_json(told)


if __name__ == "__main__":
    families = {model: spec.family for model, spec in params.load().models.items()}
    pairs = [(model, to) for model, family in families.items() for to in FORMATS if (family, to) not in CANNOT]
    table = page.table([exported(*pair) for pair in pairs])
    PAGE.write_text(TABLE.sub(lambda _: table, PAGE.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
    print(table)
