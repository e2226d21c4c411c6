"""kube-gpu-exporter: Prometheus metrics of GPUs, MIG slices and the pods that use them.

The version and the project's addresses stand here; ``make update`` takes a change of them to every
file that names one.
"""

from typing import Final

__version__ = "0.1.0"

REPOSITORY: Final = "https://example.com/kube-gpu-exporter"
"""Where the source and its pages are. A placeholder, as long as ``example.com`` is in it."""

REGISTRY: Final = "registry.example.com"
"""Where the image ``kube-gpu-exporter`` and the chart ``charts/kube-gpu-exporter`` are. A
placeholder likewise."""
