"""The simulated node's pods as an API server has them: what kubelets write into their status."""

import math
import re
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from exporter.gpus.simulated.containers import ContainerState, Run
from exporter.kubernetes.pods import EXEMPT
from exporter.model.claims import PodName


def by_pod(states: Iterable[ContainerState]) -> Mapping[PodName, Sequence[ContainerState]]:
    """Group containers by their pods. Of their processes, the API server knows nothing."""
    found: defaultdict[PodName, list[ContainerState]] = defaultdict(list)
    for state in states:
        container = state.container
        found[container.pod_name].append(replace(state, pids=()))
    return found


def manifest(states: Sequence[ContainerState], node: str, cycle: int) -> dict[str, Any]:
    """Return a pod of these containers; in another ``cycle`` of the scenario it is another pod.

    ``name-0`` is the first of a StatefulSet ``name``.
    """
    first = states[0].container
    uid = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{first.namespace}/{first.pod}/{cycle}"))
    metadata: dict[str, Any] = {
        "name": first.pod,
        "namespace": first.namespace,
        "uid": uid,
        "labels": {"team": first.namespace, "app.kubernetes.io/name": first.pod},
    }
    if exempt := next((state.exempt for state in states if state.exempt), ""):
        metadata["annotations"] = {EXEMPT: exempt}
    if numbered := re.fullmatch(r"(.+)-\d+", first.pod):
        owner = {"kind": "StatefulSet", "name": numbered[1], "uid": uid, "controller": True}
        metadata["ownerReferences"] = [{"apiVersion": "apps/v1", **owner}]
        metadata["labels"]["app.kubernetes.io/name"] = numbered[1]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "nodeName": node,
            "containers": [
                {
                    "name": state.container.name,
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                }
                for state in states
            ],
        },
        "status": {
            "phase": _phase(states),
            "containerStatuses": [_status(state, uid) for state in states],
        },
    }


def _phase(states: Sequence[ContainerState]) -> str:
    ends = [None if state.restarts else state.run.end for state in states]
    if None in ends:
        return "Running"
    return "Failed" if any(end and end.exit_code for end in ends) else "Succeeded"


def _status(state: ContainerState, uid: str) -> dict[str, Any]:
    run, name = state.run, state.container.name
    runs = run.end is None
    last = state.before
    if runs:
        present = {"running": {"startedAt": _time(run.started)}}
    elif state.restarts:
        message = f"back-off restarting failed container={name} pod={state.container.pod}"
        present, last = {"waiting": {"reason": "CrashLoopBackOff", "message": message}}, run
    else:
        present = _terminated(run, name, uid)
    return {
        "name": name,
        "ready": runs,
        "started": runs,
        "restartCount": run.number,
        "containerID": _container_id(run, name, uid),
        "state": present,
        "lastState": _terminated(last, name, uid) if last else {},
    }


def _terminated(run: Run, name: str, uid: str) -> dict[str, Any]:
    end = run.end
    if end is None:
        return {}
    terminated = {
        "exitCode": end.exit_code,
        "reason": end.reason,
        "startedAt": _time(run.started),
        "finishedAt": _time(end.finished),
        "containerID": _container_id(run, name, uid),
    }
    return {"terminated": terminated | ({"message": end.message} if end.message else {})}


def _container_id(run: Run, name: str, uid: str) -> str:
    """Return an id of 64 hexadecimal digits, as containerd gives each run."""
    of_container = uuid.uuid5(uuid.UUID(uid), name).hex
    return f"containerd://{of_container}{run.number:032x}"


def _time(timestamp: float) -> str:
    """Round down to the second, like the kubelet."""
    return datetime.fromtimestamp(math.floor(timestamp), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
