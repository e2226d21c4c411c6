"""The ids under which device plugins hand out NVIDIA devices.

A wrong match blames one pod for another's work, so the grammars are strict: a whole id or nothing,
lower-case hex as the driver writes it, ASCII decimals without leading zeros.
"""

import re
from dataclasses import dataclass

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
# Nine digits are more than any such number has, and keep int() far from its own limit.
_NUMBER = r"(?:0|[1-9][0-9]{0,8})"

_SHARE = rf"(?P<share>{_NUMBER})"

_FORMS = tuple(
    re.compile(form)
    for form in (
        # NVIDIA's device plugin; `::<share>` when it time-slices or runs MPS.
        rf"(?P<uuid>(?:GPU|MIG)-{_UUID})(?:::{_SHARE})?",
        # The same before driver R470, when slices had no UUID of their own.
        rf"MIG-(?P<uuid>GPU-{_UUID})/(?P<gpu>{_NUMBER})/(?P<compute>{_NUMBER})(?:::{_SHARE})?",
        # GKE's device plugin; `/vgpu<share>` under time-sharing.
        rf"nvidia(?P<minor>{_NUMBER})(?:/gi(?P<gpu>{_NUMBER}))?(?:/vgpu{_SHARE})?",
        # Plugins that number the GPUs.
        rf"(?P<index>{_NUMBER})(?:::{_SHARE})?",
    )
)


@dataclass(frozen=True, slots=True)
class DeviceId:
    """A device-plugin id in parts. The GPU or slice is named by what is not ``None``."""

    uuid: str | None = None
    """``GPU-…`` or ``MIG-…``; with ``gpu_instance`` it is the GPU's."""
    minor_number: int | None = None
    index: int | None = None
    gpu_instance: int | None = None
    compute_instance: int | None = None
    share: int | None = None
    """Which share of the device; ``None``: all of it."""


def parse(device_id: str) -> DeviceId | None:
    """Take a device-plugin id apart; ``None`` if it has no form that we know. Never raises."""
    for form in _FORMS:
        if match := form.fullmatch(device_id):
            parts = match.groupdict()
            uuid = parts.pop("uuid", None)
            number = {name: int(digits) for name, digits in parts.items() if digits is not None}
            return DeviceId(
                uuid=uuid,
                minor_number=number.get("minor"),
                index=number.get("index"),
                gpu_instance=number.get("gpu"),
                compute_instance=number.get("compute"),
                share=number.get("share"),
            )
    return None
