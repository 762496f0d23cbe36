# SPDX-License-Identifier: GPL-3.0-or-later
"""What a repaired session shows of a truncated dump, next to a session on the untouched one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.lab.broken import truncated
from tests.lab.dump import Dump

from .outputs import by_command, to_files
from .sessions import Crash


def shown_after_repair(
    crash: Crash, host: Path, whole: Dump, prefix: str, commands: Sequence[str], folder: Path
) -> dict[str, str]:
    """Return what each command prints on the truncated dump, which is what the untouched gives.

    :param prefix: what the product that is truncated begins with.
    """
    broken = truncated(whole, prefix)

    def shown(name: str, dump: Dump, *options: str) -> dict[str, str]:
        lines = [f"extend {host}", "extend p2mfix.py", *to_files(commands, folder / name)]
        ran = crash(dump, lines, *options)
        assert ran.status == 0, ran.text
        return by_command(commands, folder / name)

    wanted = shown("wanted", whole)
    found = shown("found", broken, "--minimal")
    assert found == wanted
    return found
