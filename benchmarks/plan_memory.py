"""Planned memory against what real DeepSpeed ranks take on the CPU: ``python -m benchmarks.plan_memory``.

One row a cell: ZeRO stage, precision, ranks, micro batch, accumulation, checkpointing; a 23M-parameter model. Measured is the
peak of the fullest rank's resident memory above what it held after a small model had been through the same engine.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))


def main() -> None:
    """Measures every cell and prints the table."""
    from ranks import Ranks

    pool = Ranks()
    print(
        "| Model | Optimizer | Ranks | Precision | ZeRO | Micro batch | Accumulation | Checkpointing | Measured, MB "
        "| Planned, MB | Error |"
    )
    print("|---|---|---:|---|---:|---:|---:|---|---:|---:|---:|")
    shapes = [
        *[
            ("qwen3", "adamw", *rest)
            for rest in ((2, 1, 1, False), (2, 1, 2, False), (2, 4, 1, False), (2, 4, 1, True), (1, 1, 1, False))
        ],
        *[("gpt2", "adamw", *rest) for rest in ((2, 3, 1, False), (2, 2, 3, True))],
        *[
            (name, "muon", ranks, *rest)
            for name, *rest in (("qwen3", 1, 1, False), ("gpt2", 3, 1, False))
            for ranks in (1, 2)
        ],
    ]
    try:
        for name, optimizer, world_size, micro, accumulation, checkpointing in shapes:
            cells = [
                (precision, stage, micro, accumulation, checkpointing, optimizer)
                for precision in ("fp32", "bf16")
                for stage in (0, 1, 2, 3)
            ]
            found = pool.results("measured_memory:compare", cells, name, world_size=world_size, timeout=3600)
            for (precision, stage, *_), of_ranks in zip(cells, zip(*found, strict=True), strict=True):
                row = max(of_ranks, key=lambda of_rank: of_rank["measured"])
                error = 100 * (row["predicted"] / row["measured"] - 1)
                print(
                    f"| {name} | {optimizer} | {world_size} | {precision} | {stage} | {micro} | {accumulation} | "
                    f"{'yes' if checkpointing else 'no'} | {row['measured'] / 1e6:.0f} | {row['predicted'] / 1e6:.0f} | "
                    f"{error:+.1f} % |",
                    flush=True,
                )
    finally:
        pool.close()


if __name__ == "__main__":
    main()
