"""From pods, as controllers make them, to the workloads that people know them by."""

from typing import Any

import pytest

from exporter.kubernetes.owners import workload
from tests.doubles.api_manifests import manifest

JOBSET = {
    "batch.kubernetes.io/job-name": "llm-node-0",
    "job-name": "llm-node-0",
    "jobset.sigs.k8s.io/jobset-name": "llm",
    "jobset.sigs.k8s.io/replicatedjob-name": "workers",
    "jobset.sigs.k8s.io/job-index": "0",
}
TRAINER_NODE = JOBSET | {"jobset.sigs.k8s.io/replicatedjob-name": "node"}
JOB_OF_JOBSET = ("batch/v1", "Job", "llm-node-0")


def training(operator: str, **more: str) -> dict[str, str]:
    return {
        "training.kubeflow.org/job-name": "bert",
        "training.kubeflow.org/operator-name": operator,
        "training.kubeflow.org/replica-type": "worker",
        "training.kubeflow.org/replica-index": "0",
        **more,
    }


RAY = {
    "app.kubernetes.io/created-by": "kuberay-operator",
    "app.kubernetes.io/name": "kuberay",
    "ray.io/cluster": "tune",
    "ray.io/group": "gpu",
    "ray.io/identifier": "tune-worker",
    "ray.io/is-ray-node": "yes",
    "ray.io/node-type": "worker",
}
VOLCANO = {
    "volcano.sh/job-name": "mnist",
    "volcano.sh/job-namespace": "research",
    "volcano.sh/queue-name": "default",
    "volcano.sh/task-spec": "ps",
}
LWS = {
    "leaderworkerset.sigs.k8s.io/name": "vllm",
    "leaderworkerset.sigs.k8s.io/group-index": "0",
    "leaderworkerset.sigs.k8s.io/worker-index": "1",
}
WANDB = {"wandb.ai/monitor": "true", "wandb.ai/agent": "launch-agent"}
RUN_ID = [{"name": "launch0", "env": [{"name": "WANDB_RUN_ID", "value": "1x2y3z4a"}]}]


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        # Kubernetes' own.
        (manifest("alone"), ("Pod", "alone")),
        (manifest("static-node-a", owner=("v1", "Node", "node-a")), ("Pod", "static-node-a")),
        (
            manifest(
                labels={"app": "web", "pod-template-hash": "6d4cf56db6"},
                owner=("apps/v1", "ReplicaSet", "chat-api-6d4cf56db6"),
            ),
            ("Deployment", "chat-api"),
        ),
        (manifest(owner=("apps/v1", "ReplicaSet", "by-hand")), ("ReplicaSet", "by-hand")),
        (manifest(owner=("v1", "ReplicationController", "old")), ("ReplicationController", "old")),
        (manifest(owner=("apps/v1", "StatefulSet", "db")), ("StatefulSet", "db")),
        (manifest(owner=("apps/v1", "DaemonSet", "agent")), ("DaemonSet", "agent")),
        (manifest(owner=("batch/v1", "Job", "train")), ("Job", "train")),
        (manifest(owner=("batch/v1", "Job", "train-2024")), ("Job", "train-2024")),
        (manifest(owner=("batch/v1", "Job", "nightly-29087340")), ("CronJob", "nightly")),
        # Kinds that we don't know are told as they are.
        (
            manifest(owner=("slinky.slurm.net/v1beta1", "NodeSet", "slurm-gpu")),
            ("NodeSet", "slurm-gpu"),
        ),
        (manifest(owner=("kubeflow.org/v1", "Notebook", "ada")), ("Notebook", "ada")),
        # Argo.
        (
            manifest(
                labels={"rollouts-pod-template-hash": "5c8d7"},
                owner=("apps/v1", "ReplicaSet", "canary-5c8d7"),
            ),
            ("Rollout", "canary"),
        ),
        (
            manifest(
                labels={
                    "workflows.argoproj.io/workflow": "pipeline-x7k2p",
                    "workflows.argoproj.io/completed": "false",
                },
                owner=("argoproj.io/v1alpha1", "Workflow", "pipeline-x7k2p"),
            ),
            ("Workflow", "pipeline-x7k2p"),
        ),
        # Kubeflow's training operator, and the MPI operator, whose launcher is a Job's.
        *(
            (
                manifest(
                    labels=training(f"{kind.lower()}-controller"),
                    owner=("kubeflow.org/v1", kind, "bert"),
                ),
                (kind, "bert"),
            )
            for kind in ("PyTorchJob", "TFJob", "MPIJob", "XGBoostJob", "PaddleJob", "JAXJob")
        ),
        (
            manifest(
                labels=training("mpi-operator", **{"training.kubeflow.org/job-role": "launcher"})
                | {"batch.kubernetes.io/job-name": "bert-launcher"},
                owner=("batch/v1", "Job", "bert-launcher"),
            ),
            ("MPIJob", "bert"),
        ),
        (
            manifest(
                labels=training("someones-controller"),
                owner=("example.com/v1", "SomeJob", "bert"),
            ),
            ("SomeJob", "bert"),
        ),
        # Kubeflow's trainer, and JobSet underneath and by itself.
        (manifest(labels=JOBSET, owner=JOB_OF_JOBSET), ("JobSet", "llm")),
        (
            manifest(
                labels=JOBSET | {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"},
                owner=JOB_OF_JOBSET,
            ),
            ("TrainJob", "llm"),
        ),
        (
            manifest(labels=TRAINER_NODE, owner=JOB_OF_JOBSET, containers=[{"name": "node"}]),
            ("TrainJob", "llm"),
        ),
        (
            manifest(labels=TRAINER_NODE, owner=JOB_OF_JOBSET, containers=[{"name": "main"}]),
            ("JobSet", "llm"),
        ),
        # Ray.
        (
            manifest(labels=RAY, owner=("ray.io/v1", "RayCluster", "tune")),
            ("RayCluster", "tune"),
        ),
        *(
            (
                manifest(
                    labels=RAY
                    | {"ray.io/originated-from-crd": kind, "ray.io/originated-from-cr-name": "llm"},
                    owner=("ray.io/v1", "RayCluster", "llm-raycluster-x7k2p"),
                ),
                (kind, "llm"),
            )
            for kind in ("RayJob", "RayService")
        ),
        (
            manifest(
                labels={
                    "ray.io/originated-from-crd": "RayJob",
                    "ray.io/originated-from-cr-name": "llm",
                    "job-name": "llm-submit",
                },
                owner=("batch/v1", "Job", "llm-submit"),
            ),
            ("RayJob", "llm"),
        ),
        # Volcano, as a controller and as a mere scheduler.
        (
            manifest(labels=VOLCANO, owner=("batch.volcano.sh/v1alpha1", "Job", "mnist")),
            ("VolcanoJob", "mnist"),
        ),
        (manifest(labels=VOLCANO, owner=("batch/v1", "Job", "other")), ("Job", "other")),
        # Servers.
        (
            manifest(
                labels={
                    "serving.kserve.io/inferenceservice": "llama",
                    "component": "predictor",
                    "pod-template-hash": "7f9c",
                },
                owner=("apps/v1", "ReplicaSet", "llama-predictor-7f9c"),
            ),
            ("InferenceService", "llama"),
        ),
        (
            manifest(labels=LWS, owner=("apps/v1", "StatefulSet", "vllm-0")),
            ("LeaderWorkerSet", "vllm"),
        ),
        (
            manifest(
                labels={
                    "sparkoperator.k8s.io/app-name": "etl",
                    "spark-role": "executor",
                },
                owner=("v1", "Pod", "etl-driver"),
            ),
            ("SparkApplication", "etl"),
        ),
        # W&B Launch: a Job whose run is in the environment, and a custom resource of another's.
        (
            manifest(
                labels=WANDB,
                containers=RUN_ID,
                owner=("batch/v1", "Job", "launch-ada-llm-x7k2p"),
            ),
            ("WandbLaunch", "1x2y3z4a"),
        ),
        (
            manifest(labels=WANDB, owner=("batch/v1", "Job", "launch-ada-llm-x7k2p")),
            ("WandbLaunch", "launch-ada-llm-x7k2p"),
        ),
        (
            manifest(
                labels=training("pytorchjob-controller") | WANDB | {"wandb.ai/run-id": "1x2y3z4a"},
                owner=("kubeflow.org/v1", "PyTorchJob", "bert"),
            ),
            ("WandbLaunch", "1x2y3z4a"),
        ),
    ],
)
def test_workload(pod: dict[str, Any], expected: tuple[str, str]) -> None:
    assert workload(pod) == expected


def test_owners_that_do_not_control_are_left_out() -> None:
    pod = manifest("helper")
    pod["metadata"]["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "settings", "uid": "u"}
    ]
    assert workload(pod) == ("Pod", "helper")
