"""The memory of a training is estimated before it starts."""

from megatron_style_data.tokenizer.training import TRAINERS
from megatron_style_data.tokenizer.training_memory import free_memory, training_memory


def test_every_trainer_has_an_estimate_that_grows_with_the_sample() -> None:
    for kind, trainer in TRAINERS.items():
        for name in trainer.write:
            assert (
                training_memory(kind, name, 0) < training_memory(kind, name, 10**6) < training_memory(kind, name, 10**8)
            )


def test_the_automatic_choice_has_the_estimate_of_the_one_it_takes() -> None:
    assert training_memory("bpe", "auto", 10**6) == training_memory("bpe", "hf", 10**6)
    assert training_memory("bpe", "auto", 10**8) == training_memory("bpe", "numba", 10**8)


def test_free_memory_is_a_size() -> None:
    free = free_memory()
    assert free is None or free > 0
