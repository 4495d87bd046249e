"""Which algorithm, learning rate and weight decay each kind of parameter gets: from the settings alone, without torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from zhgpt.config.schema import OptimSection, RunConfig

Role = Literal["hidden", "embedding", "head", "router", "vector"]
"""Kind of a parameter: matrices of attention and feed-forward layers, experts' among them; tables of tokens and positions
(of a tied model the head too); the head of an untied model; matrices of routers; norms and biases."""
Algorithm = Literal["adamw", "muon"]

MUON_ONLY = ("muon_learning_rate", "muon_momentum", "muon_nesterov", "muon_newton_schulz_steps")


@dataclass(frozen=True)
class GroupSettings:
    """How parameters are optimized.

    Attributes:
        algorithm: of the step.
        learning_rate: at the schedule's peak.
        weight_decay: decoupled: a step takes learning rate times this off the weights.
    """

    algorithm: Algorithm
    learning_rate: float
    weight_decay: float


def settings_of(role: Role, optim: "OptimSection") -> GroupSettings:
    """What a kind of parameter gets."""
    algorithm: Algorithm = "muon" if optim.name == "muon" and role == "hidden" else "adamw"
    own_rate = {
        "hidden": optim.muon_learning_rate,
        "embedding": optim.embedding_learning_rate,
        "head": optim.head_learning_rate,
        "router": None,
        "vector": optim.vector_learning_rate,
    }[role]
    decay = 0.0 if role == "vector" else optim.weight_decay
    if role == "embedding" and optim.embedding_weight_decay is not None:
        decay = optim.embedding_weight_decay
    return GroupSettings(algorithm, optim.peak if own_rate is None else own_rate, decay)


def roles_in_groups(optim: "OptimSection") -> dict[tuple[Role, ...], GroupSettings]:
    """The parameter groups, each with the roles in it: roles with equal settings share one; vectors have their own.

    Few groups: each costs DeepSpeed a flat vector and collectives of its own.
    """
    groups: dict[tuple[GroupSettings, bool], list[Role]] = {}
    for role in get_args(Role):
        groups.setdefault((settings_of(role, optim), role == "vector"), []).append(role)
    return {tuple(roles): settings for (settings, _), roles in groups.items()}


def optimizer_identity(optim: "OptimSection") -> str:
    """What must be equal to go on from a checkpoint: the algorithm, and which roles share a group.

    Optimizer state is saved a group, so that another grouping cannot take it over. Rates, decay and momentum may change.
    """
    groups, usual = roles_in_groups(optim), roles_in_groups(type(optim)(name=optim.name, learning_rate=optim.peak))
    if list(groups) == list(usual):
        return optim.name
    return f"{optim.name} with groups {', '.join(map(group_name, groups))}"


def group_name(roles: tuple[Role, ...]) -> str:
    """A group's name: its roles."""
    return "+".join(roles)


def describe_optimizer(optim: "OptimSection") -> str:
    """The optimizer in one line."""
    clipping = f"gradients clipped at {optim.gradient_clipping:g}" if optim.gradient_clipping else "no clipping"
    parts = [f"{optim.name}, learning rate {optim.peak:g}"]
    for name in ("muon", "embedding", "head", "vector"):
        rate = getattr(optim, f"{name}_learning_rate")
        if rate is not None:
            parts.append(f"{rate:g} for {'hidden matrices' if name == 'muon' else f'{name}s'}")
    if optim.name == "muon":
        nesterov = " (Nesterov)" if optim.muon_nesterov else ""
        parts.append(f"momentum {optim.muon_momentum:g}{nesterov}")
        parts.append(f"{optim.muon_newton_schulz_steps} Newton-Schulz steps")
    parts.append(f"betas {optim.betas[0]:g} {optim.betas[1]:g}")
    parts.append(f"weight decay {optim.weight_decay:g}")
    if optim.embedding_weight_decay is not None:
        parts.append(f"{optim.embedding_weight_decay:g} for embeddings")
    return ", ".join([*parts, clipping])


def optim_problems(config: "RunConfig") -> list[str]:
    """Settings of the optimizer that have no effect in this run, one sentence each."""
    optim, problems = config.optim, []
    for name in MUON_ONLY if optim.name != "muon" else ():
        value, default = getattr(optim, name), type(optim).model_fields[name].default
        if value != default:
            problems.append(f"optim.{name} {value} has no effect in {optim.name}; leave it out or set optim.name=muon")
    if optim.head_learning_rate is not None and config.model.tie_word_embeddings:
        problems.append(
            f"optim.head_learning_rate {optim.head_learning_rate:g}: the head is the embedding (model.tie_word_embeddings is "
            "true); set optim.embedding_learning_rate, or untie them"
        )
    return problems
