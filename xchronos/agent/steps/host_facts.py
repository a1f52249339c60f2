"""Facts about this machine: for specifiers, for the machine's record, and for its identity."""

import grp
import os
import platform
import pwd
import secrets
import socket
from pathlib import Path

from xchronos.durable import write_whole
from xchronos.unitfile.specifiers import HostFacts

_ARCHITECTURES = {"x86_64": "x86-64", "i686": "x86", "i386": "x86", "aarch64": "arm64", "armv7l": "arm"}
"""systemd's name of an architecture (`%a`), by uname's, where the two differ."""


def host_facts(machine_id: str) -> HostFacts:
    """What specifiers expand to on this machine. `%m` is the id that the machine has in the cluster."""
    release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    user = pwd.getpwuid(os.geteuid())
    group = grp.getgrgid(os.getegid())
    architecture = platform.machine()
    return HostFacts(
        hostname=socket.gethostname(),
        machine_id=machine_id,
        boot_id=_first_line("/proc/sys/kernel/random/boot_id").replace("-", ""),
        kernel=platform.release(),
        architecture=_ARCHITECTURES.get(architecture, architecture),
        os_id=release.get("ID", ""),
        os_version_id=release.get("VERSION_ID", ""),
        os_image_id=release.get("IMAGE_ID", ""),
        os_image_version=release.get("IMAGE_VERSION", ""),
        os_build_id=release.get("BUILD_ID", ""),
        os_variant_id=release.get("VARIANT_ID", ""),
        user=user.pw_name,
        uid=str(user.pw_uid),
        group=group.gr_name,
        gid=str(group.gr_gid),
        home=user.pw_dir,
        shell=user.pw_shell,
    )


def total_memory() -> int:
    """The machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def default_machine_id(state: Path) -> str:
    """The machine's id unless its configuration says another: /etc/machine-id, else one drawn and kept in `state`."""
    return _first_line("/etc/machine-id") or drawn(state / "machine-id")


def drawn(path: Path) -> str:
    """A random name that is drawn once and kept in a file, through a power cut too.

    Containers and records of this machine carry it. The file is written as a whole: a full disk leaves no half of it.
    """
    name = path.read_text(encoding="ascii").strip() if path.exists() else ""
    if not name:
        name = secrets.token_hex(16)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, f"{name}\n".encode(), "directory")
    return name


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").partition("\n")[0].strip()
    except OSError:
        return ""
