"""The kinds installed on this node: resolved, checked, cached by stat, opened for execution.

The check and the execution are of one descriptor: what was checked is what runs. The cache only
saves reading again what stat says is unchanged; a start always opens and judges the file afresh.
"""

from __future__ import annotations

import errno
import json
import os
import time
from typing import Any, NamedTuple

from agent.runner import accounts, confinement, digest, naming, strictmodes
from agent.runner.limits import FRESH_NS, KINDS_ANSWER_BYTES_MAX, KINDS_MAX, MANIFEST_BYTES_MAX
from agent.runner.manifest import DEFAULTS, parse_manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.runner.accounts import Account
    from agent.runner.confinement import Means

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_LOOKS_MAX = 5  # at a kind that is being replaced just now
_SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_Stamp = tuple[int, ...]


class SpawnRefused(Exception):
    """A kind cannot be started. `code` is one of the protocol's spawn errors."""

    is_marked = False  # whether the run file is there already

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Manifest(NamedTuple):
    """A parsed manifest and what was wrong with it."""

    values: dict[str, Any]
    faults: list[str]
    digest: str


class Script(NamedTuple):
    """An opened, checked script. The caller closes `fd`."""

    fd: int
    path: str
    digest: str
    manifest: dict[str, Any]
    account: Account | None = None  # to change to; None: the runner's own


_NO_MANIFEST = Manifest(dict(DEFAULTS), [], "")


class Catalogue:
    """The scripts directory."""

    def __init__(self, path: str, means: Means | None = None) -> None:
        self.path = os.path.realpath(path)
        self._uid = os.getuid()
        self.means = means or confinement.Means(self._uid, None, frozenset())
        self._listing: tuple[_Stamp, frozenset[str], dict[str, list[str]]] | None = None
        self._digests: dict[str, tuple[_Stamp, str]] = {}
        self._manifests: dict[str, tuple[_Stamp, Manifest]] = {}

    def open_script(self, kind: str, *, dry_run: bool) -> Script:
        """Resolve, check, open. SpawnRefused says why not; OSError only for want of resources."""
        fault = strictmodes.path_fault(self.path, self._uid)
        if fault is not None:
            raise SpawnRefused("unsafe_script", fault)
        for _ in range(_LOOKS_MAX):
            manifest, script = self._open_pair(kind, dry_run=dry_run)
            try:
                # Read before and after the script was opened, it is the manifest of this script.
                if self._read_manifest(kind, self._list()[0]).digest == manifest.digest:
                    return self._confined(kind, manifest, script)
            except BaseException:
                os.close(script.fd)
                raise
            os.close(script.fd)
        raise SpawnRefused("no_resources", f"{kind} changed again and again while it was read")

    def _open_pair(self, kind: str, *, dry_run: bool) -> tuple[Manifest, Script]:
        names, kinds = self._list()
        files = kinds.get(kind, [])
        if not files:
            raise SpawnRefused("unknown_kind", f"there is no script for {kind} in {self.path}")
        if len(files) > 1:
            raise SpawnRefused("unsafe_script", _ambiguous(kind, files))
        manifest = self._read_manifest(kind, names)
        if manifest.faults:
            text = "; ".join(manifest.faults)
            raise SpawnRefused("bad_manifest", f"{self.path}/{kind}.toml: {text}")
        if dry_run and not manifest.values["dry_run"]:
            message = f"the manifest of {kind} has no dry_run = true"
            raise SpawnRefused("dry_run_unsupported", message)
        return manifest, self._open_checked(files[0], manifest)

    def _confined(self, kind: str, manifest: Manifest, script: Script) -> Script:
        account, faults = self._confine(manifest, script.fd)
        if faults:
            raise SpawnRefused("bad_manifest", f"{self.path}/{kind}.toml: {'; '.join(faults)}")
        return script._replace(account=account)

    def _confine(self, manifest: Manifest, fd: int) -> tuple[Account | None, list[str]]:
        """(account to change to, why this machine cannot do what the manifest asks for)."""
        name, limits = manifest.values["user"], manifest.values["limits"]
        if name is None and not limits:
            return None, []
        account = None if name is None else accounts.find_account(name)
        faults = [] if name is None else confinement.user_faults(name, account, self.means)
        if account is not None and not faults and not accounts.may_run(os.fstat(fd), account):
            faults.append(f"user {name} may not read and execute the script; run chmod a+rx on it")
        faults += confinement.limit_faults(limits or {}, account, self.means)
        is_own = account is not None and account.uid == self._uid
        return None if is_own else account, faults

    def describe(self) -> dict[str, Any]:
        """{digest, kinds, faults} of the protocol."""
        fault = strictmodes.path_fault(self.path, self._uid)
        faults = []
        kinds: list[dict[str, Any]] = []
        if fault is not None:
            faults.append({"path": self.path, "message": fault})
        else:
            names, found = self._list()
            faults += [
                {"path": f"{self.path}/{name}", "message": "belongs to no script"}
                for name in naming.manifests_without_script(names, found)
            ]
            for kind, files in sorted(found.items()):
                self._describe_into(kinds, faults, kind, files, names)
            self._drop_stale(names)
        return _bounded(self.path, kinds, faults)

    def _describe_into(
        self,
        kinds: list[dict[str, Any]],
        faults: list[dict[str, str]],
        kind: str,
        files: list[str],
        names: frozenset[str],
    ) -> None:
        paths = [f"{self.path}/{name}" for name in files]
        if all(os.path.isdir(path) for path in paths):
            return
        if not naming.KIND.match(kind):
            if any(os.access(path, os.X_OK) for path in paths):  # else a README or the like
                message = f"{kind!r} is not a kind's name: [a-z0-9][a-z0-9_.-]{{0,63}}"
                faults.append({"path": paths[0], "message": message})
            return
        manifest = self._read_manifest(kind, names)
        wrong = [f"{kind}.toml: {fault}" for fault in manifest.faults]
        script_digest = ""
        if len(files) > 1:
            wrong.append(_ambiguous(kind, files))
        else:
            try:
                script = self._open_checked(files[0], manifest)
                try:
                    script_digest = script.digest
                    _, unmet = self._confine(manifest, script.fd)
                    wrong += [f"{kind}.toml: {fault}" for fault in unmet]
                finally:
                    os.close(script.fd)
            except SpawnRefused as refused:
                wrong.append(str(refused))
            except OSError as error:
                wrong.append(f"{paths[0]}: {error.strerror}")
        kinds.append(
            {"kind": kind, "path": paths[0], "digest": script_digest,
             "manifest": manifest.values, "faults": wrong}
        )  # fmt: skip

    def _list(self) -> tuple[frozenset[str], dict[str, list[str]]]:
        try:
            stamp = _stamp(os.stat(self.path))
            if self._listing is not None and self._listing[0] == stamp:
                return self._listing[1:]
            names = frozenset(os.listdir(self.path))
        except OSError as error:
            raise SpawnRefused("unsafe_script", f"{self.path}: {error.strerror}") from None
        kinds = naming.group_by_kind(names)
        if _is_settled(stamp):
            self._listing = stamp, names, kinds
        return names, kinds

    def _read_manifest(self, kind: str, names: frozenset[str]) -> Manifest:
        name = kind + naming.MANIFEST_SUFFIX
        if name not in names:
            return _NO_MANIFEST
        try:
            fd = os.open(f"{self.path}/{name}", _FLAGS)
        except OSError as error:
            return Manifest(_NO_MANIFEST.values, [_open_fault(error)], "")
        try:
            found = os.fstat(fd)
            stamp = _stamp(found)
            cached = self._manifests.get(name)
            if cached is not None and cached[0] == stamp:
                return cached[1]
            fault = strictmodes.file_fault(found, self._uid, must_run=False)
            if fault is None and found.st_size > MANIFEST_BYTES_MAX:
                fault = f"has {found.st_size} bytes; at most {MANIFEST_BYTES_MAX} are read"
            if fault is not None:
                return Manifest(_NO_MANIFEST.values, [fault], "")
            text = os.pread(fd, MANIFEST_BYTES_MAX, 0)
        finally:
            os.close(fd)
        manifest = Manifest(*parse_manifest(text), digest.bytes_digest(text))
        if _is_settled(stamp):
            self._manifests[name] = stamp, manifest
        return manifest

    def _open_checked(self, name: str, manifest: Manifest) -> Script:
        path = f"{self.path}/{name}"
        try:
            fd = os.open(path, _FLAGS)
        except OSError as error:
            if error.errno in _SCARCE:
                raise
            raise SpawnRefused("unsafe_script", f"{path} {_open_fault(error)}") from None
        try:
            found = os.fstat(fd)
            fault = strictmodes.file_fault(found, self._uid, must_run=True)
            if fault is not None:
                raise SpawnRefused("unsafe_script", f"{path} {fault}")
            return Script(fd, path, self._digest(name, fd, found), manifest.values)
        except BaseException:
            os.close(fd)
            raise

    def _digest(self, name: str, fd: int, found: os.stat_result) -> str:
        stamp = _stamp(found)
        cached = self._digests.get(name)
        if cached is not None and cached[0] == stamp:
            return cached[1]
        value = digest.file_digest(fd)
        if _is_settled(stamp):
            self._digests[name] = stamp, value
        return value

    def _drop_stale(self, names: frozenset[str]) -> None:
        for cache in (self._digests, self._manifests):
            for name in [name for name in cache if name not in names]:
                del cache[name]


def _stamp(found: os.stat_result) -> _Stamp:
    return (
        found.st_ctime_ns, found.st_mtime_ns, found.st_dev, found.st_ino,
        found.st_size, found.st_mode, found.st_uid,
    )  # fmt: skip


def _is_settled(stamp: _Stamp) -> bool:
    """Whether a later change would show: within one tick of the file system's clock it may not."""
    return time.time_ns() - max(stamp[0], stamp[1]) > FRESH_NS


def _ambiguous(kind: str, files: list[str]) -> str:
    return f"{kind} is ambiguous: {', '.join(files)} all serve it; leave one"


def _open_fault(error: OSError) -> str:
    return f"cannot be opened: {error.strerror}" + (
        " (a symbolic link? put the file itself there)" if error.errno == errno.ELOOP else ""
    )


def _bounded(
    path: str, kinds: list[dict[str, Any]], faults: list[dict[str, str]]
) -> dict[str, Any]:
    """Cut to what fits in one answer, said aloud. The digest is over all of it."""
    text = json.dumps([kinds, faults], sort_keys=True)
    whole = digest.bytes_digest(text.encode())
    room, kept = KINDS_ANSWER_BYTES_MAX - 1_000, []
    faults = faults[:100]
    room -= len(json.dumps(faults))
    for kind in kinds[:KINDS_MAX]:
        room -= len(json.dumps(kind)) + 2
        if room < 0:
            break
        kept.append(kind)
    if len(kept) < len(kinds):
        message = f"only {len(kept)} of {len(kinds)} kinds fit in one answer; shorten manifests"
        faults.append({"path": path, "message": message})
    return {"digest": whole, "kinds": kept, "faults": faults}
