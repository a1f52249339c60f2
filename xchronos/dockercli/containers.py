"""The verbs for containers: run, create, kill, rm, stop, start, restart, exec, logs, wait, pause, unpause, rename."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from xchronos.dockercli import commands
from xchronos.dockercli.body import container_parts, environment
from xchronos.dockercli.flags import Flag, Parsed, parse_flags, table
from xchronos.dockercli.refusals import SEEN_ON, refusals
from xchronos.dockercli.runflags import CREATE, NO_INPUT, NO_KEYS, RUN
from xchronos.dockercli.values import parse_env, parse_int
from xchronos.errors import InvalidValue

Verb: TypeAlias = Callable[[Sequence[str], Mapping[str, str]], commands.DockerCommand]
"""(the words after the verb, the environment with the values for `-e NAME`) -> the command."""


def names(parsed: Parsed, verb: str, least: int = 1, most: int | None = None) -> tuple[str, ...]:
    """The words that are no options. Raises InvalidValue if they are not `least` to `most`, or if one is empty.

    `most` None means any number.
    """
    count = len(parsed.words)
    if count < least or (most is not None and count > most):
        wanted = f"at least {least}" if most is None else f"exactly {least}" if most == least else f"at most {most}"
        raise InvalidValue(f"docker {verb}: {wanted} name{'' if 1 in {least, most} else 's'} expected, got {count}")
    if "" in parsed.words:
        raise InvalidValue(f"docker {verb}: an empty name")
    return tuple(parsed.words)


def _run(words: Sequence[str], env: Mapping[str, str]) -> commands.Run:
    parsed = parse_flags(RUN, words)
    parts = _container(parsed, "run", env)
    if parsed.get("sig-proxy") is False:
        parsed.warnings.append("--sig-proxy=false: no effect: what ends a step signals its container")
    policy = parts["body"]["HostConfig"]["RestartPolicy"]["Name"]
    if policy not in {"", "no"} and not parsed.get("detach"):
        parsed.warnings.append(
            f"--restart {policy}: no effect in the foreground: Restart= of [Service] says whether the unit tries again"
        )
    return commands.Run(
        **parts,
        detach=parsed.get("detach", False),
        remove=parsed.get("rm", False),
        interactive=parsed.get("interactive", False),
        tty=parsed.get("tty", False),
        warnings=tuple(parsed.warnings),
    )


def _create(words: Sequence[str], env: Mapping[str, str]) -> commands.Create:
    parsed = parse_flags(CREATE, words)
    parts = _container(parsed, "create", env)
    return commands.Create(**parts, warnings=tuple(parsed.warnings))


def _container(parsed: Parsed, verb: str, env: Mapping[str, str]) -> dict[str, Any]:
    try:
        parts = container_parts(parsed, env)
    except InvalidValue as error:
        raise InvalidValue(f"docker {verb}: {error}") from None
    parsed.warnings.extend(
        f"--{refusal.options[0]}: {refusal.message}: {SEEN_ON} refuses to create such a container"
        for refusal in refusals(parts["body"], resolves=True)
    )
    return parts


_KILL = table("kill", (Flag("signal", "s"),))
_RM = table("rm", (Flag("force", "f", "bool"), Flag("link", "l", "bool"), Flag("volumes", "v", "bool")))
_STOPPING = (Flag("timeout", "t", parse=parse_int), Flag("signal", "s"))
_START = table(
    "start",
    (
        Flag("attach", "a", "bool"),
        Flag("interactive", "i", "bool", note=f"{NO_INPUT}; read as --attach"),
        Flag("detach-keys", note=NO_KEYS),
        Flag("checkpoint", refuse="checkpoints are experimental; start the container anew"),
    ),
)
_EXEC = table(
    "exec",
    (
        Flag("detach", "d", "bool"),
        Flag("detach-keys", note=NO_KEYS),
        Flag("env", "e", "many", parse_env),
        Flag("env-file", "", "many"),
        Flag("interactive", "i", "bool", note=NO_INPUT),
        Flag("privileged", "", "bool"),
        Flag("tty", "t", "bool"),
        Flag("user", "u"),
        Flag("workdir", "w"),
    ),
    interspersed=False,
)
_LOGS = table(
    "logs",
    (
        Flag("details", "", "bool"),
        Flag("follow", "f", "bool"),
        Flag("since"),
        Flag("until"),
        Flag("tail", "n"),
        Flag("timestamps", "t", "bool"),
    ),
)
_NO_OPTIONS = {verb: table(verb, ()) for verb in ("wait", "pause", "unpause", "rename")}


def _kill(words: Sequence[str], _env: Mapping[str, str]) -> commands.Kill:
    parsed = parse_flags(_KILL, words)
    return commands.Kill(
        containers=names(parsed, "kill"), signal=parsed.get("signal", "KILL"), warnings=tuple(parsed.warnings)
    )


def _rm(words: Sequence[str], _env: Mapping[str, str]) -> commands.Rm:
    parsed = parse_flags(_RM, words)
    return commands.Rm(
        containers=names(parsed, "rm"),
        force=parsed.get("force", False),
        volumes=parsed.get("volumes", False),
        link=parsed.get("link", False),
        warnings=tuple(parsed.warnings),
    )


def _stopping(verb: str, kind: type[commands.Stop]) -> Verb:
    options = table(verb, _STOPPING, {"time": "timeout"})

    def compile_words(words: Sequence[str], _env: Mapping[str, str]) -> commands.Stop:
        parsed = parse_flags(options, words)
        return kind(
            containers=names(parsed, verb),
            timeout=parsed.get("timeout"),
            signal=parsed.get("signal", ""),
            warnings=tuple(parsed.warnings),
        )

    return compile_words


def _start(words: Sequence[str], _env: Mapping[str, str]) -> commands.Start:
    parsed = parse_flags(_START, words)
    attach, interactive = parsed.get("attach", False), parsed.get("interactive", False)
    containers = names(parsed, "start")
    if (attach or interactive) and len(containers) > 1:
        raise InvalidValue("docker start: you cannot start and attach multiple containers at once")
    return commands.Start(
        containers=containers,
        attach=attach or interactive,
        interactive=interactive,
        warnings=tuple(parsed.warnings),
    )


def _exec(words: Sequence[str], env: Mapping[str, str]) -> commands.Exec:
    parsed = parse_flags(_EXEC, words)
    if len(parsed.words) < 2:
        raise InvalidValue("docker exec: a container and a command are expected")
    detach = parsed.get("detach", False)
    body = {
        "User": parsed.get("user", ""),
        "Privileged": parsed.get("privileged", False),
        "Tty": parsed.get("tty", False),
        "AttachStdin": parsed.get("interactive", False) and not detach,
        "AttachStderr": not detach,
        "AttachStdout": not detach,
        "Detach": detach,
        "DetachKeys": "",
        "Env": environment(parsed.many("env"), env),
        "WorkingDir": parsed.get("workdir", ""),
        "Cmd": parsed.words[1:],
    }
    if not parsed.words[0]:
        raise InvalidValue("docker exec: an empty name")
    return commands.Exec(
        container=parsed.words[0],
        body=body,
        detach=detach,
        env_files=tuple(parsed.many("env-file")),
        warnings=tuple(parsed.warnings),
    )


def _logs(words: Sequence[str], _env: Mapping[str, str]) -> commands.Logs:
    parsed = parse_flags(_LOGS, words)
    params = {"stdout": "1", "stderr": "1"}
    params |= {flag: "1" for flag in ("details", "follow", "timestamps") if parsed.get(flag)}
    params |= {key: parsed.values[key] for key in ("since", "until", "tail") if parsed.get(key)}
    return commands.Logs(container=names(parsed, "logs", 1, 1)[0], params=params, warnings=tuple(parsed.warnings))


_Named: TypeAlias = type[commands.Wait] | type[commands.Pause] | type[commands.Unpause]


def _only_names(verb: str, kind: _Named) -> Verb:
    def compile_words(words: Sequence[str], _env: Mapping[str, str]) -> commands.DockerCommand:
        parsed = parse_flags(_NO_OPTIONS[verb], words)
        return kind(containers=names(parsed, verb))

    return compile_words


def _rename(words: Sequence[str], _env: Mapping[str, str]) -> commands.Rename:
    container, name = names(parse_flags(_NO_OPTIONS["rename"], words), "rename", 2, 2)
    return commands.Rename(container=container, name=name)


VERBS: dict[str, Verb] = {
    "run": _run,
    "create": _create,
    "kill": _kill,
    "rm": _rm,
    "stop": _stopping("stop", commands.Stop),
    "restart": _stopping("restart", commands.Restart),
    "start": _start,
    "exec": _exec,
    "logs": _logs,
    "wait": _only_names("wait", commands.Wait),
    "pause": _only_names("pause", commands.Pause),
    "unpause": _only_names("unpause", commands.Unpause),
    "rename": _rename,
}
"""The verbs for containers. Each is both `docker <verb>` and `docker container <verb>`."""
