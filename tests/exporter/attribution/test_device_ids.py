import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.attribution.device_ids import DeviceId, parse

UUID = "12345678-9abc-def0-1234-56789abcdef0"
GPU, MIG = f"GPU-{UUID}", f"MIG-{UUID}"

FORMS = {
    GPU: DeviceId(uuid=GPU),
    f"{GPU}::0": DeviceId(uuid=GPU, share=0),
    f"{GPU}::12": DeviceId(uuid=GPU, share=12),
    MIG: DeviceId(uuid=MIG),
    f"{MIG}::3": DeviceId(uuid=MIG, share=3),
    f"MIG-{GPU}/7/0": DeviceId(uuid=GPU, gpu_instance=7, compute_instance=0),
    f"MIG-{GPU}/13/2::1": DeviceId(uuid=GPU, gpu_instance=13, compute_instance=2, share=1),
    "nvidia0": DeviceId(minor_number=0),
    "nvidia10": DeviceId(minor_number=10),
    "nvidia0/gi1": DeviceId(minor_number=0, gpu_instance=1),
    "nvidia3/vgpu0": DeviceId(minor_number=3, share=0),
    "nvidia3/gi11/vgpu2": DeviceId(minor_number=3, gpu_instance=11, share=2),
    "0": DeviceId(index=0),
    "15": DeviceId(index=15),
    "0::1": DeviceId(index=0, share=1),
}

MALFORMED = [
    "",
    " ",
    "GPU",
    "GPU-",
    UUID,
    f" {GPU}",
    f"{GPU} ",
    f"{GPU}\n",
    f"{GPU}\x00",
    GPU.lower(),
    GPU.upper(),
    f"GPU-{UUID.upper()}",
    GPU.replace("56789abcdef0", "56789ABCDEF0"),
    GPU[:-1],
    f"{GPU}0",
    GPU.replace("-", ""),
    f"GPU-{GPU}",
    f"MIG-{MIG}",
    f"{GPU}:0",
    f"{GPU}::",
    f"{GPU}::-1",
    f"{GPU}::+1",
    f"{GPU}::01",
    f"{GPU}::1::2",
    f"{GPU}::1_0",
    f"{GPU}::٣",  # ARABIC-INDIC DIGIT THREE
    f"{GPU}/1/0",
    f"{MIG}/1/0",
    f"MIG-{GPU}",
    f"MIG-{GPU}/1",
    f"MIG-{GPU}/1/",
    f"MIG-{GPU}/1/0/0",
    f"MIG-{GPU}/01/0",
    "nvidia",
    "nvidia-1",
    "nvidia01",
    "nvidia1 ",
    "Nvidia1",
    "NVIDIA1",
    "/dev/nvidia1",
    "nvidia1/",
    "nvidia1/gi",
    "nvidia1/gi1/ci0",
    "nvidia1/gi01",
    "nvidia1/vgpu",
    "nvidia1/vgpu0/gi1",
    "nvidia1::0",
    "nvidia¹",
    "nvidiactl",
    "nvidia-uvm",
    "00",
    "-0",
    "1.0",
    "0x1",
    "1e3",
    "1_000",
    "²",
    "٣",
    "0000:3b:00.0",
    "9" * 10,
    "9" * 5000,  # more digits than int() takes
    "nvidia" + "9" * 5000,
    f"{GPU}::" + "9" * 5000,
]


@pytest.mark.parametrize(("device_id", "parts"), FORMS.items())
def test_every_known_form_is_taken_apart(device_id: str, parts: DeviceId) -> None:
    assert parse(device_id) == parts


@pytest.mark.parametrize("device_id", MALFORMED)
def test_what_only_resembles_a_form_is_none(device_id: str) -> None:
    assert parse(device_id) is None


def written(parts: DeviceId) -> set[str]:
    """Return every spelling that may mean these parts, put together from the parts alone."""
    gpu, compute = parts.gpu_instance, parts.compute_instance
    share = "" if parts.share is None else f"::{parts.share}"
    if parts.uuid is not None:
        return {
            f"MIG-{parts.uuid}/{gpu}/{compute}{share}" if gpu is not None else parts.uuid + share
        }
    if parts.minor_number is not None:
        instance = "" if gpu is None else f"/gi{gpu}"
        vgpu = "" if parts.share is None else f"/vgpu{parts.share}"
        return {f"nvidia{parts.minor_number}{instance}{vgpu}"}
    return {f"{parts.index}{share}"}


# Characters that ids are made of, and some that are taken for them elsewhere.
near_ids = st.text(alphabet="GPUMI-nvidiagu/:0123456789abcdefABCDEF \n٣²_+", max_size=60)
edited_ids = st.builds(
    lambda form, at, cut, text: (
        form[: at % (len(form) + 1)] + text + form[at % (len(form) + 1) + cut :]
    ),
    st.sampled_from(list(FORMS)),
    st.integers(0, 100),
    st.integers(0, 3),
    st.text(alphabet="-/:0123456789abcgivpuGPUMI٣ \n", max_size=3),
)


@given(st.text() | near_ids | edited_ids)
@example("\ud800")
def test_an_id_is_spelled_exactly_as_its_parts(device_id: str) -> None:
    parts = parse(device_id)
    assert parts is None or device_id in written(parts)
