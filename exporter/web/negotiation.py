"""Which format and which coding a client gets, by the headers of its request.

RFC 9110, 12.5.1 and 12.5.3: https://www.rfc-editor.org/rfc/rfc9110#section-12.5. What is no element
of such a header is passed over. A client that accepts nothing of ours gets plain text all the same,
because an answer is worth more to a person with an odd tool than "406 Not Acceptable".
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from exporter.metrics.exposition import Format

_MOST_ELEMENTS: Final = 64
"""Prometheus sends six. A header of a hundred thousand would hold up the event loop."""

_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_RANGE: Final = re.compile(rf"{_WORD}(?:/{_WORD})?")
_PARAMETER: Final = re.compile(rf'\s*({_WORD})\s*=\s*(?:({_WORD})|"([^"\\]*)")\s*')
_WEIGHT: Final = re.compile(r"0(?:\.[0-9]*)?|\.[0-9]+|1(?:\.0*)?")


@dataclass(frozen=True, slots=True)
class _Element:
    """One element of a header: what it names, its parameters, and its weight from 0 to 1."""

    name: str
    parameters: Mapping[str, str]
    weight: float


_NOTHING: Final = _Element("", {}, 0.0)


@dataclass(frozen=True, slots=True)
class _Offer:
    """A format under one of its media types; ``version`` tells types of the same name apart."""

    form: Format
    media_type: str
    version: str
    is_usual: bool = True
    """Whether the type without a version means this one."""
    has_escaping: bool = True


_PLAIN: Final = _Offer(Format.TEXT, "text/plain", "0.0.4", has_escaping=False)
_OFFERS: Final = (
    _Offer(Format.OPENMETRICS, "application/openmetrics-text", "1.0.0"),
    _Offer(Format.TEXT, "text/plain", "1.0.0", is_usual=False),
    _PLAIN,
)
"""Of several that a client weighs equally, the first is taken."""

_NAMED: Final = 3


def negotiate_format(accept: str) -> tuple[Format, str]:
    """Return the format for an ``Accept`` header, and its content type.

    Of formats with the same weight, one that the client names wins over one that a wildcard covers.
    The content type names our own versions alone, whatever the client asked for.
    """
    elements = list(_elements(accept))
    best, best_rank, escaping = _PLAIN, (0.0, False, False), ""
    for offer in _OFFERS:
        found = [(_precision(offer, each), each) for each in elements]
        precision, element = max(
            found, key=lambda each: (each[0], each[1].weight), default=(0, _NOTHING)
        )
        if not precision:
            continue
        # A wildcard asks for nothing in particular, and then plain text is given.
        is_named = precision >= _NAMED
        rank = element.weight, is_named, offer is _PLAIN and not is_named
        if element.weight > 0 and rank > best_rank:
            best, best_rank = offer, rank
            escaping = element.parameters.get("escaping", "")
    return best.form, _content_type(best, escaping)


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether a client that sent this ``Accept-Encoding`` would rather have gzip."""
    weights: dict[str, float] = {}
    for element in _elements(accept_encoding):
        name = "gzip" if element.name == "x-gzip" else element.name
        weights[name] = max(element.weight, weights.get(name, 0.0))
    gzip = weights.get("gzip", weights.get("*", 0.0))
    return gzip > 0 and gzip >= weights.get("identity", 0.0)


def _precision(offer: _Offer, element: _Element) -> int:
    """Return how precisely an element of ``Accept`` covers an offer; 0 if it does not."""
    if element.name == "*/*":
        return 1
    if element.name == f"{offer.media_type.partition('/')[0]}/*":
        return 2
    if element.name != offer.media_type:
        return 0
    version = element.parameters.get("version")
    if version is None:
        return _NAMED if offer.is_usual else 0
    return _NAMED + 1 if version == offer.version else 0


def _content_type(offer: _Offer, escaping: str) -> str:
    text = f"{offer.media_type}; version={offer.version}; charset=utf-8"
    if not offer.has_escaping or not escaping:
        return text
    # All our names are valid without escaping, so that they are the same in both of these schemes.
    scheme = "allow-utf-8" if escaping == "allow-utf-8" else "underscores"
    return f"{text}; escaping={scheme}"


def _elements(header: str) -> Iterator[_Element]:
    for text in header.split(",", _MOST_ELEMENTS)[:_MOST_ELEMENTS]:
        name, *rest = text.split(";")
        name = name.strip().lower()
        parameters = _parameters(rest)
        if parameters is None or not _RANGE.fullmatch(name):
            continue
        weight = parameters.pop("q", "1")
        if _WEIGHT.fullmatch(weight):
            yield _Element(name, parameters, float(weight))


def _parameters(texts: Iterable[str]) -> dict[str, str] | None:
    """Return parameters by their names; ``None`` where one is none."""
    parameters = {}
    for text in texts:
        if not text.strip():
            continue
        found = _PARAMETER.fullmatch(text)
        if not found:
            return None
        parameters[found[1].lower()] = (found[2] or found[3] or "").lower()
    return parameters
