"""``p2mfix VMLINUX VMCORE... [crash options]``: a full crash session on any Xen dump.

A dump that crash can read by itself is opened by plain crash; one whose p2m
list is broken by ``crash --minimal``, repaired and carried on.  The rebuilt list
is given to crash before it reads anything, so that it starts whatever the
dump's own list has come to.  In every case this process becomes crash: its exit
status and Ctrl-C are crash's own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import argcomplete
from argcomplete.completers import FilesCompleter

from .. import __version__
from ..crashes import misses_pv_kernel
from ..domains import domain_info
from ..dumps import is_dump, open_dump
from ..errors import P2mError
from ..kernel import xen_info
from ..memory import ElfCore
from ..namelist import Namelist, Relocated
from ..p2m import FrameList, diagnose
from ..preload import preload
from . import diagnose as diagnose_command
from . import domains as domains_command
from . import drgn as drgn_command
from . import fail
from . import map as map_command
from . import rewrite as rewrite_command
from .setup import crash_version, host_path, installed_crash

AFTERWARDS = "PYKDUMP_EXT_AFTERWARDS"  # these two are read by host/session.py
DOMAIN = "PYKDUMP_EXT_DOMAIN"


@dataclass(frozen=True)
class Help:
    """What crash needs to open a dump: a list to begin with, where one could be rebuilt."""

    frames: FrameList | None = None


def help_for(crash: str, files: Sequence[str], offset: int) -> Help | None:
    """Return what crash needs, or None when it is known to open the dump by itself.

    :param files: the namelist, then whatever crash is given besides.
    :param offset: how far above its link-time addresses the kernel ran, in bytes.
    :raises P2mError: one of the files cannot be opened.
    """
    for path in files:
        try:
            with Path(path).open("rb"):
                pass
        except OSError as error:
            raise P2mError(f"{path}: {error.strerror}") from None
    try:
        dump = open_dump([path for path in files if is_dump(path)])
        info = xen_info(dump.notes)
    except P2mError:
        return None  # what it is, crash says
    if isinstance(dump, ElfCore) and dump.file.rewritten:
        # store_flat_data_array() of crash 8.0.2, and of later ones, keeps both
        flat = dump.file.path
        print(
            f"p2mfix: {flat}: flattened, with the headers of its ELF file in it twice: where crash"
            f" takes the wrong ones and ends, makedumpfile -R DUMP < {flat} makes a plain dump",
            file=sys.stderr,
        )
    if info is None:
        return None
    try:
        namelist = Namelist(files[0])
        info = domain_info(dump, dump.notes, 0) or info
        found = diagnose(dump, Relocated(namelist, offset), namelist.banner(), info)
    except P2mError:
        return Help()  # not to be diagnosed: what is wrong is said inside crash
    if not found.healthy and found.check.passed:
        return Help(found.rebuilt)
    misses = misses_pv_kernel(crash_version(crash) or "", namelist)
    return Help() if misses or not found.healthy else None


def help_for_guest(files: Sequence[str], offset: int, domain: int) -> Help:
    """Return what crash needs to open the kernel of another domain than dom0.

    :param files: as for :func:`help_for`, and ``offset``.
    :raises P2mError: the dump has no such domain, or it cannot be opened.
    """
    os.environ[DOMAIN] = str(domain)
    dump = open_dump([path for path in files if is_dump(path)])
    namelist = Namelist(files[0])
    info = domain_info(dump, dump.notes, domain)
    if info is None:
        raise P2mError(f"{files[-1]}: not a dump of a Xen host")
    found = diagnose(dump, Relocated(namelist, offset), namelist.banner(), info)
    if not found.check.passed:
        raise P2mError(
            f"the list rebuilt for domain {domain} fails its check: of {found.check.asked}"
            f" pages the direct map agrees on {found.check.agree}"
        )
    return Help(found.rebuilt)


# crash's options that take a value of their own (main.c, getopt_long()); -i apart
WITH_VALUE = (
    "-c", "-d", "-e", "-m", "-o", "-p", "--cpus", "--hash", "--kaslr", "--kvmhost", "--kvmio",
    "--log", "--machdep", "--memory_device", "--memory_module", "--mod", "--offline",
    "--osrelease", "--p2m_mfn", "--reloc", "--src", "--xen_phys_start",
)  # fmt: skip


def relocation(options: Sequence[tuple[str, str]]) -> int:
    """Return how far above its link-time addresses crash's options have the kernel, in bytes.

    ``--kaslr=OFFSET`` says that, ``--reloc=SIZE`` how far below (main.c); what
    crash takes for a number, calculate() of tools.c.  ``--kaslr=auto`` is no
    offset: the Linux vmcoreinfo that would tell it is not in a host's dump.
    """
    offset = 0
    for option, value in options:
        number = re.fullmatch(r"(~?)(0[xX])?([0-9a-fA-F]+?)([kKmMgG]?)", value)
        if option not in ("--kaslr", "--reloc") or number is None:
            continue
        inverted, prefix, digits, unit = number.groups()
        found = int(digits, 10 if digits.isdecimal() and not prefix else 16)
        found <<= {"": 0, "k": 10, "m": 20, "g": 30}[unit.lower()]
        if inverted:
            found = ~found
        offset = found if option == "--kaslr" else -found
    return offset


def command_line(args: argparse.Namespace, others: Sequence[str]) -> list[str]:
    """Return the command that opens the dump, and set what it needs in the environment.

    ``others`` are the options that crash is given as they are.

    :raises P2mError: a file, or crash, is not there.
    """
    crash = installed_crash()
    if crash is None:
        chosen = os.environ.get("CRASH")
        if chosen:
            raise P2mError(f"{chosen}, which the variable CRASH names, is not a program")
        raise P2mError("crash is not installed: install the package crash")
    files = sorted(args.files, key=is_dump)  # crash takes them in any order
    options = [*others, *(word for pair in args.values for word in pair)]
    offset = relocation(args.values)
    if args.domain:
        needed: Help | None = help_for_guest(files, offset, args.domain)
    else:
        needed = help_for(crash, files, offset)
    if needed is not None and needed.frames is not None:
        preload(needed.frames)
    if needed is None or args.minimal:
        options += ["--minimal"] if args.minimal else []
        later = ["-i", args.input] if args.input else []
        rcfiles = ["--no_crashrc"] if args.no_crashrc else []
        return [crash, *options, *rcfiles, *later, *files]
    os.environ[AFTERWARDS] = json.dumps({"rcfiles": not args.no_crashrc, "input": args.input})
    first = os.memfd_create("p2mfix", 0)  # stays open: crash reads it by this name
    os.write(first, f"extend {host_path()}\nextend p2mfix.py\n".encode())
    start = ["--minimal", "--no_crashrc", "-i", f"/proc/self/fd/{first}"]
    return [crash, *start, *options, *files]


class Value(argparse.Action):
    """Keeps an option of crash's together with its value."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        """Add (option, value) to ``namespace.values``."""
        namespace.values = [*namespace.values, (option_string, values)]


COMMANDS: dict[str, ModuleType] = {
    "diagnose": diagnose_command,
    "map": map_command,
    "rewrite": rewrite_command,
    "drgn": drgn_command,
    "domains": domains_command,
}
EPILOG = """\
commands:
{commands}
  p2mfix COMMAND --help tells of each. A vmlinux with the name of a command is given as ./NAME.

examples:
  p2mfix vmlinux vmcore                 a full crash session
  p2mfix vmlinux vmcore -s -i commands  options of crash go to crash
  p2mfix vmlinux vmcore.1 vmcore.2      the files of a split dump, in any order
  p2mfix --kaslr=0x1c000000 vmlinux vmcore
  p2mfix diagnose --jobs 4 /var/crash   a line for each dump in a folder

environment:
  CRASH         the crash to run, where it is not the one of the path
  P2MFIX_DEBUG  1: errors inside crash come with a Python traceback

exit status:
  crash's own once crash has been started; 1 after an error, 2 after a wrong command line.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of ``p2mfix VMLINUX VMCORE``; it knows the crash options it must."""
    commands = "\n".join(f"  {name:<10} {made.SUMMARY}" for name, made in COMMANDS.items())
    made = argparse.ArgumentParser(
        prog="p2mfix",
        usage="p2mfix [-h] [--version] [--domain N] VMLINUX VMCORE... [crash options]\n"
        "       p2mfix COMMAND ...",
        description="Opens the dump of a Xen host in crash, repairing crash's p2m where the\n"
        "dump's list of it is broken. The dump itself is never written. All options of crash\n"
        "may be given.",
        epilog=EPILOG.format(commands=commands),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    files = made.add_argument(
        "files", nargs="*", metavar="FILE", help="dom0's vmlinux, and the dump's file or files"
    )
    files.completer = _first_words  # type: ignore[attr-defined]
    made.add_argument(
        "--domain", type=int, default=0, metavar="N", help="open PV guest N; FILE is its vmlinux"
    )
    made.add_argument("-i", dest="input", metavar="FILE", help="crash commands to run first")
    made.add_argument("--no_crashrc", action="store_true", help="do not run .crashrc files")
    made.add_argument("--minimal", action="store_true", help=argparse.SUPPRESS)
    for option in WITH_VALUE:
        made.add_argument(option, action=Value, dest="values", default=[], help=argparse.SUPPRESS)
    made.add_argument("--version", action="version", version=f"p2mfix {__version__}")
    return made


def command_parser(name: str, with_name: bool = False) -> argparse.ArgumentParser:
    """Return the parser of ``p2mfix NAME``, of what is behind that, or with the name itself."""
    module = COMMANDS[name]
    made = argparse.ArgumentParser(
        prog=f"p2mfix {name}",
        description=module.DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if with_name:
        made.add_argument("name", choices=[name])
    module.add_arguments(made)
    return made


def _first_words(prefix: str, **_: object) -> list[str]:
    """Complete the first word: a command, or a file."""
    commands = [name for name in COMMANDS if name.startswith(prefix)]
    return [*commands, *FilesCompleter()(prefix)]


def complete() -> None:
    """Answer the shell that asks how a command line may go on; it does nothing otherwise."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    words = os.environ.get("COMP_LINE", "").split()
    if len(words) > 1 and words[1] in COMMANDS:
        made = command_parser(words[1], with_name=True)
    else:
        made = parser()
    argcomplete.autocomplete(made)


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``p2mfix``; does not return when crash could be started."""
    complete()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words and words[0] in COMMANDS:
            COMMANDS[words[0]].run(command_parser(words[0]).parse_args(words[1:]))
            sys.stdout.flush()
        else:
            become_crash(words)
    except P2mError as error:
        fail("p2mfix", error)
    except BrokenPipeError:  # whoever read the output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except OSError as error:
        if words[0] == "drgn":  # a script's own
            raise
        sys.stdout = None  # what could not be written is not tried again at the end
        fail("p2mfix", error)


def become_crash(words: list[str]) -> None:
    """Open a dump in crash, which this process becomes.

    :raises P2mError: a file, or crash, is not there or cannot be used.
    """
    options = parser()
    args, unknown = options.parse_known_args(words)
    args.files += [word for word in unknown if not word.startswith("-")]  # behind an option
    if len(args.files) < 2:
        options.error("the namelist and the dump are wanted")
    try:
        command = command_line(args, [word for word in unknown if word.startswith("-")])
        sys.stdout.flush()
        os.execv(command[0], command)
    except OSError as error:
        raise P2mError(str(error)) from None
