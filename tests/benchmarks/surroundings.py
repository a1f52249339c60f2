"""What the figures of a run depend on and nobody sees in them: the interpreter's build, etcd, the machine and its load."""

import os
import platform
import sys
import sysconfig
from importlib.util import find_spec

from tests.services import etcd

OPTIMISED = {"--enable-optimizations": "PGO", "--with-lto": "LTO"}
"""Options with which an interpreter is configured so that it is quicker, and what people call that."""


def interpreter(configured: str) -> str:
    """The interpreter, and how it was built, by the options of its `configure`."""
    built = [word for option, word in OPTIMISED.items() if option in configured]
    return (
        f"{platform.python_implementation()} {platform.python_version()} built "
        f"{'with ' + ', '.join(built) if built else 'without optimisations'} ({platform.python_compiler()})"
    )


def told() -> str:
    """One line of it."""
    store = ".".join(map(str, etcd.version())) if etcd.program("etcd") else "none"
    scheduler = find_spec("xchronos.scheduler.fire")
    compiled = scheduler is not None and not str(scheduler.origin).endswith(".py")
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    return "; ".join(
        (
            interpreter(str(sysconfig.get_config_var("CONFIG_ARGS") or "")),
            f"xchronos {'compiled' if compiled else 'in plain Python'}",
            f"etcd {store}",
            f"{len(os.sched_getaffinity(0))} CPUs, {platform.machine()}, {sys.platform} {platform.release()}",
            f"load {load}",
        )
    )
