from collections import Counter, defaultdict
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.attribution.resolve import resolve
from exporter.model.claims import Allocation, Claim, Claims, Container, DraClaim, Sharing
from exporter.model.clocks import Monotonic
from exporter.model.devices import Gpu, Slice


def uuid(number: int) -> str:
    return f"{number:08x}-abcd-4000-8000-000000000000"


def slice_of(gpu: int, instance: int, compute: int = 0) -> Slice:
    return Slice(
        uuid=f"MIG-{uuid(1000 * gpu + 10 * instance + compute)}",
        gpu_uuid=f"GPU-{uuid(gpu)}",
        gpu_index=gpu,
        gpu_instance=instance,
        compute_instance=compute,
        profile="1g.10gb",
    )


def gpu(number: int, *slices: Slice, minor: int | None = None) -> Gpu:
    return Gpu(
        uuid=f"GPU-{uuid(number)}",
        index=number,
        model="NVIDIA H100 80GB HBM3",
        minor_number=minor,
        mig_enabled=bool(slices),
        slices=slices,
    )


def container(name: str) -> Container:
    return Container("research", name, "main")


def claim(name: str, device_id: str, resource: str = "nvidia.com/gpu", since: float = 0) -> Claim:
    return Claim(container(name), resource, device_id, Monotonic(since))


# Minor numbers run against the indices, as they may.
WHOLE = [gpu(0, minor=1), gpu(1, minor=0), gpu(10, minor=10)]
CUT = gpu(3, slice_of(3, 7), slice_of(3, 8), slice_of(3, 9, 0), slice_of(3, 9, 1), minor=3)
GPUS = [*WHOLE, CUT]
A, B = WHOLE[0].uuid, WHOLE[1].uuid


def allocations(
    *held: Claim,
    allocatable: Mapping[str, tuple[str, ...]] | None = None,
    mps_gpus: frozenset[str] = frozenset(),
) -> list[Allocation]:
    resolution = resolve(Claims(held=held, allocatable=allocatable), GPUS, mps_gpus)
    assert resolution.unresolved == {}
    return list(resolution.allocations)


@pytest.mark.parametrize(
    ("device_id", "device"),
    [
        (A, A),
        ("0", A),
        ("nvidia1", A),
        ("nvidia0", B),
        ("10", f"GPU-{uuid(10)}"),
        ("nvidia10", f"GPU-{uuid(10)}"),
        (CUT.slices[0].uuid, CUT.slices[0].uuid),
        (f"MIG-{CUT.uuid}/8/0", CUT.slices[1].uuid),
        (f"MIG-{CUT.uuid}/9/1", CUT.slices[3].uuid),
        ("nvidia3/gi7", CUT.slices[0].uuid),
        ("nvidia3/gi9", CUT.slices[2].uuid),
    ],
)
def test_an_id_finds_its_device(device_id: str, device: str) -> None:
    [found] = allocations(claim("a", device_id))
    assert found.device_uuid == device
    assert found.share == 1


@pytest.mark.parametrize(
    ("device_id", "reason"),
    [
        ("gpu-0", "unknown_form"),
        (f"GPU-{uuid(0).upper()}", "unknown_form"),
        (f"GPU-{uuid(99)}", "no_such_device"),
        ("2", "no_such_device"),
        ("nvidia2", "no_such_device"),
        ("nvidia1/gi0", "no_such_device"),
        ("nvidia3/gi1", "no_such_device"),
        (f"MIG-{CUT.uuid}/7/1", "no_such_device"),
        (f"MIG-{A}/7/0", "no_such_device"),
        (CUT.uuid, "mig_enabled"),
        ("3", "mig_enabled"),
        ("nvidia3", "mig_enabled"),
        (f"{CUT.uuid}::0", "mig_enabled"),
    ],
)
def test_an_id_without_a_device_is_counted_by_reason(device_id: str, reason: str) -> None:
    resolution = resolve(Claims(held=(claim("a", device_id), claim("b", device_id))), GPUS)
    assert resolution.allocations == ()
    assert resolution.unresolved == {reason: 2}


def test_a_gpu_of_unknown_minor_number_is_not_found_by_its_index() -> None:
    resolution = resolve(Claims(held=(claim("a", "nvidia0"),)), [gpu(0)])
    assert resolution.unresolved == {"no_such_device": 1}


def test_dra_claims_are_counted() -> None:
    dra = DraClaim(container("a"), "research", "claim", "gpu.nvidia.com", "node", "gpu-0")
    assert resolve(Claims(dra=(dra,)), GPUS).unresolved == {"dra": 1}


def test_an_exclusive_gpu_is_solely_its_holders() -> None:
    [found] = allocations(claim("a", A))
    assert (found.sharing, found.share, found.sole) == (Sharing.EXCLUSIVE, 1, True)
    assert (found.container, found.resource) == (container("a"), "nvidia.com/gpu")


def test_a_slice_is_solely_its_holders_unless_its_gpu_instance_is_shared() -> None:
    alone, beside = allocations(claim("a", CUT.slices[0].uuid), claim("b", CUT.slices[2].uuid))
    assert (alone.sharing, alone.share, alone.sole) == (Sharing.MIG, 1, True)
    assert (beside.sharing, beside.share, beside.sole) == (Sharing.MIG, 1, False)
    assert alone.gpu is CUT


ADVERTISED = {"nvidia.com/gpu": tuple(f"{A}::{n}" for n in range(4))}


def test_shares_are_of_those_advertised() -> None:
    one, two = allocations(
        claim("a", f"{A}::0"),
        claim("b", f"{A}::1"),
        claim("b", f"{A}::3"),
        allocatable=ADVERTISED,
    )
    assert (one.sharing, one.share, one.sole) == (Sharing.TIME_SLICED, 0.25, False)
    assert (two.sharing, two.share, two.sole) == (Sharing.TIME_SLICED, 0.5, False)


def test_shares_are_of_those_held_when_nothing_is_advertised() -> None:
    shares = [a.share for a in allocations(claim("a", f"{A}::0"), claim("b", f"{A}::7"))]
    assert shares == [0.5, 0.5]


def test_gke_shares_are_shares_too() -> None:
    [whole] = allocations(
        claim("a", "nvidia1/vgpu0"),
        allocatable={"nvidia.com/gpu": ("nvidia1/vgpu0", "nvidia1/vgpu1")},
    )
    [part] = allocations(claim("a", "nvidia3/gi7/vgpu1"))
    assert (whole.device_uuid, whole.share, whole.sole) == (A, 0.5, False)
    assert (part.device_uuid, part.sharing) == (CUT.slices[0].uuid, Sharing.TIME_SLICED)


@pytest.mark.parametrize("resource", ["nvidia.com/gpu.mps", "nvidia.com/mps-gpu", "nvidia.com/mps"])
def test_mps_is_recognized_by_the_resource(resource: str) -> None:
    [found] = allocations(claim("a", f"{A}::0", resource))
    assert found.sharing is Sharing.MPS


def test_mps_is_recognized_by_its_processes() -> None:
    mps, sliced, whole = allocations(
        claim("a", f"{A}::0"),
        claim("b", f"{B}::0", "nvidia.com/gpu.campsite"),
        claim("c", "10"),
        mps_gpus=frozenset({A, WHOLE[2].uuid}),
    )
    assert mps.sharing is Sharing.MPS
    assert sliced.sharing is Sharing.TIME_SLICED
    # A server of the container's own does not make its GPU a shared one.
    assert whole.sharing is Sharing.EXCLUSIVE


def test_two_names_of_one_device_make_one_allocation() -> None:
    [found] = allocations(claim("a", A), claim("a", "nvidia1", "example.com/gpu"))
    assert (found.resource, found.share, found.sole) == ("nvidia.com/gpu", 1, True)


def test_the_newest_claim_wins() -> None:
    [found] = allocations(claim("ended", A, since=1), claim("running", "0", since=2))
    assert (found.container, found.share, found.sole) == (container("running"), 1, True)


def test_claims_seen_together_stay_in_doubt() -> None:
    found = allocations(claim("a", A, since=5), claim("b", A, since=5), claim("old", A, since=1))
    assert [(f.container.pod, f.share, f.sole) for f in found] == [
        ("a", 0.5, False),
        ("b", 0.5, False),
    ]


def test_the_newest_claim_of_a_share_wins() -> None:
    found = allocations(
        claim("ended", f"{A}::0", since=1),
        claim("running", f"{A}::0", since=2),
        claim("beside", f"{A}::1", since=1),
        allocatable=ADVERTISED,
    )
    assert {f.container.pod: f.share for f in found} == {"running": 0.25, "beside": 0.25}


def test_whole_and_shared_ids_of_one_gpu_are_scaled_and_in_doubt() -> None:
    found = allocations(claim("whole", A), claim("part", f"{A}::0"), allocatable=ADVERTISED)
    assert {f.container.pod: f.share for f in found} == {"whole": 0.8, "part": 0.2}
    assert not any(f.sole for f in found)


IDS = [
    name
    for g in GPUS
    for device in (g.uuid, str(g.index), f"nvidia{g.minor_number}", *(s.uuid for s in g.slices))
    for name in (device, f"{device}::0", f"{device}::1", f"{device}/vgpu2", f"{device}/gi9")
]
claims_held = st.lists(
    st.builds(
        claim,
        st.sampled_from("abcd"),
        st.sampled_from(IDS) | st.text(alphabet="nvidia0123GPU-:/", max_size=10),
        st.sampled_from(["nvidia.com/gpu", "nvidia.com/gpu.shared"]),
        st.sampled_from([0.0, 1.0, 2.0]),
    ),
    max_size=12,
)
advertised = st.none() | st.lists(st.sampled_from(IDS)).map(lambda ids: {"x": tuple(ids)})


@given(claims_held, advertised)
def test_what_is_held_of_a_device_never_exceeds_it(
    held: list[Claim], allocatable: dict[str, tuple[str, ...]] | None
) -> None:
    resolution = resolve(Claims(held=tuple(held), allocatable=allocatable), GPUS)
    shares: defaultdict[str, float] = defaultdict(float)
    holders: Counter[str] = Counter()
    pairs: Counter[tuple[Container, str]] = Counter()
    for found in resolution.allocations:
        assert 0 < found.share <= 1
        shares[found.device_uuid] += found.share
        holders[found.device_uuid] += 1
        pairs[found.container, found.device_uuid] += 1
    assert all(total <= 1 + 1e-9 for total in shares.values())
    assert all(count == 1 for count in pairs.values())
    for found in resolution.allocations:
        if found.sole:
            assert (found.share, holders[found.device_uuid]) == (1, 1)
    # Each claim is resolved, superseded by another, or counted.
    assert len(resolution.allocations) + sum(resolution.unresolved.values()) <= len(held)


@given(st.sampled_from(IDS) | st.text(alphabet="nvidia0123GPU-MI:/vg", max_size=48))
def test_the_device_found_is_the_one_that_the_id_names(device_id: str) -> None:
    for found in resolve(Claims(held=(claim("a", device_id),)), GPUS).allocations:
        bare = device_id.partition("::")[0].partition("/vgpu")[0]
        names = {found.device_uuid}
        if found.slice is None:
            names |= {str(found.gpu.index), f"nvidia{found.gpu.minor_number}"}
        else:
            names |= {f"nvidia{found.gpu.minor_number}/gi{found.slice.gpu_instance}"}
        assert bare in names
