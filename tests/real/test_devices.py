# SPDX-License-Identifier: GPL-3.0-or-later
"""A dom0 with SCSI, NVMe, device-mapper and NFS: after the repair crash shows all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.broken import truncated
from tests.lab.devices import devices
from tests.lab.dump import Dump
from tests.lab.packages import Missing

from .outputs import by_command, to_files
from .sessions import Crash

COMMANDS = ("mod", "mount", "dev -p", "dev", "net", "ps -k", "sys")


@pytest.mark.thorough
@pytest.mark.parametrize("kernel", ["5.10", "6.1"])
def test_what_dom0_stores_and_mounts_is_shown_as_on_the_untouched_dump(
    kernel: str, crash: Crash, host: Path, tmp_path: Path
) -> None:
    try:
        whole = devices(kernel)
    except Missing as error:
        pytest.skip(str(error))
    broken = truncated(whole, "devices-")
    load = f"extend {host}"

    def shown(name: str, dump: Dump, *lines: str, options: tuple[str, ...]) -> dict[str, str]:
        folder = tmp_path / name
        ran = crash(dump, [load, *lines, *to_files(COMMANDS, folder)], *options)
        assert ran.status == 0, ran.text
        return by_command(COMMANDS, folder)

    wanted = shown("wanted", whole, "extend p2mfix.py", options=())
    found = shown("found", broken, "extend p2mfix.py", options=("--minimal",))
    assert found == wanted
    for module in ("nvme", "virtio_scsi", "dm_multipath", "nfsd", "nfsv4"):
        assert f" {module} " in wanted["mod"]
    assert "127.0.0.1:/" in wanted["mount"]
    assert "/mnt" in wanted["mount"]
    assert "[nfsd]" in wanted["ps -k"]
