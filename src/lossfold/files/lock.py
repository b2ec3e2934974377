"""One process at a time writes what is kept beside an output."""

import errno
from pathlib import Path

UNKNOWN = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
"""What file systems without locks answer, as some that are shared over a network."""


def lock(descriptor: int, path: Path) -> None:
    """Refuse a file that another process writes; the lock goes with the process. Where there are no locks nothing is refused.

    Args:
        descriptor: of the open file.
        path: the file, for the message.

    Raises:
        FileExistsError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FileExistsError(f"{path} is being written by another run; wait for it, or choose another output folder") from error
    except OSError as error:
        if error.errno not in UNKNOWN:
            raise
