"""Exports against the model they come from, in fresh transformers classes."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from megatron_style_data.tokenizer import load_tokenizer
from zhgpt.errors import BadDataError, MissingInputError, SettingError, StorageError
from zhgpt.export.hf import Probe, export_hf
from zhgpt.export.verify import TOLERANCES, verify_export

CLASSES = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}


def logits_of(module, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return module(tokens)


@pytest.mark.parametrize("model_type", CLASSES)
@pytest.mark.parametrize("tied", [True, False])
def test_transformers_computes_the_same_logits(
    section, build, tokenizer_dir, probe_tokens, tmp_path: Path, model_type: str, tied: bool
) -> None:
    model = section(model_type, tie_word_embeddings=tied)
    module = build(model)
    exported = export_hf(module.state_dict(), model, tokenizer_dir, tmp_path / "out")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert type(theirs).__name__ == exported.architecture == CLASSES[model_type]
    assert theirs.dtype == torch.float32
    assert sum(p.numel() for p in theirs.parameters()) == exported.parameters
    expected = logits_of(module, probe_tokens)
    assert expected.std() > 1
    torch.testing.assert_close(theirs(probe_tokens).logits.detach(), expected, rtol=0, atol=1e-4)
    assert verify_export(tmp_path / "out", probe_tokens, expected, 1e-5) < 1e-4
    assert exported.largest_difference < 1e-4
    assert exported.largest_engine_difference is None


def test_a_small_pretraining_init_agrees_to_1e_5(section, build, tokenizer_dir, probe_tokens, tmp_path: Path) -> None:
    """Logits near 1, as after initialise_weights with initializer_range 0.02."""
    for model_type in CLASSES:
        model = section(model_type, initializer_range=0.02)
        module = build(model)
        export_hf(module.state_dict(), model, tokenizer_dir, tmp_path / model_type)
        difference = verify_export(tmp_path / model_type, probe_tokens, logits_of(module, probe_tokens), 1e-4)
        assert difference < 1e-5, model_type


def test_the_vocabulary_is_cut_back_in_the_file(section, build, tokenizer_dir, tmp_path: Path) -> None:
    model = section(tie_word_embeddings=False)
    module = build(model)
    assert module.state_dict()["lm_head.weight"].shape[0] == 384
    export_hf(module.state_dict(), model, tokenizer_dir, tmp_path / "out")
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert file.get_slice("lm_head.weight").get_shape() == [330, 64]
        assert file.get_slice("model.embed_tokens.weight").get_shape() == [330, 64]
    assert json.loads((tmp_path / "out" / "config.json").read_text())["vocab_size"] == 330


def test_the_tokenizer_gives_the_same_ids_and_knows_its_special_tokens(
    section, build, tokenizer_dir, tmp_path: Path
) -> None:
    text = "村民们都很高兴，在 2024 年。\n“是的”🙂"
    for model_type in CLASSES:
        model = section(model_type)
        export_hf(build(model).state_dict(), model, tokenizer_dir, tmp_path / model_type)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / model_type)
        ids = tokenizer(text)["input_ids"]
        assert ids == load_tokenizer(tokenizer_dir).encode_batch([text])[0]
        assert tokenizer.decode(ids) == text
        assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|endoftext|>", "<|pad|>")
        config = json.loads((tmp_path / model_type / "config.json").read_text())
        assert (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]) == (0, 0, 1)
        generation = json.loads((tmp_path / model_type / "generation_config.json").read_text())
        assert generation["eos_token_id"] == 0


def test_bf16_halves_the_file_and_stays_within_its_tolerance(
    section, build, tokenizer_dir, probe_tokens, tmp_path: Path
) -> None:
    model = section()
    module = build(model)
    expected = logits_of(module, probe_tokens)
    for dtype in ("float32", "bfloat16"):
        export_hf(module.state_dict(), model, tokenizer_dir, tmp_path / dtype, dtype=dtype)
    sizes = [(tmp_path / dtype / "model.safetensors").stat().st_size for dtype in ("float32", "bfloat16")]
    assert sizes[1] < 0.6 * sizes[0]
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "bfloat16").dtype == torch.bfloat16
    assert verify_export(tmp_path / "bfloat16", probe_tokens, expected, TOLERANCES["bf16"]) > 1e-4


@pytest.mark.parametrize("model_type", CLASSES)
def test_a_bf16_engine_is_within_its_tolerance_and_a_wrong_weight_is_not(
    section, build, tokenizer_dir, probe_tokens, tmp_path: Path, model_type: str
) -> None:
    model = section(model_type, initializer_range=0.05)
    weights = {name: tensor.clone() for name, tensor in build(model).state_dict().items()}
    module = build(model).bfloat16()
    probe = Probe(probe_tokens, logits_of(module, probe_tokens), "bf16")
    exported = export_hf(weights, model, tokenizer_dir, tmp_path / "right", probe=probe)
    assert exported.largest_engine_difference is not None
    assert exported.largest_engine_difference > 1e-3 > 1e-5 > exported.largest_difference
    weights["model.layers.1.mlp.up_proj.weight"] = weights["model.layers.0.mlp.up_proj.weight"].clone()
    with pytest.raises(
        BadDataError, match=r"logits of the checkpoint's weights differ from the engine's .* not the model that"
    ):
        export_hf(weights, model, tokenizer_dir, tmp_path / "wrong", probe=probe)
    assert not (tmp_path / "wrong").exists()


def test_an_export_that_differs_is_refused_and_leaves_nothing(
    section, build, tokenizer_dir, probe_tokens, tmp_path: Path
) -> None:
    model = section()
    module = build(model)
    expected = logits_of(module, probe_tokens)
    expected[1, 13, 200] += 0.5
    with pytest.raises(BadDataError, match=r"differ from the engine's by up to 0\.5 \(sequence 1, position 13"):
        export_hf(
            module.state_dict(), model, tokenizer_dir, tmp_path / "out", probe=Probe(probe_tokens, expected, "fp32")
        )
    assert list(tmp_path.iterdir()) == []


def test_nan_logits_are_a_difference(section, build, tokenizer_dir, probe_tokens, tmp_path: Path) -> None:
    model = section()
    module = build(model)
    export_hf(module.state_dict(), model, tokenizer_dir, tmp_path / "out")
    with pytest.raises(BadDataError, match="by up to nan"):
        verify_export(tmp_path / "out", probe_tokens, logits_of(module, probe_tokens) * torch.nan, 1e-4)


def test_logits_of_another_vocabulary_are_refused(section, build, tokenizer_dir, probe_tokens, tmp_path: Path) -> None:
    model = section()
    module = build(model)
    export_hf(module.state_dict(), model, tokenizer_dir, tmp_path / "out")
    with pytest.raises(BadDataError, match=r"shape \[2, 40, 330\], the engine's \[2, 40, 384\]"):
        verify_export(tmp_path / "out", probe_tokens, torch.zeros(2, 40, 384), 1e-4)


def test_a_file_without_a_weight_is_refused(section, build, tokenizer_dir, probe_tokens, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = section()
    module = build(model)
    export_hf(module.state_dict(), model, tokenizer_dir, tmp_path / "out")
    path = tmp_path / "out" / "model.safetensors"
    weights = load_file(path)
    del weights["model.norm.weight"]
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(BadDataError, match=r"does not find the model's own weights.*model\.norm\.weight"):
        verify_export(tmp_path / "out", probe_tokens, logits_of(module, probe_tokens), 1e-4)


def test_an_existing_output_is_kept_unless_forced(section, build, tokenizer_dir, tmp_path: Path) -> None:
    model = section()
    weights = build(model).state_dict()
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(StorageError, match="out: exists already; choose another output, or --force to replace it"):
        export_hf(weights, model, tokenizer_dir, out)
    assert (out / "mine.txt").exists()
    export_hf(weights, model, tokenizer_dir, out, force=True)
    assert not (out / "mine.txt").exists()
    assert (out / "model.safetensors").exists()


def test_weights_of_another_model_are_refused(section, build, tokenizer_dir, tmp_path: Path) -> None:
    weights = build(section()).state_dict()
    with pytest.raises(
        BadDataError, match=r"not of the model model\.layers\.0\.self_attn\.k_norm\.weight, .* and 3 more"
    ):
        export_hf(weights, section("llama"), tokenizer_dir, tmp_path / "out")
    with pytest.raises(BadDataError, match=r"missing model\.layers\.3\.input_layernorm\.weight"):
        export_hf(weights, section(num_hidden_layers=4), tokenizer_dir, tmp_path / "out")
    with pytest.raises(
        BadDataError, match=r"gate_proj\.weight has shape \[96, 64\] and the model section says \[128, 64\]"
    ):
        export_hf(weights, section(intermediate_size=128), tokenizer_dir, tmp_path / "out")


def test_an_unknown_dtype_and_a_missing_tokenizer_are_named(section, build, tokenizer_dir, tmp_path: Path) -> None:
    model = section()
    weights = build(model).state_dict()
    with pytest.raises(SettingError, match="dtype 'fp8' is unknown; expected one of float32, bfloat16, float16"):
        export_hf(weights, model, tokenizer_dir, tmp_path / "out", dtype="fp8")
    with pytest.raises(MissingInputError, match="nowhere: no such folder; expected the tokenizer that the run"):
        export_hf(weights, model, tmp_path / "nowhere", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
