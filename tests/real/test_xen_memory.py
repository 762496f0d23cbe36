# SPDX-License-Identifier: GPL-3.0-or-later
"""Xen's memory in real dumps: its console, what its cpus ran, its version, which of the two died.

The serial console of each boot has what Xen printed, line by line.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from uuid import UUID

import drgn
import pytest
from drgn.helpers.linux.percpu import per_cpu

from pykdump_ext.errors import P2mError
from pykdump_ext.linux.namelist import Namelist
from pykdump_ext.machine.dumps import Dump as OpenDump
from pykdump_ext.machine.dumps import open_dump
from pykdump_ext.xen.console import Console, read_console
from pykdump_ext.xen.death import ASKED, who_died
from pykdump_ext.xen.domains import Xen, open_xen
from pykdump_ext.xen.event_channels import STATES, find_channels
from pykdump_ext.xen.grants import GrantTables, read_grants
from pykdump_ext.xen.handles import find_uuids
from pykdump_ext.xen.pcpus import IDLE, HostCpus, read_cpus
from pykdump_ext.xen.symbols import XenSymbols
from pykdump_ext.xen.version import read_version
from pykdump_ext.xen.vmcoreinfo import read_vmcoreinfo
from tests.lab import matrix as lab_matrix
from tests.lab.dump import Dump
from tests.lab.guest import guest_dump
from tests.lab.packages import Missing
from tests.lab.planted import planted
from tests.lab.xen_crash import RING, xen_crash

from .conftest import Packed

CPUS = 4  # of the lab's machine


class Found:
    """What is found of Xen in a dump."""

    def __init__(self, vmcore: Path) -> None:
        self.core: OpenDump = open_dump([str(vmcore)])
        self.xen: Xen = open_xen(self.core, self.core.notes)
        self.console: Console = read_console(self.xen)
        self.host: HostCpus = read_cpus(self.xen, self.core.notes)
        self.death = who_died(self.console.lines, self.host)

    @property
    def ran(self) -> list[tuple[int, int]]:
        """The domain and the number of the vcpu that each cpu ran."""
        return [(cpu.vcpu.domain, cpu.vcpu.number) for cpu in self.host.cpus if cpu.vcpu]


def printed(vmcore: Path) -> list[str]:
    """Return what Xen printed on the serial console, line by line."""
    text = (vmcore.parent / "console.log").read_bytes().decode(errors="replace")
    lines = (re.sub("\r+$", "", line) for line in text.split("\n"))
    return [line for line in lines if line.startswith("(XEN) ")]


def check_cpus(found: Found) -> None:
    """What is said of cpus and vcpus agrees with itself."""
    assert found.host.problems == ()
    assert len(found.ran) == len(found.host.cpus) == CPUS
    vcpus = {(vcpu.domain, vcpu.number): vcpu for vcpu in found.host.vcpus}
    assert [number for domain, number in vcpus if domain == 0] == [*range(CPUS)]
    # Xen's list of domains lacks the idle one, which is found where a cpu ran it
    idle = [*range(CPUS)] if IDLE in dict(found.ran) else []
    assert [number for domain, number in vcpus if domain == IDLE] == idle
    for cpu in found.host.cpus:
        assert cpu.vcpu is not None and cpu.vcpu.processor == cpu.vcpu.cpu == cpu.number
        assert cpu.vcpu == vcpus[cpu.vcpu.domain, cpu.vcpu.number]
        assert cpu.xen.rip >> 32 == 0xFFFF82D0  # Xen's text
        assert (cpu.registers is None) == (cpu.vcpu.domain == IDLE)
    for vcpu in vcpus.values():
        assert vcpu.runstate is not None
        assert (vcpu.runstate.state == "running") == (vcpu.cpu is not None)
        if vcpu.domain == IDLE:  # Xen counts from its start, and nothing is lost
            assert sum(vcpu.runstate.times) == vcpu.runstate.since


def check_dom0_died(found: Found, dump: Dump) -> None:
    """dom0 called Xen to crash the host, and both Xen's console and its registers say so."""
    assert found.death.died == who_died((), found.host).died == "dom0"
    (cpu,) = [c for c in found.host.cpus if c.registers and c.registers.crashed]
    assert cpu.vcpu is not None and cpu.vcpu.domain == cpu.owner == 0
    start = Namelist(dump.vmlinux).address("_text") or 0
    assert cpu.registers is not None and 0 < cpu.registers.rip - start < 1 << 26


def test_xen_in_the_dump_of_a_dom0_that_crashed(untouched: Dump, truncated: Dump) -> None:
    found = Found(untouched.vmcore)
    assert [*found.console.lines] == printed(untouched.vmcore)
    assert re.search(r"was found by its text, its end by its counters$", found.console.found)
    assert (found.console.size, found.console.wrapped) == (16 << 10, False)
    check_cpus(found)
    check_dom0_died(found, untouched)
    crashed = re.search(r"Executing kexec image on cpu(\d)", "\n".join(found.console.lines))
    assert crashed is not None and found.ran[int(crashed[1])][0] == 0
    version = read_version(found.core, found.core.notes, found.xen, found.console.lines)
    assert version.banner is not None
    assert version.banner.startswith(f"Xen version {version.version} ")
    assert version.compiler is not None and f"({version.compiler})" in version.banner
    assert version.built is not None and version.banner.endswith(version.built)
    assert version.taints == ("synchronous console",)
    assert find_uuids(found.xen, [*found.xen.domains()]) == {0: UUID(int=0)}

    same = Found(truncated.vmcore)
    assert (same.console, same.host) == (found.console, found.host)


def test_the_time_in_each_state_is_what_dom0s_kernel_has(
    prog: drgn.Program, truncated: Dump
) -> None:
    """Xen copies a vcpu's runstate to where its kernel wants it, when it lets the vcpu run."""
    found = Found(truncated.vmcore).host
    equal = set()
    for vcpu in (vcpu for vcpu in found.vcpus if vcpu.domain == 0):
        kernels = per_cpu(prog["xen_runstate"], vcpu.number)
        assert vcpu.runstate is not None
        times = tuple(time.value_() for time in kernels.time)
        if kernels.state_entry_time.value_() == vcpu.runstate.since:
            assert times == vcpu.runstate.times
            equal.add(vcpu.number)
        else:
            assert all(ours >= theirs for ours, theirs in zip(vcpu.runstate.times, times))
    (caller,) = [
        c.vcpu.number for c in found.cpus if c.vcpu and c.registers and c.registers.crashed
    ]
    assert caller in equal
    # the kernel read Xen's clock a moment before the crash
    clock = prog["tk_core"].timekeeper.tkr_mono
    assert clock.clock.name.string_() == b"xen"
    assert found.last_change is not None
    assert abs(found.last_change - clock.cycle_last.value_()) < 5 * 10**9


def test_xens_build_id_is_that_of_the_xen_that_booted(untouched: Dump, tmp_path: Path) -> None:
    found = Found(untouched.vmcore)
    image = tmp_path / "xen"
    image.write_bytes(lab_matrix.source(lab_matrix.MAIN).xen())
    notes = subprocess.run(["readelf", "-n", image], capture_output=True, text=True, check=True)
    version = read_version(found.core, found.core.notes, found.xen)
    assert f"Build ID: {version.build_id}\n" in notes.stdout


@pytest.mark.thorough
@pytest.mark.parametrize("kernel", lab_matrix.KERNELS)
def test_each_xen_and_kernel_of_the_matrix(kernel: str) -> None:
    try:
        dump = lab_matrix.untouched(kernel)
    except Missing as error:
        pytest.skip(str(error))
    found = Found(dump.vmcore)
    assert [*found.console.lines] == printed(dump.vmcore)
    check_cpus(found)
    check_dom0_died(found, dump)
    (dom0,) = domains = [*found.xen.domains()]
    assert find_uuids(found.xen, domains) == {0: UUID(int=0)}
    timers = [one for one in find_channels(found.xen, domains, [])[0] if one.virq == 0]
    assert len(timers) == CPUS  # each vcpu has one: VIRQ_TIMER
    notes: list[str] = []
    frames = GrantTables(found.xen).frames(dom0, found.xen.owned(domains)[0], notes)
    assert frames and read_grants(found.core, frames) == {} and not notes


@pytest.mark.thorough
def test_a_host_with_a_guest() -> None:
    dump = guest_dump()
    found = Found(dump.vmcore)
    assert [*found.console.lines] == printed(dump.vmcore)
    check_cpus(found)
    check_dom0_died(found, dump)
    assert (1, 0) in found.ran  # the guest is busy
    (cpu,) = [cpu for cpu in found.host.cpus if cpu.vcpu and cpu.vcpu.domain == 1]
    assert cpu.owner == 1
    uuids = find_uuids(found.xen, [*found.xen.domains()])
    assert uuids == {0: UUID(int=0), 1: UUID(bytes=b"\1" + bytes(15))}  # as guest.c gives it


@pytest.mark.thorough
def test_dumps_that_others_were_made_of(packed: Packed, untouched: Dump) -> None:
    found = Found(untouched.vmcore)
    for dump in (*planted(untouched, "three-level"), packed(untouched, "-c")):
        same = Found(dump.vmcore)
        assert (same.console.lines, same.host.vcpus) == (found.console.lines, found.host.vcpus)


@pytest.mark.thorough
def test_a_crash_of_xen_itself_with_dom0_alive() -> None:
    dump = xen_crash()
    found = Found(dump.vmcore)
    text = "".join(f"{line}\n" for line in printed(dump.vmcore))
    assert len(text) > RING  # so that the ring has wrapped
    assert [*found.console.lines] == text[-RING:].removesuffix("\n").split("\n")
    assert found.console.wrapped and "older lines were overwritten" in found.console.found
    assert found.death.died == ASKED and found.death.vcpu is None
    assert who_died((), found.host).died is None
    check_cpus(found)
    # what Xen's key q printed a moment before
    told = re.findall(r"nr_pages=(\d+) .*\n.*handle=([\w-]+) ", text)[-1]
    (dom0,) = found.xen.domains()
    assert found.xen.owned([dom0])[0].pages == int(told[0])
    assert find_uuids(found.xen, [dom0]) == {0: UUID(told[1])}
    # and its key e
    listed = re.findall(r"(?m)^\(XEN\) +(\d+) \[.*\]: s=(\d) ", text.rpartition("port [p/m/s]")[2])
    channels = find_channels(found.xen, [dom0], [])[0]
    assert {str(one.port): str(STATES.index(one.state)) for one in channels} == dict(listed)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["xen-syms-*amd64", "xen-syms-*.map"])
def test_xens_symbols_lead_to_the_same_lines(untouched: Dump, name: str) -> None:
    parts = lab_matrix.source(lab_matrix.MAIN)
    folder = parts.xens.unpacked(f"{parts.hypervisor()}-dbg", "usr/lib/debug/boot/*")
    for dump in (untouched, xen_crash()):
        core = open_dump([str(dump.vmcore)])
        xen = open_xen(core, core.notes)
        (path,) = folder.glob(f"**/{name}")
        console = read_console(xen, XenSymbols(path, read_vmcoreinfo(core.notes)))
        assert console.lines == read_console(xen).lines
        assert "was found by its symbols, its end by conringp" in console.found
        (other,) = folder.glob("**/xen-*.efi.map")
        with pytest.raises(P2mError, match=r"is not the xen-syms or the map of this dump's Xen"):
            XenSymbols(other, read_vmcoreinfo(core.notes))
