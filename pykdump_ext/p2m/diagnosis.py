# SPDX-License-Identifier: GPL-3.0-or-later
"""The diagnosis of a dump: its p2m, the dump's list, the rebuilt list, and the differences."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..errors import P2mError, ReadError
from ..linux.kernel import START_KERNEL_MAP, Kernel, Root, Symbols
from ..linux.root_proof import prove_root
from ..machine.memory import PAGE_SHIFT, MachineMemory
from ..progress import watched
from ..xen.hints import DomainHints
from .coverage import Check, Coverage, check_direct_map, survey
from .entries import IDENTITY_FRAME_BIT, Kind, kind_of
from .framelist import FrameList, build_list, problems_of_crash, read_list
from .layouts import P2mTable, read_table
from .leaves import PFNS_PER_LEAF, entry_at, read_entry, read_leaf, read_leaves
from .without_namelist import find_kernel, read_linear_table

__all__ = [
    "Diagnosis",
    "diagnose",
    "diagnose_kernel",
    "diagnose_without_namelist",
    "root_candidates",
]

# Linux commit 65ade2f872b4, in v4.13, renames the second to the first
TOP_TABLES = ("init_top_pgt", "init_level4_pgt")


@dataclass(frozen=True)
class Diagnosis:
    """A dump's p2m: ``table`` as the kernel has it, ``published`` as the dump's list has it.

    ``seconds`` is the time for all of it: root, rebuild, comparison, check.
    """

    hints: DomainHints
    kernel: Kernel
    table: P2mTable
    published: FrameList
    rebuilt: FrameList
    coverage: Coverage
    check: Check
    seconds: float

    @property
    def healthy(self) -> bool:
        """True if the dump's list is whole: there is nothing to repair."""
        return self.coverage.complete and not self.published.problems

    def entry(self, frames: FrameList, pfn: int) -> int | None:
        """Return the p2m entry of ``pfn`` by ``frames``, or None if that names no leaf for it.

        :raises ReadError: the leaf cannot be read.
        """
        leaf = frames.leaf(pfn // PFNS_PER_LEAF)
        return None if leaf is None else read_entry(self.kernel.memory, leaf, pfn)

    def in_identity_leaf(self, pfn: int) -> bool:
        """Return True if the kernel has the shared identity page as the leaf of ``pfn``."""
        leaf, leaves = pfn // PFNS_PER_LEAF, self.table.leaves
        return leaf < len(leaves) and leaves[leaf] == self.table.identity_mfn

    def kind(self, pfn: int) -> Kind:
        """Return the kind of ``pfn``, by the kernel's own p2m.

        :raises ReadError: its leaf cannot be read.
        """
        if self.in_identity_leaf(pfn):
            return Kind.IDENTITY
        mfn = self.rebuilt.leaf(pfn // PFNS_PER_LEAF)
        if mfn is None:
            return self.table.kind_of_missing
        content = read_leaf(self.kernel.memory, mfn)
        if self.table.may_be_shared(content):
            return Kind.EITHER
        return kind_of(entry_at(content, pfn % PFNS_PER_LEAF))

    def pfns_of(self, mfn: int) -> Iterator[int]:
        """Yield every pfn whose memory is machine frame ``mfn``."""
        if not 0 <= mfn < IDENTITY_FRAME_BIT:
            return
        wanted = mfn.to_bytes(8, "little")
        own = self.table.own_indices()
        leaves = read_leaves(self.kernel.memory, (self.table.leaves[index] for index in own))
        for index, leaf in watched(zip(own, leaves), len(own), "looking for the frame"):
            position = leaf.find(wanted)
            while position >= 0:
                pfn = index * PFNS_PER_LEAF + position // 8
                if position % 8 == 0 and pfn < self.table.max_pfn:
                    yield pfn
                position = leaf.find(wanted, position + 1)


def root_candidates(
    memory: MachineMemory, symbols: Symbols, hints: DomainHints, published: FrameList
) -> Iterator[Root]:
    """Yield candidates for the kernel's top page table; none of them is proved.

    The hints' candidates, such as each cpu's cr3 when the Xen host crashed, are first. The
    kernel's own top page table, found through the dump's list, follows.
    """
    yield from hints.roots
    for name in TOP_TABLES:
        vaddr = symbols.address(name)
        if vaddr is None or vaddr < START_KERNEL_MAP:
            continue
        pfn = vaddr - START_KERNEL_MAP >> PAGE_SHIFT
        leaf = published.leaf(pfn // PFNS_PER_LEAF)
        if leaf is None:
            continue
        try:
            entry = read_entry(memory, leaf, pfn)
        except ReadError:
            continue
        if kind_of(entry) is Kind.MEMORY:
            yield Root(entry << PAGE_SHIFT, name)


def diagnose(
    memory: MachineMemory, symbols: Symbols, banner: bytes, hints: DomainHints
) -> Diagnosis:
    """Prove a root, rebuild the list, and compare it with the dump's list.

    :param banner: the namelist's ``linux_banner``, without its final zero byte.
    :raises P2mError: no root is proved, the layout is unknown, or a part cannot be read.
    """
    start = time.perf_counter()
    published = read_list(memory, hints.frame_list_mfn)
    roots = root_candidates(memory, symbols, hints, published)
    return diagnose_kernel(hints, prove_root(memory, symbols, banner, roots), published, start)


def diagnose_kernel(
    hints: DomainHints, kernel: Kernel, published: FrameList, start: float
) -> Diagnosis:
    """Do the same for a kernel whose root is proved, and a list that has been read.

    :param start: when the work on this dump began, ``time.perf_counter()``.
    :raises P2mError: the layout is unknown, or a part of the p2m cannot be read.
    """
    return _compare(hints, kernel, read_table(kernel), published, start)


def diagnose_without_namelist(
    memory: MachineMemory, hints: DomainHints, published: FrameList | None = None
) -> Diagnosis:
    """Do the same for a kernel that publishes where its p2m is; no symbols are needed.

    :param published: the list at ``hints.frame_list_mfn``, if it has been read.
    :raises P2mError: the kernel does not publish it, or a part cannot be read.
    """
    start = time.perf_counter()
    if published is None:
        published = read_list(memory, hints.frame_list_mfn)
    kernel, shared = find_kernel(memory, hints)
    table = read_linear_table(kernel, shared.p2m_vaddr, shared.max_pfn)
    return _compare(hints, kernel, table, published, start)


def _compare(
    hints: DomainHints, kernel: Kernel, table: P2mTable, published: FrameList, start: float
) -> Diagnosis:
    if not any(table.own_leaves()):
        raise P2mError("the kernel's p2m has no memory in it: its data is damaged")
    table, coverage = survey(kernel, table, published)
    if not coverage.memory:
        raise P2mError("the kernel's p2m has no memory in it: its data is damaged")
    if coverage.complete:
        more = problems_of_crash(kernel.memory, published, table)
        published = replace(published, problems=(*published.problems, *more))
    check = check_direct_map(kernel, table)
    seconds = time.perf_counter() - start
    return Diagnosis(hints, kernel, table, published, build_list(table), coverage, check, seconds)
