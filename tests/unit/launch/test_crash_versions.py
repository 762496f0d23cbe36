# SPDX-License-Identifier: GPL-3.0-or-later
"""What each version of crash recognises by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykdump_ext import installed
from pykdump_ext.errors import P2mError
from pykdump_ext.launch import crash_versions
from pykdump_ext.launch.crash_versions import installed_crash, misses_pv_kernel, misses_tasks

from ..made_up.machine import SymbolTable

V4_13 = SymbolTable(pv_init_ops=1, xen_patch=1, paravirt_patch_default=1, xen_start_info=1)
V4_19 = SymbolTable(pv_init_ops=1, paravirt_patch_default=1, xen_start_info=1)
V4_20 = SymbolTable(pv_ops=1, paravirt_patch_default=1, xen_start_info=1)
XENLINUX = SymbolTable(xen_start_info=1)


@pytest.mark.parametrize(
    ("version", "misses_4_19", "misses_4_20"),
    [("7.2.9", True, True), ("7.2.3-11.el7_9.1", True, True), ("7.3", False, True),
     ("7.3.0", False, True), ("7.3.0-2.el8", False, True), ("7.3.1", False, False),
     ("8.0.2", False, False), ("9.0.2", False, False), ("", False, False)],
)  # fmt: skip
def test_crash_knows_a_pv_kernel_by_what_pv_init_ops_points_to_until_7_3_1(
    version: str, misses_4_19: bool, misses_4_20: bool
) -> None:
    """crash's commits 0715962d32fc (7.3.0) and 4badc6229c69 (7.3.1)."""
    assert misses_pv_kernel(version, V4_19) is misses_4_19
    assert misses_pv_kernel(version, V4_20) is misses_4_20
    assert not misses_pv_kernel(version, V4_13)
    assert not misses_pv_kernel(version, XENLINUX)


@pytest.mark.parametrize(
    ("version", "release", "misses"),
    [("7.2.9", "6.1.0-56-amd64", True), ("8.0.2", "6.1.0-56-amd64", True),
     ("8.0.3++", "6.12.94+deb13-amd64", True), ("8.0.2", "6.1", True), ("8.0.2", "7.2.12", True),
     ("8.0.2", "5.10.0-32-amd64", False), ("8.0.2", "4.19.0+1", False),
     ("8.0.2", "unknown", False), ("8.0.2", "", False), ("8.0.4", "6.1.0-56-amd64", False),
     ("9.0.2", "6.12.94", False), ("", "6.1.0-56-amd64", False)],
)  # fmt: skip
def test_crash_may_miss_tasks_of_linux_6_1_and_newer_until_8_0_4(
    version: str, release: str, misses: bool
) -> None:
    """Crash commit 88580068b7dd, for Linux commit b69f0aeb0689."""
    assert misses_tasks(version, release) is misses


@pytest.mark.parametrize(
    ("chosen", "why"),
    [
        ("/no/such/crash", "/no/such/crash: not a program; set CRASH to the path of crash"),
        ("/bin/true", "/bin/true: not crash; set CRASH to the path of crash"),
    ],
)
def test_another_program_is_not_taken_for_crash(
    monkeypatch: pytest.MonkeyPatch, chosen: str, why: str
) -> None:
    monkeypatch.setenv("CRASH", chosen)
    with pytest.raises(P2mError, match=f"^{why}, or unset it$"):
        installed_crash()


@pytest.mark.parametrize(
    ("host", "what"),
    [
        (Path(__file__), "the package crash"),
        (Path("/no/such"), "crash, a C compiler and the header files that the README names, then"
         r" run \S+/pip install --force-reinstall \. in a clone of pykdump_ext"),
    ],
)  # fmt: skip
def test_without_crash_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, host: Path, what: str
) -> None:
    monkeypatch.delenv("CRASH", raising=False)
    monkeypatch.setenv("PATH", "/no/such")
    for module in (crash_versions, installed):
        monkeypatch.setattr(module, "HOST", host)
    with pytest.raises(P2mError, match=f"^crash is not installed: install {what}$"):
        installed_crash()


def test_the_path_and_the_version_of_crash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "crash"
    program.write_text("#!/bin/sh\necho; echo crash 8.0.6++; echo Copyright\n")
    program.chmod(0o755)
    monkeypatch.setenv("CRASH", str(program))
    assert installed_crash() == (str(program), "8.0.6++")
