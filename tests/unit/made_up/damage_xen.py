# SPDX-License-Identifier: GPL-3.0-or-later
"""Xen hosts that are damaged as some bytes tell: Xen's memory, its notes, its frame table."""

from __future__ import annotations

import io
import struct
from argparse import Namespace
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from dataclasses import replace
from functools import cache
from typing import Any
from unittest.mock import patch

from pykdump_ext.cli import domains as cli
from pykdump_ext.errors import P2mError
from pykdump_ext.machine.memory import PageMemory
from pykdump_ext.machine.notes import Note
from pykdump_ext.opened import OpenedDump
from pykdump_ext.xen.console import read_console
from pykdump_ext.xen.event_channels import find_channels
from pykdump_ext.xen.grants import Grants, GrantTables, read_grants
from pykdump_ext.xen.handles import find_uuids
from pykdump_ext.xen.pcpus import read_cpus
from pykdump_ext.xen.vcpus import FLAT_CS, FLAT_SS, NT_PRSTATUS, PR_REG, RSP
from pykdump_ext.xen.version import read_version
from pykdump_ext.xen.vmcoreinfo import XEN_VMCOREINFO

from .channels import AT as CHANNELS_AT
from .channels import IPI, VIRQ, bucket, interdomain
from .damage import STROKE, Target, struck
from .dump import MadeUpDump, MadeUpNamelist
from .grants import grant_table
from .guest import Guest
from .host import TABLE_MFN, Host, dom0_on_host
from .machine import PAGE
from .ring import Ring

XEN_PARTS = (
    "domains", "variables", "frame table", "page tables", "vcpus", "console", "channels and grants",
    "everything",
)  # fmt: skip
STACK_PAGES = 8


def add_vcpus(host: Host, count: int = 2) -> list[int]:
    """Give dom0 vcpus, as many cpus a stack with its registers; return their mfns."""
    machine, domain = host.machine, host.domains[0]
    array = machine.frame()
    machine.put(domain, 8, host.direct(array))
    used = [array]
    registers = [*range(17), FLAT_CS, 0x202, 0xFFFFC90000000100, FLAT_SS]
    for number in range(count):
        vcpu = machine.frame()
        machine.put(array, number, host.direct(vcpu))
        words = [number, host.direct(domain), *range(20), *registers]
        machine.pages[vcpu][: len(words) * 8] = struct.pack(f"<{len(words)}Q", *words)
        stack = machine.frame()
        while stack % STACK_PAGES != STACK_PAGES - 1:
            stack = machine.frame()
        behind = [0, host.direct(vcpu) if number == 0 else 0, 0]
        words = [*registers, *behind]
        at = PAGE - 256
        machine.pages[stack][at : at + len(words) * 8] = struct.pack(f"<{len(words)}Q", *words)
        used += [vcpu, stack]
    return used


def add_channels_and_grants(host: Host) -> list[int]:
    """Give dom0 and domain 1 event channels and grant tables; return the mfns of all this."""
    before = {*host.machine.pages}
    for number, mfn in enumerate(host.domains):
        made = {1: (VIRQ, b""), 2: (IPI, b""), 5: interdomain(host, 1 - number, 5)}
        host.machine.put(mfn, CHANNELS_AT, bucket(host, 0, made))
        grant_table(host, number, [(0x19, 1 - number), (1, 1 - number)])
    return [mfn for mfn in host.machine.pages if mfn not in before]


@cache
def damaged_host(part: str) -> tuple[Target, Host, Guest, list[Note]]:
    """Return a host of which a part is to be damaged, its dom0, and its notes."""
    host, dom0, guest = dom0_on_host()
    vcpus = add_vcpus(host)
    ring = Ring(host)
    ring.write(b"(XEN) Brought up 2 CPUs\n" * 900)
    ring.plant()
    used = add_channels_and_grants(host)
    host.cr3s = [host.xen.root * PAGE, host.xen.root * PAGE, guest.root, dom0.root]
    host.memory()
    stacks = [host.direct(mfn) for mfn in vcpus if mfn % STACK_PAGES == STACK_PAGES - 1]
    notes = [
        Note("CORE", NT_PRSTATUS, bytes(PR_REG + RSP * 8) + stack.to_bytes(8, "little") + bytes(16))
        for stack in stacks
    ]
    mfns = {
        "domains": host.domains,
        "variables": [host.variables],
        "frame table": [mfn for mfn in host.machine.pages if mfn >= TABLE_MFN],
        "page tables": [*host.xen.tables, *guest.space.tables],
        "vcpus": vcpus,
        "console": [host.variables, *ring.mfns],
        "channels and grants": [*host.domains, *used],
        "everything": list(host.machine.pages),
    }[part]
    there = [mfn for mfn in mfns if mfn in host.machine.pages]
    return Target.of(dom0, there or host.domains), host, dom0, [*notes, *host.notes()]


def edited(text: bytes, strokes: bytes) -> bytes:
    """Return the text of a vmcoreinfo with some values replaced, some bytes changed."""
    for what, size, place, value in STROKE.iter_unpack(
        strokes[: len(strokes) // STROKE.size * STROKE.size]
    ):
        lines = text.rstrip(b"\0").split(b"\n")
        name, is_value, _ = lines[place % len(lines)].partition(b"=")
        if what % 4 == 0 or not is_value:
            text = struck(text, STROKE.pack(what, size, place, value), len(text))
            continue
        number = [value % 4096, value << size % 40, 8 * (value % 64)][what % 4 - 1]
        lines[place % len(lines)] = (
            name + (b"=%x" if name.startswith(b"SYMBOL") else b"=%d") % number
        )
        text = b"\n".join(lines)
    return text


def _look(work: Callable[[], Any]) -> None:
    try:
        work()
    except P2mError as error:
        assert str(error)


def find_grants(opened: OpenedDump) -> list[dict[int, Grants]]:
    """Return what each domain grants."""
    xen, tables, domains = opened.xen, GrantTables(opened.xen), opened.domains
    owned = xen.owned(domains)
    frames = [tables.frames(domain, owned[domain.id], []) for domain in domains]
    return [read_grants(xen.memory, mfns) for mfns in frames]


def look_at_host(part: str, strokes: bytes, text: bytes) -> None:
    """Do all there is to do with a host; any answer is right, or a P2mError."""
    target, _, dom0, notes = damaged_host(part)
    memory: PageMemory = target.damaged(strokes)
    notes = [
        replace(one, data=edited(one.data, text)) if one.owner == XEN_VMCOREINFO else one
        for one in notes
    ]
    dump = MadeUpDump(memory, notes)
    for domain in (0, 1):
        opened = OpenedDump(dump, [MadeUpNamelist.of(dom0)], ["vmcore"], domain)
        _look(lambda: opened.hints)  # noqa: B023
        _look(lambda: opened.diagnosis)  # noqa: B023
        _look(lambda: opened.diagnosis_without_namelist)  # noqa: B023
        _look(lambda: opened.vcpus)  # noqa: B023
    _look(lambda: read_version(memory, notes, opened.xen))
    _look(lambda: read_console(opened.xen))
    _look(lambda: read_cpus(opened.xen, notes))
    _look(lambda: find_uuids(opened.xen, opened.domains))
    _look(lambda: find_channels(opened.xen, opened.domains, []))
    _look(lambda: find_grants(opened))
    with redirect_stdout(io.StringIO()), patch.object(cli, "open_one", lambda paths: opened):
        for json in (False, True):
            _look(lambda: cli.run(Namespace(files=["vmcore"], json=json)))  # noqa: B023
    with suppress(P2mError):
        frames = opened.xen.frames
        for mfn in (0, 1, 0x1000, 1 << 40):
            assert frames.unused(mfn, 3) in (True, False)
            frames.entry_of(mfn)
