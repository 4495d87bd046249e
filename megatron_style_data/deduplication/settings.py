"""What counts as a duplicate, and the bands that follow from it."""

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Literal, get_args

from megatron_style_data.errors import SettingError

Keep = Literal["longest", "first"]

# Share of the pairs exactly at the threshold that must meet in at least one band.
_RECALL_AT_THRESHOLD = 0.995
_FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class DuplicateSettings:
    """How duplicates are found, checked when made.

    Attributes:
        exact: Documents with the same characters after folding (``folding.py``) are duplicates.
        near: So are documents whose sets of shingles are alike.
        threshold: Jaccard similarity of the shingle sets from which on two documents are near-duplicates.
        permutations: Values of a MinHash signature; the similarity it estimates is off by about
            sqrt(J (1 - J) / permutations).
        shingle: Characters of a shingle, after folding.
        keep: Which document of a cluster stays: the ``longest`` (in folded characters; the first of these) or the
            ``first`` in the order of the inputs.

    Raises:
        SettingError: A value that cannot be.
    """

    exact: bool = True
    near: bool = True
    threshold: float = 0.8
    permutations: int = 128
    shingle: int = 5
    keep: Keep = "longest"

    def __post_init__(self) -> None:
        if not (self.exact or self.near):
            raise SettingError("neither exact nor near duplicates are asked for; ask for one of them.")
        if not 0 < self.threshold <= 1:
            raise SettingError(f"threshold {self.threshold} is not a similarity above 0 and up to 1; 0.8 is usual.")
        if not 16 <= self.permutations <= 1024:
            raise SettingError(f"permutations {self.permutations}: expected 16 to 1024; 128 is usual.")
        if not 1 <= self.shingle <= 64:
            raise SettingError(f"shingle {self.shingle}: expected 1 to 64 characters; 5 is usual.")
        if self.keep not in get_args(Keep):
            raise SettingError(f"keep {self.keep!r} is not known; choose {' or '.join(get_args(Keep))}.")

    @property
    def rows(self) -> int:
        """Signature values of a band: as many as still let pairs at the threshold meet."""
        return max(rows for rows in range(1, self.permutations + 1) if rows == 1 or self._meets(rows))

    @property
    def bands(self) -> int:
        """Bands of a signature."""
        return self.permutations // self.rows

    @property
    def doubt(self) -> float:
        """Half the width of the range of estimates that do not decide: three standard deviations at the threshold."""
        return 3 * math.sqrt(self.threshold * (1 - self.threshold) / self.permutations)

    @property
    def fingerprint(self) -> str:
        """Names everything that decides the content of the signature files."""
        values = [_FORMAT_VERSION, self.near, self.permutations, self.shingle, self.rows]
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]

    def _meets(self, rows: int) -> bool:
        return 1 - (1 - self.threshold**rows) ** (self.permutations // rows) >= _RECALL_AT_THRESHOLD
