"""Show what the alerts look like: a simulated node, real servers, and each message as it comes.

All of it listens on loopback, on free ports, runs until Ctrl-C and leaves nothing behind.
"""

import argparse
import re
import signal
import socket
import sys
import time
from contextlib import ExitStack
from html import unescape
from pathlib import Path
from tempfile import TemporaryDirectory

from rules.settings import defaults
from setup.demo.receiver import Message
from setup.demo.servers import ServerError
from setup.demo.stack import Ports, Stack, stack

_GREETING = """\
exporter      {exporter}/metrics
Prometheus    {prometheus}/alerts
Alertmanager  {alertmanager}

Ten minutes in the life of a node pass in {minutes:.2g}, over and over. What the pager, the chat and
the owners of pods would get is printed here as it comes. Ctrl-C ends it.
"""
# Slack's markup, of which the templates use this much.
_LINK = re.compile(r"<([^|>]+)\|([^>]+)>")
_EMPHASIS = re.compile(r"([*_])(.+)\1$", re.MULTILINE)


class Screen:
    """Messages for people's eyes, one after the other."""

    def __init__(self) -> None:
        self._watchdog_came = False

    def show(self, message: Message) -> None:
        receiver, _, service = message.path.strip("/").partition("/")
        if service == "pagerduty":
            payload = message.body["payload"]
            self._write(receiver, payload["summary"], payload["custom_details"]["text"])
        elif service == "slack":
            (attachment,) = message.body["attachments"]
            text = _EMPHASIS.sub(r"\2", _LINK.sub(r"\2: \1", attachment["text"]))
            self._write(
                f"{receiver} {message.body['channel']}",
                attachment["title"],
                unescape(text.replace(":white_check_mark:", "Resolved:")),
            )
        elif receiver == "dead-mans-switch" and not self._watchdog_came:
            self._watchdog_came = True
            self._write(receiver, "Watchdog", "From now on it comes all the time, unseen here.")

    def _write(self, receiver: str, title: str, text: str) -> None:
        lines = "".join(f"  {line}\n" for line in text.splitlines())
        sys.stdout.write(f"\n{time.strftime('%H:%M:%S')} {receiver}: {title}\n{lines}")
        sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument(
        "--pace", type=_pace, default=5.0, help="how many times as fast time passes (default 5)"
    )
    pace = parser.parse_args().pace
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with (
            TemporaryDirectory(prefix="gpu-demo-") as folder,
            stack(
                Path(folder), defaults(), pace=pace, show=Screen().show, ports=_free_ports()
            ) as running,
        ):
            _greet(running, pace)
            _attend(running)
    except KeyboardInterrupt:
        sys.stdout.write("\nstopped\n")
    except ServerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _pace(text: str) -> float:
    pace = float(text)
    if not 1 <= pace <= 10:
        raise argparse.ArgumentTypeError("not from 1 to 10")
    return pace


def _free_ports() -> Ports:
    """Take ports that are free now: links in messages name them, so they must be known before."""
    with ExitStack() as taken:
        sockets = [taken.enter_context(socket.socket()) for _ in range(3)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        exporter, prometheus, alertmanager = (each.getsockname()[1] for each in sockets)
    return Ports(exporter, prometheus, alertmanager)


def _greet(running: Stack, pace: float) -> None:
    sys.stdout.write(
        _GREETING.format(
            exporter=running.exporter.url,
            prometheus=running.prometheus.url,
            alertmanager=running.alertmanager.url,
            minutes=10 / pace,
        )
    )
    sys.stdout.flush()


def _attend(running: Stack) -> None:
    """Wait for a server to end by itself, which none should."""
    while not (ended := running.ended()):
        time.sleep(0.2)
    raise ServerError(f"{ended} has ended")


if __name__ == "__main__":
    raise SystemExit(main())
