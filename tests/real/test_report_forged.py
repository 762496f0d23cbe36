# SPDX-License-Identifier: GPL-3.0-or-later
"""``p2mfix report`` on dumps with forged values: it ends in time, in little memory, with sentences.

What is not forged stays: one bad task takes no other with it. The values are written into a copy
of a real dump at addresses that drgn finds in the untouched one.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import drgn
import pytest
from drgn.helpers.linux.cpumask import for_each_present_cpu
from drgn.helpers.linux.list import list_empty, list_for_each_entry
from drgn.helpers.linux.percpu import per_cpu_ptr
from drgn.helpers.linux.pid import find_pid, find_task, for_each_task
from drgn.helpers.linux.sched import cpu_rq, task_state_to_char
from drgn.helpers.linux.slab import for_each_slab_cache

from pykdump_ext.machine.elf import ElfCore
from pykdump_ext.opened import OpenedDump
from pykdump_ext.p2m.diagnosis import Diagnosis
from pykdump_ext.xen.console import read_console
from tests.lab.broken import DumpFile, copy_of, diagnosis
from tests.lab.dump import Dump

from .sessions import BIN
from .test_fuzz import some_word

SECONDS = 150  # of the processor; a part has 30, and the report has nine
MEMORY = 2 << 30  # bytes; a report of the whole dump takes 0.4 GiB
GARBAGE = 0x4141414141414141
NOWHERE = 0xFFFF888FFFFFF000  # in the direct map, behind the end of memory


class Forger:
    """Writes values into a copy of a dump, where objects of drgn are."""

    def __init__(self, file: DumpFile, prog: drgn.Program, found: Diagnosis) -> None:
        self.file, self.prog, self.found = file, prog, found

    def bytes(self, place: drgn.Object | int, data: bytes) -> None:
        address = place if isinstance(place, int) else place.address_
        assert address is not None
        self.file.write(self.found.kernel.tables.translate(address), data)

    def word(self, place: drgn.Object | int, value: int, size: int = 8) -> None:
        self.bytes(place, (value & (1 << size * 8) - 1).to_bytes(size, "little"))

    def sleepers(self) -> list[drgn.Object]:
        """Tasks whose stacks are as those of blocked ones."""
        return [task for task in for_each_task(self.prog) if task_state_to_char(task) == "S"]

    def block(self, tasks: list[drgn.Object]) -> None:
        for task in tasks:
            self.word(task.member_("__state"), 2, 4)  # TASK_UNINTERRUPTIBLE


Report = dict[str, Any]
Forgery = Callable[[Forger], Callable[[Report], None]]


def titles(report: Report, part: str) -> str:
    blocks = part_of(report, part)["blocks"]
    return " ".join(block.get("title", "") for block in blocks)


def part_of(report: Report, name: str) -> dict[str, Any]:
    return next(part for part in report["parts"] if part["name"] == name)


def notes(report: Report, part: str) -> str:
    return " ".join(part_of(report, part)["notes"])


def bad_tasks(forger: Forger) -> Callable[[Report], None]:
    """Of four blocked tasks, one has no stack, one no name, and one is not where its PID leads."""
    sound, stack, name, lost = forger.sleepers()[:4]
    forger.block([sound, stack, name, lost])
    forger.word(stack.thread.sp, GARBAGE)
    forger.bytes(name.comm, b"\x1b[2J<script>\xff\xfe\x00")
    pid = lost.pid.value_()
    forger.word(find_pid(forger.prog, pid).tasks[0].first, NOWHERE)
    pids = [task.pid.value_() for task in (sound, stack, name, lost)]

    def check(report: Report) -> None:
        shown = titles(report, "tasks")
        assert all(f"({number})" in shown for number in pids)
        assert r"\x1b[2J<script>" in shown
        facts = next(b["facts"] for b in part_of(report, "tasks")["blocks"] if b["kind"] == "facts")
        assert facts["blocked (D)"] == 4
        assert facts["tasks"] == len([*for_each_task(forger.prog)])

    return check


def bad_tree_of_pids(forger: Forger) -> Callable[[Report], None]:
    """A node of the tree of PIDs leads nowhere: the list of processes has the tasks."""
    tree = forger.prog["init_pid_ns"].idr.idr_rt.xa_head
    forger.word(tree, NOWHERE | 2)

    def check(report: Report) -> None:
        facts = next(b["facts"] for b in part_of(report, "tasks")["blocks"] if b["kind"] == "facts")
        assert facts["tasks"] == len([*for_each_task(forger.prog)])
        assert "PIDs: not all were found" in notes(report, "tasks")

    return check


def bad_slabs(forger: Forger) -> Callable[[Report], None]:
    """A slab cache has a name nowhere, another a list of slabs that comes back to itself."""
    caches = [*for_each_slab_cache(forger.prog)]
    forger.word(caches[3].name.address_of_().value_(), NOWHERE)
    circle = next(one for one in caches if not list_empty(one.node[0].partial.address_of_()))
    first = circle.node[0].partial.next
    forger.word(first.next.address_of_().value_(), first.value_())  # it comes back to itself
    forger.word(
        caches[-3].member_("list").next.address_of_().value_(),
        caches[5].member_("list").address_of_().value_(),
    )

    def check(report: Report) -> None:
        tables = [b for b in part_of(report, "memory")["blocks"] if b["kind"] == "table"]
        names = [row["name"] for row in tables[0]["rows"]]
        assert len(names) == 15 and "inode_cache" in names
        said = notes(report, "memory")
        assert f"the slab cache at {caches[3].value_():x}: FaultError" in said
        assert f"the slab cache at {circle.value_():x}: ValidationError" in said
        assert "slab caches: the list is damaged: it comes back to" in said

    return check


def bad_workqueues(forger: Forger) -> Callable[[Report], None]:
    """Work waits in an unbound pool, and the list of it comes back to itself."""
    prog = forger.prog
    queue = prog["system_unbound_wq"]
    (place, *_) = list_for_each_entry(
        "struct pool_workqueue", queue.pwqs.address_of_(), "pwqs_node"
    )
    pool, work = place.pool, prog["moom_work"]
    entry = work.entry.address_
    forger.word(work.data.counter, place.value_() | 5)  # WORK_STRUCT_PWQ, PENDING
    forger.word(pool.worklist.next.address_of_().value_(), entry)
    forger.word(entry, entry)

    def check(report: Report) -> None:
        tables = [b for b in part_of(report, "locks")["blocks"] if b["kind"] == "table"]
        # of the kernel's own work some may wait, too
        (row,) = [row for row in tables[-1]["rows"] if row["work"] == "moom_callback"]
        assert row["number"] == 1
        assert row["workqueue"] == "events_unbound"
        assert row["pool"] == f"unbound, pool {pool.id.value_()}"
        assert "the list is damaged: it comes back to" in notes(report, "locks")

    return check


def bad_log(forger: Forger) -> Callable[[Report], None]:
    """The log has more records than fit into any memory."""
    log = forger.prog["prb"]
    forger.word(log.desc_ring.count_bits, 40, 4)
    forger.word(log.text_data_ring.size_bits, 34, 4)

    def check(report: Report) -> None:
        assert part_of(report, "dmesg")["problem"]
        assert len(part_of(report, "memory")["blocks"]) >= 3

    return check


def bad_cpus(forger: Forger) -> Callable[[Report], None]:
    """One cpu's memory is nowhere; another's clock is of the far future, its queue endless."""
    cpus = [*for_each_present_cpu(forger.prog)]
    forger.word(forger.prog["__per_cpu_offset"][cpus[2]], GARBAGE)
    forger.word(cpu_rq(forger.prog, cpus[1]).nr_running, 0xFFFFFFFF, 4)
    forger.word(cpu_rq(forger.prog, cpus[1]).clock, GARBAGE)

    def check(report: Report) -> None:
        tables = [b for b in part_of(report, "tasks")["blocks"] if b["kind"] == "table"]
        rows = {row["vcpu"]: row for row in tables[0]["rows"]}
        assert [*rows] == cpus and rows[2]["task"] is None and rows[0]["task"]
        assert "what vcpu 2 was on: FaultError" in notes(report, "tasks")
        assert "the clock of vcpu 1 is damaged: 4,702," in notes(report, "tasks")
        assert all((row["seconds"] or 0) < 1000 for row in rows.values())
        assert "the stack of dom0's vcpu 2: FaultError" in notes(report, "xenpcpus")

    return check


def bad_sizes(forger: Forger) -> Callable[[Report], None]:
    """Strings without an end, a circle of devices, wrong sums."""
    prog = forger.prog
    forger.bytes(prog["init_uts_ns"].name.nodename, b"\xe2\x82" * 200)
    init = find_task(prog, 1)
    for member in range(4):
        counter = init.mm.rss_stat.count[member]
        forger.word(counter.counter.address_of_().value_(), -1)
    devices = prog["xenbus_backend"].bus.p.klist_devices.k_list.address_of_()
    forger.word(
        devices.next.address_of_().value_(),
        prog["moom_work"].entry.address_,
    )
    entry = prog["moom_work"].entry.address_
    forger.word(entry, entry)

    def check(report: Report) -> None:
        assert len(report["host"]) <= 500
        tables = [b for b in part_of(report, "memory")["blocks"] if b["kind"] == "table"]
        processes = {int(row["PID"]): row["resident KiB"] for row in tables[1]["rows"]}
        assert len(tables) == 2 and processes.pop(1) < min(processes.values())
        assert "backend devices: the list is damaged: it comes back to" in notes(
            report, "xendomains"
        )

    return check


def bad_xen(forger: Forger) -> Callable[[Report], None]:
    """Xen's console says that it has 64 MiB, and Xen's list of domains comes back to itself."""
    dump = ElfCore(forger.file.path)
    xen = OpenedDump(dump, [], []).xen
    (dom0,) = xen.domains()
    console = read_console(xen)
    forger.file.write(
        xen.tables.translate(dom0.vaddr + xen.next_at), dom0.vaddr.to_bytes(8, "little")
    )
    forger.file.write(xen.tables.translate(console.vaddr), b"(XEN) \n" * 500)

    def check(report: Report) -> None:
        assert "Xen's list of domains is damaged" in json.dumps(report["missing"])
        assert part_of(report, "tasks")["problem"] is None

    return check


def many_at_random(number: int) -> Forgery:
    def forge(forger: Forger) -> Callable[[Report], None]:
        """Some words of what the parts walk through are others."""
        random, prog = Random(number), forger.prog
        objects: list[drgn.Object] = forger.sleepers()
        objects += for_each_slab_cache(prog)
        objects += [task.mm for task in forger.sleepers() if task.mm]
        objects += [cpu_rq(prog, cpu) for cpu in for_each_present_cpu(prog)]
        objects += [per_cpu_ptr(prog["cpu_worker_pools"].address_of_(), 1)]
        objects += list_for_each_entry(
            "struct workqueue_struct", prog["workqueues"].address_of_(), "list"
        )
        mfns = forger.found.table.leaves
        for one in random.choices(objects, k=60):
            size = min(drgn.sizeof(one.type_.type), 4096)
            place = (one.value_() & ~7) + random.randrange(0, size // 8) * 8
            old = prog.read(place, 8)
            value = random.choice([GARBAGE, NOWHERE, random.choice(objects).value_()])
            if random.random() < 0.5:
                value = int.from_bytes(some_word(random, old, mfns), "little")
            forger.word(place, value)

        return lambda report: None

    forge.__name__ = f"random_{number}"
    return forge


FORGERIES: list[Forgery] = [
    bad_tasks, bad_tree_of_pids, bad_slabs, bad_workqueues, bad_log, bad_cpus, bad_sizes, bad_xen,
    *map(many_at_random, range(12)),
]  # fmt: skip
QUICK = (bad_tasks, bad_workqueues)


@pytest.fixture(scope="module")
def scratch(untouched: Dump, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dump]:
    """A copy of the untouched dump to be damaged; in the end it must be the untouched one again."""
    copy = copy_of(untouched, tmp_path_factory.mktemp("forged"))
    yield Dump(untouched.vmlinux, copy)
    subprocess.run(["cmp", copy, untouched.vmcore], check=True)
    copy.unlink()


@pytest.fixture(scope="module")
def sound(untouched: Dump) -> Diagnosis:
    return diagnosis(untouched)


@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(one, id=one.__name__, marks=() if one in QUICK else pytest.mark.thorough)
        for one in FORGERIES
    ],
)
def test_a_report_of_forged_values(
    scratch: Dump, sound: Diagnosis, prog: drgn.Program, forge: Forgery
) -> None:
    file = DumpFile(scratch.vmcore)
    try:
        check = forge(Forger(file, prog, sound))
        limits = ["prlimit", f"--cpu={SECONDS}", f"--data={MEMORY}"]
        command: list[str | Path] = [*limits, BIN / "p2mfix", "report", "--json"]
        done = subprocess.run(
            [*command, scratch.vmcore, scratch.vmlinux],
            capture_output=True, text=True, check=False, cwd="/",
        )  # fmt: skip
    finally:
        file.undo()
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr[-3000:]
    report = json.loads(done.stdout)
    assert len(report["parts"]) == 9 and len(done.stdout) < 2 << 20
    check(report)
