"""A directory of rule files becomes a book, or every fault of all of them. Reads files only.

`*.yaml`, `*.yml` and `*.cel` directly in it, by name; others are not ours. A link is followed, as
deployments swap directories by them; what is no plain file is a fault.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from agent.core.rules.book import RuleBook
from agent.core.rules.cel_rules import read_cel_rules
from agent.core.rules.rule import Rule
from agent.core.rules.yaml_rules import read_yaml_rules
from agent.domain.errors import Fault, InvalidDocument

FILES_MAX = 200
FILE_BYTES_MAX = 256 * 1024
BYTES_MAX = 4 * 1024 * 1024  # of all; YAML is read at some 200 kB/s, beside everything else
RULES_MAX = 1000  # each dispatch to each node asks them one by one

Read = Callable[[str, str], tuple[list[Rule], list[Fault]]]
READERS: Mapping[str, Read] = {
    ".yaml": read_yaml_rules,
    ".yml": read_yaml_rules,
    ".cel": read_cel_rules,
}


def load_rules(directory: Path) -> RuleBook:
    """The book. Raises `InvalidDocument`: each fault's path is `FILE:LINE`."""
    files, faults = _contents(directory)
    rules: list[Rule] = []
    sum_of_all = hashlib.sha256()
    for name, data in files.items():
        sum_of_all.update(f"{name}\0{len(data)}\0".encode() + data)
        try:
            text = data.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            faults.append(Fault(f"{name}:{line}", f"not UTF-8: byte {data[error.start]:#04x}"))
            continue
        found, wrong = READERS[Path(name).suffix](text, name)
        rules += found
        faults += wrong
    faults += _together(rules)
    if faults:
        raise InvalidDocument(faults)
    return RuleBook(rules, sum_of_all.hexdigest())


def _contents(directory: Path) -> tuple[dict[str, bytes], list[Fault]]:
    """The rule files by name."""
    try:
        names = sorted(one.name for one in directory.iterdir() if one.suffix in READERS)
    except OSError as error:
        return {}, [Fault(str(directory), f"cannot be read: {error.strerror or error}")]
    names = [name for name in names if not name.startswith(".")]  # editors' own
    if len(names) > FILES_MAX:
        return {}, [Fault(str(directory), f"has {len(names)} rule files; at most {FILES_MAX}")]
    files: dict[str, bytes] = {}
    faults: list[Fault] = []
    for name in names:
        try:
            files[name] = _read(directory / name)
        except ValueError as error:
            faults.append(Fault(name, str(error)))
        except OSError as error:
            faults.append(Fault(name, f"cannot be read: {error.strerror or error}"))
    count = sum(map(len, files.values()))
    if count > BYTES_MAX:
        return {}, [Fault(str(directory), f"{count} bytes in all; at most {BYTES_MAX}")]
    return files, faults


def _read(path: Path) -> bytes:
    """Raises `ValueError`, OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not hold
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("is not a plain file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(FILE_BYTES_MAX + 1)
    finally:
        os.close(descriptor)
    if len(data) > FILE_BYTES_MAX:
        raise ValueError(f"is larger than {FILE_BYTES_MAX} bytes")
    return data


def _together(rules: Iterable[Rule]) -> list[Fault]:
    """What no file can know alone."""
    listed = list(rules)
    first = {rule.name: rule for rule in reversed(listed)}
    faults = [
        Fault(rule.place, f"the name {rule.name!r} is taken by {first[rule.name].place}")
        for rule in listed
        if rule.name and rule is not first[rule.name]
    ]
    if len(listed) > RULES_MAX:
        faults.append(Fault("", f"{len(listed)} rules in all; at most {RULES_MAX}"))
    return faults
