# SPDX-License-Identifier: GPL-3.0-or-later
"""``pykdump-ext setup`` and ``doctor``, and sessions that load the host without using it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.lab.dump import Dump

from .sessions import BIN, ROOT, Crash


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


def test_setup_removes_a_file_that_it_made(crash: Crash) -> None:
    crashrc = crash.home / ".crashrc"
    tool: list[str | Path] = [BIN / "pykdump-ext", "setup"]
    assert crash.run(tool).status == 0 and crashrc.exists()
    ran = crash.run([*tool, "--remove"])
    assert ran.text == f"{crashrc}: removed, it had the line of pykdump_ext only\n"
    assert not crashrc.exists()


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
    assert re.search(r"^BAD +host +built for crash .*: build it again", ran.text, re.MULTILINE)


def test_doctor_separates_what_only_the_build_needs(crash: Crash) -> None:
    doctor: list[str | Path] = [BIN / "pykdump-ext", "doctor"]
    ran = crash.run(doctor, CRASH_INCLUDE="/nosuch", CC="nosuchcc")
    assert ran.status == 0
    sessions, _, building = ran.text.partition("only to build it again:\n")
    assert "BAD" not in ran.text and "defs.h" not in sessions
    assert "no   defs.h       /nosuch/defs.h not found: install crash or crash-devel\n" in building
    assert "no   compiler     nosuchcc not found: install gcc and libc6-dev, or gcc\n" in building
    assert ran.text.endswith("all is well, but it could not be built again here\n")


def test_what_is_to_be_built_again_is_named_by_its_clone(
    crash: Crash, truncated: Dump, tmp_path: Path
) -> None:
    """A name on an index would be anyone's to take."""
    again = f"build it again: {BIN.parent / 'bin/pip'} install --force-reinstall {ROOT}\n"
    old = tmp_path / "crash"
    old.write_text("#!/bin/sh\necho 'crash 7.0.0'\n")
    old.chmod(0o755)
    doctor = crash.run([BIN / "pykdump-ext", "doctor"], CRASH=str(old))
    assert doctor.status == 1 and again in doctor.text
    # it would otherwise start, and leave a minimal session
    started = crash.run([BIN / "p2mfix", truncated.vmlinux, truncated.vmcore], [], CRASH=str(old))
    assert started.status == 1
    assert re.fullmatch(
        rf"p2mfix: {old} is version 7\.0\.0, and pykdump_ext was built for [\d.]+: "
        + re.escape(again),
        started.text,
    )
