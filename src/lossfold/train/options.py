"""Options that make no sense, found in the source's own words, before anything heavy is imported.

The parser of a run knows every option, but to build it takes Lightning, its Trainer and every class that it offers: many
seconds. What is certainly wrong, a name that no signature has, or a word where a number is wanted, is seen here in a fraction of
one; whatever else there is, the parser finds.
"""

import ast
import importlib.util
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PARSERS = {"help", "config", "print_config", "seed_everything", "recipe"}
"""Options that the parser itself has, and the recipes."""

WRAPPERS = {"class_path", "init_args", "dict_kwargs", "help"}
"""What a class's options may be called besides its arguments."""

NUMBERS, WORDS = {"int", "float"}, {"true", "false", "yes", "no", "on", "off", "null"}

Signature = dict[str, set[str] | None]
"""Arguments, and the names of their types where these are simple."""

MODULES = {
    "segmentation": ("segmentation/module.py", "SegmentationModule"),
    "matting": ("matting/module.py", "MattingModule"),
    "restoration": ("restoration/module.py", "RestorationModule"),
    "gan": ("gan/module.py", "GANWithCustomizedLoss"),
}

FOLDERS = {
    "segmentation": "FolderData",
    "matting": "AlphaFolderData",
    "restoration": "RestorationFolderData",
    "gan": "GANFolderData",
}
"""The data of one's own files."""


def complaint(task: str, argv: list[str]) -> str:
    """What is certainly wrong with a run's options; empty where nothing is.

    Args:
        task: the task.
        argv: the options.
    """
    given = dict(_given(argv))
    own = {**_own("command.py"), **_own(f"{task}/command.py")}
    model, trainer = _signature(HERE / MODULES[task][0], MODULES[task][1]), _trainer()
    configured = any(name in given for name in ("config", "recipe"))
    for name, value in given.items():
        first, _, rest = name.rstrip("+").partition(".")
        if first in PARSERS or name.endswith("help"):
            continue
        if first in own and not rest:
            wrong = _wrong({name: own[first]}, name, value, "")
        elif first == "model" and rest:
            part, _, deeper = rest.partition(".")
            wrong = _wrong(model, part, "" if deeper else value, "model.")
            if not wrong and deeper:
                wrong = _of_class(_chosen(given, f"model.{part}"), deeper, value, f"model.{part}.")
        elif first == "data" and rest:
            chosen = _chosen(given, "data")
            wrong = _of_class(chosen or _default(task, configured), rest, value, "data.")
            if wrong and not chosen and not _of_class(FOLDERS[task], rest, value, "data."):
                wrong = f"--{name} needs --data {FOLDERS[task]}, your own files"
        elif first == "trainer" and rest:
            wrong = _wrong(trainer, rest.partition(".")[0], "" if "." in rest else value, "trainer.")
        elif name.rstrip("+") in ("data", "data.class_path"):
            wrong = _no_class(HERE / "data", value)
            if wrong:
                return f"--data: {wrong}"
        elif first in ("model", "data", "trainer"):
            continue
        else:
            wrong = _unknown(
                name,
                [
                    *own,
                    *PARSERS,
                    "data",
                    *(f"model.{each}" for each in model or ()),
                    *(f"trainer.{each}" for each in trainer or ()),
                ],
            )
        if wrong:
            return wrong
    return ""


def _given(argv: list[str]) -> Iterator[tuple[str, str]]:
    """Names and values, in either way to write them."""
    for option, following in zip(argv, [*argv[1:], ""], strict=True):
        if option.startswith("--") and len(option) > 2:
            name, equals, value = option[2:].partition("=")
            yield name, value if equals else "" if following.startswith("--") else following


def _chosen(given: Mapping[str, str], option: str) -> str:
    """The class that an option names."""
    return given.get(option, "") or given.get(f"{option}.class_path", "")


def _default(task: str, configured: bool) -> str:
    """The class of the data where nothing names one."""
    if configured:
        return ""
    tree = _parsed(HERE / task / "command.py")
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "data" and isinstance(value, ast.Constant):
                    return str(value.value)
    return ""


def _of_class(path: str, rest: str, value: str, prefix: str) -> str:
    """What is wrong with an option of a class of ours; of others nothing is known here."""
    parts = rest.split(".")
    parts = parts[1:] if parts[0] in ("init_args", "dict_kwargs") else parts
    if not parts or parts[0] in WRAPPERS:
        return ""
    package, _, name = path.rpartition(".")
    folder = {"": HERE / "data", "lossfold.train.data": HERE / "data", "lossfold.train.nets": HERE / "nets"}.get(package)
    file = folder and name and _home(folder, name)
    return _wrong(_signature(file, name), parts[0], "" if len(parts) > 1 else value, prefix) if file else ""


def _no_class(folder: Path, name: str) -> str:
    """What is wrong with the name of a class of ours; paths of other packages are for the parser."""
    names = [
        each.asname or each.name
        for node in ast.walk(_parsed(folder / "__init__.py"))
        if isinstance(node, ast.ImportFrom)
        for each in node.names
    ]
    if not name.isidentifier() or name in names:
        return ""
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    listed = [
        one
        for one in names
        if one.endswith("Data") and one not in ("SegmentationData", "MattingData", "RestorationData", "GANData")
    ]
    return f"there is no {name}" + (f"; did you mean {near[0]}?" if near else f"; choose from {', '.join(listed)}")


def _home(folder: Path, name: str) -> Path | None:
    """The file of a class that a package exports."""
    for node in ast.walk(_parsed(folder / "__init__.py")):
        if isinstance(node, ast.ImportFrom) and node.module and any(name in (each.asname, each.name) for each in node.names):
            return HERE.parent.parent / (node.module.replace(".", "/") + ".py")
    return None


def _wrong(signature: Signature | None, name: str, value: str, prefix: str) -> str:
    """What is wrong with an option, where its arguments are known."""
    if signature is None:
        return ""
    if name.rstrip("+") not in signature:
        return _unknown(prefix + name, [prefix + each for each in signature])
    kinds = signature[name.rstrip("+")] or set()
    plain = value.strip().lower()
    if plain and kinds and kinds <= NUMBERS | {"None"} and plain not in ("null", "none") and not _number(plain):
        return f"--{prefix}{name} must be a number, got {value!r}"
    if plain and kinds and kinds <= {"bool", "None"} and plain not in WORDS and not _number(plain):
        return f"--{prefix}{name} must be true or false, got {value!r}"
    return ""


def _number(text: str) -> bool:
    try:
        float(text.replace("_", ""))
    except ValueError:
        return text.startswith(("[", "{", "$"))
    return True


def _unknown(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"there is no option --{name}{f'; did you mean --{near[0]}?' if near else ''}"


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def _own(file: str) -> Signature:
    """The options that a command adds to its parser."""
    found: Signature = {}
    for node in ast.walk(_parsed(HERE / file)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and str(first.value).startswith("--"):
                kinds = [_kinds(keyword.value) for keyword in node.keywords if keyword.arg == "type"]
                found[str(first.value)[2:]] = kinds[0] if kinds else None
    return found


def _signature(path: Path, name: str) -> Signature | None:
    """The arguments of a class in a file; None where it does not say them itself."""
    for node in ast.walk(_parsed(path)):
        if isinstance(node, ast.ClassDef) and node.name == name:
            for part in node.body:
                if isinstance(part, ast.FunctionDef) and part.name == "__init__" and part.args.kwarg is None:
                    arguments = [*part.args.args[1:], *part.args.kwonlyargs]
                    return {each.arg: _kinds(each.annotation) for each in arguments}
    return None


def _trainer() -> Signature | None:
    """The arguments of Lightning's trainer."""
    spec = importlib.util.find_spec("lightning")
    places = spec.submodule_search_locations if spec else None
    file = Path(next(iter(places))) / "pytorch/trainer/trainer.py" if places else None
    return _signature(file, "Trainer") if file and file.is_file() else None


def _kinds(annotation: Any) -> set[str] | None:
    """The types that an annotation is put together from; None where it is more than names."""
    if isinstance(annotation, ast.Name):
        return {annotation.id}
    if isinstance(annotation, ast.Constant) and annotation.value is None:
        return {"None"}
    if isinstance(annotation, ast.BinOp):
        sides = _kinds(annotation.left), _kinds(annotation.right)
        return None if sides[0] is None or sides[1] is None else sides[0] | sides[1]
    if (
        isinstance(annotation, ast.Subscript)
        and isinstance(annotation.value, ast.Name)
        and annotation.value.id in ("Optional", "Union")
    ):
        inner = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        found = [_kinds(each) for each in inner]
        return None if None in found else set().union({"None"}, *(each for each in found if each))
    return None
