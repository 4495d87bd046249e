"""Two ranks that share the experts out against two that hold them all: what the exchange of tokens costs, in real runs."""

import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Comparison
from benchmarks.records import ROOT
from zhgpt.train.metrics import read_metrics

STEPS, WARM_UP, REPEATS = 30, 10, 5


@dataclass(frozen=True)
class _Run:
    tokens_per_second: float
    tokens_per_cpu_second: float
    all_to_all_share: float


def run(prefix: Path, folder: Path) -> list[Comparison]:
    """configs/moe_demo.yaml, 512 and 4,096 tokens a micro step of a rank; one thread a rank, both on this host.

    Args:
        prefix: the dataset that is trained on.
        folder: for the runs.
    """
    return [_row(prefix, folder, micro_batch) for micro_batch in (2, 16)]


def _row(prefix: Path, folder: Path, micro_batch: int) -> Comparison:
    runs: dict[int, list[_Run]] = {2: [], 1: []}
    for repeat in range(REPEATS):
        for ep_size, found in runs.items():
            found.append(_run(prefix, folder / f"ep{ep_size}_{micro_batch}_{repeat}", ep_size, micro_batch))
    shared_out, whole = runs[2], runs[1]
    shares = [100 * run.all_to_all_share for run in shared_out]
    return Comparison(
        f"mixture run on two ranks, experts shared out (ep 2), {micro_batch * 256:,} tokens a rank",
        "the same run with all experts on both ranks (ep 1)",
        "tokens",
        statistics.median(run.tokens_per_cpu_second for run in shared_out),
        statistics.median(run.tokens_per_cpu_second for run in whole),
        statistics.median(run.tokens_per_second for run in shared_out),
        statistics.median(run.tokens_per_second for run in whole),
        REPEATS,
        notes=f"all-to-all {statistics.median(shares):.1f} % of the time ({min(shares):.1f} to {max(shares):.1f} %), "
        "waiting for the other rank included",
    )


def _run(prefix: Path, folder: Path, ep_size: int, micro_batch: int) -> _Run:
    batch = f"train.global_batch_tokens={2 * micro_batch * 256}"
    settings = (
        *(f"data.train={prefix}", f"run.dir={folder}", f"train.ep_size={ep_size}", f"train.steps={STEPS}"),
        *(f"train.micro_batch_size={micro_batch}", batch, "evaluate.samples=1", "evaluate.prompts=[]"),
        *("schedule.warmup_steps=10", "log.every_steps=1", "log.tensorboard=false", "launch.accelerator=cpu"),
    )
    config, deepspeed = ROOT / "configs" / "moe_demo.yaml", ROOT / "ds_configs" / "moe_zero1.json"
    command = [sys.executable, "-m", "zhgpt.cli.main", "pretrain", "-n", "2"]
    command += ["--config", str(config), "--deepspeed_config", str(deepspeed), *settings]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=600)
    steps = [record for record in read_metrics(folder / "metrics.jsonl").records if record["step"] > WARM_UP]
    tokens_per_step = 2 * micro_batch * 256
    return _Run(
        tokens_per_second=statistics.median(record["tokens_per_second"] for record in steps),
        tokens_per_cpu_second=statistics.median(tokens_per_step / record["cpu_seconds"] for record in steps),
        all_to_all_share=statistics.median(record.get("all_to_all_share", 0.0) for record in steps),
    )
