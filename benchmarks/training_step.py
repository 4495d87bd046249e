"""One training step of the demo's model against the same model in transformers, on one thread, fp32."""

from pathlib import Path

import numpy as np
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from benchmarks.measure import Comparison, compare
from megatron_style_data.samples import Samples
from zhgpt.config.schema import ModelSection
from zhgpt.model.initialise import initialise_weights
from zhgpt.model.transformer import CausalLM
from zhgpt.train.batches import to_device

MICRO_BATCH, SEQUENCE = 8, 256
SHAPE = {
    "hidden_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 512,
    "max_position_embeddings": SEQUENCE,
    "vocab_size": 8192,
    "tie_word_embeddings": True,
}


def run(prefix: Path) -> Comparison:
    """Forward, backward and AdamW; ours keeps attention inside documents, theirs attends over the whole sample."""
    torch.set_num_threads(1)
    model = ModelSection(model_type="qwen3", **SHAPE)
    ours_module = CausalLM(model, "blocked")
    initialise_weights(ours_module, model, 1)
    theirs_module = Qwen3ForCausalLM(Qwen3Config(**SHAPE, attn_implementation="sdpa"))
    samples = Samples.open(prefix, sequence_length=SEQUENCE, seed=1)
    batch = to_device(samples.batch(np.arange(MICRO_BATCH)), torch.device("cpu"), attend_across_documents=False)
    ours_adam = torch.optim.AdamW(ours_module.parameters(), lr=1e-4, fused=True)
    theirs_adam = torch.optim.AdamW(theirs_module.parameters(), lr=1e-4, fused=True)
    targets = int((batch.labels != -100).sum())

    def ours() -> None:
        nats = ours_module(batch.tokens, batch.labels, batch.position_ids, batch.document_ids)
        (nats / targets).backward()
        ours_adam.step()
        ours_adam.zero_grad()

    def transformers() -> None:
        logits = theirs_module(input_ids=batch.tokens).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), batch.labels.flatten())
        loss.backward()
        theirs_adam.step()
        theirs_adam.zero_grad()

    return compare(
        "training step of the demo's model (3.1M), 8 × 256 tokens, fp32, one thread",
        ours,
        "transformers Qwen3ForCausalLM, sdpa, eager",
        transformers,
        amount=MICRO_BATCH * SEQUENCE,
        unit="tokens",
    )
