"""One rank, started by ``deepspeed``, ``torchrun``, ``srun``, ``mpirun``, plain ``python`` or ``zhgpt pretrain``."""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from zhgpt.distributed.environment import RankEnvironment, read_rank_environment
from zhgpt.errors import OutOfMemoryError, UserError
from zhgpt.train.arguments import PretrainArguments
from zhgpt.train.stop import StopRequest


def parse_arguments(argv: Sequence[str]) -> tuple[PretrainArguments, bool]:
    """The arguments of ``launch/pretrain.py`` and whether this is a dry run."""
    parser = argparse.ArgumentParser(description="One rank of a pretraining run.", allow_abbrev=False)
    parser.add_argument("--config", type=Path, required=True, help="RunConfig recipe (YAML)")
    parser.add_argument(
        "--deepspeed_config",
        "--deepspeed-config",
        type=Path,
        default=Path("ds_configs/zero1.json"),
        help="DeepSpeed JSON with the ZeRO stage (default: %(default)s)",
    )
    parser.add_argument("--resume", default="auto", help="auto, never, or the path of a checkpoint or run")
    parser.add_argument("--dry-run", action="store_true", help="print plan and composed JSON; start nothing")
    parser.add_argument(
        "--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS
    )  # from launchers; the environment says it too
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="overrides, e.g. train.steps=20")
    parsed = parser.parse_intermixed_args(list(argv))
    arguments = PretrainArguments(parsed.config, parsed.deepspeed_config, parsed.resume, tuple(parsed.overrides))
    return arguments, bool(parsed.dry_run)


def rank_command(arguments: PretrainArguments) -> list[str]:
    """The command our launcher starts once a rank."""
    return [sys.executable, "-m", "zhgpt.cli.rank", *arguments.to_argv()]


def dry_run_text(arguments: PretrainArguments, world_size: int) -> str:
    """What ``--dry-run`` prints."""
    from zhgpt.train.decisions import decide, describe_decisions

    return describe_decisions(decide(arguments, world_size))


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs one rank and leaves with its documented exit code, also written to ``exit_status.json``."""
    arguments, dry_run = parse_arguments(sys.argv[1:] if argv is None else argv)
    stop = StopRequest()
    stop.listen()  # before the slow imports: a signal in the first seconds counts, too
    environment: RankEnvironment | None = None
    try:
        environment = read_rank_environment()
        if dry_run:
            if environment.rank == 0:
                print(dry_run_text(arguments, environment.world_size))
            sys.exit(0)
        run_rank(arguments, environment, stop)
    except UserError as error:
        report(error, environment)
        end_process(error.exit_code)
    sys.exit(0)


def run_rank(arguments: PretrainArguments, environment: RankEnvironment, stop: StopRequest) -> None:
    """Runs the training; a bug keeps its traceback and ends this process at once, so that no other rank waits for it."""
    from zhgpt.config.loading import find_run_dir
    from zhgpt.train.decisions import decide
    from zhgpt.train.run_folder import exit_status_of_refusal

    speaks = environment.local_rank == 0
    run_dir = find_run_dir(arguments.config, arguments.overrides) if speaks else None
    try:
        with exit_status_of_refusal(run_dir, environment.rank, environment.world_size):
            decisions = decide(arguments, environment.world_size)
            from zhgpt.distributed.process_group import leave, prepare_rank

            launch = decisions.config.launch
            accelerator = prepare_rank(environment, launch.accelerator, launch.world_size)
            from zhgpt.train.pretrain import join_run, pretrain  # imports DeepSpeed, which reads what is set now

            ranks, lock = join_run(arguments, decisions, environment, accelerator)
        pretrain(arguments, decisions, ranks, lock, stop)
    except UserError:
        raise
    except BaseException:
        traceback.print_exc()
        end_process(1)
    leave()


def end_process(code: int) -> NoReturn:
    """Leaves without running destructors, none of which may wait for ranks that are still in a collective."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def report(error: UserError, environment: RankEnvironment | None) -> None:
    """Prints an error once a host; a rank that ran out of memory speaks for itself."""
    if environment is None or environment.local_rank == 0 or isinstance(error, OutOfMemoryError):
        prefix = f"[rank {environment.rank}] " if environment and environment.world_size > 1 else ""
        sys.stderr.write(f"{prefix}error: {error}\n")


if __name__ == "__main__":
    main()
