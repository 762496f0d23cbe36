# SPDX-License-Identifier: GPL-3.0-or-later
"""What drgn's helpers answer: on a Xen dump, on its rewritten copy, in crash, and without Xen.

The calls are in ``calls/``.  drgn without Xen is the same kernel and initramfs, booted by itself.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import drgn
import pytest
from drgn.helpers.linux.irq import for_each_irq_desc, irq_desc_action_names
from drgn.helpers.linux.mm import (
    cmdline,
    environ,
    for_each_page,
    for_each_vmap_area,
    page_flags,
    page_to_phys,
)
from drgn.helpers.linux.pci import for_each_pci_dev, pci_name
from drgn.helpers.linux.pid import find_task, for_each_task
from drgn.helpers.linux.resource import task_rlimits
from drgn.helpers.linux.sched import loadavg
from drgn.helpers.linux.slab import find_slab_cache, slab_cache_for_each_allocated_object
from drgn.helpers.linux.timekeeping import uptime
from drgn.helpers.linux.vmstat import global_zone_page_state, nr_free_pages

from tests.lab import matrix as lab_matrix
from tests.lab.bare import bare
from tests.lab.broken import truncated as lab_truncated
from tests.lab.dump import Dump
from tests.lab.guest import guest_dump
from tests.lab.packages import Missing

from .conftest import Once
from .sessions import BIN, ROOT

Answers = dict[str, dict[str, str]]
CODE = (
    f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.real.calls import main; main(prog)"
)
LACKING = {"get_kconfig": "this kernel does not have its configuration in memory"}

# Lines of an answer that only dom0's kernel gives, and only the same kernel without Xen
XENS_TASKS = {"b'khvcd'", "b'xen-balloon'", "b'xenbus'", "b'xenbus_probe'", "b'xenwatch'"}
DIFFERENT: dict[str, tuple[set[str], set[str]]] = {
    "for_each_module": ({"b'xenfs'", "b'xen_privcmd'"}, set()),
    "for_each_mount": ({"b'/proc/xen'"}, set()),
    # a PV kernel has no large pages
    "for_each_hstate": (set(), {"(unsigned long)2097152"}),
    "for_each_slab_cache": (set(), {"'hugetlbfs_inode_cache'", "'khugepaged_mm_slot'"}),
    "sysfs_listdir": (set(), {"b'hugepages'", "b'transparent_hugepage'"}),
    "for_each_task": (XENS_TASKS, {"b'khugepaged'"}),
}
OTHER_SHAPE = {
    "for_each_irq_desc": "Xen's event channels, and no interrupt controllers",
    "for_each_resource": "a map of memory that Xen made",
    "for_each_registered_chrdev": "Xen's console",
    "list_for_each_entry": "xenfs, and no large pages",
    "kernfs_children": "Xen's busses",
    "stack_trace of every task": "kernel threads are not in the same places",
    "stack_trace of the crash": "a hypercall",
}


def answers_of(*words: str | Path) -> Answers:
    command: list[str | Path] = [*words, "-q", "--no-default-symbols", "-e", CODE]
    plain = {**os.environ, "DRGN_DISABLE_PLUGINS": "pykdump_ext"}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd="/", env=plain)
    found: Answers = json.loads(done.stdout)
    return found


def by_p2mfix(dump: Dump, *options: str) -> Answers:
    return answers_of(BIN / "p2mfix", "drgn", *options, dump.vmlinux, dump.vmcore)


def by_drgn(dump: Dump) -> Answers:
    return answers_of(BIN / "drgn", "-c", dump.vmcore, "-s", dump.vmlinux)


def rewritten(dump: Dump, folder: Path, *options: str) -> Dump:
    copy = folder / "linux"
    command: list[str | Path] = [BIN / "p2mfix", "rewrite", "--linux", *options]
    subprocess.run([*command, "--vmlinux", dump.vmlinux, dump.vmcore, copy], check=True, cwd="/")
    return Dump(dump.vmlinux, copy)


def errors(answers: Answers) -> dict[str, str]:
    """Return the answers that are errors, by call; older releases of drgn lack some helpers."""
    return {
        name: answer
        for calls in answers.values()
        for name, answer in calls.items()
        if re.match(r"\w*(Error|Exception): (?!drgn has no helper)", answer)
    }


@pytest.fixture(scope="module")
def xen(once: Once, truncated: Dump) -> Answers:
    """The answers of ``p2mfix drgn``."""
    return kept(once, "p2mfix", lambda: by_p2mfix(truncated))


@pytest.fixture(scope="module")
def native(once: Once) -> Answers:
    """The answers of drgn on a dump of a machine without Xen."""
    return kept(once, "bare", lambda: by_drgn(bare()))


def kept(once: Once, name: str, ask: Callable[[], Answers]) -> Answers:
    def make(folder: Path) -> None:
        (folder / "json").write_text(json.dumps(ask()))

    folder = once(f"answers-{name}", make)
    found: Answers = json.loads((folder / "json").read_text())
    return found


def test_the_rewritten_dump_gives_plain_drgn_the_same_answers(
    xen: Answers, truncated: Dump, tmp_path: Path
) -> None:
    assert sum(map(len, xen.values())) > 200
    assert errors(xen).keys() == LACKING.keys()
    assert by_drgn(rewritten(truncated, tmp_path)) == xen


@pytest.mark.thorough
def test_the_same_answers_on_an_older_kernel(tmp_path: Path) -> None:
    try:
        dump = lab_truncated(lab_matrix.untouched("5.10"))
    except Missing as error:
        pytest.skip(str(error))
    found = by_p2mfix(dump)
    assert errors(found).keys() == LACKING.keys() | {"mt_for_each"}  # since Linux 6.1
    assert by_drgn(rewritten(dump, tmp_path)) == found


@pytest.mark.thorough
def test_the_same_answers_on_a_guest(tmp_path: Path) -> None:
    guest = guest_dump()
    found = by_p2mfix(guest, "--domain", "1")
    assert len(errors(found)) < 30  # it has not crashed, and has no modules and no network
    wrong = {name: answer for name, answer in found["agree"].items() if answer != "'agree'"}
    assert wrong.keys() == {"address_to_module", "stack_trace"}  # of what was running
    assert by_drgn(rewritten(guest, tmp_path, "--domain", "1")) == found


def test_what_is_true_on_any_machine(xen: Answers, native: Answers) -> None:
    wanted = dict.fromkeys(native["agree"], "'agree'")
    assert native["agree"] == wanted
    assert xen["agree"] == wanted


def test_what_does_not_depend_on_the_boot_is_as_without_xen(xen: Answers, native: Answers) -> None:
    assert errors(native).keys() == LACKING.keys()
    for name, answer in native["same"].items():
        if "drgn has no helper" in answer:
            assert xen["same"][name] == answer
            continue
        more, less = DIFFERENT.get(name, (set(), set()))
        lines, wanted = ([*answers["same"][name].splitlines()] for answers in (xen, native))
        assert [line for line in lines if line not in more] == [
            line for line in wanted if line not in less
        ], name
        assert more <= {*lines} and less <= {*answer.splitlines()}, name


def shapes(answer: str) -> set[str]:
    """Return the lines of an answer without their numbers."""
    return {re.sub(r"0x[0-9a-f]+|\b[0-9a-f]{64}\b|\d+", "#", line) for line in answer.splitlines()}


def test_answers_of_another_boot_have_the_same_shape(xen: Answers, native: Answers) -> None:
    for name, answer in native["alike"].items():
        assert bool(answer) == bool(xen["alike"][name]), name
        if name not in OTHER_SHAPE:
            assert shapes(xen["alike"][name]) == shapes(answer), name
    below = [
        answers["alike"]["stack_trace of the crash"].partition("sysrq_handle_crash")[2]
        for answers in (xen, native)
    ]
    assert re.findall(r"\w+ \(\S+\)", below[0]) == re.findall(r"\w+ \(\S+\)", below[1]) != []


def test_memory_is_that_of_crash(prog: drgn.Program, crash_says: dict[str, str]) -> None:
    line = r"^(\w{16}) +(\w+) .* ([0-9a-f]{9,})(?: [\w,]+)?$"  # the flags' names may follow
    pages = re.findall(line, crash_says["kmem -p"], re.MULTILINE)
    assert len(pages) > 150_000
    shown = [(int(page, 16), int(paddr, 16), int(flags, 16)) for page, paddr, flags in pages[::97]]
    known = {page.value_(): page for page in for_each_page(prog)}
    assert shown == [
        (page, page_to_phys(known[page]).value_(), page_flags(known[page]).value_())
        for page, _, _ in shown
    ]
    areas = re.findall(
        r"^(\w{16}) +(\w+) +(\w{16}) - (\w{16}) ", crash_says["kmem -v"], re.MULTILINE
    )
    assert len(areas) > 100
    assert sorted(tuple(int(word, 16) for word in words) for words in areas) == sorted(
        (va.value_(), va.vm.value_(), va.va_start.value_(), va.va_end.value_())
        for va in for_each_vmap_area(prog)
        if va.vm
    )
    zones = dict(re.findall(r"^ +(NR_\w+): (\d+)$", crash_says["kmem -V"], re.MULTILINE))
    for name in ("NR_FREE_PAGES", "NR_ZONE_ACTIVE_ANON", "NR_MLOCK"):
        assert global_zone_page_state(prog, prog[name]) == int(zones[name])
    assert nr_free_pages(prog) == int(zones["NR_FREE_PAGES"])
    objects = re.findall(r"^  \[(\w{16})\]", crash_says["kmem -S task_struct"], re.MULTILINE)
    cache = find_slab_cache(prog, "task_struct")
    assert cache is not None and len(objects) > 10  # crash does not list those of full slabs
    assert {int(address, 16) for address in objects} <= {
        task.value_() for task in slab_cache_for_each_allocated_object(cache, "struct task_struct")
    }


def test_processes_and_devices_are_those_of_crash(
    prog: drgn.Program, crash_says: dict[str, str]
) -> None:
    told = re.findall(
        r"^PID: (\d+) .*\nARG: (.*)\nENV: ((?:.+\n?)*)", crash_says["ps -a"], re.MULTILINE
    )
    assert len(told) > 3
    assert {
        (int(pid), words.strip(), tuple(variables.split())) for pid, words, variables in told
    } == {
        (
            task.pid.value_(),
            b" ".join(cmdline(task) or ()).decode().strip(),
            tuple(word.decode() for word in environ(task) or ()),
        )
        for task in for_each_task(prog)
        if task.mm
    }
    limits = task_rlimits(find_task(prog, 1))
    for name, now, most in re.findall(r"^ +([A-Z]+) +(\d+) +(\d+) *$", crash_says["ps -r 1"], re.M):
        assert (limits[name].cur, limits[name].max) == (int(now), int(most)), name
    irqs = re.findall(r'^ *(\d+) +(\w{16}) +\w{16} +"(.*)"$', crash_says["irq"], re.MULTILINE)
    assert len(irqs) > 10
    assert {(int(irq), int(desc, 16), name.encode()) for irq, desc, name in irqs} == {
        (irq, desc.value_(), irq_desc_action_names(desc)[0])
        for irq, desc in for_each_irq_desc(prog)
        if irq_desc_action_names(desc)
    }
    devices = re.findall(r"^ +(\w{16}) (\w{4}:\S+) ", crash_says["dev -p"], re.MULTILINE)
    assert len(devices) > 3
    assert {(int(address, 16), name) for address, name in devices} == {
        (device.value_(), pci_name(device)) for device in for_each_pci_dev(prog)
    }
    hours, minutes, seconds = re.findall(r"UPTIME: (\d+):(\d+):(\d+)", crash_says["sys"])[0]
    ticks = int(hours) * 3600 + int(minutes) * 60 + int(seconds)
    (*_, last) = re.findall(r"^\[ *(\d+\.\d+)\]", crash_says["log"], re.MULTILINE)
    assert ticks - 1 < uptime(prog) < float(last) + 1  # a slow emulator loses ticks
    (loads,) = re.findall(r"LOAD AVERAGE: (.*)", crash_says["sys"])
    assert ", ".join(f"{load:.2f}" for load in loadavg(prog)) == loads
