# SPDX-License-Identifier: GPL-3.0-or-later
"""drgn's helpers for Linux by name, where an older drgn may lack some."""

from __future__ import annotations

from typing import Any

import drgn
from drgn.helpers import linux as every_helper

from ..errors import P2mError

__all__ = ["FAULTS", "linux"]

FAULTS = (
    LookupError, ValueError, AttributeError, TypeError, drgn.FaultError, drgn.ObjectAbsentError,
    P2mError,
)  # fmt: skip
"""What a helper raises for a kernel that it does not know, or for damaged memory."""


class Helpers:
    """All of ``drgn.helpers.linux``; one that is missing is an error for people."""

    def __getattr__(self, name: str) -> Any:
        """Return a helper.

        :raises P2mError: this drgn does not have it.
        """
        try:
            return getattr(every_helper, name)
        except AttributeError:
            raise P2mError(
                f"drgn {drgn.__version__} has no helper {name}: a newer drgn has it"
            ) from None


linux = Helpers()
