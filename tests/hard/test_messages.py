"""Every command line: what it is given, how it ends and what it says; no traceback, no file written by a refusal.

`{records}` and the like are folders and files of the test; a message is looked for in what goes to stderr (2) or out.
"""

from __future__ import annotations

import runpy
import shlex
import sys
import warnings

import pytest
from synthetic_records import make_failed, make_record

from benchmarks.__main__ import COMMANDS, WHERE
from results.store import Store

DONE, WORSE, REFUSED = 0, 1, 2
RUN = [
    ("--suite comonsense", "unknown suite 'comonsense'; did you mean commonsense? known: commonsense, cost"),
    ("--methods molorra", "unknown method 'molorra'; did you mean molora"),
    ("--methods lora:rank=4", "unknown hyperparameter of lora 'rank'; known: alpha, dropout, r, target_modules"),
    ("--methods lora:r=x", "lora:r: 'x' is not int"),
    ("--methods lora:r=0", "lora: r 0 must be above 0"),
    ("--methods peft:type=NOPE", "unknown type of peft 'NOPE'"),
    ("--methods peft:type=LORA:rr=4", "unknown hyperparameter of peft:LORA 'rr'; did you mean r?; PEFT "),
    ("--methods peft:folder={empty}", "adapter_config.json"),
    ("--methods-from {absent}", "absent': no */adapter_config.json is there"),
    ("--methods experts:importance=nope", "unknown importance 'nope'; known: alpha, diversity, eva, fim"),
    ("--methods experts:router=nope", "unknown router 'nope'; known: frozen, pruned, sigmoid"),
    ("--methods @mian", "unknown set of methods 'mian'; did you mean main? known: all, controls, main, peft"),
    ("--model smollm2", "unknown model (or no such folder or file) 'smollm2'; did you mean smollm2-135m?"),
    ("--model {absent}", "absent'; known: smollm2-135m, tiny"),
    ("--model {empty}", "Should have a `model_type` key in its config.json"),
    ("--model random:Nope", "unknown architecture 'Nope'; known: Gemma-2-2B, Llama-2-7B"),
    ("--profile larg", "unknown profile 'larg'; known: full, medium, paper, small"),
    ("--limit 0", "limit 0 must be above 0"),
    ("--limit many", "Invalid value for '--limit': Input should be a valid integer"),
    ("--micro-batch 0", "micro_batch 0 must be above 0"),
    ("--learning-rate nan", "learning_rate nan: expected finite number"),
    ("--seeds x", "seeds 'x': expected numbers like 0,1,2 or a range like 0-4"),
    ("--seeds 3-1", "seeds '3-1' must name at least one, each once"),
    ("--dtype float8", "unknown dtype 'float8'; did you mean float32 or float16 or bfloat16?"),
    ("--device x", "unknown device 'x'; did you mean xpu? known: auto, cpu, cuda, mps, xpu"),
    ("--protocol nope", "unknown protocol of suite commonsense 'nope'; known: generative, loglik"),
    ("--suite nlu --protocol generative", "unknown protocol of suite nlu 'generative'; known: loglik"),
    ("--match nope", "unknown match 'nope'; did you mean none? known: experts, none, params"),
    ("--adapters nope", "unknown adapters 'nope'; known: per-task, shared"),
    ("--source nope", "unknown source 'nope'; known: embedded, hub"),
    ("--tasks nope", "unknown task 'nope'; did you mean"),
    ("--malloc nope", "unknown malloc 'nope'; known: heap, mapped"),
    ("--tune-lr x", "tune-lr 'x': expected rates like 1e-4,3e-4,1e-3"),
    ("--tracker nope", "unknown tracker 'nope'; known: tensorboard, trackio, wandb"),
    ("--job-timeout -1", "--job-timeout -1: a number of seconds above 0, or leave it out for no limit"),
    ("--only nope", "unknown key of this plan 'nope'; known: commonsense--tiny--adalora--s0--"),
    ("--out ''", "an empty name is no folder; the current one is '.'"),
    ("--out {file}", "cannot write to", "choose another folder with --out"),
    ("--out {file}/x", "cannot write to", "choose another folder with --out"),
    ("--include-path {absent}", "Invalid value for '--include-path': dir"),
    ("--text q", "--text: of which file? name it with --data, as in --data train.jsonl"),
    ("--data {absent} --text q --answer a", "expected a file that ends in .jsonl, .ndjson, .json, .csv, .tsv"),
    ("--data {own} --text nope --answer a", "nope", "known: a, c, q"),
    ("--nope", "No such option: --nope"),
]
OTHERS = [
    (DONE, "benchmarks", "benchmarks.COMMAND, each with --help"),
    (REFUSED, "benchmarks rum", "unknown command 'rum'; did you mean run?"),
    (DONE, "benchmarks.run --list", "suites"),
    (DONE, "benchmarks.study", "routing"),
    (REFUSED, "benchmarks.study rooting", "unknown study 'rooting'; did you mean routing"),
    (REFUSED, "benchmarks.study routing --size huge", "unknown size 'huge'; known: medium, small, tiny"),
    (REFUSED, "benchmarks.study routing --size tiny --seeds x", "seeds 'x': expected numbers like 0,1,2"),
    (REFUSED, "benchmarks.study stability --model nope", "unknown model (or no such folder or file) 'nope'"),
    (REFUSED, "benchmarks.study stability --model tiny --dtype float8", "unknown dtype 'float8'; did you mean float32"),
    (REFUSED, "benchmarks.study stability --model tiny --device x", "unknown device 'x'; did you mean xpu?"),
    (REFUSED, "benchmarks.study stability --model tiny --max-length 0", "max_length 0 must be above 0"),
    (REFUSED, "benchmarks.study cost --device x", "unknown device 'x'; did you mean xpu?"),
    (REFUSED, "benchmarks.study repeats --nope", "No such option: --nope"),
    (DONE, "benchmarks.adapter --out {empty}", "no adapter is kept in", "--keep-adapters"),
    (REFUSED, "benchmarks.adapter nope --out {records}", "no adapter is kept in", "--keep-adapters"),
    (REFUSED, "benchmarks.adapter {key} --out {records}", "was run without --keep-adapters"),
    (DONE, "benchmarks.status {empty}", "no sweep has left a log here"),
    (REFUSED, "benchmarks.status {absent}", "is no folder; name the one that --out named"),
    (REFUSED, "benchmarks.status {empty} --watch --json", "--json prints once; leave --watch out"),
    (DONE, "benchmarks.compare {records} {records}", "20 checks of 2 rows: 20 ok"),
    (WORSE, "benchmarks.compare {records} {fewer}", "regression"),
    (REFUSED, "benchmarks.compare {records} {absent}", "no such folder or file; name one that holds records"),
    (REFUSED, "benchmarks.compare {records} {empty}", "empty: no record there"),
    (REFUSED, "benchmarks.compare {records} {broken}", ".json: Expecting property name"),
    (REFUSED, "benchmarks.compare {records} {records} --reference nope", "unknown reference 'nope'; known: frozen"),
    (REFUSED, "benchmarks.compare {records} {records} --memory nan", "memory: nan is no limit; give a number above 0"),
    (REFUSED, "benchmarks.gate --new {absent}", "no such folder or file; name one that holds records"),
    (REFUSED, "benchmarks.gate --new {records} --baseline {absent}", "no such folder or file"),
    (REFUSED, "benchmarks.speed --only nope", "unknown comparison 'nope'; did you mean"),
    (REFUSED, "benchmarks.speed --dtype float8", "unknown dtype 'float8'; did you mean float32"),
    (REFUSED, "benchmarks.speed --device x", "unknown device 'x'; did you mean xpu?"),
    (REFUSED, "benchmarks.speed --model /nope", "unknown model (or no such folder or file) '/nope'"),
    (REFUSED, "benchmarks.speed --effort nan", "effort nan must be a number above 0"),
    (REFUSED, "benchmarks.speed --width 0", "Invalid value for '--width': Input should be greater than or equal to 8"),
    (REFUSED, "benchmarks.offline.assets nope", "invalid choice: 'nope' (choose from 'fetch', 'verify'"),
    (WORSE, "benchmarks.offline.assets unpack --bundle {absent}", "holds no readable bundle.json"),
    (WORSE, "benchmarks.offline.assets verify --bundle {empty}", "holds no readable bundle.json"),
    (WORSE, "benchmarks.offline.assets pack --to {file}", "File exists"),
    (WORSE, "benchmarks.offline.assets pack --to {empty} --model {empty}", "is no model folder: it has no config"),
    (REFUSED, "benchmarks.offline.assets pack --to {empty} --part-mib inf", "'inf' is no size in MiB; give a number"),
    (REFUSED, "benchmarks.offline.assets pack --to {empty} --part-mib 0", "'0' is no size in MiB; give a number"),
    (REFUSED, "benchmarks.offline.gpu_pass --out {empty}", "no CUDA device is available here; --rehearse runs"),
    (REFUSED, "benchmarks.offline.gpu_pass --out {empty} --rehearse --only nope", "unknown step 'nope'; known: "),
    (REFUSED, "results add {absent}", "absent: no record there"),
    (REFUSED, "results add {broken}", "nothing was added:", ".json: Expecting property name"),
    (REFUSED, "results merge {records} --to {file}", "cannot write to"),
    (REFUSED, "results merge {records} {broken} --to {empty}", "nothing was merged:"),
    (DONE, "results merge {records} --to {empty}", "2 records of 1 folders"),
    (REFUSED, "results pack {empty} --to {empty}/x.jsonl.xz", "empty: no record there"),
    (REFUSED, "results pack {records} --to {empty}/x.zip", "x.zip: the name of a pack ends in .jsonl.xz"),
    (REFUSED, "results nope", "invalid choice: 'nope'"),
    (REFUSED, "reports --records {records}", "would draw over reports/out/main; say where with --out"),
    (REFUSED, "reports --records {absent} --out {empty}/r", "no folder"),
    (DONE, "reports --records {empty} --out {empty}/r", "No record in"),
    (REFUSED, "reports --records {records} --out {file}", "File exists"),
    (REFUSED, "reports --records {records} --out {empty}/r --columns nope", "unknown metric 'nope'; known: active"),
    (REFUSED, "reports --records {records} --out {empty}/r --columns ''", "--columns is empty: give some"),
    (WORSE, "reports --records {records} --out {empty}/c --check", "missing", "Redraw with: python -m reports"),
    (DONE, "reports show --records {records}", "lora"),
    (REFUSED, "reports show --records {absent}", "no folder"),
    (REFUSED, "reports show --records {records} --keys nope", "no record of nope"),
    (REFUSED, "reports show --keys-from {absent}", "No such file or directory"),
    (REFUSED, "reports export --to {empty}/x.nope --records {records}", "the ending says the format, one of .csv"),
    (REFUSED, "reports export --to {file}/x.csv --records {records}", "File exists"),
    (REFUSED, "reports export --to {empty}/x.csv --what nope --records {records}", "'nope' is not one of 'records'"),
    (REFUSED, "reports readme", "give either --check or --write"),
    (REFUSED, "reports readme --check --file {absent}", "No such file or directory"),
    (REFUSED, "reports readme --check --file {file}", "block, found 0"),
    (REFUSED, "reports claims --records {absent}", "no folder"),
    (REFUSED, "reports paper --records {records}", "would draw over reports/out/paper; say where with --out"),
    (REFUSED, "reports power --difference nan", "need 0 < difference <= discordance <= 1"),
    (REFUSED, "reports power --alpha 2", "alpha and power lie between 0 and 1"),
    (REFUSED, "reports power --power 1", "alpha and power lie between 0 and 1"),
    (REFUSED, "reports power --records {absent}", "no folder"),
    (REFUSED, "reports card --pass {empty}", "empty holds no step of a GPU pass"),
    (REFUSED, "reports agree {absent} {records}", "no folder"),
    (REFUSED, "reports agree {empty} {empty}", "no record to compare"),
    (REFUSED, "benchmarks replicate nope --records {records}", "unknown record 'nope'"),
    (REFUSED, "benchmarks replicate nope --records {empty}", "unknown record 'nope'"),
    (REFUSED, "reports cost --records {absent}", "no finished cost record; python -m benchmarks.studies.cost"),
    (REFUSED, "reports study {empty}", "study.json"),
    (REFUSED, "reports serving --records {empty}", "python -m benchmarks.run --suite serving makes them"),
    (REFUSED, "reports choose --max-params x", "parameters 'x': expected a number above 0 such as 10M"),
    (REFUSED, "reports choose --max-memory 8 apples --records {records}", "apples"),
    (REFUSED, "reports nope", "No such command 'nope'"),
    (REFUSED, "smoe sensitivity tiny {absent}", "No such file or directory"),
    (REFUSED, "smoe sensitivity tiny {file}", "line 1: not JSON"),
    (REFUSED, "smoe sensitivity tiny {own} --dtype float8", "dtype 'float8' is not one of float32, bfloat16"),
    (REFUSED, "smoe sensitivity tiny {own} --mode nope", "mode 'nope' is not one of paper, released"),
    (REFUSED, "smoe allocate {absent} --mean 4", "No such file or directory"),
    (REFUSED, "smoe allocate {file} --mean 4", "is not JSON"),
    (REFUSED, "smoe show {file}", "is not JSON"),
]  # fmt: skip
TABLE = [(REFUSED, f"benchmarks.run --model tiny --max-length 1024 {line}", *said) for line, *said in RUN] + OTHERS


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Folders and files by the names that the table has for them, and the key of a record."""
    made = {name: tmp_path / name for name in ("absent", "empty", "records", "fewer", "broken", "file", "own")}
    for name in ("empty", "records", "fewer", "broken"):
        made[name].mkdir()
    lora, frozen = (make_record(method, layers=1, count=3) for method in ("lora", "frozen"))
    for record in (lora, frozen):
        Store(made["records"]).save(record)
    Store(made["fewer"]).save(frozen)
    Store(made["fewer"]).save(make_failed("dora"))
    (made["broken"] / f"{lora.key}.json").write_text("{")
    made["file"].write_text("in the way")
    made["own"] = tmp_path / "own.jsonl"
    monkeypatch.setenv("SMOE_TASKS", "")  # so that what a command sets is taken back
    made["own"].write_text('{"q": "1 + 1 is", "c": ["2", "3"], "a": "2"}\n' * 2)
    return {**made, "key": lora.key}


@pytest.mark.parametrize(("status", "command", "said"), [(s, c, m) for s, c, *m in TABLE], ids=[r[1] for r in TABLE])
def test_a_command_ends_as_the_table_says(places, monkeypatch, capsys, status, command, said):
    monkeypatch.setenv("COLUMNS", "240")
    module, *arguments = shlex.split(command.format(**places))
    monkeypatch.setattr(sys, "argv", [f"python -m {module}", *arguments])
    ended = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # that the module had been imported
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as exit:
            ended = exit.code or 0
    printed = capsys.readouterr()
    assert ended == status, printed.out + printed.err
    where = printed.err if status == REFUSED else printed.out + printed.err
    assert all(part in " ".join(where.split()) for part in said), where
    assert "Traceback" not in printed.err
    if status == REFUSED:
        assert list(places["empty"].iterdir()) == []


def test_every_command_is_in_the_table():
    tried = {command.split()[0] for _, command, *_ in TABLE}
    tried |= {f"benchmarks.{name}" for name in WHERE if any(f"benchmarks {name} " in row[1] for row in TABLE)}
    assert {f"benchmarks.{name}" for name in COMMANDS} | {"benchmarks", "results", "reports", "smoe"} <= tried
