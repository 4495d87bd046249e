"""What a run trains on: one dataset or several that go together, and what a checkpoint remembers of them."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import NO_TOKENIZER, write_synthetic

from megatron_style_data.blend import Blend
from megatron_style_data.manifest import Floor, load_manifest, manifest_bytes, path_manifest
from megatron_style_data.packing import pack
from megatron_style_data.sample_source import open_samples
from megatron_style_data.samples import Samples
from zhgpt.config.batch_plan import BatchPlan, BatchStage
from zhgpt.config.data_section import DataSection
from zhgpt.errors import BadDataError, MissingInputError, SettingError
from zhgpt.train.training_data import TrainingData, open_training_samples, read_training_data

STEPS, BATCH, LENGTH = 50, 20, 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three datasets of one tokenizer; wiki has no valid split."""
    folder = tmp_path_factory.mktemp("sources")
    write_synthetic(folder / "web", 40_000, seed=1, valid_tokens=1_000, bytes_per_token=4)
    write_synthetic(folder / "wiki", 10_000, seed=2, bytes_per_token=5)
    write_synthetic(folder / "books", 2_500, seed=3, valid_tokens=500, bytes_per_token=2)
    return folder


def section(folder: Path, **changes: Any) -> DataSection:
    settings: dict[str, Any] = {
        "blend": [
            {"data": f"{folder}/web", "weight": 6},
            {"data": f"{folder}/wiki", "weight": 3},
            {"data": f"{folder}/books", "weight": 1},
        ],
        "sequence_length": LENGTH,
    }
    return DataSection.model_validate({**settings, **changes})


def read(data: DataSection) -> TrainingData:
    return read_training_data(data, steps=STEPS, samples_before=lambda step: step * BATCH)


def test_weights_phases_and_epochs_follow_the_settings(folder: Path) -> None:
    data = read(section(folder, phases=[{"from_fraction": 0.9, "weights": {"wiki": 2, "books": 1}}]))
    assert [(phase.first_sample, phase.shares) for phase in data.schedule.phases] == [
        (0, (Fraction(6, 10), Fraction(3, 10), Fraction(1, 10))),
        (900, (0, Fraction(2, 3), Fraction(1, 3))),
    ]
    assert [reading.samples for reading in data.readings()] == [540, 270 + 67, 90 + 33]
    assert [reading.epochs for reading in data.readings()] == [540 / 400, 337 / 100, 123 / 25]
    assert [reading.samples for reading in data.readings(900, 1000)] == [0, 67, 33]
    assert data.label == "web 60 %, wiki 30 %, books 10 %"
    assert data.splits()["train"] == {"documents": 1050, "tokens": 52_500, "utf8_bytes": 160_000 + 50_000 + 5_000}


def test_a_phase_begins_with_the_first_sample_of_its_step_in_a_ramp_too(folder: Path) -> None:
    stages = (BatchStage(0, 0, 5, 1, LENGTH), BatchStage(10, 50, BATCH, 4, LENGTH))
    plan = BatchPlan(BATCH, 5, 4, 1, LENGTH, BATCH * LENGTH, STEPS, 85_000, stages)
    phases = [{"from_step": 4, "weights": {"wiki": 1}}, {"from_fraction": 0.5, "weights": {"web": 1}}]
    data = read_training_data(section(folder, phases=phases), steps=STEPS, samples_before=plan.samples_before)
    assert [phase.first_sample for phase in data.schedule.phases] == [0, 20, 50 + 15 * BATCH]
    assert data.phase_steps == (0, 4, 25)
    assert data.samples == 50 + 40 * BATCH


def test_epochs_and_sizes_can_take_the_place_of_weights(folder: Path) -> None:
    prefixes = [f"{folder}/{name}" for name in ("web", "wiki", "books")]
    by_epochs = read(section(folder, blend=[{"data": prefix, "epochs": 1.5} for prefix in prefixes]))
    assert by_epochs.schedule.phases[0].shares == tuple(Fraction(size, 52_500) for size in (40_000, 10_000, 2_500))
    warm = read(section(folder, blend=[{"data": prefix} for prefix in prefixes], temperature=2))
    assert warm.schedule.phases[0].shares == (Fraction(4, 7), Fraction(2, 7), Fraction(1, 7))


def test_the_samples_are_those_of_the_sources_alone(folder: Path) -> None:
    samples = open_training_samples(read(section(folder)), seed=5)
    assert isinstance(samples, Blend)
    alone = Samples.open(folder / "wiki", sequence_length=LENGTH, seed=5)
    sources, _ = samples.schedule.locate(np.arange(60))
    assert samples.batch(np.flatnonzero(sources == 1)).tokens.tolist() == alone.batch(np.arange(18)).tokens.tolist()


def test_one_dataset_is_read_without_a_blend(folder: Path) -> None:
    data = read(section(folder, blend=None, train=f"{folder}/web"))
    samples = open_training_samples(data, seed=5)
    assert isinstance(samples, Samples)
    assert (
        samples.batch([7]).tokens.tolist()
        == Samples.open(folder / "web", sequence_length=LENGTH, seed=5).batch([7]).tokens.tolist()
    )
    assert (data.is_blend, data.label) == (False, f"{folder}/web")
    assert data.identity() == {
        "fingerprint": load_manifest(folder / "web").fingerprint,
        "tokens": 40_000,
        "tokenizer_fingerprint": "f" * 64,
    }


def test_bits_per_byte_take_the_tokens_per_byte_of_the_steps_own_blend(folder: Path) -> None:
    data = read(section(folder, phases=[{"from_step": 45, "weights": {"books": 1}}]))
    assert data.tokens_per_byte(0, 20) == pytest.approx(20 / (12 * 4 + 6 * 5 + 2 * 2))
    assert data.tokens_per_byte(900, 20) == 0.5
    assert read(section(folder, blend=None, train=f"{folder}/web")).tokens_per_byte(900, 20) == 0.25


def test_the_floor_of_a_blend_is_that_of_its_sources_by_their_share(folder: Path, tmp_path: Path) -> None:
    assert read(section(folder)).floor() is None
    for seed, name in enumerate(("a", "b")):
        manifest = write_synthetic(tmp_path / name, 5_000, seed=seed)
        floor = Floor(6.0 + seed, 4.0 + seed, 5.0 + seed, 3.0 + seed, "valid", 100, 1000)
        path_manifest(tmp_path / name).write_bytes(manifest_bytes(replace(manifest, floor=floor)))
    blend = [{"data": f"{tmp_path}/a", "weight": 3}, {"data": f"{tmp_path}/b", "weight": 1}]
    whole = read(section(folder, blend=blend)).floor()
    assert whole is not None
    assert (whole.unigram_loss, whole.bigram_bits_per_byte, whole.measured_tokens) == (6.25, 3.25, 200)


def test_a_checkpoint_remembers_fingerprints_and_exact_shares(folder: Path) -> None:
    keys = [load_manifest(folder / name).fingerprint for name in ("web", "wiki", "books")]
    data = read(section(folder, phases=[{"from_step": 45, "weights": {"wiki": 2, "books": 1}}]))
    assert data.identity() == {
        "tokenizer_fingerprint": "f" * 64,
        "blend": [
            {"first_sample": 0, "shares": [[keys[0], "3/5"], [keys[1], "3/10"], [keys[2], "1/10"]]},
            {"first_sample": 900, "shares": [[keys[1], "2/3"], [keys[2], "1/3"]]},
        ],
        "names": dict(zip(keys, ("web", "wiki", "books"), strict=True)),
    }


def test_megatrons_order_holds_for_the_whole_run_so_a_checkpoint_remembers_its_length(folder: Path) -> None:
    data = read(section(folder, order="megatron"))
    assert (data.identity()["order"], data.identity()["order_samples"]) == ("megatron", [600, 300, 100])
    samples = open_training_samples(data, seed=5)
    assert isinstance(samples, Blend)
    assert samples.batch(np.arange(980, 1000)).tokens.shape == (20, LENGTH + 1)
    alone = open_samples(folder / "wiki", sequence_length=LENGTH, seed=5, order="megatron", total_samples=300)
    sources, _ = samples.schedule.locate(np.arange(60))
    assert samples.batch(np.flatnonzero(sources == 1)).tokens.tolist() == alone.batch(np.arange(18)).tokens.tolist()


def test_sources_of_two_tokenizers_are_refused_naming_both(folder: Path, tmp_path: Path) -> None:
    write_synthetic(
        tmp_path / "old", 5_000, tokenizer=replace(NO_TOKENIZER, fingerprint="a" * 64, path="old-tokenizer")
    )
    data = section(folder, blend=[{"data": f"{folder}/web", "weight": 1}, {"data": f"{tmp_path}/old", "weight": 1}])
    with pytest.raises(BadDataError, match=r"/web and .*/old were tokenised with different tokenizers .*old-tokenizer"):
        read(data)


def test_sources_that_disagree_about_the_tokenizer_are_refused(folder: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path / "old", 5_000, tokenizer=replace(NO_TOKENIZER, end_of_text_id=7))
    data = section(folder, blend=[{"data": f"{folder}/web", "weight": 1}, {"data": f"{tmp_path}/old", "weight": 1}])
    with pytest.raises(
        BadDataError, match="disagree about their tokenizer: 600 ids with end-of-text 0, and 600 with 7"
    ):
        read(data)


def test_a_dataset_given_twice_is_refused(folder: Path) -> None:
    twice = [{"data": f"{folder}/web", "weight": 1}, {"data": f"{folder}/web", "weight": 1, "name": "again"}]
    with pytest.raises(SettingError, match=r"data.blend: web .* and again .* are the same dataset"):
        read(section(folder, blend=twice))


def test_a_missing_source_is_named(folder: Path) -> None:
    with pytest.raises(MissingInputError, match=r"nothing.meta.json: no such file"):
        read(section(folder, blend=[{"data": f"{folder}/nothing", "weight": 1}]))


def test_best_fit_packed_sources_blend_as_others_do(folder: Path, tmp_path: Path) -> None:
    for seed, name in enumerate(("a", "b")):
        write_synthetic(tmp_path / name, 3_000, seed=seed)
        pack(tmp_path / name, sequence_length=LENGTH)
    blend = [{"data": f"{tmp_path}/a", "weight": 1}, {"data": f"{tmp_path}/b", "weight": 1}]
    data = read(section(folder, blend=blend, packing="best_fit"))
    samples = open_training_samples(data, seed=5)
    assert data.identity()["packing"] == "best_fit"
    assert [source.samples_per_epoch for source in data.sources] == [30, 30]
    assert samples.targets_in(0, 60) == int(samples.batch(np.arange(60)).target_mask.sum())


def test_best_fit_wants_its_packing_before_the_run_starts(folder: Path) -> None:
    with pytest.raises(MissingInputError, match="zhgpt data pack"):
        read(section(folder, packing="best_fit"))
