"""One pretraining run on one rank: everything is built here, in order, then the loop runs."""

import importlib.metadata
import shutil
from pathlib import Path
from typing import Any, Literal

import torch

from megatron_style_data.atomic import atomic_folder
from zhgpt.checkpoint.load import load_checkpoint
from zhgpt.checkpoint.save import prepare_folder
from zhgpt.checkpoint.state import TrainState
from zhgpt.config.deepspeed_json import compose_deepspeed_config, zero_stage
from zhgpt.config.loading import run_config_to_yaml
from zhgpt.config.optim_groups import optimizer_identity
from zhgpt.config.schedule_checks import branch_step
from zhgpt.config.schema import RunConfig
from zhgpt.distributed.environment import RankEnvironment, read_slurm_job
from zhgpt.distributed.process_group import Ranks, join_ranks, lost_rank
from zhgpt.model.attention import choose_attention_backend
from zhgpt.model.compiling import CompileChoice
from zhgpt.model.fused_kernels import use_kernels
from zhgpt.model.initialise import initialise_weights
from zhgpt.model.shape import decoder_shape, flops_per_token
from zhgpt.model.transformer import CausalLM
from zhgpt.train.arguments import PretrainArguments
from zhgpt.train.clock import Clock
from zhgpt.train.compiling import agree_on_compiling, compile_notices
from zhgpt.train.decisions import Decisions
from zhgpt.train.engine import build_engine, communication_seconds
from zhgpt.train.environment_report import describe_environment
from zhgpt.train.held_out_data import HeldOut
from zhgpt.train.initial_weights import load_initial_weights
from zhgpt.train.loader import Loader, pins_memory
from zhgpt.train.logs import log_to_file, quiet_libraries
from zhgpt.train.loop import train
from zhgpt.train.memory import is_out_of_memory, out_of_memory
from zhgpt.train.optimizer import choose_optimizer
from zhgpt.train.outputs import Outputs
from zhgpt.train.parameter_roles import list_groups
from zhgpt.train.resume import check_resume_never, resume_of_start
from zhgpt.train.run_folder import RunFolder, RunLock, exit_status_of, write_run_files
from zhgpt.train.sinks import check_sinks
from zhgpt.train.spike_guard import SpikeGuard, SpikeState
from zhgpt.train.start import choose_start, prove_continuation, start_notices
from zhgpt.train.step_times import step_times
from zhgpt.train.stop import StopRequest
from zhgpt.train.text_samples import TextSampler
from zhgpt.train.throughput import peak_tflops, precision_notices
from zhgpt.train.training import Training
from zhgpt.train.training_data import open_training_samples


def join_run(
    arguments: PretrainArguments,
    decisions: Decisions,
    environment: RankEnvironment,
    accelerator: Literal["cpu", "cuda"],
) -> tuple[Ranks, RunLock | None]:
    """All ranks together, and on rank 0 the lock of the run's folder.

    Args:
        arguments: the command line.
        decisions: configuration, plan, data and model as checked by :func:`zhgpt.train.decisions.decide`.
        environment: who this rank is.
        accelerator: from :func:`zhgpt.distributed.process_group.prepare_rank`, called before this module was imported.

    Raises:
        SettingError: a package, a host or a GPU is missing. StorageError: a live run has the folder.
    """
    config = decisions.config
    quiet_libraries()
    check_sinks(config.log)
    ranks = join_ranks(
        environment,
        accelerator=accelerator,
        expected_hosts=config.launch.hosts,
        timeout_seconds=config.launch.timeout_seconds,
    )
    return ranks, ranks.first_does(lambda: open_folder(RunFolder(config.run.run_dir), arguments.resume))


def pretrain(
    arguments: PretrainArguments, decisions: Decisions, ranks: Ranks, lock: RunLock | None, stop: StopRequest
) -> None:
    """Runs one rank from start to the target step.

    Args:
        arguments: the command line.
        decisions: as for :func:`join_run`, which gave ``ranks`` and ``lock``.
        ranks: all of them.
        lock: of the run's folder, on rank 0; released here.
        stop: already listening for signals.

    Raises:
        UserError: any of its kinds, each with its exit code, also in ``exit_status.json``.
    """
    config, folder = decisions.config, RunFolder(decisions.config.run.run_dir)
    try:
        with exit_status_of(folder, ranks.rank, ranks.world_size, decisions.plan.steps):
            log_to_file(folder.logs, ranks.rank)
            try:
                training = build(arguments, decisions, folder, ranks, stop)
                try:
                    train(training)
                    ranks.barrier()  # no rank leaves as if all were well while another can still fail in its last save
                finally:
                    training.loader.close()
                    training.outputs.close()
            except (MemoryError, RuntimeError) as error:
                if is_out_of_memory(error):
                    raise out_of_memory(config, decisions.plan, str(error) or type(error).__name__) from None
                lost = lost_rank(error, config.launch.timeout_seconds) if isinstance(error, RuntimeError) else None
                if lost is None:
                    raise
                raise lost from error
    finally:
        if lock is not None:
            lock.release()


def open_folder(folder: RunFolder, resume: str) -> RunLock:
    """Takes the run's lock and clears the last attempt's exit status."""
    check_resume_never(folder, resume_of_start(folder, resume, read_slurm_job()).mode)
    lock = RunLock(folder)
    folder.exit_status.unlink(missing_ok=True)
    return lock


def build(
    arguments: PretrainArguments, decisions: Decisions, folder: RunFolder, ranks: Ranks, stop: StopRequest
) -> Training:
    """Model, engine, checkpoint, data and outputs, in this order."""
    config, plan = decisions.config, decisions.plan
    deepspeed_config = compose_deepspeed_config(config, decisions.deepspeed_json, plan, accelerator=ranks.accelerator)
    start = choose_start(arguments.resume, config, folder, ranks, initial_state(decisions, ranks))
    state, checkpoint = start.state, start.checkpoint

    shape = decoder_shape(decisions.model)
    backend = choose_attention_backend(
        decisions.model.attention_backend,
        ranks.device.type,
        attention_dtype(config),
        shape.head_dim,
    )
    compiling = agree_on_compiling(config, shape, zero_stage(decisions.deepspeed_json), ranks)
    module, started_from = build_module(decisions, ranks, backend.name, compiling, from_nothing=checkpoint is None)
    module.to(ranks.device)
    choice = choose_optimizer(config.optim, decisions.deepspeed_json, ranks)
    optimizer = choice.build(module, config.optim, config.train.precision, shape.width_ratio)
    groups = list_groups(optimizer.param_groups)
    engine = build_engine(module, optimizer, deepspeed_config)
    if checkpoint is not None:
        load_checkpoint(engine, checkpoint, state.ep_size)
    spikes = SpikeState.from_json(state.spikes)

    loader = Loader(
        open_training_samples(decisions.data, config.run.seed),
        plan,
        ranks.rank,
        first_step=state.step,
        attend_across_documents=config.data.attend_across_documents,
        pin_memory=pins_memory(ranks.device),
        prefetch=config.data.prefetch,
        skipped_samples=spikes.skipped_samples,
    )
    length = config.data.sequence_length
    held_out = [HeldOut(split.name, split.split, split.open(length), split.utf8_bytes) for split in decisions.held_out]
    sampler = TextSampler(decisions.tokenizer, config.evaluate, config.data.sequence_length, config.run.seed, ranks)
    peak, peak_source = peak_tflops(ranks.device, config.train.precision, config.log.peak_tflops)
    report = describe_environment(decisions, ranks, backend, peak, peak_source, choice.note, groups, state)
    report["compile"] = {"blocks": compiling.blocks, "reason": compiling.reason}
    keep = config.checkpoint.keep_last, config.schedule.stable_steps(plan.steps)
    set_aside = ranks.first_does(lambda: prepare_folder(folder.checkpoints, state.step, *keep))
    ranks.first_does(lambda: write_start(folder, decisions, deepspeed_config, report))
    resumed_step = state.step if checkpoint else None
    opened = ranks.first_does(lambda: Outputs.open(folder, config, plan, report, resumed_step))
    outputs = opened or Outputs(folder)
    slow = precision_notices(ranks.device, config.train.precision)
    said = [*decisions.notes, *started_from, *slow, *compile_notices(compiling), *start_notices(start, set_aside)]
    for notice in said:
        outputs.message(notice)
        outputs.event("notice", text=notice)
    if start.is_branching and checkpoint is not None:
        difference = prove_continuation(engine, sampler, checkpoint, config.train.precision)
        outputs.event("branched", **(state.branch or {}), largest_logit_difference=difference)
    return Training(
        config=config,
        plan=plan,
        ranks=ranks,
        engine=engine,
        data=decisions.data,
        loader=loader,
        held_out=tuple(held_out),
        text_sampler=sampler,
        folder=folder,
        outputs=outputs,
        stop=stop,
        state=state,
        flops_per_token={
            stage.sequence_length: flops_per_token(decisions.model, stage.sequence_length) for stage in plan.stages
        },
        peak_tflops_per_rank=peak,
        times=step_times(ranks.device, deepspeed_config, communication_seconds),
        spikes=SpikeGuard(engine, config.health.on_spike, ranks, spikes, config.train.precision == "fp16"),
        clock=Clock(skipped_steps=engine.skipped_steps),
    )


def build_module(
    decisions: Decisions, ranks: Ranks, attention_backend: str, compiling: CompileChoice, *, from_nothing: bool
) -> tuple[CausalLM, list[str]]:
    """The model of this rank with its first weights, and what the user should know about them."""
    config, model, ep_size = decisions.config, decisions.model, decisions.config.train.ep_size
    ep_rank = ranks.rank % ep_size
    module = CausalLM(
        model,
        attention_backend,
        activation_checkpointing=config.train.layers_to_recompute(model.num_hidden_layers),
        ep_size=ep_size,
        compile_blocks=compiling.blocks,
        z_loss_coef=config.train.z_loss_coef,
    )
    use_kernels(module, config.train.kernels, ranks.device.type)
    initialise_weights(module, model, config.run.seed, ep_rank=ep_rank, ep_size=ep_size)
    if config.train.initial_weights is None or not from_nothing:
        return module, []
    said = load_initial_weights(module, model, config.train.initial_weights, ep_rank=ep_rank, ep_size=ep_size)
    return module, [said]


def initial_state(decisions: Decisions, ranks: Ranks) -> TrainState:
    """The identity of this run, at step 0."""
    config, plan = decisions.config, decisions.plan
    branch = branch_step(config)
    return TrainState(
        step=0,
        consumed_samples=0,
        world_size=ranks.world_size,
        ep_size=config.train.ep_size,
        zero_stage=zero_stage(decisions.deepspeed_json),
        precision=config.train.precision,
        global_batch_size=plan.global_batch_size,
        micro_batch_size=plan.micro_batch_size,
        sequence_length=config.data.sequence_length,
        seed=config.run.seed,
        model=decisions.model.model_dump(mode="json"),
        dataset=decisions.data.identity(),
        optimizer=optimizer_identity(config.optim),
        deepspeed_version=importlib.metadata.version("deepspeed"),
        batch_stages=[[s.first_step, s.global_batch_size, s.sequence_length] for s in plan.stages],
        schedule={
            "name": config.schedule.name,
            "warmup_steps": config.schedule.warmup,
            "stable_steps": config.schedule.stable_steps(plan.steps),
            "learning_rate": config.optim.peak,
        },
        branch=None if branch is None else {"from": str(config.train.branch_from), "step": branch},
    )


def attention_dtype(config: RunConfig) -> torch.dtype:
    """The dtype attention computes in."""
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[config.train.precision]


def write_start(
    folder: RunFolder, decisions: Decisions, deepspeed_config: dict[str, Any], report: dict[str, Any]
) -> None:
    """Rank 0 writes what was decided, and copies the tokenizer so that the folder stands on its own."""
    write_run_files(folder, run_config_to_yaml(decisions.config), deepspeed_config, report)
    if not folder.tokenizer.exists():
        copy_tokenizer(decisions.tokenizer_path, folder.tokenizer)


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copies a tokenizer's folder, or the one file it consists of."""
    with atomic_folder(target) as aside:
        if source.is_dir():
            shutil.copytree(source, aside, dirs_exist_ok=True)
        else:
            shutil.copy(source, aside / source.name)
