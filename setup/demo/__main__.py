"""Show what the alerts look like: a simulated node, real servers, and each message as it comes.

All of it listens on loopback, on free ports, runs until Ctrl-C and leaves nothing behind.
"""

import argparse
import math
import os
import re
import signal
import socket
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from html import unescape
from pathlib import Path
from tempfile import TemporaryDirectory

from rules.settings import defaults
from setup.demo.receiver import Message
from setup.demo.servers import ServerError
from setup.demo.stack import RULES_PER_STORY, Ports, Stack, stack

_GREETING = """\
{pages}

Time is short here. Ten minutes in the life of a node pass in {minutes:.2g}, over and over. What
alerts wait for is {scale:g} times shorter than in a cluster: "5s" in a message is "{five}" there.
Each message to the pager, the chat and the owners of pods is printed here. Ctrl-C ends it.
"""
_RUNBOOKS = Path(__file__).resolve().parent.parent.parent / "docs/runbooks"
# Slack's markup, of which the templates use this much.
_LINK = re.compile(r"<([^|>]+)\|([^>]+)>")
_SILENCE = re.compile(r"^Silence: \S+\n?| · Silence: \S+", re.MULTILINE)
_EMPHASIS = re.compile(r"([*_])(.+)\1$", re.MULTILINE)


class Screen:
    """Messages for people's eyes, one after the other."""

    def __init__(self) -> None:
        self._watchdog_came = False
        self.silences = False
        """Whether Alertmanager has the page that links to silence an alert lead to."""
        self.closed = False
        """Whether whoever read the messages has gone."""

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
        if not self.silences:
            text = _SILENCE.sub("", text)
        lines = "".join(f"  {line}\n" for line in text.splitlines())
        self.write(f"\n{time.strftime('%H:%M:%S')} {receiver}: {title}\n{lines}")

    def write(self, text: str) -> None:
        """Write ``text``, or note that the reader has gone, as behind ``| head``."""
        if self.closed:
            return
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            self.closed = True
            # Python flushes once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument(
        "--pace", type=_pace, default=5.0, help="how many times as fast time passes (default 5)"
    )
    pace = parser.parse_args().pace
    screen = Screen()
    settings = defaults()
    settings = replace(
        settings, values={**settings.values, "runbooksUrl": f"{_RUNBOOKS.as_uri()}/"}
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with (
            TemporaryDirectory(prefix="gpu-demo-") as folder,
            stack(
                Path(folder), settings, pace=pace, show=screen.show, ports=_free_ports()
            ) as running,
        ):
            screen.silences = running.alertmanager.has_page()
            screen.write(_greeting(running, pace))
            _attend(running, screen)
    except KeyboardInterrupt:
        screen.write("\nstopped\n")
    except ServerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _pace(text: str) -> float:
    try:
        pace = float(text)
    except ValueError:
        pace = math.nan
    if not 1 <= pace <= 10:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 10")
    return pace


def _free_ports() -> Ports:
    """Take ports that are free now: links in messages name them, so they must be known before."""
    with ExitStack() as taken:
        sockets = [taken.enter_context(socket.socket()) for _ in range(3)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        exporter, prometheus, alertmanager = (each.getsockname()[1] for each in sockets)
    return Ports(exporter, prometheus, alertmanager)


def _greeting(running: Stack, pace: float) -> str:
    pages = {
        "exporter": f"{running.exporter.url}/",
        "metrics": f"{running.exporter.url}/metrics",
        "Prometheus": running.prometheus.alerts_page(),
    }
    if running.alertmanager.has_page():
        pages["Alertmanager"] = f"{running.alertmanager.url}/"
    scale = RULES_PER_STORY * pace
    return _GREETING.format(
        pages="\n".join(f"{name:<14}{url}" for name, url in pages.items()),
        minutes=10 / pace,
        scale=scale,
        five=f"{5 * scale / 60:g}m",
    )


def _attend(running: Stack, screen: Screen) -> None:
    """Wait until the reader has gone, or for a server to end by itself, which none should."""
    while not screen.closed:
        if ended := running.ended():
            raise ServerError(f"{ended} has ended")
        time.sleep(0.2)


if __name__ == "__main__":
    raise SystemExit(main())
