"""Model names -> a causal language model and its tokeniser, on a device in a dtype, all weights frozen.

`smollm2-135m` is the embedded model, `tiny` a random two-layer Llama for tests, `random:<name>` a published
architecture with random weights (architectures.py); anything else is a GGUF file, a local folder or a hub id
for `AutoModelForCausalLM`. Weights load from safetensors or GGUF only, and a repository's own code runs only when asked
for.
"""

from __future__ import annotations

import copy
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from benchmarks.models import architectures, assets
from benchmarks.models.attention import EAGER, off_the_cpu
from benchmarks.models.remote import patiently
from benchmarks.models.tokeniser import prepared
from results.names import unknown

EMBEDDED = "smollm2-135m"
TINY = "tiny"
VOCABULARY = 49152  # of the embedded model's tokeniser
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
QUANTIZE = ("none", "4bit", "8bit")
RANDOM = architectures.PREFIX


def check(name: str) -> None:
    """Raise ValueError for a name that is neither built in, nor a path, nor shaped like a hub id."""
    if name.startswith(RANDOM):
        architectures.config(name)
        return
    if name in (EMBEDDED, TINY) or Path(name).expanduser().exists():
        return
    if name.endswith(".gguf") or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise unknown("model (or no such folder or file)", name, (EMBEDDED, TINY))


def check_quantize(quantize: str, device: str) -> None:
    """Raise ValueError for an unknown way to quantise, or where bitsandbytes cannot work."""
    if quantize not in QUANTIZE:
        raise unknown("quantize", quantize, QUANTIZE)
    if quantize != "none" and device != "cuda":
        raise ValueError(f"quantize {quantize!r} needs a CUDA device; this run is on {device!r}")
    if quantize != "none" and importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(f"quantize {quantize!r} needs bitsandbytes: pip install bitsandbytes")


def needs_embedded(name: str) -> bool:
    """Whether the model is the embedded one or takes its tokeniser."""
    return name == EMBEDDED or (name.startswith(RANDOM) and architectures.config(name).vocab_size >= VOCABULARY)


def load(
    name: str,
    dtype: str,
    device: str,
    quantize: str = "none",
    trust_remote_code: bool = False,
    revision: str | None = None,
) -> tuple[PreTrainedModel, Any]:
    """Load the frozen model in evaluation mode, and its tokeniser with a padding token.

    Attention is "eager" on a CPU, where it is about a third faster than SDPA forward and backward at the lengths of
    these tasks, and SDPA elsewhere (attention.py) where a model has it. quantize: "4bit" is QLoRA's NF4 with double
    quantisation, "8bit" LLM.int8().
    revision: commit of a hub model.
    """
    model = weights(name, dtype, device, quantize, trust_remote_code, revision)
    return model, load_tokenizer(name, model, trust_remote_code, revision)


def weights(
    name: str,
    dtype: str,
    device: str,
    quantize: str = "none",
    trust_remote_code: bool = False,
    revision: str | None = None,
) -> PreTrainedModel:
    """Load the model alone, as `load` does: one with random weights then needs no file at all."""
    check(name)
    check_quantize(quantize, device)
    attention = EAGER if device == "cpu" else off_the_cpu(skeleton(name, trust_remote_code))
    kwargs: dict[str, Any] = dict(dtype=DTYPES[dtype], attn_implementation=attention)
    stored = dict(use_safetensors=True, trust_remote_code=trust_remote_code, **_quantized(quantize, dtype, device))
    if name == TINY or name.startswith(RANDOM):
        torch.manual_seed(0)  # the same "pretrained" weights in every job
        with torch.device("cpu" if name == TINY else device):
            model = AutoModelForCausalLM.from_config(_config(name), **kwargs)
        if quantize != "none":
            with tempfile.TemporaryDirectory() as folder:
                model.save_pretrained(folder)
                model = AutoModelForCausalLM.from_pretrained(folder, **stored, **kwargs)
    else:
        options: dict[str, Any] = dict(revision=revision, output_loading_info=True, **stored, **kwargs)
        made: Any = patiently(lambda: AutoModelForCausalLM.from_pretrained(_folder(name), **options))
        model, told = made
        _refuse_lacking(name, told)
    model.requires_grad_(False)
    model.config.use_cache = False  # generation asks for one by itself; training would only copy keys and values
    if (head := model.get_output_embeddings()) is not None:
        # A slice of the last positions is not contiguous, and torch then multiplies batch by batch with a copy of the
        # whole vocabulary matrix for each: more time than the rest of a small model.
        head.register_forward_pre_hook(lambda _, args: (args[0].contiguous(), *args[1:]))
    ready: PreTrainedModel = model.eval() if quantize != "none" else model.eval().to(device)
    return ready


def twin(model: PreTrainedModel) -> PreTrainedModel:
    """Return the same model once more, which shares its weights: what is attached to the one is not to the other."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})


def load_tokenizer(
    name: str, model: PreTrainedModel, trust_remote_code: bool = False, revision: str | None = None
) -> Any:
    """Load a model's tokeniser, prepared for its embedding; the model may lie on the "meta" device.

    Raises ValueError where there is none, or none that training and evaluation can use.
    """
    try:
        if name == TINY or name.startswith(RANDOM):
            made: Any = (
                AutoTokenizer.from_pretrained(assets.embedded_model()) if needs_embedded(name) else _byte_tokenizer()
            )
        else:
            options = dict(trust_remote_code=trust_remote_code, revision=revision)
            made = patiently(lambda: AutoTokenizer.from_pretrained(_folder(name), **options))
        if not made("a", add_special_tokens=False)["input_ids"]:
            raise ValueError("no tokenizer is there")
    except Exception as error:  # of any file of the folder that is none
        raise ValueError(
            f"model {name!r} has no tokenizer that can be read ({str(error).splitlines()[0]}); "
            "put one beside its weights with tokenizer.save_pretrained(folder)"
        ) from error
    embedding: Any = model.get_input_embeddings()
    rows = embedding.weight.shape[0]
    try:
        return prepared(made, rows, getattr(model.config.get_text_config(), "max_position_embeddings", None))
    except ValueError as error:
        raise ValueError(f"model {name!r}: {error}") from error


def _refuse_lacking(name: str, told: Any) -> None:
    """Raise ValueError where the files lack weights, which would be random. told: transformers' account of loading."""
    if lacking := sorted(told["missing_keys"]):
        raise ValueError(
            f"the files of model {name!r} lack {len(lacking)} weights, such as {lacking[0]}: they would be random; "
            "complete the folder (see its *.safetensors.index.json) or choose another model"
        )


def count(model: torch.nn.Module, trainable: bool = False) -> int:
    """Parameters of a model, or those that are trained; weights packed two a byte count as two."""
    return sum(
        p.numel() * (2 * p.element_size() if type(p).__name__ == "Params4bit" else 1)
        for p in model.parameters()
        if p.requires_grad or not trainable
    )


def skeleton(name: str, trust_remote_code: bool = False) -> PreTrainedModel:
    """Build the model without weights, on the "meta" device: its blocks and shapes, in no time and no memory.

    Raises ValueError for a model that is neither here nor to be had, AssetError for the embedded one.
    """
    try:
        if name == TINY or name.startswith(RANDOM):
            config = _config(name)
        else:
            config = patiently(lambda: AutoConfig.from_pretrained(_folder(name), trust_remote_code=trust_remote_code))
    except (OSError, ValueError) as error:
        raise ValueError(f"model {name!r}: {error}") from error
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)


def _quantized(quantize: str, dtype: str, device: str) -> dict[str, Any]:
    if quantize == "none":
        return {}
    if quantize == "8bit":
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=DTYPES[dtype],
        )
    return dict(quantization_config=config, device_map={"": device})


def _folder(name: str) -> str:
    if name == EMBEDDED:
        return str(assets.embedded_model())
    if name.startswith("~"):  # as records name what lies below the home folder
        name = str(Path(name).expanduser())
    if Path(name).is_file() and name.endswith(".gguf"):
        return str(assets.converted(Path(name)))
    return name


def _config(name: str) -> Any:
    return _tiny_config() if name == TINY else architectures.config(name)


def _tiny_config() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=architectures.BYTES,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=256,
        eos_token_id=257,
        tie_word_embeddings=True,
    )


def _byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte: no vocabulary to ship, any text encodes and decodes exactly."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="</s>")
