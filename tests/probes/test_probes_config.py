"""The agent's configuration: read whole or refused by file, key, value and what is allowed."""

import dataclasses
import re
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.config import AgentConfig, load_config, parse_config
from probes.hosts import is_host_name, parse_ip
from probes.model import Target
from probes.policy import refusal
from probes.registry import PROBE_TYPES
from probes.settings import AgentSettings, CollectorSettings, LimitSettings, MeshSettings, PolicySettings, ServeSettings
from records.errors import ConfigError
from records.units import SECOND

EXAMPLE = Path(__file__).parents[2] / "deploy" / "agent.toml"
BASE = '[agent]\nid = "sin-1"\nsite = "sin"\nallow_private_targets = true\n[collector]\nurl = "http://127.0.0.1:8600"\n'
FRA = '[[target]]\nsite = "fra"\naddress = "10.0.0.1"\n'
PING = '[[probe]]\ntype = "ping"\ninterval_s = 10\n'


def parse(text: str, folder: str = "/etc/isochrone") -> AgentConfig:
    return parse_config(text, Path(folder) / "agent.toml")


def test_a_small_configuration() -> None:
    """What is not given is at its documented default; a probe without targets measures all that have what it needs."""
    config = parse(BASE + PING + FRA)
    assert config.agent.spool_dir == Path("/var/lib/isochrone/spool")
    assert config.collector.token_file is None
    (probe,) = config.probes
    assert (probe.type, probe.kind, probe.interval_ns) == ("ping", "ping", 10 * SECOND)
    assert probe.targets == config.targets == (Target(site="fra", address="10.0.0.1"),)
    assert config.largest_round == 5


def test_relative_paths_start_at_the_files_folder() -> None:
    """A configuration means the same from whichever folder the agent is started."""
    text = BASE.replace("[collector]", 'spool_dir = "spool"\n[collector]\ntoken_file = "token"')
    text += FRA + 'inference_url = "http://10.0.0.1/v1"\napi_key_file = "keys/fra"\n'
    config = parse(text)
    assert config.agent.spool_dir == Path("/etc/isochrone/spool")
    assert config.collector.token_file == Path("/etc/isochrone/token")
    assert config.targets[0].api_key_file == "/etc/isochrone/keys/fra"


def test_a_probe_measures_only_targets_that_have_what_it_needs() -> None:
    """Throughput needs a throughput_port, inference an inference_url, http an http_url, UDP ping a udp_echo_port."""
    text = BASE + FRA + '[[target]]\nsite = "iad"\naddress = "10.0.0.2"\nthroughput_port = 5201\n'
    text += '[[target]]\nsite = "nrt"\naddress = "10.0.0.3"\nudp_echo_port = 8622\ninference_url = "http://10.0.0.3:8080/v1"\nhttp_url = "tcp://10.0.0.3:443"\n'
    text += PING + PING + 'engine = "udp"\n'
    text += '[[probe]]\ntype = "throughput"\ninterval_s = 60\n[[probe]]\ntype = "inference"\ninterval_s = 60\n'
    text += '[[probe]]\ntype = "http"\ninterval_s = 60\n'
    config = parse(text)
    assert [(probe.kind, [target.site for target in probe.targets]) for probe in config.probes] == [
        ("ping", ["fra", "iad", "nrt"]),
        ("ping#2", ["nrt"]),
        ("throughput", ["iad"]),
        ("inference", ["nrt"]),
        ("http", ["nrt"]),
    ]


def test_a_budget_of_a_day_is_kept_beside_the_spool() -> None:
    """Each table its own file, unless one is given; without a budget there is none."""
    fra = FRA + 'inference_url = "http://10.0.0.1:8080/v1"\n'
    table = '[[probe]]\ntype = "inference"\ninterval_s = 60\n'
    text = BASE + fra + table + table + "daily_requests = 5\n" + table + 'daily_tokens = 5000\nbudget_file = "mine.json"\n'
    config = parse(text)
    files = [getattr(probe.config, "budget_file") for probe in config.probes]  # noqa: B009
    assert files == ["", str(config.agent.spool_dir / "budget-inference-2.json"), "/etc/isochrone/mine.json"]
    with pytest.raises(ConfigError, match=r"daily_tokens is 79, and one request may take 80"):
        parse(BASE + fra + table + "daily_tokens = 79\n")
    with pytest.raises(ConfigError, match="both api_key_file and api_key_env"):
        parse(BASE + fra + 'api_key_file = "key"\napi_key_env = "KEY"\n')


def test_targets_are_chosen_by_site_and_medium() -> None:
    """`targets` names sites (every medium of them) or one medium of a site."""
    text = (
        BASE + FRA + '[[target]]\nsite = "fra"\naddress = "10.1.0.1"\nmedium = "backbone"\n[[target]]\nsite = "iad"\naddress = "10.0.0.2"\n'
    )
    both = parse(text + PING + 'targets = ["fra"]\n').probes[0].targets
    one = parse(text + PING + 'targets = ["fra@backbone", "iad"]\n').probes[0].targets
    assert [target.address for target in both] == ["10.0.0.1", "10.1.0.1"]
    assert [target.address for target in one] == ["10.1.0.1", "10.0.0.2"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[agent", "not valid TOML"),
        ("a = 1\nb = \n", "not valid TOML.*line 2"),
        ("", r"\[agent\] is missing"),
        ('[agent]\nid = "a"\nsite = "b"\n', r"\[collector\] is missing"),
        (BASE + "[limit]\n", "unknown key 'limit'; did you mean 'limits'"),
        (BASE.replace('site = "sin"', 'sight = "sin"'), r"\[agent\]: unknown key 'sight'; did you mean 'site'"),
        (BASE.replace('site = "sin"\n', ""), r"\[agent\]: key 'site' is missing; give a text"),
        (BASE.replace('"sin-1"', '"Sin 1"'), r"\[agent\]: id is 'Sin 1'; give a slug"),
        (BASE.replace('"sin-1"', "7"), r"\[agent\]: id is 7; give a text in quotes"),
        (BASE.replace("true", "1"), "allow_private_targets is 1; give true or false"),
        (BASE.replace("[collector]", "spool_max_bytes = true\n[collector]"), "spool_max_bytes is True; give a whole number"),
        (BASE.replace("[collector]", "spool_max_bytes = 5\n[collector]"), "spool_max_bytes is 5; give 1000000 to"),
        (BASE.replace("[collector]", "spool_max_bytes = 2_000_000\n[collector]"), "at least four times collector.batch_max_bytes"),
        (BASE.replace("[collector]", "status_interval_s = nan\n[collector]"), "status_interval_s is nan"),
        (BASE.replace("http:", "gopher:"), "collector address 'gopher://127.0.0.1:8600' is not one of http://HOST:PORT"),
        (BASE + "[limits]\npackets_per_second = 0\n", r"\[limits\]: packets_per_second is 0; give 1 to"),
        (BASE + '[serve]\nhost = "here"\n', r"\[serve\]: host is 'here'; give an IP address"),
        (BASE + "[serve]\nudp_echo_port = 70000\n", "udp_echo_port is 70000; give a port from 1 to 65535"),
        (BASE + "probe = 3\n", "unknown key 'probe'|probe must be an array"),
        (BASE + "[probe]\n", r"probe must be an array of tables, \[\[probe\]\]"),
        ("agent = 3\n", r"agent must be a table"),
        (
            BASE + FRA + PING.replace("ping", "pong"),
            r"\[\[probe\]\] 1: type is 'pong'; give one of ping, traceroute, ",
        ),
        (BASE + FRA + PING.replace("= 10", '= "10s"'), "interval_s is '10s'; give a number of seconds from 0.1"),
        (BASE + FRA + PING.replace("= 10", "= 0.01"), "interval_s is 0.01"),
        (BASE + FRA + PING + "cuont = 3\n", r"\(ping\): unknown key 'cuont'; did you mean 'count'"),
        (BASE + FRA + PING + "count = 0\n", r"\(ping\): .*count.* is 0; give"),
        (BASE + FRA + PING + 'targets = "fra"\n', "targets is 'fra'; give a list"),
        (BASE + FRA + PING + "targets = []\n", r"targets is \[\]; give a list"),
        (BASE + FRA + PING + 'targets = ["iad"]\n', "targets names 'iad', which is no"),
        (BASE + FRA + PING.replace("ping", "throughput") + 'targets = ["fra"]\n', "target 'fra' has no throughput_port"),
        (BASE + FRA + PING.replace("ping", "throughput"), "throughput has nothing to measure: no target has throughput_port"),
        (BASE + PING, "ping has nothing to measure"),
        (BASE + FRA + FRA, r"\[\[target\]\] 2: site 'fra' over internet is given twice"),
        (BASE + FRA + 'medium = "pigeon"\n', "medium is 'pigeon'; give one of internet, backbone, direct-connect"),
        (BASE + FRA.replace("10.0.0.1", "10.0.0.256"), "address '10.0.0.256' is neither"),
        (BASE + FRA.replace("10.0.0.1", "-x y"), "is neither an IP address nor a host name"),
        (BASE + FRA.replace("10.0.0.1", "224.0.0.5"), "224.0.0.5 is multicast; no agent sends there"),
        (BASE + FRA.replace("10.0.0.1", "255.255.255.255"), "unspecified or broadcast; no agent"),
        (BASE.replace("true", "false") + FRA, r"10.0.0.1 is private; allow it with agent.allow_private_targets"),
        (BASE.replace("true", "false") + FRA.replace("10.0.0.1", "::1"), "::1 is loopback"),
        (BASE.replace("true", "false") + FRA.replace("10.0.0.1", "::ffff:10.0.0.1"), "is private"),
        (
            BASE.replace("true", "false") + FRA.replace("10.0.0.1", "9.9.9.9") + 'inference_url = "http://127.0.0.1/v1"\n',
            "127.0.0.1 is loopback",
        ),
        (BASE + FRA + 'inference_url = "10.0.0.1/v1"\n', "inference_url is not http://"),
        (BASE + FRA + 'inference_url = "http://u:secret@10.0.0.1/v1"\n', "put the token into api_key_file"),
        (BASE + FRA + 'http_url = "tcp://10.0.0.1"\n', r"\[\[target\]\] 1: .* has no port"),
        (BASE.replace("true", "false") + FRA.replace("10.0.0.1", "9.9.9.9") + 'http_url = "https://[::1]/"\n', "::1 is loopback"),
        (BASE + FRA + PING.replace("= 10", "= 0.1"), "10.0.0.1 would get 50 packets/s, packets_per_second_per_target allows 20"),
        (
            BASE + "".join(FRA.replace("fra", f"s{n}").replace("0.1", f"0.{n}") for n in range(1, 60)) + PING.replace("= 10", "= 1"),
            "the probes need 295 packets/s, packets_per_second allows 100",
        ),
    ],
)
def test_mistakes_are_refused_by_name(text: str, said: str) -> None:
    """Each mistake is a ConfigError (exit status 2) that names the file, the key, the value and what is allowed."""
    with pytest.raises(ConfigError, match=said) as caught:
        parse(text)
    assert "/etc/isochrone/agent.toml" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file and one that is no text: a message, not a traceback."""
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        load_config(tmp_path / "none.toml")
    (tmp_path / "latin").write_bytes(b'[agent]\nid = "s\xe3o"\n')
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(tmp_path / "latin")


@given(st.text(max_size=60))
def test_no_text_makes_it_fall_over(text: str) -> None:
    """Whatever stands in the file: a configuration or a ConfigError."""
    with pytest.raises(ConfigError):
        parse(text)
    with pytest.raises(ConfigError):
        parse(BASE + text + "\n[[probe]]\n")


def test_the_example_is_valid_as_it_stands_and_with_every_key() -> None:
    """deploy/agent.toml loads; uncommented, every default in it is accepted and equals the program's own default."""
    load_config(EXAMPLE)
    every_key = re.sub(r"(?m)^#(?=[a-z_]+ = )", "", EXAMPLE.read_text())
    # Some lines are examples of a choice, not defaults.
    choices = r'targets = \["fra"\]|ca_file = "/|(allow|opt_out|config_key)_file = |pushed_types = |(rest|fast)_interval_s = '
    every_key = re.sub(rf"(?m)^({choices}).*$", "", every_key)
    full = parse_config(every_key, EXAMPLE)
    bare = load_config(EXAMPLE)
    assert full.agent == bare.agent
    assert full.collector == bare.collector
    assert full.limits == bare.limits
    assert full.mesh == bare.mesh
    assert full.serve.host == bare.serve.host
    assert [probe.config for probe in full.probes] == [probe.config for probe in bare.probes]


def test_every_key_is_in_the_example() -> None:
    """A setting that the example does not mention is undocumented: this fails until it does."""
    text = EXAMPLE.read_text()
    records = [
        AgentSettings,
        CollectorSettings,
        LimitSettings,
        MeshSettings,
        PolicySettings,
        ServeSettings,
        Target,
        *(factory.config for factory in PROBE_TYPES.values()),
    ]
    for record in records:
        for field in dataclasses.fields(record):
            assert re.search(rf"(?m)^#?{field.name} = ", text), f"{record.__name__}.{field.name} is not in deploy/agent.toml"


@pytest.mark.parametrize(
    ("address", "private", "reason"),
    [
        ("8.8.8.8", False, None),
        ("2606:4700::1", False, None),
        ("10.1.2.3", False, "private"),
        ("192.168.0.1", False, "private"),
        ("172.16.0.1", False, "private"),
        ("100.64.0.1", False, "not globally routable"),
        ("127.0.0.1", False, "loopback"),
        ("::1", False, "loopback"),
        ("169.254.169.254", False, "link-local"),
        ("fe80::1", False, "link-local"),
        ("fd00::1", False, "private"),
        ("192.0.2.1", False, "private"),
        ("::ffff:127.0.0.1", False, "loopback"),
        ("::ffff:224.0.0.1", True, "multicast"),
        ("ff02::1", True, "multicast"),
        ("239.255.255.250", True, "multicast"),
        ("0.0.0.0", True, "unspecified or broadcast"),
        ("::", True, "unspecified or broadcast"),
        ("255.255.255.255", True, "unspecified or broadcast"),
        ("127.0.0.1", True, None),
        ("10.1.2.3", True, None),
    ],
)
def test_which_addresses_may_be_measured(address: str, private: bool, reason: str | None) -> None:
    """IANA's special-purpose registries decide; multicast and broadcast are refused whatever the configuration says."""
    assert refusal(ip_address(address), is_private_allowed=private) == reason


@given(st.ip_addresses())
def test_nothing_private_passes_unless_allowed(address: object) -> None:
    """For every address: without the permission only what is globally routable passes."""
    parsed = parse_ip(str(address))
    assert parsed is not None
    if refusal(parsed, is_private_allowed=False) is None:
        assert parsed.is_global or getattr(parsed, "ipv4_mapped", None)
        assert not parsed.is_multicast


@pytest.mark.parametrize("text", ["", ".", "-a", "a..b", "a" * 64, "a b", "1.2.3", "1.2.3.4.5", "a/b", "ä", "x:1", "a" * 250 + ".com"])
def test_what_is_no_host_name(text: str) -> None:
    """Form only; a bad IPv4 address does not pass for a name."""
    assert not is_host_name(text)


def test_every_key_is_in_the_manual() -> None:
    """docs/agent.md has a row for every setting, in the section it belongs to."""
    text = (EXAMPLE.parents[1] / "docs" / "agent.md").read_text().partition("## Every key")[2]
    sections = dict(re.findall(r"(?ms)^### `\[+(\w+)\]+`\n(.*?)(?=^### |\Z)", text))
    probes = dict(re.findall(r"(?ms)^\*\*(\w+)\*\*(.*?)(?=^\*\*|\Z)", sections["probe"]))
    tables = {"agent": AgentSettings, "collector": CollectorSettings, "limits": LimitSettings, "policy": PolicySettings}
    tables |= {"mesh": MeshSettings, "serve": ServeSettings, "target": Target}
    found = [(sections[name], record) for name, record in tables.items()]
    found += [(probes[name], factory.config) for name, factory in PROBE_TYPES.items()]
    for section, record in found:
        for field in dataclasses.fields(record):
            assert f"\n| `{field.name}` |" in section, f"{record.__name__}.{field.name} is not in docs/agent.md"
