"""XIDs, the NVIDIA driver's error codes, by what to do about them.

Source: NVIDIA's XID catalogue (https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html),
the immediate action that it lists for each code. Where other rule sets disagree with it, NVIDIA's
word counts.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

FELL_OFF_THE_BUS: Final = 79

UNKNOWN: Final = "unknown"
"""The action of a code that the catalogue does not list."""

_CODES: Final[Mapping[str, tuple[int | range, ...]]] = {
    "restart_app": (
        *(8, 11, 13, 25, 31, 32, range(39, 42), 60, range(68, 73), range(75, 78), 80),
        *(range(82, 87), 88, 89, 94, range(96, 106), range(126, 136), 139),
    ),
    "ignore": (
        *(37, 38, 43, 44, 63, 66, 67, 92, 93, 106, 107, 121, 137, 141, 152, 153, 157, 160, 161),
    ),
    "reset_gpu": (46, 62, 64, 95, 109, 110, 119, 120, 136, 140, 143, 155, 156, 158),
    "restart_node": (79, 151),
    "check_ecc": (48,),
    "check_nvlink": (74, range(144, 151)),
    "follow_up": (45,),
    "check_hardware": (54,),
    "update_driver": (78,),
    "check_uvm": (159,),
    "contact_support": (142,),
    "recovery_action": (154,),
}

ACTIONS: Final[Mapping[int, str]] = MappingProxyType(
    {
        code: name
        for name, groups in _CODES.items()
        for group in groups
        for code in (group if isinstance(group, range) else (group,))
    }
)
"""Every code that the catalogue lists, with its action."""


def action(xid: int) -> str:
    """Say what to do about ``xid``: an action of NVIDIA's catalogue as a label, or ``unknown``.

    ``restart_app`` asks something of the workload's owner, and ``ignore`` of nobody.
    ``recovery_action`` refers to the GPU's own recovery action, which has just changed. All other
    actions are for whoever runs the node.
    """
    return ACTIONS.get(xid, UNKNOWN)
