# SPDX-License-Identifier: GPL-3.0-or-later
"""crash's options --kaslr and --reloc, as ``p2mfix`` understands them."""

from __future__ import annotations

import pytest

from pykdump_ext.launch.options import relocation


@pytest.mark.parametrize(
    ("options", "offset"),
    [
        ([], 0),
        ([("--kaslr", "0x1c000000")], 0x1C000000),
        ([("--kaslr", "1c000000")], 0x1C000000),
        ([("--kaslr", "4096")], 4096),  # all digits: crash takes it for decimal
        ([("--kaslr", "448m")], 0x1C000000),
        ([("--kaslr", "64K")], 1 << 16),
        ([("--reloc", "16m")], -(16 << 20)),
        ([("--reloc", "0xffffffffff000000")], (16 << 20) - (1 << 64)),
        ([("--reloc", "~0xffffff")], 16 << 20),
        ([("--kaslr", "auto")], 0),
        ([("--hash", "1024"), ("--kaslr", "1m"), ("--mod", "2m")], 1 << 20),
        ([("--kaslr", "1m"), ("--reloc", "2m")], -(2 << 20)),  # the last one counts
        ([("--kaslr", "nonsense")], 0),  # crash says what is wrong with it
    ],
)
def test_an_offset_is_what_crash_takes_it_for(options: list[tuple[str, str]], offset: int) -> None:
    assert relocation(options) == offset
