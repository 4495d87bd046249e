"""Brings whole matrices together on the ranks that orthogonalise them, some at a time, and the result back to the pieces."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from zhgpt.train.matrix_layout import Matrix, Piece

LARGEST_BATCH = 2**24
"""Values of equally shaped matrices that one rank orthogonalises in one batched product: it bounds the memory."""
_Travel = tuple[int, int, Piece]
"""The other rank, the number of the matrix, the piece."""


@dataclass(frozen=True)
class _Round:
    """Equally shaped matrices that are whole at the same time, as one rank sees them.

    Attributes:
        rows, columns: of each.
        held: number of a matrix -> this rank's piece of it.
        owned: numbers of those that this rank orthogonalises -> their place in its batch.
        outgoing: this rank's pieces of other ranks' matrices, by owner.
        incoming: other ranks' pieces of this rank's matrices, by holder.
        crosses: whether any rank has to send anything: the same on all of them.
    """

    rows: int
    columns: int
    held: dict[int, Piece]
    owned: dict[int, int]
    outgoing: tuple[_Travel, ...]
    incoming: tuple[_Travel, ...]
    crosses: bool


@dataclass(frozen=True)
class MatrixExchange:
    """What one rank sends, receives and computes for one flat vector.

    Attributes:
        matrices: of the layout, the same on all ranks of the group.
        rank: this one's number in the group.
        ranks: of the group.
        group: the process group that divides the vector; None: one rank has all.
        largest_batch: values that a rank orthogonalises at a time, or one matrix where that has more.
    """

    matrices: tuple[Matrix, ...]
    rank: int = 0
    ranks: int = 1
    group: Any = None
    largest_batch: int = LARGEST_BATCH
    _rounds: tuple[_Round, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        numbers = rounds_of(self.matrices, self.largest_batch)
        object.__setattr__(self, "_rounds", tuple(self._round(of_round) for of_round in numbers))

    def apply(
        self, direction: Callable[[Piece], Tensor], orthogonalise: Callable[[Tensor], Tensor], like: Tensor
    ) -> Iterator[tuple[Matrix, Piece, Tensor]]:
        """Orthogonalises every matrix once, on its owner; reached by all ranks of the group, to the end.

        Args:
            direction: the values of one of this rank's pieces, flat; asked for once each, when its round comes.
            orthogonalise: (N, rows, columns) -> the same shape.
            like: has the dtype and the device that matrices are sent and orthogonalised in.

        Yields:
            Each matrix of which this rank holds a piece, the piece, and its new values (flat).
        """
        for turn in self._rounds:
            yield from self._apply_round(turn, direction, orthogonalise, like)

    def _apply_round(
        self,
        turn: _Round,
        direction: Callable[[Piece], Tensor],
        orthogonalise: Callable[[Tensor], Tensor],
        like: Tensor,
    ) -> Iterator[tuple[Matrix, Piece, Tensor]]:
        batch = self._assemble(turn, direction, like)
        if turn.owned:
            batch = orthogonalise(batch.view(-1, turn.rows, turn.columns)).reshape(batch.shape)
        parts = (batch[turn.owned[m], piece.first : piece.first + piece.size] for _, m, piece in turn.incoming)
        returned = self._travel(turn, parts, like, back=True)
        back = {m: values for (_, m, _), values in zip(turn.outgoing, returned, strict=True)}
        for m, piece in turn.held.items():
            here = batch[turn.owned[m], piece.first : piece.first + piece.size] if m in turn.owned else back[m]
            yield self.matrices[m], piece, here

    def _assemble(self, turn: _Round, direction: Callable[[Piece], Tensor], like: Tensor) -> Tensor:
        """The whole matrices of this rank, one a row."""
        batch = like.new_empty((len(turn.owned), turn.rows * turn.columns))
        came = self._travel(turn, (direction(piece) for _, _, piece in turn.outgoing), like)
        for (_, m, piece), values in zip(turn.incoming, came, strict=True):
            batch[turn.owned[m], piece.first : piece.first + piece.size] = values
        for m, piece in turn.held.items():
            if m in turn.owned:
                batch[turn.owned[m], piece.first : piece.first + piece.size] = direction(piece)
        return batch

    def _travel(self, turn: _Round, parts: Iterable[Tensor], like: Tensor, *, back: bool = False) -> list[Tensor]:
        """Sends each outgoing part to its owner and gives the incoming ones, in their order; ``back``: the other way."""
        if not turn.crosses:
            return []
        outgoing, incoming = (turn.incoming, turn.outgoing) if back else (turn.outgoing, turn.incoming)
        sizes_out, sizes_in = [0] * self.ranks, [0] * self.ranks
        for rank, _, piece in outgoing:
            sizes_out[rank] += piece.size
        for rank, _, piece in incoming:
            sizes_in[rank] += piece.size
        sent, came, at = like.new_empty(sum(sizes_out)), like.new_empty(sum(sizes_in)), 0
        for part in parts:
            sent[at : at + part.numel()] = part
            at += part.numel()
        torch.distributed.all_to_all_single(came, sent, sizes_in, sizes_out, group=self.group)
        return list(came.split([piece.size for _, _, piece in incoming])) if incoming else []

    def _round(self, numbers: Sequence[int]) -> _Round:
        """These matrices, as this rank sees them."""
        matrices = {m: self.matrices[m] for m in numbers}
        pieces = [(m, matrix.owner, piece) for m, matrix in matrices.items() for piece in matrix.pieces]
        outgoing = [(owner, m, p) for m, owner, p in pieces if p.rank == self.rank != owner]
        incoming = [(p.rank, m, p) for m, owner, p in pieces if owner == self.rank != p.rank]
        return _Round(
            matrices[numbers[0]].rows,
            matrices[numbers[0]].columns,
            held={m: piece for m, _, piece in pieces if piece.rank == self.rank},
            owned={m: place for place, m in enumerate(m for m in numbers if matrices[m].owner == self.rank)},
            outgoing=tuple(sorted(outgoing, key=lambda travel: travel[:2])),
            incoming=tuple(sorted(incoming, key=lambda travel: travel[:2])),
            crosses=any(len(matrix.pieces) > 1 for matrix in matrices.values()),
        )


def rounds_of(matrices: Sequence[Matrix], largest_batch: int) -> list[list[int]]:
    """Numbers of equally shaped matrices, so many that no owner has more values in a round, or one matrix.

    Args:
        matrices: of a layout; the rounds are the same on all ranks.
        largest_batch: values.
    """
    by_shape: dict[tuple[int, int], list[int]] = {}
    for m, matrix in enumerate(matrices):
        by_shape.setdefault((matrix.rows, matrix.columns), []).append(m)
    rounds: list[list[int]] = []
    for (rows, columns), numbers in by_shape.items():
        count, before = max(1, largest_batch // (rows * columns)), len(rounds)
        taken: Counter[int] = Counter()
        for m in numbers:
            at = before + taken[matrices[m].owner] // count
            taken[matrices[m].owner] += 1
            if at == len(rounds):
                rounds.append([])
            rounds[at].append(m)
    return rounds
