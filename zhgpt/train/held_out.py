"""Evaluating within a run: the held-out loss, of each source too, and text samples."""

from typing import Any

import torch

from megatron_style_data.samples import Batch
from zhgpt.evaluate.validation import Validation, samples_of_each, validate
from zhgpt.train.batches import to_device
from zhgpt.train.training import Training, forward


def evaluate(training: Training, record: dict[str, Any]) -> list[dict[str, Any]]:
    """Adds held-out loss to ``record`` and returns text samples; reached by all ranks."""
    training.engine.eval()
    with torch.no_grad():
        if training.held_out:
            parts = validate_sources(training)
            whole = Validation.of_all(parts.values())
            record["valid_loss"] = whole.loss
            record["valid_perplexity"] = whole.perplexity
            record["valid_bits_per_byte"] = whole.bits_per_byte
            if training.data.is_blend or training.config.evaluate.data:
                record |= {f"valid_loss/{name}": part.loss for name, part in parts.items()}
                record |= {f"valid_bits_per_byte/{name}": part.bits_per_byte for name, part in parts.items()}
        samples = training.text_sampler.write(training.engine)
    training.engine.train()
    training.times.forget()
    training.clock.resume()
    return samples


def validate_sources(training: Training) -> dict[str, Validation]:
    """What each held-out text costs, by name; reached by all ranks."""
    data = training.config.data

    def summed_nats(batch: Batch) -> torch.Tensor:
        device = training.ranks.device
        return forward(training, to_device(batch, device, attend_across_documents=data.attend_across_documents))

    counts = samples_of_each(
        [part.samples.samples_per_epoch for part in training.held_out], training.config.evaluate.samples
    )
    found: dict[str, list[Validation]] = {}
    for part, count in zip(training.held_out, counts, strict=True):
        cost = validate(
            summed_nats,
            part.samples,
            part.utf8_bytes,
            micro_batch_size=training.plan.micro_batch_size,
            count=count,
            ranks=training.ranks,
        )
        found.setdefault(part.name, []).append(cost)
    return {name: Validation.of_all(costs) for name, costs in found.items()}
