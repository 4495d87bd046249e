"""Optimizer steps on one thread: ours through DeepSpeed against transformers' GPT-2, and DeepSpeed against a plain loop.

Each case runs in a process of its own (``python -m benchmarks.model_step CASE``), its variants in turn, with a large matrix
product timed in every round: MFU is against that.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping

from benchmarks.measure import Comparison

SMALL = {"layers": 6, "hidden": 384, "heads": 6}
GPT2_124M = {"layers": 12, "hidden": 768, "heads": 12}
CASES: dict[str, dict[str, object]] = {
    "6 × 384, bf16": {**SMALL, "precision": "bf16", "micro_batch": 4, "repeats": 7},
    "6 × 384, fp32": {**SMALL, "precision": "fp32", "micro_batch": 4, "repeats": 5},
    "124M, bf16": {**GPT2_124M, "precision": "bf16", "micro_batch": 4, "repeats": 5},
    "124M, fp32": {**GPT2_124M, "precision": "fp32", "micro_batch": 4, "repeats": 5},
    "engine, one micro-step": {**SMALL, "precision": "bf16", "micro_batch": 16, "repeats": 7},
    "engine, eight micro-steps": {**SMALL, "precision": "bf16", "micro_batch": 2, "micro_steps": 8, "repeats": 7},
}
SPREAD_ALLOWED = 0.05
"""A baseline whose runs differ by more makes a row void."""
PEAK_SIZE = 1536


def run(cases: Mapping[str, Mapping[str, object]] = CASES) -> list[Comparison]:
    """All cases, one after the other."""
    rows: list[Comparison] = []
    for name, case in cases.items():
        command = [sys.executable, "-m", "benchmarks.model_step", json.dumps(case)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True, timeout=7200)
        rows += rows_of(name, json.loads(done.stdout.splitlines()[-1]))
    return rows


def rows_of(name: str, measured: Mapping[str, object]) -> list[Comparison]:
    """The rows of one case from what its process printed.

    Args:
        name: of the case.
        measured: ``tokens`` of a step, ``flops_per_token``, ``peak_flops`` (a second, of a matrix product),
            ``cpu_seconds`` and ``wall_seconds`` (variant -> one number a run), ``first_seconds`` (variant -> seconds of
            the first step, with compilation).
    """
    variants = list(measured["cpu_seconds"])  # type: ignore[call-overload]
    if name.startswith("engine"):
        at_most = 5 if "one" in name else 8
        wanted = f"overhead ≤ {at_most} %"
        pairs = [(variant, "plain loop", wanted) for variant in variants if variant != "plain loop"]
    else:
        target = name == "6 × 384, bf16"
        pairs = [
            ("ours", "transformers eager", "1.15; 60 % MFU" if target else ""),
            ("ours", "transformers compiled", "1.0" if target else ""),
            ("ours compiled", "transformers compiled", ""),
        ]
    return [_row(name, ours, baseline, wanted, measured) for ours, baseline, wanted in pairs]


def _row(name: str, ours: str, baseline: str, wanted: str, measured: Mapping[str, object]) -> Comparison:
    cpu, wall, first = (measured[key] for key in ("cpu_seconds", "wall_seconds", "first_seconds"))
    tokens, flops, peak = (float(measured[key]) for key in ("tokens", "flops_per_token", "peak_flops"))  # type: ignore[arg-type]

    def rate(seconds: object, variant: str) -> float:
        return tokens / statistics.median(seconds[variant])  # type: ignore[index]

    runs = cpu[baseline]  # type: ignore[index]
    spread = max(runs) / min(runs) - 1
    mine, theirs = rate(cpu, ours), rate(cpu, baseline)
    notes = [f"MFU {100 * mine * flops / peak:.0f} % against {100 * theirs * flops / peak:.0f} %"]
    if name.startswith("engine"):
        notes = [f"overhead {100 * (theirs / mine - 1):.1f} %"]
    notes.append(f"peak {peak / 1e9:.0f} GFLOP/s")
    if "compiled" in ours + baseline:
        notes.append(f"first steps {first[ours]:.0f} and {first[baseline]:.0f} s")  # type: ignore[index]
    notes.append(f"baseline spread {100 * spread:.1f} %" + ("; **void**" if spread > SPREAD_ALLOWED else ""))
    return Comparison(
        f"{name}: step of {tokens:,.0f} tokens, {ours}" + ("" if name.startswith("engine") else ", ZeRO-1"),
        baseline,
        "tokens",
        mine,
        theirs,
        rate(wall, ours),
        rate(wall, baseline),
        len(runs),
        wanted,
        "; ".join(notes),
    )


def measure_case(case: Mapping[str, object]) -> dict[str, object]:
    """Times one case in this process; see ``rows_of``."""
    from benchmarks.step_variants import Work, engine_step, join_alone, plain_step, transformers_steps
    from zhgpt.model.shape import flops_per_token

    settings = dict(case)
    repeats = int(str(settings.pop("repeats")))
    work = Work(**settings)  # type: ignore[arg-type]
    join_alone()
    if work.micro_batch * work.micro_steps == 4:
        steps = {
            **transformers_steps(work),
            "ours": engine_step(work, 1),
            "ours compiled": engine_step(work, 1, compile_blocks=True),
        }
    else:
        steps = {"plain loop": plain_step(work), "ZeRO-1": engine_step(work, 1), "ZeRO-2": engine_step(work, 2)}
    cpu: dict[str, list[float]] = {name: [] for name in steps}
    wall: dict[str, list[float]] = {name: [] for name in steps}
    first: dict[str, float] = {}
    peaks = []
    for attempt in range(repeats + 1):
        for name, step in steps.items():
            before, started = time.process_time(), time.perf_counter()
            step()
            if attempt == 0:
                first[name] = time.perf_counter() - started  # compilers are processes of their own
                step()  # Adam's state is there now; some graphs are made in the second step
                continue
            cpu[name].append(time.process_time() - before)
            wall[name].append(time.perf_counter() - started)
        peaks.append(peak_flops(work.precision))
    return {
        "tokens": work.tokens,
        "flops_per_token": flops_per_token(work.model, 512),
        "peak_flops": max(peaks),
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "first_seconds": first,
    }


def peak_flops(precision: str) -> float:
    """The best rate of a few products of square matrices, per CPU-second."""
    import torch

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = torch.ones(PEAK_SIZE, PEAK_SIZE, dtype=dtype), torch.ones(PEAK_SIZE, PEAK_SIZE, dtype=dtype)
    best = float("inf")
    for _ in range(4):
        before = time.process_time()
        torch.mm(left, right)
        best = min(best, time.process_time() - before)
    return 2 * PEAK_SIZE**3 / best


if __name__ == "__main__":
    print(json.dumps(measure_case(json.loads(sys.argv[1]))))
