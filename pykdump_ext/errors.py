# SPDX-License-Identifier: GPL-3.0-or-later
"""The errors of this package, each a sentence for the user, and text that a terminal can show."""

from __future__ import annotations

import runpy
from types import TracebackType

__all__ = [
    "INCOMPLETE",
    "NotPvError",
    "OtherFileError",
    "OtherKernelError",
    "P2mError",
    "ReadError",
    "printable",
    "users_frames",
]


def printable(text: str) -> str:
    r"""Return a text with each character that is not printable as an escape, such as ``\x1b``.

    What a dump contains can be made to control a terminal: its banner, the names of its tasks.
    Whatever comes from a dump or a file's name goes through this function before it is shown.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class P2mError(Exception):
    """A command cannot continue because of the dump or the machine; the text says why."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


class NotPvError(P2mError):
    """The domain is a PVH or HVM one: its kernel has no p2m, and no vmlinux changes that."""


INCOMPLETE = "the dump is incomplete"


class OtherFileError(P2mError):
    """A file is no whole dump of a Xen host, but it is known what it is.

    ``verdict`` is a few words for what it is, ``next`` the command to type for it, or None.
    """

    def __init__(self, text: str, verdict: str = "unknown", next: str | None = None) -> None:
        super().__init__(text)
        self.verdict = verdict
        self.next = next


class OtherKernelError(P2mError):
    """The namelist is another kernel's than the dump's; the text names both."""


class ReadError(P2mError):
    """Memory could not be read.

    The text has the form of crash's own errors, which users search for: the kind of
    address, the address in hexadecimal, what was read.
    """

    def __init__(self, kind: str, address: int, what: str, why: str = "") -> None:
        reason = f": {why}" if why else ""
        super().__init__(f'read error: {kind}: {address:x}  type: "{what}"{reason}')
        self.kind = kind
        self.address = address
        self.what = what
        self.why = why


def users_frames(trace: TracebackType | None, *runners: str) -> TracebackType | None:
    """Return a traceback without its first frames, which run the user's code but are not of it.

    :param runners: files that such frames are in, besides those of Python.
    """
    own = {*runners, runpy.run_path.__code__.co_filename}
    while trace is not None and trace.tb_frame.f_code.co_filename in own:
        trace = trace.tb_next
    return trace
