"""What the kubelet makes of a container's last words, byte by byte.

Sources, in kubernetes/kubernetes: ``pkg/kubelet/container/runtime.go`` (the limits),
``pkg/kubelet/kuberuntime/kuberuntime_container.go`` (``getTerminationMessage`` and
``readLastStringFromContainerLogs``), and ``normalizeStatus`` in
``pkg/kubelet/status/status_manager.go``.
"""

FILE_BYTES = 4096
"""``MaxContainerTerminationMessageLength``: of the end of the file."""
LOG_BYTES = 2048
"""``MaxContainerTerminationMessageLogLength``: of the end of the log."""
LOG_LINES = 80
"""``MaxContainerTerminationMessageLogLines``."""
POD_BYTES = 12 * 1024
"""``MaxPodTerminationMessageLogLength``: of all containers of a pod."""


def from_log(log: str, *, containers: int = 1) -> str:
    """Return the message that ``FallbackToLogsOnError`` makes of a log."""
    lines = log.encode().splitlines(keepends=True)[-LOG_LINES:]
    return in_status(b"".join(lines)[-LOG_BYTES:], containers)


def from_file(text: str, *, containers: int = 1) -> str:
    """Return the message that the kubelet makes of a file at ``terminationMessagePath``."""
    return in_status(text.encode()[-FILE_BYTES:], containers)


def in_status(message: bytes, containers: int) -> str:
    """Return a message as the pod's status has it: each container has its part of the limit.

    Here the end goes, not the beginning. Bytes that are no UTF-8 any more become U+FFFD.
    """
    return message[: POD_BYTES // containers].decode(errors="replace")
