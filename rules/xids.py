"""Alerts on the driver's error codes, by what NVIDIA says to do about them."""

from typing import Final

from rules.alert import ALLOCATION, GPU, Alert, Audience, Dashboard
from rules.setting import seconds

# A code has no series before it is first reported, so the time of the last report is looked at.
XIDS: Final = (
    Alert(
        name="GPUXidApplication",
        severity="warning",
        for_="0s",
        settings={"sinceSeconds": seconds(300.0, "How long after the last one the alert stays.")},
        audience=Audience.OWNER,
        dashboard=Dashboard.WORKLOAD,
        labels=(*ALLOCATION, "xid"),
        summary="An application made its GPU report an error.",
        description=(
            "${GPU} reported XID {{ $labels.xid }} {{ $value | humanizeDuration }} ago, which is"
            " an application's error. ${CONTAINER} holds it or did just then: look into its log,"
            " and restart it."
        ),
        expr="""
            max by (${ALLOCATION}, xid) (
              allocation:gpu_allocation:last5m
              * on (node, gpu_uuid) group_left (xid)
              bottomk by (node, gpu_uuid) (1,
                label_replace(
                  max by (node, uuid, xid) (
                    time() - gpu_xid_last_timestamp_seconds{action="restart_app"}
                  ) < ${sinceSeconds},
                  "gpu_uuid", "$1", "uuid", "(.+)"
                )
              )
            )
        """,
    ),
    Alert(
        name="GPUXidResetGPU",
        severity="critical",
        for_="0s",
        keep="10m",
        settings={"sinceSeconds": seconds(86400.0, "How long after the last one the alert stays.")},
        audience=Audience.OPERATOR,
        dashboard=Dashboard.HEALTH,
        labels=(*GPU, "xid", "action"),
        summary="A GPU needs a reset.",
        description=(
            "${GPU} reported XID {{ $labels.xid }} {{ $value | humanizeDuration }} ago; NVIDIA"
            " says to reset it: drain the node's GPU pods first."
        ),
        expr="""
            max by (${GPU}, xid, action) (
              time() - gpu_xid_last_timestamp_seconds{action="reset_gpu"}
            ) < ${sinceSeconds}
        """,
    ),
    Alert(
        name="GPUXidRestartNode",
        severity="critical",
        for_="0s",
        keep="10m",
        settings={"sinceSeconds": seconds(86400.0, "How long after the last one the alert stays.")},
        audience=Audience.OPERATOR,
        dashboard=Dashboard.HEALTH,
        labels=(*GPU, "xid", "action"),
        summary="A GPU needs its node restarted.",
        description=(
            "${GPU} reported XID {{ $labels.xid }} {{ $value | humanizeDuration }} ago; NVIDIA"
            " says to restart the node."
        ),
        expr="""
            max by (${GPU}, xid, action) (
              time() - gpu_xid_last_timestamp_seconds{action="restart_node"}
            ) < ${sinceSeconds}
        """,
    ),
    Alert(
        name="GPUXidHardware",
        severity="warning",
        for_="0s",
        settings={"sinceSeconds": seconds(3600.0, "How long after the last one the alert stays.")},
        audience=Audience.OPERATOR,
        dashboard=Dashboard.HEALTH,
        labels=(*GPU, "xid", "action"),
        summary="A GPU reported an error that needs looking into.",
        description=(
            "${GPU} reported XID {{ $labels.xid }} {{ $value | humanizeDuration }} ago; what"
            " NVIDIA says to do is {{ $labels.action }}."
        ),
        expr="""
            max by (${GPU}, xid, action) (
              time()
              - gpu_xid_last_timestamp_seconds{action=~"check_.+|update_driver|contact_support"}
            ) < ${sinceSeconds}
        """,
    ),
    Alert(
        name="GPUXidFollowUp",
        severity="info",
        for_="0s",
        settings={"sinceSeconds": seconds(900.0, "How long after the last one the alert stays.")},
        audience=Audience.OPERATOR,
        dashboard=Dashboard.HEALTH,
        labels=(*GPU, "xid", "action"),
        summary="A GPU's work was ended because of another error.",
        description=(
            "${GPU} reported XID {{ $labels.xid }} {{ $value | humanizeDuration }} ago; another"
            " XID, or whoever ended the application, tells why."
        ),
        expr="""
            max by (${GPU}, xid, action) (
              time() - gpu_xid_last_timestamp_seconds{action="follow_up"}
            ) < ${sinceSeconds}
        """,
    ),
    Alert(
        name="GPUXidUnknown",
        severity="warning",
        for_="0s",
        settings={"sinceSeconds": seconds(3600.0, "How long after the last one the alert stays.")},
        audience=Audience.OPERATOR,
        dashboard=Dashboard.HEALTH,
        labels=(*GPU, "xid", "action"),
        summary="A GPU reported an error that the catalogue does not list.",
        description=(
            "${GPU} reported XID {{ $labels.xid }} {{ $value | humanizeDuration }} ago; it is in"
            " none of the lists that this exporter knows: look it up in NVIDIA's."
        ),
        expr="""
            max by (${GPU}, xid, action) (
              time() - gpu_xid_last_timestamp_seconds{action="unknown"}
            ) < ${sinceSeconds}
        """,
    ),
)
