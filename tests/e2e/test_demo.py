"""``make demo``: one command, and nothing left of it."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
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
            # The latter is of the story's second minute: an application's error, which owners get.
            awaited = {
                "dead-mans-switch: Watchdog",
                "pod batch/score-0, container main",
                "Runbook: ",
            }
            while not all(words in seen for words in awaited):
                line = process.stdout.readline()
                assert line, process.stderr.read()
                seen += line
            servers = children(process.pid)
            assert len(servers) == 3
            urls = sorted(set(re.findall(r"(?:https?|file)://\S+", seen)))
            assert len(urls) >= 4
            for url in urls:
                with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310  (printed)
                    assert answer.read(), url
            assert "Time is short here" in seen
            process.send_signal(how)
            rest, errors = process.communicate(timeout=30)
            assert (process.returncode, errors) == (0, "")
            assert rest.endswith("\nstopped\n")
            assert not [pid for pid in servers if alive(pid)]
            assert not list(tmp_path.iterdir())
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def test_it_ends_when_nobody_reads_any_more(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "setup.demo", "--pace", "10"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline().startswith("exporter ")
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 0
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pace", ["1000", "0", "-1", "abc", "nan", ""])
def test_a_pace_that_makes_no_sense_is_refused(pace: str) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "setup.demo", f"--pace={pace}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    reason = f"argument --pace: {pace!r} is not a number from 1 to 10"
    assert refused.stderr.splitlines()[-1].endswith(reason)


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


@pytest.mark.parametrize("there", [True, False])
def test_a_link_to_silence_is_shown_where_it_leads_to_a_page(
    capsys: pytest.CaptureFixture[str], *, there: bool
) -> None:
    screen = demo.Screen()
    screen.silences = there
    links = "<http://a|Runbook> · <http://b|Silence>"
    attachment = {"title": "GPUHot", "text": links}
    screen.show(Message("/chat/slack", {"channel": "#gpu", "attachments": [attachment]}))
    details = {"text": "Runbook: http://a\nSilence: http://b\nMore"}
    payload = {"summary": "GPUHot", "custom_details": details}
    screen.show(Message("/pager/pagerduty", {"payload": payload}))
    shown = capsys.readouterr().out
    assert shown.count("Silence: http://b") == (2 if there else 0)
    assert shown.count("Runbook: http://a") == 2
    assert "  More\n" in shown
