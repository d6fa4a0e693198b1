"""The ways to refuse: one line for the user (what, where, what to do) and the exit code of the command."""


class TrainyardError(Exception):
    """A refusal that is told in one line, without a traceback."""

    exit_code = 1


class BadInput(TrainyardError):
    """The user's data or params are wrong."""

    exit_code = 2


class TrainingFailed(TrainyardError):
    """The training did not come to a usable end: a loss that is not finite, say."""

    exit_code = 3


class GateRefused(TrainyardError):
    """The model may not be champion; the verbs `gate`, `promote` and `rollback` say so, `register` writes a verdict."""

    exit_code = 4


class EnvironmentFailed(TrainyardError):
    """The machine lacks something: a GPU, a network, a server, room on the disk."""

    exit_code = 5
