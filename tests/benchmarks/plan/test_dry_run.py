"""The dry run: what cannot be trained on or scored is refused before any job, with task and document named."""

from __future__ import annotations

import pytest
from own_task import WRITTEN, described, rows, specs, write_task
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from benchmarks.data.tasks import OWN
from benchmarks.data.training import training_data
from benchmarks.jobs import session
from benchmarks.jobs.session import preflight
from benchmarks.models import load as models


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv(OWN, str(tmp_path / "own"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "own"


def refused(*parts, **options):
    with pytest.raises(ValueError, match=r".") as caught:
        preflight(specs(**options))
    for part in parts:
        assert part in str(caught.value)


def test_a_task_that_can_be_trained_and_scored_passes(folder):
    write_task(folder)
    preflight(specs())
    write_task(folder, extra=WRITTEN + "doc_to_target: '{{choices[gold]}}'\n")
    preflight(specs())


def test_a_dry_run_refuses_bad_data_too_and_only_says_what_is_not_there(folder, monkeypatch, capsys):
    write_task(folder, [r | {"gold": 7} for r in rows(40)])
    with pytest.raises(ValueError, match="task t: no right answer among its choices"):
        preflight(specs(), dry=True)
    monkeypatch.setattr(session, "_check_data", lambda *_: (_ for _ in ()).throw(OSError("no data here")))
    preflight(specs(), dry=True)
    said = capsys.readouterr()
    assert said.err == "not looked at: no data here\n" and said.out == ""


@pytest.mark.parametrize("gold", [-1, 3, None, 1.0, "green"])
def test_a_right_answer_that_is_none_of_the_choices_is_refused(folder, gold):
    test = [r | {"gold": gold} if i == 5 else r for i, r in enumerate(rows(20, 100))]
    if isinstance(gold, str):
        test = [r | {"gold": gold if r["q"] == "Item 105 is" else r["choices"][r["gold"]]} for r in rows(20, 100)]
        write_task(folder, [r | {"gold": r["choices"][r["gold"]]} for r in rows(40)], test)
    elif isinstance(gold, float):
        write_task(folder, *([r | {"gold": r["gold"] + 0.5} for r in rows(20, n)] for n in (0, 100)))
    else:
        write_task(folder, None, test)
    if gold is None or isinstance(gold, float):  # the column is then one of floats
        refused("task t: ", "the document", "Item 1")
    else:
        refused("task t: the right answer", "is none of its 3 choices", "Item 105 is")


def test_a_training_document_without_a_right_answer_is_refused(folder):
    write_task(folder, [r | {"gold": 7} for r in rows(40)])
    refused("task t: no right answer among its choices; in the document", "Item ")


def test_a_choice_without_a_token_is_refused(folder):
    test = rows(20, 100)
    test[3] |= {"choices": ["", "x", "y"]}
    write_task(folder, None, test, extra="target_delimiter: ''\n")
    refused("task t: ", "an answer of 0 tokens", "Item 103")


@pytest.mark.parametrize(
    ("metric", "code", "message"),
    [
        ("mcc", "", "metric 'mcc' is computed over the whole set; the tables need one that is a mean over documents"),
        ("f1", "", "metric 'f1' is computed over the whole set"),
        ("brier_score", "", "of metric 'brier_score' lower is better"),
    ],
)
def test_a_metric_that_is_no_mean_over_documents_is_refused_by_name(folder, metric, code, message):
    write_task(folder, extra=f"metric_list: [{{metric: {metric}}}]\n", code=code)
    refused(f"task t: {message}")


def test_perplexity_and_ones_own_metric_are_refused_by_name(folder):
    likelihood = "output_type: loglikelihood\ndoc_to_choice: null\ndoc_to_target: '{{choices[gold]}}'\n"
    write_task(folder, extra=likelihood + "metric_list: [{metric: perplexity}]\n")
    refused("task t: of metric 'perplexity' lower is better")
    mine = "metric_list: [{metric: !function utils.mine, aggregation: mean, higher_is_better: true}]\n"
    write_task(folder, extra=mine, code="def mine(items): return 1.0\n")
    refused("task t: ", "mine")


def test_an_answer_longer_than_what_is_read_is_refused_with_the_length_it_takes(folder):
    train = rows(40)
    train[7] |= {"choices": ["z" * 300] * 3}
    write_task(folder, train)
    refused("task t: an answer of 301 tokens does not fit max_length 256; it takes 302 or more (--max-length)",
            "zzzz", train_documents=40)  # fmt: skip
    preflight(specs(train_documents=40, max_length=512))


def test_an_answer_to_be_written_that_leaves_no_room_is_refused(folder):
    long = 'doc_to_target: "{{choices[gold]}}"\ngeneration_kwargs: {until: ["\\n"], max_gen_toks: 4000}\n'
    write_task(folder, extra=WRITTEN + long)
    refused("task t: max_gen_toks 4000 leaves no room for a prompt in the 2048 positions of the model")


def test_a_prompt_of_digits_is_refused_since_lm_eval_takes_it_for_an_index(folder):
    columns = [{"n": "1", "choices": ["a", "b"], "gold": i % 2, "k": i} for i in range(60)]
    write_task(folder, columns[:40], columns[40:], extra="doc_to_text: '{{n}}'\n")
    refused("task t: the prompt is a number alone, which lm-eval takes for the index of a choice")


def test_an_empty_prompt_is_trained_behind_the_prefix_token_and_refused_where_it_is_to_be_continued(folder):
    write_task(folder, extra="doc_to_text: ''\n")
    preflight(specs())
    assert all(e.ids[0] == 256 for e in described()[1]["t"])
    write_task(folder, extra=WRITTEN + "doc_to_text: ''\ndoc_to_target: '{{choices[gold]}}'\n")
    refused("task t: no token stands before the answer")


def test_of_several_right_answers_the_first_is_trained(folder):
    train = [{"q": f"C{i}?", "a": [f"x{i}", "y"]} for i in range(40)]
    write_task(folder, train, [{"q": f"D{i}?", "a": ["z"]} for i in range(20)], extra=WRITTEN + "doc_to_target: a\n")
    _, tokenizer = models.load("tiny", "float32", "cpu")
    told = [tokenizer.decode(e.ids) for e in described()[1]["t"]]
    assert all(text.startswith("C") and text.removesuffix("</s>").split("? ")[1][0] == "x" for text in told)


KEEP = "def keep(d): return d.filter(lambda x: x['ok'])\n"
MORE = """import datasets
def more(d):
    return datasets.Dataset.from_list([{**x, 'q': f'{i}: ' + x['q']} for x in d for i in range(3)])
"""


def test_limit_counts_and_all_hold_after_the_tasks_own_processing(folder):
    write_task(folder, extra="process_docs: !function utils.more\n", code=MORE)
    objects, examples, description = described(train_documents=None, limit=None, profile="full")
    assert len(examples["t"]) == description["t"]["train_documents"] == 120
    assert len(list(objects["t"].eval_docs)) == description["t"]["evaluation_documents"] == 60
    test = [r | {"ok": i > 15} for i, r in enumerate(rows(20, 100))]
    write_task(folder, rows(40, ok=True), test, extra="process_docs: !function utils.keep\n", code=KEEP)
    assert described(limit=3)[2]["t"]["evaluation_documents"] == 3
    assert described(limit=8)[2]["t"]["evaluation_documents"] == 4


def test_a_task_whose_processing_leaves_nothing_is_refused(folder):
    write_task(folder, rows(40, ok=0), rows(20, 100, ok=1), extra="process_docs: !function utils.keep\n", code=KEEP)
    refused("task t: its own processing leaves no training document")


def test_what_trains_nothing_is_refused_unless_nothing_was_asked(folder):
    write_task(folder)
    refused("epochs 0.1 of 16 training documents are no step of 4 documents", epochs=0.1)
    preflight(specs(epochs=0.0))
    preflight(specs(epochs=0.1, methods="frozen"))
    write_task(folder, rows(4000), rows(20, 5000))
    write_task(folder, rows(3, 9000), rows(20, 9100), name="u")
    refused("task u gets none of the 16 training documents with --task-shares proportional",
            tasks="t,u", task_shares="proportional")  # fmt: skip


def test_code_of_a_task_that_fails_is_named_with_its_document(folder):
    write_task(folder, extra="doc_to_text: !function utils.text\n",
               code="def text(doc):\n    return doc['q'] if '103' not in doc['q'] else doc['lacking']\n")  # fmt: skip
    refused("task t: KeyError", "lacking", "Item 103")


def test_documents_longer_than_the_models_positions_are_refused_or_counted(folder, tmp_path):
    config = models._tiny_config()
    config.max_position_embeddings = 64
    LlamaForCausalLM(config).save_pretrained(tmp_path / "short")
    models._byte_tokenizer().save_pretrained(tmp_path / "short")
    write_task(folder, None, [r | {"q": "word " * 40 + r["q"]} for r in rows(20, 100)])
    name = str(tmp_path / "short")
    preflight(specs(model=name))
    (spec,) = specs(model=name)
    _, tokenizer = models.load(name, "float32", "cpu")
    training_data(spec, tokenizer, description := {})
    assert description["t"]["evaluation_truncated"] == 20 and description["t"]["truncated"] == 0
    write_task(folder, [r | {"q": "word " * 40 + r["q"]} for r in rows(40)])
    refused("task t: a training document of", "longer than the 64 positions", "--max-length 64", model=name)


def test_a_tokenizer_with_tokens_beyond_the_embedding_is_refused(folder, tmp_path):
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 100}
    GPT2LMHeadModel(GPT2Config(**sizes)).save_pretrained(tmp_path / "gpt2")
    models._byte_tokenizer().save_pretrained(tmp_path / "gpt2")
    write_task(folder, [r | {"q": f"Ünïcode {r['q']}"} for r in rows(40)])
    refused("task t: the tokenizer makes token", "embeddings for 100", model=str(tmp_path / "gpt2"))


def test_a_long_answer_of_an_embedded_task_is_refused_before_any_job(monkeypatch):
    monkeypatch.delenv(OWN)
    refused("task piqa: an answer of 649 tokens does not fit max_length 256", tasks="piqa", train_documents=None,
            profile="full", limit=4)  # fmt: skip
