"""Weights and optimizer state of a checkpoint by canonical name, whatever ranks, files and flat vectors hold them.

ZeRO 1 and 2 (and their BF16_Optimizer) write a shard a rank, ``[bf16_]zero_pp_rank_<rank>_mp_rank_00_optim_states.pt``.
For each parameter group it has a piece of one flat fp32 vector, and of vectors of Adam's moments alike; ``param_shapes``
in the model's file has the group's parameters in the vector's order (``param_slice_mappings`` in the shards is wrong with
``round_robin_gradients``). The pieces follow each other from rank to rank of those that divide the group: all of them,
or, for experts that are shared out, every ``ep_size``-th (deepspeed/utils/groups.py,
_create_expert_and_data_parallel). ZeRO-0 divides nothing; a mixture's optimizer state is then in one file an
expert-parallel rank.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zhgpt.checkpoint.layout import ENGINE_TAG
from zhgpt.config.moe_checks import experts_in
from zhgpt.config.schema import ModelSection
from zhgpt.errors import BadDataError
from zhgpt.model.moe.names import EXPERTS, canonical_parts

MODEL_STATES = "mp_rank_00_model_states.pt"
PARAMETER_NAMES = "zhgpt_parameter_names"
"""In the model's file: the names of the optimizer's parameters in its order, which ZeRO-0's state alone does not tell."""


@dataclass(frozen=True)
class Pieces:
    """A tensor inside a longer vector that is cut into pieces, each a view into its file.

    Attributes:
        vectors: one after another they are the whole vector.
        offset: where the tensor begins in it.
        shape: of the tensor.
    """

    vectors: tuple[Tensor, ...]
    offset: int
    shape: torch.Size

    def read(self) -> Tensor:
        """Read the tensor, fp32, into memory of its own."""
        end, place, found = self.offset + self.shape.numel(), 0, []
        for vector in self.vectors:
            first, last = max(place, self.offset), min(place + vector.numel(), end)
            if first < last:
                found.append(vector[first - place : last - place].float())
            place += vector.numel()
        return torch.cat(found).view(self.shape)


@dataclass(frozen=True)
class SavedParameter:
    """One parameter: its fp32 weight, Adam's moments by name (none before the first step), and the steps they have seen."""

    weight: Pieces
    moments: dict[str, Pieces]
    step: Any
    """As the optimizer keeps it, a number or a scalar tensor; None: not known."""


@dataclass(frozen=True)
class SavedState:
    """What an engine saved.

    Attributes:
        parameters: by canonical name (:mod:`zhgpt.model.moe.names`).
        module: what the model's own files hold, by canonical name, in the model's precision: parameters and the rest.
        model_states: the model's file (counters of steps, samples, skipped steps).
        optimizer_states: rank 0's optimizer state beside the vectors (the loss scale); empty at ZeRO-0.
    """

    parameters: dict[str, SavedParameter]
    module: dict[str, Tensor]
    model_states: Mapping[str, Any]
    optimizer_states: Mapping[str, Any]

    @property
    def buffers(self) -> dict[str, Tensor]:
        """What is no parameter: selection biases."""
        return {name: tensor for name, tensor in self.module.items() if name not in self.parameters}


def read_saved_state(folder: Path, state: Mapping[str, Any]) -> SavedState:
    """Open a verified checkpoint of ZeRO 0, 1 or 2; values are read when they are asked for.

    Args:
        folder: the step's folder.
        state: its ``train_state.json``.

    Raises:
        BadDataError: a file is missing, or its parts are not the whole of a parameter.
    """
    assert state["zero_stage"] < 3, "ZeRO-3 divides each parameter by itself"
    engine = folder / ENGINE_TAG
    model_states = _load(engine / MODEL_STATES)
    module = dict(_module(engine, model_states["module"]))
    experts = _Experts.of(state)
    if state["zero_stage"] == 0:
        return SavedState(dict(_undivided(engine, model_states, module, experts)), module, model_states, {})
    shards = _shards(engine, state["world_size"])
    parameters = dict(_divided(folder, model_states["param_shapes"], shards, experts))
    return SavedState(parameters, module, model_states, shards[0])


@dataclass(frozen=True)
class _Experts:
    """How experts are shared out, and how many a rank has in each layer."""

    ep_size: int
    local: dict[str, int]

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "_Experts":
        ep_size = state.get("ep_size", 1)
        return cls(ep_size, local_experts(ModelSection(**state["model"]), ep_size))

    def ep_ranks(self, name: str) -> range:
        """The expert-parallel ranks whose parameters of this name differ."""
        return range(self.ep_size if EXPERTS in name else 1)

    def ranks(self, name: str, ep_rank: int, world_size: int) -> range:
        """The ranks that divide a parameter."""
        return range(ep_rank, world_size, self.ep_size if EXPERTS in name else 1)

    def parts(self, name: str, shape: torch.Size, ep_rank: int) -> Iterator[tuple[str, int, torch.Size]]:
        """Canonical name, offset and shape of what a running parameter stands for."""
        whole = torch.empty(shape, device="meta")
        for canonical, part in canonical_parts(name, whole, ep_rank, self.local.get(layer_of(name), 0)):
            yield canonical, int(part.storage_offset()), part.shape


def local_experts(model: ModelSection, ep_size: int) -> dict[str, int]:
    """Experts of one rank by the name of the layer's mixture."""
    counts = {} if model.moe is None else experts_in(model.moe, model.num_hidden_layers)
    return {f"model.layers.{layer}.mlp": count // ep_size for layer, count in counts.items()}


def layer_of(name: str) -> str:
    """The mixture that a parameter belongs to, as :func:`local_experts` names it."""
    return name.partition(".mlp.")[0] + ".mlp"


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BadDataError(f"{path}: missing from the checkpoint")
    # Our own file, its hash verified. mmap: what is never asked for is never read.
    states: dict[str, Any] = torch.load(path, map_location="cpu", mmap=True, weights_only=False)
    return states


def _module(engine: Path, dense: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The model's own weights; files of experts count them over all ranks."""
    files: list[Mapping[str, Tensor]] = [
        dense,
        *(_load(path) for path in engine.glob("layer_*_expert_*_model_states.pt")),
    ]
    for tensors in files:
        for name, tensor in tensors.items():
            yield from canonical_parts(name, tensor)


def _shards(engine: Path, world_size: int) -> list[dict[str, Any]]:
    """The optimizer state of every rank."""
    prefix = "bf16_" if any(engine.glob("bf16_zero_pp_rank_*")) else ""
    paths = [engine / f"{prefix}zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in range(world_size)]
    return [_load(path)["optimizer_state_dict"] for path in paths]


def _divided(
    folder: Path, groups: Sequence[Mapping[str, Sequence[int]]], shards: list[dict[str, Any]], experts: _Experts
) -> Iterator[tuple[str, SavedParameter]]:
    """The parameters of each group one after another; padding between them only where the JSON aligns them."""
    no_padding = [[0] * len(shapes) for shapes in groups]
    paddings = shards[0].get("param_alignment_paddings", no_padding)
    for group, shapes in enumerate(groups):
        some_name = next(iter(shapes))
        for ep_rank in experts.ep_ranks(some_name):
            ranks = experts.ranks(some_name, ep_rank, len(shards))
            weights, moments, step = _flat_vectors([shards[rank] for rank in ranks], group)
            held, start = sum(piece.numel() for piece in weights), 0
            for (name, shape), padding in zip(shapes.items(), paddings[group], strict=True):
                size = torch.Size(shape).numel()
                if start + size > held:
                    raise BadDataError(
                        f"{folder}: ranks {', '.join(map(str, ranks))} hold {held} values, but {name} ends with the "
                        f"{start + size}th; use another step"
                    )
                for canonical, offset, part in experts.parts(name, torch.Size(shape), ep_rank):
                    found = {kind: Pieces(pieces, start + offset, part) for kind, pieces in moments.items()}
                    yield canonical, SavedParameter(Pieces(weights, start + offset, part), found, step)
                start += size + padding


def _flat_vectors(
    shards: list[dict[str, Any]], group: int
) -> tuple[tuple[Tensor, ...], dict[str, tuple[Tensor, ...]], Any]:
    """The pieces of a group's fp32 weights, those of Adam's moments by name, and the steps these have seen."""
    weights = tuple(shard["single_partition_of_fp32_groups"][group] for shard in shards)
    states = [shard["base_optimizer_state"]["state"].get(group, {}) for shard in shards]
    vectors = [_vectors(state) for state in states]
    moments = {kind: tuple(of_rank[kind] for of_rank in vectors) for kind in vectors[0]}
    return weights, moments, states[0].get("step")


def _vectors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The moments in the optimizer's state of one parameter, flat."""
    return {
        kind: value.flatten()
        for kind, value in state.items()
        if isinstance(value, Tensor) and value.dim() and kind != "step"
    }


def _undivided(
    engine: Path, model_states: Mapping[str, Any], module: Mapping[str, Tensor], experts: _Experts
) -> Iterator[tuple[str, SavedParameter]]:
    """ZeRO-0: weights by canonical name in the model's files, Adam's state by the place in the optimizer."""
    names = model_states.get(PARAMETER_NAMES)
    if names is None:  # saved before names were: weights alone, selection biases among them
        for canonical, tensor in module.items():
            yield canonical, SavedParameter(Pieces((tensor.flatten(),), 0, tensor.shape), {}, None)
        return
    files = sorted(engine.glob("expp_rank_*_optim_states.pt"))
    for ep_rank in range(max(1, len(files))):
        path = engine / f"expp_rank_{ep_rank}_mp_rank_00_optim_states.pt"
        states = (_load(path) if files else model_states)["optimizer"]["state"]
        for place, (name, shape) in enumerate(names):
            if ep_rank not in experts.ep_ranks(name):
                continue
            vectors = _vectors(states.get(place, {}))
            for canonical, offset, part in experts.parts(name, torch.Size(shape), ep_rank):
                weight = Pieces((module[canonical].flatten(),), 0, part)
                moments = {kind: Pieces((vector,), offset, part) for kind, vector in vectors.items()}
                yield canonical, SavedParameter(weight, moments, states.get(place, {}).get("step"))
