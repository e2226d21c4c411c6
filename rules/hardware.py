"""Alerts on GPUs that are lost, broken, or about to be. They go to whoever runs the nodes."""

from typing import Final

from rules.alert import GPU, Alert, Audience, Dashboard
from rules.setting import number, window

# Names the action that stands behind the number of gpu_recovery_action.
_ACTION: Final = (
    "".join(
        f"{{{{{'else ' if number > 1 else ''}if eq $value {number}.0 }}}}{words}"
        for number, words in enumerate(
            (
                "a reset of the GPU",
                "a reboot of the node",
                "a drain of its peer-to-peer work",
                "a drain and a reset",
                "a recovery of the IMEX domain",
                "a reset of the bus",
                "a reboot of the system",
            ),
            start=1,
        )
    )
    + "{{ else }}an action that this exporter does not know{{ end }}"
)

STATES: Final = (
    Alert(
        name="GPULost",
        severity="critical",
        for_="0s",
        keep="10m",
        audience=Audience.OPERATOR,
        dashboard=Dashboard.HEALTH,
        labels=GPU,
        summary="A GPU has fallen off the bus.",
        description=(
            "The driver can't reach ${GPU} any more. What ran on it is dead; its node has one GPU"
            " less."
        ),
        expr="max by (${GPU}) (gpu_exporter_gpu_state) == 1",
    ),
    Alert(
        name="GPUHung",
        severity="critical",
        for_="2m",
        keep="10m",
        audience=Audience.OPERATOR,
        dashboard=Dashboard.HEALTH,
        labels=GPU,
        summary="A GPU does not answer.",
        description="A read of ${GPU} does not return. What runs on it most likely hangs too.",
        expr="max by (${GPU}) (gpu_exporter_gpu_state) == 2",
    ),
    Alert(
        name="GPUUnreadable",
        severity="warning",
        for_="10m",
        audience=Audience.OPERATOR,
        dashboard=Dashboard.HEALTH,
        labels=GPU,
        summary="A GPU can't be read.",
        description=(
            "Every read of ${GPU} fails, though it is neither lost nor hung: of what runs on it"
            " nothing is known."
        ),
        expr="max by (${GPU}) (gpu_exporter_gpu_state) == 3",
    ),
    Alert(
        name="GPUDriverDown",
        severity="critical",
        for_="10m",
        settings={"window": window("1d", "How far back the node was known to have GPUs.")},
        audience=Audience.OPERATOR,
        dashboard=Dashboard.HEALTH,
        labels=("node",),
        summary="A node's GPU driver does not answer.",
        description=(
            "On node {{ $labels.node }} the GPU driver does not answer: none of its GPUs can be"
            " used."
        ),
        # A node without GPUs has no driver either, and may well have an exporter.
        expr="""
            max by (node) (gpu_exporter_source_up{source=~"nvml|simulated"}) == 0
            and on (node)
            (
              max_over_time(node:gpu_known:gpus[${window}]) > 0
              or max by (node) (max_over_time(gpu_allocatable_devices[${window}])) > 0
            )
        """,
    ),
    # The kubelet counts shares where GPUs are shared: then the number of GPUs divides theirs. So it
    # may after a loss (four of eight): for those there is the long window.
    Alert(
        name="GPUFewerThanAdvertised",
        severity="warning",
        for_="10m",
        settings={"window": window("7d", "How far back a board that is missing was there.")},
        audience=Audience.OPERATOR,
        dashboard=Dashboard.NODE,
        labels=("node",),
        summary="A node has fewer GPUs than it should.",
        description=(
            "Node {{ $labels.node }} lacks {{ $value }} GPUs of those that its kubelet"
            " advertises, or that it had within ${window}."
        ),
        expr="""
            (
              max by (node) (gpu_allocatable_devices{resource="nvidia.com/gpu"})
              - on (node)
              (
                node:gpu_known:gpus + on (node) count by (node) (gpu_mig_info)
                or node:gpu_known:gpus
              )
              > 0
              unless on (node)
              max by (node) (gpu_allocatable_devices{resource="nvidia.com/gpu"})
              % on (node) node:gpu_known:gpus == 0
              unless on (node) gpu_allocation_info{sharing=~"time_sliced|mps"}
            )
            or
            max_over_time(node:gpu_known:gpus[${window}]) - node:gpu_known:gpus > 0
        """,
    ),
    Alert(
        name="GPURecoveryActionNeeded",
        severity="critical",
        for_="2m",
        keep="10m",
        audience=Audience.OPERATOR,
        dashboard=Dashboard.HEALTH,
        labels=GPU,
        summary="A GPU's driver asks for a recovery.",
        description=f"To recover ${{GPU}} the driver asks for {_ACTION}.",
        expr="max by (${GPU}) (gpu_recovery_action) > 0",
    ),
)

ERRORS: Final = (
    Alert(
        name="GPUEccUncorrectable",
        severity="warning",
        for_="0s",
        settings={"window": window("1h")},
        audience=Audience.OPERATOR,
        dashboard=Dashboard.HEALTH,
        labels=(*GPU, "location"),
        summary="A GPU's memory had an error that could not be corrected.",
        description=(
            '${GPU} had {{ $value | printf "%.0f" }} uncorrectable ECC errors in {{'
            " $labels.location }} within ${window}. What ran on it got wrong data or was ended."
        ),
        expr="""
            sum by (${GPU}, location) (
              increase(gpu_ecc_errors_total{severity="uncorrected"}[${window}])
            ) > 0
        """,
    ),
    Alert(
        name="GPURowRemapPending",
        severity="warning",
        for_="5m",
        audience=Audience.OPERATOR,
        dashboard=Dashboard.HEALTH,
        labels=GPU,
        summary="A GPU waits for a reset to replace a memory row.",
        description="${GPU} has a memory row with errors, and replaces it at its next reset.",
        expr="max by (${GPU}) (gpu_row_remap_pending) == 1",
    ),
    Alert(
        name="GPURowRemapFailed",
        severity="critical",
        for_="5m",
        keep="10m",
        audience=Audience.OPERATOR,
        dashboard=Dashboard.HEALTH,
        labels=GPU,
        summary="A GPU could not replace a memory row.",
        description=(
            "${GPU} has no spare row left for one with errors: the board has to be replaced."
        ),
        expr="max by (${GPU}) (gpu_row_remap_failed) == 1",
    ),
    Alert(
        name="GPURetiredPages",
        severity="warning",
        for_="5m",
        settings={"pages": number(60, "Pages from which NVIDIA replaces the board.")},
        audience=Audience.OPERATOR,
        dashboard=Dashboard.HEALTH,
        labels=GPU,
        summary="A GPU retires memory pages.",
        description=(
            "${GPU} has retired {{ $value }} memory pages, and one of these holds: another page"
            " waits for a reboot, or they are as many as NVIDIA replaces a board for (${pages})."
        ),
        expr="""
            sum by (${GPU}) (gpu_retired_pages) >= ${pages}
            or
            sum by (${GPU}) (gpu_retired_pages)
            and on (${GPU}) gpu_retired_pages_pending == 1
        """,
    ),
)
