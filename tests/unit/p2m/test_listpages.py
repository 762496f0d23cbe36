# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages of a list."""

from __future__ import annotations

from array import array

from pykdump_ext.p2m.framelist import FrameList
from pykdump_ext.p2m.listpages import LARGEST_LIST, list_pages


def test_leaves_above_what_a_list_can_name_are_left_out() -> None:
    leaves = array("Q", [7]) * LARGEST_LIST + array("Q", [8]) * 1000
    leaves[-1001] = 9
    pages = list_pages(FrameList(leaves), 7, 100)
    assert len(pages.leaves) == LARGEST_LIST
    assert pages.leaves[-1] == 9
    assert 8 not in pages.leaves
