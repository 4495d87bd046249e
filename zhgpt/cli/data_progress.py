"""Progress of reading and writing data: a bar on a terminal, a plain line every few seconds elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from rich.progress import TaskID

_SECONDS_BETWEEN_LINES = 5.0

# Called with what is being done, how much of it is done and how much there is; bytes, or tokens where it says so.
Tell: TypeAlias = Callable[[str, int, int], None]


@contextmanager
def progress(unit: str = "B", *, about: bool = False) -> Iterator[Tell]:
    """Yields a function that shows how far the work is, how fast it goes and how long it will take.

    Args:
        unit: What is counted, in millions: "B" for bytes (MB), "tokens" for million tokens.
        about: The total is an estimate.
    """
    words = _Words("MB" if unit == "B" else f"million {unit}", "about " if about else "")
    if sys.stdout.isatty():
        with _bar(words) as tell:
            yield tell
    else:
        yield _lines(words)


class _Words:
    """Turns counts into words; remembers when each piece of work began."""

    def __init__(self, unit: str, about: str) -> None:
        self._unit, self._about = unit, about
        self._work = ""
        self._began = (0.0, 0)

    def __call__(self, work: str, done: int, total: int) -> str:
        now = time.monotonic()
        if work != self._work:
            self._work, self._began = work, (now, done)
        if total == 0:
            return ""
        seconds, first = now - self._began[0], self._began[1]
        # An estimate that turned out too low says nothing any more.
        known = total >= done
        amount = f"{done / 1e6:,.1f} of {self._about}{total / 1e6:,.1f}" if known else f"{done / 1e6:,.1f}"
        if seconds <= 0 or done <= first:
            return f"{amount} {self._unit}"
        rate = (done - first) / seconds
        left = f", about {(total - done) / rate:,.0f} s left" if known else ""
        return f"{amount} {self._unit}, {rate / 1e6:,.1f} {self._unit}/s{left}"


@contextmanager
def _bar(words: _Words) -> Iterator[Tell]:
    from rich.console import Console  # here, because only a terminal has a bar
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[words]}"))
    with Progress(*columns, console=Console(), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def tell(work: str, done: int, total: int) -> None:
            if work not in tasks:
                tasks[work] = bar.add_task(work, total=total or None, words="")
            bar.update(tasks[work], completed=min(done, total), words=words(work, done, total))

        yield tell


def _lines(words: _Words) -> Tell:
    shown: dict[str, float] = {}

    def tell(work: str, done: int, total: int) -> None:
        now = time.monotonic()
        line = words(work, done, total)
        if work not in shown:
            shown[work] = now
            print(f"{work} …", flush=True)
        elif now - shown[work] >= _SECONDS_BETWEEN_LINES:
            shown[work] = now
            print(f"{work}: {line}", flush=True)

    return tell
