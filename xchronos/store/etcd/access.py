"""How an etcd cluster is reached: what `EtcdStore.open` is told."""

from pathlib import Path

import msgspec

from xchronos.errors import ConfigError
from xchronos.store.contract import MAX_OPERATIONS


class EtcdAccess(msgspec.Struct, frozen=True, kw_only=True):
    """Endpoints and credentials.

    Args:
        endpoints: `host:port` each. One that answers is enough; the others are for when it stops answering.
        tls: speak TLS. Without `ca`, the system's certificate authorities are trusted.
        ca: a PEM file of the authorities to trust.
        cert: our own certificate, for servers that ask for one; `key` belongs to it.
        key: the private key of `cert`.
        server_name: the name in the servers' certificates, where it is not the endpoints' host.
        user: the etcd user; empty: none.
        password: belongs to `user`.
        timeout: seconds that a call may take, including the tries on other endpoints.
        max_operations: the servers' `--max-txn-ops`.
    """

    endpoints: tuple[str, ...]
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    server_name: str = ""
    user: str = ""
    password: str = ""
    timeout: float = 5.0
    max_operations: int = MAX_OPERATIONS

    def __post_init__(self) -> None:
        if not self.endpoints:
            raise ConfigError("no etcd endpoint: expected at least one host:port")
        if bool(self.cert) != bool(self.key):
            raise ConfigError("a certificate for etcd needs its key, and a key its certificate: give both or neither")
        if (self.ca or self.cert or self.server_name) and not self.tls:
            raise ConfigError("a certificate for etcd is given, but it is spoken to without TLS")
        if self.password and not self.user:
            raise ConfigError("a password for etcd is given, but no user")

    def __repr__(self) -> str:
        # This text gets into logs and tracebacks, and the password must not (`test_the_password_is_not_shown`).
        return f"EtcdAccess({self})"

    def __str__(self) -> str:
        scheme = "etcds" if self.tls else "etcd"
        return f"{scheme}://{self.user + '@' if self.user else ''}{','.join(self.endpoints)}"
