"""The literal tables of DeepSpeed's keys, against the DeepSpeed that is installed."""

from typing import Any

import pytest

from zhgpt.config.ownership import REFUSED_IN_JSON, REFUSED_ZERO_KEYS, RUN_CONFIG_OWNS
from zhgpt.config.zero_keys import (
    COMMUNICATION_TYPES,
    DEEPSPEED_OWNS,
    LEAF_MODULE_KEYS,
    OFFLOAD_DEVICES,
    OFFLOAD_OPTIMIZER_KEYS,
    OFFLOAD_PARAM_KEYS,
    ZERO_KEYS,
    Key,
)


def field_names(model: Any) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def test_zero_keys_are_deepspeeds_own() -> None:
    from deepspeed.runtime.config import _REMOVED_ZERO_CONFIG_KEYS
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    ours = set(ZERO_KEYS) | set(REFUSED_ZERO_KEYS)
    assert ours == field_names(DeepSpeedZeroConfig) | set(_REMOVED_ZERO_CONFIG_KEYS)
    assert not set(ZERO_KEYS) & set(REFUSED_ZERO_KEYS)


def test_offload_keys_are_deepspeeds_own() -> None:
    from deepspeed.runtime.zero import offload_config
    from deepspeed.runtime.zero.leaf_module_config import DeepSpeedZeroLeafModuleConfig

    assert set(OFFLOAD_PARAM_KEYS) == field_names(offload_config.DeepSpeedZeroOffloadParamConfig)
    assert set(OFFLOAD_OPTIMIZER_KEYS) == field_names(offload_config.DeepSpeedZeroOffloadOptimizerConfig)
    assert set(OFFLOAD_DEVICES) == {device.value for device in offload_config.OffloadDeviceEnum}
    assert set(LEAF_MODULE_KEYS) == field_names(DeepSpeedZeroLeafModuleConfig)


def test_keys_of_other_blocks_are_deepspeeds_own() -> None:
    from deepspeed.comm.config import CommsLoggerConfig
    from deepspeed.profiling.config import DeepSpeedFlopsProfilerConfig
    from deepspeed.runtime.swap_tensor.aio_config import AIO_DEFAULT_DICT

    assert set(DEEPSPEED_OWNS["aio"].below) == set(AIO_DEFAULT_DICT)
    assert set(DEEPSPEED_OWNS["comms_logger"].below) == field_names(CommsLoggerConfig)
    assert set(DEEPSPEED_OWNS["flops_profiler"].below) == set(vars(DeepSpeedFlopsProfilerConfig({})))


@pytest.mark.parametrize("name", COMMUNICATION_TYPES)
def test_communication_types_are_deepspeeds_own(name: str) -> None:
    from deepspeed.runtime.config import get_communication_data_type

    assert get_communication_data_type({"communication_data_type": name}) is not None


def test_keys_that_deepspeed_removed_are_refused() -> None:
    from deepspeed.runtime.config import _REMOVED_TOP_LEVEL_CONFIG_KEYS

    assert set(_REMOVED_TOP_LEVEL_CONFIG_KEYS) <= set(REFUSED_IN_JSON)


def test_the_optimizer_under_zero_is_one_that_deepspeed_has_tested() -> None:
    import torch
    from deepspeed.runtime.zero.utils import ZERO_SUPPORTED_OPTIMIZERS

    assert torch.optim.AdamW in ZERO_SUPPORTED_OPTIMIZERS


def test_each_key_has_one_owner() -> None:
    sides = [set(DEEPSPEED_OWNS), set(RUN_CONFIG_OWNS), set(REFUSED_IN_JSON)]
    assert sum(map(len, sides)) == len(set().union(*sides))


def test_values_of_each_kind_satisfy_deepspeeds_types() -> None:
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    samples: dict[str, Any] = {"switch": True, "count": 1, "number": 1.0, "words": []}

    def sample(key: Key) -> Any:
        return {name: sample(inner) for name, inner in key.below.items() if inner.kind in samples} or samples[key.kind]

    content = {name: sample(key) for name, key in ZERO_KEYS.items()}
    DeepSpeedZeroConfig(**{**content, "stage": 3})
