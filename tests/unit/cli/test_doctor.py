# SPDX-License-Identifier: GPL-3.0-or-later
"""``pykdump-ext doctor``: what it finds that only a strange installation has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pykdump_ext.cli import pykdump_ext as cli
from pykdump_ext.cli.pykdump_ext import Finding


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


@pytest.mark.parametrize(
    ("good", "mark", "last"),
    [
        (True, "ok ", "all is well"),
        (None, "no ", "p2mfix is ready; a session of plain crash has Python only after"
         " pykdump-ext setup"),
        (False, "BAD", "not all is well: do what the BAD lines say"),
    ],
)  # fmt: skip
def test_a_step_that_is_missing_is_not_ok_and_not_bad(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    good: bool | None, mark: str, last: str,
) -> None:  # fmt: skip
    def found() -> Iterator[Finding]:
        yield good, ".crashrc", "what there is"

    monkeypatch.setattr(cli, "HOST", Path(__file__))  # as if it was built
    monkeypatch.setattr(cli, "for_running", found)
    monkeypatch.setattr(cli, "for_building", lambda: iter(()))
    assert cli.doctor() is (good is not False)
    said = capsys.readouterr().out.splitlines()
    assert (said[0], said[-1]) == (f"{mark}  .crashrc     what there is", last)


def test_before_setup_the_line_in_crashrc_is_a_missing_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(cli, "HOST", Path(__file__))  # as if it was built
    monkeypatch.setattr(cli, "built", lambda what: "")
    found = {what: (good, text) for good, what, text in cli.for_running()}
    assert found[".crashrc"] == (
        None,
        f"{tmp_path}/.crashrc does not load the host: pykdump-ext setup adds the line",
    )
