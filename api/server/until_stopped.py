"""Working until a signal asks to stop, as every process does that is not the parent."""

import signal
from collections.abc import Callable


def until_stopped(run: Callable[[], None], stop: Callable[[], None]) -> None:
    """Run until it ends; SIGTERM and SIGINT call `stop`, which is to make it end.

    A supervised process ignores SIGINT, which its parent turns into SIGTERM, and goes on doing so.
    """
    heeded = [number for number in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, lambda *_: stop()) for number in heeded}
    try:
        run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
