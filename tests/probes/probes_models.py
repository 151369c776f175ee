"""Probes of models and tokenisers: what a folder or an architecture may hold."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers as tf
from helper import (
    SMALL,
    byte_tokenizer,
    collate,
    encode,
    llama,
    load_model,
    model,
    parse_methods,
    rows,
    run,
    sensitivity,
    task,
)
from safetensors.torch import load_file, save_file
from tokenizers import processors

GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 258, "bos_token_id": 256, "eos_token_id": 257}
COST = {"tasks": None, "suite": "cost", "train_documents": 8, "limit": 1, "max_length": 32}


def S3() -> None:
    """MoE and fused bases: methods train different blocks, unsaid."""
    task()
    sparse = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8}
    model("moe", tf.Qwen3MoeConfig(**SMALL, **sparse, mlp_only_layers=[0]))
    model("phi3", tf.Phi3Config(**SMALL, pad_token_id=257))
    for method in parse_methods("lora,adalora,molora"):
        net = method.attach(load_model("moe", "float32", "cpu")[0], {}, 10)
        trained = [n for n, p in net.named_parameters() if p.requires_grad and ".mlp." in n]
        print(method.name, sorted({n.split("layers.")[1].split(".lora_")[0].split(".smoe_")[0] for n in trained}))
    run(model="phi3", methods="lora,molora")


def S8() -> None:
    """Tokeniser that closes every text."""
    tokenizer = byte_tokenizer()
    closing = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 257)])
    tokenizer.backend_tokenizer.post_processor = closing
    example = encode(tokenizer, "t", "It is", " blue", 64)
    print(repr(tokenizer.decode(example.ids[-example.answer_tokens :])), "for ' blue'")
    task()
    model("eos", tokenizer=tokenizer)
    run(model="eos")


def S14() -> None:
    """Weights that lack; no weights."""
    task()
    model("cut")
    file = "cut/model.safetensors"
    kept = {name: tensor for name, tensor in load_file(file).items() if "layers.1." not in name}
    save_file(kept, file, metadata={"format": "pt"})
    run(model="cut")
    Path(file).unlink()
    run(model="cut")


def S16() -> None:
    """Prompts longer than the model's positions."""
    config = llama()
    config.max_position_embeddings = 64
    model("short", config)
    task(test=[r | {"q": "word " * 40 + r["q"]} for r in rows(20, 100)])
    r = run(model="short")[0]
    print(r.costs["evaluate"].tokens, "tokens on record, at most", 20 * 3 * 64, "read;", r.data["t"])


def S17() -> None:
    """Learned positions: facts about the router hang on the batch."""
    model("gpt2", tf.GPT2Config(**GPT2))
    net, tokenizer = load_model("gpt2", "float32", "cpu")
    method = parse_methods("molora:num_experts=3:target_modules=c_attn")[0]
    examples = [encode(tokenizer, "e", "A prompt" + " long" * 3 * i, f" answer {i}", 256) for i in range(4)]

    def samples(n):
        return {"e": [collate(examples[i : i + n], 257) for i in range(0, 4, n)]}

    net = method.attach(net, samples(4), 4).eval()
    for p in net.parameters():
        if p.requires_grad:
            p.data.normal_(std=0.5)
    for n in (4, 1):
        print(n, [v["load"] for v in method.observe(net, samples(n))["router"]["e"].values()])


def S18() -> None:
    """Vision tower."""
    task()
    vision = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "image_size": 28, "patch_size": 14,
    }  # fmt: skip
    tokens = {"mm_tokens_per_image": 4, "boi_token_index": 250, "eoi_token_index": 251, "image_token_index": 252}
    model("vl", tf.Gemma3Config(text_config=SMALL | {"head_dim": 8}, vision_config=vision, **tokens))
    r = run(model="vl", methods="lora-smoe:r=2:mean_experts=1")[0]
    print(sum("vision" in block for block in r.facts["experts"]), "blocks of the vision tower have experts")
    run(model="vl", **COST)


def S20() -> None:
    """Linear layers that are none; outputs changed in place."""
    x = torch.arange(8)[None]
    batches = {"t": [{"input_ids": x, "labels": x}]}
    falcon = {"vocab_size": 258, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    for name, config in (
        ("phimoe", tf.PhimoeConfig(**SMALL, num_local_experts=4)),
        ("falcon", tf.FalconConfig(**falcon)),
    ):
        try:
            sensitivity(tf.AutoModelForCausalLM.from_config(config), batches, target_modules="all-linear")
            print(name, "ok")
        except Exception as error:
            print(name, type(error).__name__, str(error)[:70])


def S24() -> None:
    """Unfinished scores of other weights are gone on with."""
    x = torch.arange(8)[None]
    samples = {name: [{"input_ids": x + k, "labels": x + k}] for name, k in (("a", 0), ("b", 9))}
    unfinished: list = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        net = tf.AutoModelForCausalLM.from_config(llama())
        resume = unfinished[0] if unfinished else None
        result = sensitivity(net, samples, after_task=unfinished.append, resume=resume)
        print(result.scores["a"]["model.layers.0.mlp.up_proj"])


def C1() -> None:
    """What a look at tokeniser, config and documents would refuse."""
    task()
    run(model=model("nosp", tokenizer=tf.PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer().backend_tokenizer)))
    padded = byte_tokenizer()
    padded.add_special_tokens({"pad_token": "[PAD]"})
    run(model=model("pad", tokenizer=padded))
    long = rows(40)
    long[7]["choices"] = ["z" * 300] * 3
    task(long)
    run(train_documents=40, methods="lora:r=2:alpha=4,frozen")
    task([r | {"gold": float(r["gold"])} for r in rows(40)])
    run()
    run(model=model("gpt2", tf.GPT2Config(**GPT2)), methods="lora:target_modules=c_attn", **COST)
