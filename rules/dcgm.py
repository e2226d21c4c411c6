"""For who runs DCGM-exporter beside us: the alert that articles print, on DCGM's names."""

from typing import Final

from rules.alert import Alert, Audience, Dashboard
from rules.setting import number

DCGM: Final = (
    Alert(
        name="GPUUnderutilized",
        severity="warning",
        for_="30m",
        settings={"percent": number(50, "Utilization in percent, as DCGM tells it.")},
        audience=Audience.OWNER,
        dashboard=Dashboard.FLEET,
        labels=("Hostname", "gpu", "UUID", "namespace", "pod", "container"),
        summary="A GPU is underutilized.",
        description=(
            "GPU {{ $labels.gpu }} on {{ $labels.Hostname }} has a utilization of {{ $value }} %,"
            " below ${percent} %."
        ),
        expr="""
            max by (Hostname, gpu, UUID, namespace, pod, container) (
              label_replace(
                DCGM_FI_DEV_GPU_UTIL, "Hostname", "$1", "hostname", "(.+)"
              )
            ) < ${percent}
        """,
    ),
)
