"""From a ResourceSlice, in any version of its API, to the devices that it publishes."""

import re
from collections.abc import Mapping
from typing import Any, Final

from exporter.model.pods import DraDevice

DRIVER: Final = "gpu.nvidia.com"

_MADE_WHEN_CLAIMED: Final = re.compile(r"gpu-\d+-mig-.+-\d+-(\d+)")
"""The driver's name for a slice: GPU's minor, profile, profile's number, first memory slice."""


def parse_slice(resource_slice: Mapping[str, Any]) -> tuple[int, tuple[DraDevice, ...]]:
    """Return the generation of the slice's pool, and its devices; none if of another driver.

    Devices that are neither GPU nor MIG slice are left out. Raises ``KeyError``, ``TypeError`` or
    ``AttributeError`` if it is no ResourceSlice.
    """
    spec = resource_slice["spec"]
    pool = spec["pool"]
    generation = pool.get("generation", 0)
    if spec["driver"] != DRIVER:
        return generation, ()
    devices = (_device(pool["name"], device) for device in spec.get("devices") or ())
    return generation, tuple(device for device in devices if device)


def _device(pool: str, device: Mapping[str, Any]) -> DraDevice | None:
    name = device["name"]
    # v1beta1 has the attributes one level down.
    attributes = (device.get("basic") or device).get("attributes") or {}

    def string(key: str) -> str | None:
        value = attributes.get(key) or attributes.get(f"{DRIVER}/{key}") or {}
        found = value.get("string")
        return found if isinstance(found, str) else None

    uuid, kind = string("uuid"), string("type")
    if kind not in {None, "gpu", "mig"}:
        return None
    if uuid:
        return DraDevice(
            DRIVER, pool, name, uuid, parent_uuid=string("parentUUID"), profile=string("profile")
        )
    made = _MADE_WHEN_CLAIMED.fullmatch(name)
    if made is None or (parent := string("parentUUID")) is None:
        return None
    return DraDevice(
        DRIVER,
        pool,
        name,
        uuid="",
        parent_uuid=parent,
        profile=string("profile"),
        placement_start=int(made[1]),
    )
