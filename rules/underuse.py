"""Alerts on GPUs that are held and not used. They go to owners, and never page."""

from typing import Final

from rules.alert import ALLOCATION, CONTAINER, GPU, Alert, Audience, Dashboard
from rules.setting import ratio, window

UNDERUSE: Final = (
    Alert(
        name="GPUContainerIdle",
        severity="warning",
        for_="5m",
        keep="10m",
        audience=Audience.OWNER,
        dashboard=Dashboard.WORKLOAD,
        labels=ALLOCATION,
        summary="A container holds a GPU and does not use it.",
        description=(
            "${CONTAINER} kept ${DEVICE} busy for {{ $value | humanizePercentage }} of the last"
            " ${idleWindow}, which is less than {{ ${idleRatio} | humanizePercentage }}. No other"
            " container can use the GPU meanwhile."
        ),
        expr="""
            max by (${ALLOCATION}) (allocation:gpu_recent_use:ratio{${NAMESPACES}})
            and on (${ALLOCATION_KEY}) allocation:gpu_idle:bool == 1
            unless on (${ALLOCATION_KEY})
            max by (${ALLOCATION}) (
              last_over_time(gpu_container_memory_used_bytes[5m])
            ) >= ${idleMemoryBytes}
            ${OLD_ENOUGH}
            ${NOT_EXEMPT_UNDERUSE}
        """,
    ),
    # What idles is the other alert's: hence the lower bound, and a "for" as long as the window, in
    # which what has just stopped comes to idle.
    Alert(
        name="GPUContainerUnderutilized",
        severity="warning",
        for_="30m",
        settings={
            "window": window("30m"),
            "busy": ratio(0.5, "Mean share of time busy below which it is underutilized."),
        },
        audience=Audience.OWNER,
        dashboard=Dashboard.WORKLOAD,
        labels=CONTAINER,
        summary="A container uses little of the GPUs that it holds.",
        description=(
            "${CONTAINER} on node {{ $labels.node }} kept its GPUs busy for {{ $value |"
            " humanizePercentage }} of the last ${window}, less than {{ ${busy} |"
            " humanizePercentage }}."
        ),
        expr="""
            (
              sum by (${CONTAINER}) (
                rate(gpu_container_busy_seconds_total{${NAMESPACES}}[${window}])
              )
              /
              sum by (${CONTAINER}) (
                rate(gpu_container_allocated_seconds_total{${NAMESPACES}}[${window}])
                and gpu_container_busy_seconds_total
              )
            ) < ${busy} >= ${idleRatio}
            and on (${CONTAINER})
            last_over_time(gpu_allocation_info[15m] offset ${grace})
            ${NOT_EXEMPT_UNDERUSE}
        """,
    ),
    Alert(
        name="GPUMemoryHeldIdle",
        severity="warning",
        for_="5m",
        keep="10m",
        audience=Audience.OWNER,
        dashboard=Dashboard.WORKLOAD,
        labels=ALLOCATION,
        summary="An idle container keeps GPU memory.",
        description=(
            "${CONTAINER} holds {{ $value | humanize1024 }}B of the memory of ${DEVICE}, and kept"
            " it busy for less than {{ ${idleRatio} | humanizePercentage }} of the last"
            " ${idleWindow}."
        ),
        expr="""
            max by (${ALLOCATION}) (
              gpu_container_memory_used_bytes{${NAMESPACES}}
            ) >= ${idleMemoryBytes}
            and on (${ALLOCATION_KEY}) allocation:gpu_idle:bool == 1
            ${OLD_ENOUGH}
            ${NOT_EXEMPT_UNDERUSE}
        """,
    ),
    Alert(
        name="GPULowActivity",
        severity="info",
        for_="15m",
        settings={
            "window": window("30m"),
            "busy": ratio(0.8, "Utilization from which the GPU looks busy."),
            "sm": ratio(0.2, "SM activity below which it is not."),
            "dram": ratio(0.2, "DRAM activity below which it is not."),
            "power": ratio(0.5, "Part of the power limit below which it is not."),
        },
        audience=Audience.OWNER,
        dashboard=Dashboard.EFFICIENCY,
        labels=ALLOCATION,
        summary="A GPU looks busy and does little.",
        description=(
            "${CONTAINER}: ${DEVICE} looks busy, but over ${window} its SMs were active for {{"
            " $value | humanizePercentage }}, with DRAM activity below {{ ${dram} |"
            " humanizePercentage }} and, of a whole board, power below {{ ${power} |"
            " humanizePercentage }} of its limit (GPU performance monitor)."
        ),
        expr="""
            max by (${ALLOCATION}) (
              gpu_allocation_info{sharing!~"time_sliced|mps", ${NAMESPACES}}
            )
            * on (node, uuid) group_left ()
            (
              max by (node, uuid) (avg_over_time(gpu_sm_activity_ratio[${window}])) < ${sm}
              and on (node, uuid) avg_over_time(gpu_dram_activity_ratio[${window}]) < ${dram}
              and on (node, uuid) rate(gpu_busy_seconds_total[${window}]) > ${busy}
              and on (node, uuid)
              avg_over_time(gpu_power_draw_watts[${window}]) / gpu_power_limit_watts < ${power}
              or
              max by (node, uuid) (avg_over_time(gpu_mig_sm_activity_ratio[${window}])) < ${sm}
              and on (node, uuid) avg_over_time(gpu_mig_dram_activity_ratio[${window}]) < ${dram}
              and on (node, uuid) rate(gpu_mig_busy_seconds_total[${window}]) > ${busy}
            )
            ${OLD_ENOUGH}
            ${NOT_EXEMPT_UNDERUSE}
        """,
    ),
    # What idles is told of by another alert, and a slice works for one container alone.
    Alert(
        name="GPUOversized",
        severity="info",
        for_="1h",
        settings={
            "window": window("6h"),
            "memory": ratio(0.9, "Share of a slice's memory that the highest use may take."),
        },
        audience=Audience.OWNER,
        dashboard=Dashboard.EFFICIENCY,
        labels=(*ALLOCATION, "profile", "source"),
        summary="A MIG slice would be enough for a container that holds a whole GPU.",
        description=(
            "${CONTAINER} holds ${DEVICE}, but within ${window} its peak memory fitted a {{"
            " $labels.profile }} slice and its {{ $labels.source }} stayed within the {{ $value |"
            " humanizePercentage }} of the SMs that such a slice has."
        ),
        expr="""
            max by (${ALLOCATION}) (
              gpu_allocation_info{sharing="exclusive", profile="", ${NAMESPACES}}
            )
            * on (node, uuid) group_left (profile, source)
            bottomk by (node, uuid) (1,
              gpu:gpu_mig_profile_sm:ratio
              >= on (node, uuid) group_left (source)
              (
                label_replace(
                  max by (node, uuid) (quantile_over_time(0.95, gpu_sm_activity_ratio[${window}])),
                  "source", "SM activity", "", ""
                )
                or on (node, uuid)
                label_replace(
                  max by (node, uuid) (quantile_over_time(0.95, gpu_utilization_ratio[${window}])),
                  "source", "utilization", "", ""
                )
              )
              and on (node, uuid, profile)
              gpu:gpu_mig_profile_memory:bytes * ${memory}
              >= on (node, uuid) group_left ()
              max by (node, uuid) (max_over_time(gpu_memory_used_peak_bytes[${window}]))
            )
            and on (node, uuid) rate(gpu_busy_seconds_total[${window}]) >= ${idleRatio}
            unless on (${CONTAINER})
            count by (${CONTAINER}) (
              max by (${ALLOCATION}) (gpu_allocation_info)
            ) > 1
            and on (${ALLOCATION_KEY})
            last_over_time(gpu_allocation_info[15m] offset ${window})
            ${NOT_EXEMPT_UNDERUSE}
        """,
    ),
    Alert(
        name="GPUUnallocated",
        severity="info",
        for_="5m",
        settings={"window": window("1d")},
        audience=Audience.OPERATOR,
        dashboard=Dashboard.FLEET,
        labels=("node", "resource"),
        summary="GPUs of a node have been free for long.",
        description=(
            "{{ $value }} of the devices {{ $labels.resource }} of node {{ $labels.node }} have"
            " been held by no container at any time within ${window}."
        ),
        expr="""
            min_over_time(node:gpu_unallocated:devices[${window}]) > 0
            and node:gpu_unallocated:devices
            and last_over_time(node:gpu_unallocated:devices[15m] offset ${window})
        """,
    ),
    # Of a shared GPU nobody can tell whose the work is without the host's processes.
    Alert(
        name="GPUUsedOutsidePods",
        severity="warning",
        for_="15m",
        settings={
            "window": window("15m"),
            "busy": ratio(0.05, "Share of time busy for nobody from which it counts."),
        },
        audience=Audience.OPERATOR,
        dashboard=Dashboard.NODE,
        labels=GPU,
        summary="A GPU is used by processes outside any pod.",
        description=(
            "${GPU} was busy for {{ $value | humanizePercentage }} of the last ${window} with"
            " work that is no container's."
        ),
        expr="""
            max by (${GPU}) (rate(gpu_unattributed_busy_seconds_total[${window}])) > ${busy}
            unless on (node, uuid)
            (
              gpu_allocation_info{sharing=~"time_sliced|mps"}
              unless on (node) (gpu_exporter_source_up{source="processes"} == 1)
            )
        """,
    ),
    Alert(
        name="GPUSharedOversubscribed",
        severity="info",
        for_="15m",
        settings={
            "window": window("30m"),
            "busy": ratio(0.95, "Share of time busy from which there is no time left."),
            "tenant": ratio(
                0.1, "Share of time busy from which a container counts as one that works."
            ),
            "memory": ratio(0.95, "Share of memory in use from which there is none left."),
        },
        audience=Audience.OWNER,
        dashboard=Dashboard.SHARING,
        labels=(*ALLOCATION, "pressure"),
        summary="Containers that share a GPU want more of it than there is.",
        description=(
            "${CONTAINER} shares ${DEVICE} with others, and of its {{ $labels.pressure }} {{"
            " $value | humanizePercentage }} were used over ${window}."
        ),
        expr="""
            max by (${ALLOCATION}) (
              gpu_allocation_info{sharing=~"time_sliced|mps", ${NAMESPACES}}
            )
            * on (node, uuid) group_left (pressure)
            (
              label_replace(
                max by (node, uuid) (
                  rate(gpu_busy_seconds_total[${window}])
                  or rate(gpu_mig_busy_seconds_total[${window}])
                ) >= ${busy}
                and on (node, uuid)
                count by (node, uuid) (
                  sum by (${ALLOCATION}) (rate(gpu_container_busy_seconds_total[${window}]))
                  >= ${tenant}
                ) > 1,
                "pressure", "time", "", ""
              )
              or on (node, uuid)
              label_replace(
                max by (node, uuid) (
                  avg_over_time(gpu_memory_used_bytes[${window}]) / gpu_memory_total_bytes
                  or avg_over_time(gpu_mig_memory_used_bytes[${window}])
                  / gpu_mig_memory_total_bytes
                ) >= ${memory}
                and on (node, uuid)
                count by (node, uuid) (
                  max by (${ALLOCATION}) (gpu_allocation_info{sharing=~"time_sliced|mps"})
                ) > 1,
                "pressure", "memory", "", ""
              )
            )
            ${NOT_EXEMPT_UNDERUSE}
        """,
    ),
)
