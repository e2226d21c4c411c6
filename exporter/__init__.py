"""kube-gpu-exporter: Prometheus metrics of GPUs, MIG slices and the pods that hold them."""

__version__ = "0.1.0"
