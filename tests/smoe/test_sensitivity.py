"""Sensitivity against one-sample-at-a-time autograd, per block, over architectures, padding and batch sizes."""

from __future__ import annotations

import math

import pytest
import torch
import transformers as tf
from oracles import sensitivity_of_samples

from smoe import Sensitivity, find_blocks, sensitivity

VOCAB = 61
SMALL = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCAB,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ARCHITECTURES = {
    "llama": lambda: tf.LlamaConfig(**SMALL),
    "qwen2": lambda: tf.Qwen2Config(**SMALL),
    "qwen3": lambda: tf.Qwen3Config(**SMALL, head_dim=6),
    "mistral": lambda: tf.MistralConfig(**SMALL, sliding_window=None),
    "gemma": lambda: tf.GemmaConfig(**SMALL, head_dim=6),
    "phi3": lambda: tf.Phi3Config(**SMALL),
    "gpt_neox": lambda: tf.GPTNeoXConfig(**{k: v for k, v in SMALL.items() if k != "num_key_value_heads"}),
    "opt": lambda: tf.OPTConfig(
        hidden_size=24, ffn_dim=40, num_hidden_layers=2, num_attention_heads=4, vocab_size=VOCAB, pad_token_id=0,
        word_embed_proj_dim=24, max_position_embeddings=64,
    ),
    "gpt2": lambda: tf.GPT2Config(n_embd=24, n_layer=2, n_head=4, vocab_size=VOCAB, n_positions=64),
    "mixtral": lambda: tf.MixtralConfig(**SMALL, num_local_experts=4, num_experts_per_tok=2),
}  # fmt: skip
BLOCKS_PER_LAYER = {"phi3": 4, "gpt_neox": 4, "opt": 6, "gpt2": 4, "mixtral": 4}


def tiny(name: str, **changes) -> torch.nn.Module:
    torch.manual_seed(0)
    config = ARCHITECTURES[name]()
    for key, value in changes.items():
        setattr(config, key, value)
    model = tf.AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():  # initial weights are so small that every gradient would look alike
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    return model.eval()


def drawn_samples(seed: int = 0, lengths=(9, 5, 12, 7, 12)) -> list[tuple[list[int], list[int]]]:
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for length in lengths:
        tokens = torch.randint(3, VOCAB, (length,), generator=generator).tolist()
        answer = int(torch.randint(1, length - 2, (), generator=generator))
        samples.append((tokens, [-100] * (length - answer) + tokens[length - answer :]))
    return samples


def batched(samples, size: int, side: str = "right") -> list[dict[str, torch.Tensor]]:
    batches = []
    for start in range(0, len(samples), size):
        chunk = samples[start : start + size]
        width = max(len(tokens) for tokens, _ in chunk)
        rows = []
        for tokens, labels in chunk:
            pad = width - len(tokens)
            triple = [(tokens, 0), ([1] * len(tokens), 0), (labels, -100)]
            rows.append([[fill] * pad + v if side == "left" else v + [fill] * pad for v, fill in triple])
        names = ("input_ids", "attention_mask", "labels")
        batches.append({n: torch.tensor([row[i] for row in rows]) for i, n in enumerate(names)})
    return batches


def assert_equal_values(measured: Sensitivity, expected, relative: float = 1e-5, task: str = "t") -> None:
    for block, values in expected.items():
        assert list(measured.values[task][block]) == pytest.approx(values, rel=relative, abs=1e-12), block


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_scores_equal_autograd_one_sample_at_a_time(name, side):
    model, samples = tiny(name), drawn_samples()
    blocks = list(find_blocks(model))
    assert len(blocks) == 2 * BLOCKS_PER_LAYER.get(name, 7)
    measured = sensitivity(model, {"t": batched(samples, 3, side)})
    assert list(measured.scores["t"]) == blocks
    assert_equal_values(measured, sensitivity_of_samples(model, blocks, samples))
    assert all(score > 0 for score in measured.scores["t"].values())


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_batch_size_and_padding_do_not_change_scores(size, side):
    model, samples = tiny("llama"), drawn_samples()
    one = sensitivity(model, {"t": batched(samples, 1)})
    many = sensitivity(model, {"t": batched(samples, size, side)})
    assert_equal_values(many, one.values["t"])
    assert many.metadata["data"] == one.metadata["data"]


@pytest.mark.parametrize("name", ["llama", "opt", "mixtral"])
def test_reference_engine_equals_gram_engine(name):
    model, probe = tiny(name), {"t": batched(drawn_samples(), 2)}
    assert_equal_values(sensitivity(model, probe), sensitivity(model, probe, engine="reference").values["t"])


class GatheredExperts(torch.nn.Module):
    """A mixture whose experts are linear layers; each is called, by keyword, with the tokens sent to it, last first."""

    def __init__(self, width: int, experts: int, everything_to_all: bool) -> None:
        super().__init__()
        self.everything_to_all = everything_to_all
        self.router = torch.nn.Linear(width, experts, bias=False)
        self.experts = torch.nn.ModuleList(torch.nn.Linear(width, width, bias=False) for _ in range(experts))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.reshape(-1, x.shape[-1])
        gates = torch.softmax(self.router(tokens), -1)
        best = gates.argmax(-1)
        y = torch.zeros_like(tokens)
        for e, expert in enumerate(self.experts):
            sent = torch.arange(len(tokens)) if self.everything_to_all else (best == e).nonzero().squeeze(1)
            sent = sent.flip(0)
            y = y.index_add(0, sent, gates[sent, e, None] * expert(input=tokens[sent]))
        return y.reshape(x.shape)


@pytest.mark.parametrize("everything_to_all", [False, True])
@pytest.mark.parametrize("mode", ["paper", "released"])
def test_experts_that_see_gathered_tokens_are_scored_sample_by_sample(everything_to_all, mode):
    model, samples = tiny("llama"), drawn_samples()
    for layer in model.model.layers:
        layer.mlp = GatheredExperts(24, 3, everything_to_all)
        for parameter in layer.mlp.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    blocks = [f"model.layers.{i}.mlp.experts.{e}" for i in (0, 1) for e in range(3)] + list(
        find_blocks(model, ["q_proj"])
    )
    probe = {"t": batched(samples, 3, "left")}
    if mode == "paper":
        with pytest.warns(UserWarning, match=r"layers\.0\.mlp\.experts\.\d does not see .* scored one at a time"):
            measured = sensitivity(model, probe, target_modules=blocks)
        assert_equal_values(measured, sensitivity_of_samples(model, blocks, samples))
    else:
        measured = sensitivity(model, probe, target_modules=blocks, mode=mode)
        reference = sensitivity(model, probe, target_modules=blocks, mode=mode, engine="reference")
        assert_equal_values(measured, reference.values["t"], relative=5e-3)


def test_llama_shares_a_pass_among_samples():
    model, passes = tiny("llama"), []
    model.model.embed_tokens.register_forward_hook(lambda *_: passes.append(1))
    sensitivity(model, {"t": batched(drawn_samples(), 5)})
    assert len(passes) == 1


def test_a_block_called_by_an_unknown_keyword_is_refused_by_name():
    odd = torch.nn.Linear(24, 40)
    odd.forward = lambda *, states: torch.nn.Linear.forward(odd, states)
    model = tiny("llama")
    model.model.layers[1].mlp.up_proj = odd
    model.model.layers[1].mlp.forward = lambda x: model.model.layers[1].mlp.up_proj(states=x)[..., :24]
    with pytest.raises(ValueError, match=r"layers\.1\.mlp\.up_proj is called with \['states'\] only"):
        sensitivity(model, {"t": batched(drawn_samples(), 2)})


def test_long_samples_use_the_gradient_form_and_agree():
    # 60 tokens: T (I + O) > I O for every block of this width.
    model, samples = tiny("llama"), drawn_samples(lengths=(60, 50))
    blocks = list(find_blocks(model))
    measured = sensitivity(model, {"t": batched(samples, 2)})
    assert_equal_values(measured, sensitivity_of_samples(model, blocks, samples))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_gives_the_same_scores(use_reentrant):
    model, probe = tiny("llama"), {"t": batched(drawn_samples(), 3)}
    plain = sensitivity(model, probe)
    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    model.train()
    calls = []
    model.model.layers[0].self_attn.q_proj.register_forward_hook(lambda *_: calls.append(1))
    assert_equal_values(sensitivity(model, probe), plain.values["t"])
    assert len(calls) == 2 * len(probe["t"]), "layers were not recomputed: checkpointing was off"


@pytest.mark.parametrize("name", ["llama", "opt"])
def test_dropout_is_off_while_scoring(name):
    model = tiny(name, attention_dropout=0.5, dropout=0.5)
    probe = {"t": batched(drawn_samples(), 3)}
    expected = sensitivity(model, probe)
    model.train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    assert_equal_values(sensitivity(model, probe), expected.values["t"])


def test_model_is_left_as_it_was():
    model, probe = tiny("llama"), {"t": batched(drawn_samples(), 3)}
    model.train()
    model.lm_head.eval()
    model.model.norm.weight.requires_grad_(False)
    kept = model.model.layers[0].mlp.up_proj.weight
    kept.grad = torch.ones_like(kept)
    flags = {n: p.requires_grad for n, p in model.named_parameters()}
    modes = {n: m.training for n, m in model.named_modules()}
    weights = {n: p.clone() for n, p in model.named_parameters()}
    for engine in ("gram", "reference"):
        sensitivity(model, probe, engine=engine)
        assert {n: p.requires_grad for n, p in model.named_parameters()} == flags
        assert {n: m.training for n, m in model.named_modules()} == modes
        assert all(torch.equal(p, weights[n]) for n, p in model.named_parameters())
        assert torch.equal(kept.grad, torch.ones_like(kept))
        assert not any(m._forward_hooks for m in model.modules())
        assert [n for n, p in model.named_parameters() if p.grad is not None] == ["model.layers.0.mlp.up_proj.weight"]


def test_an_interrupt_leaves_the_model_as_it_was():
    model = tiny("llama")
    flags = [p.requires_grad for p in model.parameters()]

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sensitivity(model, {"t": batched(drawn_samples(), 2)}, progress=interrupt)
    assert [p.requires_grad for p in model.parameters()] == flags
    assert not any(m._forward_hooks for m in model.modules())


@pytest.mark.parametrize("mode", ["paper", "released"])
def test_an_interrupted_pass_goes_on_where_it_was(tmp_path, mode):
    model, probe = tiny("llama"), {t: batched(drawn_samples(i), 2) for i, t in enumerate("abc")}
    options = {"mode": mode, "metadata": {"shapes": (1, 2)}}
    whole = sensitivity(model, probe, **options)
    kept = tmp_path / "kept.json"

    def interrupt(done: int, total: int) -> None:
        if done > 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sensitivity(model, probe, progress=interrupt, after_task=lambda found: found.save(kept), **options)
    unfinished, seen = Sensitivity.load(kept), []
    assert list(unfinished.values) == ["a", "b"] == list(unfinished.samples)
    again = sensitivity(model, probe, resume=unfinished, progress=lambda d, t: seen.append((d, t)), **options)
    assert again == whole and seen == [(12, 15), (14, 15), (15, 15)]
    assert sensitivity(model, probe, resume=whole, **options) == whole


def test_unfinished_scores_of_another_pass_are_refused_with_what_differs():
    model, probe = tiny("llama"), {"t": batched(drawn_samples(), 5)}
    kept = sensitivity(model, probe, metadata={"seed": 0})
    with pytest.raises(ValueError, match="another pass: mode, seed differ"):
        sensitivity(model, probe, mode="released", metadata={"seed": 1}, resume=kept)
    with pytest.raises(ValueError, match="another pass: data differ"):
        sensitivity(model, {"t": batched(drawn_samples(1), 5)}, metadata={"seed": 0}, resume=kept)
    with pytest.raises(ValueError, match="another pass: blocks differ"):
        sensitivity(model, probe, target_modules=["q_proj"], metadata={"seed": 0}, resume=kept)


def test_bf16_weights_score_close_to_fp32():
    model, probe = tiny("llama"), {"t": batched(drawn_samples(), 3)}
    exact = sensitivity(model, probe).scores["t"]
    rounded = sensitivity(model.to(torch.bfloat16), probe).scores["t"]
    assert all(math.isclose(rounded[b], exact[b], rel_tol=0.15) for b in exact)


def test_tiny_gradients_do_not_vanish_in_bf16():
    model, probe = tiny("llama"), {"t": batched(drawn_samples(), 3)}
    with torch.no_grad():
        model.lm_head.weight *= 1e-6
    scores = sensitivity(model.to(torch.bfloat16), probe).scores["t"]
    assert all(0 < score < 1e-8 for score in scores.values())


def test_tasks_are_scored_apart_and_progress_counts_samples():
    model, a, b = tiny("llama"), drawn_samples(0), drawn_samples(1)
    seen = []
    both = sensitivity(model, {"a": batched(a, 2), "b": batched(b, 5)}, progress=lambda d, t: seen.append((d, t)))
    assert seen == [(2, 10), (4, 10), (5, 10), (10, 10)]
    assert both.samples == {"a": 5, "b": 5}
    assert_equal_values(both, sensitivity(model, {"b": batched(b, 5)}).values["b"], task="b")


def test_released_mode_clips_per_layer_and_takes_layers_in_turn_descending():
    model, samples = tiny("llama"), drawn_samples(lengths=(9, 6))
    measured = sensitivity(model, {"t": batched(samples, 2)}, mode="released")
    paper = sensitivity(model, {"t": batched(samples, 2)}).values["t"]
    for layer, sample in ((1, 0), (0, 1)):
        blocks = [b for b in paper if f"layers.{layer}." in b]
        assert all(len(measured.values["t"][b]) == 1 for b in blocks)
        clip = min(1.0, 1 / (sum(paper[b][sample] for b in blocks) ** 0.5 + 1e-6)) ** 2
        for b in blocks:
            assert measured.scores["t"][b] == pytest.approx(paper[b][sample] * clip, rel=0.02, abs=1e-3), b
        assert sum(measured.scores["t"][b] for b in blocks) <= 1.01


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_released_mode_scores_every_layer_with_any_number_of_samples(count):
    model, samples = tiny("llama"), drawn_samples()[:count]
    measured = sensitivity(model, {"t": batched(samples, 2)}, mode="released")
    reference = sensitivity(model, {"t": batched(samples, 2)}, mode="released", engine="reference")
    assert sum(len(v) for v in measured.values["t"].values()) == 7 * max(count, 2)
    for block, value in reference.scores["t"].items():
        assert measured.scores["t"][block] == pytest.approx(value, rel=5e-3, abs=1e-5)


def test_released_mode_loses_small_gradients_to_fp16():
    model = tiny("llama")
    with torch.no_grad():
        model.lm_head.weight *= 1e-5
    probe = {"t": batched(drawn_samples(), 2)}
    assert min(sensitivity(model, probe).scores["t"].values()) > 0
    assert max(sensitivity(model, probe, mode="released").scores["t"].values()) == 0


def test_spread_and_first_samples_are_those_of_the_values():
    model, samples = tiny("llama"), drawn_samples()
    measured = sensitivity(model, {"t": batched(samples, 5)})
    block = next(iter(measured.scores["t"]))
    values = measured.values["t"][block]
    mean = sum(values) / 5
    assert measured.scores["t"][block] == pytest.approx(mean)
    assert measured.spread["t"][block] == pytest.approx(math.sqrt(sum((v - mean) ** 2 for v in values) / 4))
    error = measured.spread["t"][block] / math.sqrt(5) / mean
    assert measured.relative_error["t"][block] == pytest.approx(error)
    few = measured.first(2)
    assert_equal_values(few, sensitivity(model, {"t": batched(samples[:2], 2)}).values["t"])
    assert few.samples == {"t": 2}
    assert measured.first(1).spread["t"][block] is measured.first(1).relative_error["t"][block] is None


def test_artefact_survives_saving_and_refuses_other_files(tmp_path):
    measured = sensitivity(tiny("llama"), {"t": batched(drawn_samples(), 5)}, metadata={"seed": 7})
    measured.save(tmp_path / "scores.json")
    again = Sensitivity.load(tmp_path / "scores.json")
    assert again == measured
    assert again.metadata["seed"] == 7 and again.metadata["model"] == "LlamaForCausalLM"
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match="not a sensitivity artefact"):
        Sensitivity.load(tmp_path / "other.json")
    (tmp_path / "cut.json").write_text('{"format": ')
    with pytest.raises(ValueError, match="not JSON"):
        Sensitivity.load(tmp_path / "cut.json")
    (tmp_path / "half.json").write_text('{"format": "smoe-sensitivity-1", "values": {}}')
    with pytest.raises(ValueError, match="lacks samples, mode, metadata"):
        Sensitivity.load(tmp_path / "half.json")
    assert not list(tmp_path.glob("*.draft"))


def test_a_sample_without_an_answer_is_refused_with_its_task():
    batch = batched(drawn_samples(), 2)[0]
    batch["labels"][1] = -100
    with pytest.raises(ValueError, match=r"piqa: sample 1 .* no answer token"):
        sensitivity(tiny("llama"), {"piqa": [batch]})


def test_fused_experts_are_refused_by_name():
    with pytest.raises(ValueError, match=r"model\.layers\.0\.mlp\.experts is a MixtralExperts"):
        find_blocks(tiny("mixtral"), ["q_proj", "experts"])
    with pytest.raises(ValueError, match=r"model\.layers\.0\.mlp\.experts\.down_proj is a parameter"):
        find_blocks(tiny("mixtral"), ["down_proj"])


def test_an_unknown_target_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'query' matches no module; linear layers of this model: .*q_proj"):
        find_blocks(tiny("llama"), ["q_proj", "query"])


def test_tied_blocks_are_refused():
    model = tiny("llama")
    first, second = (layer.self_attn for layer in model.model.layers)
    second.q_proj.weight = first.q_proj.weight
    with pytest.raises(ValueError, match=r"layers.0.self_attn.q_proj and model.layers.1.self_attn.q_proj share"):
        sensitivity(model, {"t": batched(drawn_samples(), 2)})


def test_a_block_called_twice_is_refused():
    model = tiny("llama")
    model.model.layers[1].self_attn = model.model.layers[0].self_attn
    with pytest.raises(ValueError, match="called twice"):
        sensitivity(model, {"t": batched(drawn_samples(), 2)})


def test_a_block_that_is_not_called_scores_zero():
    model = tiny("llama")
    model.model.layers[0].extra_proj = torch.nn.Linear(4, 4)
    scores = sensitivity(model, {"t": batched(drawn_samples(), 2)}, target_modules=["extra_proj", "q_proj"]).scores["t"]
    assert scores["model.layers.0.extra_proj"] == 0 < scores["model.layers.0.self_attn.q_proj"]


@pytest.mark.parametrize("options", [{"mode": "fast"}, {"engine": "loop"}])
def test_unknown_mode_or_engine_is_refused(options):
    with pytest.raises(ValueError, match="must be one of"):
        sensitivity(tiny("llama"), {"t": batched(drawn_samples(), 2)}, **options)


def test_fused_experts_that_get_no_block_are_named_in_a_warning():
    model = tf.AutoModelForCausalLM.from_config(ARCHITECTURES["mixtral"]())
    with pytest.warns(UserWarning, match=r"fused expert parameters .*model\.layers\.0\.mlp\.experts"):
        find_blocks(model)


@pytest.mark.parametrize("mode", ["paper", "released"])
def test_a_gradient_that_is_not_finite_is_refused_with_the_width_of_its_batch(mode):
    model = tiny("llama")
    block = next(reversed(find_blocks(model).values()))
    block.register_full_backward_pre_hook(lambda module, grads: (grads[0] * float("nan"),))
    with pytest.raises(
        FloatingPointError, match=r"a, block model.layers.\S+: the gradient is not finite .* of \d+ tokens"
    ):
        sensitivity(model, {"a": batched(drawn_samples(), 5)}, mode=mode)
