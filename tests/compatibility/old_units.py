"""The units of the fixtures: one of every kind, each named after what it is there for."""

from datetime import datetime, timedelta

LINGER = 'trap "echo asked to end; exit %d" TERM; echo began; sleep 600 & wait'
"""A step that goes on until it is asked to end, and then ends with an exit code of its own."""


def unit(
    command: str = "echo attempt $$XCHRONOS_ATTEMPT",
    chronos: str = "",
    fleet: str = "",
    service: str = "Type=oneshot",
    head: str = "",
) -> str:
    """A unit file whose step is a shell command on the host."""
    text = f"[Service]\n{service}\nExecStart=/bin/sh -c '{command}'\n"
    text = (f"[Unit]\n{head}\n" if head else "") + text
    text += f"[X-Fleet]\n{fleet}\n" if fleet else ""
    return text + (f"[X-Chronos]\n{chronos}\n" if chronos else "")


def lingering(code: int, chronos: str = "", fleet: str = "", head: str = "") -> str:
    """A unit whose step goes on until it is asked to end."""
    return unit(LINGER % code, chronos, fleet, head=head)


def at(moment: datetime, seconds: int) -> str:
    """A moment some seconds later, as unit files spell it."""
    return (moment + timedelta(seconds=seconds)).replace(microsecond=0).isoformat().replace("+00:00", "Z")


def scheduled(now: datetime) -> dict[str, str]:
    """What triggers fire."""
    return {
        "cron": unit(
            chronos="TriggerCron=*/15 * * * * *\nTimeZone=Europe/Berlin\nHistoryLimit=3\nMisfireThreshold=10s",
            head="Description=A cron expression with seconds\nDocumentation=man:crontab(5)",
        ),
        "simple": unit(chronos="TriggerRepeatInterval=5s\nTriggerRepeatCount=19\nMisfirePolicy=IGNORE_MISFIRE_POLICY"),
        "iso": unit(chronos=f"TriggerISO8601=R12/{at(now, 3)}/PT10S\nMisfirePolicy=IGNORE_MISFIRE_POLICY"),
        "several": unit(
            chronos="TriggerCron=10,40 * * * * *\n"
            "TriggerRepeatInterval=30000\nTriggerRepeatCount=3\nTriggerStartDelay=2s\n"
            f"TriggerAt={at(now, 9)}\nTriggerCalendar=2099-12-31 23:59:59\n"
            "MisfirePolicy=IGNORE_MISFIRE_POLICY\nMisfireLimit=5"
        ),
        "bounded": unit(chronos="TriggerRepeatInterval=6s\nMaxRuns=16\nMisfirePolicy=IGNORE_MISFIRE_POLICY"),
        "ttl": unit(chronos="TriggerRepeatInterval=PT1H\nTTL=2min"),
        "future": unit(chronos="TriggerAt=2099-12-31T23:59:59Z\nRandomizedDelay=10min\nPriority=7"),
        "past": unit(chronos=f"TriggerAt={at(now, 4)}"),
        "paused": unit(chronos="TriggerRepeatInterval=3s"),
        "gap": unit(chronos="TriggerRepeatInterval=2s\nMisfireThreshold=1s"),
        "forbid": lingering(0, "TriggerRepeatInterval=8s\nTriggerRepeatCount=2\nConcurrency=forbid"),
        "delayed": unit(chronos=f"TriggerAt={at(now, 6)}\nRandomizedDelay=10min"),
        "report@": unit("echo the report of %i", "TriggerCalendar=Mon..Fri 04:00\nTimeZone=America/New_York"),
        "report@eu": unit("echo the report of %i", "TriggerCalendar=Mon..Fri 04:00\nTimeZone=America/New_York"),
    }


def started(there: str) -> dict[str, str]:
    """What people start; `there` asks for the machine that goes on longest."""
    nowhere = 'MachineMetadata="zone=nowhere"'
    return {
        "twice": lingering(0, "Availability=2"),
        "everywhere": unit(LINGER % 0, fleet="Global=true", service="Type=simple\nRestart=always"),
        "kept": unit(LINGER % 0, fleet=there, service="Type=simple\nRestart=always\nRestartSec=1"),
        "queue": lingering(0, "Concurrency=queue", "MachineID=m1"),
        "replace": lingering(0, "Concurrency=replace", there),
        "payload": unit("echo payload: $$XCHRONOS_PAYLOAD", "Payload=from the unit"),
        "stubborn": unit(
            "test $$XCHRONOS_ATTEMPT -ge 2", "MaxAttempts=4\nTimeBetweenAttempts=100s\nRetryBackoff=exponential"
        ),
        "third-time": unit("test $$XCHRONOS_ATTEMPT -ge 3", "MaxAttempts=5\nTimeBeetweenAttempts=100"),
        "waits": unit(fleet=nowhere, chronos="Priority=-3\nLoadBalancing=round-robin"),
        "given": unit(fleet="MachineID=m1"),
        "reported": unit(
            'trap "exit 3" TERM; test $$XCHRONOS_ATTEMPT -ge 2 || { sleep 600 & wait; }',
            "MaxAttempts=2\nTimeBetweenAttempts=4s",
            there,
        ),
        "crunch": lingering(0, fleet=there, head="OnSuccess=load.service"),
        "load": unit("echo loading"),
        "failed": unit("echo no luck; exit 3"),
        "timed-out": unit("sleep 600", service="Type=oneshot\nTimeoutStartSec=1\nTimeoutStopSec=1"),
        "cancelled": lingering(0),
        "missed": unit(fleet=nowhere, chronos="StartDeadline=1s"),
        "lost": lingering(0, "StartDeadline=1s", "MachineID=m1"),
        "skipped": unit(head="ConditionPathExists=/no/such/path"),
        "stopping": lingering(0, fleet="MachineID=m1"),
        "finishing": lingering(4, fleet="MachineID=m1"),
        "adopted": unit(
            'trap "echo ended well; exit 0" TERM; cat made-before; sleep 600 & wait',
            fleet="MachineID=m1",
            service="Type=oneshot\nExecStartPre=/bin/sh -c 'echo prepared; echo it was prepared > made-before'\n"
            "ExecStopPost=/bin/sh -c 'echo after all'",
        ),
    }


LATIN = b"[Service]\n# caf\xe9, as it was written in another age\nExecStart=/bin/true\n# no end of line follows"
"""A file that is no UTF-8."""

MASKED = b""

DIRECTORY = {
    "dropped.service": unit("echo $$GREETING", head="Description=From a directory, with a drop-in"),
    "dropped.service.d/10-greeting.conf": "[Service]\nEnvironment=GREETING=hello\n[X-Chronos]\nMaxAttempts=2\n",
}
"""The files in the daemon's directory of units."""
