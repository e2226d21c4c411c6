"""Alerts on GPUs and links that are slower than they could be."""

from typing import Final

from rules.alert import GPU, HELD, Alert, Audience, Dashboard

SLOWDOWNS: Final = (
    Alert(
        name="GPUThermalSlowdown",
        audience=Audience.OPERATOR,
        dashboard=Dashboard.HEALTH,
        labels=GPU,
        summary="A GPU slows down because it is hot.",
        description=(
            "${GPU} was slowed down by heat for {{ $value | humanizePercentage }} of the last"
            " ${window}."
        ),
        expr="""
            max by (${GPU}) (
              rate(gpu_clock_event_seconds_total{reason=~"(hw_|sw_)?thermal(_slowdown)?"}[${window}])
              or
              avg_over_time(gpu_clock_event_active{reason=~"(hw|sw)_thermal_slowdown"}[${window}])
            ) > ${slowed}
            and on (node, uuid) gpu_clock_event_active
        """,
    ),
    Alert(
        name="GPUPowerBrakeSlowdown",
        audience=Audience.OPERATOR,
        dashboard=Dashboard.HEALTH,
        labels=GPU,
        summary="A GPU slows down because its power supply says so.",
        description=(
            "${GPU} was slowed down by the power brake for {{ $value | humanizePercentage }} of"
            " the last ${window}: the chassis or rack lacks power."
        ),
        expr="""
            max by (${GPU}) (
              rate(gpu_clock_event_seconds_total{reason="hw_power_brake_slowdown"}[${window}])
              or
              avg_over_time(gpu_clock_event_active{reason="hw_power_brake_slowdown"}[${window}])
            ) > ${slowed}
            and on (node, uuid) gpu_clock_event_active
        """,
    ),
    Alert(
        name="GPUMemoryHot",
        audience=Audience.OPERATOR,
        dashboard=Dashboard.HEALTH,
        labels=GPU,
        summary="A GPU's memory is too hot.",
        description=(
            "The memory of ${GPU} is at {{ $value }} °C, less than ${marginCelsius} °C below its"
            " maximum."
        ),
        expr="""
            max by (${GPU}) (gpu_temperature_celsius{sensor="memory"})
            > on (${GPU})
            max by (${GPU}) (gpu_temperature_threshold_celsius{threshold="memory_max"})
            - ${marginCelsius}
        """,
    ),
    # A replica without requests rests at a low clock, and models have clocks of their own.
    Alert(
        name="GPUSlowerThanPeers",
        audience=Audience.OPERATOR,
        dashboard=Dashboard.EFFICIENCY,
        labels=(*HELD, "workload_kind", "workload"),
        summary="A GPU is slower than the others of its job.",
        description=(
            "${GPU} runs {{ $value | humanizePercentage }} below the SM clock that is usual among"
            " the GPUs of {{ $labels.workload_kind }} {{ $labels.namespace }}/{{ $labels.workload"
            " }}: all of them wait for it."
        ),
        expr="""
            (
              1 - max by (${HELD}, workload_kind, workload) (allocation:gpu_sm_clock:hertz_avg15m)
              / on (namespace, workload_kind, workload) group_left ()
              workload:gpu_sm_clock:hertz_median15m
            ) > ${below}
            and on (${HELD})
              allocation:gpu_sm_clock:hertz_avg15m
              < on (namespace, workload_kind, workload) group_left ()
              (
                workload:gpu_sm_clock:hertz_median15m
                - ${deviations} * workload:gpu_sm_clock:hertz_mad15m
              )
            and on (namespace, workload_kind, workload)
              count by (namespace, workload_kind, workload) (
                allocation:gpu_sm_clock:hertz_avg15m
              ) >= ${peers}
            and on (${HOLD}) rate(gpu_container_busy_seconds_total[15m]) > ${busy}
            unless on (namespace, workload_kind, workload)
              count by (namespace, workload_kind, workload) (
                count by (namespace, workload_kind, workload, model) (
                  allocation:gpu_sm_clock:hertz_avg15m
                  * on (node, uuid) group_left (model)
                  topk by (node, uuid) (1, gpu_info)
                )
              ) > 1
        """,
    ),
)

LINKS: Final = (
    # An idle link slows down to save power.
    Alert(
        name="GPUPcieLinkDegraded",
        audience=Audience.OPERATOR,
        dashboard=Dashboard.HEALTH,
        labels=(*GPU, "what"),
        summary="A GPU's PCIe link is narrower or slower than it can be.",
        description=(
            "The PCIe {{ $labels.what }} of ${GPU} was at most {{ $value }} over ${window} of"
            " work, less than board and slot can do together."
        ),
        expr="""
            max by (${GPU}, what) (
              label_replace(
                max_over_time(gpu_pcie_link_width[${window}]) < gpu_pcie_link_width_max,
                "what", "width", "", ""
              )
              or
              label_replace(
                max_over_time(gpu_pcie_link_generation[${window}]) < gpu_pcie_link_generation_max,
                "what", "generation", "", ""
              )
            )
            and on (node, uuid) rate(gpu_busy_seconds_total[${window}]) > ${busy}
        """,
    ),
    Alert(
        name="GPUPcieReplays",
        audience=Audience.OPERATOR,
        dashboard=Dashboard.HEALTH,
        labels=GPU,
        summary="A GPU's PCIe link sends much again.",
        description=(
            "${GPU} sent {{ $value | humanize }} PCIe packets a minute again over ${window}:"
            " slot, riser or cable."
        ),
        expr="max by (${GPU}) (rate(gpu_pcie_replays_total[${window}])) * 60 > ${perMinute}",
    ),
    Alert(
        name="GPUNvlinkDown",
        audience=Audience.OPERATOR,
        dashboard=Dashboard.HEALTH,
        labels=GPU,
        summary="NVLink links of a GPU are down.",
        description=(
            "{{ $value }} NVLink links of ${GPU} are down that were up within ${window}, or that"
            " are up on the like boards beside it."
        ),
        expr="""
            max by (${GPU}) (
              max_over_time(gpu_nvlink_active_links[${window}]) - gpu_nvlink_active_links > 0
              or
              gpu_info
              * on (node, uuid) group_left ()
              max by (node, uuid) (-gpu_nvlink_active_links)
              + on (node, model) group_left ()
              max by (node, model) (
                gpu_info * on (node, uuid) group_left ()
                max by (node, uuid) (gpu_nvlink_active_links)
              ) > 0
              and on (node, uuid) max_over_time(gpu_nvlink_active_links[${window}]) > 0
            )
        """,
    ),
    Alert(
        name="GPUNvlinkErrors",
        audience=Audience.OPERATOR,
        dashboard=Dashboard.HEALTH,
        labels=(*GPU, "kind"),
        summary="A GPU's NVLink has errors.",
        description=(
            '${GPU} had {{ $value | printf "%.0f" }} NVLink errors of kind {{ $labels.kind }}'
            " within ${window}."
        ),
        expr="sum by (${GPU}, kind) (increase(gpu_nvlink_errors_total[${window}])) > 0",
    ),
)
