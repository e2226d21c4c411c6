"""From a pod's owner and labels to the workload that people know it by.

A pod's owner is often only the last link: a ReplicaSet of a Deployment, a Job of a CronJob. What
stands behind it is in the owner's name, or in labels that launchers and operators put on their
pods. The API server is not asked for more.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

Pod = Mapping[str, Any]
_Labels = Mapping[str, str]

_SCHEDULED_JOB: Final = re.compile(r"(.+)-\d{8,}")
_OPERATORS: Final = {
    "jaxjob-controller": "JAXJob",
    "mpijob-controller": "MPIJob",
    "mpi-operator": "MPIJob",
    "paddlejob-controller": "PaddleJob",
    "pytorchjob-controller": "PyTorchJob",
    "tfjob-controller": "TFJob",
    "xgboostjob-controller": "XGBoostJob",
}


def workload(pod: Pod) -> tuple[str, str]:
    """Return the kind and the name of what brought ``pod`` about; a bare pod brought itself.

    Launchers and operators come before the built-in kinds that they work through. An owner of a
    kind that we don't know is returned as it is.
    """
    metadata = pod["metadata"]
    labels = metadata.get("labels") or {}
    for label, kind in _BY_LABEL:
        if name := labels.get(label):
            found = kind if isinstance(kind, str) else kind(pod)
            if found:
                return found, name
    if labels.get("wandb.ai/monitor") == "true":
        return "WandbLaunch", _environment(pod).get("WANDB_RUN_ID") or _owner(pod)[1]
    kind, name = _owner(pod)
    match kind:
        case "ReplicaSet":
            return _of_replica_set(name, labels)
        case "Job" if scheduled := _SCHEDULED_JOB.fullmatch(name):
            return "CronJob", scheduled[1]
    return kind, name


def _owner(pod: Pod) -> tuple[str, str]:
    reference = _controller(pod)
    if reference is None or reference["kind"] == "Node":  # static pods belong to their node
        return "Pod", pod["metadata"]["name"]
    return reference["kind"], reference["name"]


def _controller(pod: Pod) -> Mapping[str, Any] | None:
    owners = pod["metadata"].get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), None)


def _of_replica_set(name: str, labels: _Labels) -> tuple[str, str]:
    """Return a ReplicaSet's maker; one without such a label was made by hand."""
    for label, kind in (
        ("rollouts-pod-template-hash", "Rollout"),
        ("pod-template-hash", "Deployment"),
    ):
        suffix = f"-{labels.get(label)}"
        if name.endswith(suffix):
            return kind, name.removesuffix(suffix)
    return "ReplicaSet", name


def _of_training_operator(pod: Pod) -> str | None:
    """Return the kind by operator, for an MPIJob's launcher is owned by a Job; else the owner's."""
    labels = pod["metadata"]["labels"]
    kind = _OPERATORS.get(labels.get("training.kubeflow.org/operator-name", ""))
    return kind or _owner(pod)[0]


def _of_trainer(pod: Pod) -> str | None:
    """Tell a TrainJob from the JobSet of the same name that it has its pods made by.

    Its labels reach the pods only if its runtime says so. Else it shows by a replicated job and a
    container that are both called ``node``, which the trainer insists on.
    """
    labels = pod["metadata"]["labels"]
    marked = any(key.startswith("trainer.kubeflow.org/") for key in labels)
    named = labels.get("jobset.sigs.k8s.io/replicatedjob-name") == "node" and any(
        container.get("name") == "node" for container in pod["spec"].get("containers") or ()
    )
    return "TrainJob" if marked or named else None


def _of_ray(pod: Pod) -> str | None:
    kind: str | None = pod["metadata"]["labels"].get("ray.io/originated-from-crd")
    return kind


def _of_volcano(pod: Pod) -> str | None:
    """Leave out pods of others, which carry the label when Volcano only schedules them."""
    owner = _controller(pod)
    ours = owner and str(owner.get("apiVersion")).startswith("batch.volcano.sh/")
    return "VolcanoJob" if ours else None


def _environment(pod: Pod) -> Mapping[str, str]:
    return {
        variable["name"]: variable["value"]
        for container in pod["spec"].get("containers") or ()
        for variable in container.get("env") or ()
        if variable.get("value")
    }


_BY_LABEL: Final[tuple[tuple[str, str | Callable[[Pod], str | None]], ...]] = (
    # The label whose value is the name, and the kind or what finds it out. The first that fits
    # wins, so the outermost come first.
    ("wandb.ai/run-id", "WandbLaunch"),
    ("workflows.argoproj.io/workflow", "Workflow"),
    ("serving.kserve.io/inferenceservice", "InferenceService"),
    ("ray.io/originated-from-cr-name", _of_ray),
    ("ray.io/cluster", "RayCluster"),
    ("jobset.sigs.k8s.io/jobset-name", _of_trainer),
    ("jobset.sigs.k8s.io/jobset-name", "JobSet"),
    ("leaderworkerset.sigs.k8s.io/name", "LeaderWorkerSet"),
    ("training.kubeflow.org/job-name", _of_training_operator),
    ("mpi-job-name", "MPIJob"),
    ("volcano.sh/job-name", _of_volcano),
    ("sparkoperator.k8s.io/app-name", "SparkApplication"),
)
