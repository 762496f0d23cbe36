# SPDX-License-Identifier: GPL-3.0-or-later
"""Domains with backend devices, compared with what dom0 and Xen printed before the crash."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import drgn
import pytest

from pykdump_ext.drgn.backends import backends as devices
from pykdump_ext.drgn.backends import handlers
from pykdump_ext.drgn.guests import guest_names
from pykdump_ext.drgn.prog import open_program
from pykdump_ext.drgn.xenstore import find_store
from pykdump_ext.linux.namelist import Namelist
from pykdump_ext.machine.dumps import open_dump
from pykdump_ext.opened import OpenedDump
from pykdump_ext.parts.blocks import Table
from pykdump_ext.parts.case import Case
from pykdump_ext.parts.domains import Domains
from pykdump_ext.parts.part import run
from pykdump_ext.xen.event_channels import STATES, find_channels
from tests.lab.backends import GUESTS, backends
from tests.lab.failures import console_of
from tests.lab.matrix import MAIN, source

from .sessions import BIN, Crash

pytestmark = pytest.mark.thorough

XENBUS_STATES = ("Unknown", "Initialising", "InitWait", "Initialised", "Connected")
NAMES = {number: guest.name for number, guest in GUESTS.items()}
# of Linux 6.1; struct xenbus_watch between has 48 bytes
TYPES = """
struct backend_info { void *dev, *blkif; char watch[48]; unsigned major, minor; char *mode; } it;
"""


@pytest.fixture(scope="module")
def opened() -> OpenedDump:
    dump = backends()
    return OpenedDump(open_dump([str(dump.vmcore)]), [Namelist(dump.vmlinux)], [str(dump.vmcore)])


@pytest.fixture(scope="module")
def prog(opened: OpenedDump) -> drgn.Program:
    return open_program(opened)


@pytest.fixture(scope="module")
def console() -> str:
    return console_of(backends())


@pytest.fixture(scope="module")
def stored(console: str) -> dict[str, str]:
    """The store's nodes below dom0's backends, as ``xenstore ls`` printed them."""
    found = re.findall(r'(?m)^lab: store: /local/domain/0/(\S+) = "(.*)"', console)
    assert found
    return dict(found)


@pytest.fixture(scope="module")
def tables(opened: OpenedDump, prog: drgn.Program) -> dict[str, list[dict[str, Any]]]:
    """The report's tables by title."""
    found = run(Domains(), Case(opened, program=lambda: prog), None)
    assert (found.problem, found.notes) == (None, [])
    return {
        block.title: [dict(zip(block.columns, row)) for row in block.rows]
        for block in found.blocks
        if isinstance(block, Table)
    }


def test_backend_devices_are_those_of_the_store_and_of_sysfs(
    prog: drgn.Program, console: str, stored: dict[str, str]
) -> None:
    found = {device.node: device for device in devices(prog, [])}
    nodes = {node.removesuffix("/frontend-id") for node in stored if node.endswith("frontend-id")}
    assert found.keys() == nodes
    listed = re.findall(r"(?m)^lab: xen-backend: (\S+)", console)
    assert sorted(device.device for device in found.values()) == sorted(listed)
    for node, device in found.items():
        assert device.domain == int(stored[f"{node}/frontend-id"])
        if device.driver is None:  # xenconsoled serves it
            assert (device.state, "console" in node) == (None, True)
        else:
            assert device.state == XENBUS_STATES[int(stored[f"{node}/state"])]
            assert device.driver == node.split("/")[1]
    assert {device.state for device in found.values()} == {"Connected", "InitWait", None}
    assert found["backend/vif/1/0"].serves == "vif1.0 (up)"


def test_what_disks_serve_is_what_was_configured(
    tables: dict[str, list[dict[str, Any]]], stored: dict[str, str]
) -> None:
    rows = [row for row in tables["Backend devices of dom0"] if row["driver"] == "vbd"]
    assert (
        [row["serves"] for row in rows]
        == [stored[f"backend/vbd/{row['domain']}/51712/params"] for row in rows]
        == [guest.disk for guest in GUESTS.values()]
    )


@pytest.fixture(scope="module")
def blkback(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The module with debug information that is made here: its own is in a package of a GB."""
    folder = tmp_path_factory.mktemp("blkback")
    plain = source(MAIN).module("xen-blkback")
    assert plain
    (folder / "plain.ko").write_bytes(plain)
    (folder / "xen-blkback").mkdir()
    (folder / "xen-blkback/xenbus.c").write_text(TYPES)
    command = ["cc", "-g", "-c", "xen-blkback/xenbus.c", "-o", "types.o"]
    subprocess.run(command, cwd=folder, check=True)
    made = folder / "xen-blkback.ko"
    subprocess.run(["ld", "-r", "-o", made, "plain.ko", "types.o"], cwd=folder, check=True)
    return made


@pytest.fixture(scope="module")
def open_disks(console: str) -> dict[str, str]:
    """What blkback has open, by device, as sysfs had it."""
    shown = dict(re.findall(r"(?m)^lab: sys: \S+/(vbd\S+?/\w+):(\S+)", console))
    return {
        f"vbd-{number}-51712": f"{Path(guest.disk).name}"
        f" ({shown[f'vbd-{number}-51712/physical_device']},"
        f" mode {shown[f'vbd-{number}-51712/mode']})"
        for number, guest in GUESTS.items()
    }


def test_the_disk_that_blkback_has_open_is_that_of_sysfs(
    opened: OpenedDump, blkback: Path, open_disks: dict[str, str]
) -> None:
    prog = open_program(opened)
    (module,) = (found for found, _ in prog.loaded_modules() if found.name == "xen_blkback")
    module.try_file(blkback)
    found = {device.device: device.serves for device in devices(prog, []) if device.driver == "vbd"}
    assert found == open_disks


def test_a_session_has_the_modules_that_were_loaded_since(
    crash: Crash, blkback: Path, open_disks: dict[str, str]
) -> None:
    dump = backends()
    commands = ["extend report.py", "xendomains", f"mod -s xen_blkback {blkback}", "xendomains > b"]
    ran = crash.run([BIN / "p2mfix", dump.vmlinux, dump.vmcore, "-s"], [*commands, "quit"])
    assert ran.status == 0 and all(guest.disk in ran.text for guest in GUESTS.values())
    found = re.findall(r"(?m)^ +\d  (vbd-\S+) +\w+ +vbd +(.*)$", (crash.folder / "b").read_text())
    assert dict(found) == open_disks


def test_guests_have_their_names_and_uuids(
    prog: drgn.Program, tables: dict[str, list[dict[str, Any]]]
) -> None:
    rows = {row["domain"]: row for row in tables["Domains by id"]}
    assert {number: (rows[number]["name"], rows[number]["UUID"]) for number in GUESTS} == {
        number: (guest.name, guest.uuid) for number, guest in GUESTS.items()
    }
    assert guest_names(prog, GUESTS, []) == NAMES  # what stands in for a device model and a daemon


def test_the_whole_store_is_read_as_it_was_listed(
    prog: drgn.Program, stored: dict[str, str]
) -> None:
    store = find_store(prog)
    assert store
    assert {
        path: (store.value(f"/local/domain/0/{path}") or b"").decode() for path in stored
    } == stored


def test_event_channels_are_those_that_xen_printed(opened: OpenedDump, console: str) -> None:
    found = find_channels(opened.xen, opened.domains, [])
    parts = re.split(r"Event channel information for domain (\d+):", console)[1:]
    printed = {
        int(number): {
            int(port): (STATES[int(state)], other and int(other), virq and int(virq))
            for port, state, other, virq in re.findall(
                r"(?m)^\(XEN\) +(\d+) \[.*?\]: s=(\d).* x=0(?: d=(\d+).*)?(?: v=(\d+))?", text
            )
        }
        for number, text in zip(parts[::2], parts[1::2])
    }
    assert found.keys() == printed.keys() == {0, *GUESTS}
    for number, channels in found.items():
        assert {
            one.port: (
                one.state,
                "" if one.remote is None else one.remote,
                "" if one.virq is None else one.virq,
            )
            for one in channels
        } == printed[number]


def test_what_handles_channels_is_what_proc_interrupts_had(
    prog: drgn.Program, console: str, tables: dict[str, list[dict[str, Any]]]
) -> None:
    shown = Counter(re.findall(r"(?m)^lab: interrupts: .* xen-dyn\S* +-event +(\S+)", console))
    shown += Counter(re.findall(r"(?m)^lab: interrupts: .* xen-percpu\S* +-\w+ +(\S+)", console))
    assert len(shown) > 20
    assert not shown - Counter(handlers(prog, []).values())
    between = {row["with"]: row for row in tables["Event channels between domains"]}
    assert [between[number]["channels"] for number in (1, 2)] == [5, 2]
    assert between[1]["handled in dom0 by"] == (
        "evtchn:xenstored, evtchn:xenconsoled, blkif-backend, vif1.0-q0-tx, vif1.0-q0-rx"
    )


def test_grants_in_use_are_those_that_xen_printed(
    tables: dict[str, list[dict[str, Any]]], console: str
) -> None:
    parts = re.split(r"grant-table for remote d(\d+) \(v1\)", console)[1:]
    printed = {
        int(number): len(re.findall(r"(?m)^\(XEN\) \[0x\w+\] +0 ", text))
        for number, text in zip(parts[::2], parts[1::2])
    }
    assert printed.pop(0) == 0  # dom0 grants nothing
    rows = tables["Grants"]
    assert {row["domain"]: row["in use"] for row in rows} == printed
    assert all(row["to"] == 0 and row["pages"] >= row["in use"] > 0 for row in rows)
