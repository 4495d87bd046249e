"""Evaluating within a run: the held-out loss, of each source too, and text samples."""

from statistics import fmean
from typing import Any

import torch

from megatron_style_data.samples import Batch
from zhgpt.evaluate.memorisation import copied_share, training_passages
from zhgpt.evaluate.text_statistics import text_statistics
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
            if training.data.is_blend:
                record |= {f"valid_loss/{name}": part.loss for name, part in parts.items()}
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


def validate_sources(training: Training) -> dict[str, Validation]:
    """The held-out loss on each source by name; reached by all ranks."""
    data = training.config.data

    def summed_nats(batch: Batch) -> torch.Tensor:
        device = training.ranks.device
        return forward(training, to_device(batch, device, attend_across_documents=data.attend_across_documents))

    counts = samples_of_each(
        [part.samples.samples_per_epoch for part in training.held_out], training.config.evaluate.samples
    )
    return {
        part.name: validate(
            summed_nats,
            part.samples,
            part.utf8_bytes,
            micro_batch_size=training.plan.micro_batch_size,
            count=count,
            ranks=training.ranks,
        )
        for part, count in zip(training.held_out, counts, strict=True)
    }
