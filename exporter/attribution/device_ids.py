"""The ids under which device plugins hand out NVIDIA devices.

A wrong match would attribute one pod's work to another. So the grammars are strict: an id matches
as a whole or not at all, hex is lower case as the driver writes it, and decimals are ASCII without
leading zeros.
"""

import re
from dataclasses import dataclass
from typing import Final

_UUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
# No such number has more than nine digits, and int() has a limit of its own.
_NUMBER: Final = r"(?:0|[1-9][0-9]{0,8})"

_SHARE: Final = rf"(?P<share>{_NUMBER})"

_FORMS: Final = tuple(
    re.compile(form)
    for form in (
        # NVIDIA's device plugin; `::<share>` when it time-slices or runs MPS.
        rf"(?P<uuid>(?:GPU|MIG)-{_UUID})(?:::{_SHARE})?",
        # The same before driver R470, where slices have no UUID of their own.
        rf"MIG-(?P<uuid>GPU-{_UUID})/(?P<gpu>{_NUMBER})/(?P<compute>{_NUMBER})(?:::{_SHARE})?",
        # GKE's device plugin; `/vgpu<share>` under time-sharing.
        rf"nvidia(?P<minor>{_NUMBER})(?:/gi(?P<gpu>{_NUMBER}))?(?:/vgpu{_SHARE})?",
        # Plugins that number the GPUs.
        rf"(?P<index>{_NUMBER})(?:::{_SHARE})?",
    )
)


@dataclass(frozen=True, slots=True)
class DeviceId:
    """A device-plugin id, taken apart. The fields that are not ``None`` name the GPU or slice."""

    uuid: str | None = None
    """``GPU-…`` or ``MIG-…``. Together with ``gpu_instance`` it is the UUID of the GPU."""
    minor_number: int | None = None
    index: int | None = None
    gpu_instance: int | None = None
    compute_instance: int | None = None
    share: int | None = None
    """The number of the share of the device; ``None``: the whole device."""


def parse(device_id: str) -> DeviceId | None:
    """Take a device-plugin id apart; ``None`` if its form is unknown. Never raises."""
    for form in _FORMS:
        if match := form.fullmatch(device_id):
            fields = match.groupdict()
            uuid = fields.pop("uuid", None)
            number = {name: int(digits) for name, digits in fields.items() if digits is not None}
            return DeviceId(
                uuid=uuid,
                minor_number=number.get("minor"),
                index=number.get("index"),
                gpu_instance=number.get("gpu"),
                compute_instance=number.get("compute"),
                share=number.get("share"),
            )
    return None
