"""What Restart= and the keys around it come to: attempts and their pauses."""

import pytest

from tests.model.compile_helpers import service, warnings
from xchronos.clock import SECOND
from xchronos.model.policies import Retry

TRIGGER = "[X-Chronos]\nTriggerCron=@daily\n"
TRUE = "ExecStart=/bin/true"


class TestRestart:
    @pytest.mark.parametrize(
        ("lines", "retry"),
        [
            ("Restart=no", Retry()),
            ("Restart=on-failure", Retry(5, 100_000)),
            ("Restart=on-abort\nRestartSec=3", Retry(5, 3 * SECOND)),
            ("Restart=on-failure\nStartLimitBurst=2", Retry(2, 100_000)),
            ("Restart=on-failure\nStartLimitBurst=0", Retry(0, 100_000)),
            ("Restart=on-failure\nStartLimitInterval=0", Retry(0, 100_000)),
            ("Restart=on-failure\n[Unit]\nStartLimitIntervalSec=0", Retry(0, 100_000)),
            ("Restart=on-failure\n[Unit]\nStartLimitBurst=9", Retry(9, 100_000)),
            ("Restart=on-failure\nRestartSec=infinity", Retry()),
            ("Restart=on-failure\n[X-Chronos]\nMaxAttempts=3\nTimeBetweenAttempts=7", Retry(3, 7_000)),
            ("Restart=always\nRestartSec=2", Retry(0, 2 * SECOND)),
        ],
    )
    def test_is_understood_as_attempts(self, lines, retry):
        unit = service(TRUE, lines)
        assert (unit.retry, warnings(unit)) == (retry, [])

    def test_always_keeps_a_unit_running_only_without_a_trigger(self):
        assert service(TRUE, "Restart=always").keep_running
        unit = service(TRUE, "Restart=always", TRIGGER)
        assert (unit.keep_running, unit.retry) == (False, Retry(5, 100_000))
        assert "a success is not followed by another attempt" in warnings(unit)[0]

    @pytest.mark.parametrize(
        ("lines", "retry"),
        [
            (
                "Restart=on-failure\nRestartSteps=3\nRestartMaxDelaySec=8",
                Retry(5, 100_000, max_delay=8 * SECOND, growth_steps=3),
            ),
            (
                "Restart=always\nRestartSec=2\nRestartSteps=3\nRestartMaxDelaySec=8",
                Retry(0, 2 * SECOND, max_delay=8 * SECOND, growth_steps=3),
            ),
            ("RestartForceExitStatus=7", Retry(5, 100_000, forced_only=True)),
            (
                "Restart=no\nRestartForceExitStatus=7\nStartLimitBurst=2\nRestartSec=1",
                Retry(2, SECOND, forced_only=True),
            ),
            ("Restart=on-abort\nRestartForceExitStatus=7", Retry(5, 100_000)),
        ],
    )
    def test_pauses_that_grow_and_ends_that_are_forced(self, lines, retry):
        unit = service(TRUE, lines)
        assert (unit.retry, warnings(unit)) == (retry, [])

    @pytest.mark.parametrize(
        ("lines", "key", "fragment", "retry"),
        [
            # What systemd 257 and 262 say of these, and do.
            ("Restart=on-failure\nRestartSteps=3", "RestartSteps", "without RestartMaxDelaySec=", Retry(5, 100_000)),
            ("Restart=on-failure\nRestartSteps=3\nRestartMaxDelaySec=infinity", "RestartSteps", "without Restart", Retry(5, 100_000)),
            ("Restart=on-failure\nRestartMaxDelaySec=9", "RestartMaxDelaySec", "without RestartSteps=", Retry(5, 100_000)),
            ("Restart=on-failure\nRestartSteps=0\nRestartMaxDelaySec=9", "RestartMaxDelaySec", "without RestartSteps=", Retry(5, 100_000)),
            (
                "Restart=on-failure\nRestartSec=10\nRestartSteps=3\nRestartMaxDelaySec=5",
                "RestartMaxDelaySec", "is shorter than RestartSec=", Retry(5, 5 * SECOND, max_delay=5 * SECOND, growth_steps=3),
            ),
            (
                "Restart=on-failure\nRestartSec=0\nRestartSteps=3\nRestartMaxDelaySec=5",
                "RestartSteps", "of 0 does not grow", Retry(5, 0, max_delay=5 * SECOND, growth_steps=3),
            ),
            # What systemd does not say.
            ("RestartSec=3", "RestartSec", "without a Restart= that tries again", Retry()),
            ("Restart=on-watchdog", "Restart", "no watchdog is watched here", Retry()),
            ("StartLimitBurst=3", "StartLimitBurst", "without a Restart= that tries again", Retry()),
            ("RestartPreventExitStatus=3", "RestartPreventExitStatus", "without a Restart= that tries again", Retry()),
            ("Restart=always\nStartLimitBurst=3", "StartLimitBurst", "keeps running", Retry(0, 100_000)),
            ("Restart=on-failure\nRestartSec=3\n[X-Chronos]\nMaxAttempts=2", "RestartSec", "beside MaxAttempts=", Retry(2)),
            ("Restart=on-failure\n[Unit]\nStartLimitBurst=3\n[X-Chronos]\nMaxAttempts=2", "StartLimitBurst", "beside MaxAttempts=", Retry(2)),
        ],
    )  # fmt: skip
    def test_what_says_nothing_about_attempts_is_told(self, lines, key, fragment, retry):
        unit = service(TRUE, lines)
        (problem,) = unit.warnings
        assert (problem.key, fragment in problem.message, unit.retry) == (key, True, retry)

    def test_a_unit_that_is_kept_running_has_no_budget(self):
        unit = service(TRUE, "Restart=always", "[X-Chronos]", "MaxAttempts=3")
        assert unit.retry.max_attempts == 0
        assert "MaxAttempts: warning: does nothing in a unit that Restart=always keeps running" in warnings(unit)[0]
