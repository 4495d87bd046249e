"""Text from exported models: the same as transformers' own, whole characters, clear errors."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from zhgpt.checkpoint.consolidated import Consolidated
from zhgpt.errors import BadDataError, MissingInputError, SettingError
from zhgpt.export import generate as generate_module
from zhgpt.export.generate import GenerationSettings, exported_folder, generate_text, load_for_generation
from zhgpt.export.hf import export_hf
from zhgpt.export.streaming import CharacterStreamer

PROMPT = "村民们都很高兴，在"
SETTINGS = {
    "drawn": GenerationSettings(max_new_tokens=40, seed=7),
    "greedy": GenerationSettings(max_new_tokens=40, greedy=True),
    "top_p": GenerationSettings(max_new_tokens=40, top_p=0.7, top_k=0, temperature=1.3),
    "penalty": GenerationSettings(max_new_tokens=40, repetition_penalty=1.4, greedy=True),
}


@pytest.fixture(scope="module")
def folder(section, build, tokenizer_dir, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported model that writes bytes at random: most characters are torn, some are whole."""
    model = section(max_position_embeddings=128)
    return export_hf(build(model).state_dict(), model, tokenizer_dir, tmp_path_factory.mktemp("models") / "out").path


def transformers_text(folder: Path, prompt: str, settings: GenerationSettings) -> str:
    """The same by hand, in fresh objects."""
    module, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(prompt, return_tensors="pt")
    torch.manual_seed(settings.seed)
    arguments = {"max_new_tokens": settings.max_new_tokens, "repetition_penalty": settings.repetition_penalty}
    if settings.greedy:
        arguments["do_sample"] = False
    else:
        arguments |= {"do_sample": True, "temperature": settings.temperature}
        arguments |= {"top_k": settings.top_k, "top_p": settings.top_p}
    tokens = module.generate(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], **arguments)
    return tokenizer.decode(tokens[0], skip_special_tokens=True)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_text_is_what_transformers_generates(folder: Path, name: str) -> None:
    pieces: list[str] = []
    text = generate_text(load_for_generation(folder), PROMPT, SETTINGS[name], pieces.append)
    assert "".join(pieces) == text == transformers_text(folder, PROMPT, SETTINGS[name])
    assert text.startswith(PROMPT)
    assert len(text) > len(PROMPT)


def test_the_seed_decides_a_drawn_text(folder: Path) -> None:
    model = load_for_generation(folder)
    texts = [
        generate_text(model, PROMPT, replace(SETTINGS["drawn"], seed=seed), lambda piece: None) for seed in (7, 7, 8)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_an_empty_prompt_starts_after_the_end_of_text_token(folder: Path) -> None:
    text = generate_text(load_for_generation(folder), "", SETTINGS["greedy"], lambda piece: None)
    assert text == transformers_text(folder, "<|endoftext|>", SETTINGS["greedy"])


def test_a_character_is_written_when_its_last_byte_arrives(folder: Path) -> None:
    """One byte a token, as for a character that the tokenizer never merged."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("𠮷野")["input_ids"]
    assert len(ids) > 4
    pieces: list[str] = []
    streamer = CharacterStreamer(tokenizer, pieces.append)
    for number in ids:
        streamer.put(torch.tensor([number]))
        assert "\ufffd" not in "".join(pieces)
    assert "".join(pieces) == "𠮷野"
    assert pieces[0] == "𠮷"


def test_a_text_that_ends_inside_a_character_shows_it_at_the_end(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("山𠮷")["input_ids"][:-1]
    pieces: list[str] = []
    streamer = CharacterStreamer(tokenizer, pieces.append)
    streamer.put(torch.tensor([ids]))
    assert "".join(pieces) == "山"
    streamer.end()
    assert streamer.text == "".join(pieces) == tokenizer.decode(ids)
    assert streamer.text.endswith("\ufffd")


def test_torn_bytes_inside_the_text_stay_where_they_are(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torn = tokenizer("𠮷")["input_ids"][:2]
    ids = [*torn, *torn, *tokenizer("山水，𠮷野。")["input_ids"]]
    streamer = CharacterStreamer(tokenizer, lambda piece: None)
    for number in ids:
        streamer.put(torch.tensor([number]))
    streamer.end()
    assert streamer.text == tokenizer.decode(ids)
    assert "\ufffd" in streamer.text


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (GenerationSettings(max_new_tokens=0), "max-new-tokens 0 must be at least 1"),
        (GenerationSettings(temperature=0.0), r"temperature 0\.0 must be above 0 \(--greedy for the likeliest token\)"),
        (GenerationSettings(top_k=-1), "top-k -1 must be 0"),
        (GenerationSettings(top_p=1.5), r"top-p 1\.5 must be above 0 and at most 1"),
        (GenerationSettings(repetition_penalty=0.0), r"repetition-penalty 0\.0 must be above 0"),
        (GenerationSettings(top_p=0.0, top_k=-2), r"top-k -2 .*; top-p 0\.0"),
    ],
)
def test_a_setting_out_of_range_is_named(folder: Path, settings: GenerationSettings, sentence: str) -> None:
    with pytest.raises(SettingError, match=sentence):
        generate_text(load_for_generation(folder), PROMPT, settings, lambda piece: None)


def test_more_tokens_than_positions_are_refused_with_the_number_that_fits(folder: Path) -> None:
    model = load_for_generation(folder)
    length = len(model.tokenizer(PROMPT)["input_ids"])
    with pytest.raises(SettingError, match=rf"exceed the model's 128 positions; at most {128 - length} new tokens fit"):
        generate_text(model, PROMPT, GenerationSettings(max_new_tokens=128), lambda piece: None)


def test_a_prompt_that_is_not_utf8_is_refused(folder: Path) -> None:
    with pytest.raises(SettingError, match="the prompt is not valid UTF-8"):
        generate_text(load_for_generation(folder), b"\xe6".decode("utf-8", "surrogateescape"), SETTINGS["drawn"], print)


def test_a_tokenizer_of_another_model_is_refused(section, build, tokenizer_dir, tmp_path: Path) -> None:
    model = section(vocab_size=100)
    export_hf(build(model).state_dict(), model, tokenizer_dir, tmp_path / "out")
    with pytest.raises(BadDataError, match="and the model has 100 ids; it belongs to another model"):
        generate_text(load_for_generation(tmp_path / "out"), PROMPT, SETTINGS["drawn"], lambda piece: None)


def test_missing_parts_of_a_model_are_named(folder: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(MissingInputError, match="nowhere: no such folder; expected an exported model"),
        exported_folder(tmp_path / "nowhere"),
    ):
        pass
    with (
        pytest.raises(MissingInputError, match=r"holds neither config\.json .* nor checkpoints/"),
        exported_folder(tmp_path),
    ):
        pass
    for name, sentence in (("model.safetensors", r"no \*\.safetensors"), ("tokenizer.json", r"no tokenizer\.json")):
        partial = tmp_path / name
        shutil.copytree(folder, partial)
        (partial / name).unlink()
        with pytest.raises(MissingInputError, match=sentence):
            load_for_generation(partial)


def test_a_run_gives_the_text_of_its_newest_checkpoint(
    section, build, tokenizer_dir, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = section(max_position_embeddings=128)
    (tmp_path / "checkpoints").mkdir()
    found = Consolidated(
        state_dict=build(model).state_dict(),
        model=model,
        tokenizer_dir=tokenizer_dir,
        probe_tokens=torch.zeros(1, 1, dtype=torch.int64),
        probe_logits=torch.zeros(1, 1, 330),
        precision="fp32",
        step=3,
        path=tmp_path,
    )
    monkeypatch.setattr(generate_module, "load_consolidated", lambda path: found)
    with exported_folder(tmp_path) as exported:
        loaded = load_for_generation(exported)
    assert not exported.exists()
    text = generate_text(loaded, PROMPT, SETTINGS["drawn"], lambda piece: None)
    assert text == transformers_text(folder, PROMPT, SETTINGS["drawn"])


def test_an_export_without_weights_or_tokenizer_says_what_is_missing(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "tokenizer.json").unlink()
    with pytest.raises(
        MissingInputError, match=r"copy: holds no tokenizer\.json, so transformers cannot encode a prompt"
    ):
        load_for_generation(copy)
    (copy / "model.safetensors").unlink()
    with pytest.raises(
        MissingInputError, match=r"copy: holds config\.json but no \*\.safetensors; export the model again"
    ):
        load_for_generation(copy)
