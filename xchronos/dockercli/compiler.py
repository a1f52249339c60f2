"""`compile_docker`: a docker command line becomes a record of what to request from the Engine API."""

import difflib
import posixpath
from collections.abc import Mapping, Sequence

import msgspec

from xchronos.dockercli import containers, objects
from xchronos.dockercli.commands import DockerCommand
from xchronos.dockercli.containers import Verb
from xchronos.dockercli.flags import Flag, parse_flags, table
from xchronos.errors import InvalidValue

_ENGINE = "a step always runs on the engine of the machine it is placed on; choose the machine with [X-Fleet]"
_OWN_ENGINE = frozenset(("unix:///var/run/docker.sock", "unix:///run/docker.sock", "unix://", ""))


def _host(text: str) -> str:
    if text not in _OWN_ENGINE:
        raise InvalidValue(_ENGINE)
    return text


def _context(text: str) -> str:
    if text not in {"default", ""}:
        raise InvalidValue(_ENGINE)
    return text


_GLOBAL = table(
    "",
    (
        Flag("host", "H", "many", _host),
        Flag("context", "c", parse=_context),
        Flag("config", note="ignored: registry credentials are a setting of the machine"),
        Flag("debug", "D", "bool"),
        Flag("log-level", "l"),
        Flag("tls", kind="bool", refuse=_ENGINE),
        Flag("tlsverify", kind="bool", refuse=_ENGINE),
        Flag("tlscacert", refuse=_ENGINE),
        Flag("tlscert", refuse=_ENGINE),
        Flag("tlskey", refuse=_ENGINE),
        Flag("version", "v", "bool", refuse="it only prints text; use docker version"),
    ),
    interspersed=False,
)

_VERBS: dict[str, Verb] = {
    **containers.VERBS,
    "ps": objects.PS,
    "images": objects.IMAGES,
    "pull": objects.PULL,
    "rmi": objects.RMI,
    "tag": objects.TAG,
    "inspect": objects.INSPECT,
    "version": objects.VERSION,
    "info": objects.INFO,
}
_GROUPS: dict[str, dict[str, Verb]] = {
    **objects.OBJECT_VERBS,
    "container": {**containers.VERBS, **objects.OBJECT_VERBS["container"], "remove": containers.VERBS["rm"]},
}

_FILES = "it needs the docker program and its files: run it from a shell on a machine that allows host processes"
_SWARM = "swarm is another orchestrator; write a unit instead"
_TERMINAL = "it needs a terminal or runs for ever"
_REFUSED = {
    **dict.fromkeys(("build", "builder", "buildx", "compose", "cp", "save", "load", "import", "export"), _FILES),
    **dict.fromkeys(("push", "commit", "search", "manifest", "trust", "scan", "scout", "plugin"), _FILES),
    **dict.fromkeys(("login", "logout"), "registry credentials are a setting of the machine; remove the line"),
    **dict.fromkeys(("swarm", "service", "stack", "node", "secret", "config", "checkpoint"), _SWARM),
    **dict.fromkeys(("attach", "events", "stats"), f"{_TERMINAL}; use docker logs, wait or inspect"),
    "context": _ENGINE,
    "update": "write the limits into docker run",
    "diff": "use docker inspect",
    "port": "docker inspect prints the ports as JSON, below NetworkSettings",
    "top": "docker exec <container> ps prints the processes, docker inspect the state",
    "history": "use docker image inspect",
}


def is_docker(program: str) -> bool:
    """Whether a program, given by path or plain name, is the docker client or podman, which accepts the same lines."""
    return posixpath.basename(program) in {"docker", "podman"}


def compile_docker(argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> DockerCommand:
    """Compile one command line whose program is `docker`, at any path.

    `env` holds the values for `-e NAME` without a value. Raises InvalidValue, which names the verb or option that is
    wrong or not supported, and says what to do instead.
    """
    if not argv or not is_docker(argv[0]):
        raise InvalidValue("not a docker command line: the program is not docker")
    if posixpath.basename(argv[0]) == "podman":
        raise InvalidValue("podman: write docker; the machine's engine is asked through its API, and may be podman's")
    parsed = parse_flags(_GLOBAL, argv[1:])
    words = parsed.words
    if not words:
        raise InvalidValue("docker: no verb is given, expected for example docker run")
    verb, rest = words[0], words[1:]
    if verb in _GROUPS:
        group = verb
        if not rest:
            raise InvalidValue(f"docker {group}: no verb is given, expected one of {', '.join(sorted(_GROUPS[group]))}")
        verb, rest = rest[0], rest[1:]
        compile_words = _find(_GROUPS[group], verb, f"docker {group} {verb}")
    else:
        compile_words = _find(_VERBS, verb, f"docker {verb}")
    command = compile_words(rest, {} if env is None else env)
    if parsed.warnings:
        command = msgspec.structs.replace(command, warnings=(*parsed.warnings, *command.warnings))
    return command


def _find(verbs: Mapping[str, Verb], verb: str, shown: str) -> Verb:
    found = verbs.get(verb)
    if found is not None:
        return found
    if verb in _REFUSED:
        raise InvalidValue(f"{shown} is not supported: {_REFUSED[verb]}")
    close = difflib.get_close_matches(verb, verbs, n=1)
    hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(sorted(verbs))}"
    raise InvalidValue(f"{shown}: unknown verb; {hint}")
