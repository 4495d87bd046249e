"""Puts a checkpoint into an engine that shares its experts out over another number of ranks.

DeepSpeed's own load wants each rank's flat vectors as they were. Here every parameter is looked up by its canonical name
and written to where the new engine keeps it: the model's copy, the slice of the fp32 weights, the slices of Adam's moments.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zhgpt.checkpoint.fragments import SavedParameter, SavedState, layer_of, local_experts, read_saved_state
from zhgpt.config.schema import ModelSection
from zhgpt.errors import BadDataError, SettingError
from zhgpt.model.moe.names import canonical_parts

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine


@torch.no_grad()
def load_regrouped(engine: "DeepSpeedEngine", folder: Path, state: Mapping[str, Any], ep_size: int) -> None:
    """Loads weights, fp32 weights, Adam's moments and steps, selection biases and counters into a new engine.

    Args:
        engine: fresh from ``deepspeed.initialize``, ZeRO 0, 1 or 2, at the saved world size and stage.
        folder: of the verified checkpoint.
        state: its ``train_state.json``.
        ep_size: of the engine.

    Raises:
        SettingError: a ZeRO-0 checkpoint that does not name Adam's moments, or ``round_robin_gradients``.
        BadDataError: a file or a parameter is missing.
    """
    if getattr(engine.optimizer, "round_robin_gradients", False):  # DeepSpeed's _hp_mapping is wrong then
        raise SettingError(
            f"{folder} was saved at train.ep_size {state.get('ep_size', 1)}, and going on at {ep_size} does not go together with "
            "zero_optimization.round_robin_gradients; leave that out of the DeepSpeed JSON"
        )
    saved = read_saved_state(folder, state)
    if any(parameter.step is None for parameter in saved.parameters.values()):
        raise SettingError(
            f"{folder} does not say which of Adam's moments are whose, so it goes on only as it was shared out: start with "
            f"train.ep_size={state.get('ep_size', 1)}"
        )
    local, ep_rank = local_experts(ModelSection(**state["model"]), ep_size), engine.global_rank % ep_size
    moments: dict[Tensor, dict[str, Any]] = {}
    for name, parameter in engine.module.named_parameters():
        home = _Home.of(parameter, engine)
        start = parameter.data.storage_offset()
        for canonical, part in canonical_parts(name, parameter.data, ep_rank, local.get(layer_of(name), 0)):
            source = look_up(saved, canonical, folder)
            weight = source.weight.read()
            part.copy_(weight)
            if home is not None:
                offset = int(part.storage_offset()) - int(start)
                home.write(home.vector, weight, offset)
                _write_moments(moments.setdefault(home.vector, {}), home, source, offset)
    for name, tensor in engine.module.state_dict().items():
        for canonical, part in canonical_parts(name, tensor):
            if canonical in saved.buffers:
                part.copy_(saved.buffers[canonical])
    _load_optimizer(engine, saved, moments)
    engine.global_steps = saved.model_states["global_steps"]
    engine.global_samples = saved.model_states["global_samples"]
    engine.skipped_steps = saved.model_states["skipped_steps"]


@dataclass(frozen=True)
class _Home:
    """Where this rank's optimizer keeps its part of a parameter.

    Attributes:
        vector: what the optimizer steps: the parameter (ZeRO-0), or a rank's flat vector of a whole parameter group.
        place: of the part in it.
        first: value of the parameter that the part begins with.
        size: values in the part.
    """

    vector: Tensor
    place: int
    first: int
    size: int

    @classmethod
    def of(cls, parameter: nn.Parameter, engine: "DeepSpeedEngine") -> "_Home | None":
        """None: other ranks hold all of it. ``_hp_mapping``: deepspeed/utils/tensor_fragment.py."""
        if engine.zero_optimization_stage() == 0:
            return cls(parameter, 0, 0, parameter.numel())
        mapping: Any = parameter._hp_mapping  # type: ignore[attr-defined]
        if mapping is None:
            return None
        vector = engine.optimizer.param_groups[mapping.param_group_index]["params"][0]
        address = mapping.hp_fragment_address
        return cls(vector, address.start, mapping.lp_fragment_address.start, address.numel)

    def write(self, target: Tensor, values: Tensor, offset: int) -> None:
        """Copies what belongs here of ``values``, which begin at ``offset`` of the parameter; ``target`` is like ``vector``."""
        first, last = max(self.first, offset), min(self.first + self.size, offset + values.numel())
        if first < last:
            place = self.place + first - self.first
            target.view(-1)[place : place + last - first] = values.flatten()[first - offset : last - offset].to(
                target.device
            )


def look_up(saved: SavedState, canonical: str, folder: Path) -> SavedParameter:
    """The saved parameter of this name.

    Raises:
        BadDataError: there is none.
    """
    if canonical not in saved.parameters:
        raise BadDataError(f"{folder}: {canonical} is missing from the checkpoint; use another step")
    return saved.parameters[canonical]


def _write_moments(state: dict[str, Any], home: _Home, source: SavedParameter, offset: int) -> None:
    # Its own tensor: two vectors that shared one would each count it up.
    state["step"] = source.step.clone() if isinstance(source.step, Tensor) else source.step
    for kind, pieces in source.moments.items():
        if kind not in state:
            state[kind] = torch.zeros_like(home.vector)
        home.write(state[kind], pieces.read(), offset)


def _load_optimizer(engine: "DeepSpeedEngine", saved: SavedState, moments: Mapping[Tensor, dict[str, Any]]) -> None:
    optimizer: Any = engine.optimizer if engine.zero_optimization_stage() == 0 else engine.optimizer.optimizer
    vectors = [vector for group in optimizer.param_groups for vector in group["params"]]
    states = {place: moments[vector] for place, vector in enumerate(vectors)}
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    if engine.zero_optimization_stage() > 0:
        engine.optimizer._load_global_state(saved.optimizer_states)  # the loss scale of fp16
