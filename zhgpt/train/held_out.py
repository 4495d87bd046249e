"""Evaluating within a run: the held-out loss, of each text and of each document, and text samples."""

from statistics import fmean
from typing import Any

import torch

from megatron_style_data.samples import Batch
from zhgpt.evaluate.memorisation import copied_share, training_passages
from zhgpt.evaluate.text_statistics import text_statistics
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
        record |= sample_numbers(training, samples)
    training.engine.train()
    training.times.forget()
    training.clock.resume()
    return samples


def sample_numbers(training: Training, samples: list[dict[str, Any]]) -> dict[str, float]:
    """What the text samples look like, as fields of the metrics line; the search for copies is rank 0's alone."""
    if not samples or not training.ranks.is_first:
        return {}
    texts = [sample["text"] for sample in samples]
    together = text_statistics("\n".join(texts))
    numbers = {
        "sample_repeated_4gram_share": fmean(sample["repeated_4gram_share"] for sample in samples),
        "sample_punctuation_share": together["punctuation_share"],
    }
    most_tokens = training.config.health.memorisation_tokens
    if most_tokens:
        prefixes = [source.prefix for source in training.data.sources]
        share = copied_share(texts, training_passages(prefixes, training.text_sampler.tokenizer, most_tokens))
        if share is not None:
            numbers["memorised_share"] = share
    return numbers


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
