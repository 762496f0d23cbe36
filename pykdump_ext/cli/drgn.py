# SPDX-License-Identifier: GPL-3.0-or-later
"""``p2mfix drgn VMLINUX VMCORE...``: drgn's prompt, or a script for drgn, on a Xen host's dump.

The command does what ``drgn -c VMCORE -s VMLINUX`` does on other dumps: the prompt, a script and
the code of ``-e`` have ``prog``, and a script's exit status is the command's.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ..errors import P2mError
from ..linux.namelist import Namelist, is_namelist
from ..machine.dumps import is_dump, open_dump
from ..opened import OpenedDump
from .files import say_namelist

if TYPE_CHECKING:
    import drgn

__all__ = ["DESCRIPTION", "SUMMARY", "add_arguments", "run"]

NAME = "p2mfix drgn"
SUMMARY = "open the dump in drgn: its prompt, a script, or code"
DESCRIPTION = """\
Open the dump of a Xen host in drgn, which cannot read such a dump by itself:
drgn's prompt, a script, or code. All three have the variable prog.

drgn shows tasks, modules, per-cpu data, logs, the memory of processes, and the
stacks of blocked and of running tasks, even if the dump's list is broken.

The exit status is the script's. The command needs drgn: in the clone that
p2mfix was installed from, run pip install '.[drgn]'"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``p2mfix drgn`` to its parser."""
    parser.add_argument(
        "first", metavar="FILE",
        help="the dump, or all files of a split dump; and dom0's vmlinux with debug information,"
        " if it is not beside the dump",
    )  # fmt: skip
    _add_others(parser)


def _add_others(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-e", dest="code", metavar="CODE", help="run this Python code")
    parser.add_argument(
        "-s", "--symbols", metavar="PATH", action="append", default=[],
        help="load a module's file with debug information; may be given more than once",
    )  # fmt: skip
    script = parser.add_argument(
        "words", metavar="ARG", nargs=argparse.REMAINDER,
        help="a script and its arguments; without a script and without -e: drgn's prompt",
    )  # fmt: skip
    script.required = False  # else an error about missing files names it too


def run(args: argparse.Namespace) -> None:
    """Open the dump in drgn, and run the prompt, the script or the code.

    An exception of the user's code is printed as Python prints it, with the exit status 1.

    :raises P2mError: the dump, the vmlinux or the script cannot be opened.
    """
    usage = f"{NAME} FILE ... [-s PATH] [-e CODE] [SCRIPT] [ARG ...]"
    others = argparse.ArgumentParser(NAME, usage, add_help=False)
    _add_others(others)  # options may also come after the files
    files = [args.first]
    others.parse_args(args.words, args)
    while args.words and _is_file_of_dump(args.words[0], files):
        files.append(args.words[0])
        others.parse_args(args.words[1:], args)
    try:
        prog = _open(args, files)
        if args.code is None and args.words:
            with Path(args.words[0]).open("rb"):
                pass
    except OSError as error:
        raise P2mError(f"{error.filename}: {error.strerror}") from None
    _run(args, prog)


def _is_file_of_dump(word: str, before: Sequence[str]) -> bool:
    """Return True if a word is a file of the dump or of its namelist, not a script.

    :param before: the files before it; after a vmlinux alone a dump has to come.
    """
    alone = len(before) == 1 and not is_dump(before[0])
    return alone or is_dump(word) or is_namelist(word)


def _open(args: argparse.Namespace, files: Sequence[str]) -> drgn.Program:
    """Open the dump in drgn, and load symbols; the import is here as drgn may not be installed.

    :param files: the vmlinux and the dump's files, in any order.
    """
    # drgn uses the new prompt of Python 3.13, if there is one. That prompt ends in a traceback
    # on a terminal that it cannot clear, where Python itself uses the basic one.
    if os.environ.get("TERM", "dumb") == "dumb":
        os.environ.setdefault("PYTHON_BASIC_REPL", "1")
    from ..drgn.prog import load_symbols, open_program  # noqa: PLC0415

    dump = [path for path in files if is_dump(path)] or files[1:]  # or the one that is none
    namelist = [path for path in files if path not in dump]
    opened = OpenedDump(open_dump(dump), [Namelist(*namelist)] if namelist else [], dump)
    opened.look_for_namelist()
    prog = open_program(opened)
    say_namelist(opened)
    load_symbols(prog, args.symbols)
    return prog


def _run(args: argparse.Namespace, prog: drgn.Program) -> None:
    import drgn  # noqa: PLC0415
    from drgn.cli import run_interactive, version_header  # noqa: PLC0415

    if args.code is None and not args.words and sys.stdin.isatty():
        print(version_header(), file=sys.stderr, flush=True)
        run_interactive(prog)
        return
    drgn.set_default_prog(prog)
    try:
        _run_users_code(args, prog)
    except BrokenPipeError:
        raise
    except Exception as error:
        error.__traceback__ = _users_frames(error.__traceback__)
        sys.excepthook(type(error), error, error.__traceback__)
        raise SystemExit(1) from None


def _run_users_code(args: argparse.Namespace, prog: drgn.Program) -> None:
    """Run the script, the code of ``-e``, or the code on standard input."""
    from drgn.cli import default_globals  # noqa: PLC0415

    if args.code is None and args.words:
        sys.argv = args.words
        sys.path.insert(0, str(Path(args.words[0]).resolve().parent))
        runpy.run_path(args.words[0], init_globals={"prog": prog}, run_name="__main__")
        return
    sys.path.insert(0, "")
    sys.argv = ["-e", *args.words] if args.code is not None else [""]
    code = args.code if args.code is not None else sys.stdin.read()
    name = "<stdin>" if args.code is None else "<string>"
    exec(compile(code, name, "exec"), default_globals(prog))


def _users_frames(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback without its first frames, which run the user's code but are not of it."""
    runners = {__file__, runpy.run_path.__code__.co_filename}
    while trace is not None and trace.tb_frame.f_code.co_filename in runners:
        trace = trace.tb_next
    return trace
