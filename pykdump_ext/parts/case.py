# SPDX-License-Identifier: GPL-3.0-or-later
"""What the parts of a report share: an opened dump, and what is found in it once for all."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..errors import P2mError
from ..opened import OpenedDump
from ..xen.pcpus import HostCpus, read_cpus
from ..xen.symbols import XenSymbols
from ..xen.vmcoreinfo import read_vmcoreinfo

if TYPE_CHECKING:
    import drgn

    from ..xen.console import Console

__all__ = ["Case"]

Answer = TypeVar("Answer")


class Case:
    """A dump that a report is made of.

    A property raises :class:`P2mError` if the dump has no answer, each time that it is read.
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
        self.opened = opened
        self.xen_syms = xen_syms
        self.pictures = pictures
        self.notes: list[str] = []
        self._program = program or self._open_program
        self._failures: dict[str, P2mError] = {}

    def _once(self, name: str, find: Callable[[], Answer]) -> Answer:
        """Return the result of ``find``; if it failed before, raise that error again."""
        if name in self._failures:
            raise self._failures[name]
        try:
            return find()
        except P2mError as error:
            self._failures[name] = error
            raise

    def tried(self, what: str, find: Callable[[], Answer]) -> Answer | None:
        """Return the result of ``find``, or None where it fails: then a note says why.

        :param what: what is not known then, such as ``the load``.
        """
        try:
            return find()
        except P2mError as error:
            self.notes.append(f"{what}: {error}")
        except Exception as error:  # of drgn or its helpers, on a kernel that they do not know
            self.notes.append(f"{what}: {reason(error)}")
        return None

    @cached_property
    def prog(self) -> drgn.Program:
        """drgn's program on the dump."""
        return self._once("prog", self._program)

    def _open_program(self) -> drgn.Program:
        self.opened.proved  # noqa: B018  (that there is no vmlinux is said before drgn is wanted)
        from ..drgn.prog import open_program  # noqa: PLC0415  (drgn may not be installed)

        return open_program(self.opened)

    @cached_property
    def symbols(self) -> XenSymbols | None:
        """Xen's symbols, or None where no file of them is given."""
        if self.xen_syms is None:
            return None
        path, vmcoreinfo = self.xen_syms, read_vmcoreinfo(self.opened.dump.notes)
        return self._once("symbols", lambda: XenSymbols(path, vmcoreinfo))

    @cached_property
    def console(self) -> Console:
        """Xen's console."""
        from ..xen.console import read_console  # noqa: PLC0415  (numpy takes long to import)

        return self._once("console", lambda: read_console(self.opened.xen, self.symbols))

    @cached_property
    def host(self) -> HostCpus:
        """The cpus of the Xen host, and the vcpus of all domains."""
        return self._once("host", lambda: read_cpus(self.opened.xen, self.opened.dump.notes))


def reason(error: Exception) -> str:
    """Return an exception that is not for people as a part of a sentence."""
    return f"{type(error).__name__}: {error}"
