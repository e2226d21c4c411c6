"""``make demo``: one command, and nothing left of it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from setup.demo import __main__ as demo
from setup.demo.receiver import Message


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_shows_messages_until_it_is_told_to_stop(tmp_path: Path, how: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "setup.demo", "--pace", "10"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        process_group=0,
    ) as process:
        try:
            assert process.stdout
            assert process.stderr
            seen = ""
            # The latter is of the story's second minute: an application's error, told to owners.
            awaited = {"dead-mans-switch: Watchdog", "pod batch/score-0, container main"}
            while not all(words in seen for words in awaited):
                line = process.stdout.readline()
                assert line, process.stderr.read()
                seen += line
            servers = children(process.pid)
            assert len(servers) == 3
            process.send_signal(how)
            rest, errors = process.communicate(timeout=30)
            assert (process.returncode, errors) == (0, "")
            assert rest.endswith("\nstopped\n")
            assert not [pid for pid in servers if alive(pid)]
            assert not list(tmp_path.iterdir())
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def test_a_pace_that_makes_no_sense_is_refused() -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "setup.demo", "--pace", "1000"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].endswith("argument --pace: not from 1 to 10")


def test_slack_s_markup_is_not_for_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    text = ":white_check_mark: *It is &lt; 1 %*\n_node n_1, GPU 7_\n<http://a|Runbook>"
    attachment = {"title": "[RESOLVED] GPUHot", "text": text}
    screen = demo.Screen()
    screen.show(Message("/chat/slack", {"channel": "#gpu", "attachments": [attachment]}))
    blank, title, *lines = capsys.readouterr().out.splitlines()
    assert not blank
    assert title.endswith(" chat #gpu: [RESOLVED] GPUHot")
    assert lines == [
        "  Resolved: It is < 1 %",
        "  node n_1, GPU 7",
        "  Runbook: http://a",
    ]
