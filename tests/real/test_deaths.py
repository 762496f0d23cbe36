# SPDX-License-Identifier: GPL-3.0-or-later
"""What a report says of each way in which the lab's hosts died, against crash and serial logs."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from pykdump_ext.parts.index import Summary, summary
from tests.lab.dump import Dump
from tests.lab.failures import console_of, failure
from tests.lab.packages import Missing
from tests.lab.xen_crash import xen_crash, xen_panic

from .conftest import Plain
from .test_report import Reported, check_time

pytestmark = pytest.mark.thorough
PANIC = "Kernel panic - not syncing: "


def made(name: str) -> Dump:
    try:
        return failure(name)
    except Missing as error:
        pytest.skip(str(error))


class Died(Reported):
    """The report of a host of the lab that died in one way, and what it is compared with."""

    def __init__(self, name: str) -> None:
        self.dump = made(name)
        super().__init__(self.dump)
        serial = console_of(self.dump).partition("(XEN) Shot down")[0]
        self.serial = "\n".join(filter(None, re.split("[\r\n]+", serial)))
        self.said = self.blocks("happened", "paragraph")
        where = self.facts("happened").get("where it died")
        self.where = where.split(" < ") if where else []
        self.lines = {
            block["title"]: block["lines"]
            for block in self.parts["happened"]["blocks"]
            if block["kind"] == "lines"
        }
        assert self.whole["missing"] == [] and self.whole["functions"] == self.where
        check_time(self.facts("happened"), self.serial)

    @property
    def summary(self) -> Summary:
        return summary(self.whole, "")

    def stack(self, title: str) -> list[str]:
        """The functions of the stack whose title begins so."""
        (lines,) = [lines for name, lines in self.lines.items() if name.startswith(title)]
        return [re.split(r"[ +]", line.split(maxsplit=1)[1])[0] for line in lines]


def crashs(plain: Plain, name: str, dump: Dump, command: str) -> tuple[str, list[str]]:
    """Return what plain crash prints, and the functions in it."""
    (text,) = plain(f"death-{name}", dump, [command])
    return text, re.findall(r"(?m)^ *#\d+ \[\w+\] (\w+)", text)


def in_order(names: list[str], among: list[str]) -> bool:
    """Return True if all of ``names`` are ``among`` others, in the same order."""
    rest: Iterator[str] = iter(among)
    return all(name in rest for name in names)


def test_an_oops_and_one_that_the_host_survived(plain: Plain) -> None:
    died = Died("oops")
    line = re.findall(r"(?m)^\[.*?\] (general protection fault.*)$", died.serial)
    rips = re.findall(r"RIP: e030:(\S+(?: \[\w+\])?)", died.serial)
    first, second = list(dict.fromkeys(rips))
    assert [f"dom0 died: {one}, RIP: {second}" for one in line] == died.said[:1]
    assert second.startswith("__register_nls+") and first.startswith("lab_reads+")
    (bug,) = re.findall(r"(?m)^\[.*?\] (BUG: kernel NULL pointer dereference.*)$", died.serial)
    assert died.said[2].startswith(f"An earlier oops, survived: {bug}, RIP: {first} (task insmod")
    assert died.facts("happened")["dom0's panic"] == f"{PANIC}Fatal exception"

    bt, functions = crashs(plain, "oops", died.dump, "bt")
    at = re.search(r"\[exception RIP: (\w+)\+", bt)
    assert at and at[1] == died.where[0] == second.partition("+")[0]
    callers = [name.partition(" ")[0] for name in died.where[1:]]
    assert in_order(callers, functions)
    stack = died.stack("Stack of the task that crashed the kernel")
    # whole: how it died is in it as well
    assert in_order(["panic", "oops_end", "asm_exc_general_protection", at[1]], stack)
    assert in_order([name for name in callers if name in stack], stack)
    pid = re.search(r"^PID: (\d+) ", bt)
    assert pid and any(f"PID {pid[1]}, cpu" in title for title in died.lines)
    # word for word
    for title, head in (("What dom0's log has of it", line[0]), ("An earlier oops, survived", bug)):
        assert head in died.lines[title][0] and "end trace" in died.lines[title][-1]
        report = "\n".join(line.rstrip() for line in died.lines[title])
        assert report in re.sub(r"(?m) +$", "", died.serial)
    assert died.summary.signature.endswith(" in __register_nls")


def test_a_dom0_that_xen_crashed(plain: Plain) -> None:
    died = Died("killed")
    xen = re.findall(r"(?m)^\(XEN\) (.*)$", died.serial)
    at = next(n for n, line in enumerate(xen) if line.startswith("Domain 0 (vcpu#"))
    vcpu, cpu = re.findall(r"#(\d+)", xen[at])
    reason = next(line for line in xen if line.startswith("d0v"))
    assert died.said == [
        f"dom0 died: Xen crashed it because of an error of its vcpu {vcpu}: {reason}",
        f"Xen's console says so: {xen[at][:-1]}.",
    ]
    wrote = died.lines["What Xen wrote of it"]
    assert wrote == [
        line.expandtabs() for line in xen[xen.index(reason) : xen.index(reason) + len(wrote)]
    ]
    assert "Guest stack trace" in "".join(wrote)
    # the registers are those that Xen printed
    title = f"Registers of domain 0, vcpu {vcpu}, cpu {cpu}"
    (shown,) = [b["lines"] for b in died.parts["xenpcpus"]["blocks"] if b.get("title") == title]
    words = " ".join(shown).split()
    registers = {name: int(word, 16) for name, word in zip(words[::2], words[1::2])}
    printed = {
        name.lower(): int(word, 16)
        for name, word in re.findall(r"\b(r\w{1,2}|RFLAGS|cs|ss): +(\w+)\b", "\n".join(wrote))
    }
    assert len(printed) == 19  # all but rip, which has cs before it
    assert printed.items() <= registers.items()
    rip = re.search(r"RIP: +e033:\[<(\w+)>\]", "\n".join(wrote))
    cr3 = re.search(r"cr3: (\w+)", "\n".join(wrote))
    assert rip and registers["rip"] == int(rip[1], 16)
    row = died.blocks("xenpcpus", "table")[0][int(cpu)]
    assert cr3 and int(row["cr3"], 16) == int(cr3[1], 16) and row["owner of cr3"] == "domain 0"
    assert (row["ran"], row["rip"]) == (f"domain 0, vcpu {vcpu}", rip[1].lstrip("0"))
    # in a function of the module, as crash has it
    symbol, _ = crashs(plain, "killed", died.dump, f"sym {rip[1]}")
    assert re.search(r"\(\w\) (init_module\+\d+ \[nls_ascii\])", symbol)
    assert died.where == ["init_module [nls_ascii]"] == died.whole["functions"]
    # the task is the one that loaded the module
    assert any(
        t.startswith('Stack of the task that was running when Xen crashed dom0: "insmod"')
        for t in died.lines
    )


def test_a_panic_for_a_task_that_hung(plain: Plain) -> None:
    died = Died("hung-panic")
    assert died.said[0] == f"dom0 died: {PANIC}hung_task: blocked tasks"
    reported = re.findall(r"INFO: task (\w+):(\d+) blocked", died.serial)
    # the one blocked longest, not the one reported last
    longest = next(t["title"] for t in died.parts["tasks"]["blocks"] if t["kind"] == "lines")
    task, pid = re.findall(r"(\w+) \((\d+)\)", longest)[0]
    assert (task, pid) in reported[:-1]
    names = [f"{name} ({number})" for name, number in reported]
    assert died.said[2].startswith(f"{len(names)} tasks were blocked (state D) for up to ")
    assert all(name in died.said[2] for name in names)
    rows = died.blocks("locks", "table")[0]
    (owner,) = {row["held by"] for row in rows}
    waiting = " and ".join(row["task"] for row in rows)
    assert died.said[3] == f"{waiting} wait for {owner}, which waits in folio_wait_bit_common."
    log = died.lines["What dom0's log has of it"]
    assert f"INFO: task {task}:{pid} blocked" in log[0] and died.where[0] in "".join(log)
    bt, functions = crashs(plain, "hung", died.dump, f"bt {pid}")
    assert f'COMMAND: "{task}"' in bt
    waits = functions[functions.index("schedule") :]
    assert died.where[0] not in ("schedule", "__schedule") and in_order(died.where, waits)
    stack = died.stack(f'Stack of the task that hung: "{task}", PID {pid}')
    assert in_order(["__schedule", *died.where[:-1]], stack)  # entry_SYSCALL_64 has two names
    panicked = died.stack('Stack of the task that crashed the kernel: "khungtaskd"')
    assert in_order(["panic", "watchdog", "kthread"], panicked)


def test_a_panic_for_no_memory(plain: Plain) -> None:
    died = Died("oom-panic")
    assert died.said[0] == f"dom0 died: {PANIC}Out of memory: compulsory panic_on_oom is enabled"
    most = died.blocks("memory", "table")[1][0]
    rss = re.search(rf"\[ +{most['PID']}\] +0 +\d+ +\d+ +(\d+) .* {most['process']}", died.serial)
    assert rss and died.said[2] == (
        f"Of the processes {most['process']} ({most['PID']}) had the most memory:"
        f" {int(rss[1]) * 4:,} KiB."
    )
    _, functions = crashs(plain, "oom", died.dump, "bt")
    assert functions[0] == "panic" and died.where[0] == functions[1] == "out_of_memory"
    assert in_order(died.where, functions)
    assert in_order(["panic", *died.where], died.stack("Stack of the task that crashed the kernel"))


def test_a_panic_of_xen() -> None:
    """The emulator's monitor, which sends the NMI, writes on the console as well."""
    dump = xen_panic()
    found = Reported(dump)
    xen = re.findall(r"(?m)^(?:\(qemu\) )?\(XEN\) (.*?)\r*$", console_of(dump))
    cause = next(line for line in xen if "NMI received for unknown reason" in line)
    panic = next(at for at, line in enumerate(xen) if line.startswith("Panic on CPU"))
    cpu, said = xen[panic].removeprefix("Panic on CPU ")[:-1], xen[panic + 1]
    assert "FATAL TRAP" in said
    assert found.blocks("happened", "paragraph") == [
        f"Xen died: {cause} ({said})",
        f"Xen panicked on cpu {cpu}.",
    ]
    wrote = xen[xen.index(cause) : panic - 1]  # a line of stars is between
    assert found.blocks("happened", "lines") == [[line.expandtabs() for line in [*wrote, said]]]
    assert any(line.startswith("RIP:") for line in wrote)
    trace = xen[xen.index("Xen call trace:") + 1 : panic]
    functions = re.findall(r"\[<\w+>\] [RF] (?:\S+#)?(\w+)\+", "\n".join(trace))
    assert found.whole["functions"] == functions and functions
    assert found.whole["missing"] == []
    (console,) = found.blocks("xenlog", "lines")
    assert [line.removeprefix("(XEN) ") for line in console] == [line.expandtabs() for line in xen]


def test_a_dump_that_somebody_asked_for() -> None:
    found = Reported(xen_crash())
    assert found.blocks("happened", "paragraph") == [
        "A crash dump was asked for at Xen's console (key C).",
        "Until then, Xen's console reports no death of dom0 or of Xen.",
    ]
    assert [part["problem"] for part in found.parts.values()] == [None] * 9
    assert found.whole["missing"] == [] and found.whole["functions"] == []
    owners = {row["owner of cr3"] for row in found.blocks("xenpcpus", "table")[0]}
    assert owners <= {"Xen", "domain 0"}
