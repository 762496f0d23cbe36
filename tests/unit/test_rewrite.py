# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of dumps with the rebuilt list in them, of machines made up."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pykdump_ext.errors import ReadError
from pykdump_ext.machine.elf import PN_XNUM, SH_INFO, ElfCore
from pykdump_ext.rewrite.copies import rewrite_dump
from pykdump_ext.rewrite.plan import find_frames
from pykdump_ext.xen.frame_table import FrameTable
from pykdump_ext.xen.notes import XEN_ELFNOTE_CRASH_INFO
from pykdump_ext.xen.vmcoreinfo import read_vmcoreinfo

from .made_up.copies import Broken, broken_dump, diagnosed, headers, list_by, segments_of
from .made_up.core import PT_NOTE, core_bytes, note
from .made_up.guest import guest_with
from .made_up.machine import LAYOUTS, PAGE
from .made_up.p2m import P2M
from .made_up.strategies import p2ms, times

FRAME_TABLE = 0xFFFF82E000000000
PAGE_INFO = 32


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("room", [0, 56, 4096])
@settings(max_examples=times(0.3), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_copys_list_leads_to_all_memory_and_the_rest_is_as_it_was(
    tmp_path: Path, layout: str, room: int, data: st.DataObject
) -> None:
    p2m = data.draw(p2ms(layout))
    broken = broken_dump(tmp_path, p2m, layout, room)
    out = tmp_path / "out"
    out.unlink(missing_ok=True)
    pages, _, _ = rewrite_dump(broken.core, broken.found, out)

    copy = ElfCore(out)
    listed = list_by(copy)
    assert {pfn: listed[pfn] for pfn in p2m.memory()} == p2m.memory()
    assert diagnosed(broken.guest, copy).healthy

    for mfn, page in broken.guest.machine.pages.items():
        assert copy.read(mfn * PAGE, PAGE, "page") == bytes(page)
        assert not pages.mfn <= mfn < pages.mfn + pages.frames
    for before, after in zip(broken.core.notes, copy.notes):
        if before.type == XEN_ELFNOTE_CRASH_INFO:
            last = pages.top.to_bytes(8, "little") + b"odd"
            assert after.data == before.data[:-11] + last
        else:
            assert after == before
    assert len(copy.notes) == len(broken.core.notes)


def test_the_dump_is_not_written_and_the_copy_is_no_more_readable(broken: Broken) -> None:
    before = broken.core.file.path.read_bytes()
    broken.core.file.path.chmod(0o440)
    out = broken.core.file.path.with_name("out")
    rewrite_dump(broken.core, broken.found, out)
    assert broken.core.file.path.read_bytes() == before
    assert out.stat().st_mode & 0o777 == 0o440
    assert sorted(p.name for p in out.parent.iterdir()) == ["out", "vmcore"]


@pytest.mark.parametrize(("room", "moved"), [(0, 4096), (55, 4096), (56, 0)])
def test_where_there_is_no_room_for_a_program_header_the_contents_move_on(
    tmp_path: Path, room: int, moved: int
) -> None:
    broken = broken_dump(tmp_path, P2M, "linear", room)
    rewrite_dump(broken.core, broken.found, tmp_path / "out")
    old, new = headers(broken.core.file.path), headers(tmp_path / "out")
    assert len(new) == len(old) + 1
    assert new[0][0] == PT_NOTE and new[0][2] == old[0][2] + moved
    starts = [paddr for _, _, _, _, paddr, *_ in new[1:]]
    assert starts == sorted(starts)
    assert {h[2] - moved for h in new} > {h[2] for h in old}


def test_a_count_of_program_headers_in_the_first_section_is_raised(tmp_path: Path) -> None:
    broken = broken_dump(tmp_path)
    path = broken.core.file.path
    content = bytearray(path.read_bytes())
    count = struct.unpack_from("<H", content, 56)[0]
    struct.pack_into("<Q", content, 40, len(content))  # e_shoff
    struct.pack_into("<HHH", content, 56, PN_XNUM, 64, 1)  # e_phnum, e_shentsize, e_shnum
    path.write_bytes(content + bytes(SH_INFO) + struct.pack("<I", count) + bytes(16))
    core = ElfCore(path)
    rewrite_dump(core, diagnosed(broken.guest, core), tmp_path / "out")
    assert len(headers(tmp_path / "out")) == count + 1
    assert diagnosed(broken.guest, ElfCore(tmp_path / "out")).healthy


def test_what_a_cut_off_dump_lacks_is_not_made_up(broken: Broken, tmp_path: Path) -> None:
    path = broken.core.file.path
    last = max(broken.guest.machine.pages)
    os.truncate(path, path.stat().st_size - 100)
    core = ElfCore(path)
    rewrite_dump(core, broken.found, tmp_path / "out")
    copy = ElfCore(tmp_path / "out")
    assert copy.read(last * PAGE, PAGE - 100, "x") == core.read(last * PAGE, PAGE - 100, "x")
    with pytest.raises(ReadError):
        copy.read(last * PAGE, PAGE, "x")


# Frames for the list


def with_frame_table(tmp_path: Path, nobodys: int) -> tuple[Broken, int]:
    """A dump with Xen's frame table in it, by which only the gap before ``nobodys`` is free."""
    guest, _ = guest_with("linear", P2M, 1)
    frames = sorted(guest.machine.pages)
    gap = frames[nobodys] - 6  # the machine's frames are seven apart
    for page in {mfn * PAGE_INFO // PAGE for mfn in range(frames[0], frames[-1] + 64)}:
        mfn = guest.machine.frame([1] * 512)
        guest.space.map(FRAME_TABLE + page * PAGE, mfn)
        for at in range(gap, gap + 6):
            if at * PAGE_INFO // PAGE == page:
                start = at * PAGE_INFO % PAGE
                guest.machine.pages[mfn][start : start + PAGE_INFO] = bytes(PAGE_INFO)
    guest.variable("xen_frame_table", FRAME_TABLE)
    guest.variable("xen_max_page", frames[-1] + 64)
    says = f"PAGESIZE=4096\nSYMBOL(frame_table)={guest.symbols['xen_frame_table']:x}\n"
    says += f"SYMBOL(max_page)={guest.symbols['xen_max_page']:x}\n"
    says += f"SIZE(page_info)={PAGE_INFO}\n"
    says += "OFFSET(page_info.count_info)=8\nOFFSET(page_info._domain)=24\n"
    path = tmp_path / "vmcore"
    more = note(b"VMCOREINFO_XEN", 0, says.encode().ljust(4000, b"\0"))
    path.write_bytes(core_bytes(segments_of(guest, more), room=100))
    core = ElfCore(path)
    return Broken(guest, core, diagnosed(guest, core)), gap


@pytest.mark.parametrize("nobodys", [1, 9, 20])
def test_the_list_goes_where_xen_has_memory_that_is_nobodys(tmp_path: Path, nobodys: int) -> None:
    broken, gap = with_frame_table(tmp_path, nobodys)
    vmcoreinfo = read_vmcoreinfo(broken.core.notes)
    frames = FrameTable(broken.found.kernel.tables, vmcoreinfo, "4.17")
    pages, unused, _ = rewrite_dump(broken.core, broken.found, tmp_path / "out", frames=frames)
    assert unused
    assert gap <= pages.mfn and pages.mfn + pages.frames <= gap + 6


def test_without_xens_table_the_list_goes_behind_everything(broken: Broken, tmp_path: Path) -> None:
    pages, unused, _ = rewrite_dump(broken.core, broken.found, tmp_path / "out")
    assert not unused
    assert pages.mfn == max(broken.guest.machine.pages) + 1


class Everything(FrameTable):
    """A Xen that would give away any frame."""

    def __init__(self) -> None:
        pass

    def unused(self, mfn: int, count: int) -> bool:
        return True


@settings(max_examples=times(5))
@given(
    st.lists(st.tuples(st.integers(0, 2**22), st.integers(1, 2**14)), min_size=1),
    st.integers(1, 600),
)
def test_frames_are_found_outside_the_dump_and_its_first_mib(
    ranges: list[tuple[int, int]], count: int
) -> None:
    used = sorted((start * 64, (start + size) * 64) for start, size in ranges)
    mfn, _ = find_frames(used, count, Everything())
    assert mfn >= 256
    assert all(stop <= mfn * PAGE or (mfn + count) * PAGE <= start for start, stop in used)
