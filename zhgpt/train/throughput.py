"""Tokens per second and model FLOPs utilisation (MFU), with the peak they are measured against."""

import time

import torch

# Dense bf16 peaks in TFLOPS, from the vendors' data sheets (without sparsity).
PEAK_BF16_TFLOPS: dict[str, float] = {
    "L20": 119.5,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "A100": 312.0,
    "A800": 312.0,
    "H100": 989.0,
    "H800": 989.0,
    "H20": 148.0,
    "H200": 989.0,
    "A10": 125.0,
    "RTX 4090": 165.2,
    "RTX 3090": 71.0,
    "V100": 125.0,
}


def peak_tflops(device: torch.device, precision: str, setting: float | None) -> tuple[float | None, str]:
    """Peak of one rank in TFLOPS and where the number comes from.

    Args:
        device: the rank's device.
        precision: ``train.precision``.
        setting: ``log.peak_tflops``; wins where given.

    Returns:
        (None, reason) where no honest number is known: an unlisted GPU, or fp32 on a GPU.
    """
    if setting is not None:
        return setting, "log.peak_tflops"
    if device.type == "cpu":
        return measured_cpu_tflops(torch.bfloat16 if precision == "bf16" else torch.float32), "measured matrix product"
    name = torch.cuda.get_device_name(device)
    if precision == "fp32":
        return None, f"no fp32 peak is listed for {name}; set log.peak_tflops"
    words = name.replace("-", " ").split()
    for key in sorted(PEAK_BF16_TFLOPS, key=len, reverse=True):
        if all(word in words for word in key.split()):
            return PEAK_BF16_TFLOPS[key], f"data sheet of {key}"
    return None, f"no peak is listed for {name}; set log.peak_tflops"


def precision_notices(device: torch.device, precision: str) -> list[str]:
    """What to know of bf16 on a GPU that has no units for it (before Ampere); torch and DeepSpeed take it all the same."""
    if device.type != "cuda" or precision != "bf16" or torch.cuda.get_device_capability(device) >= (8, 0):
        return []
    return [
        f"train.precision is bf16, but {torch.cuda.get_device_name(device)} has no units for it (compute capability 8.0 is the "
        "first that has) and computes it slowly in fp32; train.precision=fp16 is made for this GPU"
    ]


def measured_cpu_tflops(dtype: torch.dtype, size: int = 768, seconds: float = 0.4) -> float:
    """Best rate of a square matrix product on this rank's threads, in TFLOPS, within a fixed time."""
    left, right = torch.ones(size, size, dtype=dtype), torch.ones(size, size, dtype=dtype)
    best, give_up_at = float("inf"), time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < give_up_at:
        started = time.perf_counter()
        torch.mm(left, right)
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best / 1e12
