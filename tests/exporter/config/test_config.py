"""Options: precedence of their sources, and every way in which a value can be wrong."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click
import pytest

from exporter.config import Address, Config, reference, sources
from exporter.config.options import OPTIONS, ProfileName
from exporter.config.values import ListenAddress, Patterns
from exporter.gpus.simulated.profiles import PROFILES

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No configuration from outside; relative paths start in an empty folder."""
    for name in os.environ:
        if name.startswith("GPU_EXPORTER_") or name == "NODE_NAME":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def parse(*flags: str) -> Config:
    @click.pass_context
    def result(context: click.Context, /, **_options: Any) -> Config:
        return sources.resolve(context)

    command = click.Command("test", params=sources.parameters(), callback=result)
    config = command.main(list(flags), standalone_mode=False)
    assert isinstance(config, Config)
    return config


def error_of(*flags: str) -> str:
    with pytest.raises(click.ClickException) as caught:
        parse(*flags)
    return sources.explain(caught.value)


def write(text: str) -> str:
    Path("config.yaml").write_text(text)
    return "config.yaml"


# What holds when nothing is given, and which source wins.


def test_defaults_from_the_command_line_are_the_class_s() -> None:
    assert parse() == Config()


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert parse().log_level == "info"
    flags = ["--config", write("log-level: debug")]
    assert parse(*flags).log_level == "debug"
    monkeypatch.setenv("GPU_EXPORTER_LOG_LEVEL", "warning")
    assert parse(*flags).log_level == "warning"
    assert parse(*flags, "--log-level", "error").log_level == "error"


def test_the_file_can_be_named_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPU_EXPORTER_CONFIG", write("node: n1"))
    assert parse().node == "n1"
    assert parse().config == Path("config.yaml")


def test_the_node_s_name_comes_from_its_own_variable_before_the_common_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NODE_NAME", "common")
    assert parse().node == "common"
    monkeypatch.setenv("GPU_EXPORTER_NODE", "own")
    assert parse().node == "own"
    assert parse("--node", "flag").node == "flag"


def test_empty_values_are_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["--config", write("node: n1\nseed:\nlisten: ''\nlog-level: ~\nresources: []\n")]
    monkeypatch.setenv("GPU_EXPORTER_NODE", "")
    assert parse(*flags) == Config(config=Path("config.yaml"), node="n1")


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}"])
def test_an_empty_file_gives_nothing(text: str) -> None:
    assert parse("--config", write(text)) == Config(config=Path("config.yaml"))


def test_the_file_s_scalars_are_text() -> None:
    text = "kubelet: on\nnode: 010\nlisten: :9401\nfast-interval: 0.5\nclaims-grace: 90\n"
    config = parse("--config", write(text))
    assert config.kubelet == "on"
    assert config.node == "010"
    assert config.listen == Address("", 9401)
    assert config.fast_interval == 0.5
    assert config.claims_grace == 90


@pytest.mark.parametrize("text", ["[a/b, 'c/*']", "\n  - a/b\n  - c/*", "a/b,c/*", '"a/b, c/*"'])
def test_patterns_in_the_file(text: str) -> None:
    assert parse("--config", write(f"resources: {text}")).resources == ("a/b", "c/*")


def test_patterns_in_flags_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse("--resources", "a/b,c/*", "--resources", "d/e").resources == ("a/b", "c/*", "d/e")
    monkeypatch.setenv("GPU_EXPORTER_RESOURCES", "a/b, c/*")
    assert parse().resources == ("a/b", "c/*")


def test_choices_may_be_written_in_any_case() -> None:
    assert parse("--log-level", "INFO").log_level == "info"


def test_the_example_file_says_what_holds_without_it() -> None:
    assert parse("--config", write(reference.example())) == Config(config=Path("config.yaml"))


# Names.


def test_no_option_is_named_as_a_service_s_variable() -> None:
    for option in OPTIONS.values():
        for name in option.environment:
            assert not sources._SERVICE_LINK.fullmatch(name)


@pytest.mark.parametrize(
    "name",
    [
        "SERVICE_HOST",
        "SERVICE_PORT",
        "SERVICE_PORT_METRICS",
        "PORT",
        "PORT_9400_TCP",
        "PORT_9400_TCP_PROTO",
        "PORT_9400_TCP_PORT",
        "PORT_9400_TCP_ADDR",
        "PORT_53_UDP_ADDR",
        "METRICS_SERVICE_HOST",
        "METRICS_PORT_9400_TCP_ADDR",
    ],
)
def test_variables_of_a_service_are_ignored(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"GPU_EXPORTER_{name}", "tcp://10.0.0.1:9400")
    assert parse() == Config()


def test_profiles_are_those_of_the_simulated_node() -> None:
    assert get_args(ProfileName) == tuple(PROFILES)


# What is wrong, and where.

NOT_A_DURATION = "'x' is not a duration (such as 5s)"
BAD_VALUES = {
    "full-interval": ("x", NOT_A_DURATION),
    "fast-interval": ("0s", "'0s' is shorter than 10ms"),
    "slow-interval": ("2h", "'2h' is longer than 1h"),
    "kubelet-interval": ("1m", "'1m' is longer than 30s"),
    "peak-window": ("-5s", "'-5s' is not a duration (such as 5s)"),
    "claims-grace": ("1.5m", "'1.5m' is not a duration (write 90s)"),
    "listen": (
        "9400",
        "'9400' is not an address (such as :9400, 127.0.0.1:9400 or [::1]:9400)",
    ),
    "backend": ("amd", "'amd' is not one of 'nvml', 'simulated', 'auto'"),
    "seed": ("many", "'many' is not a valid integer"),
    "speed": ("0", "0 is not in the range 1<=x<=3600"),
    "resources": ("a b", "'a b' is not a resource name or pattern"),
}


@pytest.mark.parametrize("key", BAD_VALUES)
def test_a_bad_value_is_blamed_on_its_source(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value, wrong = BAD_VALUES[key]
    assert error_of(f"--{key}={value}") == f"--{key}: {wrong}"
    assert error_of("--config", write(f"\n# why\n{key}: {value}\n")) == (
        f"config.yaml:3: {key}: {wrong}"
    )
    variable = "GPU_EXPORTER_" + key.upper().replace("-", "_")
    monkeypatch.setenv(variable, value)
    assert error_of() == f"{variable}: {wrong}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("log-levle: info", "config.yaml:1: log-levle: no such option; did you mean log-level?"),
        ("log_level: info", "config.yaml:1: log_level: no such option; did you mean log-level?"),
        ("zzz: 1", "config.yaml:1: zzz: no such option"),
        ("config: other.yaml", "config.yaml:1: config: no such option"),
        ("seed: 1\n\nseed: 2", "config.yaml:3: seed: given twice, first at config.yaml:1"),
        ("node: [a, b]", "config.yaml:1: node: expected one value, got a list"),
        ("node:\n  a: b", "config.yaml:2: node: expected one value, got a mapping"),
        ("resources: {a: b}", "config.yaml:1: resources: expected one value, got a mapping"),
        ("resources: [[a]]", "config.yaml:1: resources: expected one value, got a list"),
        ("- node", "config.yaml:1: expected a mapping of keys to values, got a list"),
        ("node", "config.yaml:1: expected a mapping of keys to values, got 'node'"),
        ("a: b: c", "config.yaml:1: not YAML: mapping values are not allowed here"),
        ("node: [a", "config.yaml:1: not YAML: while parsing a flow sequence, expected"),
        ("a: 1\n---\nb: 2", "config.yaml:3: not YAML: expected a single document"),
    ],
)
def test_a_bad_file(text: str, message: str) -> None:
    error = error_of("--config", write(text))
    assert error == message or (" not YAML: " in message and error.startswith(message))


def test_a_file_that_is_no_text() -> None:
    Path("config.yaml").write_bytes(b"node: \xff\xff")
    assert error_of("--config", "config.yaml") == "config.yaml:1: not UTF-8 text"


def test_a_file_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    no_file = "cannot read 'gone.yaml': No such file or directory"
    assert error_of("--config", "gone.yaml") == f"--config: {no_file}"
    monkeypatch.setenv("GPU_EXPORTER_CONFIG", "gone.yaml")
    assert error_of() == f"GPU_EXPORTER_CONFIG: {no_file}"
    assert error_of("--config", ".") == "--config: cannot read '.': Is a directory"


def test_an_unknown_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPU_EXPORTER_FAST_INTERVALL", "1s")
    assert error_of() == (
        "GPU_EXPORTER_FAST_INTERVALL: no such option; did you mean GPU_EXPORTER_FAST_INTERVAL?"
    )


def test_an_unknown_flag() -> None:
    assert error_of("--fats-interval=1s") == (
        "--fats-interval: no such option; did you mean --fast-interval?"
    )
    assert error_of("--zzz") == "--zzz: no such option"
    assert error_of("--listen") == "--listen: requires an argument"


def test_a_node_s_name_is_text() -> None:
    assert parse("--node=n\u00e9").node == "n\u00e9"
    assert error_of("--node=a\udcff") == r"--node: 'a\udcff' is not UTF-8 text"


def test_values_at_odds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert error_of("--fast-interval=7s") == (
        "--fast-interval: 7s is longer than full-interval, 5s (default)"
    )
    assert error_of("--slow-interval=2s") == (
        "--slow-interval: 2s is shorter than full-interval, 5s (default)"
    )
    assert error_of("--peak-window=4s") == (
        "--peak-window: 4s is shorter than full-interval, 5s (default)"
    )
    monkeypatch.setenv("GPU_EXPORTER_FULL_INTERVAL", "500ms")
    assert error_of("--config", write("fast-interval: 2s")) == (
        "GPU_EXPORTER_FULL_INTERVAL: 500ms is shorter than fast-interval, 2s"
        " (config.yaml:1: fast-interval)"
    )


def test_equal_intervals_are_at_peace() -> None:
    assert parse("--fast-interval=5s", "--slow-interval=5s").slow_interval == 5


def test_pod_labels_that_would_be_one_label() -> None:
    assert error_of("--pod-labels", "team,a.b/c,a-b_c") == (
        "--pod-labels: 'a.b/c' and 'a-b_c' would be the same label, label_a_b_c"
    )
    assert error_of("--pod-labels", "team", "--pod-labels", "team") == (
        "--pod-labels: 'team' and 'team' would be the same label, label_team"
    )
    assert parse("--pod-labels", "a.b,a.b.c").pod_labels == ("a.b", "a.b.c")


def test_options_of_the_simulated_node_need_it() -> None:
    assert error_of("--seed=1") == "--seed: needs --backend simulated or auto"
    assert parse("--seed=1", "--backend=simulated").seed == 1


def test_a_message_is_one_line() -> None:
    assert "\n" not in error_of("--full-interval", "a\nb")
    assert "\n" not in error_of("--node=x", "--resources", "a\n\nb")


# Types.


def convert(kind: click.ParamType[Any]) -> Callable[[str], Any]:
    return lambda text: kind.convert(text, None, None)


address = convert(ListenAddress())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (":9400", Address("", 9400)),
        ("0.0.0.0:0", Address("0.0.0.0", 0)),
        ("localhost:80", Address("localhost", 80)),
        ("node-1.example.:80", Address("node-1.example.", 80)),
        ("[::]:9400", Address("::", 9400)),
        ("[fe80::1%eth0]:65535", Address("fe80::1%eth0", 65535)),
    ],
)
def test_addresses(text: str, expected: Address) -> None:
    assert address(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("::1:9400", "'::1:9400' is not an address (such as"),
        ("localhost", "'localhost' is not an address (such as"),
        ("localhost:", "'localhost:' is not an address (such as"),
        ("http://localhost:80", "'http://localhost:80' is not an address (such as"),
        (":65536", "':65536': 65536 is not a port (0 to 65535)"),
        ("1.2.3.999:1", "'1.2.3.999:1': '1.2.3.999' is not an IP address"),
        ("[zz]:1", "'[zz]:1': 'zz' is not an IP address"),
        ("a b:1", "'a b:1': 'a b' is not a host name"),
        (f"{'a' * 64}:1", "is not a host name"),
        (f"{'.'.join(['a' * 60] * 5)}:1", "is not a host name"),
    ],
)
def test_no_addresses(text: str, message: str) -> None:
    with pytest.raises(click.BadParameter, match=re.escape(message)):
        address(text)


@pytest.mark.parametrize("text", ["", "a,,b", ",", "a;b", "a\nb"])
def test_no_patterns(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a resource name or pattern"):
        convert(Patterns())(text)


# The page.


def test_the_page_is_up_to_date() -> None:
    assert (ROOT / "docs/configuration.md").read_text() == reference.render()


def test_the_page_names_every_option_under_every_name() -> None:
    page = reference.render()
    for option in OPTIONS.values():
        for name in (option.flag, *option.environment):
            assert f"`{name}`" in page
