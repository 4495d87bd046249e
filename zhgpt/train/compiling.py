"""``train.compile`` agreed on by all ranks, with inductor's results kept from one start to the next."""

from zhgpt.config.schema import RunConfig
from zhgpt.distributed.environment import keep_inductor_results
from zhgpt.distributed.process_group import Ranks
from zhgpt.model.compiling import CompileChoice, choose_compile, compiler_problem
from zhgpt.model.shape import DecoderShape


def agree_on_compiling(config: RunConfig, shape: DecoderShape, zero_stage: int, ranks: Ranks) -> CompileChoice:
    """The same choice on every rank: a host without a compiler decides for all. Reached by all ranks.

    Args:
        config: its ``train.compile`` and ``train.kernels``.
        shape: of the model.
        zero_stage: of the DeepSpeed JSON.
        ranks: all ranks.

    Raises:
        SettingError: ``blocks`` is asked for and some rank cannot compile.
    """

    def problem_of_any() -> str | None:
        found = zip(ranks.gather(_problem_here(ranks)), ranks.host_names, strict=True)
        return next((f"{problem} on {host}" for problem, host in found if problem is not None), None)

    return choose_compile(
        config.train.compile,
        ranks.device.type,
        zero_stage,
        problem_of_any,
        dense_blocks=shape.num_hidden_layers - len(shape.experts),
        kernels=config.train.kernels,
    )


def _problem_here(ranks: Ranks) -> str | None:
    try:
        keep_inductor_results()
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder
        return f"no folder for what torch.compile makes ({error}); name one with TORCHINDUCTOR_CACHE_DIR"
    return compiler_problem(ranks.device)


def compile_notices(choice: CompileChoice) -> list[str]:
    """What the user should know: that blocks are compiled, or why not."""
    return [choice.reason] if choice.reason and choice.is_news else []
