# SPDX-License-Identifier: GPL-3.0-or-later
"""``.crashrc`` in a session that p2mfix starts on a broken dump: as in plain crash."""

from __future__ import annotations

import re
from pathlib import Path

from tests.lab.dump import Dump

from .sessions import BIN, Crash, Terminal

HOME = """\
# settings that crash makes before it opens the dump, and some that it makes later
set zero_excluded on
set scroll off
set emacs
set radix 16
set print_max 64
alias where bt
p 16
"""
LOCAL = "set offline hide\nset nosuchthing\nalias there sys\n"


def prepare(crash: Crash) -> None:
    (crash.home / ".crashrc").write_text(HOME)
    (crash.folder / ".crashrc").write_text(LOCAL)


def session(crash: Crash, words: list[str | Path]) -> tuple[str, dict[str, str]]:
    """Return what a session prints from its .crashrc files on, and what commands print."""
    commands = ("set -v", "alias", "sys -c | head -3", "p 17")
    files = {command: crash.folder / f"out{number}" for number, command in enumerate(commands)}
    ran = crash.run(words, [*(f"{c} > {path}" for c, path in files.items()), "quit"])
    assert ran.status == 0, ran.text
    shown = {c: re.sub(r"(?m)^ *dumpfile: .*\n", "", f.read_text()) for c, f in files.items()}
    return ran.text, shown


def test_settings_are_those_of_plain_crash(crash: Crash, untouched: Dump, truncated: Dump) -> None:
    prepare(crash)
    plain, wanted = session(crash, ["crash", "-s", untouched.vmlinux, untouched.vmcore])
    text, shown = session(crash, [BIN / "p2mfix", "-s", truncated.vmlinux, truncated.vmcore])
    for setting in ("zero_excluded: on", "scroll: off", "edit: emacs", "offline: hide"):
        assert setting in wanted["set -v"]
    assert "where " in wanted["alias"] and "there " in wanted["alias"]
    assert shown == wanted
    rest = plain[plain.index("zero_excluded: on\n") :]
    assert "output radix: 16 (hex)\n" in rest and "nosuchthing" in rest
    assert text.endswith(rest)


def test_readline_has_the_editing_mode_of_crashrc(crash: Crash, truncated: Dump) -> None:
    (crash.home / ".crashrc").write_text("set emacs\n")
    words = [str(BIN / "p2mfix"), "-s", str(truncated.vmlinux), str(truncated.vmcore)]
    terminal = Terminal(crash, words)
    terminal.until()
    terminal.child.send("val 16\x01e\r")  # Ctrl-A goes to the start of the line in emacs mode
    terminal.until("hexadecimal: 10")
    terminal.until()
    terminal.child.sendline("quit")
    terminal.child.wait()


def test_a_file_that_others_can_write_is_not_used(crash: Crash, truncated: Dump) -> None:
    prepare(crash)
    (crash.home / ".crashrc").chmod(0o666)
    text, shown = session(crash, [BIN / "p2mfix", "-s", truncated.vmlinux, truncated.vmcore])
    assert text.count(f'WARNING: not using untrusted file: "{crash.home}/.crashrc"\n') == 1
    assert "zero_excluded: off" in shown["set -v"] and "offline: hide" in shown["set -v"]
    assert "where " not in shown["alias"] and "there " in shown["alias"]
    none, shown = session(
        crash, [BIN / "p2mfix", "-s", truncated.vmlinux, truncated.vmcore, "--no_crashrc"]
    )
    assert "untrusted" not in none and "offline: show" in shown["set -v"]
