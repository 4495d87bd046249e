"""One dataset or a blend of several: what is taken, and what is refused with a sentence."""

from collections.abc import Callable

import pytest

from zhgpt.config.loading import load_run_config, run_config_to_yaml
from zhgpt.config.schema import RunConfig

LoadText = Callable[..., RunConfig]
Refusal = Callable[..., str]

BLEND = """\
data:
  blend:
    - {data: data/web, weight: 6}
    - {data: data/wiki, weight: 3}
    - data: data/books-2
      weight: 1
      name: books
  phases:
    - {from_fraction: 0.9, weights: {wiki: 2, books: 1}}
train: {steps: 100, global_batch_size: 16, micro_batch_size: 4}
"""


def blended(*changes: tuple[str, str]) -> str:
    text = BLEND
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


def test_a_blend_is_read_with_its_names_weights_and_phases(load_text: LoadText) -> None:
    data = load_text(text=BLEND).data
    assert data.blend is not None
    assert [(source.label, source.weight) for source in data.blend] == [("web", 6), ("wiki", 3), ("books", 1)]
    assert [(phase.first_step(100), phase.weights) for phase in data.phases] == [(90, {"wiki": 2, "books": 1})]
    assert data.prefixes == ("data/web", "data/wiki", "data/books-2")
    assert (data.packing, data.order, data.temperature) == ("concatenate", "index_free", 1)


def test_a_blend_can_be_given_on_the_command_line(load_text: LoadText) -> None:
    data = load_text("data.train=null", "data.blend=[{data: a, epochs: 2}, {data: b, epochs: 0.5}]").data
    assert data.blend is not None
    assert [(source.label, source.epochs) for source in data.blend] == [("a", 2), ("b", 0.5)]


def test_settings_with_a_blend_are_written_and_read_back(load_text: LoadText, tmp_path: object) -> None:
    config = load_text(text=BLEND)
    path = f"{tmp_path}/again.yaml"
    with open(path, "w", encoding="utf-8") as file:
        file.write(run_config_to_yaml(config))
    assert load_run_config(path) == config


REFUSED = [
    ([("weight: 6", "wieght: 6")], "run.yaml line 3: unknown key data.blend.0.wieght; did you mean weight?"),
    (
        [("weight: 6", "colour: 6")],
        "run.yaml line 3: unknown key data.blend.0.colour; data.blend.0 has data, weight, epochs, name",
    ),
    ([("data: data/web, ", "")], "run.yaml line 2: data.blend.0.data is missing: prefix of the indexed dataset"),
    ([("weight: 3", "weight: -3")], "run.yaml line 4: data.blend.1.weight: must be at least 0, found -3"),
    ([("weight: 1\n", "weight: much\n")], "run.yaml line 6: data.blend.2.weight: expected a number, found 'much'"),
    (
        [("weight: 1\n", "weight: 1\n      weight: 2\n")],
        "run.yaml line 7: data.blend.2.weight is given twice, first in line 6; keep one",
    ),
    (
        [("weight: 3", "epochs: 3")],
        "run.yaml line 2: data.blend gives web a weight but wiki epochs; give all sources the same",
    ),
    (
        [(", weight: 3", "")],
        "run.yaml line 2: data.blend gives web a weight but wiki neither weight nor epochs; give all sources the same",
    ),
    ([("weight: 6", "weight: 6, epochs: 1")], "run.yaml line 2: data.blend gives web weight 6 and epochs 1; keep one"),
    (
        [("weight: 6", "weight: 0"), ("weight: 3", "weight: 0"), ("weight: 1\n", "weight: 0\n")],
        "run.yaml line 2: data.blend gives no source a weight above 0, so there is nothing to begin with",
    ),
    (
        [("name: books", "name: web"), ("books: 1}", "web: 1}")],
        "run.yaml line 2: data.blend has two sources called web (data/web and data/books-2); give one of them another "
        "name",
    ),
    (
        [("  phases", "  temperature: 2\n  phases")],
        "run.yaml line 8: data.temperature 2 has no effect where sources have a weight; leave one of them out",
    ),
    (
        [("wiki: 2", "wikki: 2")],
        "run.yaml line 8: data.phases.0 names wikki, which is no source; did you mean wiki?",
    ),
    (
        [("wiki: 2", "law: 2")],
        "run.yaml line 8: data.phases.0 names law, which is no source; data.blend has web, wiki, books",
    ),
    (
        [("wiki: 2, books: 1", "wiki: 0")],
        "run.yaml line 8: data.phases.0 has no weight above 0, so nothing would be read",
    ),
    ([("wiki: 2", "wiki: -2")], "run.yaml line 9: data.phases.0.weights.wiki: must be at least 0, found -2"),
    (
        [("{wiki: 2, books: 1}", "5")],
        "run.yaml line 9: data.phases.0.weights: expected keys and values below it, found 5",
    ),
    ([("from_fraction: 0.9, ", "")], "run.yaml line 8: data.phases.0 needs from_step or from_fraction, one of them"),
    (
        [("from_fraction: 0.9", "from_fraction: 0.9, from_step: 3")],
        "run.yaml line 8: data.phases.0 needs from_step or from_fraction, one of them",
    ),
    (
        [("from_fraction: 0.9", "from_step: 100")],
        "run.yaml line 8: data.phases.0 begins at step 100: expected one from 1 to below train.steps 100",
    ),
    (
        [("    - {from_fraction", "    - {from_step: 90, weights: {web: 1}}\n    - {from_fraction")],
        "run.yaml line 8: data.phases.1 begins at step 90, not after data.phases.0 at step 90; put them in order",
    ),
    (
        [("  blend:", "  train: data/zh\n  blend:")],
        "run.yaml line 2: data.train data/zh and data.blend of 3 are both given: keep one, set the other to null",
    ),
    (
        [("  phases", "  order: megatron\n  packing: best_fit\n  phases")],
        "run.yaml line 8: data.order megatron has no data.packing best_fit: Megatron-LM concatenates; take concatenate, "
        "or data.order index_free",
    ),
]


@pytest.mark.parametrize(("changes", "sentence"), REFUSED)
def test_a_blend_that_cannot_be_is_one_sentence(
    refusal: Refusal, changes: list[tuple[str, str]], sentence: str
) -> None:
    assert refusal(text=blended(*changes)) == sentence


def test_neither_a_dataset_nor_a_blend_is_refused(refusal: Refusal) -> None:
    assert refusal(text="data: {sequence_length: 8}\ntrain: {steps: 3, global_batch_size: 8}") == (
        "run.yaml: data.train is missing: give the prefix of a dataset, or several datasets as data.blend"
    )


def test_an_empty_blend_is_refused(refusal: Refusal) -> None:
    assert refusal("data.train=null", "data.blend=[]") == (
        "override data.blend=[]: data.blend is empty: give at least one source, as in {data: data/zh, weight: 1}"
    )


def test_settings_of_blends_mean_nothing_for_one_dataset(refusal: Refusal) -> None:
    assert refusal("data.temperature=2", "data.phases=[{from_step: 3, weights: {zh: 1}}]").splitlines() == [
        "override data.temperature=2: data.temperature has no effect without data.blend; leave it out",
        "override data.phases=[{from_step: 3, weights: {zh: 1}}]: data.phases has no effect without data.blend; leave it "
        "out",
    ]


def test_a_mistake_in_an_overriding_blend_names_the_override(refusal: Refusal) -> None:
    assert refusal("data.blend=[{data: x, wait: 2}]", text=BLEND) == (
        "override data.blend=[{data: x, wait: 2}]: unknown key data.blend.0.wait; did you mean weight?"
    )
