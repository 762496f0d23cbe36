# SPDX-License-Identifier: GPL-3.0-or-later
"""Domains of real hosts: what Xen's memory says of them, and a guest's kernel in crash."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from array import array
from pathlib import Path
from typing import Any

import pytest

from pykdump_ext.linux.namelist import Namelist
from pykdump_ext.machine.elf import ElfCore
from pykdump_ext.machine.memory import PAGE_SHIFT, PAGE_SIZE
from pykdump_ext.machine.paging import NOT_MAPPED
from pykdump_ext.opened import OpenedDump
from pykdump_ext.p2m.diagnosis import diagnose
from pykdump_ext.p2m.entries import Kind, kind_of
from pykdump_ext.p2m.leaves import read_leaf
from pykdump_ext.p2m.m2p import MACH2PHYS_VIRT_START
from pykdump_ext.xen.domains import open_xen
from pykdump_ext.xen.hints import hints_from_note
from pykdump_ext.xen.notes import read_crash_note
from tests.lab import matrix as lab_matrix
from tests.lab.broken import DumpFile, copy_of, truncate_list, with_cr3s
from tests.lab.dump import Dump
from tests.lab.guest import MEGABYTES, guest_dump
from tests.lab.packages import Missing
from tests.unit.made_up.domain_core import domain_core

from .sessions import BIN, Crash, Ran

DOM0_PAGES = 179_200  # 700 MiB, as the lab's dom0_mem=
GUEST_PAGES = MEGABYTES << 8


@pytest.fixture(scope="session")
def guest() -> Dump:
    """A dump of a host with a guest of dom0's kernel, which was busy."""
    return guest_dump()


def domains(vmcore: Path) -> list[dict[str, Any]]:
    command: list[str | Path] = [BIN / "p2mfix", "domains", "--json", vmcore]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd="/")
    found = json.loads(done.stdout)
    assert found["problem"] is None
    return list(found["domains"])


def p2mfix(crash: Crash, dump: Dump, commands: list[str], *options: str) -> Ran:
    words: list[str | Path] = [BIN / "p2mfix", *options, dump.vmlinux, dump.vmcore]
    return crash.run(words, [*commands, "quit"])


@pytest.mark.parametrize("kernel", lab_matrix.KERNELS)
def test_dom0_is_found_with_its_pages_and_its_list(kernel: str) -> None:
    try:
        dump = lab_matrix.untouched(kernel)
    except Missing as error:
        pytest.skip(str(error))
    notes = read_crash_note(ElfCore(dump.vmcore).notes)
    assert notes is not None
    (dom0,) = domains(dump.vmcore)
    assert (dom0["id"], dom0["kind"], dom0["pages"]) == (0, "PV", DOM0_PAGES)
    assert dom0["frame_list"] == hex(notes.frame_list_mfn)
    hints = OpenedDump(ElfCore(dump.vmcore)).hints
    assert [root.maddr for root in hints.roots] == list(notes.cr3s)  # none ran another domain


def test_a_guest_is_found(guest: Dump) -> None:
    dom0, one = domains(guest.vmcore)
    assert (dom0["id"], dom0["kind"], dom0["pages"]) == (0, "PV", DOM0_PAGES)
    assert (one["id"], one["kind"], one["pages"]) == (1, "PV", GUEST_PAGES)
    # its builder told it that tools read p2m_vaddr (SIF_VIRT_P2M_4TOOLS), so it keeps no list
    assert one["frame_list"] == "0x0"
    assert one["p2m_cr3"] not in ("0x0", dom0["p2m_cr3"])
    assert one["max_pfn"] >= GUEST_PAGES


def guest_frames(dump: Dump) -> dict[int, int]:
    """Return the mfn of some of the guest's pfns, by Xen's machine-to-phys table alone."""
    xen = open_xen(core := ElfCore(dump.vmcore), core.notes)
    found = {}
    for mfn in range(0, xen.frames.max_page, 509):
        if xen.owner(mfn << PAGE_SHIFT) == 1:
            entry = xen.tables.read(MACH2PHYS_VIRT_START + mfn * 8, 8, "machine-to-phys table")
            found[int.from_bytes(entry, "little")] = mfn
    found.pop(NOT_MAPPED, None)  # shared_info and the like
    return found


def test_a_guests_kernel_opens_in_crash(crash: Crash, guest: Dump) -> None:
    frames = guest_frames(guest)
    assert len(frames) > 40
    commands = ["sys", "log", "p2m verify --all", "p2m status", "p2m undo"]
    commands += ["!env | grep DOMAIN", "extend -u p2mfix.py", "extend p2mfix.py", "p2m mfn 1"]
    commands += [f"rd -p {pfn << PAGE_SHIFT:x} 2" for pfn in frames]
    ran = p2mfix(crash, guest, commands, "--domain", "1")
    assert ran.status == 0
    assert "    NODENAME: guest\n" in ran.text
    assert "Run /init as init process" in ran.text
    assert " on Xen 4.17, domain 1, linear p2m, page tables at " in ran.text
    assert f"p2mfix: its p2m is rebuilt from page tables: {GUEST_PAGES:,} pages; " in ran.text
    assert "PYKDUMP_EXT_DOMAIN" not in ran.text
    assert ran.text.count("its p2m is rebuilt from page tables: ") == 2
    assert "mfn 1: not domain 1's memory\n" in ran.text
    assert f"direct map: agrees on {GUEST_PAGES:,}, disagrees on 0\n" in ran.text
    assert f"machine-to-phys table: agrees on {GUEST_PAGES:,}, disagrees on 0\n" in ran.text
    assert "dump's list: none, the guest has not published one\n" in ran.text
    assert (
        "p2m: nothing to undo: the dump's list is dom0's, and cannot serve domain 1\n" in ran.text
    )
    core = ElfCore(guest.vmcore)
    for pfn, mfn in frames.items():
        data = core.read(mfn << PAGE_SHIFT, 16, "page")
        low, high = (int.from_bytes(data[at : at + 8], "little") for at in (0, 8))
        assert f"{pfn << PAGE_SHIFT:>16x}:  {low:016x} {high:016x} " in ran.text


def test_diagnose_tells_whose_page_tables_a_cpu_was_on(crash: Crash, guest: Dump) -> None:
    # now and then dom0's four vcpus had all cpus when the host crashed
    cpus = domains(guest.vmcore)[1]["cpus"]
    ran = crash.run([BIN / "p2mfix", "diagnose", guest.vmcore, guest.vmlinux])
    told = [line for line in ran.text.splitlines() if "domain 1" in line]
    assert [re.findall(r"cpu (\d): ", line) for line in told] == [[str(cpu)] for cpu in cpus], (
        ran.text
    )
    assert len(re.findall(r"cpu \d: [0-9a-f]+, ", ran.text)) == 4
    assert "of 179,200 pages" in ran.text


def test_a_guest_of_a_compressed_dump(crash: Crash, guest: Dump, tmp_path: Path) -> None:
    """makedumpfile -X would leave no guest in it."""
    packed = tmp_path / "packed"
    command: list[str | Path] = ["makedumpfile", "-c", "-x", guest.vmlinux, guest.vmcore, packed]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    ran = p2mfix(crash, Dump(guest.vmlinux, packed), ["sys", "p2m verify"], "--domain", "1")
    assert ran.status == 0
    assert "    NODENAME: guest\n" in ran.text
    assert f"machine-to-phys table: agrees on {GUEST_PAGES:,}, disagrees on 0\n" in ran.text
    assert domains(packed) == domains(guest.vmcore)


def test_a_guests_processes(crash: Crash, guest: Dump) -> None:
    ran = p2mfix(crash, guest, ["foreach sleep bt", "foreach sh files"], "--domain", "1", "-s")
    assert ran.status == 0, ran.text
    assert "__x64_sys_clock_nanosleep" in ran.text
    assert "/dev/console\n" in ran.text


def test_dom0_is_opened_though_every_cpu_ran_a_guest_of_the_same_kernel(
    crash: Crash, guest: Dump, tmp_path: Path
) -> None:
    copy = Dump(guest.vmlinux, copy_of(guest, tmp_path))
    truncate_list(guest, copy.vmcore)
    one = domains(copy.vmcore)[1]
    DumpFile(copy.vmcore).edit_notes(with_cr3s(int(one["p2m_cr3"], 16)))

    # the banner alone takes the guest for dom0
    core, namelist = ElfCore(copy.vmcore), Namelist(copy.vmlinux)
    note = read_crash_note(core.notes)
    assert note is not None
    hints = hints_from_note(note)
    assert diagnose(core, namelist, namelist.banner(), hints).coverage.memory == GUEST_PAGES

    ran = p2mfix(crash, copy, ["sys", "p2m status"])
    assert ran.status == 0
    assert "    NODENAME: lab\n" in ran.text
    assert f"rebuilt list: {DOM0_PAGES:,} pages" in ran.text
    copy.vmcore.unlink()


@pytest.mark.parametrize(
    ("domain", "said"),
    [
        ("2", "the Xen host has no domain 2; it has 0, 1\n"),
        ("-1", "the Xen host has no domain -1; it has 0, 1\n"),
    ],
)
def test_a_domain_that_is_not_there(crash: Crash, guest: Dump, domain: str, said: str) -> None:
    ran = p2mfix(crash, guest, [], "--domain", domain)
    assert (ran.status, ran.text) == (1, f"p2mfix: {said}")


def test_the_dump_of_one_domain_is_opened_by_plain_crash(crash: Crash, guest: Dump) -> None:
    """A file as ``xl dump-core`` writes it, made of the guest's memory."""
    opened = OpenedDump(ElfCore(guest.vmcore), [Namelist(guest.vmlinux)], domain=1)
    found, pages = opened.diagnosis, {}
    for index, leaf in found.table.own_leaves():
        entries = array("Q", read_leaf(opened.dump, leaf))
        for pfn, entry in enumerate(entries, index * len(entries)):
            if kind_of(entry) is Kind.MEMORY:
                pages[pfn] = (entry, opened.dump.read(entry << PAGE_SHIFT, PAGE_SIZE, "page"))
    assert len(pages) == GUEST_PAGES
    core = crash.folder / "guest.core"
    core.write_bytes(domain_core(pages, root=found.kernel.root.maddr))
    told = json.loads(crash.run([BIN / "p2mfix", "diagnose", core, "--json"]).text)
    assert told["verdict"] == "the dump of one domain, a PV guest, made by xl dump-core"
    program, placeholder, path = shlex.split(told["next"])
    assert (program, placeholder, path) == ("crash", "VMLINUX", str(core))
    ran = crash.run([BIN / "p2mfix", guest.vmlinux, path, "-s"], ["sys", "quit"])  # as it is
    assert ran.status == 0 and "    NODENAME: guest\n" in ran.text
    core.unlink()


def test_a_dump_without_xens_notes_has_no_domains(crash: Crash, not_xen: Dump) -> None:
    ran = p2mfix(crash, not_xen, [], "--domain", "1")
    assert (ran.status, ran.text) == (1, f"p2mfix: {not_xen.vmcore}: not a dump of a Xen host\n")
    ran = crash.run([BIN / "p2mfix", "domains", not_xen.vmcore])
    assert (ran.status, ran.text) == (1, f"p2mfix: {not_xen.vmcore}: not a dump of a Xen host\n")
