# SPDX-License-Identifier: GPL-3.0-or-later
"""How to install the package again: from the clone that the build recorded."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pykdump_ext import installed


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "crash_host.so"
    monkeypatch.setattr(installed, "HOST", path)
    return path


def test_the_clone_and_the_environments_own_pip_are_named(tmp_path: Path, host: Path) -> None:
    clone = tmp_path / "my clone"
    clone.mkdir()
    (clone / "setup.py").touch()
    host.write_bytes(b"..\0BUILT_FOR_CRASH=8.0.2\0BUILT_FROM=%s\0.." % bytes(clone))
    pip = f"{sys.prefix}/bin/pip"
    assert installed.built("BUILT_FOR_CRASH") == "8.0.2"
    assert installed.build_again() == f"build it again: {pip} install --force-reinstall '{clone}'"
    assert installed.pip_install("drgn") == f"{pip} install '{clone}[drgn]'"


@pytest.mark.parametrize("content", [None, b"", b"\0BUILT_FROM=\0", b"\0BUILT_FROM=/gone\0"])
def test_no_name_of_an_index_is_given_where_the_clone_is_gone(
    host: Path, content: bytes | None
) -> None:
    if content is not None:
        host.write_bytes(content)
    pip = f"{sys.prefix}/bin/pip"
    assert installed.pip_install() == f"{pip} install --force-reinstall . in a clone of pykdump_ext"
    # without a host no host is built for another part
    first = "PYKDUMP_EXT_NO_HOST=1 " if content is None else ""
    wanted = f"{first}{pip} install '.[drgn]' in a clone of pykdump_ext"
    assert installed.pip_install("drgn") == wanted
