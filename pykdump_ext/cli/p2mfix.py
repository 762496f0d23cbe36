"""``p2mfix VMLINUX VMCORE [crash options]``: a full crash session on any Xen dump.

A dump that crash can read by itself is opened by plain crash; one whose p2m
list is broken by ``crash --minimal``, repaired and carried on.  In both cases
this process becomes crash, so its exit status and Ctrl-C are crash's own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from ..crashes import misses_pv_kernel
from ..errors import P2mError
from ..kernel import xen_info
from ..memory import ElfCore
from ..namelist import Namelist
from ..p2m import diagnose
from . import fail
from .setup import crash_version, host_path, installed_crash

AFTERWARDS = "PYKDUMP_EXT_AFTERWARDS"  # read by host/session.py


def needs_help(crash: str, vmlinux: str, vmcore: str) -> bool:
    """True unless plain crash is known to open the dump by itself.

    :raises P2mError: one of the files cannot be opened.
    """
    for path in (vmlinux, vmcore):
        try:
            with Path(path).open("rb"):
                pass
        except OSError as error:
            raise P2mError(f"{path}: {error.strerror}") from None
    try:
        core = ElfCore(vmcore)
    except P2mError:
        return False  # not ELF: what it is, crash says
    info = xen_info(core.notes)
    if info is None:
        return False
    try:
        namelist = Namelist(vmlinux)
        if misses_pv_kernel(crash_version(crash) or "", namelist):
            return True
        return not diagnose(core, namelist, namelist.banner(), info).healthy
    except P2mError:
        return True  # what is wrong is said inside crash


def crash_options(options: Sequence[str]) -> tuple[list[str], bool, str | None]:
    """Take out the options that must wait until the full session is there.

    Return the others, whether ``.crashrc`` files are to be run, and the file
    of ``-i``.
    """
    others, rcfiles, commands = [], True, None
    words = iter(options)
    for word in words:
        if word == "--no_crashrc":
            rcfiles = False
        elif word == "-i":
            commands = next(words, None)
        elif word.startswith("-i") and not word.startswith("--"):
            commands = word[2:]
        elif word != "--minimal":
            others.append(word)
    return others, rcfiles, commands


def command_line(vmlinux: str, vmcore: str, options: Sequence[str]) -> list[str]:
    """Return the command that opens the dump, and set what it needs in the environment.

    :raises P2mError: a file, or crash, is not there.
    """
    crash = installed_crash()
    if crash is None:
        raise P2mError("crash is not installed: install the package crash")
    if not needs_help(crash, vmlinux, vmcore):
        return [crash, vmlinux, vmcore, *options]
    others, rcfiles, commands = crash_options(options)
    os.environ[AFTERWARDS] = json.dumps({"rcfiles": rcfiles, "input": commands})
    first = os.memfd_create("p2mfix", 0)  # stays open: crash reads it by this name
    os.write(first, f"extend {host_path()}\nextend p2mfix.py\n".encode())
    start = ["--minimal", "--no_crashrc", "-i", f"/proc/self/fd/{first}"]
    return [crash, *start, vmlinux, vmcore, *others]


def parser() -> argparse.ArgumentParser:
    """Return the parser of ``p2mfix``."""
    made = argparse.ArgumentParser(
        prog="p2mfix",
        description="Opens the dump of a Xen host in crash, repairing crash's p2m where the"
        " dump's list is broken. The dump itself is never written.",
    )
    made.add_argument("vmlinux", metavar="VMLINUX", help="dom0's kernel with debugging information")
    made.add_argument("vmcore", metavar="VMCORE", help="the dump of the host")
    made.add_argument(
        "options", nargs=argparse.REMAINDER, metavar="...", help="options handed to crash"
    )
    made.add_argument("--version", action="version", version=f"p2mfix {__version__}")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``p2mfix``; does not return when crash could be started."""
    args = parser().parse_args(argv)
    try:
        command = command_line(args.vmlinux, args.vmcore, args.options)
        sys.stdout.flush()
        os.execv(command[0], command)
    except (P2mError, OSError) as error:
        fail("p2mfix", error)
