"""The tuner as a PEFT user meets it: save, load, adapters, merging, Trainer, checkpointing, compile, autocast."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys

import pytest
import torch
import transformers as tf
from peft import PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTuner
from safetensors.torch import load_file
from transformers.pytorch_utils import Conv1D

from smoe import SMoEConfig, experts_per_block, find_blocks, parameter_counts, record_routing, smoe_layers

Q = "model.layers.{}.self_attn.q_proj"
PATTERN = {Q.format(0): 3, Q.format(1): 1, "model.layers.0.mlp.up_proj": 2, "model.layers.1.mlp.up_proj": 0}


def base(dtype=torch.float32):
    torch.manual_seed(0)
    config = tf.LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=50, max_position_embeddings=64, pad_token_id=0,
    )  # fmt: skip
    return tf.AutoModelForCausalLM.from_config(config).to(dtype).eval()


def adapted(pattern=PATTERN, dtype=torch.float32, **options):
    model = get_peft_model(base(dtype), SMoEConfig(r=2, expert_pattern=pattern, init_weights=False, **options))
    return model.eval()


IDS = torch.arange(3, 27).reshape(2, 12)
BATCH = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS), "labels": IDS}


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def test_pattern_decides_which_blocks_get_how_many_experts():
    assert experts_per_block(adapted()) == {Q.format(0): 3, "model.layers.0.mlp.up_proj": 2, Q.format(1): 1}


def test_pattern_overrides_num_experts_of_the_targets_and_zero_excludes():
    model = adapted(target_modules=["q_proj", "up_proj", "v_proj"], num_experts=4)
    expected = {Q.format(0): 3, Q.format(1): 1, "model.layers.0.mlp.up_proj": 2}
    v = {f"model.layers.{i}.self_attn.v_proj": 4 for i in (0, 1)}
    assert experts_per_block(model) == expected | v


def test_pattern_of_a_whole_model_is_followed_through_pefts_name_shortening():
    pattern = {block: i % 5 for i, block in enumerate(find_blocks(base()))}
    assert experts_per_block(adapted(pattern)) == {b: e for b, e in pattern.items() if e}


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_default_targets_are_the_seven_projections_or_all_linear(kind):
    model = base()
    if kind == "gpt2":
        model = tf.AutoModelForCausalLM.from_config(tf.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=50))
    blocks = set(find_blocks(model))
    model = get_peft_model(model, SMoEConfig(r=2, num_experts=2))
    assert set(experts_per_block(model)) == blocks and len(blocks) == {"llama": 14, "gpt2": 8}[kind]


def test_zero_b_starts_at_the_base_model():
    plain = logits(base())
    assert torch.equal(logits(get_peft_model(base(), SMoEConfig(r=2, num_experts=3))), plain)


def test_only_adapter_parameters_train_and_each_gets_a_gradient():
    model = adapted()
    model(**BATCH).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == ("smoe_" in name)
        assert (parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)) == ("smoe_" in name), name


def test_parameters_are_counted_as_by_hand():
    counts = parameter_counts(adapted())
    q, up = 2 * (16 + 16), 2 * (16 + 24)
    assert counts == {
        "experts": 3 * q + q + 2 * up,
        "router": 3 * 16 + 2 * 16,
        "active_per_token": 3 * q + q + 2 * up + 5 * 16,
    }
    assert adapted().get_nb_trainable_parameters()[0] == counts["experts"] + counts["router"]
    top = parameter_counts(adapted(top_k=2))
    assert top["active_per_token"] == 2 * q + q + 2 * up + 5 * 16
    shared = parameter_counts(adapted(share_A=True, top_k=1))
    assert shared["experts"] == (2 * 16 + 3 * 2 * 16) + q + (2 * 16 + 2 * 2 * 24)
    assert shared["active_per_token"] == q + q + up + 5 * 16


@pytest.mark.parametrize("options", [{}, {"share_A": True, "top_k": 1, "renormalise": False, "router_init": 0.02}])
def test_saved_adapter_loads_to_the_same_logits(tmp_path, options):
    model = adapted(**options)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(base(), tmp_path)
    assert torch.equal(logits(again), logits(model))
    assert experts_per_block(again) == experts_per_block(model)
    assert not any(p.requires_grad for p in again.parameters())
    config = PeftConfig.from_pretrained(tmp_path)
    assert isinstance(config, SMoEConfig) and config.expert_pattern == PATTERN
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "SMOE"
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert saved.keys() == get_peft_model_state_dict(model).keys()
    assert len(saved) == 6 and all("default" not in key for key in saved)


def test_saved_adapter_loads_in_a_fresh_process_after_importing_smoe(tmp_path):
    model = adapted()
    model.save_pretrained(tmp_path / "adapter")
    base().save_pretrained(tmp_path / "base")
    code = (
        "import sys, torch, smoe, transformers as tf; from peft import PeftModel\n"
        "model = tf.AutoModelForCausalLM.from_pretrained(sys.argv[1] + '/base')\n"
        "model = PeftModel.from_pretrained(model, sys.argv[1] + '/adapter').eval()\n"
        "torch.save(model(input_ids=torch.arange(3, 27).reshape(2, 12)).logits.detach(), sys.argv[1] + '/logits')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    torch.testing.assert_close(torch.load(tmp_path / "logits"), logits(model))


def test_saved_adapter_loads_without_spare_memory_and_trains_on(tmp_path):
    model = adapted()
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(base(), tmp_path, low_cpu_mem_usage=True, is_trainable=True)
    assert torch.equal(logits(again.eval()), logits(model))
    again.train()(**BATCH).loss.backward()
    assert all(p.grad is not None for n, p in again.named_parameters() if "smoe_" in n)


@pytest.mark.parametrize(("bias", "trained"), [("all", 6), ("smoe_only", 2)])
def test_trained_biases_are_saved_or_refused(tmp_path, bias, trained):
    if not hasattr(BaseTuner, "_get_learnable_bias_state_dict"):
        with pytest.raises(ValueError, match="needs a newer PEFT"):
            SMoEConfig(bias=bias)
        return

    def qwen():  # q, k and v have biases
        torch.manual_seed(0)
        config = tf.Qwen2Config(
            hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            vocab_size=50,
        )  # fmt: skip
        return tf.AutoModelForCausalLM.from_config(config).eval()

    model = get_peft_model(qwen(), SMoEConfig(r=2, num_experts=2, target_modules=["q_proj"], bias=bias)).eval()
    biases = [p for n, p in model.named_parameters() if n.endswith(".bias") and p.requires_grad]
    assert len(biases) == trained
    for values in biases:
        torch.nn.init.normal_(values)
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(PeftModel.from_pretrained(qwen(), tmp_path)), logits(model))


def test_transformers_native_adapter_loading_works(tmp_path):
    model = adapted()
    model.save_pretrained(tmp_path)
    native = base()
    native.load_adapter(str(tmp_path))
    torch.testing.assert_close(logits(native), logits(model))


def test_several_adapters_switch_disable_and_delete():
    plain = logits(base())
    model = adapted()
    first = logits(model)
    torch.manual_seed(9)
    other = SMoEConfig(r=3, num_experts=4, target_modules=["q_proj", "v_proj"], init_weights=False)
    model.add_adapter("other", other)
    assert torch.equal(logits(model), first)
    assert not any(p.requires_grad for n, p in model.named_parameters() if ".other" in n)
    model.set_adapter("other")
    second = logits(model)
    assert not torch.equal(second, first)
    assert experts_per_block(model, "other") == {f"model.layers.{i}.self_attn.{p}": 4 for i in (0, 1) for p in ("q_proj", "v_proj")}  # fmt: skip  # noqa: E501
    assert all(p.requires_grad == (".other" in n) for n, p in model.named_parameters() if "smoe_" in n)
    with model.disable_adapter():
        assert torch.equal(logits(model), plain)
    model.set_adapter("default")
    assert torch.equal(logits(model), first)
    model.delete_adapter("other")
    assert not any("other" in n for n, _ in model.named_parameters())
    assert torch.equal(logits(model), first)
    torch.testing.assert_close(logits(model.unload()), plain, rtol=0, atol=0)


def test_different_adapters_within_a_batch_are_refused():
    model = adapted()
    for call in (model, model.generate):
        with pytest.raises(ValueError, match="adapter_names"):
            call(input_ids=IDS, adapter_names=["default", "__base__"])
    assert model.get_model_status().enabled and model.get_model_status().num_adapter_layers == 3


def test_saving_one_of_several_adapters_keeps_them_apart(tmp_path):
    model = adapted()
    model.add_adapter("other", SMoEConfig(r=3, num_experts=4, target_modules=["q_proj"], init_weights=False))
    model.save_pretrained(tmp_path)
    model.set_adapter("other")
    expected = logits(model)
    again = PeftModel.from_pretrained(base(), tmp_path / "other")
    assert torch.equal(logits(again), expected)


def test_merging_one_expert_per_block_is_exact():
    model = adapted(dict.fromkeys(find_blocks(base()), 1))
    expected = logits(model)
    merged = copy.deepcopy(model).merge_and_unload(safe_merge=True)
    assert not smoe_layers(merged) and type(merged).__name__ == "LlamaForCausalLM"
    torch.testing.assert_close(logits(merged), expected)
    model.merge_adapter()
    torch.testing.assert_close(logits(model), expected)
    model.unmerge_adapter()
    with model.disable_adapter():
        torch.testing.assert_close(logits(model), logits(base()))


def test_merging_gpt2s_transposed_blocks_is_exact():
    torch.manual_seed(0)
    gpt2 = tf.AutoModelForCausalLM.from_config(tf.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50)).eval()
    model = get_peft_model(gpt2, SMoEConfig(r=2, num_experts=1, init_weights=False)).eval()
    assert isinstance(next(iter(smoe_layers(model).values())).base_layer, Conv1D)
    expected = logits(model)
    torch.testing.assert_close(logits(model.merge_and_unload()), expected)


def test_merging_where_a_router_decides_names_the_blocks_and_changes_nothing():
    model = adapted()
    expected = logits(model)
    for merge in (model.merge_and_unload, model.merge_adapter):
        with pytest.raises(ValueError, match=f"2 blocks .*{Q.format(0)}, model.layers.0.mlp.up_proj$"):
            merge()
    assert torch.equal(logits(model), expected)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(use_reentrant):
    gradients = []
    for checkpointing in (False, True):
        model = adapted(lora_dropout=0.0).train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
            model.enable_input_require_grads()
        model(**BATCH).loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)


def test_torch_compile_gives_the_same_logits_without_graph_breaks():
    model = adapted(top_k=2)
    compiled = torch.compile(copy.deepcopy(model), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(input_ids=IDS).logits.detach(), logits(model))


COMPILER = shutil.which("g++") or shutil.which("clang++")
INDUCTOR = pytest.mark.skipif(COMPILER is None, reason="inductor needs a C++ compiler")


@pytest.mark.parametrize("options", [{}, {"top_k": 1, "balance_loss": 0.5}, {"share_A": True}])
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=[pytest.mark.slow, INDUCTOR])])
def test_torch_compile_trains_as_without(backend, options):
    runs = []
    for compiled in (False, True):
        torch.compiler.reset()
        model = adapted(lora_dropout=0.0, **options).train()
        forward = torch.compile(model, backend=backend) if compiled else model
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        losses = []
        for _ in range(2):
            optimizer.zero_grad()
            loss = forward(**BATCH).loss
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        runs.append(losses + [p.grad for p in model.parameters() if p.requires_grad])
    torch.testing.assert_close(runs[1], runs[0], rtol=1e-4, atol=1e-6)


def test_autocast_trains_fp32_adapters_in_bf16():
    model = adapted().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**BATCH).loss
    loss.backward()
    assert all(p.grad.dtype == torch.float32 for p in model.parameters() if p.requires_grad)


def test_bf16_base_has_fp32_adapters_unless_told_otherwise():
    assert {p.dtype for n, p in adapted(dtype=torch.bfloat16).named_parameters() if "smoe_" in n} == {torch.float32}
    config = SMoEConfig(r=2, num_experts=2)
    model = get_peft_model(base(torch.bfloat16), config, autocast_adapter_dtype=False)
    assert {p.dtype for n, p in model.named_parameters() if "smoe_" in n} == {torch.bfloat16}
    model(**BATCH).loss.backward()


def test_generation_works():
    model = adapted()
    tokens = model.generate(input_ids=IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=3, do_sample=False)
    assert tokens.shape == (2, 15)


def test_trainer_lowers_the_loss_and_saves_the_adapter(tmp_path):
    torch.manual_seed(0)
    model = get_peft_model(base(), SMoEConfig(r=4, num_experts=3, balance_loss=0.01))
    rows = [{"input_ids": row, "labels": row} for row in IDS.tolist() * 2]
    arguments = tf.TrainingArguments(
        output_dir=str(tmp_path), max_steps=12, per_device_train_batch_size=2, learning_rate=3e-2, logging_steps=1,
        report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    collate = tf.default_data_collator
    trainer = tf.Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collate)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0] - 0.1
    trainer.save_model(str(tmp_path / "adapter"))
    again = PeftModel.from_pretrained(base(), tmp_path / "adapter").eval()
    torch.testing.assert_close(logits(again), logits(model.eval()))


@pytest.mark.parametrize("micro", [1, 2, 4])
def test_balance_loss_does_not_grow_with_gradient_accumulation(tmp_path, micro):
    torch.manual_seed(0)
    coefficient = 100.0
    config = SMoEConfig(r=2, num_experts=3, balance_loss=coefficient, lora_dropout=0.0, router_init=0.0)
    model = get_peft_model(base(), config)
    rows = [{"input_ids": row, "labels": row} for row in IDS.tolist() * 4][:4]
    arguments = tf.TrainingArguments(
        output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=4 // micro,
        gradient_accumulation_steps=micro, logging_steps=1, report_to=[], save_strategy="no", use_cpu=True,
        disable_tqdm=True,
    )  # fmt: skip
    trainer = tf.Trainer(model=model, args=arguments, train_dataset=rows, data_collator=tf.default_data_collator)
    trainer.train()
    logged = trainer.state.log_history[0]["loss"]
    plain = model.eval()(input_ids=IDS, labels=IDS).loss.item()
    assert logged == pytest.approx(plain + coefficient, abs=1.0)  # an even router: the Switch loss is 1


def test_balance_loss_is_added_once_and_only_while_training():
    model = adapted(lora_dropout=0.0, balance_loss=0.5)
    tuner = model.base_model
    plain = model(**BATCH).loss
    assert tuner.take_balance_loss() is None
    model.train()
    unlabelled = {name: BATCH[name] for name in ("input_ids", "attention_mask")}
    model(**unlabelled)
    balance = tuner.take_balance_loss()
    assert 0.5 <= balance.item() < 1.5 and tuner.take_balance_loss() is None
    with_labels = model(**BATCH).loss
    assert with_labels.item() == pytest.approx(plain.item() + balance.item(), rel=1e-5)
    assert tuner.take_balance_loss() is None, "already in the loss: the harness must not add it again"
    balance.backward()
    assert all(layer.smoe_A["default"].grad.abs().sum() > 0 for layer in smoe_layers(model).values() if layer.experts["default"] > 1)  # fmt: skip  # noqa: E501
    with torch.no_grad():
        model(**unlabelled)
    assert tuner.take_balance_loss() is None
    assert not model.unload()._forward_hooks


def test_balance_loss_does_not_see_padding():
    model = adapted(lora_dropout=0.0, balance_loss=1.0).train()
    short = {"input_ids": IDS[:, :7], "attention_mask": torch.ones(2, 7, dtype=torch.long)}
    model(**short)
    expected = model.base_model.take_balance_loss()
    padded = {name: torch.nn.functional.pad(value, (0, 5)) for name, value in short.items()}
    model(**padded)
    torch.testing.assert_close(model.base_model.take_balance_loss(), expected)


def test_balance_loss_trains_through_checkpointing_or_says_what_to_do():
    gradients = []
    for checkpointing in (None, False, True):
        model = adapted(lora_dropout=0.0, balance_loss=0.5).train()
        model.enable_input_require_grads()
        if checkpointing is not None:
            model.gradient_checkpointing_enable({"use_reentrant": checkpointing})
        if checkpointing:
            with pytest.raises(RuntimeError, match="'use_reentrant': False"):
                model(**BATCH)
            return
        model(**BATCH).loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
        if len(gradients) == 2:
            for plain, again in zip(*gradients, strict=True):
                torch.testing.assert_close(plain, again)


def test_routing_report_masks_padding_and_counts_by_hand():
    model = adapted(lora_dropout=0.0)
    with record_routing(model) as report:
        model(input_ids=IDS[:, :7], attention_mask=torch.ones(2, 7, dtype=torch.long))
    mask = torch.nn.functional.pad(torch.ones(2, 7, dtype=torch.long), (0, 5))
    padded = torch.nn.functional.pad(IDS[:, :7], (0, 5))
    for options in ({"attention_mask": mask}, {}):
        with record_routing(model, pad_token_id=0) as masked:
            model(input_ids=padded, **options)
        assert masked.blocks.keys() == {Q.format(0), "model.layers.0.mlp.up_proj"}
        for block, expected in report.blocks.items():
            found = masked[block]
            assert found.tokens == expected.tokens == 14
            assert found.load == pytest.approx(expected.load) and sum(found.load) == pytest.approx(1)
            assert found.chosen == expected.chosen and sum(found.chosen) == pytest.approx(1)
            assert found.entropy == pytest.approx(expected.entropy) and 0 < found.entropy <= 1
    with record_routing(model, pad_token_id=0) as left:
        model(input_ids=padded.flip(1))
    assert left[Q.format(0)].tokens == 14
    json.dumps(left.to_json())


def test_routing_report_finds_dead_experts_and_top_k_loads():
    model = adapted(top_k=1)
    layer = smoe_layers(model)[Q.format(0)]
    with torch.no_grad():
        layer.smoe_A["default"][-3:] = 0
        # All tokens tie, so the first expert is chosen by all: two experts of three are dead.
    with record_routing(model) as report:
        model(input_ids=IDS)
    assert report[Q.format(0)].dead == 2
    assert sorted(report[Q.format(0)].load) == pytest.approx([0, 0, 1])
    assert report[Q.format(0)].entropy == pytest.approx(1)


def test_routing_is_recorded_while_generating_with_a_cache():
    model = adapted()
    mask = torch.ones_like(IDS)
    mask[0, :4] = 0
    with record_routing(model) as report:
        model.generate(input_ids=IDS, attention_mask=mask, max_new_tokens=3, min_new_tokens=3, do_sample=False)
    assert report[Q.format(0)].tokens == 20 + 2 * 2
    assert not model.base_model.routing.active and not model.base_model.routing.seen


def test_recording_while_training_with_balance_loss_changes_nothing():
    model = adapted(lora_dropout=0.0, balance_loss=0.5).train()
    plain = model(**BATCH).loss
    with record_routing(model) as report:
        recorded = model(**BATCH).loss
        model(**BATCH)
    assert torch.equal(plain, recorded)
    assert report[Q.format(0)].tokens == 48


def test_model_without_adapter_is_refused():
    with pytest.raises(ValueError, match="no smoe adapter"), record_routing(base()):
        pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r": 0}, "r must be"),
        ({"num_experts": 0}, "num_experts must be"),
        ({"expert_pattern": {"x": -1}}, r"expert_pattern\['x'\]"),
        ({"top_k": 0}, "top_k must be"),
        ({"lora_dropout": 1.0}, "lora_dropout must"),
        ({"balance_loss": -1.0}, "balance_loss must"),
        ({"router_init": "zeros"}, "router_init must"),
    ],
)
def test_impossible_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        SMoEConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"expert_pattern": {"model.layers.7.mlp.up_proj": 2}}, "does not have, e.g. model.layers.7.mlp.up_proj"),
        ({"expert_pattern": {Q.format(0): 0}}, "no block an expert"),
        ({"target_modules": ["embed_tokens"]}, "model.embed_tokens is a Embedding, not a linear layer"),
    ],
)
def test_impossible_targets_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        get_peft_model(base(), SMoEConfig(**options))


def test_importing_twice_registers_once():
    code = (
        "import importlib, smoe; from smoe import registration; importlib.reload(registration); registration.register()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
