"""Alerts on containers that run out of GPU memory, or will."""

from textwrap import indent
from typing import Final

from rules.alert import CONTAINER, HELD, Alert, Audience, Dashboard


def _new_ends(selector: str, key: str) -> str:
    """Count the ends within the window: of who has come within it, all that its counter has.

    A container that ends before its first scrape is first seen at 1, which ``increase`` misses.
    Who was seen in the hour before is not new, whatever gaps there are in what was told.
    """
    return indent(
        f"last_over_time({selector}[${{window}}]) > 0\n"
        f"unless on ({key})\n"
        f"last_over_time({selector}[1h] offset ${{window}})\n"
        "or\n"
        f"increase({selector}[${{window}}])",
        "  ",
    )


_EVENT: Final = "${HOLD}, confidence"
_SURE: Final = _new_ends('gpu_container_oom_events_total{confidence=~"confirmed|likely"}', _EVENT)
_POSSIBLE: Final = _new_ends('gpu_container_oom_events_total{confidence="possible"}', _EVENT)
_KILLS: Final = _new_ends("gpu_container_host_oom_kills_total", "${CONTAINER}")

MEMORY: Final = (
    Alert(
        name="GPUOutOfMemory",
        audience=Audience.OWNER,
        dashboard=Dashboard.WORKLOAD,
        labels=(*HELD, "confidence"),
        summary="A container ended for want of GPU memory.",
        description=(
            '${CONTAINER} ran out of the memory of ${DEVICE}: {{ $value | printf "%.0f" }} time(s)'
            " within ${window} (evidence: {{ $labels.confidence }})."
        ),
        expr=f"sum by (${{HELD}}, confidence) (\n{_SURE}\n) > 0",
    ),
    Alert(
        name="GPUOutOfMemoryPossible",
        audience=Audience.OWNER,
        dashboard=Dashboard.WORKLOAD,
        labels=(*HELD, "confidence"),
        summary="A container may have ended for want of GPU memory.",
        description=(
            "${CONTAINER} failed with the memory of ${DEVICE} nearly full: {{ $value | printf"
            ' "%.0f" }} time(s) within ${window}.'
        ),
        expr=f"sum by (${{HELD}}, confidence) (\n{_POSSIBLE}\n) > 0",
    ),
    # By workload, for a Job's retries are pods of other names. A container on several GPUs ends
    # once: the device that tells most counts.
    Alert(
        name="GPUOutOfMemoryLoop",
        audience=Audience.OWNER,
        dashboard=Dashboard.WORKLOAD,
        labels=("namespace", "workload_kind", "workload"),
        summary="A workload runs out of GPU memory again and again.",
        description=(
            "Containers of {{ $labels.workload_kind }} {{ $labels.namespace }}/{{"
            ' $labels.workload }} ended for want of GPU memory {{ $value | printf "%.0f" }} time(s)'
            " within ${window}. Each restart loses work and holds GPUs for nothing."
        ),
        expr=(
            "sum by (namespace, workload_kind, workload) (\n"
            "  max by (${CONTAINER}) (\n"
            "    sum by (${HOLD}) (\n"
            f"{indent(_SURE, '    ')}\n"
            "    )\n"
            "  )\n"
            "  * on (${CONTAINER}) group_left (workload_kind, workload)\n"
            "  topk by (${CONTAINER}) (1,\n"
            '    last_over_time(gpu_allocation_info{workload!=""}[${window}])\n'
            "  )\n"
            ") >= ${events}"
        ),
    ),
    # Growing is: ten minutes are all above the ten before, and these above those before. A minute
    # lies between, or a sample would be in both.
    Alert(
        name="GPUMemoryGrowing",
        audience=Audience.OWNER,
        dashboard=Dashboard.WORKLOAD,
        labels=HELD,
        summary="A container's GPU memory grows towards its limit.",
        description=(
            "${CONTAINER} uses {{ $value | humanizePercentage }} of the memory of ${DEVICE}; at"
            " this rate it is full within {{ ${horizonSeconds} | humanizeDuration }}."
        ),
        expr="""
            max by (${HELD}) (gpu_container_memory_used_bytes / gpu_container_memory_limit_bytes)
            and on (${HOLD})
            predict_linear(gpu_container_memory_used_bytes[30m], ${horizonSeconds})
            > gpu_container_memory_limit_bytes
            and on (${HOLD})
            min_over_time(gpu_container_memory_used_bytes[9m])
            > max_over_time(gpu_container_memory_used_bytes[9m] offset 10m)
            and on (${HOLD})
            min_over_time(gpu_container_memory_used_bytes[9m] offset 10m)
            > max_over_time(gpu_container_memory_used_bytes[9m] offset 20m)
            ${NOT_EXEMPT_MEMORY}
        """,
    ),
    Alert(
        name="GPUMemoryNearlyFull",
        audience=Audience.OWNER,
        dashboard=Dashboard.WORKLOAD,
        labels=HELD,
        summary="A container has nearly all of its GPU's memory in use.",
        description=(
            "${CONTAINER} uses {{ $value | humanizePercentage }} of the memory of ${DEVICE}, and"
            " its use changes: it is not simply allocated beforehand."
        ),
        expr="""
            max by (${HELD}) (
              gpu_container_memory_used_bytes / gpu_container_memory_limit_bytes
            ) > ${used}
            and on (${HOLD})
            (
              max_over_time(gpu_container_memory_used_bytes[10m])
              - min_over_time(gpu_container_memory_used_bytes[10m])
            ) / gpu_container_memory_limit_bytes >= ${change}
            ${NOT_EXEMPT_MEMORY}
        """,
    ),
    Alert(
        name="GPUContainerHostOOMKilled",
        audience=Audience.OWNER,
        dashboard=Dashboard.WORKLOAD,
        labels=CONTAINER,
        summary="A GPU container was killed for want of the host's memory.",
        description=(
            "${CONTAINER} on node {{ $labels.node }} held a GPU and was killed by the kernel {{"
            ' $value | printf "%.0f" }} time(s) within ${window}: its limit of host memory, not of'
            " GPU memory, was too low."
        ),
        expr=f"sum by (${{CONTAINER}}) (\n{_KILLS}\n) > 0",
    ),
)
