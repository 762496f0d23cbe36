# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of a p2m: pfn space, and where its frames are in machine memory.

They need matplotlib: ``pip install '.[pictures]'``.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import P2mError
from ..installed import pip_install
from ..machine.memory import PAGE_SHIFT
from ..p2m.diagnosis import Diagnosis
from ..p2m.entries import IDENTITY_FRAME_BIT
from ..p2m.leaves import PFNS_PER_LEAF, read_leaves
from ..p2m.ranges import ranges
from ..progress import watched
from . import words
from .map_legend import LOOKS, Look, look_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["drawing", "libraries", "machine_memory"]


@contextmanager
def libraries() -> Iterator[None]:
    """Turn an ImportError in the block into a sentence that says what to install.

    :raises P2mError: a library for pictures is not installed.
    """
    try:
        yield
    except ImportError:
        raise P2mError(f"pictures need matplotlib and Jinja2: {pip_install('pictures')}") from None


def figure(found: Diagnosis) -> Figure:
    """Return the figure of a p2m: pfn space above, machine memory below.

    :raises P2mError: matplotlib is not installed, or a leaf cannot be read.
    """
    with libraries():
        from matplotlib.figure import Figure  # noqa: PLC0415
        from matplotlib.patches import Patch  # noqa: PLC0415

    drawn = Figure(figsize=(10, 4.2), layout="constrained")
    upper, lower = drawn.subplots(2, 1, height_ratios=[1, 1.4])
    parts = list(ranges(found))
    gib = 1 << (30 - PAGE_SHIFT)
    for look in LOOKS[::-1]:
        bars = [(part.first / gib, part.pages / gib) for part in parts if look_of(part) is look]
        upper.broken_barh(bars, (0, 1), facecolors=look.colour, linewidth=0)
    upper.set_xlim(0, found.table.max_pfn / gib)
    upper.set_yticks([])
    upper.set_xlabel("pseudo-physical address, GiB")
    upper.set_title("dom0's pfn space", loc="left", fontsize=10)

    places = machine_memory(found)
    last = max((max(frames) for frames in places.values() if frames), default=0) + CHUNK
    width = -(-last // (BARS * CHUNK)) * CHUNK
    edges = [first / gib for first in range(0, last + width, width)]
    bottom = [0.0] * len(edges)
    for look, frames in places.items():
        top = list(bottom)
        for first, pages in frames.items():
            top[first // width] += pages / gib * 1024
        lower.fill_between(edges, bottom, top, step="post", color=look.colour, linewidth=0)
        bottom = top
    lower.set_xlim(0, last / gib)
    lower.set_ylim(bottom=0)
    lower.set_xlabel("machine address, GiB")
    lower.set_ylabel(f"MiB of dom0\nin {words.size(width << PAGE_SHIFT)}")
    lower.set_title("where its frames are in machine memory", loc="left", fontsize=10)
    there = [look for look in LOOKS if any(look_of(part) is look for part in parts)]
    drawn.legend(
        handles=[Patch(facecolor=look.colour, label=look.meaning) for look in there],
        loc="outside lower center", ncols=2, fontsize=8, frameon=False,
    )  # fmt: skip
    return drawn


CHUNK = 256  # frames, 1 MiB: the unit in which machine memory is counted
BARS = 400  # at most, in the picture of machine memory


def machine_memory(found: Diagnosis) -> dict[Look, dict[int, int]]:
    """Count the kernel's pages in each MiB of machine memory.

    Return a dictionary from the first mfn of a MiB to its pages, one for the memory that the
    dump's list covers (``Look.MEMORY``) and one for the rest (``Look.LOST``).

    :raises ReadError: a leaf cannot be read.
    """
    from ..machine.vectors import np  # noqa: PLC0415  (takes 0.1 s)

    result: dict[Look, dict[int, int]] = {Look.MEMORY: {}, Look.LOST: {}}
    lost = sorted(found.coverage.lost)
    position = 0
    own = found.table.own_indices()
    leaves = read_leaves(found.kernel.memory, (found.table.leaves[index] for index in own))
    for index, page in watched(zip(own, leaves), len(own), "counting the frames"):
        first = index * PFNS_PER_LEAF
        while position < len(lost) and lost[position][1] < first:
            position += 1
        is_lost = position < len(lost) and lost[position][0] <= first
        counts = result[Look.LOST if is_lost else Look.MEMORY]
        entries = np.frombuffer(page, np.uint64)[: found.table.max_pfn - first]
        chunks, pages = np.unique(
            entries[entries < IDENTITY_FRAME_BIT] // CHUNK, return_counts=True
        )
        for chunk, number in zip(chunks.tolist(), pages.tolist()):
            counts[chunk * CHUNK] = counts.get(chunk * CHUNK, 0) + number
    return result


def drawing(found: Diagnosis, kind: str) -> bytes:
    """Return the picture of a p2m as the bytes of a file.

    :param kind: of the file, ``svg`` or ``png``.
    :raises P2mError: matplotlib is not installed, or a leaf cannot be read.
    """
    with libraries():
        from matplotlib import rc_context  # noqa: PLC0415

    stream = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {}
    with rc_context({"svg.hashsalt": "p2mfix"}):  # one p2m always gives the same bytes
        figure(found).savefig(stream, format=kind, dpi=150, metadata=metadata)
    return stream.getvalue()
