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
    stub = crash.home / ".local/share/pykdump-ext/crash_host.so"
    wanted = f"alias b bt\nset scroll off\nextend {stub}\n"
    assert crashrc.read_text() == wanted
    assert "has the line already" in crash.run(tool).text
    assert crashrc.read_text() == wanted
    assert crashrc.stat().st_mode & 0o777 == 0o600
    for old in (str(host), "/old/place/crash_host.so"):
        crashrc.write_text(wanted.replace(str(stub), old))
        stub.write_bytes(b"that of another release")
        assert crash.run(tool).status == 0
        assert crashrc.read_text() == wanted
        assert stub.read_bytes() == (host.parent.parent / "launch/stub.so").read_bytes()
    assert crash.run([*tool, "--remove"]).status == 0
    assert crashrc.read_text() == "alias b bt\nset scroll off\n"
    assert host.exists() and not stub.parent.exists() and stub.parent.parent.exists()
    assert crash.run([*tool, "--remove"]).status == 0


def test_setup_removes_a_file_that_it_made(crash: Crash) -> None:
    crashrc = crash.home / ".crashrc"
    tool: list[str | Path] = [BIN / "pykdump-ext", "setup"]
    assert crash.run(tool).status == 0 and crashrc.exists()
    ran = crash.run([*tool, "--remove"])
    assert ran.text == f"{crashrc}: removed, it had the line of pykdump_ext only\n"
    assert not crashrc.exists()


def test_the_line_of_setup_loads_the_host_once(
    crash: Crash, untouched: Dump, truncated: Dump, host: Path
) -> None:
    assert crash.run([BIN / "pykdump-ext", "setup"]).status == 0
    stub = crash.home / ".local/share/pykdump-ext/crash_host.so"
    loaded, already = (f"{host}: shared object {what}loaded\n" for what in ("", "already "))
    commands = [f"extend {host}", f"extend -u {host}", f"extend {stub}", "py -c 'print(40 + 2)'"]
    ran = crash(untouched, commands, "--minimal", "-s")
    assert ran.after(already) == f"{host}: shared object unloaded\n{loaded}42\n"
    assert ran.text.count(loaded) == 2
    # as p2mfix starts it, the host is there before .crashrc runs
    p2mfix: list[str | Path] = [BIN / "p2mfix", truncated.vmlinux, truncated.vmcore]
    ran = crash.run(p2mfix, ["py -c 'print(40 + 2)'", "quit"])
    assert ran.text.count(already) == ran.text.count(loaded) == 1
    assert "42" in ran.after(already).splitlines()  # crash 8.0.6 prints the commands, too


def test_the_line_of_setup_is_silent_without_the_package(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    assert crash.run([BIN / "pykdump-ext", "setup"]).status == 0
    link = crash.home / ".local/share/pykdump-ext/crash_host.so.installed"
    link.unlink()
    link.symlink_to("/no/venv/crash_host.so")
    with (crash.home / ".crashrc").open("a") as rc:
        rc.write("pykdump_ext epython.py\n")  # as with setup --pykdump
    plain = crash(untouched, ["sym -q linux_banner", "rd 0"], "--minimal", "-s", "--no_crashrc")
    gone = crash(untouched, ["sym -q linux_banner", "rd 0"], "--minimal", "-s")
    assert gone == plain
    assert crash(untouched, ["bt"], "-s") == crash(untouched, ["bt"], "-s", "--no_crashrc")
    ran = crash(untouched, ["pykdump_ext", f"extend {host}", "py -c 'print(40 + 2)'"], "-s")
    wanted = "pykdump_ext is not installed any more: install it and run pykdump-ext setup, or"
    assert f"{wanted} delete the line from .crashrc\n{host}: shared object loaded\n" in ran.text
    assert ran.text.endswith("42\n")


def test_setup_refuses_a_home_with_a_blank(crash: Crash, tmp_path: Path) -> None:
    home = tmp_path / "my home"
    home.mkdir()
    ran = crash.run([BIN / "pykdump-ext", "setup"], HOME=str(home))
    assert ran.status == 1 and not [*home.iterdir()]
    assert ran.text == (
        f"pykdump-ext: {home}/.local/share/pykdump-ext: crash cannot load a file from there,"
        " because of the blank in this path: set XDG_DATA_HOME to a folder without one\n"
    )
    assert crash.run([BIN / "pykdump-ext", "setup"], HOME=str(home), XDG_DATA_HOME=str(tmp_path))
    assert (home / ".crashrc").read_text() == f"extend {tmp_path}/pykdump-ext/crash_host.so\n"


def test_doctor_follows_the_line_to_the_host(crash: Crash, host: Path) -> None:
    crashrc = crash.home / ".crashrc"
    doctor: list[str | Path] = [BIN / "pykdump-ext", "doctor"]
    crashrc.write_text(f"extend {host}\n")
    assert "pykdump-ext setup makes the line harmless\n" in crash.run(doctor).text
    crash.run([BIN / "pykdump-ext", "setup"])
    stub = crash.home / ".local/share/pykdump-ext/crash_host.so"
    assert f"{crashrc} loads the host, by {stub}\n" in crash.run(doctor).text
    link = stub.with_name("crash_host.so.installed")
    link.unlink()
    link.symlink_to("/other/venv/crash_host.so")
    ran = crash.run(doctor)
    assert f"{crashrc} loads /other/venv/crash_host.so: run pykdump-ext setup\n" in ran.text
    stub.unlink()
    ran = crash.run(doctor)
    assert ran.status == 1
    assert f"BAD  .crashrc     {crashrc} loads {stub}: run pykdump-ext setup\n" in ran.text


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
    assert "BAD  crash        nosuchcrash: not a program; set CRASH to the path of" in ran.text
    assert "build it again:" not in ran.text.partition("only to build it again:")[0]
    assert ran.text.endswith("not all is well: do what the BAD lines say\n")


def test_doctor_separates_what_only_the_build_needs(crash: Crash) -> None:
    doctor: list[str | Path] = [BIN / "pykdump-ext", "doctor"]
    crash.run([BIN / "pykdump-ext", "setup"])
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
