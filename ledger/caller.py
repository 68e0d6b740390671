"""What a thread knows of the caller it works for: until when that one waits, and how.

Told at the edge (HTTP), heeded by whatever waits for a lock, a connection or an answer.
"""

import threading
import time
from typing import Any, Protocol

# How long a caller waits before it is told to come back.
WAIT_SECONDS = 1.8


class InlineExecutor(Protocol):
    """How callers wait that are many to a thread: such a thread must not wait itself."""

    def parking(self) -> Any:
        """What stands for a wait of the caller that is at work now."""

    def park(self, parking: Any, seconds: float) -> None:
        """Let other callers work; returns when `wake` was called, or after some seconds."""

    def wake(self, parking: Any) -> None:
        """From any thread, also before `park` or long after."""


class _Caller(threading.local):
    """What a thread has been told of the caller it works for."""

    deadline = float("inf")
    executor: InlineExecutor | None = None


_caller = _Caller()


def set_deadline(moment: float) -> None:
    """Tell this thread when (time.monotonic) its caller will not wait any longer, having waited elsewhere already."""
    _caller.deadline = moment


def deadline() -> float:
    """When (time.monotonic) this thread's caller will not wait any longer; infinity if nobody said."""
    return _caller.deadline


def wait_with(executor: InlineExecutor | None) -> None:
    """Have the callers of this thread wait with `executor`."""
    _caller.executor = executor


def executor() -> InlineExecutor | None:
    """What the callers of this thread wait with; None where the thread may wait itself."""
    return _caller.executor


def runs_inline() -> bool:
    """Whether this thread has many callers, so that it must not block."""
    return _caller.executor is not None


def seconds_left() -> float:
    """Seconds that this thread's caller still waits, at most WAIT_SECONDS."""
    return min(WAIT_SECONDS, max(0.0, _caller.deadline - time.monotonic()))
