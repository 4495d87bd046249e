"""Best-fit packing of documents: those that fit into a sample stay whole, longer ones are cut as rarely as can be.

A document of q * S + r tokens gives q full samples and, if r > 0, a rest of r tokens; a document shorter than S is all
rest. Rests are packed best-fit-decreasing into bins of S. The rest of a longer document is its end or its head: in each
bin the first of them is an end, which comes first, so that the token before it can be its context; the last is a head,
which comes last, so that nothing follows it. Only a third, fourth ... one in a bin stands out of its context: its first
token is predicted from an end-of-text token.

Imported where a packing is made only: it needs numba.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from megatron_style_data.best_fit import pack_best_fit
from megatron_style_data.packing_file import Packing


def plan_packing(lengths: NDArray[np.int32], sequence_length: int) -> Packing:
    """The packing of documents of these lengths.

    Args:
        lengths: (documents,) tokens of each, end-of-text token included; less than 2**31 documents.
        sequence_length: S.
    """
    rests = lengths % np.int32(sequence_length)
    codes = np.arange(len(lengths), dtype=np.uint32) * np.uint32(2)
    codes += lengths > sequence_length
    there = rests > 0
    bins = pack_best_fit(rests[there], codes[there], sequence_length)
    heads = np.zeros(len(lengths), np.bool_)
    out_of_context = int(_arrange(bins.pieces, bins.starts, heads))
    long = np.flatnonzero(lengths >= sequence_length)
    return Packing(
        sequence_length=sequence_length,
        documents=len(lengths),
        tokens=int(lengths.sum(dtype=np.int64)),
        out_of_context=out_of_context,
        by_room=bins.by_room,
        full_ends=np.cumsum(lengths[long] // sequence_length, dtype=np.int64),
        bin_starts=bins.starts,
        long_codes=(2 * long + heads[long]).astype(np.uint32),
        piece_codes=bins.pieces,
    )


@njit(nogil=True)
def _arrange(codes: Any, starts: Any, heads: Any) -> Any:
    """Puts the first rest of a long document to the front of its bin and the last one to its end.

    Args:
        codes: (pieces,) uint32, 2 * document + whether it is longer than a sample; in place, 2 * document + head.
        starts: (bins + 1,) where each bin begins.
        heads: (documents,) bool, set where the rest is the head of its document.

    Returns:
        How many rests of long documents are neither first nor last.
    """
    one = np.uint32(1)
    out_of_context = 0
    for number in range(len(starts) - 1):
        start, end = starts[number], starts[number + 1]
        first, last, count = -1, -1, 0
        for place in range(start, end):
            if codes[place] & one:
                codes[place] ^= one
                first = place if first < 0 else first
                last = place
                count += 1
        if count:
            codes[start], codes[first] = codes[first], codes[start]
        if count > 1:
            heads[codes[last] >> one] = True
            codes[last] |= one
            codes[end - 1], codes[last] = codes[last], codes[end - 1]
            out_of_context += count - 2
    return out_of_context
