"""The devices and links a plan is made for: data-sheet numbers, and which of them have been measured in training."""

from __future__ import annotations

from dataclasses import dataclass

from zhgpt.errors import SettingError

GB, GIB = 1e9, 2.0**30


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device.

    Attributes:
        name: as users type it.
        memory_bytes: what the vendor calls its memory, in bytes as the driver counts them (GiB).
        peak_flops: dense 16-bit matrix products with fp32 accumulation, FLOPs a second, from the data sheet.
        memory_bandwidth: bytes a second, from the data sheet.
        link_bandwidth: bytes a second in one direction to another GPU of the same host.
        watts: board power; None where nobody says.
        matmul_share: of the peak that the best large bf16 product reaches, where somebody measured it.
        matmul_source: who.
        trained: whether training rows of it are among the calibration points. Where not, its figures are an estimate.
        half_type: the 16-bit type its matrix units know.
    """

    name: str
    memory_bytes: float
    peak_flops: float
    memory_bandwidth: float
    link_bandwidth: float
    watts: float | None
    matmul_share: float | None = None
    matmul_source: str = ""
    trained: bool = False
    half_type: str = "bf16"


MAMF = "Maximum Achievable Matmul FLOPS, stas00/ml-engineering, compute/accelerator/README.md"
L20_GEMM = "bf16 GEMM 8192: 114.1 of 119.5 TFLOPS, torch-performance-test-data #107"
ASSUMED_MATMUL_SHARE = 0.836
"""Of the peak, where no product was measured: the mean of A100 (0.869) and H100 (0.803)."""

NVLINK2, NVLINK3, NVLINK4 = 150 * GB, 300 * GB, 450 * GB
PCIE4 = 32 * GB

GPUS: dict[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        Gpu("L20", 48 * GIB, 119.5e12, 864 * GB, PCIE4, 275, 0.955, L20_GEMM),
        Gpu("L40S", 48 * GIB, 362.0e12, 864 * GB, PCIE4, 350),
        Gpu("4090", 24 * GIB, 165.2e12, 1008 * GB, PCIE4, 450),
        Gpu("A100-40", 40 * GIB, 312.0e12, 1555 * GB, NVLINK3, 400, 0.869, MAMF, trained=True),
        Gpu("A100-80", 80 * GIB, 312.0e12, 2039 * GB, NVLINK3, 400, 0.869, MAMF, trained=True),
        Gpu("H100", 80 * GIB, 989.0e12, 3350 * GB, NVLINK4, 700, 0.803, MAMF, trained=True),
        Gpu("H20", 96 * GIB, 148.0e12, 4000 * GB, NVLINK4, 400),
        Gpu("V100", 32 * GIB, 125.0e12, 900 * GB, NVLINK2, 300, half_type="fp16"),
    )
}
"""By name; ``cpu`` is this machine's, measured when it is asked for (:mod:`zhgpt.plan.this_cpu`)."""

INTERCONNECTS: dict[str, float] = {
    "ethernet-10": 1.25 * GB,
    "ethernet-25": 3.125 * GB,
    "ethernet-100": 12.5 * GB,
    "infiniband-200": 25 * GB,
    "infiniband-400": 50 * GB,
    "infiniband-1600": 200 * GB,
    "infiniband-3200": 400 * GB,
}
"""Bytes a second in one direction between two hosts, all adapters of a host together (the number is in Gbit/s)."""
DEFAULT_INTERCONNECT = "infiniband-200"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Equal hosts of equal devices.

    Attributes:
        gpu: of each rank.
        nodes: hosts.
        gpus_per_node: ranks a host.
        interconnect: between hosts, of INTERCONNECTS.
        is_interconnect_assumed: nobody said that it is this one, and there is more than one host.
    """

    gpu: Gpu
    nodes: int = 1
    gpus_per_node: int = 1
    interconnect: str = DEFAULT_INTERCONNECT
    is_interconnect_assumed: bool = False

    @property
    def interconnect_bandwidth(self) -> float:
        """Bytes a second between hosts."""
        return INTERCONNECTS[self.interconnect]

    @property
    def world_size(self) -> int:
        """Ranks."""
        return self.nodes * self.gpus_per_node

    @property
    def ring_bandwidth(self) -> float:
        """Bytes a second that a ring over all ranks carries: the slowest piece of it decides."""
        return self.gpu.link_bandwidth if self.nodes == 1 else min(self.gpu.link_bandwidth, self.interconnect_bandwidth)


def find_gpu(name: str) -> Gpu:
    """The device of a name, in any spelling of case, with or without the vendor's words.

    Raises:
        SettingError: no such device; the sentence lists them.
    """
    words = name.upper().replace("NVIDIA", "").replace("GEFORCE", "").replace("RTX", "").replace("TESLA", "")
    wanted = words.replace("GB", "").strip(" -_")
    aliases = {"A100": "A100-80", "H100-80": "H100", "H20-96": "H20", "L20-48": "L20", "V100-32": "V100"}
    found = GPUS.get(aliases.get(wanted, wanted))
    if found is None:
        raise SettingError(f"--gpu {name}: not one of {', '.join(GPUS)} or cpu (this machine's)")
    return found


def check_interconnect(name: str) -> str:
    """The name of a link between hosts.

    Raises:
        SettingError: no such link; the sentence lists them.
    """
    if name not in INTERCONNECTS:
        raise SettingError(
            f"--interconnect {name}: not one of {', '.join(INTERCONNECTS)} (Gbit/s of all adapters of a host together)"
        )
    return name
