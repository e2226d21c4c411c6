"""A GPU that the driver counts, and can neither hand out nor name: lost, broken or refused."""

from typing import NoReturn

from exporter.gpus import GpuError
from exporter.gpus.nvml.identity import look_up
from exporter.model.devices import Gpu
from exporter.model.readings import Reason


class NamelessGpu:
    """Stands in for such a GPU, so that it is seen to be missing; a :class:`~exporter.gpus.Reader`.

    Its reads say what is wrong with it now. Once nothing is, it counts as lost, for only a session
    that lists it anew gives it its name.
    """

    def __init__(self, uuid: str, index: int) -> None:
        self.gpu = Gpu(uuid=uuid, index=index, model="")

    def read_fast(self) -> NoReturn:
        """Raise :class:`GpuError`, as all reads do."""
        _, uuid = look_up(self.gpu.index)
        raise GpuError(Reason.GPU_LOST, f"GPU {self.gpu.index} is back, as {uuid}")

    def read_full(self, *, processes: bool = False) -> NoReturn:
        del processes
        self.read_fast()

    read_slow = read_fast
