# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists broken in every way: ``p2mfix`` opens the dump as if its list were whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.broken import DumpFile, copy_of, diagnosis
from tests.lab.dump import Dump

from .broken_lists import CASES, COMMANDS, Damage
from .conftest import Plain
from .outputs import by_command, to_files
from .sessions import BIN, Crash

WITH_UNDO = (*COMMANDS[:-1], "p2m undo", "p2m fix", COMMANDS[-1])


@pytest.fixture(scope="module")
def scratch(untouched: Dump, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dump]:
    """A copy of the untouched dump that tests may damage."""
    copy = copy_of(untouched, tmp_path_factory.mktemp("lists"))
    yield Dump(untouched.vmlinux, copy)
    copy.unlink()


@pytest.fixture(scope="module")
def wanted(untouched: Dump, plain: Plain) -> dict[str, str]:
    """What plain crash prints on the untouched dump."""
    return dict(zip(COMMANDS, plain("lists", untouched, COMMANDS)))


@pytest.mark.parametrize("damage", CASES, ids=[case.__name__ for case in CASES])
def test_p2mfix_opens_a_dump_whose_list_is(
    crash: Crash, untouched: Dump, scratch: Dump, wanted: dict[str, str], damage: Damage
) -> None:
    file = DumpFile(scratch.vmcore)
    folder = crash.folder / "out"
    try:
        damage(file, diagnosis(untouched))
        p2mfix: list[str | Path] = [BIN / "p2mfix", scratch.vmlinux, scratch.vmcore, "-s"]
        ran = crash.run(p2mfix, [*to_files(WITH_UNDO, folder), "!env", "quit"])
    finally:
        file.undo()
    assert ran.status == 0, ran.text
    assert "Traceback" not in ran.text
    shown = by_command(WITH_UNDO, folder)
    assert {c: text for c, text in shown.items() if "p2m" not in c} == wanted
    assert f"HOME={crash.home}\n" in ran.text  # of the programs that this crash starts
    assert "PRELOAD" not in ran.text and "PYKDUMP_EXT_P2M" not in ran.text
