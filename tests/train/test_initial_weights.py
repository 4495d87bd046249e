"""A run that starts from another's weights; a mixture from a dense run's."""

from pathlib import Path

import pytest
import torch
from ranks import Ranks
from tiny import Tiny, metrics

from zhgpt.checkpoint.consolidated import load_consolidated
from zhgpt.config.moe_section import MoeSection
from zhgpt.config.rope_section import RopeScalingSection
from zhgpt.config.schema import ModelSection
from zhgpt.errors import BadDataError, SettingError
from zhgpt.model.initialise import initialise_weights
from zhgpt.model.transformer import CausalLM
from zhgpt.train.initial_weights import load_initial_weights

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

TOKENS = (torch.arange(24)[None] * 7) % 600


@pytest.fixture(scope="module")
def dense_run(ranks: Ranks, tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dense")
    ranks.results("faults:train", tiny.argv(folder, "optim.learning_rate=1e-2"), world_size=1)
    return folder


def fresh(model: ModelSection) -> CausalLM:
    module = CausalLM(model, "sdpa")
    initialise_weights(module, model, seed=99)
    return module.eval()


def logits(module: CausalLM) -> torch.Tensor:
    with torch.no_grad():
        return module(TOKENS)


def upcycled(saved: ModelSection, **settings: object) -> ModelSection:
    values = {"num_experts": 4, "moe_intermediate_size": saved.intermediate_size, **settings}
    return saved.model_copy(update={"moe": MoeSection(**values)})  # type: ignore[arg-type]


def test_the_same_model_starts_where_the_other_run_ended(dense_run: Path) -> None:
    saved = load_consolidated(dense_run)
    expected = fresh(saved.model)
    expected.load_state_dict(saved.state_dict)
    module = fresh(saved.model)
    assert not torch.allclose(logits(module), logits(expected), atol=1e-2)
    said = load_initial_weights(module, saved.model, str(dense_run), ep_rank=0, ep_size=1)
    assert torch.equal(logits(module), logits(expected))
    assert "(step 8): the same model" in said


def test_a_run_for_longer_sequences_starts_from_one_for_shorter_ones(dense_run: Path) -> None:
    saved = load_consolidated(dense_run)
    scaling = RopeScalingSection(rope_type="linear", factor=4.0)
    longer = saved.model.model_copy(update={"rope_scaling": scaling, "max_position_embeddings": 128})
    module = fresh(longer)
    load_initial_weights(module, longer, str(dense_run), ep_rank=0, ep_size=1)
    assert all(torch.equal(weight, saved.state_dict[name]) for name, weight in module.state_dict().items())
    normed = saved.model.model_copy(update={"embedding_norm": True})
    with pytest.raises(SettingError, match=r"model\.embedding_norm is True but was False there"):
        load_initial_weights(fresh(normed), normed, str(dense_run), ep_rank=0, ep_size=1)


@pytest.mark.parametrize("settings", [{}, {"layer": "deepspeed"}, {"decoder_sparse_step": 2}, {"num_experts": 8}])
def test_a_mixture_of_copies_computes_what_the_dense_model_does(dense_run: Path, settings: dict[str, object]) -> None:
    saved = load_consolidated(dense_run)
    dense = fresh(saved.model)
    dense.load_state_dict(saved.state_dict)
    model = upcycled(saved.model, **settings)
    module = fresh(model)
    said = load_initial_weights(module, model, str(dense_run), ep_rank=0, ep_size=1)
    torch.testing.assert_close(logits(module), logits(dense), atol=1e-5, rtol=1e-5)
    assert "each expert a copy of the dense feed-forward layer" in said


def test_a_mixture_trains_on_from_a_dense_run_with_its_experts_shared_out(
    ranks: Ranks, tiny: Tiny, dense_run: Path, tmp_path: Path
) -> None:
    mixture = ("model.moe.num_experts=4", "train.ep_size=2", f"train.initial_weights={dense_run}")
    argv = tiny.argv(tmp_path / "run", *mixture, "optim.learning_rate=1e-3")
    outcomes = ranks.run("faults:train", argv, world_size=2)
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes[0].output[-2000:]
    assert "first weights from" in outcomes[0].output
    dense = [line["loss"] for line in metrics(dense_run)]
    assert metrics(tmp_path / "run")[0]["loss"] < dense[0] - 0.3, "it starts where the dense run had come to"


def test_a_mixture_takes_the_selection_bias_of_another_run_with_its_weights(
    ranks: Ranks, tiny: Tiny, tmp_path: Path
) -> None:
    settings = ("model.moe.num_experts=4", "model.moe.moe_intermediate_size=24", "model.moe.bias_update_rate=0.01")
    odd = "train.steps=7"  # steps of one size up and down: after an odd number of them a bias is not 0 again
    ranks.results("faults:train", tiny.argv(tmp_path / "run", *settings, odd), world_size=1)
    saved = load_consolidated(tmp_path / "run")
    module = fresh(saved.model)
    load_initial_weights(module, saved.model, str(tmp_path / "run"), ep_rank=0, ep_size=1)
    for layer in range(2):
        bias = module.model.layers[layer].mlp.gate.e_score_correction_bias
        assert bias.abs().sum() > 0
        assert torch.equal(bias, saved.state_dict[f"model.layers.{layer}.mlp.gate.e_score_correction_bias"])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"moe_intermediate_size": 8}, "an expert that starts as a copy has the 128 of the dense feed-forward layer"),
        ({"n_shared_experts": 1}, "a shared expert beside copies would double the layer's output"),
    ],
)
def test_a_mixture_that_cannot_start_from_copies_is_refused(
    dense_run: Path, settings: dict[str, object], sentence: str
) -> None:
    model = upcycled(load_consolidated(dense_run).model, **settings)
    with pytest.raises(SettingError, match=sentence):
        load_initial_weights(fresh(model), model, str(dense_run), ep_rank=0, ep_size=1)


def test_another_shape_is_refused_by_name(dense_run: Path) -> None:
    model = load_consolidated(dense_run).model.model_copy(update={"rms_norm_eps": 1e-5})
    with pytest.raises(SettingError, match=r"model\.rms_norm_eps is 1e-05 but was 1e-06 there"):
        load_initial_weights(fresh(model), model, str(dense_run), ep_rank=0, ep_size=1)


def test_a_folder_without_a_checkpoint_is_refused(dense_run: Path, tmp_path: Path) -> None:
    model = load_consolidated(dense_run).model
    with pytest.raises(BadDataError, match="no complete checkpoint"):
        load_initial_weights(fresh(model), model, str(tmp_path), ep_rank=0, ep_size=1)
