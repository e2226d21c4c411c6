"""The backend on real GPUs, against what nvidia-smi says of them at the same time.

Facts must be equal. Counters may have moved on between the two reads, and gauges wander: each
tolerance says by how much.
"""

import contextlib
import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from exporter.gpus import Reader
from exporter.gpus.nvml import NvmlBackend
from exporter.model.devices import Driver
from exporter.model.readings import FastReading, FullReading, SlowReading
from tests.hardware import smi
from tests.hardware.smi import Told

pytestmark = pytest.mark.hardware

MIB = 2**20

LOAD = """
import sys, torch
a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
print("ready", flush=True)
while True:
    for _ in range(50):
        b = a @ a
    torch.cuda.synchronize()
"""


@dataclass(frozen=True)
class Both:
    """One GPU as we and nvidia-smi read it, one right after the other."""

    fast: FastReading
    full: FullReading
    slow: SlowReading
    told: Told


def told_of(uuid: str) -> Told:
    return next(gpu for gpu in smi.ask().all("gpu") if gpu.text("uuid") == uuid)


@pytest.fixture(scope="module")
def readers(backend: NvmlBackend) -> list[Reader]:
    return list(backend.readers())


@pytest.fixture(scope="module")
def gpus(readers: list[Reader]) -> list[Both]:
    both = []
    for reader in readers:
        reader.read_full()
        time.sleep(1)
        readings = reader.read_fast(), reader.read_full(), reader.read_slow()
        both.append(Both(*readings, told_of(reader.gpu.uuid)))
    return both


def agree(ours: float | None, told: float | None, within: float, what: str) -> None:
    """Both tell about the same, or neither tells anything."""
    assert (ours is None) == (told is None), f"{what}: {ours} and {told}"
    if ours is not None and told is not None:
        assert ours == pytest.approx(told, abs=within), what


def test_the_driver(backend: NvmlBackend) -> None:
    told = smi.ask()
    backend.close()
    driver = backend.open()
    assert driver == Driver("nvidia", told.text("driver_version") or "", told.text("cuda_version"))


def test_every_gpu_is_found(backend: NvmlBackend) -> None:
    uuids = [gpu.text("uuid") for gpu in smi.ask().all("gpu")]
    assert [reader.find() for reader in backend.readers()] == uuids


def test_nothing_failed(gpus: list[Both]) -> None:
    for both in gpus:
        assert (both.fast.failures, both.full.failures, both.slow.failures) == ((), (), ())


def test_facts(gpus: list[Both]) -> None:
    for both in gpus:
        gpu, told = both.full.gpu, both.told
        assert gpu.model == told.text("product_name")
        assert gpu.architecture
        assert (told.text("product_architecture") or "").startswith(gpu.architecture)
        assert gpu.minor_number == told.number("minor_number")
        assert gpu.serial == told.text("serial")
        assert gpu.vbios_version == told.text("vbios_version")
        domain, _, rest = (told.text("pci/pci_bus_id") or "").lower().partition(":")
        assert gpu.pci_bus_id == f"{int(domain, 16):04x}:{rest}"
        mode = told.text("mig_mode/current_mig")
        assert gpu.mig_enabled == {"Enabled": True, "Disabled": False}.get(mode or "")
        link = "pci/pci_gpu_link_info"
        assert gpu.pcie_link_generation_max == told.number(f"{link}/pcie_gen/max_link_gen")
        assert gpu.pcie_link_width_max == told.number(f"{link}/link_widths/max_link_width")
        for domain in ("graphics", "sm", "video"):
            agree(
                gpu.clock_max_hertz.get(domain),
                megahertz(told, f"max_clocks/{domain}_clock"),
                0,
                domain,
            )
        agree(
            gpu.clock_max_hertz.get("memory"), megahertz(told, "max_clocks/mem_clock"), 0, "memory"
        )
        assert gpu.sm_count is None or 1 <= gpu.sm_count <= 1000


def megahertz(told: Told, path: str) -> float | None:
    number = told.number(path)
    return None if number is None else number * 1e6


def test_memory(gpus: list[Both]) -> None:
    # nvidia-smi rounds to MiB; a process may come or go in between.
    for both in gpus:
        memory, told = both.fast.memory, both.told
        assert memory is not None
        for part, within in (("total", 1), ("reserved", 1), ("used", 64), ("free", 64)):
            mebibytes = getattr(memory, f"{part}_bytes") / MIB
            agree(mebibytes, told.number(f"fb_memory_usage/{part}"), within, part)


def test_slices(gpus: list[Both]) -> None:
    for both in gpus:
        parts = both.told.all("mig_devices/mig_device")
        told = {
            (
                int(part.text("gpu_instance_id") or -1),
                int(part.text("compute_instance_id") or -1),
            ): part
            for part in parts
        }
        ours = {(s.gpu_instance, s.compute_instance): s for s in both.full.gpu.slices}
        assert ours.keys() == told.keys()
        for key, part in told.items():
            counts = "device_attributes/shared/multiprocessor_count"
            assert ours[key].sm_count == part.number(counts)
            memory = both.fast.instance_memory[ours[key].gpu_instance]
            agree(memory.total_bytes / MIB, part.number("fb_memory_usage/total"), 1, "total")


def test_power_and_temperature(gpus: list[Both]) -> None:
    # An idle board wanders by some watts between two reads, a busy one by a good part.
    for both in gpus:
        full, slow, told = both.full, both.slow, both.told
        readings = "gpu_power_readings"
        limit = told.number(f"{readings}/current_power_limit")
        agree(slow.power_limit_watts, limit, 0.5, "limit")
        drawn = told.number(f"{readings}/average_power_draw")
        drawn = told.number(f"{readings}/instant_power_draw") if drawn is None else drawn
        drawn = told.number(f"{readings}/power_draw") if drawn is None else drawn
        agree(full.power_draw_watts, drawn, 0.3 * (limit or 300), "power")
        temperature = full.temperature_celsius
        agree(temperature.get("gpu"), told.number("temperature/gpu_temp"), 5, "gpu")
        agree(temperature.get("memory"), told.number("temperature/memory_temp"), 5, "memory")
        margin = told.number("temperature/gpu_temp_tlimit")
        agree(slow.temperature_margin_celsius, margin, 5, "margin")


def test_clocks(gpus: list[Both]) -> None:
    # An idle board changes its clocks as it is looked at: they are within what it can do.
    for both in gpus:
        full, told = both.full, both.told
        for domain, name in (("graphics", "graphics"), ("sm", "sm"), ("memory", "mem")):
            most = full.gpu.clock_max_hertz[domain]
            agree(
                full.clock_hertz.get(domain), megahertz(told, f"clocks/{name}_clock"), most, domain
            )
            assert 0 < full.clock_hertz[domain] <= most
        agree(full.performance_state, told.number("performance_state"), 8, "state")


def test_clock_events(gpus: list[Both]) -> None:
    for both in gpus:
        active, seconds, told = (
            both.full.clock_event_active,
            both.slow.clock_event_seconds,
            both.told,
        )
        for reason in active:
            name = reason.replace("display_clock_", "display_clocks_")
            assert told.text(f"clocks_event_reasons/clocks_event_reason_{name}") in {
                "Active",
                "Not Active",
            }, reason
        # A reason may come while both look: a few seconds of it at most.
        for reason, name in (
            ("sw_power_cap", "sw_power_cap"),
            ("sync_boost", "sync_boost"),
            ("sw_thermal_slowdown", "sw_therm_slowdown"),
            ("hw_thermal_slowdown", "hw_therm_slowdown"),
            ("hw_power_brake_slowdown", "hw_power_brake"),
        ):
            counters = "clocks_event_reasons_counters"
            microseconds = told.number(f"{counters}/{counters}_{name}")
            if microseconds is not None:
                agree(seconds.get(reason), microseconds / 1e6, 10, reason)


def test_links(gpus: list[Both]) -> None:
    for both in gpus:
        slow, told = both.slow, both.told
        link = "pci/pci_gpu_link_info"
        # The generation falls while the board idles.
        agree(
            slow.pcie_link_generation, told.number(f"{link}/pcie_gen/current_link_gen"), 5, "pcie"
        )
        width = told.number(f"{link}/link_widths/current_link_width")
        agree(slow.pcie_link_width, width, 0, "width")
        agree(slow.pcie_replays, told.number("pci/replay_counter"), 5, "replays")
        if slow.nvlink_active_links is None:
            assert slow.nvlink_receive_bytes is None
            assert slow.nvlink_errors == {}
        else:
            assert 0 <= slow.nvlink_active_links <= 36


def test_memory_health(gpus: list[Both]) -> None:
    for both in gpus:
        slow, told = both.slow, both.told
        for severity, location, names in (
            ("corrected", "dram", ["dram_correctable"]),
            ("uncorrected", "dram", ["dram_uncorrectable"]),
            ("corrected", "sram", ["sram_correctable"]),
            ("uncorrected", "sram", ["sram_uncorrectable_parity", "sram_uncorrectable_secded"]),
        ):
            parts = [told.number(f"ecc_errors/aggregate/{name}") for name in names]
            if None not in parts:
                total = sum(part for part in parts if part is not None)
                agree(slow.ecc_errors.get((severity, location)), total, 0, f"{severity} {location}")
        rows = "remapped_rows"
        for cause, name in (("correctable", "corr"), ("uncorrectable", "unc")):
            counted = told.number(f"{rows}/remapped_row_{name}")
            agree(slow.remapped_rows.get(cause), counted, 0, cause)
        for ours, name in ((slow.row_remap_pending, "pending"), (slow.row_remap_failed, "failure")):
            word = told.text(f"{rows}/remapped_row_{name}")
            assert ours == {"Yes": True, "No": False}.get(word or ""), name
        for level in ("max", "high", "partial", "low", "none"):
            banks = told.number(f"{rows}/row_remapper_histogram/row_remapper_histogram_{level}")
            agree(slow.row_remap_banks.get(level), banks, 0, level)
        for cause, name in (("single_bit", "multiple_single_bit"), ("double_bit", "double_bit")):
            pages = told.number(f"retired_pages/{name}_retirement/retired_count")
            agree(slow.retired_pages.get(cause), pages, 0, cause)


def test_recovery_action(gpus: list[Both]) -> None:
    for both in gpus:
        word = both.told.text("gpu_recovery_action")
        if word is not None:
            assert (both.slow.recovery_action == "none") == (word == "None")


def test_what_only_we_tell(gpus: list[Both]) -> None:
    for both in gpus:
        assert both.slow.energy_joules is None or both.slow.energy_joules > 0
        for ratio in (
            *both.full.engine_utilization_ratio.values(),
            *both.full.fan_speed_ratio.values(),
            *(sample.ratio for sample in both.full.utilization or ()),
        ):
            assert 0 <= ratio <= 1
        if activity := both.full.activity:
            assert 0.9 < activity.interval_seconds < 5
            assert 0 <= (activity.sm_ratio or 0) <= 1
        times = [sample.timestamp for sample in both.full.utilization or ()]
        assert times == sorted(times)


@contextlib.contextmanager
def load() -> Iterator[int]:
    """Keep the first GPU busy with matrix products; gives the process's id."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("no torch")
    with subprocess.Popen([sys.executable, "-c", LOAD], stdout=subprocess.PIPE, text=True) as busy:
        try:
            assert busy.stdout
            assert busy.stdout.readline() == "ready\n"
            time.sleep(3)
            yield busy.pid
        finally:
            busy.kill()


def test_under_load(backend: NvmlBackend) -> None:
    (reader, *_) = backend.readers()
    energy = reader.read_slow().energy_joules
    with load() as pid:
        reader.read_full()
        time.sleep(2)
        fast, full, slow = reader.read_fast(), reader.read_full(), reader.read_slow()
        told = told_of(reader.gpu.uuid)
    assert full.utilization
    assert max(sample.ratio for sample in full.utilization) > 0.9
    assert energy is None or (slow.energy_joules or 0) > energy
    if full.activity:
        assert full.activity.interval_seconds == pytest.approx(2, abs=1)
        assert (full.activity.sm_ratio or 0) > 0.5
        assert full.activity.pipe_ratio["tensor"] > 0.3
        assert (full.activity.graphics_ratio or 0) > 0.9
    assert fast.processes is not None
    listed = {
        int(process.number("pid") or 0): process.number("used_memory")
        for process in told.all("processes/process_info")
    }
    ours = {process.pid: process.memory_used_bytes for process in fast.processes}
    assert ours.keys() == listed.keys()
    for found, mebibytes in listed.items():
        used = ours[found]
        agree(None if used is None else used / MIB, mebibytes, 64, f"process {found}")
    # Within a namespace of process ids the driver may tell the host's, which we can't know.
    if pid in ours:
        assert (ours[pid] or 0) > 128 * MIB


def test_events_can_be_waited_for(backend: NvmlBackend) -> None:
    for reader in backend.readers():
        reader.read_fast()
        start = time.monotonic()
        assert reader.wait_events(0.5) == ()
        assert 0.4 < time.monotonic() - start < 5


MANY_SESSIONS = """
import os
from exporter.gpus.nvml import NvmlBackend
backend = NvmlBackend()
counts = []
for _ in range(1000):
    backend.open()
    for reader in backend.readers():
        reader.read_fast()
    backend.close()
    counts.append(len(os.listdir("/proc/self/fd")))
assert counts[-1] == counts[0], (counts[0], counts[-1])
"""


def test_a_thousand_sessions_leave_no_file_descriptor() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", MANY_SESSIONS], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_a_survey_finds_the_gpus_that_can_be_read(backend: NvmlBackend) -> None:
    assert backend.survey() == {reader.find() for reader in backend.readers()}


def test_open_after_close(backend: NvmlBackend) -> None:
    backend.close()
    backend.open()
    assert backend.readers()[0].read_fast().memory is not None


def test_what_reads_cost(backend: NvmlBackend, capsys: pytest.CaptureFixture[str]) -> None:
    """No threshold: the numbers are printed, for the ticks follow from them."""
    lines = []
    for reader in backend.readers():
        for name, times in (("read_fast", 20), ("read_full", 10), ("read_slow", 5)):
            read = getattr(reader, name)
            read()
            wall, cpu = [], []
            for _ in range(times):
                time.sleep(0.2)
                begun, spent = time.perf_counter(), time.process_time()
                read()
                wall.append(time.perf_counter() - begun)
                cpu.append(time.process_time() - spent)
            lines.append(
                f"GPU {reader.gpu.index} {name}: {1e3 * sorted(wall)[times // 2]:.2f} ms"
                f" (at most {1e3 * max(wall):.2f}), {1e3 * sum(cpu) / times:.2f} ms of CPU"
            )
    with capsys.disabled():
        print("", *lines, sep="\n")  # noqa: T201
