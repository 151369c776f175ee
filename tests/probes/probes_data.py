"""Probes of data: documents, prompts, answers and the split."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import datasets
import PIL.Image
from helper import (
    GENERATE,
    collate,
    encode,
    fingerprint,
    load_model,
    rows,
    run,
    sensitivity,
    sources,
    task,
    task_objects,
    training_docs,
    training_pairs,
)

PARQUET = "dataset_path: parquet\ndataset_kwargs: {data_files: {train: a.parquet, test: b.parquet}}\n"
KEEP = "def keep(d): return d.filter(lambda x: x['ok'])\n"


def S1() -> None:
    """Image column: each job draws other documents, and the leak check finds nothing."""
    features = datasets.Features(
        {
            "q": datasets.Value("string"),
            "choices": datasets.List(datasets.Value("string")),
            "gold": datasets.Value("int64"),
            "image": datasets.Image(),
        }
    )
    task(extra=PARQUET)
    for name, count in (("a", 40), ("b", 60)):
        documents = [r | {"image": PIL.Image.new("RGB", (2, 2), (i, 0, 0))} for i, r in enumerate(rows(count))]
        datasets.Dataset.from_list(documents, features=features).to_parquet(f"t/{name}.parquet")
    for r in run(methods="lora:r=2:alpha=4,frozen"):
        print({k: r.data["t"][k] for k in ("train_hash", "evaluation_hash", "train_documents")})


def S7() -> None:
    """Documents are counted and cut before the task's own processing."""
    more = "import datasets\ndef more(d): return datasets.Dataset.from_list("
    more += "[{**x, 'q': f'{i}: ' + x['q']} for x in d for i in range(3)])\n"
    task(extra="process_docs: !function utils.more\n", code=more)
    r = run(train_documents=None, limit=None, profile="full")[0]
    print(r.data["t"], "scored", r.scores["t"].count, "there were 120 training documents")
    train = [row | {"ok": 1} for row in rows(40)]
    test = [row | {"ok": i > 15} for i, row in enumerate(rows(20, 100))]
    task(train, test, "process_docs: !function utils.keep\n", KEEP)
    r = run(limit=8)[0]
    print(r.data and r.data["t"]["evaluation_documents"], "on record")
    run(limit=3)


def S9() -> None:
    """A choice without tokens always wins, or ends the job after training."""
    for word in ("x", "big"):
        for gold in (0, 1):
            test = [r | {"choices": ["", word], "gold": gold} for r in rows(20, 100)]
            test[0] |= {"choices": ["y", word]}
            k = 0
            while min(test, key=fingerprint) is not test[0]:  # it is the first one scored
                k += 1
                test[0]["q"] = f"Item {k}: is"
            task([r | {"choices": ["y", "x"], "gold": 0} for r in rows(40)], test, "target_delimiter: ''\n")
            run(methods="frozen")


def S10() -> None:
    """Several right answers."""
    train = [{"q": f"C{i}?", "a": [f"x{i}", "y"]} for i in range(40)]
    task(train, [{"q": f"D{i}?", "a": ["z"]} for i in range(20)], GENERATE + "doc_to_target: a\n")
    loaded = task_objects(sources.splits("embedded", ("t",)))["t"]
    print(training_pairs(loaded, training_docs(loaded)[:1], "</s>"))


def S11() -> None:
    """Empty prompts."""
    net, tokenizer = load_model("tiny", "float32", "cpu")
    prompts = ["", "", "A longer prompt", "A longer prompt"]
    examples = [encode(tokenizer, "e", prompt, f" answer {i}", 64) for i, prompt in enumerate(prompts)]
    for n in (1, 4):
        v = sensitivity(net, {"e": [collate(examples[i : i + n], 257) for i in range(0, 4, n)]}).values["e"]
        print("batch", n, v[next(iter(v))][:2])
    task(extra="doc_to_text: ''\n")
    run()


def S12() -> None:
    """Files of the working directory are read in place of the task's."""
    task(extra="dataset_kwargs: {data_files: {train: data/tr-*.jsonl, test: data/te-*.jsonl}}\n")
    for folder, first in (("t/data", 0), ("data", 1000)):
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, start in (("tr-0.jsonl", 0), ("te-0.jsonl", 100)):
            Path(folder, name).write_text("".join(json.dumps(r) + "\n" for r in rows(20, start + first)))
    print(sources.splits("embedded", ("t",))["t"]["train"]["q"][:2], "read; the task's own are Item 0 to 19")
    shutil.rmtree("data")
    try:
        sources.splits("embedded", ("t",))
    except Exception as error:
        print(type(error).__name__, "without them")


def S13() -> None:
    """Hidden golds."""
    task(test=[r | {"gold": -1} for r in rows(20, 100)])
    run()
    task(test=[r | {"gold": None if i == 5 else r["gold"]} for i, r in enumerate(rows(20, 100))])
    run()


def S21() -> None:
    """Prompts of digits."""
    train = [{"n": "1", "choices": ["a", "b"], "gold": i % 2, "k": i} for i in range(40)]
    test = [{"n": "1", "choices": ["a", "b"], "gold": i % 2, "k": i} for i in range(100, 120)]
    task(train, test, "doc_to_text: '{{n}}'\n")
    loaded = task_objects(sources.splits("embedded", ("t",)))["t"]
    print(training_pairs(loaded, training_docs(loaded)[:2]))
    run()


def S22() -> None:
    """Symbols do not count in the leak check."""
    sums = [(a, o, b) for a in range(9) for b in range(5) for o in "+-*"]
    train = [{"q": f"{a} {o} {b} =", "choices": ["1", "2"], "gold": 0} for a, o, b in sums]
    test = [{"q": f"{a} / {b} =", "choices": ["1", "2"], "gold": 0} for a in range(1, 9) for b in range(5)]
    task(train, test)
    r = run(train_documents=None, profile="full")[0]
    print(r.data["t"]["train_documents"], "of 135 training documents left, none is in the test set")


def C2() -> None:
    """Features of the data set are lost; JSON of mixed types."""
    features = datasets.Features({"q": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    task(
        extra=PARQUET + "process_docs: !function utils.add\ndoc_to_choice: [neg, pos]\ndoc_to_target: text\n",
        code="def add(d):\n    name = d.features['label'].int2str\n"
        "    return d.map(lambda x: {'text': name(x['label'])})\n",
    )
    for name, start in (("a", 0), ("b", 100)):
        documents = [{"q": f"Q {i}", "label": i % 2} for i in range(start, start + 40)]
        datasets.Dataset.from_list(documents, features=features).to_parquet(f"t/{name}.parquet")
    run()
    task([r | {"meta": {"a": 1} if i % 2 else "x"} for i, r in enumerate(rows(40))])
    try:
        run()
    except Exception as error:
        print(type(error).__name__, str(error)[:60])
