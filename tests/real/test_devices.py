# SPDX-License-Identifier: GPL-3.0-or-later
"""A dom0 with SCSI, NVMe, device-mapper and NFS: after the repair crash shows all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.devices import devices
from tests.lab.packages import Missing

from .repaired import shown_after_repair
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
    shown = shown_after_repair(crash, host, whole, "devices-", COMMANDS, tmp_path)
    for module in ("nvme", "virtio_scsi", "dm_multipath", "nfsd", "nfsv4"):
        assert f" {module} " in shown["mod"]
    assert "127.0.0.1:/" in shown["mount"]
    assert "/mnt" in shown["mount"]
    assert "[nfsd]" in shown["ps -k"]
