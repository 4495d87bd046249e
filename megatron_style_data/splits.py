"""Which documents are held out: decided by their text alone, so that it never changes and duplicates stay together."""

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from megatron_style_data.errors import BadDataError, SettingError
from megatron_style_data.manifest import SPLITS

TRAIN, VALID, TEST = range(len(SPLITS))


def check_fractions(valid_fraction: float, test_fraction: float) -> None:
    """Holds that the fractions leave something to train on.

    Raises:
        SettingError: One is outside [0, 1), or together they are 1 or more.
    """
    for name, fraction in (("valid", valid_fraction), ("test", test_fraction)):
        if not 0 <= fraction < 1:
            raise SettingError(f"{name} fraction {fraction}: expected a number from 0 to below 1, such as 0.01.")
    if valid_fraction + test_fraction >= 1:
        raise SettingError(
            f"valid fraction {valid_fraction} and test fraction {test_fraction} leave nothing to train on; "
            "expected a sum below 1."
        )


def assign_splits(
    hashes: NDArray[np.uint64], sources: NDArray[np.int32], valid_fraction: float, test_fraction: float
) -> NDArray[np.uint8]:
    """The split of every document, as an index into `SPLITS`.

    Of each source with n documents, those with the ceil(valid_fraction * n) lowest hashes are valid and the next
    ceil(test_fraction * n) are test. Sources too small to give a whole document are counted together as one. A text
    that is selected in one source is selected in all of them, so that no held-out text is trained on.

    Args:
        hashes: (documents,) a hash of each text, keyed by the seed.
        sources: (documents,) number of the source of each document.
        valid_fraction: Share of the documents to hold out for evaluation during training.
        test_fraction: Share to hold out for the end.

    Raises:
        BadDataError: Nothing is left to train on.
    """
    splits = np.full(len(hashes), TRAIN, np.uint8)
    fractions = [fraction for fraction in (valid_fraction, test_fraction) if fraction > 0]
    if not fractions:
        return splits
    strata = _strata(sources, min(fractions))
    valid: list[NDArray[np.uint64]] = []
    test: list[NDArray[np.uint64]] = []
    by_stratum = np.argsort(strata, kind="stable")
    for members in np.split(by_stratum, np.flatnonzero(np.diff(strata[by_stratum])) + 1):
        ordered = np.sort(hashes[members])
        valid_end = share(valid_fraction, len(ordered))
        valid.append(ordered[:valid_end])
        test.append(ordered[valid_end : valid_end + share(test_fraction, len(ordered))])
    splits[np.isin(hashes, np.concatenate(test))] = TEST
    splits[np.isin(hashes, np.concatenate(valid))] = VALID
    if not np.any(splits == TRAIN):
        raise BadDataError(
            f"nothing is left to train on: every document ({len(hashes)}) was held out by valid fraction "
            f"{valid_fraction} and test fraction {test_fraction}; give more documents (a text file is one unless "
            "split at blank lines), or hold out none with fractions of 0."
        )
    return splits


def _strata(sources: NDArray[np.int32], smallest_fraction: float) -> NDArray[np.int64]:
    """The source of each document, with all sources of less than 1 / smallest_fraction documents as number 0."""
    counts = np.bincount(sources)
    large = np.array([Fraction(str(smallest_fraction)) * int(count) >= 1 for count in counts], np.bool_)
    strata: NDArray[np.int64] = np.where(large, np.arange(1, len(counts) + 1), 0)[sources]
    return strata


def share(fraction: float, documents: int) -> int:
    """ceil(fraction * documents)."""
    # By decimal digits: 0.07 * 100 is 7.000000000000001 in floating point, and its ceiling 8.
    return -int(-Fraction(str(fraction)) * documents // 1)
