"""The errors of this package: every one is a sentence for the person at the prompt."""

from __future__ import annotations

__all__ = ["P2mError", "ReadError"]


class P2mError(Exception):
    """Something about the dump or the machine keeps us from going on."""


class ReadError(P2mError):
    """Memory could not be read.

    The text follows crash's own, which users search for: the kind of address,
    the address in hexadecimal, what was being read.
    """

    def __init__(self, kind: str, address: int, what: str, why: str = "") -> None:
        reason = f": {why}" if why else ""
        super().__init__(f'read error: {kind}: {address:x}  type: "{what}"{reason}')
        self.kind = kind
        self.address = address
        self.what = what
        self.why = why
