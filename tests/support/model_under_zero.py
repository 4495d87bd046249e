"""The model under real DeepSpeed engines: losses of a few steps for each case, on every rank."""

from typing import Any

import torch
import torch.distributed

from zhgpt.config.schema import ModelSection
from zhgpt.model.head import split_losses
from zhgpt.model.initialise import initialise_weights
from zhgpt.model.sampling import sample_continuations
from zhgpt.model.transformer import CausalLM

STEPS, BATCH, LENGTH = 3, 4, 24


def train(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Train each case for ``STEPS`` steps; the batch is the same whatever the number of ranks.

    A case has ``model_type``, ``tied``, ``stage`` and ``checkpointing``; an untied one has a z-loss, an embedding norm and muP
    besides. Its result ``losses`` (nats a token over all
    ranks, one a step) and ``text`` (tokens drawn afterwards by the engine).
    """
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("gloo")
    torch.set_num_threads(1)
    return [_train(deepspeed, **case) for case in cases]


def _train(deepspeed: Any, model_type: str, tied: bool, stage: int, checkpointing: bool) -> dict[str, Any]:
    model = ModelSection(
        model_type=model_type,  # type: ignore[arg-type]
        tie_word_embeddings=tied,
        vocab_size=300,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4 if model_type == "gpt2" else 2,
        head_dim=8,
        intermediate_size=64,
        max_position_embeddings=64,
        embedding_norm=not tied,
        mup_base_width=None if tied else 16,
    )
    z_loss_coef = 0.0 if tied else 0.01
    module = CausalLM(model, "sdpa", activation_checkpointing=checkpointing, z_loss_coef=z_loss_coef)
    initialise_weights(module, model, seed=1)
    rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    config = {
        "train_micro_batch_size_per_gpu": BATCH // world_size,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 1.0,
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}},
        # Threshold 0: small parameters too are partitioned, so that each must be gathered where it is used.
        "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0},
    }
    engine = deepspeed.initialize(model=module, model_parameters=list(module.parameters()), config=config)[0]
    mine = slice(rank * BATCH // world_size, (rank + 1) * BATCH // world_size)
    generator = torch.Generator().manual_seed(0)
    document_ids = (torch.arange(LENGTH) > 9).long().expand(BATCH, LENGTH)[mine]
    losses = []
    for _ in range(STEPS):
        tokens = torch.randint(0, 300, (BATCH, LENGTH + 1), generator=generator)[mine]
        loss = split_losses(engine(tokens[:, :-1], tokens[:, 1:], None, document_ids)).objective
        engine.backward(loss / (tokens.shape[0] * LENGTH))
        engine.step()
        total = loss.detach().clone()
        torch.distributed.all_reduce(total)
        losses.append(total.item() / (BATCH * LENGTH))
    return {"losses": losses, "text": _text(engine)}


def _text(engine: Any) -> list[list[int]]:
    @torch.no_grad()
    def forward(tokens: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = engine(tokens, logits_at=last)
        return logits

    settings: dict[str, Any] = {"max_new_tokens": 5, "temperature": 1.0, "top_k": None, "seed": 1}
    return sample_continuations(forward, [[1, 2, 3], [4]], **settings, context_length=LENGTH)
