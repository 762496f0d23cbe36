# SPDX-License-Identifier: GPL-3.0-or-later
"""``pykdump-ext setup`` and ``doctor``, and sessions that load the host without using it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.lab.dump import Dump

from .sessions import BIN, Crash


def test_a_session_that_loads_the_host_and_uses_no_python_is_as_before(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    plain = crash(untouched, ["ps", "rd 0", "bt"], "-s")
    loaded = crash(untouched, [f"extend {host}", "ps", "rd 0", "bt"], "-s")
    assert loaded.text == plain.text.replace(
        "      PID    PPID", f"{host}: shared object loaded\n      PID    PPID", 1
    )


def test_setup_adds_one_line_to_crashrc_and_takes_it_out_again(crash: Crash, host: Path) -> None:
    crashrc = crash.home / ".crashrc"
    crashrc.write_text("alias b bt\nset scroll off")
    crashrc.chmod(0o600)
    tool: list[str | Path] = [BIN / "pykdump-ext", "setup"]
    assert crash.run(tool).status == 0
    wanted = f"alias b bt\nset scroll off\nextend {host}\n"
    assert crashrc.read_text() == wanted
    assert "has the line already" in crash.run(tool).text
    assert crashrc.read_text() == wanted
    assert crashrc.stat().st_mode & 0o777 == 0o600
    crashrc.write_text(wanted.replace(str(host), "/old/place/crash_host.so"))
    assert crash.run(tool).status == 0
    assert crashrc.read_text() == wanted
    assert crash.run([*tool, "--remove"]).status == 0
    assert crashrc.read_text() == "alias b bt\nset scroll off\n"
    assert crash.run([*tool, "--remove"]).status == 0


def test_doctor_says_that_all_is_well(crash: Crash, host: Path) -> None:
    crash.run([BIN / "pykdump-ext", "setup"])
    ran = crash.run([BIN / "pykdump-ext", "doctor"])
    assert ran.status == 0, ran.text
    assert "BAD" not in ran.text
    assert ran.text.endswith("all is well\n")
    assert re.search(r"^ok +host +built for crash \S+ and Python 3\.\d+$", ran.text, re.MULTILINE)


def test_doctor_says_what_would_fail(crash: Crash, tmp_path: Path) -> None:
    ran = crash.run([BIN / "pykdump-ext", "doctor"], CRASH="nosuchcrash", CRASH_INCLUDE="/nosuch")
    assert ran.status == 1
    assert "BAD  crash        not installed: install the package crash\n" in ran.text
    assert re.search(r"^BAD +defs\.h", ran.text, re.MULTILINE)
    assert re.search(r"^BAD +host +built for crash .*: build it again", ran.text, re.MULTILINE)
