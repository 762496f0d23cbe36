# SPDX-License-Identifier: GPL-3.0-or-later
"""A real dump of a dom0 with SCSI, NVMe, device-mapper and NFS: what storage programs look at.

The emulator has two SCSI disks and an NVMe namespace, all of them empty.  dom0 makes a multipath
device of the disks and a logical volume of the namespace, and mounts a file system of its own
NFS server.
"""

from __future__ import annotations

from pathlib import Path

from .added import files_with_storage
from .cache import product
from .dump import MACHINE_OPTIONS, Dump, Machine, crash_machine, made_from
from .matrix import MAIN, source
from .packages import HOST

MODULES = (
    "virtio_scsi", "sd_mod", "nvme", "dm-mod", "dm-multipath", "dm-round-robin", "nfsd", "nfsv3",
    "nfsv4",
)  # fmt: skip
DISK_MEGABYTES = 64
SECTORS = DISK_MEGABYTES << 11  # of 512 bytes


def _empty(name: str) -> tuple[str, ...]:
    return "-drive", f"if=none,id={name},driver=null-co,size={DISK_MEGABYTES}M,read-zeroes=on"


DEVICES = Machine(
    hardware=(
        *MACHINE_OPTIONS,
        *_empty("first"), *_empty("second"), *_empty("third"),
        "-device", "virtio-scsi-pci,id=scsi",
        "-device", "scsi-hd,bus=scsi.0,scsi-id=1,drive=first,serial=lab",
        "-device", "scsi-hd,bus=scsi.0,scsi-id=2,drive=second,serial=lab",
        "-device", "nvme,drive=third,serial=lab-nvme",
    )
)  # fmt: skip
EXPORTED = 0x2401  # read only, no check of subtrees, by number: linux/nfsd/export.h of Linux
CLIENT = "vers=4.1,addr=127.0.0.1,clientaddr=127.0.0.1"
# An NFS server asks programs what it exports, and to whom, by files of proc; here a shell
# answers before it asks.  1 is the kind of a number as name of a file system (nfsfh.h of Linux).
START = f"""\
order=$(cat /devices/order)
for module in $order; do
    insmod "/devices/$module"
done
for second in $(seq 60); do
    [ -b /dev/sdb ] && [ -b /dev/nvme0n1 ] && break
    sleep 1
done
paths="2 1 $(cat /sys/block/sda/dev) 1000 $(cat /sys/block/sdb/dev) 1000"
dmsetup create --noudevsync --uuid mpath-lab mpatha \
    --table "0 {SECTORS} multipath 0 0 1 1 round-robin 0 $paths"
dmsetup create --noudevsync --uuid LVM-lab lab-volume \
    --table "0 {SECTORS // 2} linear $(cat /sys/block/nvme0n1/dev) 0"
dd if=/dev/mapper/mpatha of=/dev/null bs=4k count=8 2>/dev/null
dd if=/dev/mapper/lab-volume of=/dev/null bs=4k count=8 2>/dev/null
dmsetup table | sed 's/^/lab: /'

mkdir -p /export /mnt /var/lib/nfs/v4recovery
mount -t tmpfs export /export
echo exported >/export/file
mount -t nfsd nfsd /proc/fs/nfsd
for cache in auth.unix.ip nfsd.fh nfsd.export; do
    [ -e "/proc/net/rpc/$cache/channel" ] || echo "lab: no $cache"
done
echo "nfsd 127.0.0.1 2147483647 lab" >/proc/net/rpc/auth.unix.ip/channel
printf 'lab 1 \\\\x00000000 2147483647 /export\\n' >/proc/net/rpc/nfsd.fh/channel
printf 'lab /export 2147483647 {EXPORTED} 65534 65534 0\\n' >/proc/net/rpc/nfsd.export/channel
echo 10 >/proc/fs/nfsd/nfsv4leasetime
echo 10 >/proc/fs/nfsd/nfsv4gracetime  # seconds that a new server waits for its old clients
echo "-2 -3 +4" >/proc/fs/nfsd/versions
echo "tcp 2049" >/proc/fs/nfsd/portlist
echo 2 >/proc/fs/nfsd/threads
timeout -s KILL 120 mount -i -t nfs4 -o {CLIENT} 127.0.0.1:/ /mnt
ls /mnt | sed 's/^/lab: NFS has /'
"""
SHOWN = ("lab: mpatha: 0", "lab: lab-volume: 0", "lab: NFS has file")


def devices(kernel: str = MAIN) -> Dump:
    """Return a real dump of a dom0 with storage, untouched.

    :raises Missing: the archive lacks what it is made of.
    """
    parts = source(kernel)
    symbols = parts.vmlinux()

    def make(folder: Path) -> None:
        crash_machine(parts, folder, files_with_storage(parts, MODULES, START, folder), DEVICES)
        console = (folder / "console.log").read_text(errors="replace")
        missing = [text for text in SHOWN if text not in console]
        if missing:
            raise RuntimeError(f"dom0 has no {missing}; its console ended:\n{console[-3000:]}")

    of = (made_from(parts), HOST.version("dmsetup"), MODULES, START, DEVICES)
    return Dump(symbols, product(f"devices-{parts.release()}", of, make) / "vmcore")
