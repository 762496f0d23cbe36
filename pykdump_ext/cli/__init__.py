"""The commands of the shell: ``p2mfix`` and ``pykdump-ext``."""

from __future__ import annotations

import sys
from typing import NoReturn

from ..errors import P2mError


def fail(program: str, error: P2mError | OSError) -> NoReturn:
    """End a command with its error on one line and exit status 1."""
    print(f"{program}: {error}", file=sys.stderr)
    raise SystemExit(1)
