"""Alerts on GPUs that are held and not used. They go to owners, and never page."""

from typing import Final

from rules.alert import CONTAINER, GPU, HELD, Alert, Audience, Dashboard

UNDERUSE: Final = (
    Alert(
        name="GPUContainerIdle",
        audience=Audience.OWNER,
        dashboard=Dashboard.WORKLOAD,
        labels=HELD,
        summary="A container holds a GPU and does not use it.",
        description=(
            "${CONTAINER} kept ${DEVICE} busy for {{ $value | humanizePercentage }} of the last"
            " ${window}, less than 1%: it idles. Nobody else can have the GPU meanwhile."
        ),
        expr="""
            ${IDLE}
            ${OLD_ENOUGH}
            ${NOT_EXEMPT_UNDERUSE}
        """,
    ),
    # What idles is the other alert's: hence the lower bound, and a "for" as long as the window, in
    # which what has just stopped comes to idle.
    Alert(
        name="GPUContainerUnderutilised",
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
            ) < ${busy} >= 0.01
            and on (${CONTAINER})
            last_over_time(gpu_allocation_info[15m] offset ${grace})
            ${NOT_EXEMPT_UNDERUSE}
        """,
    ),
    Alert(
        name="GPUMemoryHeldIdle",
        audience=Audience.OWNER,
        dashboard=Dashboard.WORKLOAD,
        labels=HELD,
        summary="An idle container keeps GPU memory.",
        description=(
            "${CONTAINER} holds {{ $value | humanize1024 }}B of the memory of ${DEVICE}, and kept"
            " it busy for less than 1% of the last ${window}."
        ),
        expr="""
            max by (${HELD}) (gpu_container_memory_used_bytes{${NAMESPACES}}) >= ${memoryBytes}
            and on (${HELD})
            (
              ${IDLE}
            )
            ${OLD_ENOUGH}
            ${NOT_EXEMPT_UNDERUSE}
        """,
    ),
    Alert(
        name="GPULowActivity",
        audience=Audience.OWNER,
        dashboard=Dashboard.EFFICIENCY,
        labels=HELD,
        summary="A GPU looks busy and does little.",
        description=(
            "${CONTAINER}: ${DEVICE} looks busy, but over ${window} its SMs were active for {{"
            " $value | humanizePercentage }}, with DRAM activity below {{ ${dram} |"
            " humanizePercentage }} and, of a whole board, power below {{ ${power} |"
            " humanizePercentage }} of its limit (GPU performance monitor)."
        ),
        expr="""
            max by (${HELD}) (
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
        audience=Audience.OWNER,
        dashboard=Dashboard.EFFICIENCY,
        labels=(*HELD, "profile", "source"),
        summary="A MIG slice would be enough for a container that holds a whole GPU.",
        description=(
            "${CONTAINER} holds ${DEVICE}, but within ${window} its peak memory fitted a {{"
            " $labels.profile }} slice and its {{ $labels.source }} stayed within the {{ $value |"
            " humanizePercentage }} of the SMs that such a slice has."
        ),
        expr="""
            max by (${HELD}) (gpu_allocation_info{sharing="exclusive", profile="", ${NAMESPACES}})
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
            and on (node, uuid) rate(gpu_busy_seconds_total[${window}]) >= 0.01
            unless on (${CONTAINER})
            count by (${CONTAINER}) (
              max by (${HELD}) (gpu_allocation_info)
            ) > 1
            and on (${HOLD})
            last_over_time(gpu_allocation_info[15m] offset ${window})
            ${NOT_EXEMPT_UNDERUSE}
        """,
    ),
    Alert(
        name="GPUUnallocated",
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
        audience=Audience.OWNER,
        dashboard=Dashboard.SHARING,
        labels=(*HELD, "pressure"),
        summary="Containers that share a GPU want more of it than there is.",
        description=(
            "${CONTAINER} shares ${DEVICE} with others, and of its {{ $labels.pressure }} {{"
            " $value | humanizePercentage }} were used over ${window}."
        ),
        expr="""
            max by (${HELD}) (
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
                  sum by (${HELD}) (rate(gpu_container_busy_seconds_total[${window}]))
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
                  max by (${HELD}) (gpu_allocation_info{sharing=~"time_sliced|mps"})
                ) > 1,
                "pressure", "memory", "", ""
              )
            )
            ${NOT_EXEMPT_UNDERUSE}
        """,
    ),
)
