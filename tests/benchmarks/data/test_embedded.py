"""The table of embedded layouts: the partition that it gives, to the document, and how groups are read from it."""

from __future__ import annotations

import hashlib

import pytest

from benchmarks.data.documents import fingerprint
from benchmarks.data.embedded import EMBEDDED, Layout, read

HALVES = {  # 16 hex over fingerprint and group of every document to train on, and to evaluate on
    "boolq": ("e8a764aa3a8a9d88", "e07f462f7fa109a0"),
    "piqa": ("e07e534c7667be54", "184805361dbd40d3"),
    "social_iqa": ("efbec217834e332a", "a71eee485ed43cc1"),
    "hellaswag": ("fd443e7016bf46a8", "22f25ed1bfbf90e8"),
    "winogrande": ("9007c4bc75f0d8ad", "4c3e14d59b911fab"),
    "arc_easy": ("8a8c72278214d0d1", "b20f17e1cd4b120c"),
    "arc_challenge": ("d7ade166d3111c04", "c005cd66d8094a6f"),
    "openbookqa": ("2d69e71ec8fe98e9", "0ad9293edfc55c95"),
    "sst2": ("aeb4c6b11db4122e", "b9136bec1c510109"),
    "rte": ("ab82d9f4997703d7", "99e4bcf4446c94a4"),
    "mrpc": ("e408dfdda4006b25", "bf8a8abe6aa17315"),
    "cb": ("8d1ee992b930b1e7", "f877d6807634c674"),
    "copa": ("94ca96a05ec8182e", "2b03391adbd9a1c5"),
    "sciq": ("eb3fc55bb9d1ab7b", "7ad5ad26aacc6c70"),
    "commonsense_qa": ("15dbe37c3e4c01f7", "02c552e42c8dbc87"),
    "mmlu_stem_pooled": ("9837fa9659b4f9a1", "8b82af59c8fa439d"),
    "mmlu_humanities_pooled": ("db2083124371d675", "89af592958e0972e"),
    "mmlu_social_sciences_pooled": ("1e9433edc623d9e5", "c439a3cba328effa"),
    "mmlu_other_pooled": ("41af370aa7df5de0", "da691171af31f9c7"),
}


def digest(layout, docs):
    return hashlib.sha256("\n".join(f"{fingerprint(d)} {layout.text(d)}" for d in docs).encode()).hexdigest()[:16]


@pytest.mark.parametrize("task", EMBEDDED)
def test_every_task_is_cut_where_it_was_cut_when_its_suites_got_their_version(task):
    layout = EMBEDDED[task]
    assert tuple(digest(layout, docs) for docs in read(layout)) == HALVES[task]


@pytest.mark.parametrize(
    ("columns", "group"),
    [(("a",), "x"), (("b", "a"), "w x"), ((("empty", "a"),), "x"), ((("b", "a"),), "w"), ((("empty", "empty"),), "")],
)
def test_a_group_is_the_sorted_text_of_its_columns_and_of_a_list_the_first_that_is_filled(columns, group):
    assert Layout(folder="", sha256="", columns=columns).text({"a": "x", "b": "w", "empty": ""}) == group
