"""Muon for matrices, AdamW for everything else, as one optimizer that DeepSpeed's ZeRO can wrap.

Muon (K. Jordan and others 2024, https://kellerjordan.github.io/posts/muon/) replaces the momentum of a matrix by the nearest
matrix with orthonormal rows or columns, found to within 30 % or so of every singular value by a few Newton-Schulz steps.
The step is scaled by 0.2 sqrt(max(rows, columns)) (J. Liu and others 2025, arXiv 2502.16982, section 2.2): its root mean
square is then 0.2, about that of AdamW's, so that AdamW's learning rate and weight decay serve both.

DeepSpeed hands an optimizer flat fp32 vectors of whole parameter groups (ZeRO 1 and 2) or of pieces (ZeRO 3), whose
gradients it has averaged, unscaled and clipped by their global norm. What is elementwise (momentum, decay) is done there;
only for the orthogonalisation the pieces of a matrix meet (:mod:`zhgpt.train.matrix_exchange`). So gradients are clipped
as they are, before they are orthogonalised, and the momentum is saved and loaded as Adam's moments are.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from zhgpt.train.matrix_exchange import MatrixExchange
from zhgpt.train.matrix_layout import Piece, lay_one_after_another

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic a x + b x^3 + c x^5 that each Newton-Schulz step applies to every singular value (Jordan's)."""
UPDATE_RMS = 0.2


def orthogonalise(matrices: Tensor, steps: int) -> Tensor:
    """Moves every singular value near 1, keeping the singular vectors.

    Args:
        matrices: (N, rows, columns), in the dtype of the products. A matrix of zeros stays one.
        steps: of Newton-Schulz.

    Returns:
        (N, rows, columns).
    """
    a, b, c = COEFFICIENTS
    wide = torch.promote_types(matrices.dtype, torch.float32)
    norms = torch.linalg.vector_norm(matrices, dim=(-2, -1), keepdim=True, dtype=wide)
    x = (matrices / norms.clamp(min=torch.finfo(torch.float32).tiny)).to(matrices.dtype)
    is_tall = x.shape[-2] > x.shape[-1]
    x = x.mT if is_tall else x
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x


class Muon(torch.optim.AdamW):
    """Steps groups whose ``algorithm`` is "muon" by Muon and those with "adamw" by torch's AdamW.

    Args:
        groups: with ``algorithm`` and ``weight_decay``; those of Muon hold parameters (..., rows, columns), each leading
            index a matrix of its own.
        lr, betas, eps: AdamW's; the rate is set anew at each step.
        momentum: of Muon.
        nesterov: whether the direction is that after the next step of the momentum.
        steps: of Newton-Schulz.
        dtype: that matrices are orthogonalised and sent in; weights, momentum and gradients are in the parameters'.

    Attributes:
        exchanges: for each flat vector that ZeRO gave in the place of parameters, how its matrices come together.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        momentum: float,
        nesterov: bool,
        steps: int,
        dtype: torch.dtype,
    ) -> None:
        for group in groups:
            if group["algorithm"] == "muon":
                group.update(momentum=momentum, nesterov=nesterov, newton_schulz_steps=steps)
        super().__init__(groups, lr=lr, betas=betas, eps=eps, fused=True)
        self.dtype = dtype
        self.device = self.param_groups[0]["params"][0].device
        self.exchanges: dict[Tensor, MatrixExchange] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step of all groups; reached by all ranks that share a vector."""
        assert closure is None, "DeepSpeed has none"
        everything = self.param_groups
        for group in everything:
            if group["algorithm"] == "muon":
                for vector in group["params"]:
                    if vector.grad is not None:
                        self._step_matrices(vector, group)
        self.param_groups = [group for group in everything if group["algorithm"] == "adamw"]
        try:
            if self.param_groups:  # ZeRO may step ours alone; with none, torch warns on a GPU that all are capturable
                super().step()
        finally:
            self.param_groups = everything

    def _step_matrices(self, vector: Tensor, group: dict[str, Any]) -> None:
        """Momentum and decay of a vector, or of a whole parameter, and the step along its orthogonalised matrices."""
        state = self.state[vector]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["momentum_buffer"] = torch.zeros_like(vector)
        state["step"] += 1
        assert vector.grad is not None
        momentum: Tensor = state["momentum_buffer"].mul_(group["momentum"]).add_(vector.grad)
        vector.mul_(1 - group["lr"] * group["weight_decay"])
        flat, gradients, velocity = vector.view(-1), vector.grad.reshape(-1), momentum.view(-1)

        def direction(piece: Piece) -> Tensor:
            here = slice(piece.place, piece.place + piece.size)
            return gradients[here].add(velocity[here], alpha=group["momentum"]) if group["nesterov"] else velocity[here]

        def nearest(matrices: Tensor) -> Tensor:
            return orthogonalise(matrices, group["newton_schulz_steps"])

        exchange = self._exchange_of(vector)
        like = torch.empty(0, device=self.device, dtype=self.dtype)
        for matrix, piece, values in exchange.apply(direction, nearest, like):
            scale = UPDATE_RMS * max(matrix.rows, matrix.columns) ** 0.5
            flat[piece.place : piece.place + piece.size].add_(values.to(flat), alpha=-group["lr"] * scale)
            del values  # else it would keep its round's matrices while the next are made

    def _exchange_of(self, vector: Tensor) -> MatrixExchange:
        """How the matrices of a vector come together; those of a parameter are whole here."""
        if vector not in self.exchanges:
            assert vector.dim() >= 2, "a flat vector without a layout: the engine was not made by build_engine"
            self.exchanges[vector] = MatrixExchange(lay_one_after_another([vector.shape], [0], vector.numel(), ranks=1))
        return self.exchanges[vector]
