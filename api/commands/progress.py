"""Progress bars of long commands, one after another; only a terminal shows them."""

from typing import Never

from tqdm import tqdm


class Bars:
    """A context manager. A bar of unknown total counts upward."""

    def __init__(self) -> None:
        self._bar: tqdm[Never] | None = None

    def __enter__(self) -> "Bars":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def begin(self, stage: str, total: int | None, unit: str) -> None:
        self.__exit__()
        self._bar = tqdm(total=total, desc=stage, unit=f" {unit}s", unit_scale=True, disable=None)

    def moved(self, by: int) -> None:
        if self._bar is not None:
            self._bar.update(by)
