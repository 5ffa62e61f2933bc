"""Settings, grouping, silences and words of alarms."""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alarms.groups import grouped
from alarms.life import merged
from alarms.model import KINDS, Alarm, Condition, Silence
from alarms.paths import PathRules, PathSeries
from alarms.settings import Settings, load_settings, parse_settings
from records.errors import ConfigError

TOP = Path(__file__).parents[2]
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def _alarm(kind: str, *sites: str, agent: str | None = None, **other: object) -> Alarm:
    pair = len(sites) == 2
    condition = Condition(
        key=f"{kind}:{'>'.join(sites)}:{agent}",
        kind=kind,  # type: ignore[arg-type]
        severity="warning",
        summary="it",
        sites=sites,
        since=NOW,
        src=sites[0] if pair else None,
        dst=sites[1] if pair else None,
        agent=agent,
        detail=other,
    )
    (alarm,) = merged([], [condition], {}, now=NOW)
    return alarm


def test_the_example_says_every_key_and_its_default() -> None:
    """deploy/alarms.toml is read, with and without its webhook, and gives what no file gives."""
    text = (TOP / "deploy" / "alarms.toml").read_text()
    assert load_settings(TOP / "deploy" / "alarms.toml") == Settings()
    whole = parse_settings(re.sub(r"^# (\[\[webhook|\w+ = )", r"\1", text, flags=re.MULTILINE), Path("/etc/alarms.toml"))
    (webhook,) = whole.webhooks
    assert (webhook.name, webhook.secret_file, webhook.kinds) == ("ops", Path("/etc/webhook.secret"), ("data_missing",))
    assert "example" not in repr(whole)  # a URL may carry a key


def test_every_kind_has_its_entry_in_the_runbook() -> None:
    """Notices name docs/alarms.md#kind; the entry says what it means, where to look, what to do and how to silence it."""
    text = (TOP / "docs" / "alarms.md").read_text()
    for kind in KINDS:
        entry = text.partition(f"\n### {kind}\n")[2].partition("\n### ")[0]
        assert all(word in entry for word in ("**Means**", "**Look at**", "**Do**", "**Silence**")), kind
    for table, keys in tomllib.loads((TOP / "deploy" / "alarms.toml").read_text()).items():
        assert keys, table


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[evaluate]\nevery = 3", "unknown key 'every'; did you mean 'every_s'"),
        ("[shift]\nwindow = 0", r"\[shift\]: window is 0; from 5 to 10000 is allowed"),
        ("[evaluate]\nkinds = ['rtt']", "kinds names 'rtt'; there are data_missing, "),
        ("[[webhook]]\nname = 'a'\nurl = 'ftp://x'", "url is not http:// or https://"),
        ("[[webhook]]\nname = 'a'\nurl = 'https://u:p@x'", "url carries a user name or password; put a token into token_file"),
        ("[[webhook]]\nname='a'\nurl='http://x'\n[[webhook]]\nname='a'\nurl='http://y'", "two webhooks are called 'a'"),
        ("[route_flip]\nwatch = ['sin']", "watch names 'sin'; give \"SITE WORKLOAD\""),
        ("[notify]\nmin_severity = 'bad'", "min_severity is 'bad'; there are info, warning, critical"),
    ],
)
def test_a_mistake_is_refused_by_name(text: str, says: str) -> None:
    """File, table, key, value and what is allowed."""
    with pytest.raises(ConfigError, match=says):
        parse_settings(text, Path("alarms.toml"))


def test_a_key_that_others_can_read_is_refused_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are 0600; a variable must be there."""
    file = tmp_path / "key"
    file.write_text("t0p-s3cret")
    text = "[[webhook]]\nname = 'a'\nurl = 'http://x'\n"
    (webhook,) = parse_settings(f"{text}secret_file = '{file}'", Path("a.toml")).webhooks
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600") as refused:
        webhook.secret()
    assert "t0p" not in str(refused.value)
    file.chmod(0o600)
    assert webhook.secret() == b"t0p-s3cret"
    (webhook,) = parse_settings(f"{text}secret_env = 'ALARM_KEY'", Path("a.toml")).webhooks
    with pytest.raises(ConfigError, match="the environment has no ALARM_KEY"):
        webhook.secret()
    monkeypatch.setenv("ALARM_KEY", "k")
    assert webhook.secret() == b"k"


def test_one_cause_is_one_group() -> None:
    """All links of c, and a pair apart from it; a silent agent takes its lost link with it; what was told of stays where it was."""
    degrees = {"a": 6, "b": 6, "c": 4, "d": 2}
    some = [_alarm("loss_shift", *pair) for pair in (("a", "c"), ("c", "a"), ("b", "c"), ("a", "b"))]
    assert [alarm.group_key for alarm in grouped(some, told=(), degrees=degrees)] == ["site:c", "site:c", "site:c", "pair:a|b"]
    both = [_alarm("rtt_shift", "a", "b"), _alarm("path_change", "b", "a")]
    assert {alarm.group_key for alarm in grouped(both, told=(), degrees=degrees)} == {"pair:a|b"}
    silent = [_alarm("data_missing", "d", agent="d-1", agent_silent=True), _alarm("loss_shift", "a", "d")]
    assert {alarm.group_key for alarm in grouped(silent, told=(), degrees=degrees)} == {"site:d"}
    first = grouped(some[:1], told=(), degrees=degrees)
    apart = grouped(grouped(some[:3], told=(), degrees=degrees)[:1], told=(), degrees=degrees)
    assert [alarm.group_key for alarm in apart] == ["site:c"]  # the others closed
    later = grouped([*first, *some[1:3]], told={"pair:a|c"}, degrees=degrees)
    assert [alarm.group_key for alarm in later] == ["pair:a|c", "site:c", "site:c"]


def test_a_silence_covers_what_every_field_of_it_matches() -> None:
    """Kind and site together, and only until its end."""
    silence = Silence(id="s", until=NOW + timedelta(hours=1), created_at=NOW, created_by="me", reason="", kind="rtt_shift", site="a")
    assert silence.covers(_alarm("rtt_shift", "a", "b"), NOW)
    assert not silence.covers(_alarm("loss_shift", "a", "b"), NOW)
    assert not silence.covers(_alarm("rtt_shift", "b", "c"), NOW)
    assert not silence.covers(_alarm("rtt_shift", "a", "b"), NOW + timedelta(hours=1))


def test_equal_paths_and_silent_hops_are_no_change() -> None:
    """Packets spread over four combinations of two routers at two hops, and a router that falls silent: never a change."""
    series = PathSeries(PathRules(learn=3, run=3))
    ways = [("x1", "y1", "z"), ("x2", "y1", "z"), ("x1", "y2", "z"), ("x2", "y2", "z"), (None, "y1", "z"), ("x1", None, "z")]
    for n in range(60):
        series.observe(ways[n * 7 % 6], NOW + timedelta(minutes=n), flow=0)
        assert series.change is None
    for n in range(3):
        assert series.change is None
        series.observe(("x1", "w", "y1", "z"), NOW + timedelta(hours=2, minutes=n), flow=0)
    assert series.change is not None
