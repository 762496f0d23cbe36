# SPDX-License-Identifier: GPL-3.0-or-later
"""``p2mfix -s`` prints what ``crash -s`` prints on a dump whose list is whole."""

from __future__ import annotations

import re
from pathlib import Path

from tests.lab.dump import Dump

from .sessions import BIN, Crash, Terminal, misses_tasks


def alike(text: str) -> str:
    """Return a session's text without what differs between the dumps, and by tasks missed."""
    text = re.sub(r"(?m)^ *DUMPFILE: .*\n", "", text.replace("\r\n", "\n"))
    if misses_tasks():
        text = re.sub(r"(?m)^ *TASKS: .*\n", "", text)
        text = re.sub(r"WARNING: active task \w+ on cpu \d+ not found in PID hash\n\n", "", text)
    return text


def words(program: str | Path, dump: Dump) -> list[str | Path]:
    return [program, "-s", dump.vmlinux, dump.vmcore]


def test_a_silent_session_prints_its_commands_only(
    crash: Crash, untouched: Dump, truncated: Dump
) -> None:
    commands = ["bt", "sys", "nosuchcommand", "rd 0", "quit"]
    plain = crash.run(words("crash", untouched), commands)
    assert "sysrq_handle_crash" in plain.text and "nosuchcommand" in plain.text
    for dump in (truncated, untouched):
        opened = crash.run(words(BIN / "p2mfix", dump), commands)
        assert (alike(opened.text), opened.status) == (alike(plain.text), plain.status)


def test_a_silent_session_at_a_terminal_prints_its_commands_only(
    crash: Crash, untouched: Dump, truncated: Dump
) -> None:
    shown = []
    for started in (words("crash", untouched), words(BIN / "p2mfix", truncated)):
        terminal = Terminal(crash, [str(word) for word in started])
        shown.append([alike(terminal.until()), terminal.line("bt"), terminal.line("set -v")])
        terminal.child.sendline("quit")
        terminal.child.wait()
    assert "sysrq_handle_crash" in shown[0][1]
    assert [re.sub(r"(?m)^ *dumpfile: .*\n", "", text) for text in shown[1]] == [
        re.sub(r"(?m)^ *dumpfile: .*\n", "", text) for text in shown[0]
    ]


def test_a_silent_session_keeps_the_errors_of_its_start(
    crash: Crash, untouched: Dump, truncated: Dump
) -> None:
    """Those that crash prints before the host is loaded."""
    for wrong in (["--hash", "x"], ["--nosuchoption"]):
        plain = crash.run([*words("crash", untouched), *wrong], ["eval 16", "quit"])
        opened = crash.run([*words(BIN / "p2mfix", truncated), *wrong], ["eval 16", "quit"])
        assert plain.text.startswith("crash: invalid ")
        assert (alike(opened.text), opened.status) == (alike(plain.text), plain.status)
    terminal = Terminal(crash, [*map(str, words(BIN / "p2mfix", truncated)), "--hash", "x"])
    assert terminal.until().startswith("crash: invalid --hash argument: x\n")
    terminal.child.sendline("quit")
    terminal.child.wait()
