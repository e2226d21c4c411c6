"""A deterministic node of GPUs with workloads, for demo, tests and benchmarks."""

from exporter.gpus.simulated.backend import SimulatedBackend
from exporter.gpus.simulated.profiles import PROFILES
from exporter.gpus.simulated.scenario import scenario_names

__all__ = ["PROFILES", "SimulatedBackend", "scenario_names"]
