"""The text: Python's standard library and its tests, as Debian packs them, split by file.

    python corpus.py                # what each split holds

A library file is in one split for good, by a hash of its path: the policy learns from 15 of 20, the channel from 3 that the policy never saw,
settings are chosen on one, and the last is for the final measurement. Tests are for the policy alone, and no prompt comes from one: a prompt
is to be answered with what a library does.
"""
import ast
import os
import pathlib
import warnings
import zlib

# Where run.sh unpacks the packages.
ROOT = pathlib.Path(os.environ.get("CORPUS", "debian/usr/lib/python3.11"))
SPLITS = ["policy"] * 15 + ["channel"] * 3 + ["dev", "held-out"]
TABLES = "encodings", "pydoc_data"  # data more than code


def is_test(path):
    return any(part in ("test", "tests", "idle_test") or part.startswith("test_") for part in path.parts)


def split_of(path):
    return "policy" if is_test(path) else SPLITS[zlib.crc32(path.as_posix().encode()) % len(SPLITS)]


def parses(text):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
        return True
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def files(split):
    """(path, text) of a split, by path: what is UTF-8 and parses. Some of the tests do not, on purpose."""
    for path in sorted(ROOT.rglob("*.py")):
        path = path.relative_to(ROOT)
        if path.parts[0] in TABLES or split_of(path) != split:
            continue
        try:
            text = (ROOT / path).read_text("utf-8")
        except UnicodeDecodeError:
            continue
        if text.strip() and parses(text):
            yield path, text


def functions(text):
    """A file's functions that are long enough to be continued: (line of the first decorator or def, line of the body's first statement behind
    the docstring, line behind the last, columns of indentation), lines counted from 0. Functions within functions are left to the outer one.
    """
    def within(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                body = child.body[1:] if ast.get_docstring(child, clean=False) is not None else child.body
                start = min([child.lineno] + [decorator.lineno for decorator in child.decorator_list])
                if body and body[0].lineno > child.lineno:
                    yield start - 1, body[0].lineno - 1, child.end_lineno, child.col_offset
            else:
                yield from within(child)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield from within(ast.parse(text))


if __name__ == "__main__":
    for split in dict.fromkeys(SPLITS):
        found = list(files(split))
        print(f"{split}: {len(found)} files, {sum(len(text.encode()) for _, text in found)} bytes, "
              f"{sum(1 for path, text in found if not is_test(path) for _ in functions(text))} functions of the library")
