"""Locks between processes, by which one process at a time changes a folder."""

import errno
import fcntl
import logging

log = logging.getLogger("keras_retrieval")

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def lock(descriptor: int, *, wait: bool) -> None:
    """Locks an open file or folder until it is closed or the process ends.

    Some network file systems offer no locks: there the function logs a warning and returns, and the user must not start
    two processes that change the same folder.

    Args:
        descriptor: the number of the open file, as `fileno` returns it.
        wait: whether to wait for a lock that another process holds.

    Raises:
        BlockingIOError: another process holds the lock, and `wait` is False.
        OSError: the file cannot be locked for another reason.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        log.warning("this file system offers no locks: do not start two processes that change the same folder")
