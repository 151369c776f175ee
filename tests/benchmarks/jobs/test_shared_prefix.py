"""Every log-likelihood is lm-eval's own, from one pass a document."""

import random

import pytest
import torch
import transformers as tf
from families import FAMILIES, RECURRENT, config

from benchmarks.jobs.evaluate import Wrapped
from benchmarks.jobs.shared_prefix import Row, Scorer, allowed, rows_of, tensors
from benchmarks.models.attention import masked
from benchmarks.models.load import TINY, load

# What mixes tokens in another way than by attention to positions that a mask can name.
OTHERS = {"bloom": "does not take the mask", "mamba": "linear_attention", "qwen3_next": "linear_attention"}
VOCABULARY = 256  # of the byte tokeniser; every family has these ids
WINDOW = 24  # tokens, of the families whose attention slides: soon full
LENGTH = 100  # tokens that a request may have


def documents(seed=0, count=12):
    """Requests as lm-eval makes them: choices that share a context, and contexts that share a beginning."""
    rng = random.Random(seed)

    def text(low, high):
        return tuple(rng.choices(range(VOCABULARY), k=rng.randint(low, high)))

    requests = []
    for number in range(count):
        context = text(1, 60)
        if number % 3 == 2:  # WinoGrande's way: two contexts, one continuation
            end = text(1, 9)
            requests += [((*context, *text(1, 3)), end) for _ in range(2)]
        else:
            requests += [(context, text(1, 12)) for _ in range(4)]
    requests.append((text(1, 5), (7,)))
    requests.append((requests[0][0], (9,)))
    requests += [(requests[-1][0], (token,)) for token in (3, 4, 5)]  # one input, three continuations
    return [*requests, (text(95, 99), text(8, 12))]  # too long: cut from the left


@pytest.fixture(scope="module")
def tokenizer():
    return load(TINY, "float32", "cpu")[1]


def own_wrapper(model, tokenizer, requests, scorer="lm-eval"):
    lm = Wrapped(model, tokenizer, 4, lambda done, total: None, scorer)
    lm._max_length = LENGTH
    return lm._loglikelihood_tokens([(("", ""), list(c), list(e)) for c, e in requests]), lm


def family(name):
    """Make a model of the family with larger weights and short windows, so that a wrong mask shows."""
    made = config(name)
    text = made.get_text_config()
    for attribute in {"initializer_range", "init_std"} & set(vars(text)):
        setattr(text, attribute, 0.3)
    if getattr(text, "sliding_window", None):
        text.sliding_window = WINDOW
    if "sliding_attention" in (getattr(text, "layer_types", None) or ()):
        text.layer_types = ["sliding_attention", "full_attention"]
    torch.manual_seed(0)
    return tf.AutoModelForCausalLM.from_config(made, attn_implementation="eager").eval()


@pytest.mark.parametrize("name", sorted(FAMILIES | RECURRENT))
def test_a_family_gets_lm_evals_own_loglikelihoods_or_its_own_wrapper(name, tokenizer):
    model = family(name)
    requests = documents()
    expected, _ = own_wrapper(model, tokenizer, requests)
    answers, lm = own_wrapper(model, tokenizer, requests, "shared-prefix")
    if name in OTHERS:
        assert lm.scorer.startswith("lm-eval: ") and OTHERS[name] in lm.scorer
    else:
        assert lm.scorer == "shared-prefix"
    for (value, likeliest), (wanted, wanted_likeliest) in zip(answers, expected, strict=True):
        assert value == pytest.approx(wanted, abs=1e-3) and likeliest == wanted_likeliest


def test_a_model_is_put_back_as_it_was(tokenizer):
    model, _ = load(TINY, "float32", "cpu")
    hooks = dict(model.get_output_embeddings()._forward_pre_hooks)
    own_wrapper(model, tokenizer, documents(), "shared-prefix")
    assert model.config._attn_implementation == "eager"
    assert dict(model.get_output_embeddings()._forward_pre_hooks) == hooks


def test_soft_caps_are_not_left_to_sdpa():
    with masked(family("gemma2")) as model:
        assert model.config._attn_implementation == "eager"


def test_what_requests_have_in_common_is_read_once():
    context = tuple(range(20))
    rows, targets = rows_of([(context, (30, 31)), (context, (40,)), (context, (50, 51, 52)), ((9,), (8,))], 100)
    # Of a continuation the last token is only predicted; one of a single token needs its context alone.
    assert [(row.inputs, row.prefix) for row in rows] == [
        ([(*context, 30), context, (*context, 50, 51)], 20),
        ([(9,)], 1),
    ]
    assert [row.width for row in rows] == [23, 1]
    assert [rows[t.row].columns(t.index, len(t.tokens)) for t in targets] == [[19, 20], [19], [19, 21, 22], [0]]


def test_rows_and_their_mask_by_hand():
    rows = [Row([(1, 2, 3), (1, 2, 4, 5)], 2), Row([(6, 7)], 2)]
    ids, positions, parts = tensors(rows)
    assert ids.tolist() == [[1, 2, 3, 4, 5], [6, 7, 0, 0, 0]]
    assert positions[0].tolist() == [0, 1, 2, 2, 3] and parts.tolist() == [[0, 0, 1, 2, 2], [0, 0, -1, -1, -1]]
    mask = allowed(positions, parts)[0, 0].int().tolist()
    assert mask == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 0, 1, 0], [1, 1, 0, 1, 1]]
    near = allowed(positions, parts, window=2)[0, 0].int().tolist()
    assert near == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 1, 0, 1, 0], [0, 0, 0, 1, 1]]


def test_a_batch_holds_no_more_tokens_than_its_budget_and_the_longest_come_first():
    model, _ = load(TINY, "float32", "cpu")
    shapes = []
    handle = model.model.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    done = []
    requests = documents(count=30)
    Scorer(model, 256).loglikelihoods(requests, LENGTH, lambda n, total: done.append((n, total)))
    handle.remove()
    assert len(shapes) > 5 and all(rows * width <= 256 or rows == 1 for rows, width in shapes)
    assert [width for _, width in shapes] == sorted((width for _, width in shapes), reverse=True)
    assert done[-1] == (len(requests), len(requests))


def test_the_trial_sees_a_wrong_mask_beyond_the_window():
    model = family("mistral")
    scorer = Scorer(model, 256)
    assert scorer.refusal(LENGTH, VOCABULARY) is None
    scorer._mask = lambda positions, parts: scorer._additive(allowed(positions, parts))  # as if nothing slid
    assert "logits" in scorer.refusal(LENGTH, VOCABULARY)
    assert scorer.refusal(WINDOW, VOCABULARY) is None  # no request reaches beyond it


def test_an_adapter_is_scored_with_its_experts(tokenizer):
    from baselines.methods.molora import MoLora

    torch.manual_seed(0)
    model = MoLora().attach(load(TINY, "float32", "cpu")[0], {}, 4).eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    expected, _ = own_wrapper(model, tokenizer, documents())
    answers, lm = own_wrapper(model, tokenizer, documents(), "shared-prefix")
    assert lm.scorer == "shared-prefix" and lm.tokens < sum(len(c) + len(e) for c, e in documents())
    assert [a for a, _ in answers] == pytest.approx([a for a, _ in expected], abs=1e-3)
    with model.disable_adapter():
        without, _ = own_wrapper(model, tokenizer, documents(), "shared-prefix")
    assert without != answers
