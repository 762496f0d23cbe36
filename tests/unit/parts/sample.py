# SPDX-License-Identifier: GPL-3.0-or-later
"""A dump of a host whose Xen has a console, and parts that do what a test wants."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

from pykdump_ext.opened import OpenedDump
from pykdump_ext.parts.blocks import Block, Paragraph
from pykdump_ext.parts.case import Case
from pykdump_ext.parts.part import Part

from ..made_up.dump import MadeUpDump
from ..made_up.host import guest_on_host
from ..made_up.ring import Ring

BY_DUMP = {"happened", "xenlog", "xenpcpus", "xendomains", "p2m"}


def busy() -> None:
    """Work for too long; where no alarm stops it, it ends by itself, and its test fails."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with suppress(Exception):  # what a helper may do
            time.sleep(0.001)


NO_VMLINUX = "no vmlinux was given; give that of the dump's kernel"


def opened() -> OpenedDump:
    """Return the dump of a host whose Xen has a console."""
    host, _, _ = guest_on_host()
    ring = Ring(host)
    ring.write(b"(XEN) Hardware Dom0 crashed: Executing kexec image on cpu2\n" + b"(XEN) x\n" * 30)
    ring.plant()
    return OpenedDump(MadeUpDump(host.memory(), host.notes()), paths=["vmcore"])


class One(Part):
    """A part that does what a test wants."""

    name = "one"
    title = "One"

    def __init__(self, *found: Block, error: BaseException | None = None) -> None:
        self.found, self.error = found, error

    def blocks(self, case: Case) -> Iterator[Block]:
        yield from self.found
        if self.error:
            raise self.error


class Slow(One):
    """A part that takes too long."""

    def blocks(self, case: Case) -> Iterator[Block]:
        yield Paragraph("before")
        busy()
        yield Paragraph("after")
