# SPDX-License-Identifier: GPL-3.0-or-later
"""What a copy with a whole list differs in from its source, whatever the format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..machine.memory import PAGE_SIZE
from ..xen.frame_table import FrameTable

__all__ = ["FIRST_MIB", "Rewrite", "find_frames"]

FIRST_MIB = 1 << 20  # of machine memory: firmware uses it, and an mfn of 0 means no list


def find_frames(
    used: Sequence[tuple[int, int]], count: int, frames: FrameTable | None
) -> tuple[int, bool]:
    """Find ``count`` frames in a row that the dump does not use.

    Return the mfn of the first, and True where the frames are in a gap of the dump that Xen
    tracks as free memory: filters such as ``makedumpfile -X`` keep those.  Otherwise the frames
    are above all memory of the dump, and the second value is False.

    :param used: the (start, end) machine addresses of the dump's memory, in order.
    :param frames: Xen's frame table, or None where it is not known.
    """
    end = FIRST_MIB
    for start, stop in used:
        first, last = -(-end // PAGE_SIZE), start // PAGE_SIZE
        if last - first >= count:
            for mfn in (first, last - count):
                if frames is not None and frames.unused(mfn, count):
                    return mfn, True
        end = max(end, stop)
    return -(-end // PAGE_SIZE), False


@dataclass(frozen=True)
class Rewrite:
    """The differences between a copy and its source.

    The copy has ``size`` bytes and begins with ``head``.  The bytes of the source from offset
    ``body`` on follow, ``shift`` bytes later than in the source.  ``patches`` then go over
    that: each is an offset in the copy, and bytes.
    """

    size: int
    head: bytes
    body: int
    shift: int
    patches: tuple[tuple[int, bytes], ...]
