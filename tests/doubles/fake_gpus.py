"""Described machines for the NVML double, with the values that real boards gave.

The MIG layout is that of a public capture of an H100 under driver 590 (nvidia_gpu_exporter,
``linux-x86_64__nvidia-h100-mig__590.48.01``): one slice each of 3g.40gb and 2g.20gb, two of
1g.10gb, and GPU instances 2, 3, 9 and 10.
"""

from typing import Any

import pynvml

from tests.doubles.fake_device import NOT_SUPPORTED, FakeDevice

MIB = 2**20
NONE = 0xFFFFFFFF

SUPPORTED_EVENTS = 0xFF9F
"""What an H100 with driver 580 says."""

GPM_BUSY = {1: 99.5, 2: 96.0, 3: 14.0, 4: 3.0, 5: 93.0, 10: 24.0, 11: 0.0, 12: 1.0, 13: 2.0}
"""A bf16 matrix product on an H100, in percent."""


def gpu_uuid(number: int) -> str:
    return f"GPU-{number:08x}-1111-2222-3333-444444444444"


def mig_uuid(number: int) -> str:
    return f"MIG-{number:08x}-1111-2222-3333-444444444444"


def h100(index: int = 0) -> FakeDevice:
    """Describe a busy H100 SXM with two processes, without MIG."""
    answers: dict[Any, Any] = {
        "nvmlDeviceGetUUID": gpu_uuid(index),
        "nvmlDeviceGetName": "NVIDIA H100 80GB HBM3",
        "nvmlDeviceGetMinorNumber": 7 - index,
        "nvmlDeviceGetSerial": "1650000000001",
        "nvmlDeviceGetPciInfo_v3": {
            "busId": f"00000000:3{index:X}:0A.0",
            "domain": 0,
            "bus": 0x30 + index,
            "device": 0xA,
        },
        "nvmlDeviceGetArchitecture": pynvml.NVML_DEVICE_ARCH_HOPPER,
        "nvmlDeviceGetVbiosVersion": "96.00.A5.00.01",
        "nvmlDeviceGetNumGpuCores": 16896,
        "nvmlDeviceGetCudaComputeCapability": (9, 0),
        "nvmlDeviceGetMigMode": (0, 0),
        ("nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_GRAPHICS): 1980,
        ("nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_SM): 1980,
        ("nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_MEM): 2619,
        ("nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_VIDEO): 1545,
        ("nvmlDeviceGetTemperatureThreshold", pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN): 92,
        ("nvmlDeviceGetTemperatureThreshold", pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN): 89,
        ("nvmlDeviceGetTemperatureThreshold", pynvml.NVML_TEMPERATURE_THRESHOLD_MEM_MAX): 95,
        ("nvmlDeviceGetTemperatureThreshold", pynvml.NVML_TEMPERATURE_THRESHOLD_GPU_MAX): 87,
        "nvmlDeviceGetMaxPcieLinkGeneration": 5,
        "nvmlDeviceGetMaxPcieLinkWidth": 16,
        "nvmlDeviceGetSupportedClocksEventReasons": 0x1FF,
        "nvmlDeviceGetMemoryInfo_v2": {
            "total": 81559 * MIB,
            "reserved": 479 * MIB,
            "free": 69956 * MIB,
            "used": 11124 * MIB,
        },
        "nvmlDeviceGetMemoryInfo": {
            "total": 81559 * MIB,
            "free": 69956 * MIB,
            "used": 11603 * MIB,
        },
        "nvmlDeviceGetUtilizationRates": {"gpu": 99, "memory": 41},
        "nvmlDeviceGetEncoderUtilization": (0, 200000),
        "nvmlDeviceGetDecoderUtilization": (12, 200000),
        "nvmlDeviceGetJpgUtilization": (7, 200000),
        "nvmlDeviceGetOfaUtilization": (1, 200000),
        ("nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_GRAPHICS): 1755,
        ("nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_SM): 1755,
        ("nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_MEM): 2619,
        ("nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_VIDEO): 1380,
        "nvmlDeviceGetPowerUsage": 432210,
        "nvmlDeviceGetTemperatureV": {"temperature": 53},
        "nvmlDeviceGetTemperature": 53,
        "nvmlDeviceGetCurrentClocksEventReasons": pynvml.nvmlClocksEventReasonSwPowerCap,
        "nvmlDeviceGetPerformanceState": 0,
        "nvmlDeviceGetTotalEnergyConsumption": 123456789,
        "nvmlDeviceGetEnforcedPowerLimit": 700000,
        "nvmlDeviceGetMarginTemperature": {"marginTemperature": 24},
        "nvmlDeviceGetPcieReplayCounter": 9,
        "nvmlDeviceGetCurrPcieLinkGeneration": 5,
        "nvmlDeviceGetCurrPcieLinkWidth": 16,
        "nvmlDeviceGetNvLinkState": 1,
        ("nvmlDeviceGetNvLinkState", 1): 0,
        ("nvmlDeviceGetMemoryErrorCounter", 0, 1, pynvml.NVML_MEMORY_LOCATION_DRAM): 3,
        ("nvmlDeviceGetMemoryErrorCounter", 1, 1, pynvml.NVML_MEMORY_LOCATION_DRAM): 0,
        ("nvmlDeviceGetMemoryErrorCounter", 0, 1, pynvml.NVML_MEMORY_LOCATION_SRAM): 0,
        ("nvmlDeviceGetMemoryErrorCounter", 1, 1, pynvml.NVML_MEMORY_LOCATION_SRAM): 1,
        "nvmlDeviceGetRemappedRows": (1, 2, 0, 1),
        "nvmlDeviceGetRowRemapperHistogram": {
            "max": 2559,
            "high": 1,
            "partial": 0,
            "low": 0,
            "none": 0,
        },
        "nvmlDeviceGetSupportedEventTypes": SUPPORTED_EVENTS,
    }
    fields: dict[Any, Any] = {
        pynvml.NVML_FI_DEV_MEMORY_TEMP: 58,
        pynvml.NVML_FI_DEV_PERF_POLICY_POWER: 2_500_000_000,
        pynvml.NVML_FI_DEV_PERF_POLICY_THERMAL: 1_000_000_000,
        pynvml.NVML_FI_DEV_PERF_POLICY_SYNC_BOOST: 0,
        pynvml.NVML_FI_DEV_PERF_POLICY_BOARD_LIMIT: 0,
        pynvml.NVML_FI_DEV_PERF_POLICY_RELIABILITY: 250_000_000,
        269: 600_000_000,
        270: 400_000_000,
        271: 0,
        pynvml.NVML_FI_DEV_NVLINK_LINK_COUNT: 3,
        (pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, NONE): 2048,
        (pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, NONE): 1024,
        (pynvml.NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY, 0): 1,
        (pynvml.NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY, 2): 4,
        pynvml.NVML_FI_DEV_NVLINK_ERROR_DL_RECOVERY: 0,
        pynvml.NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL: 6,
        pynvml.NVML_FI_DEV_RETIRED_SBE: 5,
        pynvml.NVML_FI_DEV_RETIRED_DBE: 1,
        pynvml.NVML_FI_DEV_RETIRED_PENDING: 0,
        pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION: 0,
    }
    return FakeDevice(
        uuid=gpu_uuid(index),
        answers=answers,
        fields=fields,
        processes={
            "Compute": [process(21180, 2296), process(21198, 7484)],
            "Graphics": [],
            "MPSCompute": [],
        },
        samples=[(1_000_000 + 200_000 * i, 90 + i) for i in range(5)],
        process_samples=[(1_800_000, 21180, 60), (1_800_000, 21198, 30)],
        gpm={None: {**GPM_BUSY, 20: 8.0, 21: 16.0}},
    )


def process(
    pid: int, mebibytes: int, gpu_instance: int = NONE, compute_instance: int = NONE
) -> dict[str, int]:
    return {
        "pid": pid,
        "usedGpuMemory": mebibytes * MIB,
        "gpuInstanceId": gpu_instance,
        "computeInstanceId": compute_instance,
    }


def mig_slice(
    number: int,
    profile: str,
    *,
    gpu_instance: int,
    sm_count: int,
    total: int,
    used: int,
    compute_instance: int = 0,
) -> FakeDevice:
    """Describe a MIG device. Memory is in MiB and its GPU instance's, whichever slice is asked."""
    return FakeDevice(
        uuid=mig_uuid(number),
        answers={
            "nvmlDeviceGetUUID": mig_uuid(number),
            "nvmlDeviceGetName": f"NVIDIA H100 80GB HBM3 MIG {profile}",
            "nvmlDeviceGetGpuInstanceId": gpu_instance,
            "nvmlDeviceGetComputeInstanceId": compute_instance,
            "nvmlDeviceGetAttributes_v2": {
                "multiprocessorCount": sm_count,
                "memorySizeMB": total,
            },
            "nvmlDeviceGetMemoryInfo_v2": {
                "total": total * MIB,
                "reserved": 0,
                "free": (total - used) * MIB,
                "used": used * MIB,
            },
        },
    )


def mig_slices() -> list[FakeDevice | None]:
    """Describe the captured layout, with a hole."""
    return [
        mig_slice(1, "3g.40gb", gpu_instance=2, sm_count=60, total=40448, used=11091),
        mig_slice(2, "2g.20gb", gpu_instance=3, sm_count=32, total=20096, used=17),
        None,
        mig_slice(3, "1g.10gb", gpu_instance=9, sm_count=16, total=9984, used=9),
        mig_slice(4, "1g.10gb", gpu_instance=10, sm_count=16, total=9984, used=9),
        None,
        None,
    ]


_NOT_UNDER_MIG = (
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetEncoderUtilization",
    "nvmlDeviceGetDecoderUtilization",
    "nvmlDeviceGetJpgUtilization",
    "nvmlDeviceGetOfaUtilization",
    "nvmlDeviceGetNvLinkState",
    "nvmlDeviceGetRemappedRows",
    "nvmlDeviceGetRowRemapperHistogram",
)


def h100_mig(index: int = 0) -> FakeDevice:
    """Describe the H100 divided by MIG, with the load of the capture on its largest slice."""
    gpu = h100(index)
    for function in _NOT_UNDER_MIG:
        gpu.fail(function, NOT_SUPPORTED)
    gpu.fields.pop(pynvml.NVML_FI_DEV_NVLINK_LINK_COUNT)
    enable_mig(gpu, mig_slices())
    gpu.samples = gpu.process_samples = None
    gpu.processes = {
        "Compute": [process(21180, 2296, 2, 0), process(21198, 7484, 2, 0)],
        "Graphics": [],
    }
    return gpu


def enable_mig(gpu: FakeDevice, slices: list[FakeDevice | None]) -> None:
    """Divide a GPU so; what each GPU instance does differs by its number."""
    gpu.mig = slices
    gpu.answers |= {
        "nvmlDeviceGetMigMode": (1, 1),
        "nvmlDeviceGetMaxMigDeviceCount": 7,
        ("nvmlDeviceGetGpuInstanceProfileInfoV", pynvml.NVML_GPU_INSTANCE_PROFILE_1_SLICE): {
            "multiprocessorCount": 16
        },
        ("nvmlDeviceGetGpuInstanceProfileInfoV", pynvml.NVML_GPU_INSTANCE_PROFILE_7_SLICE): {
            "multiprocessorCount": 132
        },
    }
    gpu.gpm = {
        part.answers["nvmlDeviceGetGpuInstanceId"]: {
            **GPM_BUSY,
            2: float(part.answers["nvmlDeviceGetGpuInstanceId"]),
        }
        for part in slices
        if part
    }
