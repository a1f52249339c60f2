"""What the tests of the etcd store share."""

import asyncio
import subprocess
from pathlib import Path

from services.etcd import EtcdCluster, EtcdMember, Tls

from xchronos.store.etcd import EtcdStore
from xchronos.store.etcd_access import EtcdAccess


def access(cluster: EtcdCluster, **options) -> EtcdAccess:
    """How a cluster of the tests is reached."""
    options.setdefault("endpoints", tuple(url.partition("//")[2] for url in cluster.endpoints))
    return EtcdAccess(**options)


def member_in_use(store: EtcdStore, cluster: EtcdCluster) -> EtcdMember:
    """The member that the store talks to."""
    endpoint = store._link.line().endpoint
    return next(member for member in cluster.members if member.endpoint.endswith(endpoint))


async def until(condition, patience: float = 20) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(patience):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.05)


def make_authority(directory: Path, names: str = "IP:127.0.0.1") -> Tls:
    """A throw-away certificate authority, and a certificate that it has signed for `names`."""
    directory.mkdir(exist_ok=True)
    tls = Tls(ca=directory / "ca.pem", cert=directory / "cert.pem", key=directory / "key.pem")
    made = directory / "ca.key", directory / "request.pem", directory / "extensions"
    made[2].write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n")

    def openssl(*arguments: object) -> None:
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        "req", "-x509", *curve, "-keyout", made[0], "-out", tls.ca, "-days", 2, "-subj", "/CN=a throw-away authority"
    )
    openssl("req", *curve, "-keyout", tls.key, "-out", made[1], "-subj", "/CN=etcd")
    openssl("x509", "-req", "-in", made[1], "-CA", tls.ca, "-CAkey", made[0], "-CAcreateserial", "-out", tls.cert,
            "-days", 2, "-extfile", made[2])  # fmt: skip
    return tls
