"""Optimizer steps on one thread: ours through DeepSpeed against transformers' GPT-2, and DeepSpeed against a plain loop.

Each variant lives in a process of its own (``python -m benchmarks.model_step VARIANT CASE``) with one thread, and takes a step
whenever it is told to; the variants of a case take turns. So does a large matrix product: MFU is against that. A turn is
several steps, so that what one step happens to meet (page faults, a timer) does not decide. On a machine that is not one's
own alone the rounds go on until so many in a row are quiet: those count, for all variants alike. What all rounds say, each
against its own baseline, stands beside: an interval that is meant to hold where no rounds are quiet.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from tempfile import TemporaryDirectory

from benchmarks.measure import Comparison

SMALL = {"layers": 6, "hidden": 384, "heads": 6}
GPT2_124M = {"layers": 12, "hidden": 768, "heads": 12}
CASES: dict[str, dict[str, object]] = {
    "6 × 384, bf16": {**SMALL, "precision": "bf16", "micro_batch": 4, "repeats": 7, "steps": 4},
    "6 × 384, fp32": {**SMALL, "precision": "fp32", "micro_batch": 4, "repeats": 5, "steps": 2},
    "124M, bf16": {**GPT2_124M, "precision": "bf16", "micro_batch": 4, "repeats": 5, "steps": 1},
    "124M, fp32": {**GPT2_124M, "precision": "fp32", "micro_batch": 2, "repeats": 5, "steps": 1, "rounds": 6},
    "engine, one micro-step": {**SMALL, "precision": "bf16", "micro_batch": 16, "repeats": 7, "steps": 1},
    "engine, eight micro-steps": {
        **SMALL,
        "precision": "bf16",
        "micro_batch": 2,
        "micro_steps": 8,
        "repeats": 7,
        "steps": 1,
    },
}
MODEL_VARIANTS = ("transformers eager", "transformers compiled", "ours", "ours compiled", "ours, Muon")
ENGINE_VARIANTS = ("plain loop", "ZeRO-1", "ZeRO-2")
SPREAD_ALLOWED = 0.05
"""A baseline whose runs differ by more makes a row void."""
MOST_ROUNDS = 3
"""Times the repeats of a case after which no quieter rounds are waited for, unless it says how many ``rounds``."""
PEAK_SIZE = 1536
Round = Mapping[str, Mapping[str, float]]
"""What a turn of each variant took: variant -> ``cpu_seconds`` and ``wall_seconds``."""


def run(prefix: str) -> list[Comparison]:
    """The cases whose names begin so, one after the other."""
    rows: list[Comparison] = []
    for name, case in CASES.items():
        if name.startswith(prefix):
            rows += rows_of(name, measure_case(name, case))
    return rows


def rows_of(name: str, measured: Mapping[str, object]) -> list[Comparison]:
    """The rows of one case from what its processes answered.

    Args:
        name: of the case.
        measured: ``tokens`` of a step, ``flops_per_token``, ``peak_flops`` (a second, of a matrix product),
            ``cpu_seconds`` and ``wall_seconds`` (of a step: variant -> one number a turn), ``first_seconds`` (variant ->
            seconds of the first step, with compilation), ``all_cpu_seconds`` (as ``cpu_seconds``, of all rounds that were
            run to find the quiet ones).
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
            ("ours compiled", "transformers eager", ""),
            ("ours compiled", "transformers compiled", ""),
            ("ours, Muon", "ours", ""),
        ]
    return [_row(name, ours, baseline, wanted, measured) for ours, baseline, wanted in pairs]


def _row(name: str, ours: str, baseline: str, wanted: str, measured: Mapping[str, object]) -> Comparison:
    cpu, wall, first = (measured[key] for key in ("cpu_seconds", "wall_seconds", "first_seconds"))
    tokens, flops, peak = (float(measured[key]) for key in ("tokens", "flops_per_token", "peak_flops"))  # type: ignore[arg-type]

    def rate(seconds: object, variant: str) -> float:
        return tokens / statistics.median(seconds[variant])  # type: ignore[index]

    runs = cpu[baseline]  # type: ignore[index]
    spread = spread_of(runs)
    mine, theirs = rate(cpu, ours), rate(cpu, baseline)
    notes = [f"MFU {100 * mine * flops / peak:.0f} % against {100 * theirs * flops / peak:.0f} %"]
    if name.startswith("engine") or baseline == "ours":
        notes = [f"overhead {100 * (theirs / mine - 1):.1f} %"]
    notes.append(f"peak {peak / 1e9:.0f} GFLOP/s")
    if "compiled" in ours + baseline:
        notes.append(f"first steps {first[ours]:.0f} and {first[baseline]:.0f} s")  # type: ignore[index]
    rounds = measured["all_cpu_seconds"]
    ratios = [base / own for base, own in zip(rounds[baseline], rounds[ours], strict=True)]  # type: ignore[index]
    low, high = median_between(ratios)
    notes.append(f"ratio within all {len(ratios)} rounds {low:.2f} to {high:.2f}")
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


def measure_case(name: str, case: Mapping[str, object]) -> dict[str, object]:
    """Starts the variants of a case and times their steps in turns; see ``rows_of``."""
    settings = dict(case)
    repeats, steps = (int(str(settings.pop(key))) for key in ("repeats", "steps"))
    most_rounds = int(str(settings.pop("rounds", MOST_ROUNDS * repeats)))
    variants = ENGINE_VARIANTS if name.startswith("engine") else MODEL_VARIANTS
    baselines = [variant for variant in variants if variant.startswith(("transformers", "plain"))]
    with ExitStack() as stack:
        cache = stack.enter_context(TemporaryDirectory())  # so that each first step compiles
        processes = {
            variant: stack.enter_context(_Variant(variant, settings, cache)) for variant in (*variants, "peak")
        }
        facts = {variant: process.answer() for variant, process in processes.items()}
        first = {variant: processes[variant].step() for variant in processes}
        for process in [*processes.values()] * 2:  # Adam's state is there now; some graphs are made in the second step
            process.step()
        rounds: list[Round] = []
        while len(rounds) < most_rounds:
            turns = {one: _mean([process.step() for _ in range(steps)]) for one, process in processes.items()}
            rounds.append(turns)
            spread = baselines_spread(rounds[-repeats:], baselines)
            print(f"{name}: round {len(rounds)}, baselines spread {100 * spread:.1f} %", file=sys.stderr)
            if len(rounds) >= repeats and spread <= SPREAD_ALLOWED:
                break
    quiet = quietest(rounds, repeats, baselines)

    def times(key: str) -> dict[str, list[float]]:
        return {variant: [turns[variant][key] for turns in quiet] for variant in variants}

    return {
        **facts[variants[0]],
        "peak_flops": 2 * PEAK_SIZE**3 / min(turns["peak"]["cpu_seconds"] for turns in quiet),
        "cpu_seconds": times("cpu_seconds"),
        "wall_seconds": times("wall_seconds"),
        # Seconds of wall time: compilers are processes of their own.
        "first_seconds": {variant: first[variant]["wall_seconds"] for variant in variants},
        "all_cpu_seconds": {variant: [turns[variant]["cpu_seconds"] for turns in rounds] for variant in variants},
    }


def quietest(rounds: Sequence[Round], count: int, baselines: Sequence[str]) -> Sequence[Round]:
    """So many rounds in a row as ``count`` in which the baselines differ least; the last of those that are equal."""
    windows = [rounds[at : at + count] for at in range(len(rounds) - count, -1, -1)]
    return min(windows, key=lambda window: baselines_spread(window, baselines))


def baselines_spread(rounds: Sequence[Round], baselines: Sequence[str]) -> float:
    """The largest spread of a baseline's CPU-seconds over the rounds."""
    return max(spread_of([turns[variant]["cpu_seconds"] for turns in rounds]) for variant in baselines)


def spread_of(runs: Sequence[float]) -> float:
    """By how much the slowest is above the fastest, as a share of it."""
    return max(runs) / min(runs) - 1


def median_between(values: Sequence[float]) -> tuple[float, float]:
    """Between which of the values the median lies with 95 %, whatever their distribution; below six values, all of them.

    Each is as likely below the median as above it, so how many are below is binomial.
    """
    ordered, count = sorted(values), len(values)
    outside, skipped = 0.0, 0
    while skipped < count // 2 and (outside := outside + math.comb(count, skipped) / 2**count) <= 0.025:
        skipped += 1
    at = max(skipped - 1, 0)
    return ordered[at], ordered[count - 1 - at]


def _mean(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: statistics.fmean(step[key] for step in steps) for key in steps[0]}


class _Variant:
    """A process that takes one step for every line that it is sent, and answers each with a line of JSON."""

    def __init__(self, variant: str, settings: Mapping[str, object], cache: str) -> None:
        command = [sys.executable, "-m", "benchmarks.model_step", variant, json.dumps(settings)]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "TORCHINDUCTOR_CACHE_DIR": f"{cache}/{variant.replace(' ', '_')}",
        }
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> "_Variant":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def step(self) -> dict[str, float]:
        """One step: its ``cpu_seconds`` and ``wall_seconds``."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, float]:
        """The next line that is not some library's.

        Raises:
            RuntimeError: the process has ended; what it wrote to stderr says why.
        """
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                answer: dict[str, float] = json.loads(line)
                return answer
        raise RuntimeError(f"{self._process.args!r} ended with exit code {self._process.wait(timeout=60)}")


def serve(variant: str, settings: Mapping[str, object]) -> None:
    """One variant: says what it computes, then takes a step for every line of stdin."""
    import torch

    from benchmarks.step_variants import SEQUENCE, VARIANTS, Work
    from zhgpt.model.shape import flops_per_token

    torch.set_num_threads(1)
    work = Work(**settings)  # type: ignore[arg-type]
    step = product_of(work.precision) if variant == "peak" else VARIANTS[variant](work)
    print(json.dumps({"tokens": work.tokens, "flops_per_token": flops_per_token(work.model, SEQUENCE)}), flush=True)
    for _ in sys.stdin:
        before, started = time.process_time(), time.perf_counter()
        step()
        seconds = {"cpu_seconds": time.process_time() - before, "wall_seconds": time.perf_counter() - started}
        print(json.dumps(seconds), flush=True)


def product_of(precision: str) -> Callable[[], object]:
    """A product of two square matrices; MFU is against the fastest of a case."""
    import torch

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = torch.ones(PEAK_SIZE, PEAK_SIZE, dtype=dtype), torch.ones(PEAK_SIZE, PEAK_SIZE, dtype=dtype)
    return lambda: torch.mm(left, right)


if __name__ == "__main__":
    serve(sys.argv[1], json.loads(sys.argv[2]))
