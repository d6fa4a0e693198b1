"""The ways to refuse: one line for the user (what, where, what to do) and the exit code of the command."""

import re

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""What breaks a line, or gives a terminal an order."""
LONGEST = 1000
"""Characters of a line that are told."""


class TrainyardError(Exception):
    """A refusal that is told in a line for each fault, without a traceback.

    Control characters are told as escapes, and no line without end: a file or a column may be called anything.
    """

    exit_code = 1

    def __init__(self, *lines: str) -> None:
        cut = (line if len(line) <= LONGEST else f"{line[:LONGEST]} ..." for line in lines)
        super().__init__("\n".join(CONTROL.sub(lambda letter: ascii(letter[0])[1:-1], line) for line in cut))


class BadInput(TrainyardError):
    """The user's data or params are wrong."""

    exit_code = 2


class TrainingFailed(TrainyardError):
    """The training did not come to a usable end: a loss that is not finite, say."""

    exit_code = 3


class GateRefused(TrainyardError):
    """The model may not be champion (`gate`, `promote`, `rollback`), or an export answers otherwise (`export`)."""

    exit_code = 4


class EnvironmentFailed(TrainyardError):
    """The machine lacks something: a GPU, a network, a server, room on the disk."""

    exit_code = 5
