"""What is trained is what is evaluated: the ids of an example are those that lm-eval's wrapper feeds to the model."""

from __future__ import annotations

import pytest
import torch
from lm_eval.api.instance import Instance
from tokenisers import BOS, EOS, HABITS, VOCABULARY, network, tokeniser

from benchmarks.data.batches import collate
from benchmarks.data.examples import encode
from benchmarks.jobs.evaluate import Wrapped
from benchmarks.models.tokeniser import prepared
from smoe.gradients import sample_losses

PAIRS = [
    ("Question: is it blue?\nAnswer:", "\nthe correct answer is blue"),
    ("Question: is it blue?\nAnswer:", " yes"),
    ("A sentence with a trailing space ", "no"),
    ("", "an answer alone"),
    ("<s>A context that opens itself:", "\nyes"),
]


@pytest.fixture(params=HABITS, scope="module")
def habit(request):
    return prepared(HABITS[request.param](), VOCABULARY)


class Fed(Wrapped):
    """Keeps what goes into the model, without padding."""

    def __init__(self, tokenizer, size=1):
        super().__init__(network(), tokenizer, size, lambda done, total: None)
        self.inputs = []

    def _model_call(self, inps, *args, **kwargs):
        self.inputs += inps.tolist()
        return super()._model_call(inps, *args, **kwargs)

    def _model_generate(self, context, max_length, stop, **kwargs):
        masks = kwargs["attention_mask"].tolist()
        self.inputs += [row[len(mask) - sum(mask) :] for row, mask in zip(context.tolist(), masks, strict=True)]
        return super()._model_generate(context, max_length, stop, **kwargs)


def scored(lm, context, answer):
    lm.loglikelihood([Instance("loglikelihood", {}, (context, answer), 0)], disable_tqdm=True)
    return lm.inputs.pop()


def written(lm, context):
    asked = (context, {"until": ["\n\n"], "max_gen_toks": 2, "do_sample": False})
    lm.generate_until([Instance("generate_until", {}, asked, 0)], disable_tqdm=True)
    return lm.inputs.pop()


@pytest.mark.parametrize(("context", "answer"), PAIRS)
def test_a_scored_answer_is_trained_on_the_ids_that_are_scored(habit, context, answer):
    example = encode(habit, "t", context, answer, 512)
    assert list(example.ids[:-1]) == scored(Fed(habit), context, answer)
    assert answer.endswith(habit.decode(example.ids[-example.answer_tokens :]).strip())
    assert EOS not in example.ids[1:]  # before an answer alone it stands where there is no BOS


@pytest.mark.parametrize(("context", "answer"), [pair for pair in PAIRS if pair[0]])
def test_a_written_answer_is_trained_behind_the_ids_that_it_is_written_behind(habit, context, answer):
    example = encode(habit, "t", context, answer + "</s>", 512, written=True)
    assert list(example.ids[: -example.answer_tokens]) == written(Fed(habit), context)
    assert habit.decode(example.ids[-example.answer_tokens :]) == answer + "</s>" and example.ids[-1] == EOS
    assert list(example.ids).count(EOS) == 1


def test_a_tokeniser_that_merges_across_the_border_trains_the_line_break_as_the_first_token_written():
    tokenizer = prepared(tokeniser(merges=True), VOCABULARY)
    assert len(tokenizer(":\n")["input_ids"]) == 1
    together = encode(tokenizer, "t", "Answer:", "\nyes", 64)
    apart = encode(tokenizer, "t", "Answer:", "\nyes", 64, written=True)
    assert tokenizer.decode(apart.ids[-apart.answer_tokens :]) == "\nyes"
    assert together.answer_tokens == apart.answer_tokens - 1  # the likelihood's split stays lm-eval's


@pytest.mark.parametrize("is_written", [False, True])
@pytest.mark.parametrize("length", [8, 20, 30])
def test_a_cut_takes_tokens_from_behind_the_prefix_of_what_is_fed(habit, length, is_written):
    context, answer = "A context that is too long:", " yes"
    example = encode(habit, "t", context, answer, length, is_written)
    fed = written(Fed(habit), context) if is_written else scored(Fed(habit), context, answer)
    whole = encode(habit, "t", context, answer, 512, is_written).ids
    assert list(whole[: len(fed)]) == fed
    opening = fed[: fed[0] == BOS]
    assert list(example.ids) == opening + list(whole[len(whole) - length + len(opening) :])
    assert example.truncated and len(example.ids) == length


def test_padding_has_an_embedding_and_moves_no_loss(habit):
    examples = [encode(habit, "t", context, answer, 512) for context, answer in PAIRS]
    net = network()
    assert 0 <= habit.pad_token_id < VOCABULARY
    with torch.no_grad():
        together = sample_losses(net, collate(examples, habit.pad_token_id), "t")
        alone = torch.cat([sample_losses(net, collate([e], habit.pad_token_id), "t") for e in examples])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_an_answer_too_long_beside_the_prefix_names_task_lengths_and_answer(habit):
    with pytest.raises(ValueError, match=r"task t: an answer of 9 tokens does not fit max_length 9; .*123456789"):
        encode(habit, "t", "", "123456789", 9)


def test_a_context_without_a_token_is_refused_as_evaluation_could_not_feed_it():
    tokenizer = prepared(tokeniser(), VOCABULARY)
    with pytest.raises(ValueError, match="no token stands before the answer"):
        encode(tokenizer, "t", "", "yes", 64, written=True)
    with pytest.raises(ValueError, match="no token stands before the answer"):
        encode(tokenizer, "t", " ", "yes", 64)


def test_a_tokeniser_without_bos_and_eos_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"neither a BOS nor an EOS token.*tokenizer_config.json"):
        prepared(tokeniser(bos_token=None, eos_token=None), VOCABULARY)
