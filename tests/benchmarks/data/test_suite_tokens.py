"""For every suite and tokeniser: the ids of a training example are those that lm-eval's wrapper feeds to the model."""

from __future__ import annotations

import functools

import datasets
import pytest
import torch
from hub_repositories import made_up_repositories
from tokenisers import HABITS, VOCABULARY, network

from benchmarks import registry
from benchmarks.data import hub, sources
from benchmarks.data.embedded import EMBEDDED
from benchmarks.data.examples import encode
from benchmarks.data.tasks import is_written, task_objects, training_docs, training_pairs
from benchmarks.jobs.evaluate import Wrapped
from benchmarks.models.tokeniser import prepared

DOCUMENTS = 2  # of each task
LONGEST = 16384  # bytes of a document
SCORED = [s for s in registry.suites().values() if s.name in ("commonsense", "nlu", "knowledge", "mixed", "math")]


class StandIn(Wrapped):
    """Keeps what would go into the model, which computes nothing."""

    def __init__(self, tokenizer):
        super().__init__(network(LONGEST), tokenizer, 1, lambda done, total: None)
        self.fed = set()

    def _model_call(self, inps, *args, **kwargs):
        self.fed |= {tuple(row) for row in inps.tolist()}
        return torch.zeros(*inps.shape, VOCABULARY)

    def _model_generate(self, context, max_length, stop, **kwargs):
        self.fed |= {tuple(row) for row in context.tolist()}
        return torch.cat([context, torch.full((len(context), 1), self.eot_token_id)], dim=1)


@functools.cache
def embedded(tasks):
    return sources.splits("embedded", tasks)


@pytest.fixture(scope="module", params=[(s.name, p) for s in SCORED for p in s.protocols], ids="-".join)
def tasks(request, tmp_path_factory):
    """Tasks of a suite under a protocol whose documents to train on are those to evaluate on."""
    suite, protocol = registry.suites()[request.param[0]], request.param[1]
    if set(suite.tasks) <= EMBEDDED.keys():
        splits = embedded(suite.tasks)
    else:
        with pytest.MonkeyPatch.context() as patch:
            place = tmp_path_factory.mktemp("hub")
            made_up_repositories(place)
            patch.setenv(hub.COPIES, str(place))
            patch.setattr("datasets.config.HF_DATASETS_CACHE", place / ".cache")
            splits = sources.splits("hub", suite.tasks)
    first = {task: split["train"].select(range(DOCUMENTS)) for task, split in splits.items()}
    return task_objects({t: datasets.DatasetDict(train=d, evaluate=d) for t, d in first.items()}, protocol)


@pytest.mark.parametrize("habit", HABITS)
def test_what_is_trained_is_what_is_fed(tasks, habit):
    tokenizer = prepared(HABITS[habit](), VOCABULARY)
    lm = StandIn(tokenizer)
    for name, task in tasks.items():
        docs, written = training_docs(task), is_written(task)
        task.build_all_requests(rank=0, world_size=1)
        for number, pair in enumerate(training_pairs(task, docs, end=tokenizer.eos_token)):
            asked = [request for request in task.instances if request.doc_id == number]
            assert asked
            lm.fed.clear()
            (lm.generate_until if written else lm.loglikelihood)(asked)
            example = encode(tokenizer, name, *pair, LONGEST, written)
            ids = example.ids[: -example.answer_tokens] if written else example.ids[:-1]
            assert ids in lm.fed, name
            assert not example.truncated and len(lm.fed) <= len(asked)
