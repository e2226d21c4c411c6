"""The simulated node as a backend."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path

from exporter.gpus import GpuError
from exporter.gpus.simulated.containers import ContainerState, containers
from exporter.gpus.simulated.guests import Guest, Guests
from exporter.gpus.simulated.meter import Meter
from exporter.gpus.simulated.node import Node
from exporter.gpus.simulated.profiles import PROFILES
from exporter.gpus.simulated.reader import SimulatedReader
from exporter.gpus.simulated.scenario import load_scenario
from exporter.model.claims import Claims, Container
from exporter.model.clocks import UnixSeconds, unix_time
from exporter.model.devices import Driver, Gpu
from exporter.model.readings import Event, GpuChanged, Reason, XidEvent


class SimulatedBackend:
    """A node of eight GPUs on which a scenario plays, as the NVIDIA driver would show it.

    ``profile`` is one of PROFILES. ``scenario`` is the name of a packaged scenario, or a file. The
    scenario runs ``speed`` times as fast as ``clock``, which gives monotonic seconds. The physics
    runs in real time, so that rates are realistic. ``wall`` gives the times of XIDs. The same seed
    gives the same node. Raises :class:`DocumentError` if the scenario can't be used.
    """

    name = "simulated"

    def __init__(
        self,
        *,
        profile: str = "h200-mixed",
        scenario: str | Path = "default",
        seed: int = 0,
        speed: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], UnixSeconds] = unix_time,
    ) -> None:
        self.profile = PROFILES[profile]
        played = load_scenario(scenario, self.profile)
        if played.pods_of_cluster:
            # The cluster may have real GPUs as well.
            board = self.profile.board
            self.profile = replace(
                self.profile, board=replace(board, model=f"{board.model} (simulated)")
            )
        self.node = Node(self.profile, played, seed)
        self._guests = Guests(self.node, seed, speed)
        self.speed = speed
        self._clock = clock
        self._start, self._start_unix = clock(), wall()
        self._meters = [
            Meter(self.node, index, speed, seed) for index in range(self.profile.gpu_count)
        ]
        self._session: threading.Event | None = None
        """Set when the session is closed."""
        self._opened_at = -1.0

    def open(self) -> Driver:
        now = self.scenario_seconds
        self._require_driver()
        self._session = threading.Event()
        # The driver keeps no events for a process that registers later.
        self._opened_at = now or self._opened_at
        return Driver("nvidia", self.node.driver_version(now), self.profile.cuda_version)

    def readers(self) -> Sequence[SimulatedReader]:
        session = self._require_session()
        now = self.seconds
        return [
            SimulatedReader(meter, lambda: self.seconds, session, self._ears(meter.index, session))
            for meter in self._meters
            if "gpu_lost" not in meter.segment(now).active
        ]

    def close(self) -> None:
        if self._session:
            self._session.set()
        self._session = None

    def present(self) -> None:
        """Show no PCI bus: nothing is taken out of this node on purpose."""

    def survey(self) -> AbstractSet[str]:
        self._require_driver()
        segments = [meter.segment(self.seconds) for meter in self._meters]
        return {s.gpu.uuid for s in segments if "gpu_lost" not in s.active}

    def claims(self) -> Claims:
        """Return what the kubelet of this node would answer now."""
        return self.node.claims(self.scenario_seconds)

    def containers(self) -> Sequence[ContainerState]:
        """Return the containers that have started in this run of the scenario."""
        return containers(self.node, self.scenario_seconds, self._unix)

    @property
    def pods_of_cluster(self) -> bool:
        """Whether the pods are those of a real kubelet: see :meth:`occupy`."""
        return self.node.pods_of_cluster

    def occupy(self, guests: Iterable[Guest]) -> None:
        """Put these containers of a cluster on the GPUs, and take all others off."""
        self._guests.set(guests, self.scenario_seconds)

    def gpus(self) -> Sequence[Gpu]:
        """Return the node's GPUs, also the ones that can't be reached."""
        return self.node.gpus(self.scenario_seconds)

    def advertised(self) -> Mapping[str, Mapping[str, bool]]:
        """Return a device plugin's ids by resource, each with whether its device is healthy."""
        return self.node.advertised(self.scenario_seconds)

    def shared_by_mps(self, gpu: Gpu) -> bool:
        return self.node.shared_by_mps(gpu.index)

    def processes(self) -> Mapping[int, Container]:
        """Return the container of each process on the node."""
        if self.pods_of_cluster:
            return self._guests.pids()
        return {pid: state.container for state in self.containers() for pid in state.pids}

    def scenario_time(self, unix: UnixSeconds) -> float:
        """Return the scenario's time at a Unix time. It is negative before the scenario's start."""
        return (unix - self._start_unix) * self.speed

    @property
    def kubelet_down(self) -> bool:
        return self.node.active("kubelet_down", self.scenario_seconds) is not None

    @property
    def seconds(self) -> float:
        """Real time since the start."""
        return self._clock() - self._start

    @property
    def scenario_seconds(self) -> float:
        return self.seconds * self.speed

    def _unix(self, scenario_seconds: float) -> UnixSeconds:
        """Return the Unix time of a moment of the scenario, always the same."""
        return UnixSeconds(self._start_unix + scenario_seconds / self.speed)

    def _ears(self, index: int, session: threading.Event) -> Callable[[float], Sequence[Event]]:
        """Return what waits for the events of one GPU, from now on."""
        heard = self._opened_at

        def wait(timeout_seconds: float) -> Sequence[Event]:
            nonlocal heard
            if self._session is not session:
                raise GpuError(Reason.DRIVER_NOT_LOADED, "the simulated driver is not open")
            events, heard = self._events(index, heard)
            if not events:
                due = (self.node.next_change(heard) - self.scenario_seconds) / self.speed
                session.wait(max(0.0, min(due, timeout_seconds)))
                if not session.is_set():
                    events, heard = self._events(index, heard)
            return events

        return wait

    def _events(self, index: int, after: float) -> tuple[list[Event], float]:
        """Return what happened to a GPU since then, and the time until which that is."""
        now = self.scenario_seconds
        self._require_driver()
        happened = [h for h in self.node.happenings(after, now) if h.gpu.index == index]
        return [
            GpuChanged(h.gpu.uuid)
            if h.xid is None
            else XidEvent(h.gpu.uuid, self._unix(h.at), h.xid)
            for h in happened
        ], now

    def _require_driver(self) -> None:
        if self.node.active("driver_unloaded", self.scenario_seconds):
            raise GpuError(Reason.DRIVER_NOT_LOADED, "the simulated driver is not loaded")

    def _require_session(self) -> threading.Event:
        self._require_driver()
        if self._session is None:
            raise GpuError(Reason.DRIVER_NOT_LOADED, "the simulated driver is not open")
        return self._session
