"""Errors as advice: what an error means to the caller, and where the next try goes.

What matters most is whether a write *may* have happened. etcd refuses many requests before it proposes them to the
cluster (no leader, a bad token, no space): those can be sent again. When a connection breaks or a time-out passes,
nobody knows whether the write happened, and the caller is told so.
"""

from enum import Enum

import msgspec
from grpc import StatusCode
from grpc.aio import AioRpcError

from xchronos.errors import Compacted, LeaseLost, StoreError, StoreUnavailable


class Misconfigured(StoreUnavailable):
    """Only a change of our settings or of etcd's can heal this: a user, a password, a permission, a certificate."""


class NotPermitted(Misconfigured):
    """The user may not do that. Without a token, the user is the one that our certificate names."""


class LoginNotNeeded(StoreError):  # noqa: N818
    """A token was asked for, but the cluster has authentication turned off."""


class LeaseExists(StoreError):  # noqa: N818
    """A lease of that number was granted before."""


class Advice(Enum):
    """What to do about a failed request."""

    GIVE_UP = "tell the caller; asking again changes nothing for now"
    AGAIN = "etcd certainly did not do it: ask again, after a moment"
    ELSEWHERE = "etcd certainly did not do it: ask another member"
    LOGIN = "etcd certainly did not do it: the token is no good any more"
    UNKNOWN = "it may have been done: only what may be done twice is sent again, to another member"
    LATE = "as UNKNOWN, but the member need not be at fault"


class Trouble(msgspec.Struct, frozen=True):
    """What became of a request."""

    error: StoreError
    advice: Advice

    @property
    def safe(self) -> bool:
        """Whether the request certainly had no effect."""
        return self.advice not in (Advice.UNKNOWN, Advice.LATE)

    @property
    def leave(self) -> bool:
        """Whether the member should be left for another."""
        return self.advice in (Advice.ELSEWHERE, Advice.UNKNOWN)


NO_SPACE = (
    "etcd's database has reached its quota and takes no more writes (NOSPACE): compact and defragment every member, "
    "then `etcdctl alarm disarm`; or raise --quota-backend-bytes"
)
COMPACTS_NOT = (
    "etcd does not let this user compact (3.4.42, 3.5.28, 3.6.9 and newer let only the role root): grant it root, or "
    "let it do that itself (--auto-compaction-mode periodic --auto-compaction-retention 10m) and set etcd.history to 0"
)
TOO_LARGE = "the request is larger than etcd takes (--max-request-bytes, 1.5 MiB by default)"

PLAIN = "it does not seem to speak TLS: write etcd:// instead of etcds://"

# A part of etcd's own words, and what it means. The first row whose part is found counts.
_WORDS: tuple[tuple[str, Advice, type[StoreError], str], ...] = (
    ("requested lease not found", Advice.GIVE_UP, LeaseLost, "the lease has expired or was revoked"),
    ("lease already exists", Advice.GIVE_UP, LeaseExists, "{}"),
    ("database space exceeded", Advice.GIVE_UP, StoreUnavailable, NO_SPACE),
    ("corrupt", Advice.GIVE_UP, StoreUnavailable, "etcd says that its data are damaged (CORRUPT alarm): {}"),
    ("request is too large", Advice.GIVE_UP, StoreError, TOO_LARGE),
    ("message larger than max", Advice.GIVE_UP, StoreError, TOO_LARGE),
    (
        "too many operations in txn",
        Advice.GIVE_UP,
        StoreError,
        "a Txn has more operations than etcd takes (--max-txn-ops): set etcd.max_operations to the servers' limit",
    ),
    ("future revision", Advice.GIVE_UP, StoreError, "that revision is yet to come: {}"),
    ("invalid auth token", Advice.LOGIN, StoreUnavailable, "etcd does not accept the token any more"),
    ("revision of auth store is old", Advice.LOGIN, StoreUnavailable, "etcd's users have changed"),
    ("user name is empty", Advice.LOGIN, Misconfigured, "etcd asks for a user and a password: set etcd.user"),
    ("authentication is not enabled", Advice.GIVE_UP, LoginNotNeeded, "{}"),
    ("authentication failed", Advice.GIVE_UP, Misconfigured, "etcd does not know this user and password"),
    (
        "permission denied",
        Advice.GIVE_UP,
        NotPermitted,
        "the etcd user may not use the keys of xchronos: grant its role read and write on the prefix /xchronos/",
    ),
    ("no leader", Advice.ELSEWHERE, StoreUnavailable, "the etcd member knows no leader"),
    ("too many requests", Advice.AGAIN, StoreUnavailable, "etcd is overloaded"),
    ("learner", Advice.ELSEWHERE, StoreUnavailable, "the etcd member is a learner"),
    ("request timed out", Advice.LATE, StoreUnavailable, "etcd did not come to an agreement in time"),
)  # fmt: skip


def read_trouble(error: AioRpcError, endpoint: str) -> Trouble:
    """What a failed call means."""
    code, words = error.code(), error.details() or ""
    if code == StatusCode.UNAVAILABLE and not words.startswith("etcdserver:"):
        return _connection(words, endpoint)
    return read_words(code, words, endpoint)


def read_words(code: StatusCode | None, words: str, endpoint: str) -> Trouble:
    """What etcd's own words mean: a call's status, or the reason why a watch was cancelled."""
    plain = words.removeprefix("etcdserver: ").removeprefix("mvcc: ")
    if "has been compacted" in words:  # the answer does not say which revision is the oldest that is left
        return Trouble(Compacted(0), Advice.GIVE_UP)
    for part, advice, kind, text in _WORDS:
        if part in words:
            return Trouble(kind(f"{text.format(plain)} ({endpoint})"), advice)
    if code == StatusCode.DEADLINE_EXCEEDED:
        return Trouble(StoreUnavailable(f"etcd at {endpoint} did not answer in time"), Advice.LATE)
    if code in (StatusCode.INVALID_ARGUMENT, StatusCode.FAILED_PRECONDITION, StatusCode.UNIMPLEMENTED):
        return Trouble(StoreError(f"etcd at {endpoint} refused: {plain}"), Advice.GIVE_UP)
    return Trouble(StoreUnavailable(f"etcd at {endpoint}: {plain or code}"), Advice.UNKNOWN)


_REFUSALS = ("ALERT_BAD_CERTIFICATE", "ALERT_CERTIFICATE", "ALERT_UNSUPPORTED_CERTIFICATE", "ALERT_UNKNOWN_CA")
"""What servers that speak TLS 1.2 answer when they refuse our certificate."""


def _connection(words: str, endpoint: str) -> Trouble:
    """What the channel's own words mean: the connection could not be made, or it broke."""
    if not any(part in words for part in ("failed to connect", "resolving", "DNS resolution")):
        return Trouble(StoreUnavailable(f"the connection to etcd at {endpoint} broke: {words}"), Advice.UNKNOWN)
    reason = words.rpartition("last error: ")[2]
    for part, meaning in (
        ("certificate has expired", "its certificate has expired"),
        ("CERTIFICATE_VERIFY_FAILED", "its certificate is not signed by an authority that is trusted here (etcd.ca)"),
        ("Hostname Verification", "its certificate is for another name (etcd.server_name)"),
        ("WRONG_VERSION_NUMBER", PLAIN),
        ("Handshake read failed", PLAIN),
        *((alert, "it refuses our certificate (etcd.cert, etcd.key)") for alert in _REFUSALS),
        ("handshake failed (TSI_PROTOCOL", f"the TLS handshake failed: {reason}"),
        ("CERTIFICATE_REQUIRED", "it asks for a certificate (etcd.cert, etcd.key)"),
        ("security handshaker", "our certificate and our key do not belong together (etcd.cert, etcd.key)"),
    ):
        if part in words:
            return Trouble(Misconfigured(f"etcd at {endpoint} cannot be used: {meaning}"), Advice.ELSEWHERE)
    if "Unwrap failed" in words:  # a server that goes down may cause it as well, so it is no Misconfigured
        reason = (
            "it breaks off behind the TLS handshake, as servers do that refuse our certificate (etcd.cert, etcd.key)"
        )
        return Trouble(StoreUnavailable(f"etcd at {endpoint} cannot be used: {reason}"), Advice.ELSEWHERE)
    # Only the end of `UNKNOWN: ipv4:10.0.0.1:2379: Failed to connect to remote host: Connection refused` says anything.
    reason = reason.rpartition(": ")[2].rpartition(":")[2].rstrip("]")
    return Trouble(StoreUnavailable(f"etcd at {endpoint} cannot be reached: {reason}"), Advice.ELSEWHERE)


def broken(endpoint: str) -> Trouble:
    """The trouble of every call that was under way when the member was left."""
    return Trouble(StoreUnavailable(f"etcd at {endpoint} stopped answering"), Advice.UNKNOWN)
