"""What some versions of crash cannot do by themselves."""

from __future__ import annotations

import re

from .kernel import Symbols


def misses_pv_kernel(version: str, symbols: Symbols) -> bool:
    """True when that crash does not recognise this kernel as one of a Xen PV domain.

    crash before 7.3.0 looks for ``pv_init_ops``, which Linux has had no more
    since 4.20; its session ends with ``read error: physical address: ...  type:
    "pud page"`` (crash's commit 4badc6229c69).
    """
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
    if not numbers or numbers >= (7, 3):
        return False
    return symbols.address("pv_ops") is not None and symbols.address("pv_init_ops") is None
