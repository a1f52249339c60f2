"""The requests that docker command lines become: one immutable record for each verb.

An executor performs them through the Engine API, without the docker program. `warnings` is for the author of the line;
`verify` and `status` show it. Containers, networks and volumes are given as written, by name or by id.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec


class _Command(msgspec.Struct, frozen=True, kw_only=True, tag_field="verb", omit_defaults=True):
    warnings: tuple[str, ...] = ()


class Create(_Command, frozen=True, kw_only=True, tag="create"):
    """`docker create`: POST /containers/create?name=&platform= with `body`.

    Files are read on the machine when the step runs. A variable or label of the command line wins over one from a file.
    """

    name: str | None = None
    """The container's name. None: the engine makes one up."""
    image: str
    """The image as written, or its id."""
    body: dict[str, Any]
    """The request's body. The files below are not in it yet."""
    platform: str = ""
    """`system/architecture[/variant]`, or empty for the engine's own."""
    pull: str = "missing"
    """When to pull the image: `always`, `missing` or `never`."""
    quiet: bool = False
    """Whether the pull shows no progress."""
    networks: tuple[str, ...] = ()
    """All networks, in the order given.

    An engine below API 1.44 accepts only one endpoint at creation. The others are connected before the start.
    """
    env_files: tuple[str, ...] = ()
    """Paths of files with variables. The variables come before those of `body["Env"]`."""
    label_files: tuple[str, ...] = ()
    """Paths of files with labels, for labels that `body["Labels"]` does not have."""
    seccomp_profile: str = ""
    """The path of a JSON file, or empty. Its text is appended to `HostConfig.SecurityOpt` as `seccomp=<text>`."""
    cidfile: str = ""
    """The path to which the docker client would write the container's id, or empty."""


class Run(Create, frozen=True, kw_only=True, tag="run"):
    """`docker run`: create the container, start it and, unless `detach`, wait for its end."""

    detach: bool = False
    """`-d`: the step ends as soon as the container has started."""
    remove: bool = False
    """`--rm`: the container is removed after its end."""
    interactive: bool = False
    """`-i`: standard input stays open."""
    tty: bool = False
    """`-t`: the container has a terminal, and its output is one raw stream."""


class Pull(_Command, frozen=True, kw_only=True, tag="pull"):
    """`docker pull`: POST /images/create?fromImage=<name>&tag=<tag>. With `all_tags` there is no tag."""

    image: str
    name: str
    tag: str
    all_tags: bool = False
    platform: str = ""
    quiet: bool = False


class Kill(_Command, frozen=True, kw_only=True, tag="kill"):
    """`docker kill`: send a signal, given by name or number, to every container."""

    containers: tuple[str, ...]
    signal: str = "KILL"


class Rm(_Command, frozen=True, kw_only=True, tag="rm"):
    """`docker rm`. `volumes` removes anonymous volumes too. `link` removes only the link of that name."""

    containers: tuple[str, ...]
    force: bool = False
    volumes: bool = False
    link: bool = False


class Stop(_Command, frozen=True, kw_only=True, tag="stop"):
    """`docker stop`: send the signal, wait up to `timeout` seconds, then send KILL.

    If `timeout` is None or `signal` is empty, the container's own setting is used.
    """

    containers: tuple[str, ...]
    timeout: int | None = None
    signal: str = ""


class Restart(Stop, frozen=True, kw_only=True, tag="restart"):
    """`docker restart`: a stop, then a start."""


class Start(_Command, frozen=True, kw_only=True, tag="start"):
    """`docker start`. With `attach`, there is one container; the step lasts until its end and takes its exit code."""

    containers: tuple[str, ...]
    attach: bool = False
    interactive: bool = False


class Wait(_Command, frozen=True, kw_only=True, tag="wait"):
    """`docker wait`: wait until every container has ended, and print their exit codes."""

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
    """`docker exec`: POST /containers/<container>/exec with `body`, then start it. `env_files` are as in `Create`."""

    container: str
    body: dict[str, Any]
    detach: bool = False
    env_files: tuple[str, ...] = ()


class Logs(_Command, frozen=True, kw_only=True, tag="logs"):
    """`docker logs`: GET /containers/<container>/logs with `params`."""

    container: str
    params: Mapping[str, str]


class Inspect(_Command, frozen=True, kw_only=True, tag="inspect"):
    """`docker inspect`: a JSON list of the objects. An empty `kind` tries container, image, network and then volume."""

    names: tuple[str, ...]
    kind: str = ""
    size: bool = False
    template: str = ""
    """A Go template (`dockercli.templates`) that is printed for each object; `json`: the list in one line."""


class Query(_Command, frozen=True, kw_only=True, tag="query"):
    """A listing or another read-only request: GET `path` with `params`. The output is JSON.

    If `quiet` is not empty, the output is one id or name on each line, and `quiet` is the JSON key that holds it.
    """

    path: str
    params: Mapping[str, str] = {}
    quiet: str = ""
    template: str = ""
    """As in `Inspect`, for the answer as a whole."""


class NetworkCreate(_Command, frozen=True, kw_only=True, tag="network create"):
    """`docker network create`: POST /networks/create with `body`."""

    name: str
    body: dict[str, Any]


class NetworkRm(_Command, frozen=True, kw_only=True, tag="network rm"):
    """`docker network rm`. With `force`, a network that does not exist is no error."""

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
    """`docker volume create`: POST /volumes/create with `body`. If `name` is empty, the engine makes one up."""

    name: str
    body: dict[str, Any]


class VolumeRm(_Command, frozen=True, kw_only=True, tag="volume rm"):
    """`docker volume rm`. With `force`, a volume that does not exist is no error."""

    volumes: tuple[str, ...]
    force: bool = False


class ImageRm(_Command, frozen=True, kw_only=True, tag="image rm"):
    """`docker rmi`. `prune` removes untagged parent images as well."""

    images: tuple[str, ...]
    force: bool = False
    prune: bool = True


class Tag(_Command, frozen=True, kw_only=True, tag="tag"):
    """`docker tag`: POST /images/<source>/tag?repo=&tag=."""

    source: str
    repository: str
    tag: str


class Prune(_Command, frozen=True, kw_only=True, tag="prune"):
    """`docker ... prune`: POST /<kind>/prune for each of `kinds`, in this order.

    `filters` holds the filters of each kind, as JSON or "".
    """

    kinds: tuple[str, ...]
    filters: Mapping[str, str] = {}


DockerCommand: TypeAlias = (
    Run | Create | Pull | Kill | Rm | Stop | Restart | Start | Wait | Pause | Unpause | Rename | Exec | Logs | Inspect
    | Query | NetworkCreate | NetworkRm | NetworkConnect | NetworkDisconnect | VolumeCreate | VolumeRm | ImageRm | Tag
    | Prune
)  # fmt: skip
"""One of the records that a docker command line can become."""
