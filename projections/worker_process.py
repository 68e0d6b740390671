"""Work that another process does meanwhile, on another processor."""

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

from ledger.store.embedded.os_user import follow_to_the_grave

R = TypeVar("R")


class WorkerProcess(Generic[R]):
    """A context manager; the work must open what it uses, and is ended if the context is left before it is done."""

    def __init__(self, work: Callable[[], R]) -> None:
        context = multiprocessing.get_context("fork")  # nothing is imported anew, which would take as long as the work
        self._answer, answer = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_run, args=(work, answer, follow_to_the_grave(signal.SIGKILL)), daemon=True
        )
        self._theirs = answer

    def __enter__(self) -> "WorkerProcess[R]":
        self._process.start()
        self._theirs.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._answer.close()

    def result(self) -> R:
        """Wait for it; raises what the work raised, or ChildProcessError if it was killed."""
        try:
            result: R | Exception = self._answer.recv()
        except EOFError:
            raise ChildProcessError("the process beside was killed") from None
        if isinstance(result, Exception):
            raise result
        return result


def _run(work: Callable[[], R], answer: Connection, follow: Callable[[], None]) -> None:
    follow()
    try:
        answer.send(work())
    except Exception as error:
        answer.send(error)
    except KeyboardInterrupt:
        pass  # the parent hears it too, and says so
