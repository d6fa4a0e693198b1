"""Results: benchmarks/RESULTS.md, of which each benchmark writes the part that bears its name."""

import re
from pathlib import Path

from trainyard import files

RESULTS = Path(__file__).with_name("RESULTS.md")
HEAD = "# How fast Trainyard is\n\nMade by `make bench` on two cores, but for what says that a GPU was there.\n"


def write(part: str, text: str) -> None:
    """Write a part in place of the one that was there, or at the end."""
    found = RESULTS.read_text() if RESULTS.exists() else HEAD
    head, *parts = re.split(r"^## ", found, flags=re.MULTILINE)
    by_name = {one.partition("\n")[0]: one for one in parts}
    by_name[part] = f"{part}\n\n{text}"
    files.write_text(RESULTS, "\n\n## ".join(one.strip() for one in [head, *by_name.values()]) + "\n")
