"""A prediction as tables for a terminal, or as one JSON object."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from zhgpt.cli.table import print_table

if TYPE_CHECKING:
    from zhgpt.plan.predict import Prediction
    from zhgpt.plan.propose import NothingToPropose, Proposal
    from zhgpt.plan.words import Language

GIB = 2.0**30


def print_prediction(
    prediction: "Prediction", instead: "Proposal | NothingToPropose | None", language: "Language"
) -> None:
    """All tables, warnings, the verdict, and for a run that would fail what would not."""
    from zhgpt.plan.words import instead_sentence, verdict, warnings_in

    warnings, said = warnings_in(prediction, language), verdict(prediction).text(language)
    _print_run(prediction, language)
    _print_memory(prediction)
    _print_time(prediction)
    _print_quality(prediction)
    for warning in warnings:
        typer.echo(f"{'警告：' if language == 'zh' else 'warning: '}{warning}")
    typer.echo(f"{'结论：' if language == 'zh' else 'verdict: '}{said}")
    if instead is not None:
        typer.echo(instead_sentence(instead).text(language))
        _print_notes(instead, language)


def print_proposal(proposal: "Proposal", recipe: Path, language: "Language") -> None:
    """What is proposed, then the same tables, then where it was written and how to start it."""
    from zhgpt.plan.words import proposal_sentence

    typer.echo(proposal_sentence(proposal).text(language))
    _print_notes(proposal, language)
    print_prediction(proposal.prediction, None, language)
    json_path = f"ds_configs/zero{proposal.stage}.json"
    command = f"zhgpt pretrain --config {shlex.quote(str(recipe))} --deepspeed_config {json_path}"
    en, zh = f"wrote {recipe}; train it: {command}", f"已写入 {recipe}；训练命令：{command}"
    if not Path(json_path).exists():
        en, zh = f"{en} ({json_path} lies in zhgpt's own folder)", f"{zh}（{json_path} 在 zhgpt 的目录里）"
    typer.echo(zh if language == "zh" else en)


def print_json(
    prediction: "Prediction", proposal: "Proposal | NothingToPropose | None", recipe: Path | None, language: "Language"
) -> None:
    """One object on one line a key.

    A proposal, with the file it was written to, has its own key; where a run fails and so would each proposal, that is null and
    ``no_proposal`` says why.
    """
    from zhgpt.plan.document import as_values, proposal_values
    from zhgpt.plan.propose import Proposal
    from zhgpt.plan.words import instead_sentence, would_do

    values = as_values(prediction, language)
    if isinstance(proposal, Proposal) and (recipe is not None or would_do(proposal)):
        values["proposal"] = proposal_values(proposal, None if recipe is None else str(recipe), language)
    elif proposal is not None:
        values |= {"proposal": None, "no_proposal": instead_sentence(proposal).text(language)}
    typer.echo(json.dumps(values, ensure_ascii=False, indent=2))


def _print_notes(proposal: "Proposal | NothingToPropose", language: "Language") -> None:
    """What is to be said of a proposal that would do."""
    from zhgpt.plan.proposal_words import notes_on
    from zhgpt.plan.words import would_do

    if would_do(proposal):
        for note in notes_on(proposal):
            typer.echo(note.text(language))


def _print_run(prediction: "Prediction", language: "Language") -> None:
    """Which run on what, and what was assumed."""
    from zhgpt.config.description import describe_batch, describe_experts, describe_model, describe_options
    from zhgpt.config.quantities import count_text
    from zhgpt.plan.words import assumptions

    cluster, config, count = prediction.cluster, prediction.config, prediction.count
    hosts = "" if cluster.nodes == 1 else f" on {cluster.nodes} hosts, {cluster.interconnect} between them"
    typer.echo(
        f"{config.run.name} on {cluster.world_size} x {cluster.gpu.name}{hosts}: ZeRO-{prediction.layout.stage}, "
        f"{config.train.precision}"
    )
    typer.echo(f"  {describe_model(prediction.model)}")
    options = describe_options(prediction.model, config.train.z_loss_coef)
    if options:
        typer.echo(f"  options: {options}")
    if prediction.model.moe is not None:
        typer.echo(f"  experts: {describe_experts(prediction.model, config.train.ep_size)}")
    active = f"; {count_text(count.active)} are active for a token" if prediction.model.moe is not None else ""
    typer.echo(
        f"  {count_text(count.total)} parameters: {count_text(count.embedding)} in tables, "
        f"{count_text(count.non_embedding)} in layers{active}"
    )
    typer.echo(f"  {describe_batch(prediction.batch)}")
    if prediction.estimate:
        typer.echo(f"  estimate: {prediction.estimate.text(language)}")
    if assumed := assumptions(prediction, language):
        typer.echo(f"  assumed: {assumed}")


def _print_memory(prediction: "Prediction") -> None:
    """What lies on a rank at its fullest moment."""
    memory, device = prediction.memory, prediction.cluster.gpu.memory_bytes
    rows = [(name, f"{size / GIB:.2f}") for name, size in memory.parts.items()]
    rows.append((f"all, of {device / GIB:.0f}", f"{memory.total / GIB:.2f}"))
    if memory.host_bytes:
        rows.append(("in the host's memory", f"{memory.host_bytes / GIB:.2f}"))
    moment = {
        "loss": "while the loss is computed",
        "head": "when the output table gets its gradient",
        "recompute": "when a layer is computed again",
        "backward": "in the backward pass",
        "reduce": "when gradients are reduced",
        "step": "in the update",
    }
    print_table((f"memory of a rank, {moment[memory.moment]}", "GiB"), rows)


def _print_time(prediction: "Prediction") -> None:
    """A step by what takes it, and the run with its cost."""
    from zhgpt.config.quantities import count_text, duration_text, share_text

    step, total = prediction.step, prediction.step.total
    parts = (
        ("matrix products", step.matmul),
        ("moving memory", step.traffic),
        ("launches", step.launch),
        ("optimizer", step.update),
        ("communication that shows", step.exposed_communication),
    )
    rows = [(name, f"{seconds:.3f}", share_text(seconds / total)) for name, seconds in parts if seconds > 0]
    rows.append(("a step", f"{total:.3f}", "100.0 %"))
    if step.hidden_communication > 0:
        rows.append(("communication that hides", f"{step.hidden_communication:.3f}", ""))
    print_table(("time of a step", "seconds", "share"), rows)
    energy, money = prediction.kilowatt_hours, prediction.money
    facts = [
        ("speed", f"{count_text(prediction.tokens_per_second)} tokens a second, MFU {share_text(prediction.mfu)}"),
        ("length", f"{_steps_text(prediction)}, {count_text(prediction.batch.total_tokens)} tokens"),
        ("duration", f"{duration_text(prediction.seconds)} ({prediction.seconds / 86400:.2f} days)"),
    ]
    if energy is not None:
        facts.append(("energy", f"{energy:.1f} kWh at board power"))
    if money is not None:
        facts.append(("cost", f"{money:,.2f} at {prediction.wishes.price_per_gpu_hour:g} a GPU-hour"))
    for name, value in facts:
        typer.echo(f"  {name:<21} {value}")


def _steps_text(prediction: "Prediction") -> str:
    """How many steps; of a branch, from which step on."""
    first, steps = prediction.stages[0].first_step, prediction.batch.steps
    return f"{steps:,} steps" if first == 0 else f"{steps - first:,} steps from step {first:,} on, in all {steps:,}"


def _print_quality(prediction: "Prediction") -> None:
    """Tokens a parameter, passes, and bits per byte."""
    from zhgpt.config.quantities import share_text
    from zhgpt.plan.scaling_curve import error_on_left_out, load_other_runs, unigram_of_the_runs
    from zhgpt.plan.words import rate_cannot_train

    expectation, epochs = prediction.expectation, prediction.epochs
    facts = [("tokens a parameter", f"{prediction.tokens_per_parameter:.3g}")]
    if epochs is not None:
        facts.append(("passes over the text", f"{epochs:.2g}"))
    if rate_cannot_train(prediction):
        facts.append(("bits per byte", "none to expect: our runs had a learning rate for pretraining"))
    else:
        said = f"{expectation.low:.2f} to {expectation.high:.2f}"
        if expectation.extrapolated is None:
            said = f"{expectation.bits_per_byte:.2f} ({said})"
        else:
            said = f"{said}, extrapolated {expectation.extrapolated:.0f} times beyond our runs"
        if expectation.unigram_ratio is None:
            said += f", on text like theirs (unigram line {unigram_of_the_runs():.2f})"
        elif expectation.is_on_other_text:
            said += f"; on other text than theirs: its unigram line is {expectation.unigram_ratio:.2f} times theirs"
        run, error = error_on_left_out()
        facts.append(("bits per byte", said))
        facts.append(("error of their curve", f"{share_text(error)} at the run left out of its fit ({run.name})"))
        if expectation.is_on_other_text:
            errors = ", ".join(f"{share_text(other.error)} ({other.run.name})" for other in load_other_runs())
            facts.append(("error on other text", errors))
    for name, value in facts:
        typer.echo(f"  {name:<21} {value}")
