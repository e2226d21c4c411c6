"""Whether words report what happened, or advise, deny, count, ask, or say that work goes on."""

import re
from typing import Final

# Each is looked for before the words that it speaks of, within their clause.
_ADVICE: Final = re.compile(
    r" (?:if|in case|whenever|tips?|hints?|suggest\w{0,20}|recommend\w{0,20}|consider|advice|usage"
    r"|estimate\w{0,20}|(?:to |can |helps? |may )?"
    r"(?:avoid|prevent|fix|solve|mitigate|handle|debug)(?:s|ing|ed)?"
    r"|(?:try|please) \w{1,40}|you (?:can|may|might|could|should|will|would)|see (?:also )?for"
    r"|(?:may|might|can|could|would|will|likely to|known to|used to)"
    r" (?:still |also |then |easily )?"
    r"(?:be|lead|cause|run|ran|result|throw|raise|trigger|hit|get|see|go)"
    r"|refer to|see the|documentation)"
    r" (?:\w{1,40} ){0,14}$"
    r"| when (?:\w{1,40} ){0,4}(?:runs?|running|goes|you) (?:\w{1,40} ){0,4}$"
)
_PREPOSITION: Final = re.compile(
    r" (?:for|on|against|about|upon|case of|instead of|except|catch|raises?|mocks?|tests?|until)"
    r" (?:an? |the |any |every |all |each )?(?:possible |potential )?(?:torch )?(?:\w{1,40} )?$"
)
_DENIAL: Final = re.compile(
    r" (?:not|no|never|without|neither|nor|isn|wasn)"
    r" (?:an? |any |the |caused by |due to |because of |related to |from )?(?:\w{1,40} ){0,2}$"
)
_COUNT: Final = re.compile(r" (?:0|zero) (?:\w{1,40} )?$")
# After the words.
_COUNTED: Final = re.compile(r"^ (?:errors|events|failures|s)\b")
_NAME: Final = re.compile(
    r"^ ?(?:\w{1,40} )?(?:retries|retry|handler|handling|policy|count\w{0,20}|score|kills?"
    r"|events? 0|guard|protection|recovery|detector|callback|hook|test|s 0)\b"
)

_GOES_ON: Final = re.compile(
    r"(?<! try)(?<! by)(?<! consider)(?<! or)(?<! and)(?<! to)(?<! not)(?<! please)"
    r" (?:retrying|retried|will (?:be )?(?:retr\w{0,20}|try)"
    r"|trying (?:again|batch|with|smaller|next|\d{1,9}|to fall back)"
    r"|try again with|tries again|attempting to (?:recover|copy|retry|continue|free)"
    r"|fall(?:s|ing)? back|fell back|fallback to|skip(?:s|ping|ped)?|discard(?:s|ing|ed)?"
    r"|batch (?:was )?(?:removed|dropped)|recover(?:ed|ing)|ignor(?:es|ing|ed)|continuing"
    r"|continues|pruning|pruned|reducing|reduced|decreasing|decreased|halv(?:es|ing|ed)|lowering"
    r"|lowered|shrink(?:s|ing)|(?:is|was) not a failure|benign|first attempt|second attempt|passed"
    r"|succeeded|moving (?:it |them )?to (?:the )?cpu|spill(?:s|ing|ed) to|evicting|harmless"
    r"|offloading (?:it )?to|this is expected|handled|caught and|swapping out|backing off"
    r"|resum(?:es|ing|ed)) "
)
_ATTEMPT: Final = re.compile(r" attempt \d{1,9}(?: of \d{1,9})? (?:\w{1,40} ){0,3}retr")

_ANNOUNCES: Final = re.compile(r" (?:attempting|trying|going) to (?:recover|retry|continue|free) ")


def is_report(before: str, after: str, *, asked: bool = False) -> bool:
    """Say whether what stands between ``before`` and ``after`` in a clause is reported as a fact.

    Both are plain words of :func:`exporter.endings.plain.words`. ``asked``: the clause ends in a
    question mark.
    """
    near = before[-60:]
    return not (
        asked
        or _ADVICE.search(before[-200:])
        or _PREPOSITION.search(near)
        or _DENIAL.search(near)
        or _NAME.search(after[:60])
        or (_COUNT.search(near) and _COUNTED.search(after[:20]))
    )


def goes_on(words: str) -> bool:
    """Say whether a line reports that the program goes on after a failure, or tries again."""
    return bool(_GOES_ON.search(words) or _ATTEMPT.search(words))


def announces_recovery(words: str) -> bool:
    """Say whether a line announces that the failure after it is being dealt with."""
    return bool(_ANNOUNCES.search(words))
