"""What is told of expressions that other programs read otherwise, and of those that only they read."""

import pytest

from xchronos.errors import InvalidTrigger
from xchronos.triggers import SimpleTrigger, parse_cron, parse_iso8601


@pytest.mark.parametrize(
    ("text", "told"),
    [
        # Steps that leave what they step over: ten readers refuse them.
        ("*/90 * * * *", ["minute '*/90'", "minute 0 alone", "@every 90m"]),
        ("0 */36 * * *", ["hour '*/36'", "hour 0 alone", "@every 36h"]),
        ("0 0 */40 * *", ["day-of-month '*/40'", "day-of-month 1 alone"]),
        ("0 0 10-12/5 * *", ["day-of-month '10-12/5'", "day-of-month 10 alone"]),
        ("0 0 1 JAN-MAR/4 *", ["month 'JAN-MAR/4'", "month 1 alone"]),
        ("1,0-30/31 * * * *", ["minute '0-30/31'", "minute 0 alone"]),
        ("*/00000000000090 * * * *", ["minute 0 alone", "@every 90m"]),
        # What Debian's cron and cronie refuse.
        ("5/15 * * * *", ["minute '5/15'", "cronie refuse", "'5-59/15'"]),
        ("0 0 * * MON/2", ["day-of-week 'MON/2'", "'MON-6/2'"]),
        ("0 0 ? * *", ["day-of-month '?'", "write '*'"]),
        # Six fields: is the first the seconds, or the last?
        ("*/5 * * * * *", ["second '*/5'", "12 times a minute", "Nomad", "croniter"]),
        ("0,30 * * * * *", ["second '0,30'", "2 times a minute"]),
        ("0 12 * * * 0", ["day-of-week '0'", "this is Sun;", "croniter"]),
        ("0 0 12 * * */2", ["day-of-week '*/2'", "Sun, Tue, Thu, Sat", "Spring"]),
        # Two day fields: either, or both?
        ("0 0 12 13 * FRI", ["day-of-month '13' and day-of-week 'FRI'", "either suffices", "Spring"]),
        ("0 0 12 L * FRI", ["either suffices"]),
        # Is Sunday 0 or 1?
        ("0 0 12 ? * 1", ["day-of-week '1'", "this is 'MON'", "it is 'SUN'"]),
        ("0 0 12 ? * 2-6", ["this is 'TUE-SAT'", "it is 'MON-FRI'"]),
        ("0 0 12 * * 6#3", ["this is 'SAT#3'", "it is 'FRI#3'"]),
        ("0 0 12 * * 5L", ["this is 'FRIL'"]),
        ("0 0 12 * * 2 2030", ["this is 'TUE'"]),
        ("0 9 * * 2-6", ["Tuesday to Saturday", "Monday to Friday", "Cloudflare"]),
        ("0 0 9 * * 2-6", ["Tuesday to Saturday", "Monday to Friday"]),
        ("0 9 * * 1,7", ["Monday and Sunday", "Sunday and Saturday"]),
        ("TZ=Europe/Berlin 0 9 * * 2-6", ["Tuesday to Saturday"]),
        ("@every 500ms", ["every 0.5 s"]),
    ],
)
def test_where_others_differ(text, told):
    (warning,) = parse_cron(text).warnings
    for words in told:
        assert words in warning


@pytest.mark.parametrize(
    "text",
    [
        "30 2 * * 1-5",
        "*/15 * * * *",
        "0 0 * * 0",
        "0 0 * * 7",
        "0 0 * * 6,0",
        "0 0 13 * 5",
        "H/90 * * * *",
        "~ * * * *",
        "0-59/15 * * * *",
        "59 23 31 12 *",
        "0 0 0 * * 1-5",
        "0 0 0 * * SUN",
        "0 0 0 * * 6",
        "0 0 0 ? * MON-FRI",
        "0 0 0 ? * SUN#1",
        "0 0 0 L * ?",
        "0 0 0 ? * 0",
        "0 0 0 ? JUL MON",
        "* * * * * * 2030",
        "0 0 12 1 * ? 2030",
        "@daily",
        "@weekly",
        "CRON_TZ=Asia/Tokyo @hourly",
        "@every 1s",
    ],
)
def test_what_is_meant_alike_everywhere_has_no_warning(text):
    assert parse_cron(text).warnings == ()


def test_two_doubts_are_two_warnings():
    assert len(parse_cron("*/5 12 * * * 0").warnings) == 2
    assert len(parse_cron("0 0 12 L * 5").warnings) == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0 12 L * *", "with seconds in front it is understood: '0 0 12 L * *'"),
        ("0 12 * * 5L", "'0 0 12 * * 5L'"),
        ("0 12 * * 5#3", "'0 0 12 * * 5#3'"),
        ("0 12 15W * *", "'0 0 12 15W * *'"),
        ("0 9 * * * Asia/Tokyo", "TimeZone=Asia/Tokyo, or in front: 'TZ=Asia/Tokyo 0 9 * * *'"),
        ("0 0 9 * * * UTC", "'TZ=UTC 0 0 9 * * *'"),
        ("0 0 0 * * 5#L", "'0 0 0 * * 5L'"),
        ("@triggered", "leave the key out"),
        ("@manually", "leave the key out"),
        ("@at 2030-01-01T00:00:00Z", "TriggerAt="),
        ("@minutely", "'* * * * *'"),
        ("@reboot", "TriggerStartDelay=0"),
        ("@Reboot /usr/bin/x", "Restart=always"),
        ("@5minutes", "'@every 5m'"),
        ("@every 1min", "'@every 1m'"),
        ("@every 2 hours 30 min", "'@every 2h30m'"),
        ("@every 1d", "'@every 24h'"),
        ("@every 10 s", "'@every 10s'"),
        ("*/5 * * * * root /usr/bin/foo --x", "TriggerCron=*/5 * * * *, and in [Service] ExecStart=/usr/bin/foo --x and User=root"),
        ("0 5 * * 1 tar -zcf /var/x /y", "ExecStart=tar -zcf /var/x /y"),
        ("0 5 * * 1 /bin/x", "ExecStart=/bin/x"),
        ("@daily /usr/bin/foo -x", "TriggerCron=@daily, and in [Service] ExecStart=/usr/bin/foo -x"),
        ("TZ=Asia/Tokyo 0 5 * * 1 /bin/x", "ExecStart=/bin/x"),
    ],
)  # fmt: skip
def test_what_others_read_is_answered_with_what_is_written_here(text, told):
    with pytest.raises(InvalidTrigger) as caught:
        parse_cron(text)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "TZ=UTC",
        "0 5 * * 1 2 3 4 5",
        "0 99 * * * UTC",
        "@every 5 parsecs",
        "@every",
        "@hourlyy",
        "@daily 5",
        "1 2 3",
    ],
)
def test_where_nobody_can_tell_there_is_no_advice(text):
    with pytest.raises(InvalidTrigger) as caught:
        parse_cron(text)
    assert "as it stands" not in str(caught.value)


def test_advice_is_short_whatever_is_pasted():
    for text in ("0 5 * * 1 " + "x" * 60_000, "0 5 * * 1 " + "w " * 30_000, "@5minutes" * 5_000, "0 " * 30_000):
        with pytest.raises(InvalidTrigger) as caught:
            parse_cron(text)
        assert len(str(caught.value)) < 900


def test_other_triggers_that_start_something_all_the_time_say_so():
    assert "every 0.01 s" in SimpleTrigger(10_000).warnings[0]
    assert SimpleTrigger(1_000_000).warnings == ()
    assert SimpleTrigger(0, 0).warnings == ()
    assert "every 0.5 s" in parse_iso8601("R//PT0.5S").warnings[0]
    assert parse_iso8601("R//PT1S").warnings == ()
    assert parse_iso8601("R1//PT0.5S").warnings == ()
    assert parse_iso8601("R0//PT0.5S").warnings == ()
