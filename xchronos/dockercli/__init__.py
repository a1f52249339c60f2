"""Docker command lines as data: `docker run ...` and other lines become requests to the Engine API.

Nothing here starts the docker program, talks to an engine or reads a file. For a line that the docker client 20.10
accepts, the request is the one that this client sends; the tests in `tests/dockercli/test_docker_conformance.py` pin
that. Options that later clients added are read too.

Start with `compiler.compile_docker`, which turns a line into one of the records of `commands`:

- `containers`, `objects`, `netverbs`: the verbs, each with its options and its record.
- `flags`: how options are read. `runflags`: the options of `docker run`. `values`, `references`: their values.
- `body`: the body that creates a container, made of the options of `docker run`.
- `options`: the options of `docker run` with structured values, and systemd's resource keys.
- `quadlet`: the section `[Container]`, which becomes the same body.
"""

from xchronos.dockercli.commands import (
    Create,
    DockerCommand,
    Exec,
    ImageRm,
    Inspect,
    Kill,
    Logs,
    NetworkConnect,
    NetworkCreate,
    NetworkDisconnect,
    NetworkRm,
    Pause,
    Prune,
    Pull,
    Query,
    Rename,
    Restart,
    Rm,
    Run,
    Start,
    Stop,
    Tag,
    Unpause,
    VolumeCreate,
    VolumeRm,
    Wait,
)
from xchronos.dockercli.compiler import compile_docker, is_docker
from xchronos.dockercli.options.ports import ports_accepted_before
from xchronos.dockercli.references import check_image, split_image

__all__ = [
    "Create",
    "DockerCommand",
    "Exec",
    "ImageRm",
    "Inspect",
    "Kill",
    "Logs",
    "NetworkConnect",
    "NetworkCreate",
    "NetworkDisconnect",
    "NetworkRm",
    "Pause",
    "Prune",
    "Pull",
    "Query",
    "Rename",
    "Restart",
    "Rm",
    "Run",
    "Start",
    "Stop",
    "Tag",
    "Unpause",
    "VolumeCreate",
    "VolumeRm",
    "Wait",
    "check_image",
    "compile_docker",
    "is_docker",
    "ports_accepted_before",
    "split_image",
]
