# SPDX-License-Identifier: GPL-3.0-or-later
"""A domain's memory as its kernel would have it without Xen, on real dumps."""

from __future__ import annotations

import pytest

from pykdump_ext.linux.namelist import Namelist
from pykdump_ext.machine.dumps import open_dump
from pykdump_ext.machine.memory import PAGE_SHIFT, PAGE_SIZE
from pykdump_ext.machine.paging import PageTables
from pykdump_ext.native.memory import OTHERS, NativeMemory
from pykdump_ext.opened import OpenedDump
from tests.lab.dump import Dump

from .conftest import Packed
from .questions import KERNEL_SLOTS, USER_SLOTS, pages, users_of


def opened_of(dump: Dump) -> OpenedDump:
    paths = [str(dump.vmcore)]
    return OpenedDump(open_dump(paths), [Namelist(dump.vmlinux)], paths)


@pytest.fixture(scope="module")
def opened(truncated: Dump) -> OpenedDump:
    return opened_of(truncated)


@pytest.fixture(scope="module")
def native(opened: OpenedDump) -> NativeMemory:
    assert opened.frames is not None
    return NativeMemory(opened.diagnosis, opened.frames)


def test_every_mapped_page_translates_as_by_the_machines_tables(
    native: NativeMemory, truncated: Dump
) -> None:
    kernel = native.found.kernel
    roots = [(kernel.root.maddr, KERNEL_SLOTS)]
    roots += [(task.top, USER_SLOTS) for task in users_of(truncated)]
    assert len(roots) > 3
    translated = others = 0
    for root, slots in roots:
        top = native.pfn(root >> PAGE_SHIFT)
        assert top is not None
        machines, natives = PageTables(kernel.memory, root), PageTables(native, top << PAGE_SHIFT)
        for vaddr, present in pages(machines, slots):
            if not present:
                continue
            maddr, paddr = machines.translate(vaddr), natives.translate(vaddr)
            if paddr < OTHERS:
                mfn = native.mfn(paddr >> PAGE_SHIFT)
                assert mfn == maddr >> PAGE_SHIFT and paddr % PAGE_SIZE == maddr % PAGE_SIZE
            else:
                assert paddr - OTHERS == maddr and native.pfn(maddr >> PAGE_SHIFT) is None
                others += 1
            translated += 1
    assert translated > 200_000 and 0 < others < 100


def test_the_direct_map_tells_page_tables_where_the_frame_table_is_not_there(
    native: NativeMemory, opened: OpenedDump
) -> None:
    without = NativeMemory(native.found, None)
    tables = more = 0
    for start, size in native.runs():
        for pfn in range(start >> PAGE_SHIFT, start + size >> PAGE_SHIFT):
            mfn = native.mfn(pfn)
            assert mfn is not None
            page = opened.dump.read(mfn << PAGE_SHIFT, PAGE_SIZE, "page")
            turned, without_frames = (one.turned(pfn, mfn, page) for one in (native, without))
            if turned != page:
                tables += 1
                assert without_frames == turned, hex(pfn)
            more += without_frames != turned
    # Xen's domain builder leaves page tables behind that nobody uses
    assert tables > 300 and more < 5


def test_a_compressed_dump_has_the_same_memory(untouched: Dump, packed: Packed) -> None:
    dumps = [opened_of(dump) for dump in (untouched, packed(untouched, "-c"))]
    native, other = (NativeMemory(dump.diagnosis, dump.frames) for dump in dumps)
    assert [*other.runs()] == [*native.runs()]
    compared = 0
    for start, size in native.runs():
        for paddr in range(start, start + size, 16 * PAGE_SIZE):
            assert other.read(paddr, PAGE_SIZE, "page") == native.read(paddr, PAGE_SIZE, "page")
            compared += 1
    assert compared > 10_000
