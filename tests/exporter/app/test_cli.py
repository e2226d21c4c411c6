"""The command line: commands, exit codes, one-line errors."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from exporter import __version__
from exporter.app import cli
from exporter.app.backends import make_backend
from exporter.app.exits import ExitCode
from exporter.config import Address, Config
from exporter.config.sources import ConfigError

Calls = list[tuple[str, Config]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Record commands instead of running them."""
    for name in os.environ:
        if name.startswith("GPU_EXPORTER_") or name == "NODE_NAME":
            monkeypatch.delenv(name)
    made: Calls = []

    def fake(name: str) -> ModuleType:
        def command(config: Config) -> int:
            made.append((name, config))
            return ExitCode.FAILED if config.node == "broken" else ExitCode.OK

        module = ModuleType(f"exporter.app.{name}")
        setattr(module, name, command)
        return module

    for name in ("serve", "once", "doctor"):
        monkeypatch.setitem(sys.modules, f"exporter.app.{name}", fake(name))
    return made


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ([], "serve"),
        (["--listen", ":1"], "serve"),
        (["serve"], "serve"),
        (["once", "--listen=:1"], "once"),
        (["--listen=:1", "once"], "once"),
        (["doctor"], "doctor"),
    ],
)
def test_commands_take_options_on_either_side(
    arguments: list[str], command: str, calls: Calls
) -> None:
    assert cli.main(arguments) == ExitCode.OK
    listen = Address("", 1) if len(arguments) > 1 else Address("", 9400)
    assert calls == [(command, Config(listen=listen))]


def test_the_exit_code_is_the_command_s(calls: Calls) -> None:
    assert cli.main(["once", "--node=broken"]) == ExitCode.FAILED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--full-interval=x"], "--full-interval: 'x' is not a duration (such as 5s)"),
        (["srve"], "command: 'srve' is not one of 'serve', 'once', 'doctor'"),
        (["once", "more"], "Got unexpected extra argument (more)"),
        (["--nope"], "--nope: no such option; did you mean --node?"),
        (["--help=x"], "--help: does not take a value"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], message: str, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == ExitCode.USAGE
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == f"kube-gpu-exporter: error: {message}\n"
    assert calls == []


def test_a_command_may_find_more_to_refuse(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_config: Config) -> int:
        raise ConfigError("scenario: gone.yaml: No such file or directory")

    monkeypatch.setattr(sys.modules["exporter.app.serve"], "serve", refuse)
    assert cli.main([]) == ExitCode.USAGE
    assert capsys.readouterr().err == (
        "kube-gpu-exporter: error: scenario: gone.yaml: No such file or directory\n"
    )


def test_the_simulated_node_is_only_had_by_its_name() -> None:
    assert make_backend(Config()).name == "nvml"
    assert make_backend(Config(backend="nvml")).name == "nvml"
    assert make_backend(Config(backend="simulated")).name == "simulated"


def test_a_scenario_that_does_not_exist_is_a_bad_option() -> None:
    with pytest.raises(ConfigError, match=r"^scenario: gone\.yaml: No such file or directory"):
        make_backend(Config(backend="simulated", scenario="gone.yaml"))


def test_an_interrupt_has_the_shell_s_exit_code(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_config: Config) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["exporter.app.serve"], "serve", interrupted)
    assert cli.main([]) == ExitCode.INTERRUPTED


def test_help_names_commands_and_options(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == ExitCode.OK
    output = capsys.readouterr().out
    for part in (
        "serve",
        "once",
        "doctor",
        "Sampling:",
        "--fast-interval DURATION",
        "[default: 1s]",
    ):
        assert part in output
    assert calls == []


def test_a_broken_environment_does_not_hide_help(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPU_EXPORTER_CONFIG", "gone.yaml")
    monkeypatch.setenv("GPU_EXPORTER_SEED", "x")
    assert cli.main(["--help"]) == ExitCode.OK


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    script = Path(sys.executable).with_name("kube-gpu-exporter")
    return subprocess.run(
        [script, *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_the_installed_program_says_its_version() -> None:
    process = run("--version")
    assert (process.returncode, process.stdout) == (0, f"kube-gpu-exporter {__version__}\n")


def test_the_installed_program_refuses_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("seed: 1\n\nfull-interval: x\n")
    process = run(GPU_EXPORTER_CONFIG=str(file))
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == (
        f"kube-gpu-exporter: error: {file}:3: full-interval: 'x' is not a duration (such as 5s)\n"
    )


def test_the_package_can_be_run() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "exporter", "--listen"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert process.returncode == 2
    assert process.stderr == "kube-gpu-exporter: error: --listen: requires an argument\n"


def test_help_loads_nothing_heavy() -> None:
    heavy = {"aiohttp", "grpc", "google.protobuf", "prometheus_client", "pynvml", "yaml", "asyncio"}
    code = f"import sys, exporter.app.cli; print(sorted({heavy} & set(sys.modules)))"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert process.stdout == "[]\n"
