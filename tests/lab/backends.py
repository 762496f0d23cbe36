# SPDX-License-Identifier: GPL-3.0-or-later
"""A real kdump of a Xen host whose guests have disks and network interfaces, served by dom0.

dom0 runs Xen's own programs: ``xenstored`` has the store, ``xl`` makes the guests and their
devices, ``xenconsoled`` writes what they print.  Domain 1 is up.  Domain 2 is paused before its
kernel runs, so that dom0 waits for its devices.  Before dom0 crashes, it and Xen print
what they have: nodes of the store, interrupts, event channels, grants.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from .added import put_added_modules
from .cache import product
from .dump import (
    Dump,
    Source,
    crash_machine,
    initramfs_that_starts,
    libraries_of,
    libraries_of_xen,
    made_from,
)
from .guest import put_guest
from .matrix import MAIN, source
from .packages import Archive

MEGABYTES = 128
DISK = "xvda"
UP = "lab: guest has"
BACKENDS = ("xen-evtchn", "xen-gntdev", "xen-blkback", "xen-netback", "loop")
FRONTENDS = ("xen-blkfront", "xen-netfront")
PROGRAMS = ("xenstored", "xen-init-dom0", "xenconsoled", "xl")
LOADED = Path("/lib/x86_64-linux-gnu/libgcc_s.so.1")  # by the C library, when a thread is ended
INSERTS = """\
for module in $(cat /devices/order); do
    insmod "/devices/$module"
done
"""
GUEST_INIT = f"""#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
hostname guest
{INSERTS}\
for second in $(seq 100); do
    [ -b /dev/{DISK} ] && [ -e /sys/class/net/eth0 ] && break
    sleep 1
done
ip link set eth0 up
ip address add 10.0.0.2/24 dev eth0
read -r words </dev/{DISK}
ping -c 3 10.0.0.1
echo "{UP} $words, $(cat /sys/class/net/eth0/address), $(cat /sys/class/net/eth0/carrier)"
while :; do sleep 1; done
"""


@dataclass(frozen=True)
class Guest:
    """What ``xl`` is told of a guest."""

    name: str
    uuid: str
    disk: str
    access: str
    mac: str

    def config(self) -> str:
        """Return the file for ``xl``."""
        return f"""\
name = "{self.name}"
uuid = "{self.uuid}"
kernel = "/vmlinuz"
ramdisk = "/guest/initrd"
extra = "console=hvc0 nokaslr quiet"
memory = {MEGABYTES}
vcpus = 1
disk = ["format=raw, vdev={DISK}, access={self.access}, script=lab, target={self.disk}"]
vif = ["mac={self.mac}, script=lab"]
"""


GUESTS = {
    1: Guest(
        "lab-guest", "11223344-5566-7788-99aa-bbccddeeff00", "/dev/loop0", "rw", "00:16:3e:01:02:03"
    ),
    2: Guest(
        "lab-paused", "22334455-6677-8899-aabb-ccddeeff0011", "/dev/loop1", "ro",
        "00:16:3e:01:02:04",
    ),
}  # fmt: skip
# In place of a device model and of a daemon of Qubes OS: who looks for the names of guests
# looks at their command lines
DAEMON = "#!/bin/sh\nsleep 1000\n"
# What the scripts of a distribution do for a device, without bash and its helpers
SCRIPT = """#!/bin/sh
export LD_LIBRARY_PATH=/guest
echo "lab: $1 $XENBUS_PATH" >>/guest/log
case "$1 $XENBUS_PATH" in
"add "*/vbd/*)
    disk=$(/guest/xenstore read "$XENBUS_PATH/params")
    number=$(cat "/sys/block/${disk#/dev/}/dev")
    /guest/xenstore write "$XENBUS_PATH/physical-device" "$number" ;;
"online "*/vif/*) ip link set "$vif" up && ip address add 10.0.0.1/24 dev "$vif" ;;
*) exit 0 ;;
esac
/guest/xenstore write "$XENBUS_PATH/hotplug-status" connected
"""
START = f"""\
{INSERTS}\
mkdir -p /run/xen /var/lib/xen /var/lib/xenstored /var/log/xen/console /var/lock /etc/xen/scripts
ln -s /run /var/run
mkdir /dev/pts
mount -t devpts devpts /dev/pts
cp /guest/script /etc/xen/scripts/lab
cp /guest/xl.conf /etc/xen/xl.conf
echo "a disk of the lab" >/tmp/disk
truncate -s 8M /tmp/disk
losetup /dev/loop0 /tmp/disk
losetup -r /dev/loop1 /tmp/disk
export LD_LIBRARY_PATH=/guest
/guest/xenstored --pid-file /run/xen/xenstored.pid
/guest/xen-init-dom0
/guest/xenconsoled --log=guest --pid-file=/run/xen/xenconsoled.pid
log=/var/log/xen/console/guest-{GUESTS[1].name}.log
if /guest/xl -v create /guest/config1; then
    for second in $(seq 200); do
        grep -q "{UP}" $log && break
        sleep 1
    done
fi
cat $log
/guest/xl create -p /guest/config2
cat /guest/log
/guest/qemu-system-i386 -xen-domid 1 -name {GUESTS[1].name},process=lab &
/guest/qrexec-daemon -q 2 {GUESTS[2].name} user &
ls /sys/bus/xen-backend/devices | sed 's/^/lab: xen-backend: /'
grep . /sys/bus/xen-backend/devices/*/physical_device /sys/bus/xen-backend/devices/*/mode |
    sed 's/^/lab: sys: /'
/guest/xenstore ls -f /local/domain/0/backend | sed 's/^/lab: store: /'
sed 's/^/lab: interrupts: /' /proc/interrupts
/guest/xl list | sed 's/^/lab: xl: /'
/guest/xl debug-keys eg
sleep 3
echo "lab: guests are ready"
unset LD_LIBRARY_PATH
"""


def _files_of_dom0(parts: Source, folder: Path, xens: Archive) -> bytes:
    """Return an initramfs with Xen's programs, the guest's files, and a dom0 that starts it."""
    tree, frontends = folder / "tree", folder / "frontends"
    put_added_modules(parts, FRONTENDS, frontends)
    put_added_modules(parts, BACKENDS, tree)
    put_guest(GUEST_INIT, tree, frontends)
    shutil.rmtree(frontends)
    utils = xens.unpacked(parts.xens.dependency("xen-system-amd64", r"xen-utils-\d[\d.]*"))
    programs = [next(utils.glob(f"usr/lib/xen-*/bin/{name}")) for name in PROGRAMS]
    programs.append(xens.file("xenstore-utils", "bin/xenstore"))
    for program in programs:
        shutil.copy(program, tree / "guest" / program.name)
        for library in libraries_of(program, libraries_of_xen(xens)):
            shutil.copy(library, tree / "guest" / library.name)
    shutil.copy(LOADED, tree / "guest" / LOADED.name)
    texts = {f"config{number}": guest.config() for number, guest in GUESTS.items()}
    scripts = {"script": SCRIPT, "qemu-system-i386": DAEMON, "qrexec-daemon": DAEMON}
    for name, text in {**texts, **scripts, "xl.conf": 'autoballoon="off"\n'}.items():
        (tree / "guest" / name).write_text(text)
        (tree / "guest" / name).chmod(0o755)
    return initramfs_that_starts(START, tree, folder)


def backends() -> Dump:
    """Return a real dump of a host whose guests have a disk and a network interface each.

    :raises Missing: the archive lacks what it is made of.
    """
    parts = source(MAIN)
    symbols = parts.vmlinux()

    def make(folder: Path) -> None:
        crash_machine(parts, folder, _files_of_dom0(parts, folder, parts.xens))
        console = (folder / "console.log").read_text(errors="replace")
        shown = (f"{UP} a disk of the lab, {GUESTS[1].mac}, 1", f"lab: xl: {GUESTS[2].name} ")
        missing = [text for text in shown if text not in console]
        if missing:
            raise RuntimeError(f"dom0 said no {missing}; its console ended:\n{console[-9000:]}")

    of = (
        made_from(parts), parts.xens.version("xenstore-utils"), BACKENDS, FRONTENDS,
        GUEST_INIT, GUESTS, GUESTS[1].config(), SCRIPT, START,
    )  # fmt: skip
    return Dump(symbols, product(f"backends-{parts.release()}", of, make) / "vmcore")
