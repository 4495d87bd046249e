"""How one model lies on the ranks: what a DeepSpeed JSON, a precision and the number of ranks make of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zhgpt.config.zero_rules import offload_device, zero_stage
from zhgpt.plan.activations import Kernels


@dataclass(frozen=True, slots=True)
class Layout:
    """How one model lies on the ranks.

    Attributes:
        stage: of ZeRO.
        precision: ``train.precision``.
        world_size: ranks.
        ep_size: ranks that share one set of experts.
        accumulation: micro-steps a step.
        recomputed_layers: indices of the layers that activation checkpointing computes again.
        zero: the JSON's ``zero_optimization``.
        optimizer_offloaded: whether master weights and moments lie in the host.
        parameters_offloaded: whether the weights do.
        kernels: whose activations are counted.
        optimizer: ``optim.name``.
        newton_schulz_steps: with which Muon orthogonalises.
    """

    stage: int
    precision: str
    world_size: int
    ep_size: int = 1
    accumulation: int = 1
    recomputed_layers: tuple[int, ...] = ()
    zero: Mapping[str, Any] | None = None
    optimizer_offloaded: bool = False
    parameters_offloaded: bool = False
    kernels: Kernels = "cuda"
    optimizer: str = "adamw"
    newton_schulz_steps: int = 5

    @property
    def autocast(self) -> bool:
        """bf16 without ZeRO runs as fp32 weights under autocast (:mod:`zhgpt.config.deepspeed_json`)."""
        return self.precision == "bf16" and self.stage == 0

    @property
    def weight_bytes(self) -> int:
        """Bytes of a weight as the model holds it."""
        return 4 if self.precision == "fp32" or self.autocast else 2

    @property
    def bf16_optimizer(self) -> bool:
        """Whether DeepSpeed takes its BF16_Optimizer: bf16 at stage 1 with fp32 accumulation on the device."""
        return self.precision == "bf16" and self.stage == 1 and not self.optimizer_offloaded

    @property
    def reduces_in_backward(self) -> bool:
        """Whether ZeRO 1 or 2 shares gradients out while the backward pass goes on, instead of after it, or after the last."""
        beside = self.accumulation == 1 and bool(self.key("overlap_comm", False))
        return self.stage == 2 or (self.stage == 1 and not self.bf16_optimizer and beside)

    def key(self, name: str, default: Any) -> Any:
        """A key of the JSON's ``zero_optimization``."""
        return (self.zero or {}).get(name, default)


def layout_of(
    ds_json: Mapping[str, Any],
    *,
    precision: str,
    world_size: int,
    ep_size: int = 1,
    accumulation: int = 1,
    recomputed_layers: tuple[int, ...] = (),
    kernels: Kernels = "cuda",
    optimizer: str = "adamw",
    newton_schulz_steps: int = 5,
) -> Layout:
    """The layout that a checked DeepSpeed JSON asks for."""
    return Layout(
        stage=zero_stage(ds_json),
        precision=precision,
        world_size=world_size,
        ep_size=ep_size,
        accumulation=accumulation,
        recomputed_layers=recomputed_layers,
        zero=ds_json.get("zero_optimization", {}),
        optimizer_offloaded=offload_device(ds_json, "offload_optimizer") != "none",
        parameters_offloaded=offload_device(ds_json, "offload_param") != "none",
        kernels=kernels,
        optimizer=optimizer,
        newton_schulz_steps=newton_schulz_steps,
    )
