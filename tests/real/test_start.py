# SPDX-License-Identifier: GPL-3.0-or-later
"""``pykdump-ext setup --fast-start``: sessions of the crash that gains by it, 9.0.2."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.lab.broken import truncated
from tests.lab.dump import Dump
from tests.lab.matrix import CELLS, MAIN, untouched
from tests.lab.packages import Missing

from .places import Place
from .sessions import Ran

STATS = "gdb show index-cache stats"
COMMANDS = (
    "bt -l", "dis -l panic 8", "struct task_struct -o", "struct pid", "p linux_banner", "p jiffies",
    "whatis page", "union thread_union", "sym panic", "mod", "ps",
)  # fmt: skip
CACHE = ".cache/pykdump-ext/gdb-index"


class Session:
    """Sessions of crash 9.0.2 on a dump with a broken list, all with one home folder."""

    def __init__(self, folder: Path) -> None:
        cell = next(c for c in CELLS if c.crash == "9.0.2" and c.kernel == MAIN)
        try:
            self.place = Place(cell, folder)
            self.whole = untouched(MAIN)
            self.dump = truncated(self.whole)
        except Missing as error:
            pytest.skip(str(error))
        self.cache = folder / CACHE
        self.tool = self.place.p2mfix.with_name("pykdump-ext")

    def setup(self) -> Session:
        """Have sessions keep an index."""
        added = self.place.run([self.tool, "setup", "--fast-start"], [])
        assert added.text == f"{self.place.folder}/.gdbinit: lines added\n"
        return self

    def __call__(self, *commands: str, dump: Dump | None = None) -> Ran:
        """Run ``p2mfix``."""
        dump = dump or self.dump
        ran = self.place.run(
            [self.place.p2mfix, dump.vmlinux, dump.vmcore, "-s"], [*commands, STATS]
        )
        assert ran.status == 0, ran.text
        return ran

    def index(self) -> Path:
        """Return the file of the index."""
        (found,) = self.cache.glob("*/gdb/*")
        return found


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path).setup()


def hits(ran: Ran) -> int:
    """Return how many indexes gdb found in the cache."""
    return int(re.findall(r"(?m)^ *Cache hits \(this session\): (\d+)$", ran.text)[-1])


def shown(ran: Ran) -> str:
    """Return what the commands print, without the figures of the cache."""
    return re.sub(r"(?m)^ *Cache .*\n", "", ran.text)


def test_the_second_session_reads_the_index_of_the_first_and_shows_the_same(
    session: Session,
) -> None:
    first, second = session(*COMMANDS), session(*COMMANDS)
    assert (hits(first), hits(second)) == (0, 1)
    assert shown(second) == shown(first)
    for part in ("sysrq_handle_crash", "kernel/panic.c: ", "struct task_struct {", "Linux version"):
        assert part in shown(second)
    assert session.index().suffix == ".gdb-index"
    assert not (session.place.folder / ".cache/gdb").exists()


def flipped(index: Path) -> None:
    data = bytearray(index.read_bytes())
    for place in range(len(data) // 2, len(data), 4096):
        data[place] ^= 0xFF
    index.write_bytes(data)


def cut(index: Path) -> None:
    index.write_bytes(index.read_bytes()[:-5000])


def foreign(index: Path) -> None:
    shutil.chown(index, 12345)


@pytest.mark.thorough
def test_no_damaged_index_is_read(session: Session) -> None:
    session()
    whole = session.index().read_bytes()
    assert hits(session()) == 1
    damages: tuple[Callable[[Path], None], ...] = (flipped, cut, foreign)
    for damage in damages:
        damage(session.index())
        assert hits(session("struct pid")) == 0, damage
        assert session.index().read_bytes() == whole
    assert hits(session()) == 1


@pytest.mark.thorough
def test_two_sessions_may_start_at_once(session: Session) -> None:
    session.place.crash_version()
    for expected in ({0}, {1}):
        with ThreadPoolExecutor(2) as both:
            found = {hits(ran) for ran in both.map(lambda _: session("struct pid"), range(2))}
        assert found == expected
        assert len([*session.cache.glob("*/gdb/*")]) == 1


@pytest.mark.thorough
def test_plain_crash_does_the_same(tmp_path: Path) -> None:
    session, folder = Session(tmp_path), tmp_path
    crash: list[str | Path] = ["crash", "-s", session.whole.vmlinux, session.whole.vmcore]
    commands = [*COMMANDS, STATS]
    plain = session.place.run(crash, commands)
    session.setup()
    first, second = session.place.run(crash, commands), session.place.run(crash, commands)
    assert (hits(first), hits(second)) == (0, 1)
    assert shown(first) == shown(second) == shown(plain)
    script = folder / ".local/share/pykdump-ext/fast-start"
    script.write_text(script.read_text().replace("/bin/python", "/bin/nosuchpython"))
    gone = session.place.run(crash, commands)  # as where the package is removed
    assert hits(gone) == 0 and shown(gone) == shown(plain)
    session.place.run([session.tool, "setup", "--remove"], [])
    assert not [*folder.glob(".gdbinit"), *folder.glob(".local/share/*"), *folder.glob(CACHE)]


@pytest.mark.parametrize("version", [pytest.param("7.2.9", marks=pytest.mark.thorough), "8.0.2"])
def test_the_lines_in_gdbinit_are_silent_where_crash_has_no_use_for_an_index(
    version: str, tmp_path: Path
) -> None:
    try:
        cell = next(c for c in CELLS if c.crash == version and not c.cannot)
        place, dump = Place(cell, tmp_path), untouched(cell.kernel)
    except Missing as error:
        pytest.skip(str(error))
    crash: list[str | Path] = ["crash", "--minimal", "-s", dump.vmlinux, dump.vmcore]
    plain = place.run(crash, ["sym linux_banner"])
    place.run([place.p2mfix.with_name("pykdump-ext"), "setup", "--fast-start"], [])
    assert "set index-cache" in (tmp_path / ".gdbinit").read_text()
    assert place.run(crash, ["sym linux_banner"]) == plain
    assert not (tmp_path / CACHE).exists()


@pytest.mark.thorough
def test_a_session_starts_without_a_place_for_its_index(session: Session) -> None:
    session.cache.parent.mkdir(parents=True)
    session.cache.write_text("in the way")
    ran = session("struct pid")
    assert "struct pid {" in ran.text and hits(ran) == 0
    assert session.cache.read_text() == "in the way"
