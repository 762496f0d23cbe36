# SPDX-License-Identifier: GPL-3.0-or-later
"""The words for a diagnosis: one way to say each thing, in reports and in sessions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..errors import ReadError, printable
from ..p2m.diagnosis import Diagnosis
from ..p2m.entries import Kind, kind_of
from ..p2m.framelist import FrameList
from ..p2m.leaves import PFNS_PER_LEAF
from ..xen.shared_info import LIST_INVALID

__all__ = [
    "agreement",
    "coverage",
    "entry",
    "failed_check",
    "headline",
    "hexadecimal",
    "kinds",
    "lost",
    "percent",
    "share",
    "size",
    "status",
    "whose",
]

MOST_RANGES = 4  # of lost pfns, in one line


def share(part: int, whole: int, unit: str = "pages") -> str:
    """Return ``part`` of ``whole`` with its percentage: ``3 of 4 pages (75.0%)``."""
    return f"{part:,} of {whole:,} {unit} ({percent(part, whole)})"


def percent(part: int, whole: int) -> str:
    """Return which percentage ``part`` is of ``whole``: ``75.0%``; of nothing, everything."""
    return f"{100 * part / whole if whole else 100:.1f}%"


def size(amount: int) -> str:
    """Return a number of bytes in KiB, MiB, GiB or TiB."""
    for unit, shift in (("TiB", 40), ("GiB", 30), ("MiB", 20)):
        if amount >= 1 << shift:
            return f"{amount / (1 << shift):,.4g} {unit}"
    return f"{amount >> 10} KiB"


def kinds(counts: Mapping[str, int]) -> str:
    """Return how many pfns are of each kind; of missing or identity only if there are any."""
    shown = {name: n for name, n in counts.items() if n or name != Kind.EITHER.value}
    return ", ".join(f"{count:,} {name}" for name, count in shown.items())


def hexadecimal(number: int | None) -> str | None:
    """Return an address or a frame number for JSON, such as ``0x1c95e``; None stays None.

    A number in JSON is exact up to 2**53 only, in many programs.
    """
    return None if number is None else f"{number:#x}"


def whose(found: Diagnosis) -> str:
    """Return ``dom0's``, or ``domain N's`` for a guest's p2m."""
    return f"domain {found.hints.domain}'s" if found.hints.domain else "dom0's"


def coverage(found: Diagnosis) -> str:
    """Return how many of the kernel's pages the dump's list covers."""
    return share(found.coverage.covered, found.coverage.memory)


def lost(ranges: Sequence[tuple[int, int]]) -> str:
    """Return the pfns of lost leaves as text.

    :param ranges: the first and the last pfn of each range.
    """
    parts = [f"{first:x}-{last:x}" for first, last in ranges]
    more = f" and {len(parts) - MOST_RANGES} more" if len(parts) > MOST_RANGES else ""
    return ", ".join(parts[:MOST_RANGES]) + more


def headline(found: Diagnosis, release: str) -> str:
    """Return the kernel, the Xen, the layout, and the root with its source."""
    root = found.kernel.root
    domain = f", domain {found.hints.domain}" if found.hints.domain else ""
    return (
        f"Linux {printable(release)} on Xen {found.hints.version}{domain},"
        f" {found.table.layout} p2m, page tables at {root.maddr:x} ({root.source})"
    )


def agreement(agree: int, asked: int) -> str:
    """Return the result of a check: how many of the pages that were compared agree."""
    return f"direct map and rebuilt list agree on {agree:,} of {asked:,} pages"


def failed_check(found: Diagnosis, consequence: str) -> str:
    """Return why a rebuilt list cannot be used, and the consequence."""
    if not found.check.asked:
        return (
            "the rebuilt list cannot be checked: the kernel's direct map has none of its pages;"
            f" {consequence}"
        )
    return (
        f"the rebuilt list fails its check: the direct map agrees on {found.check.agree:,} of"
        f" {found.check.asked:,} pages; {consequence}"
    )


def status(found: Diagnosis, release: str) -> Iterator[str]:
    """Yield the lines of ``p2m status`` that the diagnosis gives."""
    covered = found.coverage
    yield headline(found, release)
    unlisted = bool(found.hints.domain) and found.hints.frame_list_mfn == LIST_INVALID
    if unlisted:
        yield "   dump's list: none, the guest has not published one"
    else:
        yield f"   dump's list: {coverage(found)}"
        for problem in found.published.problems[:4]:
            yield f"                {problem}"
    yield f"  rebuilt list: {covered.memory:,} pages in {covered.leaves:,} leaves"
    if covered.kept:
        yield (
            f"          kept: {len(covered.kept):,} leaves that the page tables have lost,"
            " from the dump's list"
        )
    if covered.leaves_lost and not unlisted:
        yield f"          lost: {covered.leaves_lost:,} leaves, pfn {lost(covered.lost)}"
    counts = {kind.value: covered.kinds[kind] for kind in Kind}
    yield f"          pfns: {found.table.max_pfn:,} ({kinds(counts)})"
    yield f"         check: {agreement(found.check.agree, found.check.asked)}"


def entry(found: Diagnosis, frames: FrameList, pfn: int) -> str:
    """Return the entry that a list has for ``pfn``, in words."""
    leaf = frames.leaf(pfn // PFNS_PER_LEAF)
    if leaf is None:
        return "no leaf for this pfn"
    try:
        value = found.entry(frames, pfn)
    except ReadError as error:
        return f"leaf mfn {leaf:x}, which cannot be read: {error.why or 'not in the dump'}"
    assert value is not None
    kind = kind_of(value)
    mfn = f"mfn {value:x}, " if kind is Kind.MEMORY else ""
    return f"{mfn}{kind.value} (leaf mfn {leaf:x})"
