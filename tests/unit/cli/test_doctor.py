# SPDX-License-Identifier: GPL-3.0-or-later
"""``pykdump-ext doctor``: what it finds that only a strange installation has."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykdump_ext.cli import pykdump_ext as cli


@pytest.mark.parametrize("name", ["my venv", "venv"])
def test_a_blank_in_the_path_of_the_host_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    host = tmp_path / name / "crash_host.so"
    host.parent.mkdir()
    host.write_bytes(b"")
    monkeypatch.setattr(cli, "HOST", host)
    monkeypatch.setattr(cli, "built", lambda what: "")
    told = [text for good, what, text in cli.for_running() if what == "path" and not good]
    wanted = f"{host}: crash cannot load it, because of the blank in its path: install the package"
    assert [text.startswith(wanted) for text in told] == ([True] if " " in name else [])
