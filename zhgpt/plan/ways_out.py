"""What would make a run fit: tried out by predicting it, so that nothing is named that does not help."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zhgpt.config.batch_plan import BatchPlan
from zhgpt.errors import SettingError
from zhgpt.plan.gpus import GIB
from zhgpt.plan.predict import Prediction, with_settings
from zhgpt.plan.ways import shipped_zero_json

NOTHING_HELPS = (
    "No smaller micro batch, no checkpointing and no file of ds_configs makes it fit; take a smaller model, shorter sequences or "
    "more GPUs.",
    "更小的 micro batch、重计算和 ds_configs 里的任何文件都放不下；请换更小的模型、更短的序列或更多的 GPU。",
)


def way_out(prediction: Prediction) -> tuple[str, str]:
    """The first change that makes it fit, in both languages.

    A smaller micro batch, then checkpointing, then the other files of ds_configs, those without offload first.
    """
    for settings in _train_settings(prediction):
        if settings and _fitting(prediction, None, settings):
            words, work_en, work_zh = _words(prediction, settings)
            return f"{words} does{work_en}.", f"改为 {words} 即可{work_zh}。"
    for name, ds_json in _other_jsons(prediction).items():
        for settings in _train_settings(prediction):
            other = _fitting(prediction, ds_json, settings)
            if other is not None:
                words, work_en, work_zh = _words(prediction, settings)
                words = f"--deepspeed_config ds_configs/{name}.json {words}".rstrip()
                host = other.memory.host_bytes / GIB
                host_en = f", with {host:.1f} GiB of the host's memory a rank" if host else ""
                host_zh = f"，每个 rank 另需 {host:.1f} GiB 主机内存" if host else ""
                return f"{words} does{work_en}{host_en}.", f"改为 {words} 即可{work_zh}{host_zh}。"
    return NOTHING_HELPS


def divides(batch: BatchPlan, micro_batch_size: int) -> bool:
    """Whether a micro batch divides the global batch of every stage among the ranks."""
    unit = micro_batch_size * batch.data_parallel_size
    return all(stage.global_batch_size % unit == 0 for stage in batch.stages)


def offload_zero_json(stage: int) -> dict[str, Any]:
    """ds_configs/zero2_offload.json or zero3_offload.json as this plan counts with it (a test holds that they are equal)."""
    host = {"device": "cpu", "pin_memory": True}
    zero = {**shipped_zero_json(stage)["zero_optimization"], "offload_optimizer": host}
    if stage == 3:
        zero |= {"sub_group_size": 100_000_000, "offload_param": host}
    return {"zero_optimization": zero}


def mixture_zero_json(ds_json: dict[str, Any]) -> dict[str, Any]:
    """The file for mixtures beside one for dense models: larger buckets."""
    buckets = {"reduce_bucket_size": 200_000_000, "allgather_bucket_size": 200_000_000}
    return {"zero_optimization": {**ds_json["zero_optimization"], **buckets}}


def shipped_jsons(*, mixture: bool) -> dict[str, dict[str, Any]]:
    """Files of ds_configs that a plan may name, in the order in which they are tried."""
    split = {f"zero{stage}": shipped_zero_json(stage) for stage in (1, 2)}
    offload = {"zero2_offload": offload_zero_json(2)}
    if mixture:
        split = {f"moe_{name}": mixture_zero_json(values) for name, values in split.items()}
        offload = {f"moe_{name}": mixture_zero_json(values) for name, values in offload.items()}
    return {**split, "zero3": shipped_zero_json(3), **offload, "zero3_offload": offload_zero_json(3)}


def _other_jsons(prediction: Prediction) -> dict[str, dict[str, Any]]:
    """Files that may help: one rank splits nothing, and a CPU's memory is the host's."""
    shipped = shipped_jsons(mixture=prediction.model.moe is not None)
    one_rank, is_cpu = prediction.cluster.world_size == 1, prediction.cluster.gpu.name == "cpu"
    return {
        name: values
        for name, values in shipped.items()
        if values != prediction.ds_json
        and not ("offload" in name and is_cpu)
        and not ("offload" not in name and one_rank)
    }


def _train_settings(prediction: Prediction) -> Iterator[dict[str, Any]]:
    """Settings of ``train`` to try, those that cost least first; the first changes nothing."""
    batch, train = prediction.batch, prediction.config.train
    sizes = [size for size in range(batch.micro_batch_size, 0, -1) if divides(batch, size)]
    for size in sizes:
        yield {} if size == batch.micro_batch_size else {"micro_batch_size": size}
    if train.activation_checkpointing and train.recomputed_layers is None:
        return
    for size in sizes:
        yield {"activation_checkpointing": True, "recomputed_layers": None, "micro_batch_size": size}


def _fitting(prediction: Prediction, ds_json: dict[str, Any] | None, settings: dict[str, Any]) -> Prediction | None:
    """The changed run, where it fits; None: it does not, or recipe and JSON do not go together."""
    try:
        other = with_settings(prediction, ds_json, **settings)
    except SettingError:
        return None
    return other if other.fits else None


def _words(prediction: Prediction, settings: dict[str, Any]) -> tuple[str, str, str]:
    """The settings as a user types them, and what they cost, in both languages."""
    words = []
    if "activation_checkpointing" in settings:
        words.append("train.activation_checkpointing=true")
    if "micro_batch_size" in settings:
        words.append(f"train.micro_batch_size={settings['micro_batch_size']}")
    if "recomputed_layers" in settings and prediction.config.train.recomputed_layers is not None:
        words.append("train.recomputed_layers=null")
    if "activation_checkpointing" in settings:
        return " ".join(words), ", for about a third more work", "，计算量约多三分之一"
    return " ".join(words), "", ""
