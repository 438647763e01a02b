"""Files that are damaged or made to do harm: `load` refuses them, and executes nothing."""

import io
import json
import os
import pickle
import random
import struct
import sys
import warnings
import zipfile

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from kept_results import identical, network, results

from ensembles import Gaussian, load, save
from ensembles._keeping import store as _store

RAN = []  # what was executed


class Armed(eqx.Module):
    """A class of which every method leaves a trace."""

    x: int = 0

    def __init__(self, *args):
        RAN.append("__init__")

    def __check_init__(self):
        RAN.append("__check_init__")

    def __call__(self, *args):
        RAN.append("__call__")

    def __reduce__(self):
        return os.system, ("exit 1",)


def armed(*args):
    RAN.append("armed")


class Pickled:
    def __reduce__(self):
        return armed, ()


_WATCHED = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pickle.")
_WATCHED = (*_WATCHED, "exec", "socket.", "shutil.", "os.remove", "os.rename", "ctypes.dlopen")
_AT = {"watched": False}


def _audit(event, args):
    if _AT["watched"] and event.startswith(_WATCHED):
        RAN.append(event)


sys.addaudithook(_audit)

NAMES = (
    "os:system", "posix:system", "builtins:eval", "builtins:exec", "builtins:__import__",
    "subprocess:Popen", "functools:partial", "pickle:loads", "_pickle:loads", "ctypes:CDLL",
    "numpy:os.system", "jax:numpy.linalg", "builtins:object.__subclasses__", "os:__class__",
    "ensembles._network.network:Network.__init__", f"{__name__}:Armed", f"{__name__}:armed",
    f"{__name__}:Armed.__call__", f"{__name__}:Pickled", "equinox:Partial",
    "equinox._module._prebuilt:Partial", "collections:namedtuple", "no_such_module:f", "this:s",
    ":", "", "a", "jax.numpy:", "__main__:__builtins__", "limits:RESULTS", "numpy:load",
)  # fmt: skip
VALUES = (
    None, True, False, -1, 0, 1, 10**30, -(10**30), 1e308, float("nan"), "", "x" * 10_000, [], {},
    [[]], {"array": 0}, {"array": 10**40}, {"array": -1}, {"array": True}, {"array": "0"},
    {"array": [0]}, {"numpy": 1.0}, {"scalar": 0}, {"float": "x"}, {"float": []},
    {"float": "1e999"},
    {"dict": []}, {"dict": None}, {"tuple": 3}, {"tuple": {"a": 1}}, {"list": "abc"},
    {"class": 3}, {"class": None, "fields": {}}, {"named": "x"}, {"named": [], "items": []},
    {"function": 7}, {"function": []}, {"unknown": 1}, {"class": "builtins:int", "fields": {}},
)  # fmt: skip
FIELDS = ("__class__", "__dict__", "__init__", "__del__", "__module__", "_value", "x", "")


def deep(chance):
    depth = chance.choice([100, 10_000, 100_000])
    opening = chance.choice(["[", '{"tuple": [', '{"a": '])
    return opening * depth


def places(tree, at=()):
    """The paths of all parts of a manifest."""
    yield at
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, part in parts:
        if isinstance(part, dict | list):
            yield from places(part, (*at, key))
        else:
            yield (*at, key)


def replaced(tree, at, new):
    if not at:
        return new
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[at[0]] = replaced(tree[at[0]], at[1:], new)
    return copy


def value_at(tree, at):
    for key in at:
        tree = tree[key]
    return tree


def with_harm(manifest, chance):
    """A manifest with one part changed."""
    at = chance.choice(list(places(manifest)))
    part = value_at(manifest, at)
    name = chance.choice(NAMES)
    harms = [
        chance.choice(VALUES),
        {"function": name},
        {"class": name, "fields": {}},
        {"class": name, "fields": {chance.choice(FIELDS): 1}},
        {"class": "equinox._module._prebuilt:Partial", "fields": {"func": {"function": name}}},
        {"named": name, "items": [1]},
        name,
    ]
    if isinstance(part, dict):
        key = chance.choice([*part, *FIELDS])
        harms += [{**part, key: chance.choice(VALUES)}, {k: v for k, v in part.items() if k != key}]
        if "fields" in part:
            added = {**part["fields"], chance.choice(FIELDS): {"function": name}}
            harms += [{**part, "fields": added}, {**part, "class": name}]
    return replaced(manifest, at, chance.choice(harms))


def header(shape, dtype="<f8", fortran=False):
    text = f"{{'descr': {dtype}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def harmful_array(chance):
    """What is no array, or claims to be larger than it is, or would run a pickle."""
    objects, several = io.BytesIO(), io.BytesIO()
    np.save(objects, np.array([Pickled()], object), allow_pickle=True)
    np.savez(several, a=np.ones(2))
    shapes = ["(10**9, 10**9)", f"({10**18},)", "(-1,)", "(-1, -1)", "(1.5,)", "(True,)", "()", "5"]
    shapes += [f"(0, {2**62}, 8)", f"({2**32}, {2**32})", "(" * 300, "__import__('os')"]
    dtypes = ["'<f8'", "'|O'", "'|V8'", "[('a', '<f8')]", "'<U0'", "'<M8[s]'", "3", "'no'", "'|S0'"]
    return chance.choice(
        [
            objects.getvalue(),
            several.getvalue(),
            pickle.dumps(Pickled()),
            b"",
            b"\x93NUMPY\x09\x00",
            header(chance.choice(shapes), chance.choice(dtypes)),
            header(chance.choice(shapes), "'<f8'") + bytes(8),
            header("(1,)", chance.choice(dtypes)) + bytes(8),
            header("(2,)", "'|b1'") + b"\x07\x09",
        ]
    )


def packed(parts, chance, honest):
    """An archive of `parts`, (name, content), with its digest made anew where it is `honest`."""
    if honest:
        contents = dict(parts)
        contents.pop("sha256", None)
        digest = _store._digest(contents).encode()
        parts = [(n, c) for n, c in parts if n != "sha256"] + [("sha256", digest)]
    buffer = io.BytesIO()
    kinds = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", chance.choice(kinds)) as archive:
        warnings.simplefilter("ignore")  # of names that come twice
        for name, content in parts:
            archive.writestr(name, content)
    return buffer.getvalue()


def corrupted(whole, chance):
    """A file with one thing wrong, and whether its digest was made anew."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        parts = [(name, archive.read(name)) for name in archive.namelist()]
    way = chance.choice(
        ["bytes", "bytes", "cut", "blocks", "entries", "manifest", "arrays", "bomb"]
    )
    way = chance.choice([way, "manifest"])
    honest = way in ("manifest", "arrays", "bomb") or (way == "entries" and chance.random() < 0.5)
    broken = bytearray(whole)
    if way == "bytes":
        for _ in range(chance.choice([1, 1, 4, 64])):
            broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
    elif way == "cut":
        begin = chance.randrange(len(broken))
        del broken[begin : chance.choice([len(broken), begin + chance.randrange(1, 64)])]
    elif way == "blocks":
        a, b, n = chance.randrange(len(broken)), chance.randrange(len(broken)), chance.randrange(99)
        broken[a : a + n], broken[b : b + n] = broken[b : b + n], broken[a : a + n]
    if way in ("bytes", "cut", "blocks"):
        return bytes(broken), False
    i, j = chance.randrange(len(parts)), chance.randrange(len(parts))
    if way == "entries":
        (name, content), (other, second) = parts[i], parts[j]
        change = chance.choice(["swap", "twice", "remove", "rename", "add"])
        if change == "swap":
            parts[i], parts[j] = (name, second), (other, content)
        elif change == "twice":
            parts.append((name, second))
        elif change == "remove":
            del parts[i]
        else:
            new = chance.choice(
                ["../x", "arrays/00.npy", "arrays/9.npy", "/etc/x", "arrays/-1.npy"]
            )
            parts.append((new, content))
            if change == "rename":
                del parts[i]
    contents = dict(parts)
    if way == "arrays":
        name = chance.choice([n for n in contents if n.startswith("arrays/")])
        contents[name] = harmful_array(chance)
    elif way == "bomb":
        name = chance.choice(list(contents))
        contents[name] = contents[name] + bytes(2**23)
    elif way == "manifest":
        if chance.random() < 0.1:
            contents["manifest.json"] = deep(chance).encode()
        elif chance.random() < 0.1:
            text = contents["manifest.json"].decode()
            text = text.replace("1", chance.choice(["9" * 5000, "NaN", "1e999", "\\ud800"]), 3)
            contents["manifest.json"] = text.encode()
        else:
            manifest = json.loads(contents["manifest.json"])
            contents["manifest.json"] = json.dumps(with_harm(manifest, chance)).encode()
    if way != "entries":
        parts = list(contents.items())
    return packed(parts, chance, honest), honest


def loaded(path):
    """What `load` does with a file: a value, or None where it refuses it; watched."""
    _AT["watched"] = True
    try:
        return load(path)
    except ValueError:
        return None
    finally:
        _AT["watched"] = False


ONCE = pytest.param(1000, marks=pytest.mark.slow)


@pytest.mark.parametrize("many", [100, ONCE])
def test_corrupted_files_are_refused_and_execute_nothing(tmp_path, many):
    path, counts = tmp_path / "kept.zip", {"refused": 0, "the same": 0, "another, signed anew": 0}
    values = (results()["trajectory"], results()["rate"], network(), results()["fluctuations"])
    whole = []
    for value in values:
        save(path, value)
        whole.append(path.read_bytes())
        assert identical(loaded(path), value)
    RAN.clear()
    for seed in range(many):
        chance = random.Random(seed)
        i = chance.randrange(len(values))
        broken, honest = corrupted(whole[i], chance)
        path.write_bytes(broken)
        back = loaded(path)
        assert not RAN, (seed, RAN)
        same = back is not None and identical(back, values[i])
        assert back is None or same or honest, seed
        counts["refused" if back is None else "the same" if same else "another, signed anew"] += 1
    print(counts)
    assert counts["refused"] > many / 2


def test_an_archive_may_not_unpack_to_much_more_than_it_is(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", bytes(2**28))
    with pytest.raises(ValueError, match="would unpack to 268435456 bytes"):
        load(path)
    save(path, {"zeros": np.zeros(2**21)})  # which compress, and are kept as they are
    assert load(path)["zeros"].shape == (2**21,)


def test_functions_that_map_no_numbers_are_neither_saved_nor_loaded(tmp_path):
    for f in (os.system, eval, pickle.loads):
        with pytest.raises(ValueError, match="must be defined in a module under a name"):
            save(tmp_path / "x.zip", f)
    save(tmp_path / "x.zip", (abs, jnp.tanh, Gaussian))
    assert load(tmp_path / "x.zip") == (abs, jnp.tanh, Gaussian)


def test_the_traps_of_these_tests_work():
    """They do see what is executed."""
    RAN.clear()
    Armed()
    _AT["watched"] = True
    pickle.loads(pickle.dumps(Pickled()))
    os.system("true")
    _AT["watched"] = False
    assert {"__init__", "armed", "pickle.find_class", "os.system"} <= set(RAN)
    RAN.clear()
