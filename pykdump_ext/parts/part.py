# SPDX-License-Identifier: GPL-3.0-or-later
"""A part of a report, and how it is run: it ends in time, and its failure is a sentence."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..errors import P2mError, printable
from ..limits import within
from .blocks import Block, as_data, clean, cut
from .case import Case, reason

__all__ = ["Part", "Result", "run"]

SECONDS = 30.0  # for a part; on the lab's dumps each takes less than 2
MOST_NOTES = 20


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


def run(part: Part, case: Case, seconds: float | None = SECONDS) -> Result:
    """Return what a part finds in a dump, whatever happens in it.

    :param seconds: after which the part is stopped, or None: no alarm may be set here.
    """
    result = Result(part.name, part.title)
    case.notes = []
    start = time.perf_counter()

    def find() -> None:
        for block in part.blocks(case):
            result.blocks.append(clean(block))

    try:
        within(seconds, find)
    except (P2mError, MemoryError) as error:
        result.problem = printable(cut(reason(error)))
    except Exception as error:  # a kernel or a Xen that the code does not know
        result.problem = printable(cut(f"it failed with {reason(error)}"))
    notes = [*dict.fromkeys(case.notes)]
    result.notes = [printable(cut(note)) for note in notes[:MOST_NOTES]]
    if len(notes) > MOST_NOTES:
        result.notes.append(f"{len(notes) - MOST_NOTES:,} more that could not be found")
    result.seconds = time.perf_counter() - start
    return result
