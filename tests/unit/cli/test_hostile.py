# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are made to be expensive: an answer or a sentence, in 1 GiB of memory."""

from __future__ import annotations

import os
import struct
from argparse import Namespace
from pathlib import Path

import pytest

from pykdump_ext.cli import domains as cli
from pykdump_ext.errors import P2mError
from pykdump_ext.linux.banners import release_of
from pykdump_ext.linux.kernel import Root
from pykdump_ext.linux.root_proof import prove_root
from pykdump_ext.machine.notes import Note
from pykdump_ext.opened import OpenedDump
from pykdump_ext.reports.cpus import Kernels
from pykdump_ext.xen import domains
from pykdump_ext.xen.notes import (
    XEN_ELFNOTE_CRASH_INFO,
    XEN_ELFNOTE_CRASH_REGS,
    read_crash_note,
)

from ..made_up.bounded import p2mfix
from ..made_up.core import (
    EHDR,
    ET_EXEC,
    IDENT_64_LITTLE,
    PHDR,
    PT_NOTE,
    Segment,
    core_bytes,
    note,
)
from ..made_up.dump import CountingDump, MadeUpDump
from ..made_up.host import Host, guest_on_host
from ..made_up.kdumps import records
from ..made_up.machine import PAGE
from ..made_up.p2m import P2M
from ..made_up.talkative import talkative

PT_DYNAMIC = 2
FAR = 1 << 62  # an offset to which a record of a few bytes extends the plain file


def many_notes(count: int, size: int, at: int) -> bytes:
    """Return the headers of an ELF file with so many PT_NOTE segments on the same bytes."""
    head = core_bytes([Segment(0, b"", PT_NOTE)])[: EHDR.size]
    head = head[:56] + struct.pack("<H", count) + head[58:]
    return head + PHDR.pack(PT_NOTE, 4, at, 0, 0, size, size, 0) * count


def test_sections_without_end(tmp_path: Path) -> None:
    """A dynamic segment, and as many sections as section 0 says."""
    content = bytearray(core_bytes([Segment(0, b"D" * 16, PT_DYNAMIC), Segment(0x1000, b"A")]))
    struct.pack_into("<Q", content, 40, 512)  # e_shoff
    struct.pack_into("<HHH", content, 58, 64, 0, 0)  # e_shentsize, e_shnum, e_shstrndx
    section = bytearray(64)
    struct.pack_into("<Q", section, 32, 1 << 40)  # sh_size
    file = tmp_path / "vmcore"
    file.write_bytes(records((0, bytes(content)), (512, bytes(section)), (FAR, b"end")))
    assert "not a dump of a Xen host" in p2mfix("diagnose", file).stdout


def test_notes_that_are_the_same_bytes(tmp_path: Path) -> None:
    data = note(b"Xen", 1, bytes(20)) * 1000
    headers = many_notes(65_534, len(data), 1 << 22)
    file = tmp_path / "vmcore"
    file.write_bytes(headers.ljust(1 << 22, b"\0") + data)
    assert "has more than 65,536 notes: its header is damaged" in p2mfix("diagnose", file).stdout


def test_notes_of_many_gigabytes(tmp_path: Path) -> None:
    file = tmp_path / "vmcore"
    file.write_bytes(many_notes(3000, 64 << 20, 1 << 20))
    os.truncate(file, 1 << 30)
    assert "has more than 64 MiB of notes: its header is damaged" in p2mfix("diagnose", file).stdout


def test_one_note_segment_full_of_notes(tmp_path: Path) -> None:
    data = note(b"", 1, b"") * (4 << 20)
    file = tmp_path / "vmcore"
    file.write_bytes(core_bytes([Segment(0, data, PT_NOTE), Segment(0x1000, b"A")]))
    assert "has more than 65,536 notes" in p2mfix("diagnose", file).stdout


def dump_of(host: Host, path: Path) -> Path:
    """Write the dump of a host as an ELF file."""
    notes = b"".join(note(one.owner.encode(), one.type, one.data) for one in host.notes())
    pages = host.memory().pages
    segments = [Segment(mfn * PAGE, bytes(page)) for mfn, page in sorted(pages.items())]
    path.write_bytes(core_bytes([Segment(0, notes, PT_NOTE), *segments]))
    return path


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            {"OFFSET(domain.next_in_list)": str(654 << 20), "SIZE(domain)": str(1 << 30)},
            "its offsets of domain contradict each other",
        ),
        ({"SIZE(page_info)": str(4 << 20)}, "its offsets of page_info contradict each other"),
        (
            {"SIZE(page_info)": "96", "OFFSET(page_info._domain)": "88"},
            "its offsets of page_info contradict each other",
        ),
        ({"OFFSET(page_info._domain)": "25"}, "its offsets of page_info contradict each other"),
        ({"SIZE(domain)": "9" * 5000}, "has no SIZE(domain)"),
        ({"SYMBOL(frame_table)": "f" * 300}, "has no SYMBOL(frame_table)"),
    ],
    ids=["next", "page_info", "large page_info", "odd owner", "many digits", "many hex digits"],
)
def test_values_of_xen_that_are_damaged(tmp_path: Path, values: dict[str, str], says: str) -> None:
    host, _, _ = guest_on_host()
    host.vmcoreinfo.update(values)
    assert says in p2mfix("domains", dump_of(host, tmp_path / "vmcore")).stderr


@pytest.mark.parametrize("size", [3 << 29, 1 << 62])
def test_tables_of_a_vmlinux_that_are_larger_than_memory(tmp_path: Path, size: int) -> None:
    """A sparse file, with names of sections and symbols of 1.5 GiB and more."""
    names = b"\0.symtab\0.strtab\0.text\0"
    section = struct.Struct("<IIQQQQIIQQ")  # Elf64_Shdr
    rows = [(0, 0), (1, 2), (9, 3), (17, 1)]  # sh_name, sh_type
    table = b"".join(section.pack(*row, 0, 0, 4096, size, 2, 0, 8, 24) for row in rows)
    head = EHDR.pack(IDENT_64_LITTLE, ET_EXEC, 62, 1, 0, 0, 64, 0, 64, 56, 0, 64, len(rows), 3)
    vmlinux, vmcore = tmp_path / "vmlinux", tmp_path / "vmcore"
    vmlinux.write_bytes((head + table).ljust(4096, b"\0") + names)
    os.truncate(vmlinux, 4096 + (3 << 29))
    host, _, _ = guest_on_host()
    p2mfix("diagnose", dump_of(host, vmcore), vmlinux)


def test_a_list_of_domains_without_end_costs_a_bounded_number_of_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(domains, "MOST_DOMAINS", 20)
    host = Host()
    for number in range(30):
        host.add(number)
    memory = CountingDump(host.memory(), host.notes())
    xen = domains.open_xen(memory, host.notes())
    with pytest.raises(P2mError, match="list of domains is damaged: it has over 20"):
        list(xen.domains())


def test_the_owner_of_each_cpus_page_tables_is_looked_up_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged dump can have thousands of domains and of cpus."""
    host, guest, _ = guest_on_host()
    host.cr3s = [guest.root] * 50
    for number in range(2, 30):
        host.add(number)
    opened = OpenedDump(MadeUpDump(host.memory(), host.notes()))
    asked = []

    def owner(cr3: int) -> int:
        asked.append(cr3)
        return 1

    monkeypatch.setattr(opened, "owner", owner)
    monkeypatch.setattr(cli, "open_one", lambda paths: opened)
    cli.run(Namespace(files=["vmcore"], json=False))
    assert len(asked) == 50
    assert ",".join(map(str, range(50))) in capsys.readouterr().out


def test_cpus_whose_page_tables_are_one_kernels_cost_one_search() -> None:
    """The kernel's image is searched for its banner: 4 ms for each of thousands of cpus."""
    guest = talkative(P2M)
    page = guest.machine.pages[guest.root // PAGE]
    roots = [guest.machine.frame(struct.unpack("<512Q", page)) * PAGE for _ in range(50)]
    dump = CountingDump(guest.machine.memory(), guest.notes(*roots))
    kernels = Kernels(OpenedDump(dump))
    assert {kernels.banner(root) for root in roots} == {guest.banner.decode().strip()}
    assert len(dump.reads) < 150


def test_more_cpus_than_any_machine_has_are_told() -> None:
    notes = [Note("Xen", XEN_ELFNOTE_CRASH_REGS, bytes(32))] * 8193
    notes.append(Note("Xen", XEN_ELFNOTE_CRASH_INFO, bytes(80)))
    with pytest.raises(P2mError, match="XEN_ELFNOTE_CRASH_REGS notes of over 8,192 cpus"):
        read_crash_note(notes)
    assert read_crash_note(notes[1:]) is not None


def test_an_error_about_thousands_of_roots_shows_a_few() -> None:
    guest = talkative(P2M)
    roots = [Root(number * PAGE, "cr3") for number in range(1, 1000)]
    with pytest.raises(P2mError, match=r"; and 983 more$") as caught:
        prove_root(guest.machine.memory(), guest.symbols, guest.banner, roots)
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize("banner", [b"Linux version ", b"Linux version", b"", b"\xff\xfe"])
def test_a_banner_without_a_release_has_an_unknown_one(banner: bytes) -> None:
    assert release_of(banner) == release_of(banner.decode("latin-1")) == "unknown"
