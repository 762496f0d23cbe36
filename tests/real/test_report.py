# SPDX-License-Identifier: GPL-3.0-or-later
"""``p2mfix report`` on real dumps, compared with what crash prints and with the serial console."""

from __future__ import annotations

import json
import re
import subprocess
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import drgn
import pytest
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.sched import task_state_to_char

from pykdump_ext.drgn import tasks
from tests.lab import matrix as lab_matrix
from tests.lab.dump import Dump
from tests.lab.failures import console_of, failure
from tests.lab.guest import guest_dump
from tests.unit.parts.test_parts import check_json

from .sessions import BIN, Crash, minimal

DOM0_PAGES = 179_200  # 700 MiB, as the lab's dom0_mem=
HUNG_TASK_SECONDS = 10  # the lab's hung_task_timeout_secs: how often the kernel looks


class Reported:
    """A report, as JSON has it."""

    def __init__(self, dump: Dump, *words: str) -> None:
        command: list[str | Path] = [
            BIN / "p2mfix",
            "report",
            "--json",
            dump.vmcore,
            dump.vmlinux,
            *words,
        ]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd="/")
        self.whole: dict[str, Any] = json.loads(done.stdout)
        self.parts = {part["name"]: part for part in self.whole["parts"]}

    def blocks(self, part: str, kind: str) -> list[Any]:
        key = {"paragraph": "text", "facts": "facts", "table": "rows", "lines": "lines"}[kind]
        return [b[key] for b in self.parts[part]["blocks"] if b["kind"] == kind]

    def facts(self, part: str) -> dict[str, Any]:
        (found,) = self.blocks(part, "facts")
        assert isinstance(found, dict)
        return found


def check_time(facts: dict[str, Any], serial: str) -> None:
    """The time of the crash is the serial log's: when the clock was set, and what passed then."""
    at = datetime.strptime(facts["time of the crash"], "%Y-%m-%d %H:%M:%S %Z")
    dom0s = serial.partition("(XEN) Shot down")[0]
    stamp, clock = re.findall(r"(?m)^\[ *([\d.]+)\] .*setting system clock to .*\((\d+)\)", dom0s)[
        0
    ]
    last = re.findall(r"(?m)^\[ *([\d.]+)\] ", dom0s)[-1]
    seconds = at.replace(tzinfo=timezone.utc).timestamp()
    assert abs(seconds - int(clock) - (float(last) - float(stamp))) < 3


@pytest.fixture(scope="module")
def reported(truncated: Dump) -> Reported:
    return Reported(truncated)


def test_every_part_is_there_and_lacks_nothing(reported: Reported) -> None:
    assert [part["problem"] for part in reported.parts.values()] == [None] * 9
    assert reported.whole["missing"] == []
    check_json(json.loads(json.dumps(reported.whole)))


def test_what_happened_is_what_crash_says(
    reported: Reported, crash_says: dict[str, str], untouched: Dump
) -> None:
    sys = dict(re.findall(r"(?m)^ *([A-Z ]+): (.*)$", crash_says["sys"]))
    first, second = reported.blocks("happened", "paragraph")
    message = sys["PANIC"].strip('"')
    assert first == f"dom0 died: {message}"
    assert second == "dom0's kernel crashed: Xen's console says so."
    facts = reported.facts("happened")
    assert facts["Linux"] == sys["RELEASE"] and facts["host name"] == sys["NODENAME"]
    minutes, seconds = map(int, sys["UPTIME"].split(":")[1:])
    uptime = re.fullmatch(r"(\d+) seconds", facts["uptime"])
    # crash takes jiffies, which began after the clock, and lost some where the emulator was slow
    assert uptime and minutes == 0 and seconds <= int(uptime[1])
    last = float(re.findall(r"(?m)^\[ *([\d.]+)\] ", crash_says["log"])[-1])
    assert abs(int(uptime[1]) - last) < 2
    assert facts["is it whole"].startswith("yes")
    check_time(facts, console_of(untouched))
    at = datetime.strptime(facts["time of the crash"], "%Y-%m-%d %H:%M:%S %Z")
    # crash prints it in this machine's time zone
    date = re.sub(r" \S+(?= \d{4}$)", "", sys["DATE"].strip())
    local = time.mktime(time.strptime(date, "%a %b %d %H:%M:%S %Y"))
    assert at.replace(tzinfo=timezone.utc).timestamp() == local
    (stack,) = reported.blocks("happened", "lines")
    functions = re.findall(r"(?m)^ *#\d+ \[\w+\] (\S+) at", crash_says["bt"])
    shown = [re.split(r"[ +]", line.split(maxsplit=1)[1])[0] for line in stack]
    assert {"panic", "sysrq_handle_crash", "ksys_write"} <= set(functions) & set(shown)
    assert any("kernel/panic.c:" in line for line in stack)


def test_the_logs_are_those_of_the_boot(
    reported: Reported, crash_says: dict[str, str], untouched: Dump
) -> None:
    trouble, tail = reported.blocks("dmesg", "lines")
    assert tail == [line.expandtabs() for line in crash_says["log"].splitlines() if line][-100:]
    assert [line.partition("] ")[2] for line in trouble] == [
        "Kernel panic - not syncing: sysrq triggered crash"
    ]
    text = (untouched.vmcore.parent / "console.log").read_bytes().decode(errors="replace")
    serial = [line.rstrip("\r") for line in text.split("\n") if line.startswith("(XEN) ")]
    (console,) = reported.blocks("xenlog", "lines")
    assert console == [line.expandtabs() for line in serial]


def test_cpus_tasks_and_memory(
    reported: Reported, crash_says: dict[str, str], prog: drgn.Program
) -> None:
    ran, vcpus = reported.blocks("xenpcpus", "table")
    assert [row["cpu"] for row in ran] == [row["vcpu"] for row in vcpus] == [0, 1, 2, 3]
    cpu = re.search(r"(?m)^PID: 1 .*CPU: (\d)", crash_says["bt"])
    assert cpu and f"domain 0, vcpu {cpu[1]}" in [row["ran"] for row in ran]
    # below the stack that crash shows, of the same task, in the function that calls Xen
    (crashed,) = [row for row in ran if row["ran"] == f"domain 0, vcpu {cpu[1]}"]
    frame = re.search(r"(?m)^ *#0 \[(\w+)\]", crash_says["bt"])
    assert frame and 0 < int(frame[1], 16) - int(crashed["rsp"], 16) < 1 << 12
    assert 0 <= int(crashed["rip"], 16) - prog.symbol("xen_hypercall_pv").address < 64
    assert crashed["owner of cr3"] == "domain 0"
    on = {row["vcpu"]: row["task"] for row in reported.blocks("tasks", "table")[0]}
    active = dict(re.findall(r"(?m)^> +(\d+) +\d+ +(\d+) ", crash_says["ps"]))
    assert {int(re.findall(r"\((\d+)\)$", task)[0]) for task in on.values()} == {
        int(pid) for pid in active
    }
    slabs, processes = reported.blocks("memory", "table")
    listed = re.findall(r"(?m)^\w{16} +\d+ +\d+ +(\d+) +\d+ +\S+ +(\S+)$", crash_says["kmem -s"])
    known = {name: objects for objects, name in listed}
    assert len(slabs) == 15
    assert [(row["name"], row["objects"]) for row in slabs] == [
        (row["name"], int(known[row["name"]])) for row in slabs
    ]
    resident = {
        pid: int(kib)
        for pid, kib in re.findall(
            r"(?m)^[> ] +(\d+) +\d+ +\d+ +\w+ +\w\w +\S+ +\d+ +(\d+) ", crash_says["ps"]
        )
    }
    # crash 8.0.2 leaves out shared memory, which here has the programs: their files are on a tmpfs;
    # 8.0.6 does not
    whole = {row["PID"]: row["resident KiB"] for row in processes}
    own = {row["PID"]: row["resident KiB"] - row["of it shared KiB"] for row in processes}
    assert len(own) == 4 and {pid: resident[pid] for pid in own} in (own, whole)
    total = re.search(r"TOTAL MEM +(\d+)", crash_says["kmem -i"])
    free = re.search(r"FREE +(\d+)", crash_says["kmem -i"])
    facts = reported.facts("memory")
    assert total and facts["total, KiB"] == int(total[1]) * 4
    assert free and facts["free, KiB"] == int(free[1]) * 4


def test_tasks_are_grouped_by_their_stacks(
    prog: drgn.Program, monkeypatch: pytest.MonkeyPatch, crash_says: dict[str, str]
) -> None:
    """No task of this dump is blocked, so all that sleep stand for such tasks."""
    asleep = [task for task in for_each_task(prog) if task_state_to_char(task) in "SI"]
    monkeypatch.setattr(tasks, "uninterruptible", lambda prog, notes: asleep)
    notes: list[str] = []
    groups, number = tasks.blocked(prog, tasks.newest_clock(prog, notes), notes)
    assert number == len(asleep) == sum(len(group.tasks) for group in groups) > 50
    assert 3 < len(groups) < number
    assert all(len(group.stack) > 2 and "no stack" not in group.stack[0] for group in groups)
    seconds = [group.seconds for group in groups if group.seconds is not None]
    assert len(seconds) == len(groups) and seconds == sorted(seconds, reverse=True)
    listed = dict(re.findall(r"(?m)^ +(\d+) +\d+ .* [\d.]+ +\d+ +\d+ +(\S.*)$", crash_says["ps"]))
    for name in (name for group in groups for name in group.tasks):
        comm, pid = re.findall(r"^(.*) \((\d+)\)$", name)[0]
        assert listed[pid].strip("[]") == comm


def test_domains_and_the_p2m(reported: Reported) -> None:
    rows, channels = reported.blocks("xendomains", "table")
    assert [(row["domain"], row["interdomain"]) for row in channels] == [(0, 0)]
    assert [(row["kind"], row["pages"], row["vcpus"]) for row in rows] == [("PV", DOM0_PAGES, 4)]
    assert reported.blocks("p2m", "paragraph")[0] == "Verdict: the list ends too early."
    assert reported.facts("p2m")["covered"] == "153,468 of 179,200 pages (85.6%)"


def test_the_parts_are_commands_of_a_session(
    truncated: Dump, crash: Crash, host: Path, reported: Reported
) -> None:
    words = ("xenlog", "xenpcpus", "xendomains", "report p2m")
    commands = [f"{word} > {word.split()[-1]}" for word in words]
    ran = minimal(crash, truncated, host, "extend report.py", *commands, "report nothing")
    assert ran.status == 0
    assert "report: nothing: no part of a report; the parts are happened, dmesg," in ran.text
    texts = {word: (crash.folder / word.split()[-1]).read_text() for word in words}
    (console,) = reported.blocks("xenlog", "lines")
    shown = [line[2:] for line in texts["xenlog"].splitlines() if line.startswith("  ")]
    assert shown == console
    assert "What each cpu ran:" in texts["xenpcpus"]
    assert "#0  xen_hypercall_pv (" in texts["xenpcpus"]
    assert "179,200" in texts["xendomains"]
    assert "Verdict: the list ends too early." in texts["report p2m"]


@pytest.mark.thorough
def test_hung_tasks_their_stacks_and_the_lock_that_they_wait_for() -> None:
    dump = failure("hung")
    found = Reported(dump)
    log = re.findall(r"(?m)^lab: (writer|sync|opener) (\d+)", console_of(dump))
    pids = {kind: {pid for one, pid in log if one == kind} for kind, _ in log}
    stacks = [b for b in found.parts["tasks"]["blocks"] if b["kind"] == "lines"]
    groups = [{*re.findall(r"\((\d+)\)", stack["title"])} for stack in stacks]
    # as the lab started them, so the longest wait is first
    assert groups == [pids["writer"], pids["sync"], pids["opener"]]
    seconds = [float(re.findall(r"for ([\d.]+) s", stack["title"])[0]) for stack in stacks]
    assert seconds == sorted(seconds, reverse=True) and seconds[-1] > 10
    # what the kernel's own detector said is less: it counts from when it first saw a task blocked
    trouble, tail = found.blocks("dmesg", "lines")
    said = {
        pid: int(waited) - float(at)
        for line in trouble
        for at, pid, waited in re.findall(r"^\[ *([\d.]+)\].*:(\d+) blocked for .* (\d+) sec", line)
    }
    ended = float(tail[-1].strip("[ ").partition("]")[0])
    for group, waited in zip(groups, seconds):
        least = max(said[pid] for pid in group) + ended
        assert least - 1 <= waited <= least + HUNG_TASK_SECONDS + 2
    assert any("blkdev_fsync (" in line for line in stacks[0]["lines"])
    rows, *_work = found.blocks("locks", "table")  # on a slow machine work waits, too
    (sync,) = pids["sync"]
    # the dump was asked for, and that is not all that the report begins with
    first = found.blocks("happened", "paragraph")
    assert first[2].startswith(
        f"{len(log)} tasks were blocked (state D) for up to {seconds[0]} s: "
    )
    assert first[3].endswith(f" wait for sync ({sync}), which waits in folio_wait_bit_common.")
    assert {row["task"] for row in rows} == {f"dd ({pid})" for pid in pids["opener"]}
    assert {row["held by"] for row in rows} == {f"sync ({sync})"}
    assert found.facts("tasks")["blocked (D)"] == len(log)
    assert found.whole["missing"] == []


@pytest.mark.thorough
def test_the_trace_of_a_dom0_without_memory() -> None:
    dump = failure("oom")
    found = Reported(dump)
    (trace,) = found.blocks("memory", "lines")
    assert "invoked oom-killer" in trace[0] and "Out of memory: Killed process" in trace[-1]
    assert trace[-1].partition("] ")[2] in console_of(dump)
    assert trace[-1] in found.blocks("dmesg", "lines")[0]
    killed = re.search(r"Killed process (\d+) \((\w+)\)", trace[-1])
    said = found.blocks("happened", "paragraph")[2]
    assert killed and re.fullmatch(
        rf"dom0 ran out of memory [\d.]+ s before the end of its log, and {killed[2]}"
        rf" \({killed[1]}\) was killed\.",
        said,
    )
    assert found.whole["missing"] == []


@pytest.mark.thorough
def test_a_host_with_a_guest() -> None:
    found = Reported(guest_dump())
    rows = found.blocks("xendomains", "table")[0]
    assert [(row["domain"], row["kind"]) for row in rows] == [(0, "PV"), (1, "PV")]
    assert rows[1]["UUID"].startswith("01000000-") and rows[1]["name"] is None
    (missing,) = found.whole["missing"]
    assert "the names of these domains: 1: they are neither" in missing["why"]


@pytest.mark.thorough
@pytest.mark.parametrize("kernel", lab_matrix.KERNELS)
def test_each_kernel_of_the_matrix(kernel: str) -> None:
    found = Reported(lab_matrix.untouched(kernel))
    died = "Kernel panic - not syncing: sysrq triggered crash"
    assert found.blocks("happened", "paragraph")[0] == f"dom0 died: {died}"
    assert found.whole["functions"][:2] == ["sysrq_handle_crash", "__handle_sysrq"]
    check_time(found.facts("happened"), console_of(lab_matrix.untouched(kernel)))
    assert [part["problem"] for part in found.parts.values()] == [None] * 9
    assert found.whole["missing"] == []


def test_the_page_is_written(truncated: Dump, tmp_path: Path) -> None:
    command: list[str | Path] = [
        BIN / "p2mfix",
        "report",
        truncated.vmcore,
        "-o",
        tmp_path / "r.html",
    ]
    subprocess.run([*command, "--only", "happened"], check=True, cwd="/")
    assert "dom0 died" in (tmp_path / "r.html").read_text()
