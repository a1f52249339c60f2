"""A launcher on a workbench: executors over one directory, one after the other, and who still runs there."""

from pathlib import Path

from xchronos.executors.contract import StepSpec
from xchronos.executors.process.executor import ProcessExecutor


class LauncherBench:
    """Executors over one directory, one after the other, as a daemon has them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.executor = ProcessExecutor(directory / "state")
        self.starts = directory / "starts"
        self.starts.touch()

    def spec(self, number: int = 0, script: str = "exit 3") -> StepSpec:
        """A step that notes that it was started."""
        return StepSpec(
            "l.service", f"l.service/{number}/0", 1, "start-0", ("sh", "-c", f"echo {number} >> starts; {script}"), "/bin/sh",
            {"PATH": "/usr/bin:/bin"}, str(self.directory), str(self.directory / f"{number}.log"),
        )  # fmt: skip

    @property
    def started(self) -> list[str]:
        return self.starts.read_text().split()

    @property
    def launcher(self) -> int:
        return self.executor._launcher._pid

    async def next_daemon(self) -> None:
        """The daemon is gone, as by kill -9, and another one takes its place."""
        await self.executor.close()
        self.executor = ProcessExecutor(self.directory / "state")

    def processes(self) -> list[str]:
        """What still runs in the directory, or for it."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                there = str((entry / "cwd").readlink()), (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue  # it has ended, or is a zombie
            if str(self.directory) in there[0] or str(self.directory) in there[1]:
                found.append(f"{entry.name} {there[1]}")
        return found
