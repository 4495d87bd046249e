"""What a checkpoint says about its run, and what must still be the same to go on from it."""

from dataclasses import asdict, dataclass
from typing import Any

from zhgpt.checkpoint.data_identity import data_differences
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
    micro_batch_size: int
    sequence_length: int
    seed: int
    model: dict[str, Any]
    """The resolved model section."""
    dataset: dict[str, Any]
    """What the training data is: :mod:`zhgpt.checkpoint.data_identity`."""
    optimizer: str
    deepspeed_version: str

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)


# What must be equal, and what a user can do about it where it is not.
MUST_MATCH: dict[str, str] = {
    "world_size": "start with the saved number of ranks (loading at another one is not supported)",
    "zero_stage": "use a DeepSpeed JSON with the saved stage (loading at another one is not supported)",
    "precision": "set train.precision to the saved value",
    "global_batch_size": "the position in the data is counted in global batches: keep the saved value",
    "sequence_length": "keep the saved data.sequence_length",
    "seed": "keep the saved run.seed: it defines the order of the samples",
    "model": "keep the saved model section",
    "dataset": "point data.train or data.blend at what the run was started with",
    "optimizer": "keep the saved optim.name, and which parameters have rates and decay of their own",
}


def check_resumable(saved: dict[str, Any], present: TrainState, place: str) -> None:
    """Refuses to go on where the outcome would silently be another run.

    Raises:
        SettingError: names every value that differs, saved and present.
    """
    now = present.to_json()
    differences = []
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
        raise SettingError(f"{place} cannot be resumed by this run: {'; '.join(differences)}")
