# SPDX-License-Identifier: GPL-3.0-or-later
"""The errors of this package; the text of each is a sentence for the user."""

from __future__ import annotations

__all__ = ["NotPvError", "P2mError", "ReadError"]


class P2mError(Exception):
    """A command cannot continue because of the dump or the machine; the text says why."""


class NotPvError(P2mError):
    """The domain is a PVH or HVM one: its kernel has no p2m, and no vmlinux changes that."""


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
