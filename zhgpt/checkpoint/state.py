"""What a checkpoint says about its run, and what must still be the same to go on from it."""

from dataclasses import asdict, dataclass, field
from typing import Any

from zhgpt.checkpoint.continuation import batch_differences, branch_differences, check_branchable
from zhgpt.checkpoint.data_identity import data_differences
from zhgpt.config.model_shape import fill_options
from zhgpt.config.schema import ModelSection
from zhgpt.errors import SettingError


@dataclass(frozen=True)
class TrainState:
    """Progress and identity of a run at the moment of saving; plain JSON, never a pickle."""

    step: int
    """Steps done; the next step to run has this number."""
    consumed_samples: int
    world_size: int
    ep_size: int
    """Ranks that share one set of experts; a checkpoint from before there were experts does not say it and means 1."""
    zero_stage: int
    precision: str
    global_batch_size: int
    """The full one, after any ramp."""
    micro_batch_size: int
    sequence_length: int
    seed: int
    model: dict[str, Any]
    """The resolved model section."""
    dataset: dict[str, Any]
    """What the training data is: :mod:`zhgpt.checkpoint.data_identity`."""
    optimizer: str
    deepspeed_version: str
    batch_stages: list[list[int]] = field(default_factory=list)
    """First step, global batch in sequences and tokens of a row, of each stage; empty: ``global_batch_size`` throughout."""
    schedule: dict[str, Any] = field(default_factory=dict)
    """``name``, ``warmup_steps``, ``stable_steps`` (steps before wsd decays) and the peak ``learning_rate``."""
    branch: dict[str, Any] | None = None
    """Of a branch: the checkpoint it began ``from``, its ``step``, ``consumed_samples`` and ``manifest_xxh3_128``."""
    spikes: dict[str, Any] = field(default_factory=dict)
    """What the spike policy knows and has changed: :class:`zhgpt.train.spike_guard.SpikeState`. Empty: nothing."""

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)


# What must be equal, and what a user can do about it where it is not.
MUST_MATCH: dict[str, str] = {
    "world_size": "start with the saved number of ranks (loading at another one is not supported)",
    "zero_stage": "use a DeepSpeed JSON with the saved stage (loading at another one is not supported)",
    "precision": "set train.precision to the saved value",
    "sequence_length": "keep the saved data.sequence_length",
    "seed": "keep the saved run.seed: it defines the order of the samples",
    "model": "keep the saved model section",
    "dataset": "point data.train or data.blend at what the run was started with",
    "optimizer": "keep the saved optim.name, and which parameters have rates and decay of their own",
}


def check_resumable(saved: dict[str, Any], present: TrainState, place: str, *, to_branch: bool = False) -> None:
    """Refuses to go on where the outcome would silently be another run.

    Args:
        saved: ``train_state.json`` of the checkpoint.
        present: the run that would go on from it.
        place: the checkpoint, for the message.
        to_branch: a new run begins here and decays, in place of the run that saved it.

    Raises:
        SettingError: names every value that differs, saved and present.
    """
    now = present.to_json()
    saved = {**saved, "model": _with_later_options(saved["model"], now["model"])}
    differences = batch_differences(saved, now)
    if to_branch:
        check_branchable(saved, now, place)
    else:
        differences += branch_differences(saved, now)
    for key, advice in MUST_MATCH.items():
        if saved.get(key) == now[key]:
            continue
        if key == "dataset" and isinstance(saved.get(key), dict):
            differences += data_differences(saved[key], now[key], saved["consumed_samples"], advice)
            continue
        if isinstance(now[key], dict) and isinstance(saved.get(key), dict):
            inner = sorted(k for k in {**saved[key], **now[key]} if saved[key].get(k) != now[key].get(k))
            for name in inner:
                differences.append(
                    f"{key}.{name} is {now[key].get(name)!r} but was saved as {saved[key].get(name)!r} ({advice})"
                )
        else:
            differences.append(f"{key} is {now[key]!r} but was saved as {saved.get(key)!r} ({advice})")
    if differences:
        action = "cannot be branched into" if to_branch else "cannot be resumed by"
        raise SettingError(f"{place} {action} this run: {'; '.join(differences)}")


def _with_later_options(saved: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """A saved model section, and for options there were none of then what stands for their absence."""
    absent = fill_options(ModelSection(model_type=saved.get("model_type", "qwen3"))).model_dump(mode="json")
    return {**{name: absent[name] for name in now if name in absent}, **saved}
