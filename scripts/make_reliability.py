"""Write the tables of docs/reliability.md: bad inputs and faults by number, as the marks of the tests tell them.

The tests are collected and not run. `--check` writes nothing, and ends with exit code 1 where the page is another.
"""

import argparse
import contextlib
import io
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reliability.md"
MARKS = {"bad_input": 84, "fault": 36}
"""What is listed by number, and up to which."""


class Collected:
    """What pytest has found."""

    items: tuple[pytest.Item, ...] = ()

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keeps all, whatever is deselected later."""
        self.items = tuple(items)


def collected() -> tuple[pytest.Item, ...]:
    """The tests of all files that bear a mark, or whose cases do."""
    marked = re.compile(r"mark\.(bad_input|fault)\(|from bad_inputs\b")
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    found = [str(path) for path in files if marked.search(path.read_text(encoding="utf-8"))]
    plugin, told = Collected(), io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        code = pytest.main(["--collect-only", "-p", "no:cacheprovider", f"--rootdir={ROOT}", *found], [plugin])
    if code:
        sys.exit(f"the tests cannot be collected:\n{told.getvalue()}")
    return plugin.items


def table(items: tuple[pytest.Item, ...], mark: str) -> str:
    """A row for each number and what is planted, in Markdown; then the numbers that no test has."""
    marks = [found.kwargs for item in items for found in item.iter_markers(mark) if found.kwargs]
    rows = dict.fromkeys((found["number"], found["what"], found["then"]) for found in marks)
    lines = ["| # | what | what comes of it |", "|--:|---|---|"]
    lines += ["| {} | {} | {} |".format(*map(cell, row)) for row in sorted(rows, key=lambda row: row[0])]
    lacking = set(range(1, MARKS[mark] + 1)) - {number for number, *_ in rows}
    if lacking:
        lines += ["", f"Not tested: {', '.join(map(str, sorted(lacking)))}."]
    return "\n".join(lines)


def cell(value: object) -> str:
    """A value as a cell of a table."""
    return str(value).replace("|", "\\|")


def page(text: str, items: tuple[pytest.Item, ...]) -> str:
    """The page with its tables anew."""
    for mark in MARKS:
        begin, end = f"<!-- table of {mark} -->\n", "<!-- end -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}{table(items, mark)}\n{end}{rest.partition(end)[2]}"
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    asked = parser.parse_args()
    committed = PAGE.read_text(encoding="utf-8")
    made = page(committed, collected())
    if asked.check and made != committed:
        sys.exit(f"{PAGE.relative_to(ROOT)}: not what the tests say (run scripts/make_reliability.py)")
    if made != committed:
        PAGE.write_text(made, encoding="utf-8", newline="\n")
