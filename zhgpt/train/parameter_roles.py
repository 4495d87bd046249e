"""What kind of parameter each one is, by its place in the model, and what the optimizer's groups hold."""

import re
from collections.abc import Sequence
from typing import Any

from torch import nn

from zhgpt.config.optim_groups import Role

HIDDEN = re.compile(r"\b(q|k|v|o|gate|up|down)_proj(\.weight)?$")
EMBEDDING = re.compile(r"\bembed_(tokens|positions)\.weight$")
HEAD = re.compile(r"\blm_head\.weight$")
ROUTER = re.compile(r"\.(gate|gate\.wg|coefficient)\.weight$")
MATRIX_ROLES: dict[Role, re.Pattern[str]] = {"hidden": HIDDEN, "embedding": EMBEDDING, "head": HEAD, "router": ROUTER}


def role_of(name: str, parameter: nn.Parameter) -> Role:
    """The kind of a parameter of :class:`zhgpt.model.transformer.CausalLM`.

    No two logical matrices are fused in one parameter: queries, keys and values, and gate and up, are parameters of their
    own. A stack of experts (E, rows, columns) is E matrices.

    Args:
        name: as ``named_parameters`` gives it.
        parameter: whole, before ZeRO-3 has taken it.
    """
    if parameter.dim() < 2:
        return "vector"
    for role, pattern in MATRIX_ROLES.items():
        if pattern.search(name):
            return role
    raise AssertionError(f"{name}: a new matrix needs a role in {__name__}")


def list_groups(groups: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each parameter group holds, JSON-ready, for the run's start; of experts that are shared out this rank's.

    Args:
        groups: as given to the optimizer, before DeepSpeed has made flat vectors of their parameters.
    """
    return [
        {
            "name": group["name"],
            "roles": list(group["roles"]),
            "algorithm": group["algorithm"],
            "parameters": len(group["params"]),
            "values": sum(parameter.numel() for parameter in group["params"]),
            "learning_rate": group["peak_learning_rate"],
            "rate_factor": group["rate_factor"],
            "weight_decay": group["weight_decay"],
        }
        for group in groups
    ]


ALGORITHM_NAMES = {"adamw": "AdamW", "muon": "Muon"}


def group_lines(listed: Sequence[dict[str, Any]]) -> list[str]:
    """The listed groups as text, one line each."""
    return [
        f"{'+'.join(group['roles'])}{' (experts, this rank)' if group['name'].startswith('ep_size_') else ''}: "
        f"{ALGORITHM_NAMES[group['algorithm']]}, {group['values']:,} values in {group['parameters']} "
        f"tensor{'s' * (group['parameters'] != 1)}, learning rate {group['learning_rate']:g}, weight decay "
        f"{group['weight_decay']:g}"
        for group in listed
    ]
