"""The parent process: forks the children, restarts those that die, stops them together.

What never lives here: threads, pools, database connections. A fork copies locks but not the threads that hold them.
"""

import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

logger = logging.getLogger(__name__)

FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 5.0
# A child that lived this long was well: its end is an accident, not a fault that every restart would meet again.
GROWN_UP_SECONDS = 10.0
TICK_SECONDS = 1.0

_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGCHLD})
_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None, use_errno=True).prctl


class Child(NamedTuple):
    """A process to keep alive: `run` works until SIGTERM, then returns."""

    name: str
    run: Callable[[], None]


class _Slot:
    """One child's place: the process that fills it now, or when to fill it again (seconds of the monotonic clock)."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.pid = 0
        self.exit_code = 0
        self.started = self.due = 0.0
        self.delay = FIRST_DELAY_SECONDS

    def start(self, now: float) -> None:
        """Fork; a fork that fails (no memory, too many processes) is tried again later like a death."""
        self.started = now
        try:
            self.pid = _fork(self.child)
        except OSError:
            logger.exception("%s cannot be forked", self.child.name)
            self._schedule(now)

    def reap(self, now: float) -> bool:
        """Take the exit code of a process that has ended and set the time of its restart; whether one had ended."""
        # By pid, never -1: other processes of this parent (PostgreSQL) belong to whoever started them.
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return False
        self.pid = 0
        self.exit_code = os.waitstatus_to_exitcode(status)
        self._schedule(now)
        return True

    def _schedule(self, now: float) -> None:
        if now - self.started >= GROWN_UP_SECONDS:
            self.delay = FIRST_DELAY_SECONDS
        self.due = now + self.delay
        self.delay = min(self.delay * 2, LONGEST_DELAY_SECONDS)


def supervise(
    children: Sequence[Child], *, on_tick: Callable[[], None] | None = None, stop_seconds: float = 15.0
) -> int:
    """Keep every child running until SIGTERM or SIGINT; then stop them all and return the exit status.

    0: every child ended by itself or by SIGTERM. 1: one failed, or was killed because `stop_seconds` were over or
    SIGINT came a second time. `on_tick` is called about once a second; what it raises is logged, and a program that it
    starts inherits SIGTERM, SIGINT and SIGCHLD blocked.
    """
    # The signals stay blocked and are taken by sigtimedwait: none can fall between a fork and a handler.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    slots = [_Slot(child) for child in children]
    try:
        _watch(slots, on_tick)
        return _stop(slots, time.monotonic() + stop_seconds)
    finally:
        # A third Ctrl-C must not surface as a KeyboardInterrupt once the signals are open again.
        while signal.sigtimedwait(_SIGNALS, 0):
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _watch(slots: Sequence[_Slot], on_tick: Callable[[], None] | None) -> None:
    """Start and restart children until a signal asks to stop."""
    next_tick = time.monotonic()
    while True:
        now = time.monotonic()
        for slot in slots:
            if slot.pid and slot.reap(now):
                logger.warning("%s ended (exit code %d), restarting", slot.child.name, slot.exit_code)
            if not slot.pid and slot.due <= now:
                slot.start(now)
        if next_tick <= now:
            next_tick = now + TICK_SECONDS
            _tick(on_tick)
        wake = min([next_tick, *(slot.due for slot in slots if not slot.pid)])
        if _wait_for_signal(wake) in (signal.SIGTERM, signal.SIGINT):
            return


def _tick(on_tick: Callable[[], None] | None) -> None:
    try:
        if on_tick is not None:
            on_tick()
    except Exception:
        logger.exception("the supervisor's tick failed")


def _wait_for_signal(until: float) -> int:
    """The next signal for the parent, or 0 when the monotonic clock reaches `until`."""
    received = signal.sigtimedwait(_SIGNALS, max(0.0, until - time.monotonic()))
    return received.si_signo if received else 0


def _stop(slots: Sequence[_Slot], deadline: float) -> int:
    """Ask with SIGTERM; insist with SIGKILL at the deadline or at the next SIGINT."""
    stopping = [slot for slot in slots if slot.pid]
    _send(stopping, signal.SIGTERM)
    patient = True
    while patient and any(slot.pid for slot in stopping):
        patient = _wait_for_signal(deadline) != signal.SIGINT and time.monotonic() < deadline
        for slot in stopping:
            if slot.pid:
                slot.reap(time.monotonic())
    _send(stopping, signal.SIGKILL)
    for slot in stopping:
        if slot.pid:
            logger.error("%s did not stop in time and was killed", slot.child.name)
            slot.exit_code = os.waitstatus_to_exitcode(os.waitpid(slot.pid, 0)[1])
    return 0 if all(slot.exit_code in (0, -signal.SIGTERM) for slot in stopping) else 1


def _send(slots: Sequence[_Slot], signal_number: int) -> None:
    for slot in slots:
        if slot.pid:
            os.kill(slot.pid, signal_number)


def _fork(child: Child) -> int:
    """The new process's pid. The signals are blocked, so one that comes now waits until the child can take it."""
    parent = os.getpid()
    # What sits in the buffers now would otherwise be written twice.
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _become(child, parent)
    return pid


def _become(child: Child, parent: int) -> NoReturn:
    """Run the child in this forked process and leave without the parent's exit handlers."""
    status = 1
    try:
        if _adopt_signals(parent):
            child.run()
        status = 0
    except BaseException:
        logger.exception("%s failed", child.name)
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _adopt_signals(parent: int) -> bool:
    """Give the forked child its own signals and tie its life to the parent's; False if the parent is gone already."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Ctrl-C reaches the whole group. The parent turns it into one orderly SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    # A parent that died before prctl sends nothing any more.
    return os.getppid() == parent
