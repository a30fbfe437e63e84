"""Messages about arguments of Python in the words of a job file, which says the same in TOML."""

import ast
import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from bayestwin.errors import InvalidInput

_CODE = re.compile(r"`([^`\n]+)`")
_ARGUMENT = re.compile(r"([A-Za-z_]\w*)=(?!=)(.*)", re.DOTALL)
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def as_toml(text: str) -> str:
    """A message whose code in backticks stands as a job file has it: `sentinels=(-999,)` as `sentinels = [-999]`.

    What is no argument and no value of Python stays as it is.
    """
    return _CODE.sub(lambda code: f"`{_translated(code[1])}`", text)


def toml(value: Any) -> str:
    """A plain value of Python as TOML writes it."""
    if isinstance(value, Mapping):
        pairs = (f"{_key(str(name))} = {toml(one)}" for name, one in value.items())
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


@contextlib.contextmanager
def about_job(where: str = "") -> Iterator[None]:
    """Errors about the input in the words of a job file, with the table that they are about in front."""
    try:
        yield
    except InvalidInput as reason:
        message = as_toml(str(reason))
        raise type(reason)(f"In {where}: {message}" if where else message) from reason


def _translated(code: str) -> str:
    argument = _ARGUMENT.fullmatch(code)
    if argument is None:
        try:
            value = ast.literal_eval(code) if code[0] in "'{" else None
        except (ValueError, SyntaxError):
            return code
        return code if value is None else toml(value)
    name, told = argument.groups()
    if told.strip("{}()…") == "":
        return f"{name} = {'{ … }' if told == '{…}' else '[]' if told == '()' else '…'}"
    try:
        return f"{name} = {toml(ast.literal_eval(told))}"
    except (ValueError, SyntaxError, TypeError):
        return code


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)
