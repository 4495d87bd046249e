"""Which settings each kind of parameter gets, and what of them a checkpoint must match."""

from collections.abc import Callable

import pytest

from zhgpt.config.optim_groups import describe_optimizer, optimizer_identity, roles_in_groups, settings_of
from zhgpt.config.schema import OptimSection

Refusal = Callable[..., str]


def test_roles_with_equal_settings_share_a_group_and_vectors_have_their_own() -> None:
    assert list(roles_in_groups(OptimSection(name="adamw", learning_rate=6e-4))) == [
        ("hidden", "embedding", "head", "router"),
        ("vector",),
    ]
    assert list(roles_in_groups(OptimSection(name="adamw", learning_rate=6e-4, weight_decay=0))) == [
        ("hidden", "embedding", "head", "router"),
        ("vector",),
    ]
    separate = OptimSection(name="adamw", learning_rate=6e-4, embedding_learning_rate=1e-2, head_learning_rate=1e-3)
    assert list(roles_in_groups(separate)) == [("hidden", "router"), ("embedding",), ("head",), ("vector",)]


def test_only_hidden_matrices_get_muon_and_its_rate() -> None:
    optim = OptimSection(name="muon", learning_rate=1e-3, muon_learning_rate=2e-2, weight_decay=0.2)
    assert (settings_of("hidden", optim).algorithm, settings_of("hidden", optim).learning_rate) == ("muon", 2e-2)
    for role in ("embedding", "head", "router", "vector"):
        found = settings_of(role, optim)
        assert (found.algorithm, found.learning_rate) == ("adamw", 1e-3)
        assert found.weight_decay == (0 if role == "vector" else 0.2)


def test_a_checkpoint_must_match_algorithm_and_grouping_but_no_rate() -> None:
    assert optimizer_identity(OptimSection(name="adamw", learning_rate=6e-4)) == "adamw"
    assert optimizer_identity(OptimSection(name="adamw", learning_rate=1.0, weight_decay=0)) == "adamw"
    assert (
        optimizer_identity(OptimSection(name="muon", learning_rate=6e-4, muon_learning_rate=1e-2, muon_momentum=0.9))
        == "muon"
    )
    with_tables = OptimSection(name="muon", learning_rate=6e-4, embedding_weight_decay=0)
    assert optimizer_identity(with_tables) == "muon with groups hidden, embedding, head+router, vector"


def test_the_optimizer_is_described_in_one_line() -> None:
    assert describe_optimizer(OptimSection(name="adamw", learning_rate=6e-4)) == (
        "adamw, learning rate 0.0006, betas 0.9 0.95, weight decay 0.1, gradients clipped at 1"
    )
    optim = OptimSection(
        name="muon", learning_rate=6e-4, muon_learning_rate=0.02, embedding_weight_decay=0, gradient_clipping=0
    )
    assert describe_optimizer(optim) == (
        "muon, learning rate 0.0006, 0.02 for hidden matrices, momentum 0.95 (Nesterov), 5 Newton-Schulz steps, "
        "betas 0.9 0.95, weight decay 0.1, 0 for embeddings, no clipping"
    )


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ("optim.name=adamw", "optim.muon_momentum=0.9"),
            "optim.muon_momentum 0.9 has no effect in adamw; leave it out or set optim.name=muon",
        ),
        (
            ("optim.head_learning_rate=1e-3",),
            "optim.head_learning_rate 0.001: the head is the embedding (model.tie_word_embeddings is true); set "
            "optim.embedding_learning_rate, or untie them",
        ),
    ],
)
def test_settings_without_effect_are_refused(refusal: Refusal, overrides: tuple[str, ...], sentence: str) -> None:
    assert sentence in refusal(*overrides)
