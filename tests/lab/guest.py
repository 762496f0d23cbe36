# SPDX-License-Identifier: GPL-3.0-or-later
"""A real kdump of a Xen host on which a PV guest runs, beside the dom0 that crashed.

dom0 starts the guest with a program of a screen (guest.c): the same kernel, 128 MB,
one vcpu, no devices.  The guest is busy, so that a cpu is on its page tables when the
host crashes: whose kernel is found through them must not be taken for dom0's.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from .cache import product
from .dump import (
    Dump,
    archive,
    crash_machine,
    initramfs_that_starts,
    libraries_of,
    libraries_of_xen,
    made_from,
)
from .matrix import MAIN, source
from .packages import HOST, Archive

PROGRAM = Path(__file__).with_name("guest.c")
MEGABYTES = 128
UP = "lab: guest up"
GUEST_INIT = f"""#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
hostname guest
sleep 1000 &
sh -c 'exec 3</init; read -r line' </dev/console &
sleep 1
echo "{UP}"
while :; do :; done
"""
# dom0 waits until the guest is up, then loads its crash kernel and crashes
START = f"""\
/guest/start /vmlinuz /guest/initrd {MEGABYTES} "console=hvc0 nokaslr quiet" >/guest/log 2>&1 &
for second in $(seq 200); do
    grep -q "{UP}" /guest/log && break
    sleep 1
done
cat /guest/log
"""


def put_guest(init: str, tree: Path, files: Path | None = None) -> None:
    """Put a guest's initramfs into ``tree``, which is dom0's, as ``guest/initrd``.

    :param files: a folder of what it has beside busybox and its init.
    """
    inner = tree / "inner"
    if files is None:
        inner.mkdir(parents=True)
    else:
        shutil.copytree(files, inner)
    for name in ("bin", "proc", "dev", "sys"):
        (inner / name).mkdir()
    shutil.copy(HOST.file("busybox-static", "bin/busybox"), inner / "bin/busybox")
    (inner / "init").write_text(init)
    (inner / "init").chmod(0o755)
    (tree / "guest").mkdir()
    archive(inner, tree / "guest/initrd")
    shutil.rmtree(inner)


def _program(folder: Path, xens: Archive) -> Path:
    """Compile the program that starts a guest of that Xen; return its path.

    Xen lets only its own version's libraries start a guest.  They are beside the program,
    as kexec has those of this machine's release.
    """
    folders = libraries_of_xen(xens)
    names = ("libxenguest", "libxenctrl", "libxentoollog")
    files = [next(f for d in folders for f in d.glob(f"{name}.so.*")) for name in names]
    built = folder / "start"
    subprocess.run(
        ["gcc", "-O1", "-Wall", "-Werror", "-o", built, PROGRAM, *files,
         "-I", xens.unpacked("libxen-dev") / "usr/include",
         "-Wl,--unresolved-symbols=ignore-in-shared-libs",
         "-Wl,--disable-new-dtags,-rpath,/guest"],
        check=True,
    )  # fmt: skip
    return built


def _files_of_dom0(folder: Path, xens: Archive) -> bytes:
    """Return an initramfs with the guest's, the program, and a dom0 that starts it."""
    tree = folder / "tree"
    put_guest(GUEST_INIT, tree)
    program = _program(tree / "guest", xens)
    for library in libraries_of(program, libraries_of_xen(xens)):
        shutil.copy(library, tree / "guest" / library.name)
    return initramfs_that_starts(START, tree, folder)


def guest_dump() -> Dump:
    """Return a real dump of a host with domains 0 and 1, both of the main dump's kernel.

    :raises Missing: the archive lacks what it is made of.
    """
    parts = source(MAIN)
    symbols = parts.vmlinux()

    def make(folder: Path) -> None:
        crash_machine(parts, folder, _files_of_dom0(folder, parts.xens))
        console = (folder / "console.log").read_text(errors="replace")
        if UP not in console:
            raise RuntimeError(f"the guest did not start; the console ended:\n{console[-3000:]}")

    of = (
        made_from(parts), parts.xens.version("libxen-dev"), PROGRAM.read_text(), GUEST_INIT, START,
    )  # fmt: skip
    folder = product(f"guest-{parts.release()}", of, make)
    return Dump(symbols, folder / "vmcore")
