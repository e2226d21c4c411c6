"""Which backend a configuration asks for. Each is loaded only when it is."""

import logging

from exporter.config import Config
from exporter.config.sources import ConfigError
from exporter.gpus import Backend, GpuError

log = logging.getLogger(__name__)


def make_backend(config: Config) -> Backend:
    """Make the backend, not opened yet. Raises :class:`ConfigError` for a bad scenario."""
    match config.backend:
        case "nvml":
            return _nvml()
        case "simulated":
            return _simulated(config)
        case "auto":
            backend = _nvml()
            try:
                backend.open()
            except GpuError as error:
                log.warning("no NVIDIA driver answers here, so GPUs are simulated: %s", error)
                return _simulated(config)
            backend.close()
            return backend


def _nvml() -> Backend:
    from exporter.gpus.nvml.backend import NvmlBackend  # noqa: PLC0415

    return NvmlBackend()


def _simulated(config: Config) -> Backend:
    from exporter.gpus.simulated.backend import SimulatedBackend  # noqa: PLC0415
    from exporter.gpus.simulated.document import ScenarioError  # noqa: PLC0415

    try:
        return SimulatedBackend(
            profile=config.profile,
            scenario=config.scenario,
            seed=config.seed,
            speed=config.speed,
        )
    except ScenarioError as error:
        raise ConfigError(f"scenario: {error}") from error
