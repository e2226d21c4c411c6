"""Lines of a message, without what the transport, loggers and launchers put around them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.endings.cleaning import clean
from exporter.endings.line import Kind, Level
from tests.doubles import kubelet_messages as kubelet


@pytest.mark.parametrize(
    ("raw", "text", "level"),
    [
        ("[rank3]: RuntimeError: x", "RuntimeError: x", Level.UNKNOWN),
        ("[rank1]:[E1119 10:10:10.101 ProcessGroupNCCL.cpp:1896] gone", "gone", Level.ERROR),
        ("(EngineCore_0 pid=271) ERROR 10-02 11:12:08 [core.py:708] x y", "x y", Level.ERROR),
        ("(ServeReplica:default:LLM pid=8812) torch.X: y", "torch.X: y", Level.UNKNOWN),
        ("[1,6]<stderr>:RuntimeError: x", "RuntimeError: x", Level.UNKNOWN),
        (" 2: [rank2]: torch.X: y", "torch.X: y", Level.UNKNOWN),
        (
            "2026-10-22 09:22:17.233972: E tensorflow/stream/cuda_driver.cc:802] failed to alloc 8",
            "failed to alloc 8",
            Level.ERROR,
        ),
        ("F0312 21:55:32.108142  4821 syncedmem.cpp:56] Check failed: x", "Check failed: x", 5),
        ('E0202 12:00:00.123456       1 runner.go:77] "Died" err="y"', '"Died" err="y"', 4),
        ("2026-01-19T10:11:13.205771Z ERROR server died now", "server died now", Level.ERROR),
        ("2026-02-02 12:00:00,000 - ERROR - worker.py:88 - it failed", "it failed", Level.ERROR),
        ("2026-02-02 12:00:00.000 | ERROR    | __main__:<module>:12 - it failed", "it failed", 4),
        ("[2026-02-11 09:20:11 TP0] Scheduler hit x", "Scheduler hit x", Level.UNKNOWN),
        ("26/03/02 11:08:12 WARN Handler: x", "Handler: x", Level.WARNING),
        ("ollama  | panic: unable", "panic: unable", Level.UNKNOWN),
        ("SUBPROCESS: RuntimeError: x", "RuntimeError: x", Level.UNKNOWN),
        ("\x1b[31mRuntimeError\x1b[0m: \x1b[1mCUDA\x1b[0m out", "RuntimeError: CUDA out", 0),
        ("31mRuntimeError\x1b[0m: x", "RuntimeError: x", Level.UNKNOWN),
        ("│ OutOfMemoryError: x", "OutOfMemoryError: x", Level.UNKNOWN),
        ("    | torch.OutOfMemoryError: x", "torch.OutOfMemoryError: x", Level.UNKNOWN),
        ('{"level":"fatal","ts":1.5,"msg":"a failed","error":"b"}', "a failed: b", Level.FATAL),
        ('{"msg":"x","hint":"try y"}', "x", Level.UNKNOWN),
        ('"event":"x","hint":"try y","exc', "x", Level.UNKNOWN),
        ('time="…" level=error msg="x y" hint="try z"', 'time="…" level=error msg="x y"', 4),
    ],
)
def test_a_line_keeps_its_speech_and_its_level(raw: str, text: str, level: int) -> None:
    [line] = clean(raw)
    assert (line.text.strip(), line.level) == (text, level)


@pytest.mark.parametrize("prefix", ["", "[rank0]: ", "(Worker pid=7) ", "[1,0]<stderr>:"])
def test_program_text_under_a_frame_is_no_speech(prefix: str) -> None:
    raw = [
        "Traceback (most recent call last):",
        '  File "/srv/x.py", line 3, in fit',
        "    raise RuntimeError(",
        '        "CUDA out of memory"',
        "    )",
        "    ^^^^^",
        "ValueError: y",
    ]
    kinds = [line.kind for line in clean("\n".join(prefix + line for line in raw))]
    assert kinds == [Kind.FRAME, Kind.FRAME, *[Kind.SOURCE] * 4, Kind.TEXT]


def test_a_log_without_indents_shows_one_line_of_program_text_under_a_frame() -> None:
    raw = 'File "/a.py", line 1, in f\nraise X\nFile "/b.pyx", line 2, in g\nValueError: y'
    assert [line.kind for line in clean(raw)] == [Kind.FRAME, Kind.SOURCE, Kind.FRAME, Kind.TEXT]


@pytest.mark.parametrize(
    "frame",
    [
        "frame #3: c10d::ProcessGroupNCCL::watchdogHandler() + 0x890 (0x7f5a in libtorch.so)",
        "    @     0x7f32429400cd  google::LogMessage::Fail()",
        "\tat ai.rapids.cudf.Rmm.allocInternal(Native Method)",
        "goroutine 7 [running]:",
        "    at resolveContext (file:///app/gguf/insights.js:88:19)",
        "/usr/lib/python3/dist-packages/torch/nn/modules/linear.py:125 in forward",
    ],
)
def test_calls_of_other_languages_are_no_speech(frame: str) -> None:
    assert clean(f"x\n{frame}")[1].kind is Kind.FRAME


@pytest.mark.parametrize(
    ("raw", "joined"),
    [
        ("failed: Resource exhausted: Out\nof memory while trying", True),
        ("CUDA\nout of memory", True),
        (
            "a sentence that a terminal wrapped somewhere, in which GPU 0 has a\ntotal capacity",
            True,
        ),
        ("KeyError: 'out'\nof memory nothing is said", False),
        ("llama_load: failed\nllama_model_load: error loading model", False),
        ("one record\n2026-02-02 12:00:00,000 - INFO - another", False),
    ],
)
def test_a_phrase_may_be_wrapped_over_a_line_break(raw: str, *, joined: bool) -> None:
    assert len(clean(raw)) == (1 if joined else 2)


def test_line_breaks_that_are_written_out_are_line_breaks() -> None:
    assert [line.text for line in clean(r"RuntimeError: x\nmore of it")] == [
        "RuntimeError: x",
        "more of it",
    ]


def test_the_kubelet_keeps_the_end_of_a_log_and_then_the_beginning_of_that() -> None:
    log = "".join(f"line {number:05d} …\n" for number in range(1000))
    whole = kubelet.from_log(log)
    assert len(whole.encode()) <= kubelet.LOG_BYTES + 2  # a letter that was cut becomes U+FFFD
    assert whole.count("\n") == kubelet.LOG_LINES
    wide = kubelet.from_log("\n".join("x" * 100 for _ in range(200)))
    assert len(wide) == kubelet.LOG_BYTES
    assert kubelet.from_log(log, containers=12) == whole.encode()[:1024].decode(errors="replace")
    assert len(kubelet.from_file("y" * 9000)) == kubelet.FILE_BYTES
    assert len(kubelet.from_file("y" * 9000, containers=4)) == 3072


@given(st.text(max_size=3000))
def test_any_text_becomes_lines(text: str) -> None:
    assert "".join(line.text for line in clean(text)).count("\n") == 0
