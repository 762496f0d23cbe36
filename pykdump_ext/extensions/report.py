# SPDX-License-Identifier: GPL-3.0-or-later
"""The extension that has the parts of ``p2mfix report`` in a session of crash.

``extend report.py`` adds the commands ``report``, ``xenlog``, ``xenpcpus`` and ``xendomains``.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pykdump_ext.host import CommandError, command
from pykdump_ext.host.session import opened_domain, opened_session
from pykdump_ext.parts import PARTS, chosen
from pykdump_ext.parts.case import Case
from pykdump_ext.parts.document import as_lines, make, part_lines

if TYPE_CHECKING:
    import drgn

_cases: list[Case] = []  # at most one


def program() -> drgn.Program:
    """Return drgn's program on the session's dump.

    :raises P2mError: drgn is not installed, or cannot open the dump.
    """
    import pykdump_ext.drgn  # noqa: F401, PLC0415  (that drgn is not installed is said by this)
    from pykdump_ext.host.drgn_program import session_program  # noqa: PLC0415

    return session_program()


def case() -> Case:
    """Return what the parts share, made at the first call.

    :raises P2mError: the session is not one on a dump of a Xen host, or is on a guest's kernel.
    """
    if opened_domain:
        raise CommandError(
            "a report is about dom0: open the dump without --domain, or use p2mfix report"
        )
    if not _cases:
        _cases.append(Case(opened_session(), program=program))
    elif "prog" in vars(_cases[0]):
        program()  # it has modules that mod -s has loaded since
        _cases[0].forget_stacks()
    return _cases[0]


def show(name: str) -> None:
    """Print one part."""
    (part,) = make(case(), chosen([name]), None).parts  # crash has Ctrl-C, and no alarm
    for line in part_lines(part):
        print(line)


parser = argparse.ArgumentParser(
    description="Show why the host died: all parts of the report, or those that are named."
)
parser.add_argument("part", nargs="*", help=f"the parts are {', '.join(PARTS)}")


@command("report", parser=parser, help="show why the host died", minimal=True)
def report(args: argparse.Namespace) -> None:
    """Run the command ``report``."""
    for line in as_lines(make(case(), chosen(args.part), None)):
        print(line)


def without_arguments(description: str) -> argparse.ArgumentParser:
    """Return the parser of a command that takes no arguments."""
    return argparse.ArgumentParser(description=description)


log = without_arguments("Show what is left of Xen's console in Xen's memory, oldest line first.")


@command("xenlog", parser=log, help="show Xen's console", minimal=True)
def xenlog(args: argparse.Namespace) -> None:
    """Run the command ``xenlog``."""
    show("xenlog")


cpus = without_arguments(
    "Show which vcpu of which domain each physical cpu ran, with its registers, the states of all"
    " vcpus, and the stacks of dom0's."
)


@command("xenpcpus", parser=cpus, help="show what each physical cpu ran", minimal=True)
def xenpcpus(args: argparse.Namespace) -> None:
    """Run the command ``xenpcpus``."""
    show("xenpcpus")


domains = without_arguments(
    "Show the domains of the Xen host: names, memory, vcpus, UUIDs, the devices that dom0's kernel"
    " serves to them, event channels and grants."
)


@command("xendomains", parser=domains, help="show the domains of the Xen host", minimal=True)
def xendomains(args: argparse.Namespace) -> None:
    """Run the command ``xendomains``."""
    show("xendomains")
