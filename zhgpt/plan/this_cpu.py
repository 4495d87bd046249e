"""This machine's CPU as a device of the plan: its matrix products and its memory, measured now."""

from __future__ import annotations

import os
import time

from zhgpt.plan.gpus import GB, Gpu


def measure_this_cpu(precision: str) -> Gpu:
    """Measure for about a second; one rank is one thread, as training starts them.

    The peak is the best rate of a large matrix product, as for the MFU of a run on the CPU, so ``matmul_share`` is 1.
    """
    import torch

    from zhgpt.train.throughput import measured_cpu_tflops

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        peak = measured_cpu_tflops(torch.bfloat16 if precision == "bf16" else torch.float32) * 1e12
        bandwidth = _copy_bandwidth()
    finally:
        torch.set_num_threads(threads)
    memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return Gpu(
        name="cpu",
        memory_bytes=memory,
        peak_flops=peak,
        memory_bandwidth=bandwidth,
        link_bandwidth=bandwidth / 4,
        watts=None,
        matmul_share=1.0,
        matmul_source="measured on this machine",
    )


def _copy_bandwidth(size: int = 2**26, seconds: float = 0.4) -> float:
    """Bytes a second, read and written, of the best copy within a fixed time."""
    import torch

    source, target = torch.ones(size, dtype=torch.uint8), torch.empty(size, dtype=torch.uint8)
    best, give_up_at = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < give_up_at or best == float("inf"):
        started = time.perf_counter()
        target.copy_(source)
        best = min(best, time.perf_counter() - started)
    return max(2 * size / best, GB)
