# SPDX-License-Identifier: GPL-3.0-or-later
"""The session that ``make bench-speed`` measures in: it costs what crash costs, and prints it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.bench.session import Ended, Session, TooLong
from tests.lab.dump import Dump
from tests.lab.matrix import CELLS, MAIN
from tests.lab.suites import own

from .outputs import SEARCH
from .places import Place

MORE = 60.0  # seconds


@pytest.fixture
def place(tmp_path: Path) -> Place:
    cell = next(c for c in CELLS if (c.release, c.kernel) == (own(), MAIN))
    assert cell.folder is None
    return Place(cell, tmp_path)


def test_a_command_costs_its_own_cpu_time(untouched: Dump, place: Place, tmp_path: Path) -> None:
    words: list[str | Path] = ["crash", "-s", untouched.vmlinux, untouched.vmcore]
    with Session(place, words, tmp_path / "session") as session:
        small = session.ask(["eval 2", "eval 4"], MORE)
        time.sleep(0.5)  # what nobody computes costs nothing
        large = session.ask([SEARCH], MORE)
        again = session.ask([SEARCH], MORE, redirected=False)
        assert (
            small.printed.startswith(b"hexadecimal: 2 ") and b"\nhexadecimal: 4 " in small.printed
        )
        assert large.printed == again.printed and b": 65762078756e694c" in large.printed
        assert 0 < small.seconds < large.seconds
        with pytest.raises(TooLong, match="more than 0 s"):
            session.ask([SEARCH], large.seconds / 100)


def test_a_session_that_ends_says_how(untouched: Dump, place: Place, tmp_path: Path) -> None:
    with pytest.raises(Ended, match=r"(?s)exit status 1 after \[\]:.*no-such-file"):
        Session(place, ["crash", "-s", "no-such-file"], tmp_path / "session")
