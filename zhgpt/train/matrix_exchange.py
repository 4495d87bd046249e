"""Brings whole matrices together on the ranks that orthogonalise them, and the result back to where the pieces lie."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from zhgpt.train.matrix_layout import Matrix, Piece

Orthogonalise = Callable[[list[Tensor]], list[Tensor]]
"""Whole matrices -> as many of the same shapes."""


@dataclass(frozen=True)
class MatrixExchange:
    """What one rank sends, receives and computes for one flat vector.

    Attributes:
        matrices: of the layout, the same on all ranks of the group.
        rank: this one's number in the group.
        ranks: of the group.
        group: the process group that divides the vector; None: one rank has all.
    """

    matrices: tuple[Matrix, ...]
    rank: int = 0
    ranks: int = 1
    group: Any = None
    _outgoing: tuple[tuple[int, int, Piece], ...] = field(init=False, repr=False)
    """(Owner, matrix, piece) of this rank's pieces of other ranks' matrices."""
    _incoming: tuple[tuple[int, int, Piece], ...] = field(init=False, repr=False)
    """(Holder, matrix, piece) of other ranks' pieces of this rank's matrices."""

    def __post_init__(self) -> None:
        pieces = [(m, matrix.owner, piece) for m, matrix in enumerate(self.matrices) for piece in matrix.pieces]
        crossing = [(m, owner, piece) for m, owner, piece in pieces if piece.rank != owner]
        outgoing = sorted((owner, m) for m, owner, piece in crossing if piece.rank == self.rank)
        incoming = sorted((piece.rank, m) for m, owner, piece in crossing if owner == self.rank)
        held = {m: piece for m, _, piece in pieces if piece.rank == self.rank}
        theirs = {(piece.rank, m): piece for m, owner, piece in crossing if owner == self.rank}
        object.__setattr__(self, "_outgoing", tuple((owner, m, held[m]) for owner, m in outgoing))
        object.__setattr__(self, "_incoming", tuple((holder, m, theirs[holder, m]) for holder, m in incoming))

    @property
    def crosses(self) -> bool:
        """Whether any rank of the group has to send anything: the same on all of them."""
        return any(len(matrix.pieces) > 1 for matrix in self.matrices)

    def apply(self, vector: Tensor, orthogonalise: Orthogonalise) -> Iterator[tuple[Matrix, Piece, Tensor]]:
        """Orthogonalises every matrix once, on its owner; reached by all ranks of the group.

        Args:
            vector: this rank's, flat, in the dtype that is sent and computed in.
            orthogonalise: gives the new matrices.

        Yields:
            Each matrix of which this rank holds a piece, the piece, and its new values (flat).
        """
        received = self._send(vector, self._outgoing, self._incoming)
        owned = [m for m, matrix in enumerate(self.matrices) if matrix.owner == self.rank]
        whole = [self._assemble(m, vector, received) for m in owned]
        results = {m: result.reshape(-1) for m, result in zip(owned, orthogonalise(whole), strict=True)}
        parts = [results[m][piece.first : piece.first + piece.size] for _, m, piece in self._incoming]
        returned = self._all_to_all(parts, self._incoming, self._outgoing, vector)
        back = {m: values for (_, m, _), values in zip(self._outgoing, returned, strict=True)}
        for m, matrix in enumerate(self.matrices):
            for piece in matrix.pieces:
                if piece.rank == self.rank:
                    here = results[m][piece.first : piece.first + piece.size] if matrix.owner == self.rank else back[m]
                    yield matrix, piece, here

    def _send(self, vector: Tensor, outgoing: Any, incoming: Any) -> dict[int, list[tuple[Piece, Tensor]]]:
        """Other ranks' pieces of this rank's matrices, by matrix."""
        parts = [vector[piece.place : piece.place + piece.size] for _, _, piece in outgoing]
        received: dict[int, list[tuple[Piece, Tensor]]] = {}
        values = self._all_to_all(parts, outgoing, incoming, vector)
        for (_, m, piece), part in zip(incoming, values, strict=True):
            received.setdefault(m, []).append((piece, part))
        return received

    def _assemble(self, m: int, vector: Tensor, received: dict[int, list[tuple[Piece, Tensor]]]) -> Tensor:
        """A whole matrix of this rank's, (rows, columns); a view where it lies here as a whole."""
        matrix = self.matrices[m]
        here = [
            (piece, vector[piece.place : piece.place + piece.size])
            for piece in matrix.pieces
            if piece.rank == self.rank
        ]
        parts = sorted([*here, *received.get(m, [])], key=lambda part: part[0].first)
        values = parts[0][1] if len(parts) == 1 else torch.cat([part for _, part in parts])
        return values.view(matrix.rows, matrix.columns)

    def _all_to_all(
        self,
        parts: Sequence[Tensor],
        outgoing: Sequence[tuple[int, int, Piece]],
        incoming: Sequence[tuple[int, int, Piece]],
        like: Tensor,
    ) -> list[Tensor]:
        """Sends each part to its rank and gives those that came, in the order of ``incoming``."""
        if not self.crosses:
            return []
        sizes_out, sizes_in = [0] * self.ranks, [0] * self.ranks
        for rank, _, piece in outgoing:
            sizes_out[rank] += piece.size
        for rank, _, piece in incoming:
            sizes_in[rank] += piece.size
        sent = torch.cat(list(parts)) if parts else like.new_empty(0)
        came = like.new_empty(sum(sizes_in))
        torch.distributed.all_to_all_single(came, sent, sizes_in, sizes_out, group=self.group)
        return list(came.split([piece.size for _, _, piece in incoming])) if incoming else []
