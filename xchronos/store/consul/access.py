"""How a Consul cluster is reached: what `ConsulStore.open` is told."""

import re
import ssl
from pathlib import Path

import msgspec

from xchronos.errors import ConfigError

_PREFIX = re.compile(r"[A-Za-z0-9_-]+([./][A-Za-z0-9_-]+)*")


class ConsulAccess(msgspec.Struct, frozen=True, kw_only=True):
    """Agents and credentials.

    Args:
        agents: `host:port` each, of one cluster. One that answers is enough; the others are for when it stops.
        tls: speak HTTPS. Without `ca`, the system's certificate authorities are trusted.
        ca: a PEM file of the authorities to trust.
        cert: our own certificate, for agents that ask for one; `key` belongs to it.
        key: the private key of `cert`.
        token: of Consul's access control; it must be allowed `key_prefix "xchronos/" { policy = "write" }`.
        prefix: what the names of all keys of the store begin with, in Consul.
        timeout: seconds that a call may take, including the tries with other agents.
    """

    agents: tuple[str, ...]
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    token: str = ""
    prefix: str = "xchronos"
    timeout: float = 5.0

    def __post_init__(self) -> None:
        if not self.agents:
            raise ConfigError("no Consul agent: expected at least one host:port")
        if bool(self.cert) != bool(self.key):
            raise ConfigError("a certificate for Consul needs its key, and a key its certificate: give both or neither")
        if (self.ca or self.cert) and not self.tls:
            raise ConfigError("a certificate for Consul is given, but it is spoken to without TLS")

        if not _PREFIX.fullmatch(self.prefix):
            raise ConfigError(
                f"{self.prefix!r} cannot be the prefix in Consul: expected letters, digits, _ and -, and / in between"
            )

    def __repr__(self) -> str:
        # This text gets into logs and tracebacks, and the token must not (`test_the_token_is_never_shown`).
        return f"ConsulAccess({self})"

    def __str__(self) -> str:
        return f"{'consuls' if self.tls else 'consul'}://{','.join(self.agents)}"

    @property
    def addresses(self) -> list[str]:
        """The agents' URLs."""
        return [f"{'https' if self.tls else 'http'}://{agent}" for agent in self.agents]

    def context(self) -> ssl.SSLContext | None:
        """The TLS settings; None without TLS. Blocks: reads files. Raises ConfigError when one cannot be read."""
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except OSError as error:
            raise ConfigError(f"{self.ca}: the authorities' certificates for Consul cannot be read: {error}") from error
        if self.cert is not None:
            try:
                context.load_cert_chain(self.cert, self.key)
            except OSError as error:
                raise ConfigError(f"{self.cert}: the certificate for Consul cannot be read: {error}") from error
        return context
