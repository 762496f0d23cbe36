# SPDX-License-Identifier: GPL-3.0-or-later
"""The first part of a report: which of the two died, of what, when, and where."""

from __future__ import annotations

from collections.abc import Iterator

from ..xen.death import Death, who_died
from ..xen.version import XenVersion, read_version
from .blocks import Block, Cell, Facts, Lines, Paragraph
from .case import Case
from .part import Part

__all__ = ["Happened"]

SUBJECTS = {
    "dom0": "dom0 died",
    "Xen": "Xen died",
    None: "It is not clear whether dom0 or Xen died",
}


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
        message = None
        if prog:
            from ..drgn import last_moments as last  # noqa: PLC0415  (drgn is installed)

            message = case.tried("the panic message", lambda: last.panic_message(prog))
        yield from map(Paragraph, answer(death, message))
        if death.message:
            yield Lines("Xen's panic", death.message)
        yield Facts(list(self._facts(case)))
        if prog and (message or death.died == "dom0"):
            found = case.tried("the stack of the panic", lambda: last.last_stack(prog))
            if found:
                yield Lines(f"Stack of the task that crashed the kernel: {found[0]}", found[1])

    def _facts(self, case: Case) -> Iterator[tuple[str, Cell]]:
        opened = case.opened
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


def answer(death: Death, message: str | None) -> Iterator[str]:
    """Yield the answer: a short sentence, then how that is known.

    :param message: the panic message of dom0's kernel, if there is one.
    """
    subject = SUBJECTS[death.died]
    why = f"{death.why[:1].upper()}{death.why[1:]}." if death.died != "dom0" else f"{death.why}."
    if death.died != "Xen":
        yield f"{subject}: {message}" if message else f"{subject}."
        yield why
        return
    yield f"{subject}: {death.message[0] if death.message else death.why}"
    if death.message:
        yield why
    if message:
        yield f"dom0's log has, from before: {message}"


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
