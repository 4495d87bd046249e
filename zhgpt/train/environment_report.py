"""What a run ran on and decided, for ``environment.json`` and the report."""

import importlib.metadata
import platform
from dataclasses import asdict
from typing import Any

import torch

from zhgpt import __version__
from zhgpt.checkpoint.state import TrainState
from zhgpt.config.description import describe_experts, describe_options
from zhgpt.distributed.environment import read_slurm_job
from zhgpt.distributed.process_group import Ranks
from zhgpt.model.attention import AttentionChoice
from zhgpt.model.shape import count_parameters, decoder_shape, flops_per_token
from zhgpt.model.transformers_class import describe_export
from zhgpt.train.decisions import Decisions, run_warnings
from zhgpt.train.run_folder import now


def describe_environment(
    decisions: Decisions,
    ranks: Ranks,
    attention: AttentionChoice,
    peak_tflops_per_rank: float | None,
    peak_source: str,
    optimizer_note: str,
    optimizer_groups: list[dict[str, Any]],
    state: TrainState,
) -> dict[str, Any]:
    """A JSON-ready account of versions, machine, model, batch, data and warnings."""
    data, config = decisions.data, decisions.config
    floor, job = data.floor(), read_slurm_job()
    device = torch.cuda.get_device_name(ranks.device) if ranks.device.type == "cuda" else platform.processor() or "CPU"
    return {
        "started_at": now(),
        "first_step": state.step,
        "branch": state.branch,
        "versions": {
            "zhgpt": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "deepspeed": importlib.metadata.version("deepspeed"),
            "transformers": importlib.metadata.version("transformers"),
        },
        "launcher": ranks.launcher,
        "slurm_job": job.number if job is not None else None,
        "world_size": ranks.world_size,
        "hosts": ranks.hosts,
        "host_names": sorted(set(ranks.host_names)),
        "accelerator": ranks.accelerator,
        "device": device,
        "threads_per_rank": torch.get_num_threads(),
        "attention_backend": {"name": attention.name, "passed_over": list(attention.reasons)},
        "schedule": config.schedule.name,
        "optimizer": optimizer_note,
        "optimizer_groups": optimizer_groups,
        "options": describe_options(decisions.model, config.train.z_loss_coef),
        "experts": describe_experts(decisions.model, config.train.ep_size),
        "exports_to": describe_export(decoder_shape(decisions.model)),
        "peak_tflops_per_rank": peak_tflops_per_rank,
        "peak_source": peak_source,
        "parameters": asdict(count_parameters(decisions.model)),
        "flops_per_token": flops_per_token(decisions.model, config.data.sequence_length),
        "model": decisions.model.model_dump(mode="json"),
        "batch_plan": asdict(decisions.plan),
        "dataset": {
            "prefix": data.label,
            "tokenizer_fingerprint": data.manifest.tokenizer.fingerprint,
            "splits": data.splits(),
            "sources": [{"prefix": s.prefix, **asdict(r)} for s, r in zip(data.sources, data.readings(), strict=True)],
        },
        "floor": asdict(floor) if floor is not None else None,
        "notes": list(decisions.notes),
        "warnings": run_warnings(decisions, ranks.accelerator),
    }
