"""Which backend a configuration asks for. Each is loaded only when it is."""

import logging

from exporter.app.patience import within
from exporter.config import Config
from exporter.config.sources import ConfigError
from exporter.document import DocumentError
from exporter.gpus import Backend, GpuError
from exporter.model.readings import Reason

log = logging.getLogger(__name__)

# Only these mean that there is no driver. A driver that is broken or hangs has to be reported.
_NO_DRIVER = {Reason.LIBRARY_NOT_FOUND, Reason.DRIVER_NOT_LOADED}


def make_backend(config: Config) -> Backend:
    """Make the backend, not opened yet. Raises :class:`ConfigError` for a bad scenario."""
    match config.backend:
        case "nvml":
            return _nvml()
        case "simulated":
            return _simulated(config)
        case "auto":
            (answer,) = within(config.read_deadline, [_try_driver])
            if isinstance(answer, GpuError) and answer.reason in _NO_DRIVER:
                log.warning("there is no NVIDIA driver here, so GPUs are simulated: %s", answer)
                return _simulated(config)
            return _nvml()


def brings_sources(backend: Backend) -> bool:
    """Whether a kubelet and an API server come with the backend, in place of real ones."""
    if backend.name != "simulated":
        return False
    from exporter.gpus.simulated.backend import SimulatedBackend  # noqa: PLC0415

    return not (isinstance(backend, SimulatedBackend) and backend.pods_of_cluster)


def _try_driver() -> None:
    # The driver may hang, so this backend is used for nothing else.
    backend = _nvml()
    backend.open()
    backend.close()


def _nvml() -> Backend:
    from exporter.gpus.nvml.backend import NvmlBackend  # noqa: PLC0415

    return NvmlBackend()


def _simulated(config: Config) -> Backend:
    from exporter.gpus.simulated.backend import SimulatedBackend  # noqa: PLC0415

    try:
        return SimulatedBackend(
            profile=config.profile,
            scenario=config.scenario,
            seed=config.seed,
            speed=config.speed,
        )
    except DocumentError as error:
        raise ConfigError(f"scenario: {error}") from error
