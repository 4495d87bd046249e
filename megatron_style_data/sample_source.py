"""What every reader of training samples offers, and the door that opens the right one for a packing and an order."""

from pathlib import Path
from typing import Literal, Protocol, TypeAlias, get_args

from numpy.typing import ArrayLike

from megatron_style_data.errors import SettingError
from megatron_style_data.megatron_order import MegatronSamples
from megatron_style_data.packed_samples import PackedSamples
from megatron_style_data.samples import Batch, Samples

PackingName: TypeAlias = Literal["concatenate", "best_fit"]
OrderName: TypeAlias = Literal["index_free", "megatron"]


class SampleSource(Protocol):
    """Samples by their number in a run; a pure function of data and settings, the same for whoever asks.

    Attributes:
        tokens: Targets an epoch: each of these tokens of the split is a target exactly once an epoch.
        sequence_length: S, the targets a sample has room for.
        samples_per_epoch: How many samples an epoch has; sample k lies in epoch ``k // samples_per_epoch``.
    """

    @property
    def tokens(self) -> int:
        """Targets an epoch."""

    @property
    def sequence_length(self) -> int:
        """S."""

    @property
    def samples_per_epoch(self) -> int:
        """Samples an epoch."""

    def batch(self, sample_ids: ArrayLike) -> Batch:
        """Samples by their number in the run, (n,) integers >= 0 in any order."""

    def targets_in(self, first: int, count: int) -> int:
        """Unmasked targets in samples [first, first + count), without reading them."""


def open_samples(
    prefix: str | Path,
    split: str = "train",
    *,
    sequence_length: int,
    seed: int = 0,
    shuffle: bool = True,
    packing: PackingName = "concatenate",
    order: OrderName = "index_free",
    total_samples: int | None = None,
) -> SampleSource:
    """The samples of one split of a finished dataset.

    Args:
        prefix: Path of the dataset without .bin, .idx, .meta.json.
        split: "train", "valid" or "test".
        sequence_length: S, targets a sample.
        seed: Chooses the order.
        shuffle: False: in the order of the text (packed: of the packing), the same in every epoch.
        packing: "concatenate" cuts one long text into samples; "best_fit" keeps documents whole where they fit.
        order: "index_free" computes each place when it is asked for; "megatron" is the order of Megatron-LM.
        total_samples: Samples of the whole run; only Megatron's order depends on it.

    Raises:
        MissingInputError: No finished dataset there, or it is to be best-fit packed and is not.
        BadDataError: Files and manifest do not belong together, or the dataset has no such split.
        SettingError: A setting that cannot be used, or two that cannot go together.
    """
    _check(packing, order, shuffle)
    if order == "megatron":
        return MegatronSamples.open(
            prefix, split, sequence_length=sequence_length, seed=seed, total_samples=total_samples
        )
    if packing == "best_fit":
        return PackedSamples.open(prefix, split, sequence_length=sequence_length, seed=seed, shuffle=shuffle)
    return Samples.open(prefix, split, sequence_length=sequence_length, seed=seed, shuffle=shuffle)


def _check(packing: str, order: str, shuffle: bool) -> None:
    for name, value, known in (("packing", packing, get_args(PackingName)), ("order", order, get_args(OrderName))):
        if value not in known:
            raise SettingError(f"{name} {value!r}: expected one of {', '.join(known)}.")
    if order == "megatron" and packing != "concatenate":
        raise SettingError(f"order megatron reads packing concatenate only, not {packing}; use order index_free.")
    if order == "megatron" and not shuffle:
        raise SettingError("order megatron is always shuffled; use order index_free for the order of the text.")
