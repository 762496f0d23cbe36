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
from .dump import INIT, Dump, Source, archive, crash_machine, libraries_of, made_from
from .packages import HOST

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


def _program(folder: Path) -> Path:
    """Compile the program that starts a guest; return its path."""
    libraries = HOST.dependency("kexec-tools", r"libxenmisc[\d.]+")
    folders = {
        file.parent
        for package in HOST.libraries(libraries)
        for file in HOST.unpacked(package).glob("**/lib*.so.*")
    }
    names = ("libxenguest", "libxenctrl", "libxentoollog")
    files = [next(f for d in folders for f in d.glob(f"{name}.so.*")) for name in names]
    built = folder / "start"
    subprocess.run(
        ["gcc", "-O1", "-Wall", "-Werror", "-o", built, PROGRAM, *files,
         "-I", HOST.unpacked("libxen-dev") / "usr/include",
         "-Wl,--unresolved-symbols=ignore-in-shared-libs"],
        check=True,
    )  # fmt: skip
    return built


def _files_of_dom0(folder: Path) -> bytes:
    """Return an initramfs with the guest's, the program, and a dom0 that starts it."""
    tree = folder / "tree"
    for name in ("bin", "proc", "dev", "sys"):
        (tree / name).mkdir(parents=True)
    shutil.copy(HOST.unpacked("busybox-static") / "bin/busybox", tree / "bin/busybox")
    (tree / "init").write_text(GUEST_INIT)
    (tree / "init").chmod(0o755)
    archive(tree, folder / "guest")
    shutil.rmtree(tree)

    for name in ("guest", "lib"):
        (tree / name).mkdir(parents=True)
    shutil.move(folder / "guest", tree / "guest/initrd")
    program = _program(tree / "guest")
    for library in libraries_of(program):
        shutil.copy(library, tree / "lib" / library.name)
    init = INIT.read_text()
    assert "\nkexec -p" in init
    (tree / "init").write_text(init.replace("\nkexec -p", f"\n{START}kexec -p"))
    (tree / "init").chmod(0o755)
    archive(tree, folder / "more")
    shutil.rmtree(tree)
    files = (folder / "more").read_bytes()
    (folder / "more").unlink()
    return files


def guest_dump() -> Dump:
    """Return a real dump of a host with domains 0 and 1, both of this machine's kernel.

    :raises Missing: the archive lacks what it is made of.
    """
    source = Source()
    symbols = source.vmlinux()

    def make(folder: Path) -> None:
        crash_machine(source, folder, _files_of_dom0(folder))
        console = (folder / "console.log").read_text(errors="replace")
        if UP not in console:
            raise RuntimeError(f"the guest did not start; the console ended:\n{console[-3000:]}")

    parts = (made_from(source), HOST.version("libxen-dev"), PROGRAM.read_text(), GUEST_INIT, START)
    folder = product(f"guest-{source.release()}", parts, make)
    return Dump(symbols, folder / "vmcore")
