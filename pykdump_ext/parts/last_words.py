# SPDX-License-Identifier: GPL-3.0-or-later
"""What a kernel's log says of its death: the panic, and the trouble that led to it.

    words = last_words(lines)
    print(words.headline, *words.functions)

``panic()`` often says that there was trouble, not which: ``oops_end()`` of
arch/x86/kernel/dumpstack.c panics with "Fatal exception". The report of that trouble is before
it in the log. Reports of earlier trouble are there as well, which the kernel survived.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .machinery import without_machinery

__all__ = ["HUNG", "STAMP", "LastWords", "Trouble", "last_words"]

# "[   12.345678] ", and who printed it where CONFIG_PRINTK_CALLER is set
STAMP = re.compile(r"\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?")
PANIC = "Kernel panic - not syncing: "
# __die() and __die_header() of arch/x86/kernel/dumpstack.c: "TEXT: 0002 [#1] SMP", on which every
# exception that the kernel cannot handle ends. Its counter is that of oopses since the boot
OOPS = re.compile(r"(?:[\w(].*: )[0-9a-f]{4} \[#\d+\]")
# What comes a few lines before it and says more: show_fault_oops() of arch/x86/mm/fault.c (before
# 5.1 "unable to handle kernel ..."), handle_stack_overflow() of traps.c, bug.c. Many a "BUG: " is
# of something else, and the kernel goes on
BEFORE = re.compile(
    r"BUG: (?:unable to handle |kernel NULL pointer dereference|(?:[\w#]+ )?stack guard page )"
    r"|kernel BUG at |(?:traps: )?PANIC: double fault"
)
MOST_BEFORE = 8  # lines: "#PF: ...", "PGD ...", "cut here"
# Those who call check_panic_on_warn(), each with its own name since 6.2 (79cc1ba7badf): __warn() of
# kernel/panic.c ("kernel"), lib/ubsan.c, and the report.c of kernel/kcsan, mm/kasan and mm/kfence.
# __schedule_bug() is one, too; its panic says it all
WARNINGS = {
    "kernel": r"WARNING: ",
    "UBSAN": r"UBSAN: ",
    **{name: rf"BUG: {name}: " for name in ("KASAN", "KCSAN", "KFENCE")},
}
SOFT = re.compile(r"(?:NMI )?(?:watchdog: )?BUG: soft lockup")  # kernel/watchdog.c
DOUBLE = re.compile(r"(?:traps: )?PANIC: double fault")  # arch/x86/kernel/traps.c
# "CPU3: " is the one that detected it: "watchdog: output this_cpu when printing hard LOCKUP" (2024)
HARD = re.compile(r"(?:NMI )?(?:watchdog: )?(?:CPU\d+: )?Watchdog detected hard LOCKUP")
HUNG = re.compile(r"INFO: task (?P<task>.+):(?P<pid>\d+) blocked for more than")  # hung_task.c
ANY_WARNING = re.compile("|".join(WARNINGS.values()))
ON_WARN = r"(?:panic_on_warn set|system warned too often)"
HUNG_PANIC = "hung_task: blocked tasks"
# What a panic says that followed a report at once, and which line such a report has
AT_ONCE = (
    (re.compile(ON_WARN), ANY_WARNING),
    *((re.compile(f"{who}: {ON_WARN}"), re.compile(line)) for who, line in WARNINGS.items()),
)
# The same where a list of tasks or the stacks of all cpus may be between the two
FOLLOWED = (
    (re.compile(r"Fatal exception"), OOPS),  # oops_end()
    (re.compile(r"Oopsed too often"), OOPS),  # make_task_dead() of kernel/exit.c
    (re.compile(r"softlockup: hung tasks"), SOFT),
    (re.compile(r"Hard LOCKUP"), HARD),
    (re.compile(r"Machine halted"), DOUBLE),  # exc_double_fault(), before it df_debug()
    (re.compile(HUNG_PANIC), HUNG),
)  # fmt: skip
# do_exit() of kernel/exit.c: these may die of an oops, or of something else
KILLED = (
    (re.compile(r"Attempted to kill init!"), 1),
    (re.compile(r"Attempted to kill the idle task!"), 0),
)

WHO = re.compile(
    r"CPU: (?P<cpu>\d+) (?:UID: \d+ )?PID: (?P<pid>\d+) Comm: (?P<task>.*?) (?:Not t|T)ainted"
)
# "RIP: e030:name+0x1/0x2 [module]"; before 4.10 "RIP: e030:[<address>]  [<address>] name+0x1/0x2"
RIP = re.compile(
    r"RIP: (?:(?!00[23]3)[0-9a-f]{4}:)(?:\[<[0-9a-f]+>\] *)*(?P<where>\S+(?: \[[\w-]+\])?)"
)  # of the kernel: __USER_CS is 33, __USER32_CS 23
NAME = re.compile(r"(?P<name>[A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+(?P<module> \[[\w-]+\])?")
CALL = re.compile(rf" *(?:\[<[0-9a-f]+>\] )?(?P<guess>\? )?{NAME.pattern}")
MARK = re.compile(r" *</?(?:TASK|IRQ|NMI|EOI|SOFTIRQ|#?\w+)>|$")  # of the stacks in a call trace
TRACE = re.compile(r"Call Trace:")
END_TRACE = re.compile(r"---\[ end trace")
CUT = re.compile(r"-+\[ cut here \]-+")
# Of what was interrupted, in a call trace: "x86/dumpstack: Print any pt_regs found ..." of 4.10
REGISTERS = re.compile(r"(?:Code|R(?!IP)[A-Z0-9]{2}): ?")
# After the end of an oops its registers are printed again: 4.18, b8c1e4292505
SUMMARY = re.compile(
    rf"{REGISTERS.pattern}|(?:RIP|[FC]S|CR2|DR0|DR3|PKRU): ?|Kernel Offset|Rebooting"
)
MOST_LINES = 150  # of a report


@dataclass(frozen=True)
class Trouble:
    """A report in the kernel's log.

    ``headline`` says what it was, ``rip`` where, such as ``name+0x1/0x2 [module]``, or an address
    that is in no function. ``functions`` begin with that one; its callers follow. ``lines`` are
    those of the log.
    """

    headline: str
    rip: str | None
    functions: tuple[str, ...]
    task: str | None
    pid: int | None
    lines: tuple[str, ...]

    @property
    def short(self) -> str:
        """What it was, and where."""
        return f"{self.headline}, RIP: {self.rip}" if self.rip else self.headline


@dataclass(frozen=True)
class LastWords:
    """What a log says of its kernel's death.

    ``panic`` is the message of the panic, if there was one, ``trouble`` what led to it or, if the
    log ends with it, to the death; ``earlier`` are oopses that the kernel survived.
    ``functions`` are where it died, or where the task waits that it panicked for, and the callers.
    """

    panic: str | None
    trouble: Trouble | None
    earlier: tuple[Trouble, ...]
    functions: tuple[str, ...]

    @property
    def headline(self) -> str | None:
        """What killed the kernel, or None if its log does not say it."""
        if self.trouble is None or self.hung is not None:
            return self.panic
        return self.trouble.short

    @property
    def for_hung(self) -> bool:
        """Whether the kernel panicked for tasks that hung."""
        return self.panic is not None and self.panic.startswith(PANIC + HUNG_PANIC)

    @property
    def hung(self) -> int | None:
        """The PID of the hung task that the kernel panicked for, or None."""
        hung = self.trouble and HUNG.match(self.trouble.headline)
        return self.trouble.pid if hung and self.trouble else None


def last_words(lines: Sequence[str], hung: int | None = None) -> LastWords:
    """Return what a log says of its kernel's death.

    :param lines: all that is left of the log, each with its time.
    :param hung: the PID of the task that it hung for, if that is known; else the last one is it.
    """
    texts = [STAMP.sub("", line, count=1) for line in lines]
    panics = [at for at, text in enumerate(texts) if text.startswith(PANIC)]
    end = panics[-1] if panics else len(texts)
    oopses = [at for at, text in enumerate(texts[:end]) if OOPS.match(text)]
    panic = texts[end] if panics else None
    at = _led_to(texts, end, oopses, panic, hung)
    trouble = None if at is None else _report(lines, texts, at, end)
    earlier = [_report(lines, texts, one, end) for one in oopses if one != at]
    functions: tuple[str, ...] = ()
    if trouble and HUNG.match(trouble.headline):
        functions = without_machinery(trouble.functions, waits=True)
    elif trouble and trouble.functions:  # by a RIP, or by a stack that has the report in it
        functions = trouble.functions if trouble.rip else without_machinery(trouble.functions)
    elif panics:  # its own stack is below it
        functions = without_machinery(_report(lines, texts, end, len(texts)).functions)
    return LastWords(panic, trouble, tuple(earlier), functions)


def _led_to(
    texts: list[str], end: int, oopses: list[int], panic: str | None, hung: int | None
) -> int | None:
    """Return the line of the report that led to the death, or None."""
    if panic is None:
        return oopses[-1] if oopses and _is_last(texts, oopses[-1]) else None
    said = panic[len(PANIC) :]
    for table, start in ((AT_ONCE, max(end - MOST_LINES, 0)), (FOLLOWED, 0)):
        for text, pattern in table:
            if text.match(said):
                found = [at for at in range(start, end) if pattern.match(texts[at])]
                if pattern is HUNG and hung is not None:
                    found = [at for at in found if f":{hung} blocked for" in texts[at]]
                return found[-1] if found else None
    for text, pid in KILLED:
        if text.match(said) and oopses:
            who = _who(texts[oopses[-1] : end])
            return oopses[-1] if who and int(who["pid"]) == pid else None
    return None


def _is_last(texts: list[str], at: int) -> bool:
    """Return True if nothing follows the report of an oops: the kernel did not go on."""
    ends = [number for number, text in enumerate(texts) if number > at and END_TRACE.match(text)]
    after = texts[ends[0] + 1 :] if ends else texts[at + MOST_LINES :]
    return all(SUMMARY.match(text) for text in after)


def _report(lines: Sequence[str], texts: list[str], at: int, limit: int) -> Trouble:
    """Return the report that has the line ``at``; it ends before the line ``limit``."""
    start = headline = at
    for before in range(at - 1, max(at - MOST_BEFORE, 0) - 1, -1):
        if OOPS.match(texts[before]) or END_TRACE.match(texts[before]):
            break
        if OOPS.match(texts[at]) and BEFORE.match(texts[before]):
            start = headline = before
            break
    if start and CUT.match(texts[start - 1]):
        start -= 1
    stop = min(at + MOST_LINES, limit)
    for after in range(at + 1, stop):
        if END_TRACE.match(texts[after]):
            stop = after + 1
            break
        if OOPS.match(texts[after]) or HUNG.match(texts[after]):
            stop = after
            break
    body = texts[at:stop]
    # one in the call trace is not where it happened, but what was interrupted
    trace = next((number for number, text in enumerate(body) if TRACE.match(text)), len(body))
    rip = next((found["where"] for text in body[:trace] if (found := RIP.match(text))), None)
    who = HUNG.match(texts[at]) or _who(body)
    named = NAME.fullmatch(rip or "")
    calls = list(_calls(body))
    return Trouble(
        texts[headline].rstrip(),
        rip,
        tuple([_name(named), *calls] if named and calls[:1] != [_name(named)] else calls),
        who["task"] if who else None,
        int(who["pid"]) if who else None,
        tuple(lines[start:stop]),
    )


def _who(texts: Sequence[str]) -> re.Match[str] | None:
    return next((found for text in texts if (found := WHO.search(text))), None)


def _calls(texts: Sequence[str]) -> Iterator[str]:
    """Yield the functions of the first call trace, innermost first, without guesses."""
    started = False
    for text in texts:
        found = CALL.match(text)
        if TRACE.match(text):
            started = True
        elif started and found:
            if not found["guess"]:
                yield _name(found)
        elif started and (interrupted := RIP.match(text)):
            named = NAME.fullmatch(interrupted["where"])
            if named:
                yield _name(named)
        elif started and not (MARK.match(text) or REGISTERS.match(text)):
            return


def _name(found: re.Match[str]) -> str:
    """Return a function with its module, without what the compiler adds: ``.cold``, ``.isra.0``."""
    return found["name"].partition(".")[0] + (found["module"] or "")
