# SPDX-License-Identifier: GPL-3.0-or-later
"""drgn's plugin: ``drgn -c VMCORE`` and ``corelens VMCORE`` open the dump of a Xen host.

drgn calls :func:`drgn_prog_set` when it has opened a dump.  It has taken a Xen host's for that of a
process then, because the dump has no vmcoreinfo of a kernel, and no plugin can change that.  So the
program is started again in the same process, and gets another dump in place of the Xen host's: a
file in memory that has dom0's vmcoreinfo and no memory.  drgn takes that for a kernel's, and the
plugin then gives it dom0's memory, as ``p2mfix drgn`` does.

Only programs are started again of which it is known that they have done nothing before they open
the dump.  What opens other dumps is left alone.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import drgn

from .errors import P2mError, printable

if TYPE_CHECKING:
    from .linux.namelist import Namelist

__all__ = ["drgn_prog_set"]

logger = logging.getLogger("drgn.pykdump_ext")

# What opens the dump in the commands drgn and drgn-crash, and in corelens and DRGN of drgn-tools
PROGRAMS = {
    ("drgn.cli", "_main"),
    ("drgn.internal.crashcli", "_main"),
    ("drgn_tools.corelens", "_load_prog_and_debuginfo"),
    ("drgn_tools.cli", "main"),
}
MEMFD = "pykdump_ext:"  # and the path of the dump; drgn shows it in prog.core_dump_path
LONGEST_NAME = 200  # bytes, of a file in memory, without that; memfd_create(2) takes 249
VARIABLE = "PYKDUMP_EXT_DRGN"
"""What the program that is started again opens, as JSON: the file in memory, the dump, the kernel's
files."""


def drgn_prog_set(prog: drgn.Program) -> None:
    """Have drgn read dom0's memory, if it has opened the dump of a Xen host; drgn calls this.

    An error is one warning, and leaves the program as drgn has made it.
    """
    path: str | None = getattr(prog, "core_dump_path", None)  # drgn 0.0.33 and newer have it
    if path is None or prog.flags & drgn.ProgramFlags.IS_LIVE:
        return
    try:
        if path.startswith(f"/memfd:{MEMFD}") and VARIABLE in os.environ:
            with _ended_by_ctrl_c():
                _fill(prog, os.environ.pop(VARIABLE))
        elif _is_xen_hosts(path):
            if not _is_program(sys._getframe()):
                logger.warning(
                    "%s: the dump of a Xen host, which drgn cannot read by itself: make the program"
                    " with pykdump_ext.drgn.program(VMCORE, VMLINUX)",
                    path,
                )
                return
            with _ended_by_ctrl_c():
                _start_again(path)
    except Exception as error:
        text = str(error) if isinstance(error, (P2mError, OSError)) else repr(error)
        logger.warning("%s: not opened as the dump of a Xen host: %s", path, printable(text))


def _is_xen_hosts(path: str) -> bool:
    """Return True if a file is a dump with Xen's notes, as far as drgn opens such files."""
    from .machine.elf import ElfCore  # noqa: PLC0415  (not for live kernels and processes)
    from .xen.notes import is_crash_note  # noqa: PLC0415

    with suppress(P2mError, OSError):
        return any(map(is_crash_note, ElfCore(path).notes))
    return False


def _is_program(frame: FrameType | None) -> bool:
    """Return True if what opens the dump is a program that can be started again.

    :param frame: of the plugin; those of drgn, which calls the plugin, are above it.
    """
    while frame is not None and frame.f_globals.get("__name__") in (__name__, "_drgn_util.plugins"):
        frame = frame.f_back
    if frame is None:
        return False
    name = getattr(frame.f_globals.get("__spec__"), "name", None)  # __name__ may be __main__
    return (name, frame.f_code.co_name) in PROGRAMS


@contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C end the process: drgn drops an exception of a plugin."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _start_again(path: str) -> NoReturn:
    """Start the program again, on dom0's kernel in a Xen host's dump.

    :raises P2mError: the kernel cannot be found in the dump, or the path not among the words.
    """
    import json  # noqa: PLC0415

    from .linux.namelist import Namelist  # noqa: PLC0415
    from .machine.dumps import open_dump  # noqa: PLC0415
    from .native.dump import empty_dump  # noqa: PLC0415
    from .opened import OpenedDump  # noqa: PLC0415

    words = getattr(sys, "orig_argv", [sys.executable, *sys.argv])  # Python 3.10 and newer have it
    own = len(words) - len(sys.argv) + 1  # so many words are Python's, the program among them
    found = ((at, _before(words[at], path)) for at in range(own, len(words)))
    place, before = next(((at, text) for at, text in found if text is not None), (0, ""))
    if not place:
        raise P2mError("the command line does not name it: use p2mfix drgn VMLINUX VMCORE")
    opened = OpenedDump(open_dump([path]), [*_namelists(words[own:])], [path])
    if not opened.namelists:
        opened.namelists = (*_namelists(_kept_by_drgn_tools(opened.own_release)),)
    opened.look_for_namelist()
    namelist = opened.proved[0]
    dump = empty_dump(opened.native)
    files = [*map(str, namelist.files if isinstance(namelist, Namelist) else [namelist.path])]
    logger.info("%s: the dump of a Xen host: opening dom0's kernel by %s", path, " ".join(files))

    shown = os.fsdecode(os.fsencode(path)[-LONGEST_NAME:])
    fd = os.memfd_create(MEMFD + shown, 0)  # the program that is started inherits it
    os.write(fd, dump)
    os.environ[VARIABLE] = json.dumps([fd, path, files])
    words = [*words]
    words[place] = f"{before}/proc/self/fd/{fd}"
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    try:
        os.execv(sys.executable, [sys.executable, *words[1:]])
    except OSError:
        os.close(fd)
        del os.environ[VARIABLE]
        raise


def _before(word: str, path: str) -> str | None:
    """Return what is before the path in ``PATH``, ``-cPATH`` or ``--core=PATH``; None in others.

    :param path: without symbolic links, as drgn has it.
    """
    option, sign, value = word.partition("=")
    ways = [("", word), ("-c", word[2:] if word.startswith("-c") else "")]
    ways.append((option + sign, value if word.startswith("--") else ""))
    return next((one for one, file in ways if file and os.path.realpath(file) == path), None)


def _kept_by_drgn_tools(release: str | None) -> list[str]:
    """Return where drgn-tools keeps the vmlinux of a release, if it is installed beside drgn.

    drgn has imported it then, because it is a plugin too.
    """
    tools = sys.modules.get("drgn_tools.debuginfo")
    if tools is None or release is None:
        return []
    with suppress(Exception):  # it knows the names of Oracle's kernels only, and it may change
        names = tools.KernelVersion.parse(release).format_params()
        folders = tools.get_debuginfo_config().repo_paths
        return [os.path.join(folder.format(**names), "vmlinux") for folder in folders]  # noqa: PTH118
    return []


def _namelists(words: Sequence[str]) -> Iterator[Namelist]:
    """Yield the kernels that words name, in any way: ``FILE``, ``-sFILE``, ``-d FOLDER``."""
    from .linux.namelist import Namelist, is_namelist  # noqa: PLC0415

    for word in words:
        for part in filter(None, (word, word[2:], word.partition("=")[2])):
            for file in (part, os.path.join(part, "vmlinux")):  # noqa: PTH118  (it may be code)
                if os.path.isfile(file) and is_namelist(file):  # noqa: PTH113
                    with suppress(P2mError):
                        namelist = Namelist(file)
                        namelist.banner()  # a module has none
                        yield namelist


def _fill(prog: drgn.Program, given: str) -> None:
    """Give the program that was started again the memory of dom0's kernel.

    :param given: the content of ``VARIABLE``.
    :raises P2mError: the dump cannot be opened, or the vmlinux has no debug information.
    """
    import json  # noqa: PLC0415

    from .drgn.prog import fill_program  # noqa: PLC0415
    from .linux.namelist import Namelist  # noqa: PLC0415
    from .machine.dumps import open_dump  # noqa: PLC0415
    from .opened import OpenedDump  # noqa: PLC0415

    fd, vmcore, files = json.loads(given)
    os.close(fd)
    fill_program(prog, OpenedDump(open_dump([vmcore]), [Namelist(*files)], [vmcore]))
