# SPDX-License-Identifier: GPL-3.0-or-later
"""What the parts of a report share: an opened dump, and what is found in it once for all."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..errors import P2mError
from ..limits import Once, TooLongError, held, step, within
from ..opened import OpenedDump
from ..xen.pcpus import HostCpus, read_cpus
from ..xen.symbols import XenSymbols
from ..xen.vmcoreinfo import read_vmcoreinfo

if TYPE_CHECKING:
    import drgn

    from ..drgn.locks import Waiter
    from ..drgn.tasks import Stuck
    from ..xen.console import Console

__all__ = ["Case", "reason"]

Answer = TypeVar("Answer")

OPENING = 120.0  # seconds for drgn to open a dump, in which it reads all of a vmlinux


class Case(Once):
    """A dump that a report is made of.

    A property raises :class:`P2mError` if the dump has no answer, each time that it is read; it is
    sought once, also where the time for it ran out.
    ``notes`` are sentences on what a part could not find; :func:`.part.run` empties them.

    :param opened: the dump, with the namelists that are known.
    :param xen_syms: the path of Xen's symbols, if it is known.
    :param pictures: parts may draw, for a web page.
    :param program: returns drgn's program on the dump; by default one is made.
    """

    def __init__(
        self,
        opened: OpenedDump,
        xen_syms: str | Path | None = None,
        program: Callable[[], drgn.Program] | None = None,
        pictures: bool = False,
    ) -> None:
        super().__init__()
        self.opened = opened
        self.xen_syms = xen_syms
        self.pictures = pictures
        self.notes: list[str] = []
        self._program = program or self._open_program

    def tried(self, what: str, find: Callable[[], Answer]) -> Answer | None:
        """Return the result of ``find``, or None where it fails: then a note says why.

        It gets a fifth of the time that a part has, so that what comes then has some as well.

        :param what: what is not known then, such as ``the load``.
        """
        try:
            return step(find)
        except Exception as error:  # of drgn or its helpers, on a kernel that they do not know
            self.notes.append(f"{what}: {reason(error)}")
        return None

    @cached_property
    def prog(self) -> drgn.Program:
        """drgn's program on the dump, which names functions of modules."""
        prog = self._once("prog", self._program)
        from ..drgn.module_names import name_modules  # noqa: PLC0415  (drgn is installed)

        name_modules(prog)
        return prog

    def _open_program(self) -> drgn.Program:
        self.opened.proved  # noqa: B018  (that there is no vmlinux is said before drgn is wanted)
        from ..drgn.prog import open_program  # noqa: PLC0415  (drgn may not be installed)

        try:
            limit = OPENING if held() else None
            return within(limit, lambda: open_program(self.opened), apart=True)
        except TooLongError as error:
            raise P2mError(f"drgn was to open the dump: {error}") from None
        except P2mError:
            raise
        except Exception as error:  # damaged debug information, not enough memory
            raise P2mError(f"drgn cannot open the dump: {reason(error)}") from None

    @cached_property
    def log(self) -> list[str]:
        """The lines of the log of dom0's kernel."""
        prog = self.prog
        from ..drgn.last_moments import log_lines  # noqa: PLC0415  (drgn is installed)

        return self._once("log", lambda: log_lines(prog))

    @cached_property
    def clock(self) -> float | None:
        """The kernel's clock at the crash, in seconds, or None if that is not known."""
        prog = self.prog
        from ..drgn.tasks import newest_clock  # noqa: PLC0415

        return self.tried("the kernel's clock", lambda: newest_clock(prog, self.notes))

    @cached_property
    def blocked(self) -> tuple[list[Stuck], int]:
        """dom0's tasks in state D by their stacks, the longest wait first, and their number."""
        prog = self.prog
        from ..drgn.tasks import blocked  # noqa: PLC0415

        return self._once("blocked", lambda: blocked(prog, self.clock, self.notes))

    @cached_property
    def waiters(self) -> list[Waiter]:
        """dom0's tasks in state D that wait for a lock."""
        prog = self.prog
        from ..drgn.locks import waiters  # noqa: PLC0415

        return self._once("waiters", lambda: waiters(prog, self.notes))

    def forget_stacks(self) -> None:
        """Look at stacks again: drgn has more debug information now."""
        for name in ("blocked", "waiters"):
            vars(self).pop(name, None)

    @cached_property
    def console(self) -> Console:
        """Xen's console."""
        return self._once("console", self._console)

    def _console(self) -> Console:
        from ..xen.console import read_console  # noqa: PLC0415  (numpy takes long to import)

        xen = self.opened.xen
        if self.xen_syms is not None:
            try:
                symbols = XenSymbols(self.xen_syms, read_vmcoreinfo(self.opened.dump.notes))
                return read_console(xen, symbols)
            except P2mError as error:
                self.notes.append(f"Xen's symbols were not used: {error}")
        return read_console(xen)

    @cached_property
    def host(self) -> HostCpus:
        """The cpus of the Xen host, and the vcpus of all domains."""
        return self._once("host", lambda: read_cpus(self.opened.xen, self.opened.dump.notes))


def reason(error: Exception) -> str:
    """Return an exception as a part of a sentence."""
    if isinstance(error, MemoryError):
        return "it needs more memory than a report may take"
    if isinstance(error, P2mError):
        return str(error)
    return f"{type(error).__name__}: {error}"
