"""What a running training is made of, and the small steps that the loop is written in."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from zhgpt.checkpoint.save import save_checkpoint
from zhgpt.checkpoint.state import TrainState
from zhgpt.config.batch_plan import BatchPlan
from zhgpt.config.schema import RunConfig
from zhgpt.distributed.process_group import Ranks
from zhgpt.errors import DivergedError
from zhgpt.model.head import split_losses
from zhgpt.model.moe.make import draws_random_numbers
from zhgpt.train.batches import MicroBatch
from zhgpt.train.clock import Clock
from zhgpt.train.engine import (
    clip_unpartitioned_gradients,
    partitioned_gradient_norm,
    set_accumulation,
    set_learning_rate,
)
from zhgpt.train.held_out_data import HeldOut
from zhgpt.train.lap_steps import LapSteps
from zhgpt.train.loader import Loader
from zhgpt.train.memory import peak_memory_bytes
from zhgpt.train.outputs import Outputs
from zhgpt.train.routing import balance_by_bias, report_routing, seed_draws
from zhgpt.train.run_folder import RunFolder
from zhgpt.train.schedule import learning_rate_at
from zhgpt.train.spike_guard import SpikeGuard, SpikeState
from zhgpt.train.step_times import StepTimes
from zhgpt.train.stop import StopRequest
from zhgpt.train.text_samples import TextSampler
from zhgpt.train.training_data import TrainingData
from zhgpt.train.update_ratios import UpdateProbe, UpdateSums

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine


@dataclass(frozen=True)
class Training:
    """All parts of one run on one rank; built once, in order, by :func:`zhgpt.train.pretrain.pretrain`."""

    config: RunConfig
    plan: BatchPlan
    ranks: Ranks
    engine: "DeepSpeedEngine"
    data: TrainingData
    loader: Loader
    held_out: tuple[HeldOut, ...]
    """What is evaluated: the valid split of each source, or the datasets of evaluate.data."""
    text_sampler: TextSampler
    folder: RunFolder
    outputs: Outputs
    stop: StopRequest
    state: TrainState
    """Identity of the run; ``step`` and ``consumed_samples`` are those of the start."""
    flops_per_token: Mapping[int, int]
    """Forward and backward, by the length of the rows."""
    peak_tflops_per_rank: float | None
    times: StepTimes
    spikes: SpikeGuard
    lap: LapSteps = field(default_factory=LapSteps)
    clock: Clock = field(default_factory=Clock)

    @property
    def first_step(self) -> int:
        """0, or where the checkpoint left off."""
        return self.state.step

    @property
    def stable_steps(self) -> int | None:
        """Steps before wsd decays: that checkpoint is saved and kept, to branch from."""
        return self.config.schedule.stable_steps(self.plan.steps)

    @property
    def draws_random_numbers(self) -> bool:
        """Whether the model draws from torch's generator in training."""
        return draws_random_numbers(self.config.model.moe)


@dataclass(frozen=True)
class StepResult:
    """One optimizer step as this rank saw it; nothing here has waited for the device."""

    nats: torch.Tensor
    """Sum over this rank's targets, fp32 scalar on the device."""
    targets: int
    """Targets of the whole global batch."""
    learning_rate: float
    gradient_norm: torch.Tensor | None
    """Before clipping, float64 scalar on the device; None where DeepSpeed computes it."""
    router_loss: torch.Tensor | None
    """Sum over this rank's micro-steps of what the routers' losses added, fp32 scalar on the device; None: no mixture."""
    z_loss: torch.Tensor | None
    """Sum over this rank's targets, weighted, fp32 scalar on the device; None: no z-loss."""
    updates: UpdateSums | None = None
    """How far the step moved each layer, where a metrics line is due and it is measured."""


def train_step(training: Training, step: int) -> StepResult:
    """One optimizer step: micro-steps of forward and backward, then the update.

    The loss handed to DeepSpeed is the sum of nats times (ranks x micro-steps) / targets of the global batch. DeepSpeed
    divides by the micro-steps and averages over the ranks, so the gradient is that of the mean over all targets, exactly,
    also where the last sample of an epoch has fewer targets. A z-loss is part of that sum. The losses of routers are added
    as they are: their gradient is the mean over ranks and micro-steps.
    """
    plan, engine, config = training.plan, training.engine, training.config
    stage = plan.stage_at(step)
    set_accumulation(engine, stage.gradient_accumulation_steps)
    scheduled = learning_rate_at(step, plan.steps, config.optim.peak, config.schedule)
    rate = scheduled * training.spikes.state.rate_factor
    set_learning_rate(engine, rate)
    total: torch.Tensor | None = None
    z_loss: torch.Tensor | None = None
    routers: torch.Tensor | None = None
    norm: torch.Tensor | None = None
    updates: UpdateSums | None = None
    engine.train()
    for micro_step in range(stage.gradient_accumulation_steps):
        loaded = training.loader.take(step, micro_step)
        if training.draws_random_numbers:
            seed_draws(config.run.seed, step, micro_step, training.ranks.rank)
        with training.times.of("forward"):
            losses = split_losses(forward(training, loaded.batch.to(training.ranks.device)))
        loss = losses.objective * (plan.data_parallel_size * stage.gradient_accumulation_steps / loaded.targets)
        with training.times.of("backward"):
            engine.backward(loss if losses.router_loss is None else loss + losses.router_loss)
        total = losses.nats.detach() if total is None else total + losses.nats.detach()
        z_loss = added(z_loss, losses.z_loss)
        routers = added(routers, losses.router_loss)
        with training.times.of("update"):
            if engine.is_gradient_accumulation_boundary():
                norm = clip_unpartitioned_gradients(engine, config.optim.gradient_clipping)
                updates = update(training, step, total, loaded.targets, norm)
            else:
                engine.step()
    assert total is not None
    balance_by_bias(engine.module)
    training.clock.lap_tokens += plan.tokens_before(step + 1) - plan.tokens_before(step)
    return StepResult(total, loaded.targets, rate, norm, routers, z_loss, updates)


def update(
    training: Training, step: int, nats: torch.Tensor, targets: int, norm: torch.Tensor | None
) -> UpdateSums | None:
    """The step's update, unless the spike policy holds it back; measured where a metrics line is due."""
    engine = training.engine
    wanted = training.config.health.update_ratios and is_due(training, step + 1)
    probe = UpdateProbe(engine, training.ranks.world_size) if wanted else None
    spike = training.spikes.update(step, nats, targets, norm)
    training.lap.add(
        nats, targets, engine.get_global_grad_norm() if norm is None else norm, held_back=spike is not None
    )
    if spike is not None:
        state = training.spikes.state
        training.outputs.spike(step + 1, training.spikes.policy, spike, state.rate_factor)
    return probe.finish() if probe is not None and spike is None else None


def added(total: torch.Tensor | None, loss: torch.Tensor | None) -> torch.Tensor | None:
    """The running sum of a loss that there may be none of, without its graph."""
    if loss is None:
        return total
    return loss.detach() if total is None else total + loss.detach()


def forward(training: Training, inputs: MicroBatch) -> torch.Tensor:
    """The losses of one batch, on the device, as :func:`zhgpt.model.head.split_losses` takes them apart; in evaluation the
    sum of nats over its targets, fp32 scalar."""
    losses: torch.Tensor = training.engine(
        inputs.tokens, labels=inputs.labels, position_ids=inputs.position_ids, document_ids=inputs.document_ids
    )
    return losses


def is_due(training: Training, done: int) -> bool:
    """Whether a metrics line is due after ``done`` steps: by interval, at evaluations and saves, and at the first step."""
    config = training.config
    return (
        done % config.log.every_steps == 0
        or done == training.first_step + 1
        or evaluation_is_due(training, done)
        or save_is_due(training, done)
    )


def evaluation_is_due(training: Training, done: int) -> bool:
    """Whether to evaluate after ``done`` steps."""
    return done % training.config.evaluate.every_steps == 0 or done == training.plan.steps


def save_is_due(training: Training, done: int) -> bool:
    """Whether to save after ``done`` steps: by interval, at the end, and where wsd begins to decay."""
    return done % training.config.checkpoint.every_steps == 0 or done in (training.plan.steps, training.stable_steps)


def measure(training: Training, done: int, result: StepResult) -> dict[str, Any]:
    """The metrics line of one step; the only place that waits for the device.

    Raises:
        DivergedError: loss or gradient norm is not finite. Raised on every rank, before anything is saved.
    """
    norm = partitioned_gradient_norm(training.engine) if result.gradient_norm is None else float(result.gradient_norm)
    skipped = training.engine.skipped_steps - training.clock.skipped_steps
    training.clock.skipped_steps += skipped
    if skipped and training.config.train.precision == "fp16":
        norm = None  # the loss scale was too high and has been lowered: part of fp16, nothing has diverged
    held_back = training.lap.held_back
    local_nats = training.lap.local_nats()  # the device has finished now, and the lap with it
    rate, waited, lap_seconds = training.clock.lap(training.loader.waited_seconds)
    losses, norms, cpu_seconds, peaks = lap_over_ranks(training, local_nats)
    loss = losses[-1]
    peak = training.peak_tflops_per_rank
    plan, stage = training.plan, training.plan.stage_at(done - 1)
    flops_per_token = training.flops_per_token[stage.sequence_length]
    first_sample = plan.samples_before(done - 1) + training.spikes.state.skipped_samples
    tokens_per_byte = training.data.tokens_per_byte(first_sample, stage.global_batch_size)
    record = {
        "step": done,
        "loss": loss,
        "loss_max": max(losses),
        "bits_per_byte": loss / math.log(2) * tokens_per_byte,
        "learning_rate": result.learning_rate,
        "gradient_norm": norm,
        "gradient_norm_max": max(norms, default=None),
        "tokens_per_second": rate,
        "cpu_seconds": cpu_seconds,
        "data_wait": waited,
        **training.times.shares(lap_seconds),
        "mfu": None if peak is None else rate * flops_per_token / (peak * 1e12 * training.ranks.world_size),
        "peak_memory_bytes": max(peaks) or None,
        "consumed_tokens": plan.tokens_before(done),
        "elapsed_seconds": time.perf_counter() - training.clock.started,
        "eta_seconds": (plan.total_tokens - plan.tokens_before(done))
        * training.clock.total_seconds
        / max(1, training.clock.total_tokens),
    }
    record |= measure_z_loss(training, result) | measure_routing(training, done, result)
    if result.updates is not None:
        record |= result.updates.ratios(training.ranks)
    if held_back:
        record["held_back_steps"] = held_back
    if skipped:
        record["skipped_steps"] = skipped
    if save_is_due(training, done):
        training.outputs.event("memory", step=done, peak_bytes_of_ranks=peaks)
    left_out = skipped if training.config.train.precision != "fp16" else 0
    if held_back and training.spikes.policy != "warn":
        return record  # the policy has seen it and done what it does
    if left_out or not math.isfinite(loss) or (norm is not None and not math.isfinite(norm)):
        training.outputs.step(record, [])
        updates = f", {left_out} update(s) left out by DeepSpeed since the line before" if left_out else ""
        raise DivergedError(
            f"step {done}: loss {loss}, gradient norm {norm}{updates}; the last complete checkpoint in "
            f"{training.folder.checkpoints} is from before. Lower optim.learning_rate (now {result.learning_rate:.3g}), "
            "lengthen schedule.warmup_steps, or set optim.gradient_clipping=1.0"
        )
    return record


def lap_over_ranks(training: Training, local_nats: list[float]) -> tuple[list[float], list[float], float, list[int]]:
    """Losses and gradient norms of the steps since the last line, its CPU seconds, and each rank's peak memory in bytes.

    One collective.
    """
    ranks = training.ranks
    mine = [0.0] * ranks.world_size
    mine[ranks.rank] = float(peak_memory_bytes(ranks.device) or 0)
    losses, norms, (cpu_seconds, *peaks) = training.lap.finish(
        ranks, local_nats, [training.clock.last_lap_cpu_seconds, *mine]
    )
    if training.config.train.precision == "fp16":  # infinite where the loss scale was too high: no news of the run
        norms = [norm for norm in norms if math.isfinite(norm)]
    return losses, norms, cpu_seconds, [int(peak) for peak in peaks]


def measure_z_loss(training: Training, result: StepResult) -> dict[str, float]:
    """What the z-loss adds to the loss that is differentiated, a target, over all ranks; nothing where there is none."""
    if result.z_loss is None:
        return {}
    (total,) = training.ranks.sums([float(result.z_loss)])
    return {"z_loss": total / result.targets}


def measure_routing(training: Training, done: int, result: StepResult) -> dict[str, float | int]:
    """The metrics of a mixture of experts; loads and biases of each layer go to routing.jsonl. Nothing for a dense model."""
    report = report_routing(training.engine.module, training.ranks, training.clock.last_lap_seconds)
    if report is None or result.router_loss is None:
        return {}
    (total,) = training.ranks.sums([float(result.router_loss)])
    accumulation = training.plan.stage_at(done - 1).gradient_accumulation_steps
    micro_steps = training.plan.data_parallel_size * accumulation
    training.outputs.routing(done, report.layers)
    return {"router_loss": total / micro_steps, **report.record}


def save(training: Training, done: int) -> None:
    """Saves a checkpoint after ``done`` steps; reached by all ranks."""
    spikes = training.spikes.state
    spikes.rollbacks = 0  # they are counted for one checkpoint, and this is a new one
    state = replace(
        training.state,
        step=done,
        consumed_samples=training.plan.samples_before(done) + spikes.skipped_samples,
        spikes=spikes.to_json() if training.spikes.policy != "warn" or spikes != SpikeState() else {},
    )
    training.engine.eval()
    with torch.no_grad():
        probe = training.text_sampler.probe(training.engine)
    training.engine.train()
    started = time.perf_counter()
    path = save_checkpoint(
        training.engine,
        training.folder.checkpoints,
        state,
        probe,
        training.ranks,
        training.config.checkpoint.keep_last,
        training.stable_steps,
    )
    training.outputs.saved(done, path, time.perf_counter() - started)
    training.times.forget()
    training.clock.resume()
