"""The CEL library behind four names: compile, run, what failed, what is missing.

Its package imports its own command line, and that rich and a prompt: none of it belongs in a daemon
(see `agent.infra.logs`). Marking that module as there before the first import keeps it out.
Programs are immutable and may be run by several threads (docs/decisions/0019-cel.md).
"""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from agent.core.rules.verdict import Result

if TYPE_CHECKING:
    from agent.core.rules.rule import Scene

_PANIC = "pyo3_runtime"  # the module of what a panic in Rust is raised as; no Exception
_UNDEFINED = re.compile(r"Undefined variable or function: '(\w+)'")
_MESSAGE_CHARS_MAX = 300
CALL, ARGUMENTS = 0, 1
"""The keys of a told result: numbers, so that no payload can look like one: JSON has texts."""


class CelFailed(Exception):
    """It does not compile, or its evaluation failed; the text says why."""


class Missing(Exception):
    """The expression looked at a member that is not there."""


@cache
def _library() -> Any:
    sys.modules.setdefault("cel.cli", types.ModuleType("cel.cli"))
    import cel  # noqa: PLC0415  (see above)

    return cel


def compile_text(source: str) -> Any:
    """A program. Raises `CelFailed`."""
    return _guarded(lambda: _library().compile(source))


def run(program: Any, context: Any) -> Any:
    """The value. Raises `CelFailed`, `Missing`."""
    return _guarded(lambda: program.execute(context))


def context_of(scene: Scene) -> Any:
    """What an expression of a rule may look at and call. Raises `CelFailed`."""
    variables: Mapping[str, Any] = {"action": scene.action, "node": scene.node, "now": scene.now}
    return _guarded(lambda: _library().Context(dict(variables), _calls()))


@cache
def _calls() -> dict[str, Callable[..., Any]]:
    return {result.value: _call(result.value) for result in Result}


def _call(name: str) -> Callable[..., Any]:
    """A result in an expression is told, not carried out; its arguments are read afterwards."""
    return lambda *arguments: {CALL: name, ARGUMENTS: list(arguments)}


def calls_only() -> Any:
    """A context with the results and no data, for calls of literals."""
    return _library().Context({}, _calls())


def _guarded(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except LookupError as error:  # of a member, or of an index beyond the end
        raise Missing(_plain(error)) from None
    except Exception as error:  # noqa: BLE001  (all it raises is about expression or values)
        raise CelFailed(_plain(error)) from None
    except BaseException as error:
        if type(error).__module__ != _PANIC:
            raise
        raise CelFailed(f"the library failed on it ({_plain(error)})") from None


def _plain(error: BaseException) -> str:
    """The first line that says something, without the whole source before it."""
    text = str(error)
    if "not a valid regex" in text:
        return " ".join(text.rpartition("error: ")[2].partition(". Check")[0].split())
    undefined = _UNDEFINED.match(text)
    if undefined is not None:  # also where only such arguments are unknown to it
        return f"{undefined[1]}() does not take what it is given, or {undefined[1]} is unknown here"
    _, failed, after = text.partition("ERROR: <input>:")
    if failed:
        text = "at " + after
    line = text.strip().split("\n")[0].partition(" expecting {")[0]
    if line.startswith(("No such overload", "Unsupported operation", "Function ")):
        line = " ".join(text.split())
        for noise in (" CEL does not coerce", ". Check function arguments", ". Check that the"):
            line = line.partition(noise)[0]
    if isinstance(error, LookupError):
        line = line.strip("'\"")
    return line[:_MESSAGE_CHARS_MAX]
