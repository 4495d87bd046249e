"""What follows from a run's settings once its batch plan and model are known: peak rate, warm-up, a branch's decay."""

from zhgpt.config.batch_plan import BatchPlan
from zhgpt.config.fits import HIGHEST_RATE, SOURCE, is_extrapolated, learning_rate_for
from zhgpt.config.quantities import count_text
from zhgpt.config.schedule_checks import branch_step
from zhgpt.config.schema import RunConfig
from zhgpt.errors import SettingError


def peak_learning_rate(config: RunConfig, plan: BatchPlan, parameters: int) -> float:
    """The peak rate: the setting, or for `auto` what the fit gives.

    Args:
        config: the run's settings.
        plan: its batch plan.
        parameters: without tables and an untied head.
    """
    rate = config.optim.learning_rate
    return learning_rate_for(at_base_width(config, parameters), plan.total_tokens) if rate == "auto" else rate


def at_base_width(config: RunConfig, parameters: int) -> int:
    """About how many parameters the model has at the width that its learning rate is meant for: under muP the base width."""
    base = config.model.mup_base_width
    return parameters if base is None else round(parameters * (base / config.model.hidden_size) ** 2)


def warmup_steps(config: RunConfig, plan: BatchPlan) -> int:
    """Steps of warm-up, whether given in steps or in tokens."""
    tokens = config.schedule.warmup_tokens
    return config.schedule.warmup if tokens is None else plan.steps_reaching(tokens)


def resolve_schedule(config: RunConfig, plan: BatchPlan, parameters: int) -> RunConfig:
    """The same settings with numbers in place of `auto`, of tokens, and of the share in which a branch decays.

    Args:
        config: the run's settings.
        plan: its batch plan.
        parameters: without tables and an untied head.

    Raises:
        SettingError: a branch begins inside the warm-up.
    """
    warmup, branch = warmup_steps(config, plan), branch_step(config)
    if branch is not None and branch < warmup:
        raise SettingError(
            f"train.branch_from begins after {branch} steps, inside the warm-up of {warmup}: there is no stable rate to decay "
            "from; take a later checkpoint"
        )
    schedule: dict[str, float | None] = {"warmup_steps": warmup, "warmup_tokens": None}
    if branch is not None:
        schedule["decay_fraction"] = (plan.steps - branch) / plan.steps
    optim = {"learning_rate": peak_learning_rate(config, plan, parameters)}
    return config.model_copy(
        update={
            "schedule": config.schedule.model_copy(update=schedule),
            "optim": config.optim.model_copy(update=optim),
        }
    )


def derivation_notes(config: RunConfig, plan: BatchPlan, parameters: int) -> list[str]:
    """A sentence for each number that the settings leave to us, with its source."""
    notes = []
    if config.train.global_batch_tokens is None and config.train.global_batch_size is None:
        notes.append(
            f"global batch left out: {plan.global_batch_size} sequences = {plan.tokens_per_step:,} tokens, the power of two "
            f"nearest to 0.58 × tokens^0.571 at {plan.steps:,} steps ({SOURCE})"
        )
    if config.optim.learning_rate == "auto":
        rate = peak_learning_rate(config, plan, parameters)
        parameters = at_base_width(config, parameters)
        outside = is_extrapolated(parameters, plan.total_tokens)
        bound = f", bounded at {HIGHEST_RATE:g}" if rate == HIGHEST_RATE else ""
        extrapolated = "; extrapolated: fitted on about 60M to 1B parameters and 2B to 100B tokens" * outside
        notes.append(
            f"learning rate auto: {rate:g} = 1.79 × {count_text(parameters)} parameters without tables^-0.713 × "
            f"{count_text(plan.total_tokens)} tokens^0.307{bound} ({SOURCE}{extrapolated}); zhgpt plan lr measures one"
        )
    if config.schedule.warmup_tokens is not None:
        steps = warmup_steps(config, plan)
        notes.append(f"warm-up of {config.schedule.warmup_tokens:,} tokens: {steps:,} steps")
    branch = branch_step(config)
    if branch is not None:
        notes.append(
            f"branch of {config.train.branch_from}: {plan.steps - branch:,} steps of decay, from step {branch:,} and "
            f"{count_text(plan.tokens_before(branch))} tokens on"
        )
    return notes
