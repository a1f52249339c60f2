"""How `make_fixtures` writes down what a daemon left: rows a line each, and nothing of the machine that it ran on."""

import base64
import contextlib
import json
import os
import socket
import sqlite3
import subprocess
import sys
import types
import typing
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from tests.compatibility.old_machine import Machine, Rows

ROOT = "/var/lib/xchronos-before"
BOOT = "01234567-89ab-4cde-8f01-23456789abcd"


def neutral(data: bytes, roots: dict[str, str]) -> bytes:
    """The same without a trace of this machine."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    replaced = {**roots, boot: BOOT, boot.replace("-", ""): BOOT.replace("-", ""), os.uname().release: "6.1.0"}
    replaced[socket.gethostname()] = "a-host"
    for old, new in replaced.items():
        data = data.replace(old.encode(), new.encode())
    return data


def row(key: str, value: bytes, created: int, modified: int, lease: int) -> dict[str, Any]:
    """A key as a line of the fixtures."""
    line: dict[str, Any] = {"key": key, "created": created, "modified": modified}
    if lease:
        line["lease"] = lease
    with contextlib.suppress(ValueError):
        parsed = json.loads(value)
        if compact(parsed).encode() == value:
            return {**line, "json": parsed}
    with contextlib.suppress(UnicodeDecodeError):
        return {**line, "text": value.decode()}
    return {**line, "base64": base64.b64encode(value).decode()}


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def write_rows(path: Path, rows: Rows) -> None:
    path.write_text("".join(f"{compact(line)}\n" for line in sorted(rows, key=lambda line: line["key"])))


def sqlite_rows(file: Path, roots: dict[str, str]) -> tuple[Rows, str]:
    """The rows, and as SQL everything else that is in the file."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        rows = [
            row(key, neutral(value, roots), created, modified, lease)
            for key, value, created, modified, lease in connection.execute("SELECT * FROM kv")
        ]
        dump = [line for line in connection.iterdump() if not line.startswith('INSERT INTO "kv"')]
    return rows, "\n".join(dump) + "\n"


def etcd_rows(endpoint: str, roots: dict[str, str]) -> Rows:
    command = ["etcdctl", "--endpoints", endpoint, "get", "", "--prefix", "-w", "json"]
    environment = {**os.environ, "ETCDCTL_API": "3"}
    found = json.loads(subprocess.run(command, check=True, capture_output=True, env=environment).stdout)["kvs"]
    leases: dict[int, int] = {}
    return [
        row(
            base64.b64decode(kv["key"]).decode(),
            neutral(base64.b64decode(kv.get("value", "")), roots),
            kv["create_revision"],
            kv["mod_revision"],
            leases.setdefault(kv["lease"], len(leases) + 1) if kv.get("lease") else 0,
        )
        for kv in found
    ]


def keep_files(machine: Machine, target: Path, roots: dict[str, str], *left_out: str) -> None:
    """The settings, the unit files, and the state directory but for the store and what is `left_out`."""
    kept = [machine.config, *machine.units.rglob("*"), *machine.state.rglob("*")]
    for path in kept:
        passing = path.name.startswith("xchronos.db") or path.suffix == ".lock" or {*left_out} & {*path.parts}
        if path.is_file() and not passing:
            copy = target / path.relative_to(machine.root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(neutral(path.read_bytes(), roots))


def every_field(path: Path) -> None:
    """A record of each kind in which no field is left at its default, whatever a daemon ever wrote."""
    sys.path.insert(0, str(Path.cwd()))
    import msgspec

    from xchronos.model import records

    def sample(kind: Any, name: str) -> Any:
        if name == "v":
            return 1  # what wrote it had no other
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin in (typing.Union, types.UnionType):
            return sample(arguments[0], name)
        if origin is typing.Literal:
            return arguments[-1]
        if origin is tuple:
            return (sample(arguments[0], name),)
        if origin is dict:
            return {f"a {name}": sample(arguments[1], name)}
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            hints = typing.get_type_hints(kind)
            return kind(**{field: sample(hints[field], field) for field in kind.__struct_fields__})
        if isinstance(kind, type) and issubclass(kind, StrEnum):
            return list(kind)[1]
        return {str: name, int: len(name) + 2, float: 2.5, bool: True, datetime: datetime(2026, 1, 2, 3, 4, 5, 6, UTC)}[
            kind
        ]

    kinds = ("UnitRecord", "Schedule", "Execution", "Machine", "MachineWish", "SchedulerRecord")
    made = {kind: msgspec.json.encode(sample(getattr(records, kind), kind)).decode() for kind in kinds}
    path.write_text("".join(f'{{"kind":"{kind}","json":{text}}}\n' for kind, text in made.items()))


def write_readings(path: Path, readings: dict[str, Any], roots: dict[str, str]) -> None:
    lines = ",\n".join(f"{compact(name)}: {compact(part)}" for name, part in readings.items())
    path.write_bytes(neutral(f"{{{lines}}}\n".encode(), roots))
