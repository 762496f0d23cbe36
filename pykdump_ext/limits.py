# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of time and memory for work on a dump that may be damaged, and answers kept once found."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TypeVar

from .errors import P2mError

__all__ = [
    "Once",
    "TimeUpError",
    "TooLongError",
    "held",
    "late",
    "limited_memory",
    "step",
    "within",
]

Answer = TypeVar("Answer")

AGAIN = 1.0  # seconds until the alarm rings again, where somebody caught it
# Bytes, files that are mapped aside. A report of the lab's dumps takes less than 1 GiB; the p2m of
# a dom0 of 512 GiB, the largest that a list can name, and what is worked out of it take 4 GiB
MOST_MEMORY = 8 << 30


@dataclass
class Limit:
    """A limit of time: for how many seconds, and when they are over by the monotonic clock."""

    seconds: float
    end: float
    over: bool = False


class TimeUpError(BaseException):
    """The time of a limit is up; no handler of exceptions but :func:`within` is to catch this."""

    def __init__(self, limit: Limit) -> None:
        super().__init__()
        self.limit = limit


class TooLongError(P2mError):
    """Work took longer than it may."""


_limits: list[Limit] = []  # that hold now; the first is the outermost


def within(seconds: float | None, find: Callable[[], Answer], apart: bool = False) -> Answer:
    """Return the result of ``find``, which is stopped when its time is up.

    Such calls may be inside each other: what is left of the outer one's time holds as well.

    :param seconds: None for no limit: then no alarm is set.
    :param apart: the time that this takes is not a part of the outer ones'.
    :raises TooLongError: the time is up.
    """
    if seconds is None:
        return find()
    start, depth = time.monotonic(), len(_limits)
    limit = Limit(seconds, start + seconds)
    outer = [(one, one.end) for one in _limits]
    outermost = not _limits
    if outermost:
        left, interval = signal.setitimer(signal.ITIMER_REAL, 0)  # somebody else's alarm
        before = signal.signal(signal.SIGALRM, _ring)
    try:
        try:
            if apart:
                for one, _ in outer:
                    one.end = float("inf")
            _limits.append(limit)
            _set_alarm()
            return find()
        finally:
            limit.over = True
    except TimeUpError as error:
        if error.limit is not limit:
            raise
        raise TooLongError(f"it took over {seconds:g} seconds, and was stopped") from None
    finally:
        del _limits[depth:]
        if apart:
            spent = time.monotonic() - start
            for one, end in outer:
                one.end = end + spent
        _set_alarm()
        if outermost:
            signal.signal(signal.SIGALRM, before)
            if left:
                left = max(left - time.monotonic() + start, 0.001)
                signal.setitimer(signal.ITIMER_REAL, left, interval)


def held() -> float | None:
    """Return the seconds of the outermost limit, or None where no limit holds."""
    return _limits[0].seconds if _limits else None


def late() -> bool:
    """Return True if over half of the time is spent that the innermost limit gives."""
    return bool(_limits) and _limits[-1].end - time.monotonic() < _limits[-1].seconds / 2


def step(find: Callable[[], Answer], share: int = 5) -> Answer:
    """Return the result of ``find``, which gets a share of the outermost limit's time.

    Where no limit holds, there is none for it.

    :raises TooLongError: that time is up.
    """
    seconds = held()
    return within(seconds and seconds / share, find)


def _ring(number: int, frame: FrameType | None) -> None:
    """Stop the outermost work whose time is up."""
    now = time.monotonic()
    for limit in _limits:
        if limit.end <= now and not limit.over:
            raise TimeUpError(limit)
    _set_alarm()


def _set_alarm() -> None:
    """Have the alarm ring when the next limit is over; without limits, never."""
    ends = [one.end for one in _limits if not one.over and one.end < float("inf")]
    left = max(min(ends) - time.monotonic(), 0.001) if ends else 0
    signal.setitimer(signal.ITIMER_REAL, left, AGAIN if ends else 0)


class Once:
    """What works out answers, and why some could not be found."""

    def __init__(self) -> None:
        self._failures: dict[str, P2mError] = {}

    def _once(self, name: str, find: Callable[[], Answer]) -> Answer:
        """Return the result of ``find``; if it failed or took too long before, raise that again."""
        if name in self._failures:
            raise self._failures[name]
        try:
            return find()
        except P2mError as error:
            self._failures[name] = error
            raise
        except TimeUpError as error:
            self._failures[name] = TooLongError(
                f"it took over {error.limit.seconds:g} seconds, and was stopped"
            )
            raise

    def forget_failures(self) -> None:
        """Look again for the answers that could not be found; what was missing may be there now."""
        self._failures.clear()


@contextmanager
def limited_memory(most: int = MOST_MEMORY) -> Iterator[None]:
    """Have work that keeps too much memory end with a MemoryError.

    :param most: bytes; the limit is less where the machine or the user allows less.
    :raises P2mError: instead of a MemoryError that nobody caught.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    allowed = [one for one in (soft, hard, whole, most) if one != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(allowed), hard))
    try:
        yield
    except MemoryError:
        raise P2mError(
            f"this takes more than {min(allowed) >> 20:,} MiB of memory: the dump may be damaged"
        ) from None
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
