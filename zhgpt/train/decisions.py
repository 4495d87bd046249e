"""Everything that follows from files and numbers alone: read, checked and described before anything starts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_style_data.manifest import check_tokenizer
from megatron_style_data.tokenizer import Tokenizer, load_tokenizer
from zhgpt.config.advice import RunNumbers, advice_for
from zhgpt.config.batch_plan import BatchPlan, plan_batch
from zhgpt.config.deepspeed_json import Accelerator, compose_deepspeed_config, composition_notes, load_deepspeed_json
from zhgpt.config.derived import derivation_notes, resolve_schedule
from zhgpt.config.description import describe_run
from zhgpt.config.loading import load_run_config
from zhgpt.config.model_shape import resolve_model
from zhgpt.config.schema import ModelSection, RunConfig
from zhgpt.distributed.local_launcher import count_gpus
from zhgpt.model.shape import count_parameters, decoder_shape, flops_per_token
from zhgpt.model.transformers_class import describe_export
from zhgpt.train.arguments import PretrainArguments
from zhgpt.train.held_out_data import HeldOutSplit, held_out_splits
from zhgpt.train.training_data import TrainingData, read_training_data


@dataclass(frozen=True)
class Decisions:
    """Checked inputs of a run; made without a process group, an accelerator or torch."""

    config: RunConfig
    deepspeed_json: dict[str, Any]
    plan: BatchPlan
    data: TrainingData
    held_out: tuple[HeldOutSplit, ...]
    model: ModelSection
    tokenizer: Tokenizer
    tokenizer_path: Path
    notes: tuple[str, ...] = ()
    """What was chosen where the settings leave it open, and why."""


def decide(arguments: PretrainArguments, world_size: int) -> Decisions:
    """Reads and checks configuration, DeepSpeed JSON, dataset manifest and tokenizer.

    Args:
        arguments: the command line.
        world_size: ranks that will run.

    Raises:
        SettingError, MissingInputError, BadDataError: with what to change.
    """
    config = load_run_config(arguments.config, arguments.overrides)
    deepspeed_json = load_deepspeed_json(arguments.deepspeed_config)
    plan = plan_batch(config, world_size)
    data = read_training_data(config.data, steps=plan.steps, samples_before=plan.samples_before)
    held_out = held_out_splits(data, config.evaluate)
    path = find_tokenizer(config, data)
    tokenizer = load_tokenizer(path)
    check_tokenizer(data.manifest, tokenizer)
    model = resolve_model(config, data.manifest.tokenizer.vocab_size)
    parameters = count_parameters(model).non_embedding
    notes = tuple(derivation_notes(config, plan, parameters))
    resolved = resolve_schedule(config, plan, parameters)
    return Decisions(resolved, deepspeed_json, plan, data, held_out, model, tokenizer, path, notes)


def find_tokenizer(config: RunConfig, data: TrainingData) -> Path:
    """``data.tokenizer``, or where the tokenizer that the (first) dataset was built with lies now."""
    if config.data.tokenizer is not None:
        return Path(config.data.tokenizer)
    return data.manifest.tokenizer_path(data.sources[0].prefix)


def likely_accelerator(config: RunConfig) -> Accelerator:
    """The accelerator a run here would take, found without touching one: the setting, else whether a GPU is listed."""
    if config.launch.accelerator != "auto":
        return config.launch.accelerator
    return "cuda" if count_gpus() else "cpu"


def run_numbers(decisions: Decisions) -> RunNumbers:
    """Sizes that the description and the warnings are about."""
    parameters = count_parameters(decisions.model)
    return RunNumbers(
        parameters=parameters.total,
        embedding_parameters=parameters.embedding,
        active_parameters=parameters.active,
        flops_per_token=flops_per_token(decisions.model, decisions.config.data.sequence_length),
        train_tokens=decisions.data.splits()["train"]["tokens"],
        sources=decisions.data.readings() if decisions.data.is_blend else (),
    )


def run_warnings(decisions: Decisions, accelerator: Accelerator) -> list[str]:
    """What the run can hardly reach, said before it starts."""
    numbers, ds_json = run_numbers(decisions), decisions.deepspeed_json
    advice = advice_for(decisions.config, decisions.plan, decisions.model, ds_json, numbers, accelerator=accelerator)
    return [said.en for said in advice]


def describe_decisions(decisions: Decisions) -> str:
    """What ``--dry-run`` prints: batch plan, parameters, FLOPs, notes, warnings and the composed JSON.

    Raises:
        SettingError: the DeepSpeed JSON and the run do not go together.
    """
    accelerator = likely_accelerator(decisions.config)
    composed = compose_deepspeed_config(
        decisions.config, decisions.deepspeed_json, decisions.plan, accelerator=accelerator
    )
    return describe_run(
        decisions.config,
        decisions.plan,
        decisions.model,
        composed,
        run_numbers(decisions),
        notes=[
            *decisions.notes,
            f"exports to {describe_export(decoder_shape(decisions.model))}",
            *composition_notes(decisions.config, decisions.deepspeed_json),
        ],
        warnings=run_warnings(decisions, accelerator),
    )
