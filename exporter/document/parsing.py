"""YAML text to nodes. The only module that imports the YAML library, loaded when there is a file.

The library's own way from events to nodes is recursive, and runs out of stack.
"""

from collections.abc import Iterator
from typing import Any, Final

import yaml

from exporter.document.durations import shown
from exporter.document.nodes import Kind, Node, SyntaxProblem

_TAG: Final = "tag:yaml.org,2002:"
_DEEPEST: Final = 50
"""No document of ours has ten levels."""


def compose(text: str) -> Node:
    """Return the root node of a document; of an empty one a scalar that is null.

    Raises :class:`SyntaxProblem`.
    """
    try:
        return _Composer(text).root()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(filter(None, (error.context, error.problem)))
        raise SyntaxProblem(mark.line + 1 if mark else 1, problem) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, int(error.position)) + 1
        raise SyntaxProblem(line, f"it has the character {_name(error.character)}") from error


class _Composer:
    def __init__(self, text: str) -> None:
        self._loader: Any = yaml.SafeLoader(text)
        self._open: list[Node] = []
        self._anchors: dict[str, Node] = {}

    def root(self) -> Node:
        root: Node | None = None
        for event in self._events():
            if isinstance(event, yaml.CollectionEndEvent):
                self._open.pop()
                continue
            if root and not self._open:
                raise SyntaxProblem(_line(event), "expected a single document")
            node = self._node(event)
            if self._open:
                self._open[-1].children.append(node)
            root = root or node
            if isinstance(event, yaml.CollectionStartEvent):
                self._open.append(node)
                if len(self._open) > _DEEPEST:
                    raise SyntaxProblem(node.line, f"it has more than {_DEEPEST} levels")
        return root or Node(Kind.SCALAR, 1, "null")

    def _events(self) -> Iterator[yaml.Event]:
        while self._loader.check_event():
            event = self._loader.get_event()
            if isinstance(event, yaml.NodeEvent | yaml.CollectionEndEvent):
                yield event

    def _node(self, event: yaml.Event) -> Node:
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.AliasEvent):
            node = self._anchors.get(str(anchor))
            if node is None or node in self._open:
                raise SyntaxProblem(_line(event), f"*{anchor} stands for nothing yet")
            return node
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = Node(Kind.LIST, _line(event), "seq")
        else:
            node = Node(Kind.MAPPING, _line(event), "map")
        if anchor is not None:
            self._anchors[anchor] = node
        return node

    def _scalar(self, event: yaml.ScalarEvent) -> Node:
        text, line = str(event.value), _line(event)
        # Escapes can write what a YAML text itself may not hold.
        for character in text:
            if character == "\0" or "\ud800" <= character <= "\udfff":
                problem = f"{shown(text)} has the character {_name(ord(character))}"
                raise SyntaxProblem(line, problem)
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._loader.resolve(yaml.ScalarNode, text, event.implicit)
        return Node(Kind.SCALAR, line, str(tag).removeprefix(_TAG), text, event.style is None)


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _name(character: int) -> str:
    return f"U+{character:04X}"
