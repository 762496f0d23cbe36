# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory without Xen: of made-up domains whose page tables are in their own memory."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pykdump_ext.errors import ReadError
from pykdump_ext.machine.memory import split_by_page
from pykdump_ext.machine.paging import PageTables
from pykdump_ext.native.memory import GUEST_KERNEL, OTHERS, USER, NativeMemory
from pykdump_ext.p2m.entries import Kind

from ..made_up.machine import DIRECT_MAP, PAGE, PTE, AddressSpace
from ..made_up.own_tables import LAST, OTHER_DOMAIN, READ_ONLY, Domain, Frames


def expected(domain: Domain, maddr: int) -> int:
    """Return the address that a page table without Xen has for a machine address."""
    mfn = maddr // PAGE
    pfns = {mfn: pfn for pfn, mfn in domain.p2m.memory().items()}
    if mfn in pfns:
        return pfns[mfn] * PAGE + maddr % PAGE
    if mfn < LAST:
        own = domain.p2m.cell(mfn)[0] is Kind.IDENTITY
        return maddr if own else OTHERS + maddr
    return OTHERS + maddr if mfn in domain.guest.machine.pages else maddr


def translates(domain: Domain, native: NativeMemory) -> None:
    spaces: tuple[tuple[AddressSpace, Mapping[tuple[int, int], int]], ...] = (
        (domain.process, domain.process.mapped), (domain.guest.space, domain.guest.space.mapped)
    )  # fmt: skip
    for space, mapped in spaces:
        top = native.pfn(space.root)
        assert top is not None
        tables = PageTables(native, top * PAGE)
        for vaddr, _ in mapped:
            maddr = space.maddr(vaddr)
            assert maddr is not None
            assert tables.translate(vaddr + 5) == expected(domain, maddr + 5)


@given(st.integers(0, 2**32), st.booleans())
def test_every_mapping_is_what_it_is_without_xen(seed: int, m2p: bool) -> None:
    domain = Domain(seed, m2p)
    frames = Frames(domain.tables)
    translates(domain, domain.native(frames))
    assert frames.asked > 0
    translates(domain, domain.native(None))


def test_memory_is_in_the_order_of_pfns_and_only_page_tables_differ() -> None:
    domain = Domain(1, m2p=True)
    native = domain.native(Frames(domain.tables))
    machine, changed = domain.guest.machine.pages, 0
    for pfn in range(LAST):
        kind, mfn = domain.p2m.cell(pfn)
        at = mfn if kind in (Kind.MEMORY, Kind.FOREIGN) else pfn
        if kind is Kind.MISSING or at not in machine:
            with pytest.raises(ReadError):
                native.read(pfn * PAGE, 8, "page")
            continue
        page = native.read(pfn * PAGE, PAGE, "page")
        changed += page != machine[at]
        assert page == machine[at] or at in domain.tables
    assert changed > 100
    assert native.read(OTHERS + (OTHER_DOMAIN + 5) * PAGE, 9, "page") == b"other   5"
    assert sum(size for _, size in native.runs()) // PAGE == domain.p2m.count(
        Kind.MEMORY
    ) + domain.p2m.count(Kind.FOREIGN)


@pytest.mark.parametrize("entry", [1 << 52 | 5, 1 << 63 | 1 << 62 | 5])
def test_an_entry_that_damage_made_is_no_memory(entry: int) -> None:
    """crash takes the lower 64 bits of an address, and would read another page."""
    native = Domain(2, m2p=True).native(None)
    leaf = native._leaves(0)
    assert leaf is not None
    leaf[20] = entry
    assert native.mfn(20) is None
    with pytest.raises(ReadError, match="no memory"):
        native.read(20 * PAGE, 8, "page")


def test_reads_cross_pages_and_end_where_memory_does() -> None:
    native = Domain(2, m2p=True).native(None)
    whole = native.read(0, 20 * PAGE, "page")
    for start, size in ((0, 1), (PAGE - 3, 6), (5 * PAGE + 9, 3 * PAGE), (19 * PAGE, PAGE)):
        assert native.read(start, size, "page") == whole[start : start + size]


@given(st.integers(0, 2**32), st.integers(0, LAST * PAGE), st.integers(1, 40 * PAGE))
@example(1, LAST // 2 * PAGE, 40 * PAGE)  # where some pages have no memory
def test_a_long_read_is_what_its_pages_are(seed: int, start: int, size: int) -> None:
    native = Domain(seed % 8, m2p=True).native(None)

    def read(paddr: int, size: int) -> bytes | None:
        try:
            return native.read(paddr, size, "page")
        except ReadError:
            return None

    pages = [read(part, length) for part, length in split_by_page(start, size)]
    whole = None if None in pages else b"".join(page for page in pages if page)
    assert read(start, size) == whole


def test_xens_mark_of_kernel_pages_is_taken_out() -> None:
    domain = Domain(3, m2p=True)
    vaddr, _ = next(iter(domain.process.mapped))
    mfn = domain.p2m.cell(3)[1]
    domain.process.set(vaddr, PTE, mfn * PAGE | READ_ONLY | GUEST_KERNEL | USER)
    native = domain.native(Frames(domain.tables))
    top = native.pfn(domain.process.root)
    assert top is not None
    *_, last = PageTables(native, top * PAGE).walk(vaddr)
    assert last.entry == 3 * PAGE | READ_ONLY


def test_a_page_table_of_another_domain_stays_as_it_is() -> None:
    domain = Domain(5, m2p=True)
    own = domain.p2m.cell(3)[1]
    pfn = next(pfn for pfn in range(LAST) if domain.p2m.cell(pfn)[0] is Kind.FOREIGN)
    mfn = domain.p2m.cell(pfn)[1]
    page = (own * PAGE | READ_ONLY).to_bytes(8, "little") * 512
    domain.guest.machine.pages[mfn][:] = page
    native = domain.native(Frames({*domain.tables, mfn}))
    assert native.read(pfn * PAGE, PAGE, "page") == native.machine_page(mfn, "page") == page


@pytest.mark.parametrize("bit", [57, 58])
def test_an_entry_with_the_kernels_own_bits_is_one_of_a_page_table(bit: int) -> None:
    domain = Domain(3, m2p=True)
    vaddr, _ = next(iter(domain.process.mapped))
    mfn = domain.p2m.cell(3)[1]
    domain.process.set(vaddr, PTE, mfn * PAGE | READ_ONLY | USER | 1 << bit)
    native = domain.native(None)
    top = native.pfn(domain.process.root)
    assert top is not None
    *_, last = PageTables(native, top * PAGE).walk(vaddr)
    assert last.entry == 3 * PAGE | READ_ONLY | USER | 1 << bit


def test_text_that_is_read_only_is_no_page_table() -> None:
    domain = Domain(4, m2p=False)
    mfn = domain.p2m.cell(8)[1]
    domain.guest.machine.pages[mfn][:] = bytes(range(1, 256, 2)) * 32
    domain.guest.space.set(DIRECT_MAP + 8 * PAGE, PTE, mfn * PAGE | READ_ONLY)
    native = domain.native(None)
    assert native.read(8 * PAGE, PAGE, "page") == bytes(domain.guest.machine.pages[mfn])


def test_constants_that_are_read_only_are_no_page_table() -> None:
    """Small odd numbers look like present entries, but for a bit that Xen sets in each of them."""
    domain = Domain(5, m2p=False)
    mfn = domain.p2m.cell(9)[1]
    words = b"".join((word * 0x1000 | 1).to_bytes(8, "little") for word in range(512))
    domain.guest.machine.pages[mfn][:] = words
    domain.guest.space.set(DIRECT_MAP + 9 * PAGE, PTE, mfn * PAGE | READ_ONLY | USER)
    assert domain.native(None).read(9 * PAGE, PAGE, "page") == words
