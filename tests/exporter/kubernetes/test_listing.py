"""Lists, read one object at a time."""

import json

import pytest

from exporter.kubernetes.listing import members


@pytest.mark.parametrize("indent", [None, 2])
def test_lists_are_read_one_object_at_a_time(indent: int | None) -> None:
    found = {"kind": "PodList", "items": [{"a": [1, "]"]}, {"b": {}}], "metadata": {"items": [3]}}
    assert list(members(json.dumps(found, indent=indent))) == [
        ("kind", "PodList"),
        ("items", {"a": [1, "]"]}),
        ("items", {"b": {}}),
        ("metadata", {"items": [3]}),
    ]
    assert list(members('{"items": []}')) == list(members("{}")) == []
    assert list(members('{"items": null}')) == [("items", None)]


@pytest.mark.parametrize("cut", range(1, 70))
def test_a_list_that_is_cut_off_is_refused(cut: int) -> None:
    text = '{"kind":"PodList","items":[{"a":1},{"b":2}],"metadata":{"continue":""}}'
    with pytest.raises(ValueError, match=r"."):
        list(members(text[:cut]))
