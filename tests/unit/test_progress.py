# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress on a terminal: when it is shown, and that nothing of it stays."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pexpect
import pytest

from pykdump_ext import progress
from pykdump_ext.cli import p2mfix
from pykdump_ext.progress import shown, watched

from .made_up.copies import segments_of
from .made_up.core import core_bytes
from .made_up.p2m import P2M
from .made_up.talkative import talkative


class Bar:
    """A bar that remembers what was done with it."""

    def __init__(self) -> None:
        self.done: list[object] = []

    def add_task(self, what: str, total: int) -> int:
        self.done.append((what, total))
        return 1

    def update(self, task: int, completed: int) -> None:
        self.done.append(completed)

    def stop(self) -> None:
        self.done.append("stopped")


@pytest.fixture
def bar(monkeypatch: pytest.MonkeyPatch) -> Bar:
    made = Bar()

    def new() -> Bar:
        progress._bars.append(made)  # type: ignore[arg-type]
        return made

    monkeypatch.setattr(progress, "_new_bar", new)
    monkeypatch.setattr(progress, "EVERY", 2)
    monkeypatch.setattr(progress, "PATIENCE", 0)
    return made


def test_nothing_is_shown_where_nobody_asks_for_it(bar: Bar) -> None:
    assert [*watched("abcde", 5, "reading")] == [*"abcde"]
    with shown(False):
        assert [*watched("abcde", 5, "reading")] == [*"abcde"]
    assert not bar.done


def test_what_is_quick_shows_nothing(bar: Bar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 1000)
    with shown():
        assert [*watched("abcde", 5, "reading")] == [*"abcde"]
    assert not bar.done


def test_what_takes_long_shows_how_far_it_is(bar: Bar) -> None:
    with shown():
        assert [*watched("abcde", 5, "reading")] == [*"abcde"]
        assert bar.done == [("p2mfix: reading", 5), 0, 2, 4, "stopped"]
    assert not progress._bars


def test_an_end_before_the_last_item_takes_the_bar_away(bar: Bar) -> None:
    with pytest.raises(KeyboardInterrupt), shown():
        for item in watched("abcde", 5, "reading"):
            if item == "d":
                raise KeyboardInterrupt
    assert bar.done[-1] == "stopped"
    assert not progress._bars


# Commands


@pytest.fixture
def vmcore(tmp_path: Path) -> Path:
    path = tmp_path / "vmcore"
    path.write_bytes(core_bytes(segments_of(talkative(P2M))))
    return path


SLOW = """
import sys
from pykdump_ext import progress
progress.PATIENCE, progress.EVERY = 0, 1
from pykdump_ext.cli.p2mfix import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["diagnose"], "comparing the list with the page tables"),
        (["verify", "--all"], "comparing leaves"),
        (["list"], "reading the p2m"),
        (["map"], "reading the p2m"),
        (["mfn", "5000"], "looking for the frame"),
    ],
)
def test_commands_show_progress_on_a_terminal(vmcore: Path, words: list[str], what: str) -> None:
    on_terminal = pexpect.spawn(
        sys.executable, ["-c", SLOW, *words, str(vmcore)], encoding="utf-8", dimensions=(40, 120),
        env={**os.environ, "TERM": "xterm"},  # a dumb one shows no progress
    )  # fmt: skip
    on_terminal.expect_exact(f"p2mfix: {what}")
    on_terminal.expect(pexpect.EOF)


def test_ctrl_c_ends_a_command_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], vmcore: Path
) -> None:
    def pressed(files: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pykdump_ext.cli.views.open_with_namelist", pressed)
    with pytest.raises(SystemExit) as stop:
        p2mfix.main(["list", str(vmcore)])
    assert stop.value.code == 130
    assert capsys.readouterr() == ("", "p2mfix: stopped by Ctrl-C\n")
