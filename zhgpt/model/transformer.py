"""The causal language model: token table, decoder layers, final norm, output head."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zhgpt.config.schema import ModelSection
from zhgpt.model.attention import ATTENTION_BACKENDS
from zhgpt.model.head import HeadTask, OutputHead, TokenTable, join_losses
from zhgpt.model.layers import DecoderLayer, LayerInputs, Table, make_norm
from zhgpt.model.moe.make import draws_random_numbers
from zhgpt.model.moe.routing import RoutingTape
from zhgpt.model.rotary import rotation
from zhgpt.model.shape import decoder_shape


class Decoder(nn.Module):
    """Token table, layers and final norm; parameters are named as in transformers' Llama and Qwen3."""

    def __init__(
        self,
        model: ModelSection,
        backend: str,
        *,
        activation_checkpointing: bool | Collection[int] = False,
        ep_size: int = 1,
        compile_blocks: bool = False,
    ) -> None:
        super().__init__()
        shape = decoder_shape(model)
        self.shape = shape
        self.backend = ATTENTION_BACKENDS[backend]
        if compile_blocks and not self.backend.traceable:
            self.backend = replace(self.backend, attend=torch.compiler.disable(self.backend.attend))
        all_or_none = range(shape.num_hidden_layers) if activation_checkpointing else ()
        self.recomputed_layers = frozenset(
            all_or_none if isinstance(activation_checkpointing, bool) else activation_checkpointing
        )
        self.embed_tokens = TokenTable(shape.padded_vocab_size, shape.hidden_size)
        self.embed_positions = (
            Table(shape.max_position_embeddings, shape.hidden_size) if shape.learned_positions else None
        )
        self.embed_norm = make_norm(shape) if shape.embedding_norm else None
        self.layers = nn.ModuleList(
            DecoderLayer(shape, self.backend, layer, ep_size) for layer in range(shape.num_hidden_layers)
        )
        # Compiled functions beside the modules, not in their place: text is written at ever new lengths, and each would be
        # compiled anew, so without gradients the plain layer runs. Routing depends on the data, so mixtures stay as they are.
        self.compiled_layers = [
            torch.compile(layer.forward, dynamic=False) if compile_blocks and not layer.is_mixture else None
            for layer in cast(list[DecoderLayer], list(self.layers))
        ]
        self.draws_random_numbers = draws_random_numbers(shape.moe)
        self.norm = make_norm(shape)

    def forward(
        self, tokens: Tensor, position_ids: Tensor | None, document_ids: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the normed hidden states (B, S, D) of tokens (B, S), and in training the routers' losses, if any."""
        if position_ids is None:
            position_ids = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape)
        inputs = self._layer_inputs(tokens, position_ids, document_ids)
        x_BSD = self.embed_tokens(tokens)
        if self.embed_norm is not None:
            x_BSD = self.embed_norm(x_BSD)
        if self.embed_positions is not None:
            x_BSD = x_BSD + self.embed_positions(position_ids)
        router_loss: Tensor | None = None
        for index in range(len(self.layers)):
            x_BSD, loss = self._through(index, x_BSD, inputs)
            if loss is not None:
                router_loss = loss if router_loss is None else router_loss + loss
        return self.norm(x_BSD), router_loss

    def _through(self, index: int, x_BSD: Tensor, inputs: LayerInputs) -> tuple[Tensor, Tensor | None]:
        """One layer: compiled or plain, its activations kept or computed again in the backward pass."""
        layer = self.layers[index]
        if not torch.is_grad_enabled():
            return cast(tuple[Tensor, Tensor | None], layer(x_BSD, inputs))
        run = self.compiled_layers[index] or layer
        if index not in self.recomputed_layers:
            return cast(tuple[Tensor, Tensor | None], run(x_BSD, inputs))
        # No dropout: there is random state to restore for the second forward pass only where DeepSpeed's gate draws.
        settings: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": self.draws_random_numbers}
        if not layer.is_mixture:
            return cast(tuple[Tensor, Tensor | None], checkpoint(run, x_BSD, inputs, **settings))
        tape = RoutingTape()
        result = checkpoint(layer, x_BSD, inputs, tape, context_fn=tape.contexts, **settings)
        return cast(tuple[Tensor, Tensor | None], result)

    def _layer_inputs(self, tokens: Tensor, position_ids: Tensor, document_ids: Tensor | None) -> LayerInputs:
        """Mask or document starts, and rotations: computed once, read by every layer."""
        if document_ids is None:
            packing = self.backend.pack_causal(tokens.shape[0], tokens.shape[1], tokens.device)
        else:
            packing = self.backend.pack(document_ids, tokens.device)
        if self.shape.learned_positions:
            return LayerInputs(packing, cosine=None, sine=None)
        cosine, sine = rotation(position_ids, self.shape)
        return LayerInputs(packing, cosine, sine)


class CausalLM(nn.Module):
    """A decoder with its output head, built from a resolved model section.

    Memory is left uninitialised: call ``initialise_weights`` or load a state dict. Tied models have no ``lm_head``
    parameter. The vocabulary is padded to a multiple of ``pad_vocab_size_multiple``; padded ids take no part in the
    softmax and are cut from the logits.

    Args:
        model: what ``resolve_model`` returns.
        backend: a name in ``ATTENTION_BACKENDS``, as chosen by ``choose_attention_backend``.
        activation_checkpointing: keep only a layer's input and compute the layer again in the backward pass: True for
            every layer, or the indices of some.
        ep_size: ranks that share the experts of a mixture; this module then holds one rank's.
        compile_blocks: run dense layers through ``torch.compile`` where gradients are wanted.
        z_loss_coef: weight of the z-loss in training.
    """

    def __init__(
        self,
        model: ModelSection,
        backend: str,
        *,
        activation_checkpointing: bool | Collection[int] = False,
        ep_size: int = 1,
        compile_blocks: bool = False,
        z_loss_coef: float = 0.0,
    ) -> None:
        super().__init__()
        shape = decoder_shape(model)
        self.vocab_size = shape.vocab_size
        self.output_multiplier = 1 / shape.width_ratio
        self.z_loss_coef = z_loss_coef
        self.model = Decoder(
            model,
            backend,
            activation_checkpointing=activation_checkpointing,
            ep_size=ep_size,
            compile_blocks=compile_blocks,
        )
        self.lm_head = (
            None if shape.tie_word_embeddings else OutputHead(shape.hidden_size, shape.padded_vocab_size, bias=False)
        )

    def forward(
        self,
        tokens: Tensor,
        labels: Tensor | None = None,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        logits_at: Tensor | None = None,
        each_target: bool = False,
    ) -> Tensor:
        """Return the sum of nats over the targets (labels given), or the nats of each, or logits.

        Args:
            tokens: (B, S) int64.
            labels: (B, S) int64, the next token of each position; -100 where there is no target.
            position_ids: (B, S) int64; None counts from 0 over the whole sequence.
            document_ids: (B, S) int64, on the device or on the host; attention stays inside runs of equal ids. None
                attends over the whole sequence.
            logits_at: (B,) int64, the one position of each sequence whose logits are wanted (without labels).
            each_target: for evaluating: the nats of each label, without gradients.

        Returns:
            With labels, what :func:`zhgpt.model.head.split_losses` takes apart: the sum of nats, fp32 scalar; in training with
            a z-loss or a mixture of experts more. With ``each_target`` (B, S) fp32, 0 where there is no target. Without labels
            logits fp32, (B, S, vocab_size), with ``logits_at`` (B, vocab_size).
        """
        hidden_BSD, router_loss = self.model(tokens, position_ids, document_ids)
        if logits_at is not None:
            hidden_BSD = hidden_BSD[torch.arange(tokens.shape[0], device=tokens.device), logits_at]
        if self.output_multiplier != 1.0:
            hidden_BSD = hidden_BSD * self.output_multiplier
        head = self.model.embed_tokens if self.lm_head is None else self.lm_head
        z_loss_coef = self.z_loss_coef if self.training and not each_target else 0.0
        result = cast(Tensor, head(hidden_BSD, HeadTask(self.vocab_size, labels, each_target, z_loss_coef)))
        return result if labels is None or each_target else join_losses(result, router_loss)
