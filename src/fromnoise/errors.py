"""What can go wrong in a user's hands: each error is one sentence and knows the exit code of the command."""


class FromnoiseError(Exception):
    """One sentence: what was looked for, what was found, what to do. ``exit_code`` 70 means a bug."""

    exit_code = 70


class UseError(FromnoiseError):
    """Wrong use: a path, an option, or pictures with nothing usable among them."""

    exit_code = 2


class PicturesRefused(FromnoiseError):
    """A whole data set that cannot be trained on, or is not the one the run began with."""

    exit_code = 5


class CouldNotSave(FromnoiseError):
    """The disk is full or failed; what was saved before is intact."""

    exit_code = 6


class NonFinite(FromnoiseError):
    """A loss, gradient or weight became NaN or infinite; the last good checkpoint is intact."""

    exit_code = 7


class NoCheckpoint(FromnoiseError):
    """No usable checkpoint, or one in a format newer than this version reads."""

    exit_code = 9


class Locked(FromnoiseError):
    """Another process is writing to the same run."""

    exit_code = 10
