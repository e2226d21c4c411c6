"""The command line: which options and commands there are, and which exit code an error gives."""

import os
from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

import click

from exporter import __version__
from exporter.app.exits import ExitCode
from exporter.config import sources
from exporter.config.options import OPTIONS

PROGRAM: Final = "kube-gpu-exporter"

_COMMANDS: Final = {
    "serve": "Sample GPUs and serve metrics until stopped. The default.",
    "once": "Sample once, write the metrics to standard output, and exit.",
    "doctor": "Report what this node and pod give, what is missing, and what to do about it.",
}


class _Command(click.Command):
    """One command line for all commands, so that each takes every option, in any order."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))
        params = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        for section, group in groupby(params, lambda param: _section(param.name)):
            records = [record for param in group if (record := param.get_help_record(ctx))]
            if records:
                with formatter.section(section):
                    formatter.write_dl(records)


@click.command(
    cls=_Command,
    params=sources.parameters(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Options also come from the environment (GPU_EXPORTER_FAST_INTERVAL for "
    "--fast-interval) and from the YAML file of --config (fast-interval).",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.argument("command", type=click.Choice(list(_COMMANDS)), default="serve")
@click.pass_context
def _cli(context: click.Context, /, command: str, **_options: Any) -> int:
    """Serve Prometheus metrics of GPUs, MIG slices and the Kubernetes pods that use them."""
    config = sources.resolve(context)
    # Each command loads what it needs, and --help loads none of it.
    match command:
        case "once":
            from exporter.app.once import once as run  # noqa: PLC0415
        case "doctor":
            from exporter.app.doctor import doctor as run  # noqa: PLC0415
        case _:
            from exporter.app.serve import serve as run  # noqa: PLC0415
    return run(config)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code. ``arguments`` default to the process's own."""
    # gRPC's C core writes lines of its own to standard error, one for each lost connection.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        return int(_cli.main(arguments, prog_name=PROGRAM, standalone_mode=False) or ExitCode.OK)
    except click.ClickException as error:
        click.echo(f"{PROGRAM}: error: {sources.explain(error)}", err=True)
        return ExitCode.USAGE
    except click.Abort:
        return ExitCode.INTERRUPTED


def _section(name: str | None) -> str:
    option = OPTIONS.get(name or "")
    return option.section if option else "Other"
