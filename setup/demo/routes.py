"""The Alertmanager example, as it is but for where it sends to, and how long it waits."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from exporter.document import parse_duration

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLE = ROOT / "rules/alertmanager/alertmanager.yml"

MUTED = "1970"

_WAITS = ("group_wait", "group_interval", "repeat_interval")


def rehearsal(receiver: str, scale: float, example: Path = EXAMPLE) -> str:
    """Return the example with every message sent to the URL ``receiver``.

    The receiver ``pager`` sends to ``/pager/pagerduty`` what it would send to PagerDuty, and to
    ``/pager`` the same alerts as Alertmanager's own JSON, which has their labels; and so on.
    Waits are ``scale`` times as short. Muted hours are ``MUTED``: it is never one now.
    """
    configuration = yaml.safe_load(example.read_text())
    configuration["templates"] = [str(example.parent / t) for t in configuration["templates"]]
    for route in _routes(configuration["route"]):
        for wait in _WAITS:
            if wait in route:
                route[wait] = f"{max(1, round(1000 * parse_duration(route[wait]) / scale))}ms"
    for known in configuration["receivers"]:
        url = f"{receiver}/{known['name']}"
        for integration in known.get("pagerduty_configs", ()):
            del integration["routing_key_file"]
            integration |= {"routing_key": "none", "url": f"{url}/pagerduty"}
        for integration in known.get("slack_configs", ()):
            del integration["api_url_file"]
            integration["api_url"] = f"{url}/slack"
        if set(known) - {"name", "webhook_configs"}:
            known["webhook_configs"] = [{"url": url}]
        for integration in known.get("webhook_configs", ()):
            integration["url"] = url
    for hours in configuration["time_intervals"]:
        hours["time_intervals"] = [{"years": [MUTED]}]
    return yaml.safe_dump(configuration, sort_keys=False)


def _routes(route: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield route
    for child in route.get("routes", ()):
        yield from _routes(child)
