# SPDX-License-Identifier: GPL-3.0-or-later
"""A part of a report, and how it is run: it ends in time, and its failure is a sentence."""

from __future__ import annotations

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, ClassVar

from ..errors import P2mError, printable
from .blocks import Block, as_data, clean
from .case import Case, reason

__all__ = ["Part", "Result", "run"]

SECONDS = 30.0  # for a part; on the lab's dumps each takes less than 2
AGAIN = 1.0  # seconds until the alarm rings again, where somebody caught it


class Part(ABC):
    """A part of a report.

    ``name`` is the word for ``--only``. ``needs`` says in a few words what it stands on besides
    the dump, for help. What :meth:`blocks` yields before it fails is kept.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    needs: ClassVar[str] = ""

    @abstractmethod
    def blocks(self, case: Case) -> Iterator[Block]:
        """Yield the blocks of this part.

        :raises P2mError: the rest of the part cannot be found.
        """


@dataclass
class Result:
    """What a part found. ``problem`` is why it failed, ``notes`` what it could not find."""

    name: str
    title: str
    blocks: list[Block] = field(default_factory=list)
    problem: str | None = None
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the result for JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "problem": self.problem,
            "notes": self.notes,
            "blocks": [as_data(block) for block in self.blocks],
            "seconds": round(self.seconds, 3),
        }


class TimeUpError(BaseException):
    """The time for a part is up; no handler of exceptions is meant to catch this."""


def run(part: Part, case: Case, seconds: float | None = SECONDS) -> Result:
    """Return what a part finds in a dump, whatever happens in it.

    :param seconds: after which the part is stopped, or None: no alarm may be set here.
    """
    result = Result(part.name, part.title)
    case.notes = []
    start = time.perf_counter()
    try:
        with _alarm(seconds):
            for block in part.blocks(case):
                result.blocks.append(clean(block))
    except P2mError as error:
        result.problem = str(error)
    except TimeUpError:
        result.problem = f"it took over {seconds:g} seconds, and was stopped"
    except Exception as error:  # a kernel or a Xen that the code does not know
        result.problem = printable(f"it failed with {reason(error)}")
    result.notes = [*map(printable, case.notes)]
    result.seconds = time.perf_counter() - start
    return result


@contextmanager
def _alarm(seconds: float | None) -> Iterator[None]:
    """Raise :class:`TimeUpError` in the block once its time is up."""
    if seconds is None:
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeUpError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
