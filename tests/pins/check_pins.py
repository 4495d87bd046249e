"""Re-runs every DeepSpeed quirk that zhgpt guards against on the installed version, and says which one is gone.

    python tests/pins/check_pins.py        (make check-pins; before and after a change of constraints.txt)

Real processes over gloo at tiny size, each with a time-out. Exit code 0: every quirk could be looked at, gone or not;
1: a probe failed, so that nothing is known about its quirk.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import launcher_probes

from zhgpt.distributed.environment import free_port

HERE = Path(__file__).resolve().parent
RANK_SECONDS = 240.0


@dataclass(frozen=True)
class Quirk:
    """One thing that DeepSpeed (or torchrun) does, with the file (and function) that guards against it."""

    probe: str
    what: str
    guard: str


QUIRKS: tuple[Quirk, ...] = (
    Quirk(
        "clips_at_one_when_nothing_is_said",
        "gradient_clipping is 1.0 when left out",
        "zhgpt/config/deepspeed_json.py",
    ),
    Quirk(
        "bf16_without_zero_steps_twice",
        "bf16 + ZeRO-0 takes a phantom optimizer step",
        "zhgpt/config/deepspeed_json.py",
    ),
    Quirk(
        "bf16_without_zero_refuses_fp32_accumulation",
        "bf16 + ZeRO-0 refuses fp32 accumulation",
        "zhgpt/config/deepspeed_json.py",
    ),
    Quirk(
        "bf16_zero1_with_fp32_accumulation_is_another_class",
        "bf16 + ZeRO-1 + fp32 accumulation is BF16_Optimizer",
        "zhgpt/config/deepspeed_json.py",
    ),
    Quirk(
        "offload_refuses_torch_adamw",
        "offload takes DeepSpeedCPUAdam alone by default",
        "zhgpt/config/deepspeed_json.py",
    ),
    Quirk(
        "the_latencies_of_collectives_are_running_totals",
        "comms_logger's latencies are running totals",
        "zhgpt/train/engine.py",
    ),
    Quirk("zero3_refuses_native_moe", "ZeRO-3 refuses native MoE", "zhgpt/config/zero_rules.py"),
    Quirk(
        "another_accumulation_ends_the_step_in_mid_batch",
        "set_train_batch_size ends a step too soon",
        "zhgpt/train/engine.py:set_accumulation",
    ),
    Quirk("no_gradient_norm_without_zero", "no gradient norm at ZeRO-0 in fp32", "zhgpt/train/engine.py"),
    Quirk(
        "the_norm_without_zero_is_summed_in_fp32",
        "ZeRO-0 clips by a norm summed in fp32",
        "zhgpt/train/engine.py",
    ),
    Quirk(
        "its_muon_clips_what_it_has_orthogonalised",
        "its Muon clips the orthogonalised gradient",
        "zhgpt/train/muon.py",
    ),
    Quirk("a_nan_loss_raises_nothing", "a NaN loss is skipped in silence", "zhgpt/train/training.py:measure"),
    Quirk(
        "loading_nothing_is_only_a_warning",
        "load_checkpoint returns None where nothing is",
        "zhgpt/checkpoint/load.py",
    ),
    Quirk("a_flipped_bit_loads_silently", "a flipped bit loads without a word", "zhgpt/checkpoint/layout.py"),
    Quirk(
        "another_world_size_does_not_load", "ZeRO-1 does not load at another world size", "zhgpt/checkpoint/state.py"
    ),
    Quirk(
        "latest_is_written_before_all_shards",
        "`latest` is written before other ranks' shards",
        "zhgpt/checkpoint/save.py",
    ),
    Quirk(
        "the_shared_memory_op_is_built_at_start",
        "init_distributed compiles the shm op",
        "zhgpt/distributed/op_builds.py:settle_shm_op",
    ),
    Quirk(
        "zero_groups_ignore_the_timeout",
        "ZeRO's groups ignore the time-out given at start",
        "zhgpt/distributed/process_group.py:limit_waiting",
    ),
    Quirk(
        "a_missing_host_file_means_one_host",
        "deepspeed: a missing host file means one host",
        "zhgpt/distributed/process_group.py:check_hosts",
    ),
    Quirk(
        "sigterm_leaves_the_ranks_as_orphans",
        "deepspeed: SIGTERM leaves the ranks as orphans",
        "zhgpt/distributed/local_launcher.py",
    ),
    Quirk(
        "a_killed_node_launcher_counts_as_success",
        "deepspeed: a killed launch.py ends with 0",
        "zhgpt/distributed/local_launcher.py",
    ),
    Quirk(
        "a_stop_signal_loses_the_exit_code",
        "deepspeed: SIGTERM loses the ranks' exit code",
        "zhgpt/distributed/local_launcher.py",
    ),
    Quirk(
        "torchrun_returns_one_whatever_happened",
        "torchrun returns 1 whatever happened",
        "slurm/pretrain.sbatch",
    ),
    Quirk("path_does_not_travel_over_ssh", "deepspeed over ssh: PATH does not travel", "docs/clusters.md"),
)
# A switch that a guard relies on: it must stay, so "still there" means that it is missing.
MUST_NOT_APPEAR = Quirk(
    "the_shared_memory_op_cannot_be_switched_off",
    "the switch for the shm op is gone",
    "zhgpt/distributed/op_builds.py:settle_shm_op",
)


def run_ranks(group: str, ranks: int, folder: Path) -> dict[str, bool | str]:
    """Starts engine_probes.py once a rank and returns what it wrote; one entry named after the group if it wrote nothing."""
    result = folder / f"{group}.json"
    place = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(ranks),
        "DS_ACCELERATOR": "cpu",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, str(HERE / "engine_probes.py"), group, str(folder), str(result)],
            env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=(folder / f"{group}-{rank}.log").open("w"),
        )
        for rank in range(ranks)
    ]
    try:
        for process in processes:
            process.wait(timeout=RANK_SECONDS)
    except subprocess.TimeoutExpired:
        return {group: f"the ranks did not end within {RANK_SECONDS:.0f} s"}
    finally:
        for process in processes:
            process.kill()
            process.wait(timeout=10)
    if not result.exists():
        return {group: (folder / f"{group}-0.log").read_text()[-2000:]}
    outcomes: dict[str, bool | str] = json.loads(result.read_text())
    return outcomes


def run_launcher_probes(folder: Path) -> dict[str, bool | str]:
    """The launchers' quirks, one start after the other."""
    outcomes: dict[str, bool | str] = {}
    for probe in launcher_probes.PROBES:
        try:
            outcomes[probe.__name__] = probe(folder / probe.__name__)
        except (OSError, subprocess.SubprocessError) as error:
            outcomes[probe.__name__] = f"{type(error).__name__}: {error}"
    return outcomes


def describe(outcome: bool | str | None) -> str:
    """One word for the table."""
    return "still there" if outcome is True else "GONE" if outcome is False else "NOT KNOWN"


def main() -> int:
    """Prints the table."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("deepspeed", "torch"))
    print(f"{versions}: quirks that zhgpt guards against (about a minute)", flush=True)
    with tempfile.TemporaryDirectory(prefix="check-pins-") as name:
        folder = Path(name)
        outcomes = {
            **run_ranks("two", 2, folder),
            **run_ranks("one", 1, folder),
            **run_launcher_probes(folder),
        }
    width, guard = max(len(quirk.what) for quirk in QUIRKS), max(len(quirk.guard) for quirk in QUIRKS)
    for quirk in QUIRKS:
        print(f"{quirk.what:<{width}}  {quirk.guard:<{guard}}  {describe(outcomes.get(quirk.probe))}")
    for name, outcome in outcomes.items():
        if isinstance(outcome, str):
            print(f"\n{name} failed:\n{outcome}", file=sys.stderr)
    gone = [quirk for quirk in QUIRKS if outcomes.get(quirk.probe) is False]
    for quirk in gone:
        print(f"gone: {quirk.what}; look whether the guard in {quirk.guard} can go, too")
    unknown = [quirk for quirk in QUIRKS if not isinstance(outcomes.get(quirk.probe), bool)]
    broken = outcomes.get(MUST_NOT_APPEAR.probe) is not False
    if broken:
        print(f"error: {MUST_NOT_APPEAR.what}; {MUST_NOT_APPEAR.guard} needs another way", file=sys.stderr)
    print(f"{len(QUIRKS) - len(gone) - len(unknown)} still there, {len(gone)} gone, {len(unknown)} not known")
    return 1 if unknown or broken else 0


if __name__ == "__main__":
    sys.exit(main())
