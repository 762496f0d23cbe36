# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries of a p2m: which kind each is of."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykdump_ext.p2m.entries import CODES, Kind, kind_codes, kind_of

from ..made_up.machine import FOREIGN_BIT, IDENTITY_BIT, NOTHING
from ..made_up.p2m import KINDS, entry_of
from ..made_up.strategies import times


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        (0x1234, Kind.MEMORY),
        (0, Kind.MEMORY),
        (2**52 - 1, Kind.MEMORY),
        (NOTHING, Kind.MISSING),
        (0x1234 | IDENTITY_BIT, Kind.IDENTITY),
        (IDENTITY_BIT, Kind.IDENTITY),
        (0x1234 | FOREIGN_BIT, Kind.FOREIGN),
        (FOREIGN_BIT, Kind.FOREIGN),
        (0x1234 | FOREIGN_BIT | IDENTITY_BIT, Kind.FOREIGN),
    ],
)
def test_the_uppermost_bits_of_an_entry_tell_its_kind(entry: int, kind: Kind) -> None:
    assert kind_of(entry) is kind
    assert kind_codes(entry.to_bytes(8, "little")) == bytes([CODES[kind]])


@settings(max_examples=times(5))
@given(st.lists(st.sampled_from(KINDS), max_size=60), st.integers(0, 2**40))
def test_each_entry_of_a_leaf_has_its_code(kinds: list[Kind], mfn: int) -> None:
    leaf = b"".join(entry_of((k, mfn), i).to_bytes(8, "little") for i, k in enumerate(kinds))
    assert kind_codes(leaf) == bytes(CODES[kind] for kind in kinds)


@pytest.mark.parametrize(
    "entry", [NOTHING - 1, 0xFF << 56, FOREIGN_BIT | IDENTITY_BIT | 0x3F << 56]
)
def test_an_entry_that_only_begins_like_a_missing_one_has_one_code(entry: int) -> None:
    assert kind_codes(entry.to_bytes(8, "little")) == bytes([CODES[kind_of(entry)]])
