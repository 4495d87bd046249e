"""Evaluating within a run: the held-out loss, of each text and of each document, and text samples."""

from typing import Any

import torch

from megatron_style_data.samples import Batch
from zhgpt.evaluate.validation import DocumentCosts, Validation, samples_of_each, validate
from zhgpt.train.batches import to_device
from zhgpt.train.document_costs import SplitCosts
from zhgpt.train.training import Training


def evaluate(training: Training, record: dict[str, Any]) -> list[dict[str, Any]]:
    """Adds held-out loss to ``record`` and returns text samples; reached by all ranks.

    The run's last evaluation also leaves what each document costs, so that two runs can be compared document by document.
    """
    training.engine.eval()
    with torch.no_grad():
        if training.held_out:
            parts, documents = validate_texts(training, by_document=record["step"] == training.plan.steps)
            whole = Validation.of_all(parts.values())
            record["valid_loss"] = whole.loss
            record["valid_perplexity"] = whole.perplexity
            record["valid_bits_per_byte"] = whole.bits_per_byte
            if training.data.is_blend or training.config.evaluate.data:
                record |= {f"valid_loss/{name}": part.loss for name, part in parts.items()}
                record |= {f"valid_bits_per_byte/{name}": part.bits_per_byte for name, part in parts.items()}
            if documents:
                training.outputs.held_out_documents(documents, whole.utf8_bytes)
        samples = training.text_sampler.write(training.engine)
    training.engine.train()
    training.times.forget()
    training.clock.resume()
    return samples


def validate_texts(training: Training, *, by_document: bool) -> tuple[dict[str, Validation], SplitCosts]:
    """What each held-out text costs, by name, and if asked for each of its documents; reached by all ranks."""
    device, across = training.ranks.device, training.config.data.attend_across_documents

    def target_nats(batch: Batch) -> torch.Tensor:
        inputs = to_device(batch, device, attend_across_documents=across)
        found: torch.Tensor = training.engine(
            inputs.tokens,
            labels=inputs.labels,
            position_ids=inputs.position_ids,
            document_ids=inputs.document_ids,
            each_target=True,
        )
        return found

    counts = samples_of_each(
        [part.samples.samples_per_epoch for part in training.held_out], training.config.evaluate.samples
    )
    found: dict[str, list[Validation]] = {}
    documents: dict[tuple[str, str], DocumentCosts] = {}
    for part, count in zip(training.held_out, counts, strict=True):
        cost, by_number = validate(
            target_nats,
            part.samples,
            part.utf8_bytes,
            micro_batch_size=training.plan.micro_batch_size,
            count=count,
            ranks=training.ranks,
            by_document=by_document,
        )
        found.setdefault(part.name, []).append(cost)
        if by_number is not None:
            documents[part.name, part.split] = by_number
    return {name: Validation.of_all(costs) for name, costs in found.items()}, documents
