"""RunConfig: every setting of a run, one section a subject, one docstring and one check a field.

Unknown keys are refused and nothing can be changed after loading. What belongs to DeepSpeed's JSON (ZeRO, offload,
profilers) is not here; `zhgpt.config.ownership` says which side owns what. Read a file with
`zhgpt.config.loading.load_run_config`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from zhgpt.config.checks import cross_section_problems
from zhgpt.config.data_section import DataSection
from zhgpt.config.health_section import HealthSection
from zhgpt.config.moe_section import MoeSection
from zhgpt.config.rope_section import RopeScalingSection
from zhgpt.config.schedule_section import ScheduleSection
from zhgpt.config.section import RateOrAuto, Real, Section, Switch, Whole
from zhgpt.config.stage_sections import BatchRampStage
from zhgpt.config.values import check_run_name, default_warmup_steps

DEFAULT_PROMPTS = ("村民们都很高兴，在", "中国的历史", "有一天，他对我说：“", "根据本法的规定，")


class RunSection(Section):
    """Name, folder and seed of the run."""

    name: str = "run"
    """Name of the run; its folder is `runs/<name>` unless `run.dir` is given."""
    dir: Path | None = None
    """Folder of the run. Left out: `runs/<run.name>`."""
    seed: Whole = Field(default=1234, ge=0, lt=2**32)
    """Seed of the initial weights and of the order of the samples."""

    @field_validator("name")
    @classmethod
    def _name_is_a_file_name(cls, name: str) -> str:
        return check_run_name(name)

    @property
    def run_dir(self) -> Path:
        """The run's folder: `run.dir`, or `runs/<run.name>`."""
        return self.dir if self.dir is not None else Path("runs") / self.name


class ModelSection(Section):
    """Shape of the model, under transformers' names."""

    model_type: Literal["gpt2", "llama", "qwen3"] = "qwen3"
    """Architecture, and the transformers class that loads the export: GPT2LMHeadModel, LlamaForCausalLM or
    Qwen3ForCausalLM (Llama's with RMSNorm on queries and keys)."""
    vocab_size: Whole | None = Field(default=None, gt=0)
    """Size of the vocabulary. Left out: that of the dataset's tokenizer."""
    pad_vocab_size_multiple: Whole = Field(default=64, gt=0)
    """The embedding is padded to a multiple of this in training (faster matrix products) and cut back at export."""
    hidden_size: Whole = Field(default=768, gt=0)
    """Width of the residual stream."""
    num_hidden_layers: Whole = Field(default=12, gt=0)
    """Number of transformer blocks."""
    num_attention_heads: Whole = Field(default=12, gt=0)
    """Number of query heads."""
    num_key_value_heads: Whole | None = Field(default=None, gt=0)
    """Number of key and value heads (grouped-query attention). Left out: as many as query heads."""
    head_dim: Whole | None = Field(default=None, gt=0)
    """Width of one head. Left out: hidden_size / num_attention_heads."""
    intermediate_size: Whole | None = Field(default=None, gt=0)
    """Width of the feed-forward layer. Left out: 4 x hidden_size for gpt2, else 8/3 x hidden_size rounded up to a
    multiple of 64 (SwiGLU has three matrices instead of two)."""
    max_position_embeddings: Whole | None = Field(default=None, gt=0)
    """Longest sequence the model is declared for. Left out: data.sequence_length."""
    position_embedding: Literal["learned", "rope"] | None = None
    """How positions enter: a learned vector each, or rotated queries and keys. Left out: learned for gpt2, else rope. gpt2
    with rope exports as Starcoder2ForCausalLM."""
    rope_theta: Real = Field(default=10000.0, gt=0)
    """Base of rotary positions."""
    rope_scaling: RopeScalingSection | None = None
    """Scaling of rotary positions for sequences longer than the original ones (docs/architecture_options.md). Left out: none."""
    use_qk_norm: Switch | None = None
    """Whether queries and keys are RMS-normalised per head. Left out: true for qwen3, else false. llama with it is qwen3 and
    exports so, and the other way round; gpt2 with it exports to no class."""
    rms_norm_eps: Real = Field(default=1e-6, gt=0)
    """Epsilon of RMSNorm (llama, qwen3)."""
    layer_norm_epsilon: Real = Field(default=1e-5, gt=0)
    """Epsilon of LayerNorm (gpt2)."""
    initializer_range: Real = Field(default=0.02, gt=0)
    """Standard deviation of the initial weights."""
    residual_init: Literal["scaled", "by_depth", "plain", "zero"] = "scaled"
    """First weights of the two matrices of a layer that write into the residual stream: all over sqrt(2 x layers) (GPT-2);
    layer n's over sqrt(2 n), so that deeper layers begin smaller; like any matrix; zero, so that each layer begins as none."""
    embedding_norm: Switch = False
    """Whether the tokens' vectors are normalised as they enter. The export folds it into the table, so that a tied output
    layer becomes a table of its own there."""
    mup_base_width: Whole | None = Field(default=None, gt=0)
    """hidden_size at which learning rate and initializer_range were found; wider models take them over, with first weights,
    rates and logits scaled by width (muP, docs/architecture_options.md). Left out: no scaling by width."""
    tie_word_embeddings: Switch = True
    """Whether the output layer shares the embedding's weights."""
    attention_backend: Literal["auto", "reference", "sdpa", "blocked", "flash2", "torch_varlen"] = "auto"
    """Attention kernel; `auto` takes the first of flash2, torch_varlen, blocked, sdpa that can run here and says why. A kernel
    named here that cannot run stops the run."""
    moe: MoeSection | None = None
    """Mixture of experts in place of feed-forward layers (docs/moe.md). Left out: a dense model."""

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding in training: vocab_size rounded up to pad_vocab_size_multiple (resolved model only)."""
        assert self.vocab_size is not None, "padded_vocab_size of a model that is not resolved"
        return -(-self.vocab_size // self.pad_vocab_size_multiple) * self.pad_vocab_size_multiple


class OptimSection(Section):
    """The optimizer."""

    name: Literal["adamw", "muon"] = "muon"
    """Optimizer: AdamW for all parameters, or Muon for the matrices of attention and feed-forward layers and AdamW for the
    rest (docs/optimizers.md)."""
    learning_rate: RateOrAuto = "auto"
    """Peak learning rate, reached after the warm-up; `auto`: what a published fit gives for this model's size and this
    run's length (docs/schedules.md), shown at the start. Muon's step is scaled so that AdamW's rate serves it too."""
    muon_learning_rate: Real | None = Field(default=None, gt=0)
    """Peak learning rate of the matrices that Muon steps. Left out: optim.learning_rate."""
    embedding_learning_rate: Real | None = Field(default=None, gt=0)
    """Peak learning rate of the tables of tokens and positions. Left out: optim.learning_rate."""
    head_learning_rate: Real | None = Field(default=None, gt=0)
    """Peak learning rate of an untied output layer. Left out: optim.learning_rate."""
    vector_learning_rate: Real | None = Field(default=None, gt=0)
    """Peak learning rate of norms and biases. Left out: optim.learning_rate."""
    betas: tuple[Real, Real] = (0.9, 0.95)
    """Decay rates of Adam's first and second moment."""
    eps: Real = Field(default=1e-8, gt=0)
    """Adam's epsilon."""
    weight_decay: Real = Field(default=0.1, ge=0)
    """Decoupled weight decay of matrices, embeddings among them; biases and norms have none."""
    embedding_weight_decay: Real | None = Field(default=None, ge=0)
    """Decoupled weight decay of the tables of tokens and positions. Left out: optim.weight_decay."""
    muon_momentum: Real = Field(default=0.95, ge=0, lt=1)
    """Momentum of Muon."""
    muon_nesterov: Switch = True
    """Whether Muon's momentum looks ahead (Nesterov)."""
    muon_newton_schulz_steps: Whole = Field(default=5, gt=0)
    """Newton-Schulz steps with which Muon orthogonalises a matrix."""
    gradient_clipping: Real = Field(default=1.0, ge=0)
    """Largest global gradient norm; larger gradients are scaled down to it, before Muon too. 0 switches clipping off."""

    @property
    def peak(self) -> float:
        """The peak learning rate (resolved optimizer only)."""
        assert self.learning_rate != "auto", "peak of an optimizer that is not resolved"
        return self.learning_rate

    @field_validator("betas")
    @classmethod
    def _betas_below_one(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"both values must be at least 0 and less than 1, found {list(betas)}")
        return betas


class TrainSection(Section):
    """Length, batch and precision of the training."""

    steps: Whole = Field(gt=0)
    """Optimizer steps of the run."""
    global_batch_tokens: Whole | None = Field(default=None, gt=0)
    """Tokens an optimizer step sees, over all ranks. Give this or global_batch_size. Neither: what a published fit gives
    for so many steps (docs/schedules.md)."""
    global_batch_size: Whole | None = Field(default=None, gt=0)
    """Sequences an optimizer step sees, over all ranks. Give this or global_batch_tokens."""
    batch_ramp: tuple[BatchRampStage, ...] = ()
    """Smaller global batches at the start of the run, each up to a step or a number of tokens; then the full one."""
    micro_batch_size: Whole = Field(default=8, gt=0)
    """Sequences in one forward pass on one GPU. Gradient accumulation follows from it and the world size."""
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    """Number format of the model's arithmetic. Gradients are accumulated in fp32 in any case."""
    activation_checkpointing: Switch = False
    """Whether blocks are computed again in the backward pass instead of kept: less memory, about a third more work."""
    recomputed_layers: Whole | tuple[Whole, ...] | None = None
    """Which blocks activation_checkpointing computes again: a number n for every n-th (n, 2n …, counted from 1), or a list
    of indices (from 0). Left out: all."""
    compile: Literal["off", "auto", "blocks"] = "auto"
    """`torch.compile` of the blocks in training (docs/speed.md). `auto` compiles on CUDA where a compiler is found and the
    ZeRO stage is not 3, and says why where it does not; `blocks` compiles or stops the run; `off` never does."""
    kernels: Literal["torch", "liger"] = "torch"
    """Kernels of RMSNorm and SwiGLU: torch's, or Liger-Kernel's Triton ones on CUDA (package liger-kernel). Not with compiled
    blocks, which fuse both by themselves."""
    z_loss_coef: Real = Field(default=0.0, ge=0)
    """Weight of the z-loss in training, the mean square of logsumexp(logits) over the targets, which keeps logits small (PaLM
    takes 1e-4). Reported losses are without it. 0 switches it off."""
    initial_weights: str | None = None
    """A run, or one of its checkpoints, whose weights the training starts from instead of drawn ones. A mixture of experts
    may start from a dense run: each expert as a copy of its feed-forward layer (upcycling)."""
    branch_from: Path | None = None
    """A checkpoint of a wsd run before its decay, `runs/x/checkpoints/step-00004000`: this run goes on from it with
    weights, optimizer state and place in the data, and decays from there to train.steps."""
    ep_size: Whole = Field(default=1, gt=0)
    """Expert-parallel size: ranks that share one set of experts (consecutive ranks). Divides the number of ranks and of
    experts; 1: every rank has all experts."""

    def layers_to_recompute(self, num_hidden_layers: int) -> tuple[int, ...]:
        """Indices of the blocks whose activations are not kept."""
        if not self.activation_checkpointing:
            return ()
        if isinstance(self.recomputed_layers, int):
            return tuple(range(self.recomputed_layers - 1, num_hidden_layers, self.recomputed_layers))
        return tuple(range(num_hidden_layers)) if self.recomputed_layers is None else self.recomputed_layers


class EvaluateSection(Section):
    """Evaluation on the valid split, and text samples."""

    every_steps: Whole = Field(default=250, gt=0)
    """Steps between evaluations; one more follows the last step."""
    data: dict[str, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    """Datasets that are evaluated on, prefixes by name: all their documents. Left out: the valid split of what is trained
    on."""
    samples: Whole | None = Field(default=None, gt=0)
    """Samples that are evaluated, shared out over several held-out texts by size. Left out: all."""
    prompts: tuple[str, ...] = DEFAULT_PROMPTS
    """Prompts that the model continues at every evaluation."""
    max_new_tokens: Whole = Field(default=60, gt=0)
    """Tokens generated a prompt."""
    temperature: Real = Field(default=0.8, ge=0)
    """Sampling temperature; 0 always takes the likeliest token."""
    top_k: Whole = Field(default=50, ge=0)
    """Sample among this many likeliest tokens; 0 means all."""


class CheckpointSection(Section):
    """Saving."""

    every_steps: Whole = Field(default=500, gt=0)
    """Steps between checkpoints; one more follows the last step."""
    keep_last: Whole = Field(default=3, gt=0)
    """Complete checkpoints kept; older ones are deleted."""


class LogSection(Section):
    """Metrics and where they go."""

    every_steps: Whole = Field(default=10, gt=0)
    """Steps between lines of metrics.jsonl and the console."""
    tensorboard: Switch = True
    """Whether metrics are also written for TensorBoard."""
    swanlab: Switch = False
    """Whether metrics also go to SwanLab (extra `swanlab`)."""
    wandb: Switch = False
    """Whether metrics also go to Weights & Biases (extra `wandb`)."""
    peak_tflops: Real | None = Field(default=None, gt=0)
    """Peak of one device in TFLOPS at train.precision, for MFU. Left out: a listed GPU's, or measured on a CPU; else no MFU."""


class LaunchSection(Section):
    """What the launcher is expected to have started."""

    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to train on; `auto` takes CUDA where there is some."""
    world_size: Whole | None = Field(default=None, gt=0)
    """Number of ranks the run expects. Left out: any number."""
    hosts: Whole | None = Field(default=None, gt=0)
    """Number of hosts the run expects. Left out: any number."""
    timeout_seconds: Whole = Field(default=1800, gt=0)
    """How long a collective waits for a rank before the run ends."""


class RunConfig(Section):
    """All settings of a run that DeepSpeed's JSON does not own."""

    run: RunSection = Field(default_factory=RunSection)
    data: DataSection
    model: ModelSection = Field(default_factory=ModelSection)
    optim: OptimSection = Field(default_factory=OptimSection)
    schedule: ScheduleSection
    train: TrainSection
    evaluate: EvaluateSection = Field(default_factory=EvaluateSection)
    checkpoint: CheckpointSection = Field(default_factory=CheckpointSection)
    log: LogSection = Field(default_factory=LogSection)
    health: HealthSection = Field(default_factory=HealthSection)
    launch: LaunchSection = Field(default_factory=LaunchSection)

    @model_validator(mode="before")
    @classmethod
    def _fill_warmup(cls, values: Any) -> Any:
        return default_warmup_steps(values)

    @model_validator(mode="after")
    def _sections_fit_together(self) -> "RunConfig":
        problems = cross_section_problems(self)
        if problems:
            raise ValueError("\n".join(problems))
        return self
