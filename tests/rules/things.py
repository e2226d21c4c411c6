"""What the rule tests are about: one GPU, and one container that holds it."""

from tests.rules.promtool import Firing

GPU = 'node="n1",gpu="0",uuid="GPU-a"'
GPU_LABELS = {"node": "n1", "gpu": "0", "uuid": "GPU-a"}
GPU_NAME = "GPU 0 (GPU-a) of node n1"

HELD = f'namespace="lab",pod="nb-0",container="main",{GPU}'
HELD_LABELS = {**GPU_LABELS, "namespace": "lab", "pod": "nb-0", "container": "main"}
CONTAINER = "Container main of pod lab/nb-0"
DEVICE = "GPU 0 (device GPU-a) of node n1"


def on_gpu(description: str, **labels: str) -> Firing:
    """Expect an alert on the GPU, with labels of its own beside the GPU's."""
    return Firing(description, {**GPU_LABELS, **labels})


def info(held: str = HELD, sharing: str = "exclusive", exempt: str = "", profile: str = "") -> str:
    return (
        f'gpu_allocation_info{{{held},gpu_uuid="GPU-a",sharing="{sharing}",exempt="{exempt}",'
        f'profile="{profile}"}}'
    )
