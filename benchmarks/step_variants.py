"""One optimizer step of the same GPT-2 by transformers, by a plain PyTorch loop and by our engine: what model_step times."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from zhgpt.config.batch_plan import plan_batch
from zhgpt.config.deepspeed_json import compose_deepspeed_config
from zhgpt.config.schema import ModelSection, RunConfig
from zhgpt.distributed.environment import read_rank_environment
from zhgpt.distributed.memory import keep_freed_memory
from zhgpt.distributed.process_group import join_ranks, prepare_rank
from zhgpt.model.attention import choose_attention_backend
from zhgpt.model.initialise import initialise_weights
from zhgpt.model.transformer import CausalLM

SEQUENCE, VOCABULARY = 512, 32_000
CLIPPING, RATE = 1.0, 1e-4
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
ZERO = {
    "overlap_comm": True,
    "contiguous_gradients": True,
    "reduce_scatter": True,
    "reduce_bucket_size": 100_000_000,
    "allgather_bucket_size": 100_000_000,
}
"""As in ds_configs/zero1.json and zero2.json."""

Step = Callable[[], object]


@dataclass(frozen=True)
class Work:
    """What every variant of a case computes.

    Attributes:
        layers, hidden, heads: of the model.
        precision: fp32 or bf16.
        micro_batch: sequences of a micro-step.
        micro_steps: of an optimizer step.
    """

    layers: int
    hidden: int
    heads: int
    precision: str
    micro_batch: int
    micro_steps: int = 1

    @property
    def tokens(self) -> int:
        """Of one optimizer step."""
        return self.micro_batch * self.micro_steps * SEQUENCE

    @property
    def model(self) -> ModelSection:
        """GPT-2 of this shape, tied, resolved."""
        return ModelSection(
            model_type="gpt2",
            vocab_size=VOCABULARY,
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.heads,
            head_dim=self.hidden // self.heads,
            intermediate_size=4 * self.hidden,
            max_position_embeddings=SEQUENCE,
        )

    def batches(self) -> list[Tensor]:
        """(B, S + 1) int64 for each micro-step, the same for every variant."""
        generator = torch.Generator().manual_seed(1)
        shape = (self.micro_batch, SEQUENCE + 1)
        return [torch.randint(0, VOCABULARY, shape, generator=generator) for _ in range(self.micro_steps)]


def module_of(work: Work, *, compile_blocks: bool = False) -> CausalLM:
    """Our model with the attention that ``auto`` takes here."""
    backend = choose_attention_backend("auto", "cpu", DTYPES[work.precision], work.hidden // work.heads)
    module = CausalLM(work.model, backend.name, compile_blocks=compile_blocks)
    initialise_weights(module, work.model, 1)
    return module


def transformers_step(work: Work, *, compiled: bool) -> Step:
    """GPT2LMHeadModel with its own loss and fused AdamW.

    In bf16 the weights and Adam's moments are bf16 too: no fp32 masters, which is less work than ours. Its memory is kept as
    ours is: on malloc as it is the pages of the logits come from the system anew in each step, at a cost that changes by the
    minute on a virtual machine.
    """
    keep_freed_memory("cpu")
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=SEQUENCE,
        n_embd=work.hidden,
        n_layer=work.layers,
        n_head=work.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
        attn_implementation="sdpa",
    )
    eager = GPT2LMHeadModel(config).to(DTYPES[work.precision])
    model: Any = torch.compile(eager, dynamic=False) if compiled else eager
    adam = torch.optim.AdamW(eager.parameters(), lr=RATE, weight_decay=0.1, fused=True)
    batches = work.batches()

    def step() -> None:
        for tokens in batches:
            # Labels are shifted inside, so the last token is never a target: 511 of 512 positions.
            (model(input_ids=tokens[:, :-1], labels=tokens[:, :-1]).loss / len(batches)).backward()
        torch.nn.utils.clip_grad_norm_(eager.parameters(), CLIPPING)
        adam.step()
        adam.zero_grad()

    return step


def plain_step(work: Work) -> Step:
    """Our model in a loop without DeepSpeed, with the same arithmetic: fp32 masters, fp32 accumulation, clipping, AdamW."""
    keep_freed_memory("cpu")  # as a run does
    module = module_of(work).to(DTYPES[work.precision])
    weights = list(module.parameters())
    masters = weights if work.precision == "fp32" else [weight.detach().float() for weight in weights]
    matrices = [master for master, weight in zip(masters, weights, strict=True) if weight.dim() >= 2]
    vectors = [master for master, weight in zip(masters, weights, strict=True) if weight.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, lr=RATE, fused=True)
    batches = work.batches()

    @torch.no_grad()
    def accumulate() -> None:
        for master, weight in zip(masters, weights, strict=True):
            assert weight.grad is not None
            if master.grad is None:
                master.grad = weight.grad.float()
            else:
                master.grad.add_(weight.grad)
            weight.grad = None

    def step() -> None:
        for tokens in batches:
            (module(tokens[:, :-1], tokens[:, 1:]) / work.tokens).backward()
            if masters is not weights:
                accumulate()
        torch.nn.utils.clip_grad_norm_(masters, CLIPPING)
        adam.step()
        adam.zero_grad()
        if masters is not weights:
            with torch.no_grad():
                for master, weight in zip(masters, weights, strict=True):
                    weight.copy_(master)

    return step


def engine_step(work: Work, stage: int, *, optimizer: str = "adamw", compile_blocks: bool = False) -> Step:
    """Our model in the engine, with the JSON that a run composes and the optimizer that it builds.

    AdamW where nothing else is said, as in the baselines, though a run takes Muon where its recipe names none.
    """
    environment = read_rank_environment()
    ranks = join_ranks(environment, accelerator=prepare_rank(environment, "cpu", 1))
    from zhgpt.train.engine import build_engine, set_learning_rate
    from zhgpt.train.optimizer import choose_optimizer

    config = RunConfig.model_validate(
        {
            "data": {"train": "none", "sequence_length": SEQUENCE},
            "train": {
                "steps": 1,
                "global_batch_size": work.micro_batch * work.micro_steps,
                "micro_batch_size": work.micro_batch,
                "precision": work.precision,
            },
            "optim": {"name": optimizer, "gradient_clipping": CLIPPING, "learning_rate": RATE},
            "schedule": {"warmup_steps": 0},
        }
    )
    deepspeed_json = {"zero_optimization": {"stage": stage, **ZERO}}
    composed = compose_deepspeed_config(config, deepspeed_json, plan_batch(config, 1), accelerator="cpu")
    module = module_of(work, compile_blocks=compile_blocks)
    choice = choose_optimizer(config.optim, deepspeed_json, ranks)
    engine = build_engine(module, choice.build(module, config.optim, work.precision), composed)
    return _engine_loop(engine, work.batches(), set_learning_rate, work.micro_steps / work.tokens)


def _engine_loop(engine: Any, batches: Sequence[Tensor], set_rate: Callable[[Any, float], None], factor: float) -> Step:
    def step() -> None:
        set_rate(engine, RATE)
        for tokens in batches:
            engine.backward(engine(tokens[:, :-1], labels=tokens[:, 1:]) * factor)
            engine.step()

    return step


VARIANTS: dict[str, Callable[[Work], Step]] = {
    "transformers eager": partial(transformers_step, compiled=False),
    "transformers compiled": partial(transformers_step, compiled=True),
    "ours": partial(engine_step, stage=1),
    "ours compiled": partial(engine_step, stage=1, compile_blocks=True),
    "ours, Muon": partial(engine_step, stage=1, optimizer="muon"),
    "plain loop": plain_step,
    "ZeRO-1": partial(engine_step, stage=1),
    "ZeRO-2": partial(engine_step, stage=2),
}
"""Each makes the step of its process."""
