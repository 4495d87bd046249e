"""The text a run is evaluated on: the valid splits of what it trains on, or datasets of their own by name."""

from dataclasses import dataclass

from megatron_style_data.manifest import SPLITS, Manifest, load_manifest
from megatron_style_data.samples import Samples
from zhgpt.config.schema import EvaluateSection
from zhgpt.errors import SettingError
from zhgpt.train.training_data import TrainingData, check_same_tokenizer


@dataclass(frozen=True)
class HeldOutSplit:
    """One split that is evaluated.

    Attributes:
        name: of the text in metrics; several splits of one dataset share it.
        prefix: of the dataset.
        split: its name.
        utf8_bytes: of the whole split.
    """

    name: str
    prefix: str
    split: str
    utf8_bytes: int

    def open(self, sequence_length: int) -> Samples:
        """Its samples: concatenated, every token once, in an order without a seed."""
        return Samples.open(self.prefix, self.split, sequence_length=sequence_length, seed=0)


@dataclass(frozen=True)
class HeldOut:
    """An open split.

    Attributes:
        name: of the text in metrics.
        split: its name in the dataset.
        samples: in a fixed order.
        utf8_bytes: of the whole split.
    """

    name: str
    split: str
    samples: Samples
    utf8_bytes: int


def held_out_splits(data: TrainingData, section: EvaluateSection) -> tuple[HeldOutSplit, ...]:
    """All documents of the datasets of ``evaluate.data``, else the valid split of every source that has one.

    Raises:
        MissingInputError, BadDataError: a dataset is missing, damaged, empty, or made by another tokenizer.
        SettingError: a dataset is trained on, too.
    """
    if not section.data:
        found = [_splits(source.name, source.prefix, source.manifest, ("valid",)) for source in data.sources]
        return tuple(split for splits in found for split in splits)
    trained = {source.manifest.fingerprint: source.prefix for source in data.sources}
    first, chosen = data.sources[0], []
    for name, prefix in section.data.items():
        manifest = load_manifest(prefix)
        check_same_tokenizer(first.prefix, first.manifest, prefix, manifest)
        if manifest.fingerprint in trained:
            raise SettingError(
                f"evaluate.data.{name}: {prefix} is the dataset {trained[manifest.fingerprint]} that is trained on, so its "
                "loss would say nothing about other text; give a dataset of held-out documents, or leave evaluate.data out "
                "for the valid split"
            )
        chosen += _splits(name, prefix, manifest, SPLITS)
    return tuple(chosen)


def _splits(name: str, prefix: str, manifest: Manifest, wanted: tuple[str, ...]) -> list[HeldOutSplit]:
    return [
        HeldOutSplit(name, prefix, split, record.utf8_bytes)
        for split, record in manifest.splits.items()
        if split in wanted and record.tokens > 0
    ]
