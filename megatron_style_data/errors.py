"""The errors a user can act on: one base class, one subclass an exit code.

A message says what was found, what was expected and what to do. Commands print it alone, without a traceback, and exit
with ``exit_code``; everything else is a bug and keeps its traceback.
"""


class UserError(Exception):
    """Base of every error whose cause is an input, a setting or the machine, not the code."""

    exit_code: int = 1


class SettingError(UserError):
    """A setting or an argument that cannot be used (exit code 2)."""

    exit_code = 2


class BadDataError(UserError):
    """A file is there but its content is wrong (exit code 65)."""

    exit_code = 65


class MissingInputError(UserError):
    """A file or folder that should be read does not exist (exit code 66)."""

    exit_code = 66


class StorageError(UserError):
    """Reading or writing failed: disk full, no permission, a folder in use (exit code 74)."""

    exit_code = 74
