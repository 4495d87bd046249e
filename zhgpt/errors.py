"""All errors of zhgpt that a user can act on, with the exit code each command ends with."""

from megatron_style_data.errors import BadDataError, MissingInputError, SettingError, StorageError, UserError


class DivergedError(UserError):
    """The loss or the gradient norm is no longer a finite number (exit code 3)."""

    exit_code = 3


class StoppedBySignal(UserError):
    """All ranks saved and left because a signal asked for it; the run can be requeued (exit code 75)."""

    exit_code = 75


class OutOfMemoryError(UserError):
    """The device (or the host) has no memory left for this micro batch (exit code 76)."""

    exit_code = 76


__all__ = [
    "BadDataError",
    "DivergedError",
    "MissingInputError",
    "OutOfMemoryError",
    "SettingError",
    "StoppedBySignal",
    "StorageError",
    "UserError",
]
