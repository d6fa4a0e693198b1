"""A fake of GitHub's `gh`: no GitHub can be asked here. It writes down what it is asked, and what is open."""

import json
import os
import sys
from pathlib import Path

SCRIPT = f"""#!{sys.executable}
import json
import sys
from pathlib import Path

home, asked = Path(__file__).parent, sys.argv[1:]
opened = json.loads((home / "opened.json").read_text())
text = sys.stdin.read() if {{"-", "body=@-"}} & {{*asked}} else ""
with (home / "asked.jsonl").open("a") as file:
    file.write(json.dumps({{"arguments": asked, "text": text}}) + "\\n")
if (home / "refuse").exists():
    sys.exit("HTTP 403: Resource not accessible by integration")
if asked[:2] == ["pr", "list"]:
    print(json.dumps(opened))
elif asked[:2] == ["pr", "create"]:
    branch = asked[asked.index("--head") + 1]
    opened.append({{"number": len(opened) + 1, "headRefName": branch, "isCrossRepository": False}})
    (home / "opened.json").write_text(json.dumps(opened))
    print(f"https://github.example/pull/{{len(opened)}}")
elif asked[:3] == ["api", "--method", "PATCH"]:
    place, _, number = asked[3].rpartition("/")
    assert place == "repos/{{owner}}/{{repo}}/pulls" and int(number) in [one["number"] for one in opened]
    print(f"https://github.example/pull/{{number}}")
elif asked[:2] not in (["workflow", "run"], ["release", "create"]):
    sys.exit(f"unknown command {{asked}}")
"""


class FakeGh:
    """The command in a folder of its own, for PATH."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "gh").write_text(SCRIPT)
        (folder / "gh").chmod(0o755)
        self.folder = folder
        self.opened([])

    @property
    def path(self) -> str:
        return f"{self.folder}{os.pathsep}{os.environ['PATH']}"

    def opened(self, pulls) -> None:
        (self.folder / "opened.json").write_text(json.dumps(pulls))

    def refuse(self) -> None:
        (self.folder / "refuse").touch()

    def asked(self, *verb: str):
        """What was asked with these first words: the arguments after them, by flag, and the text of the body."""
        log = self.folder / "asked.jsonl"
        calls = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
        found = [call for call in calls if call["arguments"][: len(verb)] == list(verb)]
        return [(call["arguments"][len(verb) :], call["text"]) for call in found]
