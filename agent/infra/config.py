"""Settings of a daemon: a TOML file, overridden by the environment, overridden by flags.

All faults of all three sources are reported together; an unknown key names the nearest valid one.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.domain.errors import Fault, InvalidDocument, shown

CONFIG_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Setting:
    """One key: how its text or TOML value is read, and what holds when nobody says anything."""

    read: Callable[[Any], Any]
    default: Any = None
    help: str = ""


def load_settings(
    known: Mapping[str, Setting],
    *,
    prefix: str,
    environ: Mapping[str, str],
    flags: Mapping[str, Any],
    file: Path | None,
) -> dict[str, Any]:
    """Every key of `known` with its value. Raises `InvalidDocument` with all faults."""
    faults: list[Fault] = []
    given = _from_file(file, known, faults) if file is not None else {}
    given |= _from_environment(known, prefix, environ, faults)
    given |= {key: (value, f"--{key.replace('_', '-')}") for key, value in flags.items()
              if value is not None}  # fmt: skip
    values = {key: setting.default for key, setting in known.items()}
    for key, (raw, place) in given.items():
        try:
            values[key] = known[key].read(raw)
        except ValueError as error:
            faults.append(Fault(place, str(error)))
    if faults:
        raise InvalidDocument(faults)
    return values


def _from_file(
    file: Path, known: Mapping[str, Setting], faults: list[Fault]
) -> dict[str, tuple[Any, str]]:
    try:
        if file.stat().st_size > CONFIG_BYTES_MAX:
            faults.append(Fault(str(file), f"is larger than {CONFIG_BYTES_MAX} bytes"))
            return {}
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        faults.append(Fault(str(file), f"cannot be read: {error}"))
        return {}
    given = {}
    for key, value in document.items():
        if key in known:
            given[key] = (value, f"{file}: {key}")
        else:
            faults.append(Fault(f"{file}: {key}", f"is not a setting{_nearest(key, known)}"))
    return given


def _from_environment(
    known: Mapping[str, Setting], prefix: str, environ: Mapping[str, str], faults: list[Fault]
) -> dict[str, tuple[Any, str]]:
    given = {}
    names = {prefix + key.upper(): key for key in known}
    for name, value in environ.items():
        if not name.startswith(prefix):
            continue
        if name in names:
            given[names[name]] = (value, name)
        elif close := difflib.get_close_matches(name, names, n=1, cutoff=0.85):
            # Other programs' AGENT_… variables are none of our business; a slip of the hand is.
            faults.append(Fault(name, f"is not a setting; did you mean {close[0]}?"))
    return given


def _nearest(word: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    hint = f"; did you mean {close[0]}?" if close else ""
    return hint or f"; known are {', '.join(sorted(known))}"


def as_text(value: Any) -> str:
    """Non-empty text."""
    if isinstance(value, str) and value.strip():
        return value.strip()
    raise ValueError(f"must be text, not {shown(value)}")


def as_path(value: Any) -> Path:
    """A path, made absolute."""
    return Path(value if isinstance(value, Path) else as_text(value)).expanduser().absolute()


def as_count(low: int, high: int) -> Callable[[Any], int]:
    """A whole number within bounds; text from the environment is converted."""

    def read(value: Any) -> int:
        if isinstance(value, str) and value.strip().lstrip("-").isdigit():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"must be a whole number, not {shown(value)}")
        if not low <= value <= high:
            raise ValueError(f"{value} is outside {low} to {high}")
        return value

    return read


def as_number(low: float, high: float) -> Callable[[Any], float]:
    """A number within bounds; text from the environment is converted."""

    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError(f"must be a number, not {shown(value)}")
        try:
            number = float(value)
        except (ValueError, OverflowError):
            raise ValueError(f"must be a number, not {shown(value)}") from None
        if not low <= number <= high:
            raise ValueError(f"{value} is outside {low:g} to {high:g}")
        return number

    return read


def as_flag(value: Any) -> bool:
    """`true` or `false`; text from the environment is converted."""
    known = {True: True, False: False, "true": True, "1": True, "false": False, "0": False}
    given = value.strip().lower() if isinstance(value, str) else value
    if isinstance(given, bool | str) and given in known:
        return known[given]
    raise ValueError(f"must be true or false, not {shown(value)}")


def as_word(*words: str) -> Callable[[Any], str]:
    """One of the given words."""

    def read(value: Any) -> str:
        if value in words:
            return str(value)
        close = difflib.get_close_matches(str(value), words, n=1, cutoff=0.6)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"{shown(value)} is not one of {', '.join(words)}{hint}")

    return read


def as_listen(value: Any) -> tuple[str, int]:
    """`HOST:PORT` → (host, port); IPv6 in brackets."""
    host, colon, port = as_text(value).rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{shown(value)} is not HOST:PORT, as 127.0.0.1:8080")
    return host, int(port)


def as_url(value: Any) -> str:
    """An http or https address, without a trailing slash."""
    text = as_text(value)
    if not text.startswith(("http://", "https://")) or len(text.split("//", 1)[1]) == 0:
        raise ValueError(f"{shown(value)} is not a URL such as https://core.example:8080")
    return text.rstrip("/")
