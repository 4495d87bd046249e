"""Writes a model as a transformers folder: safetensors, config, tokenizer; published only when it proved right."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megatron_style_data.atomic import atomic_folder
from zhgpt.config.schema import ModelSection
from zhgpt.errors import SettingError, StorageError
from zhgpt.export.folding import fold
from zhgpt.export.hf_config import FORMATS, transformers_config
from zhgpt.export.hf_mixtures import SELECTION_BIAS
from zhgpt.export.hf_weights import check_weights
from zhgpt.export.tokenizer_files import export_tokenizer, verify_tokenizer
from zhgpt.export.verify import ROUTED_ALIKE, TOLERANCES, compare_logits, fp32_logits, own_model, verify_export
from zhgpt.model.shape import DecoderShape, decoder_shape
from zhgpt.model.transformers_class import export_target

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DTYPE_PRECISIONS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
PROBE_TOKENS = 64


@dataclass(frozen=True)
class Probe:
    """What the engine computed, for the export to be compared with.

    Attributes:
        tokens: (B, S) int64.
        logits: (B, S, vocab_size).
        precision: that the engine computed in, a key of ``TOLERANCES``.
    """

    tokens: Tensor
    logits: Tensor
    precision: str


@dataclass(frozen=True)
class ExportedModel:
    """A published export.

    Attributes:
        path: the folder.
        architecture: the transformers class that loads it.
        parameters: number of parameters without padding, a tied table once.
        largest_difference: of its logits from those of the checkpoint's weights in our own model (a mixture's rounded to
            the dtype of the file).
        largest_engine_difference: of those from the engine's; None without a probe.
        note: what a user should know about the tokenizer, if anything.
    """

    path: Path
    architecture: str
    parameters: int
    largest_difference: float
    largest_engine_difference: float | None
    note: str | None


def export_hf(
    state_dict: Mapping[str, Tensor],
    model: ModelSection,
    tokenizer_dir: Path,
    out_dir: Path,
    *,
    dtype: str = "float32",
    force: bool = False,
    probe: Probe | None = None,
) -> ExportedModel:
    """Write a folder that ``AutoModelForCausalLM`` and ``AutoTokenizer`` load.

    Everything is written aside, checked there and renamed at the end: its logits against those of our own model with
    these weights in fp32 (so that what is written is right), and with ``probe`` those against the engine's (so that the
    weights are the trained ones, whatever precision they were trained in).

    Args:
        state_dict: fp32 weights under ``CausalLM``'s names.
        model: the resolved section they belong to.
        tokenizer_dir: the tokenizer of the run, a folder or a file.
        out_dir: where the folder shall be.
        dtype: of the written weights, a key of ``DTYPES``.
        force: replace an existing ``out_dir``.
        probe: the engine's logits to reproduce.

    Raises:
        SettingError: an unknown ``dtype``, or a model that no class holds.
        StorageError: ``out_dir`` exists and ``force`` is not given, or cannot be written.
        BadDataError: weights that are not this model's, or logits or token ids that differ.
        MissingInputError: no tokenizer.
    """
    check_output(out_dir, dtype, force=force)
    architecture = exported_class(model)
    shape = decoder_shape(model)
    check_weights(state_dict, {name: tensor.shape for name, tensor in own_model(model).state_dict().items()})
    tokens = _default_probe(shape) if probe is None else probe.tokens
    logits = fp32_logits(state_dict, model, tokens)
    engine_difference = None if probe is None else _compare_with_engine(logits, probe, shape)
    form = FORMATS[architecture]
    with atomic_folder(out_dir, replace=force) as folder:
        ordinary, ordinary_shape = fold(state_dict, shape)
        weights = form.weights(ordinary, ordinary_shape)
        _write_weights(weights, folder / "model.safetensors", DTYPES[dtype])
        tokenizer = export_tokenizer(tokenizer_dir, folder)
        special = (tokenizer.end_of_text_id, tokenizer.padding_id)
        config = transformers_config(architecture, ordinary_shape, model.initializer_range, dtype, *special)
        config.save_pretrained(folder)
        _write_generation_config(folder, *special)
        if tokenizer.note is None:
            verify_tokenizer(folder, tokenizer_dir)
        tolerance = TOLERANCES[DTYPE_PRECISIONS[dtype]]
        if model.moe is not None and dtype != "float32":
            # Rounded weights send tokens near a tie to other experts: compare with the rounded ones, and then exactly.
            logits, tolerance = fp32_logits(_rounded(state_dict, DTYPES[dtype]), model, tokens), TOLERANCES["fp32"]
        difference = verify_export(folder, tokens, logits, tolerance)
    parameters = sum(tensor.numel() for name, tensor in weights.items() if not name.endswith(SELECTION_BIAS))
    return ExportedModel(out_dir, architecture, parameters, difference, engine_difference, tokenizer.note)


def exported_class(model: ModelSection) -> str:
    """Return the transformers class that holds a model; its section is enough to ask.

    Raises:
        SettingError: none does.
    """
    target = export_target(decoder_shape(model))
    if target.architecture is None:
        raise SettingError(
            f"this model exports to no transformers class: {target.reason}. It was for comparing; train one that a class holds."
        )
    return target.architecture


def check_output(out_dir: Path, dtype: str, *, force: bool) -> None:
    """Check what can be checked before a checkpoint is read.

    Raises:
        SettingError: an unknown ``dtype``.
        StorageError: ``out_dir`` exists and ``force`` is not given.
    """
    if dtype not in DTYPES:
        raise SettingError(f"dtype {dtype!r} is unknown; expected one of {', '.join(DTYPES)}.")
    if out_dir.exists() and not force:
        raise StorageError(f"{out_dir}: exists already; choose another output, or --force to replace it.")


def _default_probe(shape: DecoderShape) -> Tensor:
    """Tokens (1, S) spread over the vocabulary."""
    length = min(PROBE_TOKENS, shape.max_position_embeddings)
    return (torch.arange(length)[None] * 7919) % shape.vocab_size


def _compare_with_engine(logits: Tensor, probe: Probe, shape: DecoderShape) -> float:
    share = ROUTED_ALIKE if shape.moe is not None and probe.precision != "fp32" else 1.0
    what = "the logits of the checkpoint's weights"
    return compare_logits(logits, probe.logits, TOLERANCES[probe.precision], what, share)


def _write_weights(weights: Mapping[str, Tensor], path: Path, dtype: torch.dtype) -> None:
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in _rounded(weights, dtype).items()}, path, {"format": "pt"})


def _rounded(weights: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """The weights in a file's dtype; selection biases stay as they are."""
    return {name: tensor if name.endswith(SELECTION_BIAS) else tensor.to(dtype) for name, tensor in weights.items()}


def _write_generation_config(folder: Path, end_of_text_id: int, padding_id: int) -> None:
    from transformers import GenerationConfig

    special: dict[str, Any] = {"bos_token_id": end_of_text_id, "eos_token_id": end_of_text_id}
    config = GenerationConfig(**special, pad_token_id=padding_id)
    config.save_pretrained(folder)
