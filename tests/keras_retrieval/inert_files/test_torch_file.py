import argparse
import collections
import contextlib
import datetime
import functools
import pickle
import random
import struct
import tracemalloc
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from keras_retrieval.inert_files import torch_file
from keras_retrieval.inert_files.inert_pickle import Opaque
from keras_retrieval.inert_files.torch_file import TorchFileError, read_torch
from tests.helpers.torch_files import (
    FORMS,
    MAGIC,
    Call,
    Global,
    Persistent,
    Pickled,
    Program,
    Raw,
    old_bytes,
    rebuild,
    save,
    zip_bytes,
)


@pytest.fixture
def write(tmp_path):
    def to_file(content):
        path = tmp_path / "net.pth"
        path.write_bytes(content)
        return path

    return to_file


def refuse(path, reason):
    with pytest.raises(TorchFileError, match=reason) as caught:
        read_torch(path)
    assert str(path) in str(caught.value)


TREE: dict = {
    "epoch": 3,
    "meta": {"architecture": "alexnet", "mean": [0.485, 0.456, 0.406], "regional": False, "size": (1, None, -(2**70))},
    "state_dict": {"a.weight": np.arange(24, dtype="f4").reshape(2, 3, 4), "a.bias": np.array([1.5, -2], "f4")},
}


@pytest.mark.parametrize("form", FORMS)
def test_reads_what_was_saved(tmp_path, form):
    read = read_torch(save(tmp_path / "net.pth", TREE, form))
    assert read["epoch"] == 3
    assert read["meta"] == TREE["meta"]
    for name, values in TREE["state_dict"].items():
        np.testing.assert_array_equal(read["state_dict"][name], values)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "?"])
def test_every_type(tmp_path, form, dtype):
    values = np.array([[0, 1, 2], [3, 100, 1]]).astype(dtype)
    read = read_torch(save(tmp_path / "net.pth", [values], form))[0]
    assert read.dtype == values.dtype
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize("form", FORMS)
def test_bfloat16_becomes_float32(write, form):
    values = np.array([1.0, -2.5, 3.0e38, 0.0078125], "f4")
    upper = (values.view("u4") >> 16).astype("<u2")
    program = Program({"0": upper.tobytes()}, {"0": 4})
    read = read_torch(write(FORMS[form](rebuild("0", "BFloat16Storage", 4, 0, (4,), (1,)), program)))
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, values, rtol=2**-7)
    assert read[:2].tolist() == [1.0, -2.5]


@pytest.mark.parametrize("form", FORMS)
def test_views_share_a_storage(write, form):
    values = np.arange(12, dtype="f4")
    program = Program({"k": values.tobytes()}, {"k": 12})
    tree = {
        "transposed": rebuild("k", "FloatStorage", 12, 0, (4, 3), (1, 4)),
        "every second": rebuild("k", "FloatStorage", 12, 1, (5,), (2,)),
        "scalar": rebuild("k", "FloatStorage", 12, 7, (), ()),
        "none": rebuild("k", "FloatStorage", 12, 0, (0, 5), (5, 1)),
        "view": rebuild("k", "FloatStorage", 12, 1, (2,), (1,), view=(("v", 4, 3),)),
        "parameter": Call(
            Global("torch._utils", "_rebuild_parameter"), (rebuild("k", "FloatStorage", 12, 0, (2,), (1,)), True, None)
        ),
        "size": Call(Global("torch", "Size"), ([2, 3],)),
    }
    read = read_torch(write(FORMS[form](tree, program)))
    np.testing.assert_array_equal(read["transposed"], values.reshape(3, 4).T)
    assert read["every second"].tolist() == [1, 3, 5, 7, 9]
    assert read["scalar"].shape == ()
    assert read["scalar"] == 7
    assert read["none"].shape == (0, 5)
    assert read["view"].tolist() == [5, 6]
    assert read["parameter"].tolist() == [0, 1]
    assert read["size"] == (2, 3)


@pytest.mark.parametrize("form", FORMS)
def test_whitening_in_numpy_arrays(tmp_path, form):
    """Lw in a published network's meta: numpy's own pickles beside the tensors."""
    mean, projection = np.arange(4.0)[:, None], np.asfortranarray(np.arange(16.0).reshape(4, 4))
    tree = {"Lw": {"retrieval-SfM-120k": {"ss": {"m": Pickled(mean), "P": Pickled(projection)}}}}
    read = read_torch(save(tmp_path / "net.pth", tree, form))["Lw"]["retrieval-SfM-120k"]["ss"]
    np.testing.assert_array_equal(read["m"], mean)
    np.testing.assert_array_equal(read["P"], projection)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_reads_numpys_own_pickles(write, protocol):
    """numpy and Python write the pickle here: arrays, a scalar, a shared and a big-endian array, an OrderedDict."""
    from collections import OrderedDict

    shared = np.arange(6, dtype=">f4").reshape(2, 3)
    tree = OrderedDict(a=shared, b=[shared, np.float64(0.25)], c=np.array([True, False]), d=np.zeros((0, 2)), e=b"\xff")
    code = pickle.dumps(tree, protocol)
    read = read_torch(write(zip_bytes(Raw(code[2 if protocol > 1 else 0 : -1]))))
    np.testing.assert_array_equal(read["a"], shared)
    assert read["b"][0] is read["a"]
    assert read["b"][1] == 0.25
    assert read["c"].tolist() == [True, False]
    assert read["d"].shape == (0, 2)
    assert read["e"] == b"\xff"


def test_ordered_dict_of_python_2_and_its_attributes(write):
    pairs = Call(Global("collections", "OrderedDict"), ([["a", 1], ["b", 2]],), state={"_metadata": {"": {}}})
    assert read_torch(write(old_bytes(pairs))) == {"a": 1, "b": 2}


@pytest.mark.parametrize("name", ["alexnet_gem_cirtorch", "alexnet_gem_regional_whitened_cirtorch"])
def test_files_that_torch_wrote(shared, name):
    read = read_torch(shared / "goldens" / f"{name}.pth")
    regional = "regional" in name
    assert read["meta"]["architecture"] == "alexnet"
    assert read["meta"]["regional"] is regional
    assert read["state_dict"]["features.3.weight"].shape == (192, 64, 5, 5)
    p = read["state_dict"]["pool.rpool.p" if regional else "pool.p"]
    np.testing.assert_allclose(p, 2.6, rtol=1e-6)
    assert all(np.isfinite(values).all() and values.std() < 1 for values in read["state_dict"].values())


# What a hostile file would do is to make the file `marker`. Plain pickle runs each of these: the test shows it first.
def shell(marker):
    return (f"touch {marker}",)


def python(marker):
    return (f"open({str(marker)!r}, 'w')",)


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def nested(marker):
    return (Program().code(Call(Global("os", "system"), shell(marker))),)


def script(marker):
    path = marker.with_name("script.py")
    path.write_text(*python(marker))
    return (str(path),)


def system_by_name(marker):
    module = Call(Global("importlib", "import_module"), ("os",))
    return Call(Call(Global("builtins", "getattr"), (module, "system")), shell(marker))


LIVE = {
    "os.system": lambda m: Call(Global("os", "system"), shell(m)),
    "posix.system": lambda m: Call(Global("posix", "system"), shell(m)),
    "subprocess": lambda m: Call(Global("subprocess", "call"), (["touch", str(m)],)),
    "eval": lambda m: Call(Global("builtins", "eval"), python(m)),
    "exec": lambda m: Call(Global("builtins", "exec"), python(m)),
    "open": lambda m: Call(Global("builtins", "open"), (str(m), "w")),
    "io.open": lambda m: Call(Global("io", "open"), (str(m), "w")),
    "codecs.open": lambda m: Call(Global("codecs", "open"), (str(m), "w")),
    "pickle in a pickle": lambda m: Call(Global("pickle", "loads"), nested(m)),
    "partial": lambda m: Call(Call(Global("functools", "partial"), (Global("os", "system"), *shell(m)))),
    "getattr": system_by_name,
    "run_path": lambda m: Call(Global("runpy", "run_path"), script(m)),
    "makedirs": lambda m: Call(Global("os", "makedirs"), (str(m),)),
    "attribute of a class": lambda m: Call(
        Global("pathlib", "Path.touch"), (Call(Global("pathlib", "Path"), (str(m),)),)
    ),
    "savetxt": lambda m: Call(Global("numpy", "savetxt"), (str(m), [1.0])),
    "fromfile": lambda m: Call(Global("shutil", "copyfile"), ("/dev/null", str(m))),
    "stack global": lambda m: Call(Raw(text("os") + text("system") + b"\x93"), shell(m)),
    "INST": lambda m: Raw(b"(" + text(f"touch {m}") + b"ios\nsystem\n"),
    "OBJ": lambda m: Raw(b"(cos\nsystem\n" + text(f"touch {m}") + b"o"),
    "state": lambda m: Call(Global("collections", "OrderedDict"), (), {"a": Call(Global("os", "system"), shell(m))}),
    "key": lambda m: {Call(Global("os", "system"), shell(m)): 1},
    "popped": lambda m: Raw(b"cos\nsystem\n(" + text(f"touch {m}") + b"tR0N"),
}


# Names of data that are read as inert objects where these are allowed.
INERT = ("savetxt", "attribute of a class")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", LIVE)
def test_hostile_files_are_refused_and_not_executed(tmp_path, write, name, form):
    marker = tmp_path / "marker"
    tree = LIVE[name](marker)
    pickle.loads(b"\x80\x04" + Program().code(tree)[2:])
    assert marker.exists(), "plain pickle does not run this: it would show nothing"
    marker.rmdir() if marker.is_dir() else marker.unlink()
    path = write(FORMS[form]({"meta": {}, "state_dict": tree}))
    refuse(path, "not allowed|the instruction")
    if name in INERT:
        assert isinstance(read_torch(path, objects=True)["state_dict"], Opaque)
    else:
        with pytest.raises(TorchFileError, match=r"not allowed|the instruction"):
            read_torch(path, objects=True)
    assert not marker.exists()


def objects():
    """What training checkpoints contain beside tensors, written by Python's pickle."""
    return {
        "path": Path("a/b"),
        "arguments": argparse.Namespace(lr=0.1, when=datetime.date(2024, 1, 2)),
        "counts": collections.Counter("aab"),
        "lists": collections.defaultdict(list, {"a": [1]}),
        "partial": functools.partial(int, base=2),
        "class": Path,
        "set": {1, 2.5, None},
        (1, "tuple"): {Path("key"): 1},
        "numbers": [1, 2.5, complex(1, 2), slice(1, 2)],
    }


@pytest.mark.parametrize("protocol", range(1, 6))
def test_objects_of_other_classes_are_inert(write, protocol):
    whole = pickle.dumps(objects(), protocol)
    code = whole[2:-1] if protocol > 1 else whole[:-1]
    path = write(zip_bytes({"tensor": np.arange(3.0), "others": Raw(code)}))
    refuse(path, "not allowed|the instruction|a key is not")
    read = read_torch(path, objects=True)
    np.testing.assert_array_equal(read["tensor"], np.arange(3.0))
    found = read["others"]
    assert found["arguments"].name == "argparse.Namespace" or protocol < 2
    assert found["arguments"].state["lr"] == 0.1
    assert found["counts"].name.endswith("Counter")
    assert isinstance(found["path"], Opaque)
    assert isinstance(found["class"], Opaque)
    assert found["numbers"][:2] == [1, 2.5]


@pytest.mark.parametrize("place", range(5))
def test_every_pickle_of_the_old_form_is_guarded(tmp_path, write, place):
    marker = tmp_path / "marker"
    values: list = [MAGIC, 1001, {"little_endian": True}, {}, []]
    codes = list(map(Program().code, values))
    codes[place] = Program().code(Call(Global("os", "system"), shell(marker)))
    refuse(write(b"".join(codes)), "'os.system', which is not allowed")
    assert not marker.exists()


ORDERED = Global("collections", "OrderedDict")
STORAGE = ("storage", Global("torch", "FloatStorage"), "0", "cpu", 4)
REBUILD = Global("torch._utils", "_rebuild_tensor_v2")
NDARRAY = Global("numpy", "ndarray")
RECONSTRUCT = Global("numpy.core.multiarray", "_reconstruct")
EMPTY = (NDARRAY, (0,), b"b")
FLOAT = Call(Global("numpy", "dtype"), ("f8", False, True), (3, "<", None, None, None, -1, -1, 0))
BROKEN = {
    "admitted function as data": (ORDERED, "as data"),
    "storage type in a tuple": ((1, (Global("torch", "FloatStorage"),)), "as data"),
    "storage type as data": ([Global("torch", "FloatStorage")], "as data"),
    "call of a storage type": (Call(Global("torch", "FloatStorage"), (4,)), "not a function"),
    "call of a text": (Call("os.system", ("true",)), "not a function"),
    "arguments are a list": (Raw(b"ccollections\nOrderedDict\n]R"), "not a function"),
    "inside of a function": (Global("collections", "OrderedDict.__init__.__globals__"), "not allowed"),
    "inside of our function": (Global("torch._utils", "_rebuild_tensor_v2.__globals__"), "not allowed"),
    "state of a function": (Raw(b"ccollections\nOrderedDict\n}" + text("call") + b"Ksb"), "damaged|state"),
    "state of a tensor": (Call(REBUILD, (Persistent(STORAGE), 0, (4,), (1,)), {"a": 1}), "state of a ndarray"),
    "state of a list": (Raw(b"]}b"), "state of a list"),
    "new object": (Raw(b"ccollections\nOrderedDict\n)\x81"), "NEWOBJ"),
    "extension": (Raw(b"\x82\x01"), "EXT1"),
    "persistent id of protocol 0": (Raw(b"Pos.system\n"), "PERSID"),
    "buffer": (Raw(b"\x97"), "NEXT_BUFFER"),
    "set": (Raw(b"\x8f"), "EMPTY_SET"),
    "other persistent id": (Persistent(("module", "os", "system", "cpu", 1)), "not a storage"),
    "persistent id is a text": (Persistent("0"), "not a storage"),
    "storage of no type": (Persistent(("storage", "torch.FloatStorage", "0", "cpu", 4)), "no type"),
    "storage of another function": (Persistent(("storage", ORDERED, "0", "cpu", 4)), "no type"),
    "storage with a broken view": (Persistent((*STORAGE, ("v", 2, 3))), "beyond its storage"),
    "storage of a negative size": (Persistent((*STORAGE[:4], -4)), "not a whole number"),
    "tensor of a list": (Call(REBUILD, ([1.0], 0, (1,), (1,))), "that is not a storage"),
    "tensor beyond its storage": (Call(REBUILD, (Persistent(STORAGE), 0, (5,), (1,))), "beyond its storage"),
    "offset beyond its storage": (Call(REBUILD, (Persistent(STORAGE), 4, (), ())), "beyond its storage"),
    "stride beyond its storage": (Call(REBUILD, (Persistent(STORAGE), 0, (2, 2), (3, 1))), "beyond its storage"),
    "negative stride": (Call(REBUILD, (Persistent(STORAGE), 3, (4,), (-1,))), "not a whole number"),
    "negative offset": (Call(REBUILD, (Persistent(STORAGE), -4, (4,), (1,))), "not a whole number"),
    "tensor expanded without end": (Call(REBUILD, (Persistent(STORAGE), 0, (2**40,), (0,))), "beyond its storage"),
    "sizes and strides differ": (Call(REBUILD, (Persistent(STORAGE), 0, (2, 2), (1,))), "do not fit"),
    "parameter of a text": (Call(Global("torch._utils", "_rebuild_parameter"), ("a", True)), "that is not a tensor"),
    "OrderedDict of texts": (Call(ORDERED, (["ab"],)), "that is not pairs"),
    "OrderedDict that holds a function": (Call(ORDERED, (([("a", ORDERED)]),)), "as data"),
    "two OrderedDicts of one list": (
        Raw(b"ccollections\nOrderedDict\nq\x00]\x85q\x01R]h\x00h\x01Ra\x86"),
        "a list to a call that another call got",
    ),
    "array of a deeply nested type": (Raw(b"cnumpy\ndtype\n" + b")" + b"\x85" * 100_000 + b"R"), "type tuple are not"),
    "size of a dict": (Call(Global("torch", "Size"), ({},)), "that is not numbers"),
    "array of objects": (Call(Global("numpy", "dtype"), ("O8", False, True)), "'O8' are not allowed"),
    "array of records": (Call(Global("numpy", "dtype"), ("f4,f4", False, True)), "are not allowed"),
    "array of a huge type": (Call(Global("numpy", "dtype"), ("f" + "9" * 50, False, True)), "damaged"),
    "array of another class": (Call(RECONSTRUCT, (ORDERED, (0,), b"b")), "another class"),
    "array without content": ([Call(RECONSTRUCT, EMPTY)], "before its content"),
    "array larger than its content": (Call(RECONSTRUCT, EMPTY, (1, (2**40,), FLOAT, False, b"12345678")), "8 bytes"),
    "array of a negative shape": (Call(RECONSTRUCT, EMPTY, (1, (-1,), FLOAT, False, b"12345678")), "shape is damaged"),
    "array with a broken state": (Call(RECONSTRUCT, EMPTY, (1, (1,))), "state is damaged"),
    "data type with a broken state": (Call(Global("numpy", "dtype"), ("f8",), (3, "x")), "state is damaged"),
    "text encoded as hex": (Call(Global("_codecs", "encode"), ("ff", "hex")), "another encoding than latin-1"),
    "key is a list": ({(1, 2): 1}, "key is not text"),
    "key without value": (Raw(b"}(" + text("a") + b"u"), "key"),
    "stack is empty": (Raw(b"0"), "POP"),
    "append to nothing": (Raw(b"Na"), "lacks"),
    "no mark": (Raw(b"t"), "lacks its mark"),
    "memo is empty": (Raw(b"h\x07"), "damaged"),
    "memo entry of 4 billion": (Raw(b"j\xff\xff\xff\xff"), "damaged"),
    "two values": (Raw(b"NN"), "left over"),
    "text of 4 GB": (Raw(b"X\xff\xff\xff\xffabc"), "damaged"),
    "bytes of 2^60": (Raw(b"\x8e" + struct.pack("<Q", 2**60) + b"abc"), "damaged"),
    "unknown instruction": (Raw(b"\xff"), "damaged"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", BROKEN)
def test_broken_pickles_are_refused(write, name, form):
    tree, reason = BROKEN[name]
    program = Program({"0": bytes(16)}, {"0": 4})
    refuse(write(FORMS[form](tree, program)), reason)


@pytest.mark.parametrize("form", FORMS)
def test_a_nested_tuple_is_no_key(write, form):
    """Its hash would end the process, not raise."""
    deep = b")" + b"\x85" * 200_000
    refuse(write(FORMS[form](Raw(b"}" + deep + b"Ns"))), "key is not text")
    assert read_torch(write(FORMS[form](Raw(b"]" + deep + b"a"))))


@pytest.mark.parametrize("form", FORMS)
def test_a_program_without_end_is_refused(write, form):
    refuse(write(FORMS[form](Raw(b"](" + b"N" * 2_000_001 + b"e"))), "2,000,000 instructions")


@pytest.mark.parametrize("form", FORMS)
def test_memory_is_bounded(write, form):
    """What claims much or repeats itself costs no more than the file has: 2^40 values, one text as 20,000 arrays."""
    claims = rebuild("0", "FloatStorage", 2**40, 0, (2**40,), (1,))
    text_and_call = b"c_codecs\nencode\nq\x00" + text("a" * 100_000) + text("latin1") + b"\x86q\x01"
    large = Raw(text_and_call + b"R](" + b"h\x00h\x01R" * 20_000 + b"e\x86")
    for tree, whole in ((claims, False), (large, True)):
        path = write(FORMS[form](tree, None if whole else Program({"0": bytes(16)}, {"0": 4})))
        tracemalloc.start()
        if whole:
            assert len(read_torch(path)[1]) == 20_000
        else:
            refuse(path, "larger than the file|has 16 bytes")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4e6


@pytest.mark.parametrize("form", FORMS)
def test_cut_off_anywhere(write, form):
    whole = FORMS[form](TREE)
    for length in range(0, len(whole), 7):
        refuse(write(whole[:length]), "cannot be read")


@pytest.mark.parametrize("form", FORMS)
def test_cut_off_while_it_is_read(write, monkeypatch, form):
    """As by a download that starts again; a file mapped into memory would end the process."""
    whole = FORMS[form](TREE | {"large": np.zeros(1 << 16, "f4")})
    calls = torch_file._calls

    def cut():
        with path.open("r+b") as file:
            file.truncate(len(whole) // 2)
        return calls()

    path = write(whole)
    monkeypatch.setattr(torch_file, "_calls", cut)
    refuse(path, r"it is cut off or damaged \(.+\): download or copy it again")


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
@pytest.mark.parametrize("form", FORMS)
def test_changed_anywhere(write, form):
    """A changed file is read or refused by our own error, and nothing else happens."""
    whole, chance = FORMS[form](TREE), random.Random(0)
    for _ in range(1500):
        content = bytearray(whole)
        for _ in range(chance.choice((1, 1, 4))):
            content[chance.randrange(len(content))] = chance.randrange(256)
        for objects_too in (False, True):
            with contextlib.suppress(TorchFileError):
                read_torch(write(bytes(content)), objects=objects_too)


def test_zip_that_is_no_good(write):
    refuse(write(zip_bytes(TREE, compression=zipfile.ZIP_DEFLATED)), "compressed, which torch.save never does")
    refuse(write(zip_bytes(TREE, byteorder=b"big")), "big-endian")
    refuse(write(zip_bytes(TREE, leave_out="data.pkl")), "zip without data.pkl")
    refuse(write(zip_bytes(TREE, leave_out="data/1")), "'data/1' is missing")
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.pkl", b"N.")
    refuse(write(buffer.getvalue()), "zip without data.pkl")


def test_zip_with_a_changed_tensor(write):
    whole = zip_bytes({"w": np.array([1.0, 2.0], "f4")})
    place = whole.index(np.array([1.0, 2.0], "f4").tobytes())
    refuse(write(whole[:place] + b"\1" + whole[place + 1 :]), "CRC")


def test_zip_bomb(write):
    """Members that overlap: 50 entries of the directory for the same 100 kB."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("net/data.pkl", b"N.")
        archive.writestr("net/data/0", bytes(100_000))
        first = archive.filelist[1]
        for number in range(1, 50):
            copy = zipfile.ZipInfo(f"net/data/{number}")
            copy.header_offset, copy.CRC = first.header_offset, first.CRC
            copy.file_size = copy.compress_size = first.file_size
            archive.filelist.append(copy)
    refuse(write(buffer.getvalue()), "members declare 5,000,002 bytes")


def test_storage_of_two_types(write):
    tree = [rebuild("0", "FloatStorage", 4, 0, (4,), (1,)), rebuild("0", "IntStorage", 4, 0, (4,), (1,))]
    for form in FORMS.values():
        refuse(write(form(tree, Program({"0": bytes(16)}, {"0": 4}))), "two types")


def test_old_form_that_is_no_good(write):
    refuse(write(b""), "empty")
    refuse(write(b"hello, world"), "does not start like")
    refuse(write(b"\n<!DOCTYPE html><html>sign in</html>"), "a web page or XML, not weights: its download failed")
    refuse(write(b"version https://git-lfs.github.com/spec/v1\noid"), "a Git LFS pointer in place of the weights")
    refuse(write(b"\x1f\x8b\x08\0"), "compressed with gzip: unpack it first")
    refuse(write(pickle.dumps({"a": 1}, 2)), "does not start like")
    refuse(write(old_bytes(TREE, little_endian=False)), "big-endian")
    refuse(write(bytes(257) + b"ustar" + bytes(250)), "it is a tar")
    tree = rebuild("1", "FloatStorage", 4, 0, (4,), (1,))
    refuse(write(old_bytes(tree, Program({"0": bytes(16)}, {"0": 4}))), "list of storages")
    deep = b"\x80\x02](" + b")" + b"\x85" * 100_000 + b"e."
    refuse(write(old_bytes({}).removesuffix(b"\x80\x02](e.") + deep), "list of storages")
    tree = rebuild("0", "FloatStorage", 3, 0, (3,), (1,))
    refuse(write(old_bytes(tree, Program({"0": bytes(16)}, {"0": 4}))), "does not start with its size")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        read_torch(tmp_path / "none.pth")
    with pytest.raises(IsADirectoryError):
        read_torch(tmp_path)
