# SPDX-License-Identifier: GPL-3.0-or-later
"""The first part of a report: which of the two died, of what, when, and where."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..xen.death import ASKED, DOM0, XEN, Death, who_died
from ..xen.version import XenVersion, read_version
from .before import LONG, blocked, end_of_hang, out_of_memory, pid_of
from .blocks import Block, Cell, Facts, Lines, Paragraph
from .case import Case
from .last_words import LastWords, last_words
from .machinery import functions_of, without_machinery
from .part import Part

if TYPE_CHECKING:
    import drgn

__all__ = ["WHERE", "Happened"]

SUBJECTS = {
    DOM0: "dom0 died",
    XEN: "Xen died",
    ASKED: "A crash dump was asked for at Xen's console (key C)",
    None: "It is not clear whether dom0 or Xen died",
}
WHERE = "where it died"  # the index groups by its first function
LAST_TROUBLE = "The last trouble in dom0's log"  # it may be older than the death, and not its cause
OF_HUNG = "Stack of the task that hung"
MOST_FUNCTIONS = 8  # of a stack, from where it died: what led there differs more


class Happened(Part):
    """What happened: the answer first, then what the host was."""

    name = "happened"
    title = "What happened"

    def blocks(self, case: Case) -> Iterator[Block]:
        """Yield the answer, facts, and the stack of the task that crashed the kernel."""
        console = case.tried("Xen's console", lambda: case.console)
        host = case.tried("what the cpus ran", lambda: case.host)
        death = who_died(console.lines if console else (), host)
        if console is None and host is None:
            death = Death(None, "neither Xen's console nor its vcpus could be found")
        prog = case.tried("what dom0's kernel knows", lambda: case.prog)
        unread = None if prog else case.notes[-1].partition(": ")[2]
        words = case.tried("dom0's last words", lambda: last_words(case.log)) if prog else None
        hung = None
        if words and words.for_hung:
            hung = case.tried("which task hung", lambda: hung_task(case)) or words.hung
            words = last_words(case.log, hung)
        if death.died is None and words and words.panic:  # if Xen had died, dom0 could not panic
            death = Death(DOM0, f"dom0's log has its panic; {death.why}")
        yield from map(Paragraph, answer(death, words, unread, case.opened.dump.incomplete))
        if words:
            yield from map(Paragraph, before(case, words.for_hung))
        if death.message:
            yield Lines("What Xen wrote of it", death.message)
        stacks = list(stack_blocks(case, prog, death, words, hung)) if prog else []
        yield Facts(list(self._facts(case, death, words, stacks)))
        if words and words.trouble:
            title = "What dom0's log has of it"
            yield Lines(title if of_dom0(death) else LAST_TROUBLE, words.trouble.lines)
        yield from stacks
        for one in words.earlier if words else ():
            yield Lines("An earlier oops, survived", one.lines)

    def _facts(
        self, case: Case, death: Death, words: LastWords | None, stacks: list[Lines]
    ) -> Iterator[tuple[str, Cell]]:
        opened = case.opened
        where = functions(death, words, stacks)[:MOST_FUNCTIONS]
        if where:
            yield WHERE, " < ".join(where)
        if words and words.panic:
            yield "dom0's panic", words.panic
        yield "dump", " ".join(opened.paths)
        yield "format", opened.dump.format
        why = opened.dump.incomplete
        yield "is it whole", f"no: {why}" if why else "yes: no part of the file is missing"
        if "prog" in vars(case):
            from ..drgn import last_moments as last  # noqa: PLC0415

            prog = case.prog
            yield "time of the crash", case.tried("the time", lambda: last.time_of_crash(prog))
            yield "uptime", case.tried("the uptime", lambda: last.uptime(prog))
            yield "host name", case.tried("the host name", lambda: last.host_name(prog))
        yield "Linux", case.opened.own_release or case.tried("Linux", lambda: opened.release)
        if "prog" in vars(case):
            yield "taints", case.tried("the taints", lambda: last.taints(prog))
        yield from xen_facts(case.tried("Xen's version", lambda: version(case)))


def hung_task(case: Case) -> int | None:
    """Return the PID of the task at the end of a hang, if one is blocked."""
    task = end_of_hang(case.blocked[0], case.waiters, case.log)
    return pid_of(task) if task else None


def before(case: Case, hung: bool) -> Iterator[str]:
    """Yield what was wrong with dom0 before.

    :param hung: tasks that hung are what it died of.
    """
    found = case.tried("the blocked tasks", lambda: case.blocked)
    if found and found[0] and (hung or (found[0][0].seconds or 0) >= LONG):
        waiters = case.tried("locks", lambda: case.waiters)
        yield from blocked(*found, waiters or [])
    yield from case.tried("how memory ran out", lambda: [*out_of_memory(case.log)]) or ()


def answer(
    death: Death,
    words: LastWords | None,
    unread: str | None = None,
    incomplete: str | None = None,
) -> Iterator[str]:
    """Yield the answer: a short sentence, then how that is known, then what was before.

    :param words: what the log of dom0's kernel says, if it can be read.
    :param unread: why nothing of dom0's kernel can be read.
    :param incomplete: what the dump lacks.
    """
    subject = SUBJECTS[death.died]
    said = words.headline if words else None
    headline = said if of_dom0(death) else death.headline
    if headline:
        yield f"{subject}: {headline}"
    elif unread and death.died == DOM0:
        yield f"{subject}; why is not known: {unread}"
    else:
        yield f"{subject}."
    if incomplete:
        yield f"The dump is not whole: {incomplete}."
    yield f"{death.why}." if death.died == DOM0 else f"{death.why[:1].upper()}{death.why[1:]}."
    if said and not of_dom0(death):
        yield f"dom0's log has, from before: {said}"
    for one in words.earlier if words else ():
        task = f" (task {one.task}, PID {one.pid})" if one.task else ""
        yield f"An earlier oops, survived: {one.short}{task}"


def of_dom0(death: Death) -> bool:
    """Return True if dom0's log is where to look for what killed the host."""
    return death.died in (DOM0, None) and death.headline is None


def functions(death: Death, words: LastWords | None, stacks: list[Lines]) -> tuple[str, ...]:
    """Return the functions where dom0's kernel or Xen died, and their callers, innermost first."""
    if death.died in (XEN, ASKED):
        return death.functions
    if stacks and stacks[0].title.startswith(OF_HUNG) and not (words and words.trouble):
        return without_machinery(functions_of(stacks[0].lines), waits=True)
    if words and words.functions and death.headline is None:
        return words.functions
    return without_machinery(functions_of(stacks[0].lines)) if stacks else ()


def stack_blocks(
    case: Case, prog: drgn.Program, death: Death, words: LastWords | None, hung: int | None
) -> Iterator[Lines]:
    """Yield the stack of the task that hung, by its PID, and of the one that crashed the kernel."""
    from ..drgn import last_moments as last  # noqa: PLC0415  (drgn is installed)

    if hung is not None:
        found = case.tried("the stack of the hung task", lambda: last.stack_of_pid(prog, hung))
        if found:
            yield Lines(f"{OF_HUNG}: {found[0]}", found[1])
    panicked = death.vcpu is not None or death.headline is None or (words and words.panic)
    if death.died == DOM0 and panicked:
        found = case.tried("the stack of the panic", lambda: last.last_stack(prog, death.vcpu))
        if found:
            did = "was running when Xen crashed dom0" if death.headline else "crashed the kernel"
            yield Lines(f"Stack of the task that {did}: {found[0]}", found[1])


def version(case: Case) -> XenVersion:
    """Return what the dump has of Xen's version.

    :raises P2mError: it has none.
    """
    dump = case.opened.dump
    xen = case.tried("Xen's memory", lambda: case.opened.xen)
    lines = case.console.lines if "console" in vars(case) else ()
    return read_version(dump, dump.notes, xen, lines)


def xen_facts(found: XenVersion | None) -> Iterator[tuple[str, Cell]]:
    """Yield Xen's version as facts; what the dump does not have is left out."""
    if found is None:
        return
    facts = {
        "Xen": found.version,
        "Xen's changeset": found.changeset,
        "Xen was built": found.built,
        "Xen's compiler": found.compiler,
        "Xen's build ID": found.build_id,
        "Xen's taints": None if found.taints is None else ", ".join(found.taints) or "none",
    }
    yield from ((name, value) for name, value in facts.items() if value)
