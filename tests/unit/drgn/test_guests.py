# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of guests in the command lines of processes."""

from __future__ import annotations

import pytest

from pykdump_ext.drgn.guests import _of_qemu, _of_qubes

NONE = (b"", b"")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("qemu -xen-domid 5 -chardev x -name work -vnc none", (b"5", b"work")),
        ("qemu -name guest=work,process=q -xen-domid 5", (b"5", b"work")),
        ("qemu -xen-domid 5 -name a,,b,debug-threads=on", (b"5", b"a,b")),
        ("qemu -xen-domid 5", (b"5", b"")),
        ("qemu -name work", (b"", b"work")),
        ("qemu -name", NONE),
    ],
)
def test_a_device_model(line: str, found: tuple[bytes, bytes]) -> None:
    assert _of_qemu(line.encode().split()) == found


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("qrexec-daemon -q 5 work user", (b"5", b"work")),
        ("qrexec-daemon 12 sys-net-dm root", (b"12", b"sys-net-dm")),
        ("qrexec-daemon -q --uuid=0-1 -- 5 7 user", (b"5", b"7")),
        ("qubesdb-daemon 5 work", (b"5", b"work")),
        ("/bin/sh /usr/bin/qrexec-daemon -q 5 work user", (b"5", b"work")),
        ("qrexec-daemon --socket-dir 60 -p 7 -D 5 work user", (b"5", b"work")),
        ("qrexec-daemon -t 60 5 work user", NONE),  # an option that is not known
        ("qubesdb-daemon 0", NONE),  # dom0's own, and a guest's in the guest
        ("5 work", NONE),  # the program's name is none of its arguments
        ("", NONE),
    ],
)
def test_a_daemon_of_qubes_os(line: str, found: tuple[bytes, bytes]) -> None:
    assert _of_qubes(line.encode().split()) == found
