"""What a docker command line asks of the engine: one immutable record a verb.

An executor performs these through the Engine API; nothing in them needs the docker program. `warnings` is for the
person who wrote the line (`verify`, `status`). Names of containers, networks and volumes are as written: names or ids.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec


class _Command(msgspec.Struct, frozen=True, kw_only=True, tag_field="verb", omit_defaults=True):
    warnings: tuple[str, ...] = ()


class Create(_Command, frozen=True, kw_only=True, tag="create"):
    """`docker create`: POST /containers/create?name=&platform= with `body`.

    `env_files` and `label_files` are read on the machine when the step runs: their variables come before `body["Env"]`
    and their labels below `body["Labels"]`, so the command line wins. `seccomp_profile` is a JSON file whose text joins
    `HostConfig.SecurityOpt` as `seccomp=<text>`. `networks` are all networks in the order given: an engine below API
    1.44 takes one endpoint at creation, the others are connected before the start. `cidfile` is where the client would
    have written the id.
    """

    name: str | None = None
    image: str
    body: dict[str, Any]
    platform: str = ""
    pull: str = "missing"
    quiet: bool = False
    networks: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    label_files: tuple[str, ...] = ()
    seccomp_profile: str = ""
    cidfile: str = ""


class Run(Create, frozen=True, kw_only=True, tag="run"):
    """`docker run`: create, start and, unless `detach`, wait. `remove` is `--rm`; `tty` makes output one raw stream."""

    detach: bool = False
    remove: bool = False
    interactive: bool = False
    tty: bool = False


class Pull(_Command, frozen=True, kw_only=True, tag="pull"):
    """`docker pull`: POST /images/create?fromImage=<name>&tag=<tag>; no tag at all when `all_tags`."""

    image: str
    name: str
    tag: str
    all_tags: bool = False
    platform: str = ""
    quiet: bool = False


class Kill(_Command, frozen=True, kw_only=True, tag="kill"):
    """`docker kill`: the signal, by name or number, to every container."""

    containers: tuple[str, ...]
    signal: str = "KILL"


class Rm(_Command, frozen=True, kw_only=True, tag="rm"):
    """`docker rm`: `volumes` removes anonymous volumes too, `link` only the link of that name."""

    containers: tuple[str, ...]
    force: bool = False
    volumes: bool = False
    link: bool = False


class Stop(_Command, frozen=True, kw_only=True, tag="stop"):
    """`docker stop`: signal, `timeout` seconds of grace, then KILL; None leaves it to the container's own setting."""

    containers: tuple[str, ...]
    timeout: int | None = None
    signal: str = ""


class Restart(Stop, frozen=True, kw_only=True, tag="restart"):
    """`docker restart`: a stop, then a start."""


class Start(_Command, frozen=True, kw_only=True, tag="start"):
    """`docker start`; with `attach` the step lasts until the (one) container ends and takes its exit code."""

    containers: tuple[str, ...]
    attach: bool = False
    interactive: bool = False


class Wait(_Command, frozen=True, kw_only=True, tag="wait"):
    """`docker wait`: until every container has ended; prints their exit codes."""

    containers: tuple[str, ...]


class Pause(_Command, frozen=True, kw_only=True, tag="pause"):
    """`docker pause`."""

    containers: tuple[str, ...]


class Unpause(_Command, frozen=True, kw_only=True, tag="unpause"):
    """`docker unpause`."""

    containers: tuple[str, ...]


class Rename(_Command, frozen=True, kw_only=True, tag="rename"):
    """`docker rename`."""

    container: str
    name: str


class Exec(_Command, frozen=True, kw_only=True, tag="exec"):
    """`docker exec`: POST /containers/<container>/exec with `body`, then its start. `env_files` as for `Create`."""

    container: str
    body: dict[str, Any]
    detach: bool = False
    env_files: tuple[str, ...] = ()


class Logs(_Command, frozen=True, kw_only=True, tag="logs"):
    """`docker logs`: GET /containers/<container>/logs with `params`."""

    container: str
    params: Mapping[str, str]


class Inspect(_Command, frozen=True, kw_only=True, tag="inspect"):
    """`docker inspect`: a JSON list of the objects. `kind` "" tries container, image, network, volume in this order."""

    names: tuple[str, ...]
    kind: str = ""
    size: bool = False


class Query(_Command, frozen=True, kw_only=True, tag="query"):
    """A read-only question: GET `path` with `params`, answered as JSON.

    `quiet` asks for one id (or name) a line; it names the key of each object that holds it.
    """

    path: str
    params: Mapping[str, str] = {}
    quiet: str = ""


class NetworkCreate(_Command, frozen=True, kw_only=True, tag="network create"):
    """`docker network create`: POST /networks/create with `body`."""

    name: str
    body: dict[str, Any]


class NetworkRm(_Command, frozen=True, kw_only=True, tag="network rm"):
    """`docker network rm`; with `force` a network that does not exist is no error."""

    networks: tuple[str, ...]
    force: bool = False


class NetworkConnect(_Command, frozen=True, kw_only=True, tag="network connect"):
    """`docker network connect`: POST /networks/<network>/connect with `body`."""

    network: str
    container: str
    body: dict[str, Any]


class NetworkDisconnect(_Command, frozen=True, kw_only=True, tag="network disconnect"):
    """`docker network disconnect`."""

    network: str
    container: str
    force: bool = False


class VolumeCreate(_Command, frozen=True, kw_only=True, tag="volume create"):
    """`docker volume create`: POST /volumes/create with `body`; without a name the engine makes one up."""

    name: str
    body: dict[str, Any]


class VolumeRm(_Command, frozen=True, kw_only=True, tag="volume rm"):
    """`docker volume rm`; with `force` a volume that does not exist is no error."""

    volumes: tuple[str, ...]
    force: bool = False


class ImageRm(_Command, frozen=True, kw_only=True, tag="image rm"):
    """`docker rmi`: `prune` removes untagged parents as well."""

    images: tuple[str, ...]
    force: bool = False
    prune: bool = True


class Tag(_Command, frozen=True, kw_only=True, tag="tag"):
    """`docker tag`: POST /images/<source>/tag?repo=&tag=."""

    source: str
    repository: str
    tag: str


class Prune(_Command, frozen=True, kw_only=True, tag="prune"):
    """`docker ... prune`: POST /<kind>/prune for every kind, in this order, with its `filters` (JSON or "")."""

    kinds: tuple[str, ...]
    filters: Mapping[str, str] = {}


DockerCommand: TypeAlias = (
    Run | Create | Pull | Kill | Rm | Stop | Restart | Start | Wait | Pause | Unpause | Rename | Exec | Logs | Inspect
    | Query | NetworkCreate | NetworkRm | NetworkConnect | NetworkDisconnect | VolumeCreate | VolumeRm | ImageRm | Tag
    | Prune
)  # fmt: skip
"""Everything a docker command line can become."""
