"""Docker command lines as data: `docker run ...` and its like become requests to the Engine API.

Everything here is pure: no docker program, no engine, no file is touched. The option tables are our own; what they make
equals what the docker client 20.10 sends, and options that later clients added are there too.
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
    "split_image",
]
