# SPDX-License-Identifier: GPL-3.0-or-later
"""Real dumps of a dom0 that died of something, or on which something was wrong before it died.

It is crashed by sysrq as in the lab's other dumps, or by the failure itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .added import files_with_storage
from .cache import product
from .dump import CRASHES, Dump, crash_machine, initramfs_that_starts, made_from
from .faults import MADE_FROM, put_faults
from .matrix import MAIN, source
from .packages import HOST

# A device that device-mapper holds back: what is asked of it waits until it is resumed.  `sync`
# waits for its pages with the device's open_mutex held, so that who opens it waits for `sync`.
WRITERS, OPENERS = 3, 2
DEVICE = "/dev/dm-0"
HANGS = f"""\
for module in $(cat /devices/order); do
    insmod "/devices/$module"
done
dmsetup create --noudevsync stopped --table "0 131072 zero"
for page in $(seq {WRITERS}); do
    mkfifo "/tmp/go$page"
    dd if="/tmp/go$page" of={DEVICE} bs=4k seek="$page" conv=fsync &
    echo "lab: writer $!"
done
sleep 1
dmsetup suspend --noudevsync --nolockfs --noflush stopped
echo 10 >/proc/sys/kernel/hung_task_timeout_secs
for page in $(seq {WRITERS}); do
    dd if=/dev/zero of="/tmp/go$page" bs=4k count=1 2>/dev/null
done
sleep 2
sync &
echo "lab: sync $!"
sleep 2
for number in $(seq {OPENERS}); do
    dd if={DEVICE} of=/dev/null bs=4k count=1 &
    echo "lab: opener $!"
done
sleep 1
ps -o pid,stat,comm | grep ' D ' | sed 's/^/lab: /'
for second in $(seq 60); do
    [ "$(dmesg | grep -c 'blocked for more than')" -ge {WRITERS + 1 + OPENERS} ] && break
    sleep 1
done
"""
EATS = """awk 'BEGIN { text = "eaten "; while (1) text = text text }'"""
OOM = "Out of memory: Killed process"
WAITS = "sleep 300"  # the machine dies before
# An oops that dom0 survives, and one that it does not
OOPSES = f"""\
insmod /faults/READS_NULL.ko
echo "lab: dom0 is alive"
echo 1 >/proc/sys/kernel/panic_on_oops
insmod /faults/GIVES_FREED.ko
{WAITS}"""


@dataclass(frozen=True)
class Failure:
    """What dom0 runs before its crash kernel is loaded, how it dies then, and what it prints."""

    starts: str
    crashes: str
    shown: tuple[str, ...]
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Faulty(Failure):
    """A failure of dom0 by modules of the lab, those of :data:`.faults.FAULTS`."""

    faults: tuple[str, ...] = ()
    made_from: str = MADE_FROM


FAILURES: dict[str, Failure] = {
    "hung": Failure(
        HANGS, CRASHES, ("blocked for more than", "sysrq triggered crash"), ("dm-mod", "dm-zero")
    ),
    "oom": Failure(f"{EATS}\n", CRASHES, (OOM, "sysrq triggered crash")),
    "hung-panic": Failure(
        "",
        f"echo 1 >/proc/sys/kernel/hung_task_panic\n{HANGS}{WAITS}",
        ("blocked for more than", "hung_task: blocked tasks"),
        ("dm-mod", "dm-zero"),
    ),
    "oom-panic": Failure(
        "",
        f"echo 2 >/proc/sys/vm/panic_on_oom\n{EATS}\n{WAITS}",
        ("compulsory panic_on_oom is enabled",),
    ),
    "oops": Faulty(
        "",
        OOPSES,
        ("NULL pointer dereference", "lab: dom0 is alive", "Fatal exception"),
        faults=("READS_NULL", "GIVES_FREED"),
    ),
    "killed": Faulty(
        "",
        f"insmod /faults/LOSES_TRAPS.ko\n{WAITS}",
        ("Domain 0 (vcpu#",),
        faults=("LOSES_TRAPS",),
    ),
}


def failure(name: str) -> Dump:
    """Return a real dump of a dom0 with one of :data:`FAILURES`, untouched.

    :raises Missing: the archive lacks what it is made of.
    """
    parts, failed = source(MAIN), FAILURES[name]
    symbols = parts.vmlinux()

    def make(folder: Path) -> None:
        if isinstance(failed, Faulty):
            put_faults(parts, failed.faults, folder / "tree")
            tree = folder / "tree"
            files = initramfs_that_starts(failed.starts, tree, folder, failed.crashes)
        else:
            files = files_with_storage(parts, failed.modules, failed.starts, folder, failed.crashes)
        crash_machine(parts, folder, files)
        console = console_of(Dump(symbols, folder / "vmcore"))
        missing = [text for text in failed.shown if text not in console]
        if missing:
            raise RuntimeError(f"dom0 said no {missing}; its console ended:\n{console[-3000:]}")

    of = (made_from(parts), HOST.version("dmsetup"), failed)
    return Dump(symbols, product(f"{name}-{parts.release()}", of, make) / "vmcore")


def console_of(dump: Dump) -> str:
    """Return what the machine of a dump of the lab wrote on its serial console."""
    return dump.vmcore.with_name("console.log").read_text(errors="replace")
