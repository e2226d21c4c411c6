"""Alerts on GPUs and links that are slower than they could be."""

from typing import Final

from rules.alert import ALLOCATION, GPU, Alert, Audience, Dashboard
from rules.setting import Kind, Setting, number, ratio, window

SLOWDOWNS: Final = (
    Alert(
        name="GPUThermalSlowdown",
        severity="warning",
        for_="5m",
        keep="5m",
        settings={
            "window": window("5m"),
            "slowed": ratio(0.1, "Share of time slowed down from which it counts."),
        },
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
              count_over_time(gpu_clock_event_active{reason=~"(hw|sw)_thermal_slowdown"}[${window}])
              / on (${GPU}) group_left ()
              max by (${GPU}) (count_over_time(gpu_exporter_gpu_state[${window}]))
            ) > ${slowed}
            and on (node, uuid) gpu_exporter_gpu_state == 0
        """,
    ),
    Alert(
        name="GPUPowerBrakeSlowdown",
        severity="warning",
        for_="5m",
        keep="5m",
        settings={
            "window": window("5m"),
            "slowed": ratio(0.1, "Share of time slowed down from which it counts."),
        },
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
              count_over_time(gpu_clock_event_active{reason="hw_power_brake_slowdown"}[${window}])
              / on (${GPU}) group_left ()
              max by (${GPU}) (count_over_time(gpu_exporter_gpu_state[${window}]))
            ) > ${slowed}
            and on (node, uuid) gpu_exporter_gpu_state == 0
        """,
    ),
    Alert(
        name="GPUMemoryHot",
        severity="warning",
        for_="5m",
        keep="5m",
        settings={
            "marginCelsius": Setting(3.0, Kind.CELSIUS, "Distance from the memory's maximum.")
        },
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
        severity="warning",
        for_="15m",
        settings={
            "deviations": number(5, "Median absolute deviations below the median."),
            "below": ratio(0.05, "Part of the median that it is below it, at the least."),
            "peers": number(4, "GPUs of the workload from which they can be compared."),
            "busy": ratio(
                0.5, "Share of time the GPU is busy from which its clock means something."
            ),
        },
        audience=Audience.OPERATOR,
        dashboard=Dashboard.EFFICIENCY,
        labels=(*ALLOCATION, "workload_kind", "workload"),
        summary="A GPU is slower than the others of its job.",
        description=(
            "${GPU} runs {{ $value | humanizePercentage }} below the SM clock that is usual among"
            " the GPUs of {{ $labels.workload_kind }} {{ $labels.namespace }}/{{ $labels.workload"
            " }}: all of them wait for it."
        ),
        expr="""
            (
              1
              - max by (${ALLOCATION}, workload_kind, workload) (
                allocation:gpu_sm_clock:hertz_avg15m
              )
              / on (namespace, workload_kind, workload) group_left ()
              workload:gpu_sm_clock:hertz_median15m
            ) > ${below}
            and on (${ALLOCATION})
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
            and on (${ALLOCATION_KEY}) rate(gpu_container_busy_seconds_total[15m]) > ${busy}
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
        severity="warning",
        for_="10m",
        settings={
            "window": window("10m"),
            "busy": ratio(0.1, "Share of time busy from which the link should be at its best."),
        },
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
        severity="warning",
        for_="5m",
        settings={
            "window": window("15m"),
            "perMinute": number(8, "Replays a minute that are too many."),
        },
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
        severity="warning",
        for_="5m",
        settings={"window": window("1d", "How far back a link that is down was up.")},
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
        severity="warning",
        for_="0s",
        settings={"window": window("15m")},
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
