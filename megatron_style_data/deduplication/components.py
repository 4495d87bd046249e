"""Connected documents: a forest in one array, in which every root is the smallest number of its component."""

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


class Components:
    """Which documents belong together; whole arrays of pairs at a time.

    The result depends only on the set of pairs that were joined, not on their order.
    """

    def __init__(self, documents: int) -> None:
        """Every document alone; 4 bytes a document, 8 beyond 2^31 of them."""
        self._parents = np.arange(documents, dtype=np.int32 if documents < 2**31 else np.int64)

    def roots(self, documents: Numbers) -> Numbers:
        """The smallest document of each one's component."""
        found = self._parents[documents]
        while True:
            above = self._parents[found]
            if np.array_equal(above, found):
                return found.astype(np.int64)
            found = above

    def join(self, left: Numbers, right: Numbers) -> None:
        """Joins ``left[i]`` with ``right[i]``."""
        while len(left):
            left, right = self.roots(left), self.roots(right)
            apart = left != right
            left, right = left[apart], right[apart]
            # The larger root gets the smallest of those it is paired with; what is still apart is paired once more.
            np.minimum.at(self._parents, np.maximum(left, right), np.minimum(left, right).astype(self._parents.dtype))

    def flatten(self) -> None:
        """Shortens all paths to one step; keeps ``roots`` quick."""
        for first in range(0, len(self._parents), 1 << 20):
            piece = slice(first, first + (1 << 20))
            self._parents[piece] = self.roots(np.arange(first, min(first + (1 << 20), len(self._parents))))
