"""Worker processes that end when the process they work for was killed, which can tell them nothing any more."""

import os
import threading
import time

_SECONDS = 1.0  # between two looks
_watched: list[int] = []  # of this process: whom it works for


def end_with(parent: int) -> None:
    """In a worker: end this process within seconds after `parent` has gone. May be called again and again.

    Args:
        parent: the process that started this one; nothing is done where that is another one.
    """
    if os.name != "posix" or parent in _watched or os.getppid() != parent:
        return
    _watched.append(parent)
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: int) -> None:
    """A process whose parent has died gets another one."""
    while os.getppid() == parent:
        time.sleep(_SECONDS)
    os._exit(1)
