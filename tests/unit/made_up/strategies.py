# SPDX-License-Identifier: GPL-3.0-or-later
"""What the property tests draw, and how often: p2m contents that suit a layout."""

from __future__ import annotations

from random import Random

from hypothesis import settings
from hypothesis import strategies as st

from pykdump_ext.p2m.entries import Kind

from .p2m import P2m, random_cells


def times(number: float) -> int:
    """Return so many times the examples of the profile in force; see ``tests/conftest.py``."""
    return int(number * settings().max_examples)


@st.composite
def p2ms(draw: st.DrawFn, layout: str, largest: int = 1100) -> P2m:
    """Draw a p2m with some memory: few leaves or many, most of them shared."""
    random = Random(draw(st.integers(0, 2**32), label="seed"))
    if layout == "flat":  # has no shared pages
        total = draw(st.integers(1, 6))
        numbers = set(range(total))
        identity: set[int] = set()
    else:
        total = draw(st.one_of(st.integers(1, 8), st.integers(1, largest)))
        numbers = draw(st.sets(st.integers(0, total - 1), min_size=1, max_size=6))
        identity = draw(st.sets(st.integers(0, total - 1), max_size=6)) if total < 512 else set()
        if layout in ("two-level", "flat"):
            identity = set()
        elif total >= 1024 and draw(st.booleans()):
            identity = set(range(512, 1024))  # enough for a shared table of them
    own = {leaf: random_cells(random) for leaf in numbers}
    own[min(numbers)][0] = (Kind.MEMORY, random.randrange(2**20, 2**40))
    max_pfn = (total - 1) * 512 + draw(st.one_of(st.just(512), st.integers(1, 512)))
    return P2m(max_pfn, own, frozenset(identity - numbers))
