# SPDX-License-Identifier: GPL-3.0-or-later
"""Leaves of a p2m."""

from __future__ import annotations

import pytest

from pykdump_ext.p2m.leaves import leaf_count


@pytest.mark.parametrize(
    ("pfns", "leaves"),
    [(1, 1), (511, 1), (512, 1), (513, 2), (1024, 2), (2**32, 2**23), (2**32 + 1, 2**23 + 1)],
)
def test_a_leaf_is_512_pfns(pfns: int, leaves: int) -> None:
    assert leaf_count(pfns) == leaves
