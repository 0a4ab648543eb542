"""What can go wrong, as the user is told it; each error knows its exit code."""


class AuditorError(Exception):
    """An error the user can act on: one or two lines saying what, where, and what to do."""

    exit_code = 3


class InputError(AuditorError):
    """Usage or input is wrong (exit code 2)."""

    exit_code = 2


class IncompleteRunError(AuditorError):
    """The run could not be completed (exit code 3)."""

    exit_code = 3
