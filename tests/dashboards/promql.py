"""The names and labels that a PromQL expression speaks of."""

import re

_KEYWORDS = {"and", "or", "unless", "bool", "offset", "end", "start", "inf", "nan"}
_LISTS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^()]*)\)")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_WORD = re.compile(r"[a-zA-Z_:][\w:]*")


def names(expr: str) -> set[str]:
    """Return the names of the series that an expression selects."""
    text = _STRING.sub("", expr)
    for noise in (r"\{[^{}]*\}", r"\[[^\]]*\]", r"\$\w+", _LISTS.pattern, r"\b\d[\w.]*"):
        text = re.sub(noise, " ", text)
    functions = set(re.findall(rf"({_WORD.pattern})\s*\(", text))
    return set(_WORD.findall(text)) - functions - _KEYWORDS


def labels(expr: str) -> set[str]:
    """Return the labels that it matches, groups and joins by."""
    text = _STRING.sub('""', expr)
    matched = re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*""', text)
    grouped = [word for group in _LISTS.findall(text) for word in _WORD.findall(group)]
    return {*matched, *grouped}


def selectors(expr: str) -> list[tuple[str, str]]:
    """Return each selected name with the text of its matchers."""
    known = names(expr)
    found = re.findall(rf'(?<![\w"])({_WORD.pattern})(?:\{{([^{{}}]*)\}})?', expr)
    return [(name, matchers) for name, matchers in found if name in known]


def ranges(expr: str) -> list[tuple[str, str, str]]:
    """Return the function, the series' name and the range of each range selector."""
    pattern = rf"(\w+)\s*\(\s*({_WORD.pattern})(?:\{{[^{{}}]*\}})?\[([^\]]+)\]"
    return re.findall(pattern, expr)
