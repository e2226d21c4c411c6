"""What only says that something failed: launchers' reports on their children, and consequences."""

import re
from typing import Final

from exporter.endings.phrases import phrases

_REPORT: Final = phrases(
    # Launchers, supervisors and shells on a process of theirs.
    "child failed error",
    "called process error",
    "process raised|exited exception",
    "engine dead error",
    "ray task|actor error",
    "actor died error",
    "worker crashed error",
    "a worker died or was killed",
    "error executing job with overrides",
    "exception in a background process",
    "broken process pool",
    "actor|worker died|crashed",
    "exits|exited|exit|finished|terminated|failed|ended|returned with ... code|status|signal",
    "exits|exited|exit|finished|terminated|failed|ended|returned on ... signal",
    "exits|exited|terminated ... code|status|signal|unexpectedly",
    "exit|return code|status",
    "exitcode",
    "non zero exit|status|code",
    "sigquit|sigterm from|received",
    "received sigquit|sigterm|signal",
    "process has|was terminated|stopped|exited",
    "runner process has terminated",
    "killing|terminating subprocess|step|processes|process|workers",
    "task|rank|process # exited|failed|terminated",
    "job has been aborted",
    "primary job terminated",
    "elifecycle",
    "lifecycle",
    "errno 1",
    "make ... error #",
    "gave up",
    "too many start retries",
    "failed core proc",
    "executor worker returned",
    "mpi abort",
    "one or more processes",
    "backoff limit",
    # What points to another place.
    "root cause",
    "stack trace above",
    "see ... above",
    "see inner exception",
    "exception on one of",
    "caused by an exception",
    # What stands around the cause.
    "unhandled cuda|system error",
    "call to cuda function failed",
    "system call or external library call failed",
    "system call e g",
    "last error",
    "exception group",
    "unhandled errors in a task group",
    "error has been caught",
    # What comes with any end.
    "cancelled error",
    "system exit",
    "keyboard interrupt",
    "leaked semaphore|shared|objects",
    "process group",
    "broken pipe",
    "connection reset by peer",
    "eof error",
    "shutting down",
    "aborted core dumped",
    "exiting due to",
    "job|run|task|training|step|request|node failed",
)
_VERB: Final = (
    "load|create|creating|init|initialize|initialise|initializing|start|starting|launch|launching"
    "|run|running|execute|executing|build|building|serve|process|handle|complete|generate"
    "|generating|warm|warmup|capture|capturing|register|deploy|spawn|infer"
    "|setup|set|prepare|compile|finish|train|inject|submit|forward|become|encode|decode"
)
_CONSEQUENCE: Final = phrases(
    f"failed|fail|fails|unable|failure|error to|in|while|when|during|on {_VERB}",
    f"could|can|did not {_VERB}",
    "error|failed loading|creating|starting|initializing|running|processing",
    "loading|initialization|startup|warmup|capture|execution|creation failed|error",
    "inference|compilation|generation failed|error",
    "servable ... did not become available",
    "is at unavailable state",
    "engine|worker|model|server|scheduler|backend failed|died|error",
    "hit an exception",
)
_REASON: Final = re.compile(
    r"no such file|errno|not found|permission|denied|refused|invalid|unknown|missing|unsupported"
    r"|expected|must be|shape|dtype|timed? ?out|address|parse|syntax|flag|license|unreachable"
    r"|version",
    re.IGNORECASE,
)
# A GPU library failed, and its code does not say of what. A full device is one of the reasons.
_NO_REASON: Final = re.compile(
    r"(?:CUBLAS|CUDNN|CUFFT|CUSOLVER|CUSPARSE|CURAND|HIPBLAS|MIOPEN)_(?:STATUS_)?"
    r"(?:NOT_INITIALIZED|INTERNAL_ERROR|EXECUTION_FAILED|MAPPING_ERROR|SETUP_FAILED)"
    r"|cuda(?: runtime| driver)? error(?: \(?\d{1,4}\)?)?: unknown error|cudaErrorUnknown"
    r"|CUDA_ERROR_UNKNOWN|Dst tensor is not initialized|cuDNN failed to initialize"
    r"|Failed to get convolution algorithm",
    re.IGNORECASE,
)
_CHILD_KILLED: Final = re.compile(
    r"exitcode ?:? ?-9\b|\bsignal:? 9\b|\bSIGKILL\b|signal: killed|return code ?[:=]? ?-9\b"
    r"|code -9\b|\bKilled\s{0,9}$|(?:^|\s)\d{1,8} Killed\b|oom[-_ ]?kill|out of memory: killed"
    r"|exit(?:ed)?(?: with)?(?: status| code)? 137\b",
    re.IGNORECASE,
)
_GUESSES: Final = re.compile(r"potential root causes|may have|might have", re.IGNORECASE)


def is_echo(text: str, words: str) -> bool:
    """Say whether a statement only reports that something else failed.

    ``words`` are the plain words of ``text``, paths taken out.
    """
    if _NO_REASON.search(text) or _REPORT.search(words):
        return True
    return is_consequence(text, words)


def is_consequence(text: str, words: str) -> bool:
    """Say whether a statement says that something did not come about, and gives no reason."""
    return bool(_CONSEQUENCE.search(words)) and not _REASON.search(text)


def child_was_killed(text: str) -> bool:
    """Say whether a line reports that a process of the container was killed with SIGKILL."""
    return bool(_CHILD_KILLED.search(text)) and not _GUESSES.search(text)
