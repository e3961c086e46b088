"""The house rules that a parser can check, over every file of the package as it stands.

Each rule is a function from a syntax tree to the lines that break it, tried on planted faults first.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "fromnoise"
FILES = sorted(SOURCE.rglob("*.py"))
# Top to bottom: a room may import only rooms above it.
# fmt: off
ROOMS = (
    "errors", "durable", "keyed", "menagerie", "images", "noise", "predict", "nets", "denoise", "exact",
    "guide", "sample", "langevin", "landscape", "likelihood", "machine", "recipe", "ema", "adam", "muon", "model",
    "run_folder", "plan", "batches", "replay", "trainer", "training", "session", "evaluate", "chapters", "look",
    "lesson", "studio", "cli",
)
# fmt: on
DOORS = ("__init__", "__main__")  # the public list and `python -m fromnoise`: they may name every room
READS_LITE0 = SOURCE / "evaluate" / "features.py"  # the one file that may call torch.load
WITHOUT_TORCH = ("errors", "durable", "menagerie", "images", "cli")

Fault = tuple[int, str]  # line number, what is wrong there
Rule = Callable[[ast.Module], Iterator[Fault]]


def room_of(file: Path) -> str:
    """The first part of the path inside the package."""
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def full_name(node: ast.expr) -> str:
    """``a.b.c`` of a name or an attribute chain; an unnamed start is ``?``."""
    if isinstance(node, ast.Attribute):
        return f"{full_name(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def imported_modules(tree: ast.Module, package: list[str]) -> Iterator[tuple[int, str]]:
    """(line, full module name) of every import, inside functions too; ``package`` resolves relative ones."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def upward_imports(tree: ast.Module, room: str, package: list[str]) -> Iterator[Fault]:
    """Imports of the room itself or of rooms above are fine, everything else of the package is not."""
    known = [*ROOMS[: ROOMS.index(room)], room, "__version__"]
    for line, module in imported_modules(tree, package):
        parts = module.split(".")
        if parts[0] == "fromnoise" and (len(parts) < 2 or parts[1] not in known):
            yield line, f"{room} imports {module}, which is not above it"


def checked_load(call: ast.Call) -> bool:
    """torch.load of bytes in memory that reads nothing but weights."""
    only = any(
        k.arg == "weights_only" and isinstance(k.value, ast.Constant) and k.value.value is True for k in call.keywords
    )
    first = call.args[0] if call.args else None
    return only and isinstance(first, ast.Call) and full_name(first.func) == "io.BytesIO"


def loaders_that_run_code(tree: ast.Module, excepted: bool = False) -> Iterator[Fault]:
    """Formats whose loading can execute what a stranger wrote; ``excepted`` may torch.load checked bytes once."""
    modules = ("pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "yaml")
    calls = ("torch.load", "torch.save", "eval", "exec", "yaml.load")
    for line, module in imported_modules(tree, []):
        if module.split(".")[0] in modules or module in calls:
            yield line, f"imports {module}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if excepted and full_name(node.func) == "torch.load" and checked_load(node):
                excepted = False
            elif full_name(node.func) in calls:
                yield node.lineno, f"calls {full_name(node.func)}"
            for keyword in node.keywords:
                allowed = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                if keyword.arg == "allow_pickle" and not allowed:
                    yield node.lineno, "allows pickles"


def in_memory(tree: ast.Module) -> set[str]:
    """Names bound to an in-memory buffer, or to a parameter declared as an open binary stream."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=func)):
                if full_name(func).split(".")[-1] == "BytesIO":
                    found.add(name)
            case ast.withitem(context_expr=ast.Call(func=func), optional_vars=ast.Name(id=name)):
                if full_name(func).split(".")[-1] == "BytesIO":
                    found.add(name)
            case ast.arg(arg=name, annotation=ast.expr() as annotation):
                if full_name(annotation).split(".")[-1] in ("BytesIO", "BinaryIO"):
                    found.add(name)
    return found


def opens_to_write(call: ast.Call) -> bool:
    """Whether a call of something named ``open`` asks to write; the built-in one with a computed mode counts.

    A method's computed argument does not: it is as often the name of an archive's member.
    """
    built_in = isinstance(call.func, ast.Name)
    given = [*call.args[built_in:], *(k.value for k in call.keywords if k.arg == "mode")]
    constants = [node.value for node in given if isinstance(node, ast.Constant)]
    modes = [value for value in constants if isinstance(value, str) and re.fullmatch("[rwaxbt+]{1,3}", value)]
    return bool(set("".join(modes)) & set("wax+")) or (built_in and len(constants) < len(given))


def writes(call: ast.Call) -> bool:
    """Whether a call opens or writes a file it is given a path of.

    ``safetensors.torch.save`` gives bytes, and a run folder's ``save`` goes through durable/.
    """
    name = full_name(call.func)
    last = name.split(".")[-1]
    keywords = {k.arg: k.value for k in call.keywords}
    if name == "os.open":
        return True
    if name in ("safetensors.torch.save", "folder.save"):
        return False
    if last in ("open", "fdopen", "ZipFile", "TarFile"):
        return opens_to_write(call)
    if last in ("memmap", "open_memmap"):
        mode = keywords.get("mode")
        return not (isinstance(mode, ast.Constant) and mode.value in ("r", "c"))
    writers = ("write_text", "write_bytes", "touch", "tofile", "savefig", "save", "savez", "savez_compressed")
    more = ("savetxt", "save_file", "serialize_file", "copyfile", "copy2", "copytree", "imsave")
    return last in (*writers, *more) or name in ("shutil.copy", "shutil.move")


def files_written(tree: ast.Module) -> Iterator[Fault]:
    """Calls that write a file, unless their first argument is memory."""
    memory = in_memory(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and writes(node):
            first = node.args[0] if node.args else None
            if not (isinstance(first, ast.Name) and first.id in memory):
                yield node.lineno, f"{full_name(node.func)} writes a file outside durable/"


def long_functions(tree: ast.Module) -> Iterator[Fault]:
    """Functions over 60 lines, from ``def`` to the end."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > 60:
                yield node.lineno, f"{node.name} has {length} lines"


def undocumented(tree: ast.Module) -> Iterator[Fault]:
    """The file, and its public functions and classes, that have no docstring.

    Methods are not asked: one that fulfils a documented protocol would only repeat it.
    """
    if ast.get_docstring(tree) is None:
        yield 1, "the file has no docstring"
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None:
            yield node.lineno, f"{node.name} has no docstring"


def text_faults(text: str) -> Iterator[Fault]:
    """Paths of one machine, unfinished business, and files that are too long."""
    path = re.compile(r"(?<![\w.}/])/(work|home|root|Users|mnt|media|tmp)/|\b[A-Z]:\\\\")
    unfinished = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        if path.search(line):
            yield number, "names a path of one machine"
        if unfinished.search(line):
            yield number, "is unfinished"
    if len(lines) > 400:
        yield 400, f"the file has {len(lines)} lines"


def report(file: Path, faults: Iterator[Fault]) -> list[str]:
    """Readable lines for an assertion."""
    return [f"{file.relative_to(SOURCE)}:{line}: {what}" for line, what in faults]


def in_the_house(tree: ast.Module, file: Path) -> Iterator[Fault]:
    """The import rule for one file."""
    room = room_of(file)
    if room in DOORS:
        return
    if room not in ROOMS:
        yield 1, f"{room} is no room of the house"
        return
    yield from upward_imports(tree, room, ["fromnoise", *file.relative_to(SOURCE).parent.parts])


# --- the package as it stands ---


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_the_file_keeps_the_rules(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    tree = ast.parse(text)
    faults = [*report(file, in_the_house(tree, file)), *report(file, text_faults(text))]
    faults += report(file, loaders_that_run_code(tree, file == READS_LITE0))
    rules: list[Rule] = [long_functions, undocumented]
    for rule in rules if room_of(file) == "durable" else [*rules, files_written]:
        faults += report(file, rule(tree))
    assert not faults, "\n".join(faults)


def test_the_package_opens_without_torch() -> None:
    rooms = [room for room in WITHOUT_TORCH if (SOURCE / room).is_dir() or (SOURCE / f"{room}.py").is_file()]
    assert "durable" in rooms
    names = ["fromnoise", *(f"fromnoise.{room}" for room in rooms)]
    code = f"import sys, {', '.join(names)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- the rules find planted faults, and nothing else ---


def lines_of(faults: Iterator[Fault]) -> list[int]:
    return sorted({line for line, _ in faults})


@pytest.mark.parametrize(
    ("code", "faulty"),
    [
        ("import fromnoise.train", True),
        ("from fromnoise.training import fit", True),
        ("from fromnoise import training", True),
        ("from fromnoise import Denoiser", True),
        ("from .. import train", True),
        ("from ..train import fit", True),
        ("def f():\n    import fromnoise.cli", True),
        ("import fromnoise", True),
        ("from fromnoise.noise import Schedule", False),
        ("from fromnoise import noise, __version__", False),
        ("from .parts import Block", False),
        ("from . import parts", False),
        ("from ..noise import Schedule", False),
        ("import torch.nn as train", False),
    ],
)
def test_imports_from_below_are_found(code: str, faulty: bool) -> None:
    assert bool(lines_of(upward_imports(ast.parse(code), "nets", ["fromnoise", "nets"]))) is faulty


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "import torch\ntorch.load(p)",
        "from torch import load",
        "np.load(p, allow_pickle=True)",
        "np.load(p, allow_pickle=x)",
        "import yaml",
        "eval(text)",
        "import shelve",
        "import marshal",
    ],
)
def test_loaders_that_run_code_are_found(code: str) -> None:
    assert lines_of(loaders_that_run_code(ast.parse(code)))
    assert not lines_of(loaders_that_run_code(ast.parse("np.load(p, allow_pickle=False)\nmodel.eval()")))


@pytest.mark.parametrize(
    ("code", "faulty"),
    [
        ("torch.load(io.BytesIO(data), weights_only=True)", False),
        ("torch.load(path, weights_only=True)", True),
        ("torch.load(io.BytesIO(data))", True),
        ("torch.load(io.BytesIO(data), weights_only=False)", True),
        ("torch.load(io.BytesIO(a), weights_only=True)\ntorch.load(io.BytesIO(b), weights_only=True)", True),
        ("torch.save(a, b)", True),
    ],
)
def test_the_one_exception_is_narrow(code: str, faulty: bool) -> None:
    assert bool(lines_of(loaders_that_run_code(ast.parse(code), excepted=True))) is faulty


@pytest.mark.parametrize(
    ("code", "faulty"),
    [
        ("open(p, 'w')", True),
        ("open(p, mode='ab')", True),
        ("open(p, m)", True),
        ("path.open('wb')", True),
        ("Path(p).open('r+')", True),
        ("gzip.open(p, 'wt')", True),
        ("os.open(p, flags)", True),
        ("path.write_text(t)", True),
        ("Path(p).write_bytes(b)", True),
        ("np.save(p, a)", True),
        ("np.memmap(p, np.uint8)", True),
        ("np.memmap(p, np.uint8, mode='r+')", True),
        ("image.save(p)", True),
        ("save_file(t, p)", True),
        ("figure.savefig('x.png')", True),
        ("zipfile.ZipFile(p, 'w')", True),
        ("av.open(p, 'w')", True),
        ("shutil.copy(a, b)", True),
        ("open(p, mode=m)", True),
        ("os.fdopen(d, 'wb')", True),
        ("archive.open(name)", False),
        ("open(p)", False),
        ("open(p, 'rb')", False),
        ("path.open()", False),
        ("path.open('rb')", False),
        ("Image.open(p)", False),
        ("np.memmap(p, np.uint8, mode='r')", False),
        ("zipfile.ZipFile(p)", False),
        ("memory = io.BytesIO()\nimage.save(memory, 'PNG')\nnp.savez(memory, a)\nav.open(memory, 'w')", False),
        ("with BytesIO() as memory:\n    image.save(memory)", False),
        ("def draw(stream: BinaryIO):\n    image.save(stream)", False),
    ],
)
def test_written_files_are_found(code: str, faulty: bool) -> None:
    assert bool(lines_of(files_written(ast.parse(code)))) is faulty


def test_long_functions_missing_docstrings_and_stray_text_are_found() -> None:
    body = "\n".join("    pass" for _ in range(60))
    assert lines_of(long_functions(ast.parse(f"def f():\n{body}"))) == [1]
    assert not lines_of(long_functions(ast.parse(f"def f():\n{body[9:]}")))
    bare = "'file'\n\ndef f(): ...\nclass C: ...\nclass D:\n    'doc'\n    def m(self): ...\ndef _q(): ..."
    assert lines_of(undocumented(ast.parse(bare))) == [3, 4]
    assert lines_of(undocumented(ast.parse("x = 1"))) == [1]
    path, mark = "/" + "home/someone", "TO" + "DO"
    assert lines_of(text_faults(f"x\n'{path}'\n# {mark} later\nhttps://x.org{path}")) == [2, 3]
    assert lines_of(text_faults("\n" * 401)) == [400] and not lines_of(text_faults("\n" * 400))


def test_every_room_stands_in_the_order_once() -> None:
    assert len(set(ROOMS)) == len(ROOMS)
    assert set(WITHOUT_TORCH) <= set(ROOMS)
