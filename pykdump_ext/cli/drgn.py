# SPDX-License-Identifier: GPL-3.0-or-later
"""``p2mfix drgn [VMLINUX] VMCORE... [drgn's options]``: drgn itself, on a Xen host's dump.

Everything but the dump is drgn's own: its options, its prompt, how it runs a script, and how it
finds debug information.  Its program of the running kernel is replaced by one on the dump.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from ..errors import P2mError
from ..linux.namelist import Namelist, is_namelist
from ..machine.dumps import is_dump, open_dump
from ..opened import OpenedDump
from .files import say_namelist

if TYPE_CHECKING:
    import drgn

__all__ = ["DESCRIPTION", "SUMMARY", "add_arguments", "run"]

SUMMARY = "open the dump in drgn: its prompt, a script, or code"
DESCRIPTION = """\
Open the dump of a Xen host in drgn, which cannot read such a dump by itself:
drgn's prompt, a script, or code. All three have the variable prog.

drgn shows the kernel as if it had run without Xen, even if the dump's list is
broken. The options are drgn's own (drgn --help), except those that choose what
is debugged. The exit status is the script's.

The command needs drgn: in the clone that p2mfix was installed from, run
pip install '.[drgn]'"""

# Options of drgn: those that a word follows, and those that choose another program to debug
WITH_WORD = {
    "-e", "-m", "-s", "--debug-directory", "--debug-link-directory", "--extra-symbols",
    "--kernel-directory", "--log-level", "--no-symbols-by", "--symbols", "--try-symbols-by",
}  # fmt: skip
HANDED_ON = {"--", "-c", "--core"}  # what comes before the words; the next word is the dump
OTHERS = {"-k", "--kernel", "-p", "--pid", "--qemu", "--architecture", "--vmcoreinfo"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``p2mfix drgn`` to its parser."""
    parser.usage = "p2mfix drgn [-h] [--domain N] FILE ... [OPTION ...] [SCRIPT] [ARG ...]"
    parser.add_argument("--domain", metavar="N", help="the kernel of PV guest N, not of dom0")
    words = parser.add_argument(
        "words", metavar="FILE", nargs=argparse.REMAINDER,
        help="the dump, or all files of a split dump, and the kernel's vmlinux with debug"
        " information, if it is not beside the dump; then drgn's options, a script, its arguments",
    )  # fmt: skip
    words.required = False


def run(args: argparse.Namespace) -> None:
    """Open the dump in drgn, and run the prompt, the script or the code.

    An exception of the user's code is printed as Python prints it, with the exit status 1.

    :raises P2mError: the dump or the vmlinux cannot be opened, or drgn is not installed.
    """
    files, domain, words = _sorted(args.words)
    # drgn uses the new prompt of Python 3.13, if there is one. That prompt ends in a traceback
    # on a terminal that it cannot clear, where Python itself uses the basic one.
    if os.environ.get("TERM", "dumb") == "dumb":
        os.environ.setdefault("PYTHON_BASIC_REPL", "1")
    # drgn may not be installed
    from ..drgn.prog import drgn_cli, fill_program, users_frames  # noqa: PLC0415

    opened = _opened(files, domain, words)

    def fill(prog: drgn.Program) -> None:
        fill_program(prog, opened)
        say_namelist(opened)

    try:
        drgn_cli(fill, words)
    except (BrokenPipeError, P2mError):
        raise
    except Exception as error:
        error.__traceback__ = users_frames(error.__traceback__, __file__)
        sys.excepthook(type(error), error, error.__traceback__)
        raise SystemExit(1) from None


def _sorted(words: Sequence[str]) -> tuple[list[str], int, list[str]]:
    """Return the files of the dump and its vmlinux, the domain, and the words that are drgn's own.

    :raises P2mError: no file is given, or an option that chooses something else.
    """
    files: list[str] = []
    rest: list[str] = []
    domain = 0
    waiting = iter(words)
    for word in waiting:
        option, _, value = word.partition("=")
        short, long = word[:2], option.startswith("--") and len(option) > 2
        if short in OTHERS or (long and any(name.startswith(option) for name in OTHERS)):
            raise P2mError(f"{option}: p2mfix drgn debugs a dump; drgn itself has this option")
        if option == "--domain":
            value = value or next(waiting, "")
            if not value.isdecimal() or len(value) > 5:
                raise P2mError(f"--domain takes the number of a domain, not {value!r}")
            domain = int(value)
        elif word.startswith("--core="):
            files.append(value)
        elif short == "-c" and word != short:
            files.append(word[2:])
        elif word in WITH_WORD:
            rest += [word, *islice(waiting, 1)]
        elif word.startswith("-"):
            rest += [] if word in HANDED_ON else [word]
        elif _is_file_of_dump(word, files):
            files.append(word)
        else:
            rest += [word, *waiting]
    if not files:
        raise P2mError("give the dump: p2mfix drgn [VMLINUX] VMCORE")
    return files, domain, rest


def _is_file_of_dump(word: str, before: Sequence[str]) -> bool:
    """Return True if a word is a file of the dump or of its namelist, not a script.

    :param before: the files before it; until there is a dump, every word is one.
    """
    return not any(map(is_dump, before)) or is_dump(word) or is_namelist(word)


def _opened(files: Sequence[str], domain: int, words: Sequence[str]) -> OpenedDump:
    """Open a dump, and find its namelist, which may also be given by ``-s``.

    :param files: the vmlinux and the dump's files, in any order.
    :param words: drgn's own.
    """
    dump = [path for path in files if is_dump(path)] or files[-1:]  # or the one that is none
    namelist = [path for path in files if path not in dump]
    namelist = namelist or [path for path in _symbols(words) if _is_kernel(path)]
    opened = OpenedDump(open_dump(dump), [Namelist(*namelist)] if namelist else [], dump, domain)
    opened.look_for_namelist()
    return opened


def _symbols(words: Sequence[str]) -> Iterator[str]:
    """Yield the files of drgn's option ``-s``."""
    for before, word in zip(["", *words], words):
        if before in ("-s", "--symbols"):
            yield word
        elif word.startswith("--symbols="):
            yield word.partition("=")[2]
        elif word.startswith("-s") and len(word) > 2:
            yield word[2:]


def _is_kernel(path: str) -> bool:
    """Return True if a file is a vmlinux, not a module's file."""
    try:
        return is_namelist(path) and bool(Namelist(path).banner())
    except P2mError:
        return False
