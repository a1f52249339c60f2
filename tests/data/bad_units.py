"""Unit files that must be refused: (file name, bytes, a part of the message, the line; 0: the file as a whole).

The message has to name what is wrong in words that its author understands, at the line where it stands.
"""

HEAD = b"[Service]\nExecStart=/bin/true\n[X-Chronos]\n"
"""Three lines: what follows begins on the fourth."""

FLEET = b"[Service]\nExecStart=/bin/true\n[X-Fleet]\n"


def _docker(line: bytes) -> bytes:
    return b"[Service]\nExecStart=/usr/bin/docker " + line + b"\n"


BAD_UNITS: tuple[tuple[str, bytes, str, int], ...] = (
    # keys and sections
    (
        "unknown-key.service",
        HEAD + b"TriggerCorn=* * * * *\n",
        "TriggerCorn: unknown key, did you mean TriggerCron?",
        4,
    ),
    ("unknown-fleet-key.service", FLEET + b"MachineMetaData=a=1\n", "MachineMetaData", 4),
    ("unknown-section.service", b"[Service]\nExecStart=/bin/true\n[X-Cronos]\nA=1\n", "unknown section [X-Cronos]", 3),
    ("unknown-own-section.service", b"[Service]\nExecStart=/bin/true\n[X-Other]\n", "unknown section [X-Other]", 3),
    ("container-typo.service", b"[Container]\nImage=busybox\nEntrpoint=x\n", "Entrpoint", 3),
    # fleet
    ("unquoted-pair.service", FLEET + b"MachineMetadata=region=eu disk=ssd\n", "MachineMetadata", 4),
    ("no-pair.service", FLEET + b"MachineMetadata=region\n", "MachineMetadata", 4),
    ("two-equals.service", FLEET + b'MachineMetadata="a=b=c"\n', "MachineMetadata", 4),
    ("global-and-machine.service", FLEET + b"Global=true\nMachineOf=a.service\n", "Global", 4),
    # cron
    ("cron-range.service", HEAD + b"TriggerCron=0 61 * * * *\n", "minute", 4),
    ("cron-hour.service", HEAD + b"TriggerCron=0 0 24 * * *\n", "hour", 4),
    ("cron-words.service", HEAD + b"TriggerCron=every monday\n", "cron expression", 4),
    ("cron-step.service", HEAD + b"TriggerCron=*/0 * * * *\n", "minute", 4),
    ("cron-month.service", HEAD + b"TriggerCron=0 0 1 FOO *\n", "month", 4),
    ("cron-backwards.service", HEAD + b"TriggerCron=30-10 * * * *\n", "minute", 4),
    ("second-cron.service", HEAD + b"TriggerCron=* * * * *\nTriggerCron=* * 32 * *\n", "day-of-month", 5),
    # other triggers
    ("iso-interval.service", HEAD + b"TriggerISO8601=R5/2030-01-01T00:00:00Z\n", "TriggerISO8601", 4),
    ("iso-month.service", HEAD + b"TriggerISO8601=R/2030-13-01T00:00:00Z/P1D\n", "month", 4),
    ("iso-zero.service", HEAD + b"TriggerISO8601=R/2030-01-01T00:00:00Z/PT0S\n", "TriggerISO8601", 4),
    ("at-words.service", HEAD + b"TriggerAt=tomorrow\n", "TriggerAt", 4),
    ("at-no-offset.service", HEAD + b"TriggerAt=2030-01-01T00:00:00\n", "TriggerAt", 4),
    ("calendar-day.service", HEAD + b"TriggerCalendar=Moonday 9:00\n", "TriggerCalendar", 4),
    ("class-missing.service", HEAD + b"TriggerClass=no.such.module:Class\n", "TriggerClass", 4),
    ("time-zone.service", HEAD + b"TimeZone=Europe/Atlantis\nTriggerCron=* * * * *\n", "Europe/Atlantis", 4),
    ("interval-zero.service", HEAD + b"TriggerRepeatInterval=0\n", "TriggerRepeatInterval", 4),
    ("interval-words.service", HEAD + b"TriggerRepeatInterval=often\n", "often", 4),
    ("count-alone.service", HEAD + b"TriggerRepeatCount=5\n", "TriggerRepeatInterval", 4),
    ("bounds.service", HEAD + b"NotBefore=2031-01-01T00:00:00Z\nNotAfter=2030-01-01T00:00:00Z\n", "NotBefore", 5),
    # numbers and words
    ("negative-attempts.service", HEAD + b"MaxAttempts=-3\n", "out of range", 4),
    ("zero-attempts.service", HEAD + b"MaxAttempts=0\n", "out of range", 4),
    ("negative-copies.service", HEAD + b"Availability=-1\n", "out of range", 4),
    ("count-below.service", HEAD + b"TriggerRepeatInterval=1000\nTriggerRepeatCount=-2\n", "out of range", 5),
    ("negative-delay.service", HEAD + b"TriggerStartDelay=-1\n", "-1", 4),
    ("float-attempts.service", HEAD + b"MaxAttempts=1.5\n", "whole number", 4),
    ("history.service", HEAD + b"HistoryLimit=0\n", "out of range", 4),
    ("policy.service", HEAD + b"MisfirePolicy=SOMEHOW\n", "FIRE_NOW", 4),
    ("concurrency.service", HEAD + b"Concurrency=maybe\n", "allow, forbid, replace, queue", 4),
    ("executor.service", HEAD + b"Executor=lxc\n", "docker, process, http, python", 4),
    ("checksum.service", HEAD + b"ArtifactSHA256=abc\n", "SHA-256", 4),
    ("artifact.service", HEAD + b"Artifact=ftp://host/file\n", "http://", 4),
    # command lines
    ("open-quote.service", b"[Service]\nExecStart=/bin/sh -c 'echo\n", "ExecStart", 2),
    ("relative.service", b"[Service]\nType=oneshot\nExecStart=@\n", "ExecStart", 3),
    ("nothing-to-run.service", b"[Service]\n", "nothing to run", 0),
    ("only-unit.service", b"[Unit]\nDescription=nothing else\n", "nothing to run", 0),
    ("docker-flag.service", _docker(b"run --frobnicate busybox"), "--frobnicate", 2),
    ("docker-verb.service", _docker(b"swarm init"), "swarm", 2),
    ("docker-port.service", _docker(b"run -p 99999:80 busybox"), "99999", 2),
    ("docker-no-image.service", _docker(b"run --rm"), "docker run", 2),
    # bytes
    ("header.service", b"[Service\nExecStart=/bin/true\n", "invalid section header", 1),
    ("garbage.service", bytes(range(128, 256)) * 4, "not valid UTF-8", 1),
    ("latin1.service", b"[Unit]\nDescription=caf\xe9\n[Service]\nExecStart=/bin/true\n", "not valid UTF-8", 2),
    ("elf.service", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0>\0", "nothing to run", 0),
    ("nul.service", b"[Service]\0ExecStart=/bin/true\0[X-Chronos]\0Nope=1\0", "Nope: unknown key", 4),
    ("long-line.service", HEAD + b"Payload=" + b"x" * (2 << 20) + b"\n", "a unit file has at most 65536", 0),
    (
        "long-continuation.service",
        HEAD + b"Payload=" + b"x" * 65_000 + b"\\\n" * 1 + (b"y" * 65_000 + b"\\\n") * 20,
        "a unit file has at most 65536",
        0,
    ),
    # names
    ("name", HEAD, "no known suffix", 0),
    ("bad name.service", HEAD, "bad characters", 0),
    ("two-problems.service", HEAD + b"Nope=1\nMaxAttempts=x\n", "whole number", 5),
)
