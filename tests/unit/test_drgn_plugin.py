# SPDX-License-Identifier: GPL-3.0-or-later
"""drgn's plugin: which word of a command line is the dump, and what Ctrl-C does."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from pykdump_ext import drgn_plugin
from pykdump_ext.linux import namelist


@pytest.mark.parametrize(
    ("word", "before"),
    [
        ("DUMP", ""),
        ("LINK", ""),
        ("-cDUMP", "-c"),
        ("-cLINK", "-c"),
        ("--core=DUMP", "--core="),
        ("--cor=LINK", "--cor="),
        ("-c", None),
        ("", None),
        ("-c=DUMP", None),
        ("-sDUMP", None),
        ("DUMPx", None),
        ("OTHER", None),
        ("print('DUMP')", None),
    ],
)
def test_the_dump_among_the_words(tmp_path: Path, word: str, before: str | None) -> None:
    for name in ("a=b dump", "other"):
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("a=b dump")
    path = str(tmp_path / "a=b dump")
    names = {"DUMP": path, "LINK": str(tmp_path / "link"), "OTHER": str(tmp_path / "other")}
    for name, file in names.items():
        word = word.replace(name, file)
    assert drgn_plugin._before(word, path) == before


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])
def test_ctrl_c_ends_the_process_and_is_then_as_before(handler: signal.Handlers) -> None:
    before = signal.signal(signal.SIGINT, handler)
    try:
        with drgn_plugin._ended_by_ctrl_c():
            during = signal.getsignal(signal.SIGINT)
        assert during is (signal.SIG_IGN if handler is signal.SIG_IGN else signal.SIG_DFL)
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_function_of_the_same_name_elsewhere_is_not_started_again() -> None:
    def _main() -> bool:
        return drgn_plugin._is_program(sys._getframe())

    assert not _main() and not drgn_plugin._is_program(None)


def test_a_vmlinux_that_no_word_names_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    (tmp_path / "vmlinux").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(namelist, "is_namelist", asked.append)
    assert not [*drgn_plugin._namelists(["-c", "vmcore", "-q", "--log-level", "debug"])]
    assert not asked
    assert not [*drgn_plugin._namelists(["-s", "vmlinux"])]
    assert asked == ["vmlinux"]
