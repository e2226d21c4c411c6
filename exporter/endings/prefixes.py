"""What loggers and launchers put before a line: whose it is, when it was, how severe, and where."""

import re
from collections.abc import Mapping
from typing import Final

from exporter.endings.line import Level, Line

LEVELS: Final[Mapping[str, Level]] = {
    name: level
    for level, names in (
        (Level.DEBUG, "debug trace verbose d v"),
        (Level.INFO, "info information notice i"),
        (Level.WARNING, "warning warn w"),
        (Level.ERROR, "error err severe e"),
        (Level.FATAL, "fatal critical crit panic dpanic emergency alert f"),
    )
    for name in names.split()
}
"""Loggers' names of levels, in lower case."""

_LOUD: Final = "(?P<level>DEBUG|TRACE|INFO|NOTICE|WARN(?:ING)?|ERROR|SEVERE|FATAL|CRITICAL)"
_QUIET: Final = (
    "(?P<level>[Dd]ebug|[Ii]nfo|[Ww]arn(?:ing)?|[Ee]rror|[Ff]atal|[Cc]ritical|ERR|CRIT|DEBUG|TRACE|INFO"
    "|NOTICE|WARN(?:ING)?|ERROR|SEVERE|FATAL|CRITICAL)"
)
_CLOCK: Final = r"\d\d:\d\d:\d\d(?:[.,:]\d{1,9})?"
_DATE: Final = r"\d{4}[-/]\d\d[-/]\d\d"
_PLACE: Final = r"[^\]\s]{1,200}:\d{1,6}"
_FILE: Final = r"[\w./<>-]{1,160}\.(?:py|cc|cpp|cu|cuh|h|go|rs)"

_PREFIXES: Final = tuple(
    re.compile(pattern)
    for pattern in (
        # Whose line it is: of torchrun, vLLM, Ray, mpirun, srun, docker compose, a runtime's log.
        r"\[(?:rank|Rank|default|trainer|worker|node)[ _-]?\d{1,5}\]:? ?",
        r"\[\d{1,5}\](?=:|: | \d{4}-)(?:: ?| )",
        r"\[\d{1,4},\d{1,5}\]<(?:stderr|stdout|stdin|stddiag)>: ?",
        r"\((?:[\w:./-]{1,60} ){0,4}(?:pid|ip|rank)=[^()]{1,80}\) ?",
        r"\d{1,4}: (?=\S)",
        r"(?:SUBPROCESS|stdout|stderr|STDOUT|STDERR)(?: [FP] |[:|] ?)",
        # When it was.
        rf"\[?{_DATE}[T _]{_CLOCK}(?:Z| ?[+-]\d\d:?\d\d)?(?: [A-Z]{{2}}\d{{1,4}}){{0,4}}\]?:? ?",
        rf"\[?\d\d[-/]\d\d(?:[-/]\d\d(?:\d\d)?)? {_CLOCK}\]? ?",
        rf"\[?{_CLOCK}\]? ",
        r"\d{1,2}:\d\d:\d\d\.\d{2,9} ",
        r"\[ {0,6}[\d,.]{1,14} ?(?:ms|s)?\] ?",
        r"\[CPU: {1,4}[^\]]{1,60}\] ?",
        # How severe it is, and where in the program, as klog, absl, glog and TensorFlow write it.
        rf"(?P<letter>[EWIFD])\d{{4}} {_CLOCK} {{1,8}}(?:\d{{1,8}} {{1,4}})?{_PLACE}\] ?",
        rf"(?P<letter>[EWIFD])\d{{8}} {_CLOCK} {{1,8}}\d{{1,8}} [^\]\s]{{1,200}}\] ?",
        rf"(?P<letter>[EWIFD]) (?={_FILE}:\d{{1,6}}\])",
        rf"\[(?P<letter>[EWIFD])[ \d:./-]{{0,40}}{_FILE}:\d{{1,6}}\] ?",
        r"\[(?P<letter>[EWIFD]) [ \d:./-]{8,40}\] ?",
        r"\[(?P<letter>[EWIFD]):[\w.]{1,40}:[^\]]{0,80}\] ?",
        r"\[(?P<letter>[EWIFD])\] ?",
        rf"\[{_QUIET} {{0,5}}\]:? ?",
        rf"{_QUIET} {{0,5}}(?:[:|] ?|- )(?![:=])",
        rf"{_LOUD}(?: {{1,8}}(?=[\w\[<('\"-])|(?=\())",
        r"[\w.-]{1,60} {1,20}\| (?=\S)",
        # Where it was said.
        r"[\w.<>$/-]{1,80}:[\w<>.]{1,60}:\d{1,6} [-|] ?",
        rf"\[?{_FILE}:\d{{1,6}}(?::\w{{1,60}})?(?:\] ?|: | - | (?=[A-Z]))",
        r"\[[a-z][\w.-]{1,60}\] (?=\S)",
        r"\| ?(?=\S)|- (?=\S)",
        # Drawn boxes, exception groups, and pytest's mark.
        r"[│┃╭╰╯╮─━├└❱]{1,200} ?",
        r"[+|](?: {0,6}[+|-]-{0,40}){1,3}(?: \d{1,3} -{1,40})?",
        r"\+ (?=Exception Group)",
        r"E {3,7}(?=\S)",
    )
)
_MOST: Final = 8
"""Prefixes of one line, at most."""


def strip(raw: str, *, cut: bool = False) -> Line:
    """Take the prefixes off a line, and keep the most severe level that they name.

    ``cut``: the line may have lost its beginning.
    """
    text, level, begins = raw, Level.UNKNOWN, False
    for _ in range(_MOST):
        indent = len(text) - len(text.lstrip(" \t"))
        found = next((hit for each in _PREFIXES if (hit := each.match(text, indent))), None)
        if found is None or found.end() == found.start():
            break
        groups = found.groupdict()
        if word := groups.get("level") or groups.get("letter"):
            level = max(level, LEVELS[word.lower()])
        begins = True
        text = text[found.end() :]
    return Line(text, level=level, begins=begins, cut=cut)
