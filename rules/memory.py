"""Alerts on containers that run out of GPU memory, or will."""

from textwrap import indent
from typing import Final

from rules.alert import ALLOCATION, CONTAINER, Alert, Audience, Dashboard
from rules.setting import number, ratio, seconds, window


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


_EVENT: Final = "${ALLOCATION_KEY}, confidence"
_SURE: Final = _new_ends('gpu_container_oom_events_total{confidence=~"confirmed|likely"}', _EVENT)
_POSSIBLE: Final = _new_ends('gpu_container_oom_events_total{confidence="possible"}', _EVENT)
_KILLS: Final = _new_ends("gpu_container_host_oom_kills_total", "${CONTAINER}")

MEMORY: Final = (
    Alert(
        name="GPUOutOfMemory",
        severity="warning",
        for_="0s",
        settings={"window": window("15m")},
        audience=Audience.OWNER,
        dashboard=Dashboard.WORKLOAD,
        labels=(*ALLOCATION, "confidence"),
        summary="A container ended for want of GPU memory.",
        description=(
            '${CONTAINER} ran out of the memory of ${DEVICE}: {{ $value | printf "%.0f" }} time(s)'
            " within ${window} (evidence: {{ $labels.confidence }})."
        ),
        expr=f"sum by (${{ALLOCATION}}, confidence) (\n{_SURE}\n) > 0",
    ),
    Alert(
        name="GPUOutOfMemoryPossible",
        severity="info",
        for_="0s",
        settings={"window": window("15m")},
        audience=Audience.OWNER,
        dashboard=Dashboard.WORKLOAD,
        labels=(*ALLOCATION, "confidence"),
        summary="A container may have ended for want of GPU memory.",
        description=(
            "${CONTAINER} failed with the memory of ${DEVICE} nearly full: {{ $value | printf"
            ' "%.0f" }} time(s) within ${window}.'
        ),
        expr=f"sum by (${{ALLOCATION}}, confidence) (\n{_POSSIBLE}\n) > 0",
    ),
    # By workload, for a Job's retries are pods of other names. A container on several GPUs ends
    # once: the device that tells most counts.
    Alert(
        name="GPUOutOfMemoryLoop",
        severity="critical",
        for_="0s",
        settings={
            "window": window("1h"),
            "events": number(3, "Ends for want of memory within the window."),
        },
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
            "    sum by (${ALLOCATION_KEY}) (\n"
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
        severity="warning",
        for_="5m",
        settings={"horizonSeconds": seconds(1800.0, "How far the growth is carried on.")},
        audience=Audience.OWNER,
        dashboard=Dashboard.WORKLOAD,
        labels=ALLOCATION,
        summary="A container's GPU memory grows towards its limit.",
        description=(
            "${CONTAINER} uses {{ $value | humanizePercentage }} of the memory of ${DEVICE}; at"
            " this rate it is full within {{ ${horizonSeconds} | humanizeDuration }}."
        ),
        expr="""
            max by (${ALLOCATION}) (
              gpu_container_memory_used_bytes / gpu_container_memory_limit_bytes
            )
            and on (${ALLOCATION_KEY})
            predict_linear(gpu_container_memory_used_bytes[30m], ${horizonSeconds})
            > gpu_container_memory_limit_bytes
            and on (${ALLOCATION_KEY})
            min_over_time(gpu_container_memory_used_bytes[9m])
            > max_over_time(gpu_container_memory_used_bytes[9m] offset 10m)
            and on (${ALLOCATION_KEY})
            min_over_time(gpu_container_memory_used_bytes[9m] offset 10m)
            > max_over_time(gpu_container_memory_used_bytes[9m] offset 20m)
            ${NOT_EXEMPT_MEMORY}
        """,
    ),
    Alert(
        name="GPUMemoryNearlyFull",
        severity="info",
        for_="15m",
        settings={
            "used": ratio(0.95, "Share of memory in use from which it is nearly full."),
            "change": ratio(
                0.01, "Change within 10 minutes below which memory counts as preallocated."
            ),
        },
        audience=Audience.OWNER,
        dashboard=Dashboard.WORKLOAD,
        labels=ALLOCATION,
        summary="A container has nearly all of its GPU's memory in use.",
        description=(
            "${CONTAINER} uses {{ $value | humanizePercentage }} of the memory of ${DEVICE}, and"
            " its use changes: it is not simply allocated beforehand."
        ),
        expr="""
            max by (${ALLOCATION}) (
              gpu_container_memory_used_bytes / gpu_container_memory_limit_bytes
            ) > ${used}
            and on (${ALLOCATION_KEY})
            (
              max_over_time(gpu_container_memory_used_bytes[10m])
              - min_over_time(gpu_container_memory_used_bytes[10m])
            ) / gpu_container_memory_limit_bytes >= ${change}
            ${NOT_EXEMPT_MEMORY}
        """,
    ),
    Alert(
        name="GPUContainerHostOOMKilled",
        severity="warning",
        for_="0s",
        settings={"window": window("15m")},
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
