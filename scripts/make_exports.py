"""Export every model of params.yaml to every format that can hold it, and write the table of docs/export.md.

Models must be there (`make pull` or `make repro`). Each is exported anew: the code that does it may have changed. The
milliseconds of Keras are those of the first export of a model, and stand in all of its rows. What is refused, as it
answers otherwise than the model, is told below the table.

    python scripts/make_exports.py
"""

import re
import subprocess
import sys
from pathlib import Path

from trainyard import files, params
from trainyard.errors import GateRefused
from trainyard.exporting import CANNOT, FORMATS, page

PAGE = Path(__file__).resolve().parents[1] / "docs" / "export.md"
TABLE = re.compile(r"(?<=<!-- make_exports.py -->\n).*?(?=<!-- end -->)", re.DOTALL)


def exported(pairs: list[tuple[str, str]]) -> tuple[list[dict], list[str]]:
    """What model.json of each export says, and the line of each that was refused."""
    took: dict[str, float] = {}
    found, refused = [], []
    for model, to in pairs:
        command = [sys.executable, "-m", "trainyard.cli", "export", model, "--to", to]
        ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)  # noqa: S603
        sys.stderr.write(ended.stderr)
        if ended.returncode == GateRefused.exit_code:
            refused.append(ended.stderr.strip().rpartition("\n")[2].removeprefix("error: "))
            continue
        ended.check_returncode()
        told = files.read_json(Path("exports") / model / to / "model.json")
        told["milliseconds"]["keras"] = took.setdefault(model, told["milliseconds"]["keras"])
        found.append(told)
    return found, refused


if __name__ == "__main__":
    families = {model: spec.family for model, spec in params.load().models.items()}
    pairs = [(model, to) for model, family in families.items() for to in FORMATS if (family, to) not in CANNOT]
    found, refused = exported(pairs)
    table = page.table(found) + "".join(f"\nRefused: {line}.\n" for line in refused)
    PAGE.write_text(TABLE.sub(lambda _: table, PAGE.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
    print(table)
