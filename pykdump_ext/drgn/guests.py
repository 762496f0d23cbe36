# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of guests, by drgn: what command lines of dom0's processes have."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from getopt import GetoptError, gnu_getopt

import drgn

from .helpers import linux
from .tasks import every_task
from .walks import attempt, text

__all__ = ["guest_names"]

Found = tuple[bytes, bytes]  # a domain's id in digits, and its name; empty where there is none


def _of_qemu(words: Sequence[bytes]) -> Found:
    """Return what QEMU, a device model, has: ``-xen-domid 5 -name work,process=...``.

    A comma that is part of the name is there twice.
    """
    values = dict(zip(words, words[1:]))
    name = values.get(b"-name", b"").replace(b",,", b"\0").partition(b",")[0]
    return values.get(b"-xen-domid", b""), name.removeprefix(b"guest=").replace(b"\0", b",")


# Of qrexec-daemon (daemon/qrexec-daemon.c of Qubes OS's core-qrexec)
OPTIONS = ["help", "quiet", "socket-dir=", "policy-program=", "direct", "uuid="]


def _of_qubes(words: Sequence[bytes]) -> Found:
    """Return what follows the options of daemons that Qubes OS has for each guest.

    ``qrexec-daemon -q 5 work user`` is one (qubes/vm/qubesvm.py of its core-admin). An option that
    is not known may have a value, so that no name is found.
    """
    script = len(words) > 1 and words[1].startswith(b"/")  # behind its interpreter
    given = [os.fsdecode(word) for word in words[2 if script else 1 :]]
    try:
        _, values = gnu_getopt(given, "hqDp:", OPTIONS)
    except GetoptError:
        return b"", b""
    number, name, *_ = *map(os.fsencode, values), b"", b""
    return (number, name) if number.isdigit() and name else (b"", b"")


# By the beginning of a process's name
PROGRAMS: dict[bytes, Callable[[Sequence[bytes]], Found]] = {
    b"qemu": _of_qemu,
    b"qrexec-daemon": _of_qubes,
    b"qubesdb-daemon": _of_qubes,
}


LONGEST = 1 << 20  # bytes of a command line; fs/exec.c allows a few MiB


def guest_names(prog: drgn.Program, domains: Iterable[int], notes: list[str]) -> dict[int, str]:
    """Return the names of domains, as command lines of processes have them."""
    known = {b"%d" % domain: domain for domain in domains}
    found: dict[int, str] = {}
    for task in every_task(prog, notes):
        what = f"the command line of the task at {task.value_():x}"
        number, name = attempt(what, notes, _name_in, task) or (b"", b"")
        if number in known and name:
            found[known[number]] = text(name)
    return found


def _name_in(task: drgn.Object) -> Found:
    """Return the domain and its name in the command line of a task."""
    comm = task.comm.string_()
    read = next((one for name, one in PROGRAMS.items() if comm.startswith(name)), None)
    if read is None or not task.mm:
        return b"", b""
    size = task.mm.arg_end.value_() - task.mm.arg_start.value_()
    try:
        return read(linux.cmdline(task) or []) if 0 < size <= LONGEST else (b"", b"")
    except drgn.FaultError:  # its memory is not in the dump
        return b"", b""
