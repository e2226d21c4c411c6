"""NVIDIA GPUs and MIG slices through NVML. The only importer of ``pynvml``."""

from exporter.gpus.nvml.backend import NvmlBackend

__all__ = ["NvmlBackend"]
