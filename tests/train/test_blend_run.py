"""A blend in a real run of two ranks: resumed in the middle of a phase, with and without the thread, changed on the way."""

import json
from math import log
from pathlib import Path

import pytest
from faults import Moment
from ranks import Ranks
from synthetic import write_synthetic
from tiny import Tiny, assert_same_checkpoint, losses, metrics, same_numbers

from megatron_style_data.manifest import load_manifest
from zhgpt.train.document_costs import read_document_costs
from zhgpt.train.run_folder import RunFolder

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

PHASES = "data.phases=[{from_step: 4, weights: {wiki: 1, books: 3}}]"
LAST = "step-00000008"


@pytest.fixture(scope="module")
def blend(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Settings of a run on three made-up sources whose ids are the tiny tokenizer's."""
    folder = tmp_path_factory.mktemp("blend")
    record = load_manifest(tiny.prefix).tokenizer
    for seed, (name, tokens) in enumerate((("web", 3_000), ("wiki", 1_000), ("books", 450))):
        write_synthetic(folder / name, tokens, seed=seed, valid_tokens=250 * (seed + 1), tokenizer=record)
    listed = ", ".join(f"{{data: {folder}/{name}, weight: {w}}}" for name, w in (("web", 6), ("wiki", 3), ("books", 1)))
    return ("data.train=null", f"data.blend=[{listed}]", f"data.tokenizer={tiny.tokenizer}", PHASES)


@pytest.fixture(scope="module")
def dev(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset that is only evaluated on."""
    folder = tmp_path_factory.mktemp("dev")
    write_synthetic(folder / "dev", 300, seed=7, tokenizer=load_manifest(tiny.prefix).tokenizer)
    return folder / "dev"


@pytest.fixture(scope="module")
def undisturbed(ranks: Ranks, tiny: Tiny, blend: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    ranks.results("faults:train", tiny.argv(folder, *blend))
    return folder


def test_a_run_killed_in_the_middle_of_a_phase_goes_on_bit_for_bit(
    ranks: Ranks, tiny: Tiny, blend: tuple[str, ...], undisturbed: Path, tmp_path: Path
) -> None:
    killed = ranks.run(
        "faults:train_and_die", tiny.argv(tmp_path, *blend), Moment("zhgpt.train.loader:Loader.take", 8, 1)
    )
    assert killed[1].code == -9, killed[1].output[-2000:]
    ranks.results("faults:train", tiny.argv(tmp_path, *blend))
    assert same_numbers(tmp_path) == same_numbers(undisturbed)
    assert_same_checkpoint(tmp_path / "checkpoints" / LAST, undisturbed / "checkpoints" / LAST)


def test_training_is_bit_for_bit_the_same_without_the_thread(
    ranks: Ranks, tiny: Tiny, blend: tuple[str, ...], undisturbed: Path, tmp_path: Path
) -> None:
    ranks.results("faults:train", tiny.argv(tmp_path, *blend, "data.prefetch=0"))
    assert same_numbers(tmp_path) == same_numbers(undisturbed)
    assert_same_checkpoint(tmp_path / "checkpoints" / LAST, undisturbed / "checkpoints" / LAST)


def test_each_line_says_how_long_the_training_waited_for_data(undisturbed: Path) -> None:
    assert all(0 <= line["data_wait"] < 1 for line in metrics(undisturbed))


def test_one_rank_sees_the_same_samples_as_two_whatever_is_evaluated(
    ranks: Ranks, tiny: Tiny, blend: tuple[str, ...], undisturbed: Path, dev: Path, tmp_path: Path
) -> None:
    ranks.results("faults:train", tiny.argv(tmp_path, *blend, f"evaluate.data.dev={dev}"), world_size=1)
    assert losses(tmp_path) == pytest.approx(losses(undisturbed), abs=1e-5)
    last = metrics(tmp_path)[-1]
    assert last["valid_loss"] == last["valid_loss/dev"] != metrics(undisturbed)[-1]["valid_loss"]
    assert last["valid_bits_per_byte/dev"] == last["valid_bits_per_byte"]
    assert "valid_loss/web" not in last


def test_the_held_out_loss_is_given_for_each_source_and_for_all(undisturbed: Path) -> None:
    line = metrics(undisturbed)[-1]
    parts = [line[f"valid_loss/{name}"] for name in ("web", "wiki", "books")]
    assert min(parts) < line["valid_loss"] < max(parts)
    assert json.loads((undisturbed / "environment.json").read_text())["dataset"]["prefix"] == (
        "web 60 %, wiki 30 %, books 10 %"
    )


def test_the_last_evaluation_leaves_what_each_held_out_document_costs(undisturbed: Path) -> None:
    line = metrics(undisturbed)[-1]
    found = read_document_costs(RunFolder(undisturbed).held_out_documents)
    assert found is not None
    for name in ("web", "wiki", "books"):
        mine = [cost for document, cost in found.documents.items() if document[:2] == (name, "valid")]
        nats, targets = (sum(column) for column in zip(*mine, strict=True))
        assert nats / targets == pytest.approx(line[f"valid_loss/{name}"], rel=1e-6)
    whole = sum(nats for nats, _ in found.documents.values())
    assert whole / log(2) / found.utf8_bytes == pytest.approx(line["valid_bits_per_byte"], rel=1e-6)


def test_new_weights_may_begin_where_the_checkpoint_stands_but_not_before(
    ranks: Ranks, tiny: Tiny, blend: tuple[str, ...], undisturbed: Path, tmp_path: Path
) -> None:
    moment = Moment("zhgpt.train.loader:Loader.take", 7, 0)
    stopped = ranks.run("faults:train_and_die", tiny.argv(tmp_path, *blend), moment)
    assert stopped[0].code == -9
    earlier = "data.phases=[{from_step: 4, weights: {wiki: 1, books: 2}}]"
    refused = ranks.run("faults:train", tiny.argv(tmp_path, *blend, earlier))
    assert [outcome.code for outcome in refused] == [2, 2]
    assert (
        "the blend of the 48 samples before the checkpoint is web 3/5, wiki 3/10, books 1/10 from sample 0; wiki 1/3, books "
        "2/3 from sample 32 but was saved as web 3/5, wiki 3/10, books 1/10 from sample 0; wiki 1/4, books 3/4 from sample "
        "32 (what was read cannot be changed"
    ) in refused[0].output
    later = "data.phases=[{from_step: 4, weights: {wiki: 1, books: 3}}, {from_step: 6, weights: {web: 1}}]"
    ranks.results("faults:train", tiny.argv(tmp_path, *blend, later))
    changed, same = losses(tmp_path), losses(undisturbed)
    assert changed[:6] == same[:6]
    assert changed[6] != same[6]
