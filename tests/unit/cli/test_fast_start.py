# SPDX-License-Identifier: GPL-3.0-or-later
"""``pykdump-ext setup --fast-start``: its lines in ``.gdbinit``, and the script that they run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pykdump_ext.cli import gdbinit as module
from pykdump_ext.cli import pykdump_ext as cli
from pykdump_ext.cli.gdbinit import fast_start_state
from pykdump_ext.launch.fast_start import FIRST, hook, namelist_of
from pykdump_ext.launch.index_cache import KERNELS

THEIRS = "set history save on\n# a remark"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for variable in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(module, "installed_crash", lambda: ("/usr/bin/crash", "9.0.2"))
    return home


def setup(option: str, capsys: pytest.CaptureFixture[str]) -> str:
    cli.main(["setup", option])
    return capsys.readouterr().out


def test_the_lines_are_added_once_and_removed(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gdbinit = home / ".gdbinit"
    gdbinit.write_text(THEIRS)
    gdbinit.chmod(0o600)
    assert "crash 9 gains by pykdump-ext setup --fast-start" in fast_start_state()
    assert setup("--fast-start", capsys) == f"{gdbinit}: lines added\n"
    added = gdbinit.read_text()
    script = home / ".local/share/pykdump-ext/fast-start"
    assert added.startswith(f"{THEIRS}\n# pykdump-ext setup")
    assert f"exec '{script}'\n" in added and os.access(script, os.X_OK)
    assert f"{home}/.cache/pykdump-ext/gdb-index/%d/gdb" in added
    assert fast_start_state().startswith(f"{gdbinit} has crash 9 keep indexes in {home}")
    assert setup("--fast-start", capsys) == f"{gdbinit}: has the lines already\n"
    assert gdbinit.read_text() == added and gdbinit.stat().st_mode & 0o777 == 0o600
    gdbinit.write_text(added.replace(str(script), "/old/place") + "set width 0\n")
    assert "of another installation: run pykdump-ext setup --fast-start" in fast_start_state()
    setup("--fast-start", capsys)
    assert gdbinit.read_text().startswith(f"{THEIRS}\nset width 0\n# pykdump-ext")
    (home / ".cache/pykdump-ext/gdb-index").mkdir(parents=True)
    told = setup("--remove", capsys)
    assert f"{gdbinit}: lines removed\n" in told and "gdb-index: removed\n" in told
    assert gdbinit.read_text() == f"{THEIRS}\nset width 0\n"
    assert not script.parent.exists() and not (home / ".cache/pykdump-ext").exists()
    assert "gdbinit" not in setup("--remove", capsys)


def test_a_file_that_had_our_lines_only_is_removed(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setup("--fast-start", capsys)
    assert f"{home}/.gdbinit: removed, it had the lines of" in setup("--remove", capsys)
    assert not (home / ".gdbinit").exists()


def test_a_crash_that_gains_nothing_is_named(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "installed_crash", lambda: ("/usr/bin/crash", "8.0.2"))
    wanted = "/usr/bin/crash is version 8.0.2 and starts as before: crash 9 gains by the lines\n"
    assert setup("--fast-start", capsys).endswith(wanted)


def test_where_newer_gdbs_read_another_file_it_has_the_lines_too(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = home / ".config/gdb/gdbinit"
    newer.parent.mkdir(parents=True)
    newer.write_text(THEIRS)
    setup("--fast-start", capsys)
    assert newer.read_text().endswith((home / ".gdbinit").read_text())
    setup("--remove", capsys)
    assert newer.read_text() == f"{THEIRS}\n"


def test_lines_without_their_end_are_left_alone(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setup("--fast-start", capsys)
    damaged = (home / ".gdbinit").read_text().rpartition("# pykdump-ext")[0] + "set width 0\n"
    (home / ".gdbinit").write_text(damaged)
    setup("--remove", capsys)
    assert (home / ".gdbinit").read_text() == damaged


def test_a_path_that_gdb_would_misread_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", f"{home}/100%")
    with pytest.raises(SystemExit):
        setup("--fast-start", capsys)
    assert "because of the '%' in it: set XDG_DATA_HOME and XDG_CACHE" in capsys.readouterr().err
    assert not [*home.iterdir()]


def test_the_script_does_nothing_in_other_programs_and_without_the_package(tmp_path: Path) -> None:
    script = tmp_path / "fast-start"
    script.write_text(hook())
    script.chmod(0o755)
    assert subprocess.run([script], check=False).returncode == 0  # this is not crash
    crash = tmp_path / "crash"  # a shell by that name
    crash.write_bytes(Path("/bin/sh").resolve().read_bytes())
    crash.chmod(0o755)
    script.write_text(hook().replace(" exit 0\nexec", " exit 7\nexec"))
    gone = script.read_text().replace(sys.executable, "/no/such/python")
    script.write_text(gone)
    ran = subprocess.run([crash, "-c", f"{script}; exit $?"], check=False)
    assert ran.returncode == 7


def test_the_exit_status_is_no_error_of_python_and_none_of_a_shell() -> None:
    assert FIRST > 2 and FIRST + KERNELS <= 126


def test_the_namelist_of_a_crash_is_read_from_its_command_line(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_bytes(b"\x7fELF".ljust(64, b"\0"))
    (tmp_path / "commands").write_text("bt\n")
    words = ["sh", "-c", "read line", "crash", "-i", "commands", "vmlinux", "nosuchfile"]
    with subprocess.Popen(words, cwd=tmp_path, stdin=subprocess.PIPE) as process:
        while not Path(f"/proc/{process.pid}/cmdline").read_bytes():
            pass  # it is on its way
        found = namelist_of(process.pid)
        process.communicate(b"\n")
    assert found == [f"/proc/{process.pid}/cwd/vmlinux"]
