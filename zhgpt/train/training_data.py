"""What a run trains on: one dataset or a blend of several, checked against each other; opened without torch.

One dataset is a blend of one source, so everything below is the same for both.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from megatron_style_data.blend import Blend
from megatron_style_data.blend_schedule import BlendSchedule, Phase
from megatron_style_data.blend_weights import exact, weights_at_temperature, weights_from_epochs
from megatron_style_data.manifest import SPLITS, Floor, Manifest, SplitRecord, load_manifest
from megatron_style_data.sample_source import SampleSource, open_samples
from zhgpt.config.advice import SourceReading
from zhgpt.config.data_section import BlendSource, DataSection
from zhgpt.errors import BadDataError, SettingError


@dataclass(frozen=True)
class DataSource:
    """One dataset of a run."""

    name: str
    prefix: str
    manifest: Manifest
    samples_per_epoch: int
    """Of the train split, in the run's packing."""

    @property
    def train(self) -> SplitRecord:
        """The split that is trained on."""
        return self.manifest.splits["train"]


@dataclass(frozen=True)
class TrainingData:
    """All datasets of a run, and which of them gives which sample."""

    section: DataSection
    sources: tuple[DataSource, ...]
    schedule: BlendSchedule
    samples: int
    """Samples of the whole run."""
    phase_steps: tuple[int, ...] = (0,)
    """The first step of each phase of the schedule."""

    @property
    def is_blend(self) -> bool:
        """Whether the run was given several datasets, or one as a blend."""
        return self.section.blend is not None

    @property
    def manifest(self) -> Manifest:
        """Of the first dataset; its tokenizer is that of all."""
        return self.sources[0].manifest

    @property
    def label(self) -> str:
        """The prefix, or the blend in a few words: ``web 60 %, wiki 40 %``."""
        return self.describe_phase(self.schedule.phases[0]) if self.is_blend else self.sources[0].prefix

    def describe_phase(self, phase: Phase) -> str:
        """The shares of a phase: ``web 60 %, wiki 40 %``."""
        shares = zip(self.sources, phase.shares, strict=True)
        return ", ".join(f"{source.name} {float(100 * share):.4g} %" for source, share in shares if share)

    def splits(self) -> dict[str, dict[str, int]]:
        """Documents, tokens and bytes of each split, over all sources."""
        counted = ("documents", "tokens", "utf8_bytes")
        whole: dict[str, dict[str, int]] = {}
        for split in SPLITS:
            parts = [
                asdict(source.manifest.splits[split]) for source in self.sources if split in source.manifest.splits
            ]
            if parts:
                whole[split] = {name: sum(part[name] for part in parts) for name in counted}
        return whole

    def tokens_per_byte(self, first: int, count: int) -> float:
        """Tokens a UTF-8 byte in samples [first, first + count) of the run, by what each source has on average."""
        if len(self.sources) == 1:
            return self.sources[0].train.tokens_per_byte
        before, after = self.schedule.counts_before(first), self.schedule.counts_before(first + count)
        tokens_per_byte = [source.train.tokens_per_byte for source in self.sources]
        spans = zip(before, after, tokens_per_byte, strict=True)
        return count / sum((end - start) / per_byte for start, end, per_byte in spans)

    def readings(self, first: int = 0, end: int | None = None) -> tuple[SourceReading, ...]:
        """What samples [first, end) of the run (all of it by default) take from each source."""
        before, after = (
            self.schedule.counts_before(first),
            self.schedule.counts_before(self.samples if end is None else end),
        )
        length = self.section.sequence_length
        return tuple(
            SourceReading(
                name=source.name,
                tokens=source.train.tokens,
                samples=stop - start,
                read_tokens=(stop - start) * length,
                epochs=(stop - start) / source.samples_per_epoch,
            )
            for source, start, stop in zip(self.sources, before, after, strict=True)
        )

    def floor(self) -> Floor | None:
        """The floors of all sources by their share of the run: what a model reaches that knows frequencies by source."""
        floors = [source.manifest.floor for source in self.sources]
        readings = self.readings()
        if len(floors) == 1:
            return floors[0]
        known = [(reading.samples, floor) for reading, floor in zip(readings, floors, strict=True) if floor is not None]
        if len(known) < len(floors):
            return None
        whole = sum(samples for samples, _ in known)

        def mean(name: str) -> float:
            return sum(samples * float(getattr(floor, name)) for samples, floor in known) / whole

        return Floor(
            unigram_loss=mean("unigram_loss"),
            unigram_bits_per_byte=mean("unigram_bits_per_byte"),
            bigram_loss=mean("bigram_loss"),
            bigram_bits_per_byte=mean("bigram_bits_per_byte"),
            measured_on=known[0][1].measured_on,
            measured_tokens=sum(floor.measured_tokens for _, floor in known),
            bigram_tokens=sum(floor.bigram_tokens for _, floor in known),
        )

    def identity(self) -> dict[str, Any]:
        """What a checkpoint remembers of the data; :mod:`zhgpt.checkpoint.data_identity` compares two of them."""
        section, first = self.section, self.sources[0]
        known: dict[str, Any] = {"tokenizer_fingerprint": first.manifest.tokenizer.fingerprint}
        if section.packing != "concatenate":
            known["packing"] = section.packing
        if section.order != "index_free":
            # Megatron's order follows from how many samples a source gives in all, so also from what is yet to come.
            known |= {"order": section.order, "order_samples": list(self.schedule.counts_before(self.samples))}
        if not self.is_blend:
            return {"fingerprint": first.manifest.fingerprint, "tokens": first.train.tokens, **known}
        fingerprints = [source.manifest.fingerprint for source in self.sources]
        phases = [
            {
                "first_sample": phase.first_sample,
                "shares": [[key, str(share)] for key, share in zip(fingerprints, phase.shares, strict=True) if share],
            }
            for phase in self.schedule.phases
        ]
        names = {key: source.name for key, source in zip(fingerprints, self.sources, strict=True)}
        return {**known, "blend": phases, "names": names}


def read_training_data(data: DataSection, *, steps: int, samples_before: Callable[[int], int]) -> TrainingData:
    """Reads the manifests of all datasets and checks that they go together.

    Args:
        data: the section, checked by RunConfig.
        steps: of the run.
        samples_before: how many samples the steps before a step consume (`BatchPlan.samples_before`).

    Raises:
        MissingInputError, BadDataError: a dataset is missing, damaged or not packed, or another tokenizer made it.
        SettingError: a dataset is in the blend twice, or a weight is too small.
    """
    wanted = data.blend if data.blend is not None else (BlendSource(data=data.prefixes[0], weight=1),)
    sources = tuple(_read_source(data, source) for source in wanted)
    for source in sources[1:]:
        check_same_tokenizer(sources[0].prefix, sources[0].manifest, source.prefix, source.manifest)
    _check_different(sources)
    phases, phase_steps = [Phase(0, _base_weights(data, sources))], [0]
    for phase in data.phases:
        weights = tuple(exact(phase.weights.get(source.name, 0)) for source in sources)
        phase_steps.append(phase.first_step(steps))
        phases.append(Phase(samples_before(phase_steps[-1]), weights))
    return TrainingData(data, sources, BlendSchedule(tuple(phases)), samples_before(steps), tuple(phase_steps))


def open_training_samples(data: TrainingData, seed: int) -> SampleSource:
    """The samples of the run; each source is in the order that it has alone."""
    section, counts = data.section, data.schedule.counts_before(data.samples)
    opened = [
        open_samples(
            source.prefix,
            "train",
            sequence_length=section.sequence_length,
            seed=seed,
            packing=section.packing,
            order=section.order,
            total_samples=max(1, count),
        )
        for source, count in zip(data.sources, counts, strict=True)
    ]
    return opened[0] if len(opened) == 1 else Blend(opened, data.schedule)


def _read_source(data: DataSection, source: BlendSource) -> DataSource:
    manifest, length = load_manifest(source.data), data.sequence_length
    samples = -(-manifest.splits["train"].tokens // length)
    if data.packing == "best_fit":  # how many there are, and whether they are there, only the packing knows
        samples = open_samples(source.data, sequence_length=length, packing="best_fit").samples_per_epoch
    return DataSource(source.label, source.data, manifest, samples)


def _base_weights(data: DataSection, sources: tuple[DataSource, ...]) -> tuple[Fraction, ...]:
    tokens = [source.train.tokens for source in sources]
    blend = data.blend or ()
    if not blend:
        return (Fraction(1),)
    if blend[0].weight is not None:
        return tuple(exact(source.weight or 0) for source in blend)
    if blend[0].epochs is not None:
        return weights_from_epochs(tokens, [source.epochs or 0 for source in blend])
    return weights_at_temperature(tokens, data.temperature)


def check_same_tokenizer(prefix: str, manifest: Manifest, other_prefix: str, other_manifest: Manifest) -> None:
    """Ids of two datasets must mean the same.

    Raises:
        BadDataError: they were made by different tokenizers.
    """
    ours, theirs = manifest.tokenizer, other_manifest.tokenizer
    if ours.fingerprint != theirs.fingerprint:
        raise BadDataError(
            f"{prefix} and {other_prefix} were tokenised with different tokenizers ({ours.path}, fingerprint "
            f"{ours.fingerprint[:16]}…, and {theirs.path}, fingerprint {theirs.fingerprint[:16]}…); a run needs one: "
            "build one of them again with the other's tokenizer."
        )
    if (ours.vocab_size, ours.end_of_text_id) != (theirs.vocab_size, theirs.end_of_text_id):
        raise BadDataError(
            f"{prefix} and {other_prefix} disagree about their tokenizer: {ours.vocab_size} ids with end-of-text "
            f"{ours.end_of_text_id}, and {theirs.vocab_size} with {theirs.end_of_text_id}; build one of them again."
        )


def _check_different(sources: tuple[DataSource, ...]) -> None:
    seen: dict[str, DataSource] = {}
    for source in sources:
        other = seen.setdefault(source.manifest.fingerprint, source)
        if other is not source:
            raise SettingError(
                f"data.blend: {other.name} ({other.prefix}) and {source.name} ({source.prefix}) are the same dataset, so its "
                "samples would be read twice; give it once, with the sum of the weights."
            )
