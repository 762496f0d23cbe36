# SPDX-License-Identifier: GPL-3.0-or-later
"""drgn on the session's dump: its program, made once, and what runs code on it.

On the dump of a Xen host drgn reads by the session: it has the p2m and the domain already, and
crash reads the dump whatever its format.  Any other dump is opened by drgn itself.
"""

from __future__ import annotations

import builtins
import re
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import drgn
from drgn.cli import default_globals, run_interactive, version_header

from ..drgn.prog import KERNEL_HALF, become_kernel, load_symbols, open_program, users_frames
from ..errors import P2mError
from ..machine.dumps import open_dump
from ..machine.files import open_file
from ..machine.kdump import split_range
from ..machine.memory import PAGE_SHIFT
from ..p2m.layouts import MAX_PFNS
from . import crash
from .commands import CommandError
from .console import typed_code, user_input
from .guarded import lib
from .session import SessionNamelist, opened_session

__all__ = ["run_drgn", "session_program"]

# A module whose debug information mod -s has loaded, in the output of mod
LOADED_MODULE = re.compile(
    r"^[0-9a-f]{16} +\S+(?: +[0-9a-f]{16})? +\d+ +(?!\()(\S.*?)\s*(?:\[.*\])?$", re.MULTILINE
)

_programs: list[drgn.Program] = []  # at most one
_modules: set[str] = set()  # files that drgn was given
_names: dict[str, Any] = {}  # those of the prompt


def session_program() -> drgn.Program:
    """Return drgn's program on the dump of this session, which is made at the first call.

    It has the debug information of the session's vmlinux, and of the modules that ``mod -s`` has
    loaded.

    :raises P2mError: this session has no dump, or drgn cannot open it.
    """
    if not _programs:
        _programs.append(_opened())
    prog = _programs[0]
    listed = ""
    with suppress(crash.error):  # a minimal session, or one without modules
        listed = crash.run_command("mod")
    for path in {*LOADED_MODULE.findall(listed)} - _modules:
        _modules.add(path)
        try:
            load_symbols(prog, [path])
        except P2mError as problem:
            print(f"drgn: {problem}")
    return prog


def _opened() -> drgn.Program:
    session = crash.session()
    if session.live:
        raise P2mError("this is a live session: drgn opens the running kernel by itself: sudo drgn")
    if session.xen_core or session.xen_hyper:
        return open_program(opened_session())
    if session.dumpfile is None:
        raise P2mError("this session has no dump open")
    try:
        if split_range(open_file(session.dumpfile)):
            prog = _by_session(session.dumpfile)
        else:
            prog = drgn.Program()
            prog.set_core_dump(session.dumpfile)
    except (OSError, ValueError) as error:
        raise P2mError(f"drgn cannot open {session.dumpfile}: {error}") from None
    if not prog.flags & drgn.ProgramFlags.IS_LINUX_KERNEL:
        raise P2mError(
            f"drgn does not know {session.dumpfile} for the dump of a kernel: it has no vmcoreinfo"
        )
    load_symbols(prog, SessionNamelist().files)
    return prog


def _by_session(path: str) -> drgn.Program:
    """Return a program that reads by the session: drgn itself opens no split dump.

    :param path: a file of the dump, which is one without Xen.
    :raises CommandError: the session is minimal, in which crash cannot read vmalloc's memory.
    """
    if crash.session().minimal:
        raise CommandError(
            "a minimal session cannot read all of a split dump: open it in a full one"
        )
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    for note in open_dump([path]).notes:
        if note.owner == "VMCOREINFO":
            become_kernel(prog, note.data)
            pfns = crash.readPtr(crash.sym2addr("max_pfn"))
            if pfns > MAX_PFNS:
                raise P2mError(f"the kernel's max_pfn is {pfns:x}: it is damaged")
            size = pfns << PAGE_SHIFT
            prog.add_memory_segment(0, size, _reader(crash.PHYSADDR), physical=True)
            prog.add_memory_segment(KERNEL_HALF, (1 << 64) - KERNEL_HALF, _reader(crash.KVADDR))
    return prog


def _reader(mtype: int) -> Callable[[int, int, int, bool], bytes]:
    """Return the function by which drgn reads addresses of one kind."""

    def read(address: int, size: int, offset: int, physical: bool) -> bytes:
        try:
            return crash.readmem(address, size, mtype)
        except crash.error as error:
            raise drgn.FaultError(str(error), address) from None

    return read


# --------------------------------------------------------------------------
# What the user runs


def run_drgn(words: list[str]) -> None:
    """Run drgn's prompt, the code of ``-e CODE [ARGS]``, or the script of ``FILE [ARGS]``.

    An exception of the user's code is printed as Python prints it.

    :raises P2mError: there is no such file, or no code, or drgn cannot open the dump.
    """
    if not words:
        prog = session_program()
        lib.host_output_to_terminal()
        with _on(prog, [""]):
            if not crash.session().silent:
                print(version_header())
            run_interactive(prog, globals_func=_kept)
    elif words[0] == "-e":
        code, arguments = typed_code("drgn", words)
        prog = session_program()
        with _on(prog, ["-e", *arguments]):
            exec(compile(code, "<drgn -e>", "exec"), default_globals(prog))
    elif words[0].startswith("-"):
        raise CommandError(f"{words[0]}: not an option of this command (see 'help drgn')")
    else:
        path = Path(words[0])
        if not path.is_file():
            what = "not a file" if path.exists() else "no such file"
            raise CommandError(f"{path}: {what}; drgn -e CODE runs code")
        prog = session_program()
        with _on(prog, words, str(path.resolve().parent)):
            runpy.run_path(str(path), {"prog": prog}, "__main__")


def _kept(fresh: dict[str, Any]) -> dict[str, Any]:
    """Return the names of the prompt: drgn's, and those that the user has made there."""
    for name, value in fresh.items():
        _names.setdefault(name, value)
    return _names


@contextmanager
def _on(prog: drgn.Program, argv: list[str], folder: str = "") -> Iterator[None]:
    """Run the user's code: drgn's functions use this program, and ``input()`` reads as crash does.

    :param folder: where Python looks for modules first.
    """
    before = sys.argv, list(sys.path), builtins.input
    try:
        program = drgn.get_default_prog()
    except drgn.NoDefaultProgramError:
        program = None
    sys.argv, builtins.input = argv, user_input
    sys.path.insert(0, folder)
    drgn.set_default_prog(prog)
    try:
        yield
    except crash.ReaderGone:
        raise
    except Exception as error:
        shown = users_frames(error.__traceback__, __file__)
        traceback.print_exception(type(error), error, shown)
    finally:
        drgn.set_default_prog(program)
        sys.argv, sys.path[:], builtins.input = before
