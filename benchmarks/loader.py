"""Training steps with batches assembled ahead by a thread, against the same steps with each assembled when it is wanted.

The model is the demo's made smaller, so that a step is short; what counts is the share of the time that the training
waits for batches. `python -m benchmarks.loader PREFIX` prints that, and how short a step may get before it has to wait.
"""

import sys
import time
from pathlib import Path

import torch

from benchmarks.measure import Comparison, compare
from megatron_style_data.blend import Blend
from megatron_style_data.blend_schedule import BlendSchedule, Phase
from megatron_style_data.blend_weights import exact
from megatron_style_data.sample_source import SampleSource, open_samples
from zhgpt.config.batch_plan import BatchPlan
from zhgpt.config.schema import ModelSection
from zhgpt.model.initialise import initialise_weights
from zhgpt.model.transformer import CausalLM
from zhgpt.train.loader import Loader

MICRO_BATCH, SEQUENCE, STEPS = 8, 256, 10
SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 64,
    "max_position_embeddings": SEQUENCE,
}


def run(prefix: Path, vocab_size: int = 8192) -> Comparison:
    """Steps a second, and how much of the time went by waiting."""
    torch.set_num_threads(1)
    model = ModelSection(model_type="qwen3", vocab_size=vocab_size, **SHAPE)
    module = CausalLM(model, "sdpa")
    initialise_weights(module, model, 1)
    adam = torch.optim.AdamW(module.parameters(), lr=1e-4, fused=True)
    samples = three_sources(prefix)
    waited: dict[int, list[float]] = {8: [], 0: []}

    def steps(prefetch: int) -> None:
        tokens = MICRO_BATCH * SEQUENCE
        plan = BatchPlan(MICRO_BATCH, MICRO_BATCH, 1, 1, SEQUENCE, tokens, STEPS, tokens * STEPS)
        loader = Loader(samples, plan, 0, first_step=0, prefetch=prefetch)
        started = time.perf_counter()
        for step in range(STEPS):
            loaded = loader.take(step, 0)
            batch = loaded.batch
            nats = module(batch.tokens, batch.labels, batch.position_ids, batch.document_ids)
            (nats / loaded.targets).backward()
            adam.step()
            adam.zero_grad()
        waited[prefetch].append(loader.waited_seconds / (time.perf_counter() - started))
        loader.close()

    name = f"training steps of {MICRO_BATCH} × {SEQUENCE:,} tokens from a blend of three, a very small model"
    measured = compare(name, lambda: steps(8), "in place", lambda: steps(0), amount=STEPS, unit="steps", repeats=7)
    ahead, in_place = (sorted(shares)[len(shares) // 2] for shares in (waited[8], waited[0]))
    return Comparison(
        f"{name}, batches assembled ahead: {100 * ahead:.2f} % of the time spent waiting for them",
        f"assembled when wanted: {100 * in_place:.2f} % waiting",
        *(measured.unit, measured.ours_per_cpu_second, measured.baseline_per_cpu_second),
        *(measured.ours_per_wall_second, measured.baseline_per_wall_second, measured.repeats),
    )


def three_sources(prefix: Path, sequence: int = SEQUENCE) -> SampleSource:
    """The same dataset three times, 6:3:1, each in another order."""
    sources = [open_samples(prefix, sequence_length=sequence, seed=seed) for seed in range(3)]
    return Blend(sources, BlendSchedule((Phase(0, (exact(6), exact(3), exact(1))),)))


def milliseconds_a_batch(prefix: Path, micro_batch: int = MICRO_BATCH, sequence: int = SEQUENCE) -> float:
    """How long one micro batch takes to assemble: a step of one micro batch that is longer never waits."""
    count, tokens = 200, micro_batch * sequence
    plan = BatchPlan(micro_batch, micro_batch, 1, 1, sequence, tokens, count, tokens * count)
    loader = Loader(three_sources(prefix, sequence), plan, 0, first_step=0, prefetch=0)
    loader.take(0, 0)
    started = time.perf_counter()
    for step in range(1, count):
        loader.take(step, 0)
    return 1e3 * (time.perf_counter() - started) / (count - 1)


if __name__ == "__main__":
    chosen = Path(sys.argv[1])
    print(run(chosen))
    for micro_batch, sequence in ((8, 256), (8, 1024), (32, 4096)):
        took = milliseconds_a_batch(chosen, micro_batch, sequence)
        print(f"a micro batch of {micro_batch} x {sequence}: {took:.2f} ms")
