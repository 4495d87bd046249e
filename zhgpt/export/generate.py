"""Text from an exported model or from a run, through transformers' own generate."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from zhgpt.checkpoint.consolidated import load_consolidated, saved_model
from zhgpt.errors import BadDataError, MissingInputError, SettingError
from zhgpt.export.hf import export_hf, exported_class
from zhgpt.export.streaming import CharacterStreamer


@dataclass(frozen=True)
class GenerationSettings:
    """How to continue a text, in transformers' meanings; ``greedy`` takes the likeliest token each time."""

    max_new_tokens: int = 60
    temperature: float = 0.8
    top_k: int = 50
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 1234
    greedy: bool = False

    def check(self) -> None:
        """Raise SettingError naming each value that is out of range."""
        checks = [
            (self.max_new_tokens >= 1, f"max-new-tokens {self.max_new_tokens} must be at least 1"),
            (
                self.temperature > 0,
                f"temperature {self.temperature} must be above 0 (--greedy for the likeliest token)",
            ),
            (self.top_k >= 0, f"top-k {self.top_k} must be 0 (all tokens) or more"),
            (0 < self.top_p <= 1, f"top-p {self.top_p} must be above 0 and at most 1 (all tokens)"),
            (self.repetition_penalty > 0, f"repetition-penalty {self.repetition_penalty} must be above 0 (1: none)"),
        ]
        problems = [sentence for good, sentence in checks if not good]
        if problems:
            raise SettingError("; ".join(problems) + ".")

    def generate_arguments(self) -> dict[str, Any]:
        """Keywords of transformers' ``generate``."""
        common: dict[str, Any] = {"max_new_tokens": self.max_new_tokens, "repetition_penalty": self.repetition_penalty}
        if self.greedy:
            return common | {"do_sample": False}
        sampling = {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}
        return common | {"do_sample": True} | sampling


@dataclass(frozen=True)
class LoadedModel:
    """A transformers model and its tokenizer, on the device where text is made."""

    module: Any
    tokenizer: Any


@contextmanager
def exported_folder(path: Path) -> Iterator[Path]:
    """Yield a transformers folder: ``path`` itself, or the newest checkpoint of the run at ``path``, exported for now.

    Raises:
        MissingInputError: nothing is there, or neither a model nor a run.
        SettingError: a run whose model no transformers class holds.
    """
    if not path.exists():
        raise MissingInputError(f"{path}: no such folder; expected an exported model or a run's folder.")
    if (path / "config.json").is_file():
        yield path
    elif (path / "checkpoints").is_dir() or path.name.startswith("step-"):
        with TemporaryDirectory() as folder:
            exported_class(saved_model(path))
            found = load_consolidated(path)
            yield export_hf(found.state_dict, found.model, found.tokenizer_dir, Path(folder) / "model").path
    else:
        raise MissingInputError(
            f"{path}: holds neither config.json (an exported model) nor checkpoints/ (a run); `zhgpt export hf` makes a "
            "model of a run."
        )


def load_for_generation(folder: Path) -> LoadedModel:
    """Load a transformers folder onto the GPU if there is one, in the dtype it is stored in.

    Raises:
        MissingInputError: its weights or its tokenizer are missing.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not any(folder.glob("*.safetensors")):
        raise MissingInputError(f"{folder}: holds config.json but no *.safetensors; export the model again.")
    if not (folder / "tokenizer.json").is_file():
        raise MissingInputError(
            f"{folder}: holds no tokenizer.json, so transformers cannot encode a prompt; copy the tokenizer's files there."
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    return LoadedModel(module.to(device).eval(), AutoTokenizer.from_pretrained(folder))


def generate_text(model: LoadedModel, prompt: str, settings: GenerationSettings, write: Callable[[str], None]) -> str:
    """Continue ``prompt`` and return it with its continuation, handing out the text as it grows.

    It is what transformers' ``generate`` gives for the same settings after ``torch.manual_seed(settings.seed)``. An
    empty prompt starts as a document does, after the end-of-text token.

    Raises:
        SettingError: a setting out of range, a prompt that is not UTF-8, or more tokens than the model has positions.
        BadDataError: the tokenizer does not belong to the model.
    """
    settings.check()
    ids = _prompt_ids(model, prompt)
    positions = model.module.config.max_position_embeddings
    if ids.shape[1] + settings.max_new_tokens > positions:
        raise SettingError(
            f"the prompt's {ids.shape[1]} tokens and max-new-tokens {settings.max_new_tokens} exceed the model's "
            f"{positions} positions; at most {max(0, positions - ids.shape[1])} new tokens fit."
        )
    streamer = CharacterStreamer(model.tokenizer, write)
    torch.manual_seed(settings.seed)
    arguments = settings.generate_arguments()
    model.module.generate(ids, attention_mask=torch.ones_like(ids), streamer=streamer, **arguments)
    return streamer.text


def _prompt_ids(model: LoadedModel, prompt: str) -> torch.Tensor:
    """(1, S) int64 on the model's device."""
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        raise SettingError("the prompt is not valid UTF-8; check the terminal's or the file's encoding.") from error
    ids = model.tokenizer(prompt)["input_ids"] or [model.module.config.bos_token_id]
    vocab_size = model.module.config.vocab_size
    if max(ids) >= vocab_size:
        raise BadDataError(
            f"the tokenizer gives the id {max(ids)} and the model has {vocab_size} ids; it belongs to another model."
        )
    return torch.tensor([ids], device=model.module.device)
