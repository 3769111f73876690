"""Plain data is read as pickle reads it; hostile files are refused, and their code does not run."""

import os
import pickle
import struct
import threading
import tracemalloc
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from keras_retrieval.inert_files import inert_pickle
from keras_retrieval.inert_files import plain_pickle as unpickle
from keras_retrieval.inert_files.plain_pickle import UnpickleError, load_pickle

ARRAY = np.arange(12.0).reshape(3, 4)
PLAIN = {
    "scalars": [None, True, False, 1, -5, 300, 70_000, 2**70, -(2**2100), 1.5, float("inf")],
    "text": ["", "é", "名", "x" * 300, "a\nb"],
    "bytes": [b"", b"\x00\xff\n", b"y" * 300],
    "containers": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [1, [2]], {}, {"a": {"b": 1}, (1, "x"): 2}],
    "sets": [set(), {1, 2}, frozenset({3})],
    "shared": [ARRAY, ARRAY, ARRAY.dtype.str],
}
ARRAYS = [
    ARRAY,
    np.asfortranarray(ARRAY),
    ARRAY[:, ::2],
    np.array(5),
    np.zeros((0, 3)),
    np.arange(3, dtype=">i2"),
    np.array([True, False]),
    np.array([1 + 2j]),
    np.array(["a", "bcd"]),
    np.array([b"x", b"yy"]),
    np.array([1, "a", None, [2], (3,)], object),
    np.float32(3.5),
    np.int64(-4),
]


@pytest.fixture
def written(tmp_path):
    """Writes bytes to a file and reads it with `load_pickle`."""

    def read(content):
        path = tmp_path / "file.pkl"
        path.write_bytes(content)
        return load_pickle(path)

    return read


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", PLAIN)
def test_plain_data_is_read_as_pickle_reads_it(written, protocol, kind):
    read = written(pickle.dumps(PLAIN[kind], protocol))
    assert repr(read) == repr(PLAIN[kind])


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype.str}{array.shape}")
def test_arrays_keep_type_order_and_values(written, protocol, array):
    read = written(pickle.dumps({"array": array}, protocol))["array"]
    assert type(read) is type(array)
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)
    read = np.atleast_1d(read)
    read[...] = read  # arrays that are read can be written to


def test_names_of_old_numpy_are_admitted(written):
    content = pickle.dumps(ARRAY, 2)
    assert b"numpy._core.multiarray" in content
    np.testing.assert_array_equal(written(content.replace(b"numpy._core.", b"numpy.core.")), ARRAY)


def test_python_2_strings_are_latin_1(written):
    assert written(b"\x80\x02U\x03caf\x55\x01\xe9\x86.") == ("caf", "é")
    assert written(b"(S'a'\nS'b'\nl.") == ["a", "b"]


@pytest.mark.parametrize("name", ["oxford5k", "paris6k", "roxford5k", "rparis6k"])
def test_published_files_are_read_as_pickle_reads_them(shared, name):
    path = shared / "data" / "gnd" / f"gnd_{name}.pkl"
    expected = pickle.loads(path.read_bytes(), encoding="latin1")
    assert load_pickle(path) == expected


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments, state) if state else (function, arguments)

    def __reduce__(self):
        return self.reduced


class Holder:
    """A class of the user's: an instance of it is no plain data."""


def text(value):
    """A text as SHORT_BINUNICODE."""
    return b"\x8c" + bytes([len(value)]) + value.encode()


def live(canary):
    """Payloads that make the file `canary` where the pickle module reads them."""
    shell = f"touch {canary}"
    python = f"open({str(canary)!r}, 'w').close()"
    system = b"cposix\nsystem\n"
    argument = text(shell)
    return {
        "os.system": pickle.dumps(Call(os.system, shell), 0),
        "os.system, protocol 4": pickle.dumps(Call(os.system, shell), 4),
        "subprocess": b"\x80\x04csubprocess\ncall\n(" + text("touch") + text(str(canary)) + b"l\x85R.",
        "eval": pickle.dumps(Call(eval, python), 2),
        "exec": pickle.dumps(Call(exec, python), 4),
        "exec of Python 2": b"\x80\x02c__builtin__\nexec\n" + argument.replace(
            shell.encode(), python.encode()
        ).replace(bytes([len(shell)]), bytes([len(python)]), 1) + b"\x85R.",
        "open for writing": pickle.dumps(Call(open, str(canary), "w"), 4)[:-1] + b"0N.",
        "Path.touch": pickle.dumps(Call(Path.touch, canary), 4),
        "os.mkdir": pickle.dumps(Call(os.mkdir, str(canary)), 4),
        "os.open": pickle.dumps(Call(os.open, str(canary), os.O_CREAT), 4),
        "INST": b"(S'" + shell.encode() + b"'\niposix\nsystem\n.",
        "OBJ": b"\x80\x04(" + system + argument + b"o.",
        "STACK_GLOBAL": b"\x80\x04" + text("posix") + text("system") + b"\x93" + argument + b"\x85R.",
        "dotted name": b"\x80\x04" + text("pathlib") + text("os.system") + b"\x93" + argument + b"\x85R.",
        "os through shutil": b"\x80\x04" + text("shutil") + text("os.system") + b"\x93" + argument + b"\x85R.",
        "numpy.memmap": pickle.dumps(Call(np.memmap, str(canary), "u1", "w+", 0, (1,)), 4),
        "numpy.savetxt": pickle.dumps(Call(np.savetxt, str(canary), [1]), 4),
        "ndarray.tofile": pickle.dumps(Call(np.ndarray.tofile, np.zeros(3), str(canary)), 4),
        "logging handler": b"\x80\x04clogging\nFileHandler\n" + text(str(canary)) + b"\x85R0N.",
        "inside an object array": pickle.dumps(np.array([1, Call(os.system, shell)], object), 4),
        "as a dict's value": pickle.dumps({"gnd": [Call(os.system, shell)], "imlist": []}, 2),
        "popped again": b"\x80\x04" + system + argument + b"\x85R0]." ,
        "BUILD with a state": pickle.dumps(Call(Holder, state={"x": Call(os.system, shell)}), 2),
        "nested pickle": pickle.dumps(Call(pickle.loads, pickle.dumps(Call(os.system, shell))), 4),
        "getattr": b"\x80\x04cbuiltins\ngetattr\ncbuiltins\n__import__\n" + text("os") + b"\x85R" + text("system")
        + b"\x86R" + argument + b"\x85R.",
        "after the first end mark": b"\x80\x04" + system + argument + b"\x85R.N.",
    }  # fmt: skip


LIVE = tuple(live(Path("/canary")))
INERT = {
    "persistent id": b"P1\n.",
    "binary persistent id": b"\x80\x02K\x01Q.",
    "extension 1": b"\x80\x02\x82\x01.",
    "extension 2": b"\x80\x02\x83\x01\x00.",
    "extension 4": b"\x80\x02\x84\x01\x00\x00\x00.",
    "NEWOBJ": pickle.dumps(Holder(), 2),
    "NEWOBJ_EX": b"\x80\x04cbuiltins\nobject\n)}\x92.",
    "DUP": b"\x80\x02]2\x86.",
    "next buffer": b"\x80\x05\x97.",
    "read-only buffer": b"\x80\x05]\x98.",
    "lock": pickle.dumps(Call(threading.Lock), 4),
    "bare function": b"cnumpy\nndarray\n.",
    "function in a list": b"]cnumpy\nndarray\na.",
    "function in a tuple": b"cnumpy\nndarray\n\x85.",
    "function in a tuple in a list": b"]cnumpy\nndarray\n\x85\x85a.",
    "function in a set": b"\x80\x04\x8f(cnumpy\nndarray\n\x90.",
    "function in a frozenset": b"\x80\x04(cnumpy\nndarray\n\x85\x91.",
    "function in an object array": pickle.dumps(np.array([ARRAY, 77], object), 2).replace(b"K\x4d", b"h\x01"),
    "function as a key": b"}cnumpy\nndarray\nK\x01s.",
    "ndarray called": b"cnumpy\nndarray\nK\x03\x85\x85R.",
    "subclass of ndarray": pickle.dumps(np.matrix([[1]]), 2),
    "masked array": pickle.dumps(np.ma.array([1]), 2),
    "structured array": pickle.dumps(np.zeros(2, "i4,f4"), 2),
    "dates": pickle.dumps(np.array(["2020-01-01"], "M8[D]"), 2),
    "array without state": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR.",
    "array of a huge shape": pickle.dumps(ARRAY, 2).replace(b"K\x03K\x04\x86", b"J\xff\xff\xff\x7fK\x04\x86"),
    "array of a negative shape": pickle.dumps(ARRAY, 2).replace(b"K\x03K\x04\x86", b"J\xff\xff\xff\xffK\x04\x86"),
    "scalar without data": pickle.dumps(np.float32(1), 4).replace(b"C\x04\x00\x00\x80?", b"C\x00"),
    "scalar of no size": b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n\x8c\x02S0\x85RC\x00\x86R.",
    "array of no size": pickle.dumps(np.zeros((0, 99), "S1"), 2).replace(b"S1", b"S0").replace(b"K\x00Kc", b"KcKc"),
    "array of a deeply nested type": b"cnumpy\ndtype\n)" + b"\x85" * 100_000 + b"R.",
    "codec other than latin-1": b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x74R.",
    "huge bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b".",
    "huge frame of nothing": b"\x80\x04\x95" + struct.pack("<Q", 2**62),
    "huge integer": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "negative length": b"\x80\x02T\xff\xff\xff\xff.",
    "deep key": b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"K\x01s.",
    "unhashable key": b"}]K\x01s.",
    "key without a value": b"}(K\x01u.",
    "append to a number": b"K\x01K\x02a.",
    "mark that is missing": b"]K\x01e.",
    "call of a number": b"K\x01)R.",
    "memo that is empty": b"h\x05.",
    "stack that is empty": b".",
    "values left over": b"K\x01K\x02.",
    "no end mark": b"K\x01",
    "unknown instruction": b"\xff.",
    "empty file": b"",
    "zip file": b"PK\x03\x04" + b"\x00" * 40,
}


@pytest.mark.parametrize("name", LIVE)
def test_hostile_files_are_refused_and_not_executed(written, tmp_path, name):
    canary = tmp_path / "canary"
    payload = live(canary)[name]
    with pytest.raises(UnpickleError, match=r"file\.pkl"):
        written(payload)
    assert not canary.exists()


@pytest.mark.parametrize("name", LIVE)
def test_the_payloads_are_live(tmp_path, name):
    """Else the test above would show nothing: the pickle module runs each of them."""
    canary = tmp_path / "canary"
    pickle.loads(live(canary)[name], encoding="latin1")
    assert canary.exists()


@pytest.mark.parametrize("name", INERT)
def test_what_is_no_plain_data_is_refused(written, name):
    with pytest.raises(UnpickleError, match=r"file\.pkl"):
        written(INERT[name])


def test_the_refusal_names_the_function(written):
    with pytest.raises(UnpickleError, match=r"refers to 'posix\.system', which is not allowed"):
        written(pickle.dumps(Call(os.system, "true"), 2))


def test_a_large_file_is_refused_unread(tmp_path):
    path = tmp_path / "large.pkl"
    path.write_bytes(pickle.dumps(list(range(1000))))
    with pytest.raises(UnpickleError, match=r"large\.pkl: the file has more than 100 bytes"):
        load_pickle(path, max_bytes=100)


@pytest.mark.parametrize(("module", "bound", "content"), [
    (unpickle, "MAX_INSTRUCTIONS", b"(" + b"K\x01" * 50 + b"t."),
    (inert_pickle, "MAX_MADE", b"(" + b"]" * 50 + b"t."),
    (inert_pickle, "MAX_MADE", b"(" + b"c_codecs\nencode\n(X\x05\x00\x00\x00aaaaaU\x06latin1tR" * 25 + b"t."),
])  # fmt: skip
def test_what_is_made_is_bounded(written, monkeypatch, module, bound, content):
    written(content)
    monkeypatch.setattr(module, bound, 40)
    with pytest.raises(UnpickleError, match="more than 40"):
        written(content)


# What makes something, what makes it again 6,000 times in a list, and whether that is read.
MANY = b"".join(b"M" + struct.pack("<H", number) for number in range(20_000))
LARGE = b"B" + struct.pack("<I", 50_000) + b"a" * 50_000
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\nq\x00(cnumpy\nndarray\nK\x00\x85C\x01btq\x01R"
SCALAR = b"cnumpy.core.multiarray\nscalar\nq\x00"


def dtype(description):
    return b"cnumpy\ndtype\n" + text(description) + b"\x85R"


def shape(*sizes):
    return b"(" + b"".join(b"J" + struct.pack("<i", size) for size in sizes) + b"t"


REPEATED = {
    "bytes of one text": (
        b"c_codecs\nencode\nq\x00X" + LARGE[1:] + text("latin1") + b"\x86q\x01R", b"h\x00h\x01R", True
    ),
    "sets of one list": (b"c__builtin__\nset\nq\x00](" + MANY + b"e\x85q\x01R", b"h\x00h\x01R", False),
    "frozensets of one list": (b"cbuiltins\nfrozenset\nq\x00](" + MANY + b"e\x85q\x01R", b"h\x00h\x01R", False),
    "arrays of the same bytes": (
        RECONSTRUCT + b"(" + shape(50_000) + dtype("u1") + b"K\x00" + LARGE + b"tq\x02b", b"h\x00h\x01Rh\x02b", False
    ),
    "arrays of the same text": (
        RECONSTRUCT + b"(" + shape(50_000) + dtype("u1") + b"K\x00X" + LARGE[1:] + b"tq\x02b",
        b"h\x00h\x01Rh\x02b",
        False,
    ),
    "arrays of a few bytes": (
        RECONSTRUCT + b"(" + shape(64) + dtype("u1") + b"K\x00C\x40" + b"a" * 64 + b"tq\x02b",
        b"h\x00h\x01Rh\x02b",
        True,
    ),
    "arrays of many dimensions": (
        RECONSTRUCT + b"(" + shape(*[1] * 32) + dtype("u1") + b"K\x00C\x01atq\x02b", b"h\x00h\x01Rh\x02b", True
    ),
    "arrays of protocol 5": (
        b"cnumpy._core.numeric\n_frombuffer\nq\x00(" + LARGE + dtype("u1") + shape(50_000) + text("C") + b"tq\x01R",
        b"h\x00h\x01R",
        False,
    ),
    "arrays of the same objects": (
        RECONSTRUCT + b"(" + shape(20_000) + dtype("O8") + b"K\x00](" + MANY + b"etq\x02b", b"h\x00h\x01Rh\x02b", False
    ),
    "scalars of the same bytes": (SCALAR + dtype("S50000") + LARGE + b"\x86q\x01R", b"h\x00h\x01R", False),
    "tuples of the same list": (b"](" + MANY + b"eq\x00", b"h\x00\x85", True),
    "lists of the same list": (b"](" + MANY + b"eq\x00", b"](h\x00e", True),
}  # fmt: skip


@pytest.mark.parametrize("name", REPEATED)
def test_a_small_file_takes_little_memory(tmp_path, name):
    """What a file makes once it may use often, and what it would copy each time is refused."""
    first, again, is_read = REPEATED[name]
    path = tmp_path / "file.pkl"
    path.write_bytes(b"\x80\x04" + first + b"](" + again * 6000 + b"e\x86.")
    assert path.stat().st_size < 120_000
    with pytest.raises(UnpickleError, match=r"another call|the same bytes") if not is_read else nullcontext():
        tracemalloc.start()
        try:
            assert len(load_pickle(path)[1]) == 6000
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
    assert peak < 10e6


def test_arrays_do_not_share_memory(written):
    """One byte is one object in Python, so that the pickles of two arrays share it."""
    one, other = written(pickle.dumps([np.array([7], "u1"), np.array([7], "u1")], 4))
    one[0] = 8
    assert other[0] == 7


@pytest.mark.filterwarnings("ignore:invalid escape")
def test_truncated_and_changed_files_answer_with_the_typed_error(written):
    """Whatever a damaged file does, it is either plain data or an UnpickleError."""
    rng = np.random.default_rng(0)
    content = pickle.dumps({"names": ["a", "b"], "x": ARRAY, "s": {1, 2}, "b": b"xyz", "f": np.float32(2)}, 2)
    refused = 0
    for round_ in range(2000):
        damaged = bytearray(content[: rng.integers(1, len(content))] if round_ % 2 else content)
        for place in rng.integers(0, len(damaged), 3):
            damaged[place] = rng.integers(0, 256)
        try:
            written(bytes(damaged))
        except UnpickleError:
            refused += 1
    assert refused > 1000
