# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps of a domain without Xen: what is in the file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pykdump_ext.errors import P2mError, ReadError
from pykdump_ext.machine import elf
from pykdump_ext.machine.elf import PT_LOAD, ElfCore, Segment
from pykdump_ext.machine.memory import PageMemory
from pykdump_ext.machine.paging import PageTables
from pykdump_ext.native import dump as native_dump
from pykdump_ext.native.dump import Saved, prstatus, write_dump
from pykdump_ext.native.memory import NativeMemory
from pykdump_ext.xen.vcpus import REGISTERS, Registers

from ..made_up.machine import DIRECT_MAP, PAGE
from ..made_up.own_tables import LAST, TOP, Domain, Frames

SECONDS = 1795648821
NOTE = prstatus(Registers(tuple(range(REGISTERS))), 77)


def saved(domain: Domain) -> Saved:
    """Two cpus: one whose registers are known, one whose are not."""
    return Saved([(domain.guest.symbols["vmcoreinfo_data"] + 0x800, NOTE), (TOP, b"")], SECONDS)


def written(domain: Domain, native: NativeMemory, out: Path) -> ElfCore:
    shown: list[tuple[int, int]] = []
    size = write_dump(native, saved(domain), out, [], lambda *at: shown.append(at))
    assert shown[-1] == (size, size) and shown == sorted(shown)
    return ElfCore(out)


def test_the_file_has_the_domains_memory_and_nothing_else(tmp_path: Path) -> None:
    domain = Domain(7, m2p=True)
    machine = domain.guest.machine.pages
    gone = [domain.p2m.cell(pfn)[1] for pfn in (40, 41, 300)]
    wanted = {mfn for mfn in gone if mfn not in domain.tables}
    kept = {mfn: bytes(page) for mfn, page in machine.items() if mfn not in wanted}
    native = domain.native(Frames(domain.tables), PageMemory(kept))
    core = written(domain, native, tmp_path / "out")
    note_at = native.paddr(saved(domain).notes[0][0], "note")
    start_info = native.paddr(domain.guest.symbols["xen_start_info"], "xen_start_info")
    compared = 0
    for pfn in range(LAST + 100):
        try:
            page = bytearray(native.read(pfn * PAGE, PAGE, "page"))
            there = native.mfn(pfn) != pfn  # else it is no memory
        except ReadError:
            there = False
        if not there:
            with pytest.raises(ReadError):
                core.read(pfn * PAGE, 1, "page")
            continue
        if pfn == note_at // PAGE:
            page[note_at % PAGE : note_at % PAGE + len(NOTE)] = NOTE
        if pfn == start_info // PAGE:
            page[start_info % PAGE : start_info % PAGE + 8] = bytes(8)
        assert core.read(pfn * PAGE, PAGE, "page") == page
        compared += 1
    assert compared > 500
    # walked by whoever knows nothing of Xen
    top = native.paddr(TOP, "swapper_pg_dir")
    vaddr = domain.guest.symbols["linux_banner"]
    assert PageTables(core, top).read(vaddr, 20, "banner") == domain.guest.banner[:20]


def test_its_notes_are_those_of_a_kernel(tmp_path: Path) -> None:
    domain = Domain(8, m2p=False)
    native = domain.native(None)
    core = written(domain, native, tmp_path / "out")
    assert [(note.owner, note.type) for note in core.notes] == [
        ("CORE", 1), ("CORE", 1), ("VMCOREINFO", 0)
    ]  # fmt: skip
    known, unknown, info = (note.data for note in core.notes)
    assert known == NOTE[20:] and not any(unknown)
    lines = dict(line.split("=") for line in info.decode().splitlines())
    assert lines["CRASHTIME"] == str(SECONDS)
    phys_base = int(lines["NUMBER(phys_base)"])
    assert (TOP - 0xFFFFFFFF80000000 + phys_base) % 2**64 == native.paddr(TOP, "swapper_pg_dir")
    loads = [header for header in core.headers if header.type == PT_LOAD]
    assert all(header.filesz == header.memsz and header.offset % PAGE == 0 for header in loads)
    text = [header for header in loads if header.vaddr >= 0xFFFFFFFF80000000]
    assert sum(header.filesz for header in text) <= 5 * PAGE and text[0].vaddr == TOP
    for header in loads:
        if header not in text:
            assert header.vaddr == native.direct_map + header.paddr


def test_a_dump_with_more_gaps_than_program_headers_count_is_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number is then in the first section header."""
    for module in (native_dump, elf):
        monkeypatch.setattr(module, "PN_XNUM", 4)
    domain = Domain(9, m2p=False)
    machine = domain.guest.machine.pages
    data = [mfn for pfn, mfn in domain.p2m.memory().items() if pfn % 3 == 0]
    kernels = {
        maddr // PAGE
        for (vaddr, _), maddr in domain.guest.space.mapped.items()
        if vaddr >= DIRECT_MAP + (1 << 40)
    }
    kept = {
        mfn: bytes(page)
        for mfn, page in machine.items()
        if mfn not in data or mfn in domain.tables or mfn in kernels
    }
    native = domain.native(Frames(domain.tables), PageMemory(kept))
    out = tmp_path / "out"
    write_dump(native, saved(domain), out, [], lambda *_: None)
    with out.open("rb") as file:
        head = file.read(64)
    assert int.from_bytes(head[56:58], "little") == 4
    at = int.from_bytes(head[40:48], "little")
    count = int.from_bytes(out.read_bytes()[at + 44 : at + 48], "little")
    assert count == len(ElfCore(out).headers) > 100


def test_as_many_segments_as_are_written_are_read(tmp_path: Path) -> None:
    many = native_dump.MOST_SEGMENTS + native_dump.SPARE
    one = Segment(PT_LOAD, 7, PAGE, 0, 0, PAGE, PAGE, 0)
    (tmp_path / "out").write_bytes(native_dump._headers([one] * many))
    assert len(ElfCore(tmp_path / "out").headers) == many


def test_nothing_is_left_where_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    domain = Domain(10, m2p=False)
    native = domain.native(None)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        write_dump(native, saved(domain), tmp_path / "out", [], lambda *_: None)
    monkeypatch.undo()
    (tmp_path / "there").write_bytes(b"mine")
    with pytest.raises(P2mError, match="there: exists; name another file"):
        write_dump(native, saved(domain), tmp_path / "there", [], lambda *_: None)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert (tmp_path / "there").read_bytes() == b"mine"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_the_file_has_the_permissions_of_the_dump(tmp_path: Path, mode: int) -> None:
    domain, sources = Domain(11, m2p=False), [tmp_path / "s1", tmp_path / "s2"]
    for path in sources:
        path.touch()
    sources[0].chmod(0o644)
    sources[1].chmod(mode)
    out = tmp_path / "out"
    write_dump(domain.native(None), saved(domain), out, [*map(str, sources)], lambda *_: None)
    assert out.stat().st_mode & 0o777 == mode & 0o644
