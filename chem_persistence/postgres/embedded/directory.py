"""The directory of an embedded server: opened once, and only if no other user can interfere.

A user who can put a file or a link into the directory, or replace the directory, controls the log.
The rules are those of other programs that keep private data in a file system, such as sshd's
StrictModes.
"""

import grp
import os
import pwd
import stat
import tempfile
from pathlib import Path

from chem_persistence.errors import InvalidArgument

__all__ = ["ROOT", "Directory", "open_directory"]

ROOT = 0
IN_DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Directory:
    """An open directory of a user in `owners`; its own files are neither links nor followed."""

    def __init__(self, path: Path, descriptor: int, owners: frozenset[int]) -> None:
        self.path = path
        self._descriptor = descriptor
        self._owners = owners

    @property
    def is_reached_safely(self) -> bool:
        """Whether every directory above belongs to one of the owners or to root.

        Otherwise the owner of one above could exchange this directory, and a socket in it.
        """
        trusted = self._owners | {ROOT}
        return all(above.lstat().st_uid in trusted for above in self.path.parents)

    @property
    def base(self) -> Path:
        """The path under which files of this directory are reached, also after it was renamed."""
        open_here = Path(f"/proc/{os.getpid()}/fd/{self._descriptor}")
        return open_here if open_here.exists() else self.path

    def accept(self, owner: int) -> None:
        """Accept what belongs to one more user: the one that the server runs as."""
        self._owners |= {owner}

    def lock_file(self, name: str) -> int:
        """Open a file, which is created if it is missing.

        Raises:
            InvalidArgument: it cannot be created, or it is a link, or another user made it.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            file = os.open(name, flags, 0o600, dir_fd=self._descriptor)
        except OSError as error:
            if self._is_link(name):
                raise _refused(self.path / name, "is a symbolic link: remove it") from error
            raise InvalidArgument("directory", f"{self.path} cannot be written: {error}") from error
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            os.close(file)
            raise _refused(self.path / name, "is not a file of its own: remove it")
        if found.st_uid not in self._owners:
            os.close(file)
            raise _refused(self.path / name, f"belongs to {_user(found.st_uid)}: remove it")
        return file

    def write(self, name: str, text: str, account: tuple[int, int] | None) -> None:
        """Replace a file by a new one, which belongs to `account` if it is given."""
        fresh = f"{name}.new"
        self._remove(fresh)
        file = os.open(fresh, FRESH, 0o600, dir_fd=self._descriptor)
        with os.fdopen(file, "w", encoding="utf-8") as opened:
            opened.write(text)
            if account is not None:
                os.fchown(opened.fileno(), *account)
        os.rename(fresh, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)

    def has(self, name: str) -> bool:
        """Return whether there is a file, a directory or a link of this name."""
        return self._stat(name) is not None

    def owner_of_folder(self, name: str) -> int | None:
        """Return the user id of a directory inside, or None if it is missing.

        Raises:
            InvalidArgument: it is a link or a file, or its owner is not one of `owners`.
        """
        found = self._stat(name)
        if found is None:
            return None
        if not stat.S_ISDIR(found.st_mode):
            raise _refused(self.path / name, "is a link or a file where a directory is expected")
        if found.st_uid not in self._owners:
            raise _refused(
                self.path / name,
                f"belongs to {_user(found.st_uid)}, who could change the log: remove it, or name "
                "another directory",
            )
        return found.st_uid

    def close(self) -> None:
        """Close the directory."""
        os.close(self._descriptor)

    def _stat(self, name: str) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _is_link(self, name: str) -> bool:
        found = self._stat(name)
        return found is not None and stat.S_ISLNK(found.st_mode)

    def _remove(self, name: str) -> None:
        if self.has(name):
            os.unlink(name, dir_fd=self._descriptor)


def open_directory(given: Path | str | None, owners: frozenset[int]) -> Directory:
    """Open a directory, which is created with those above it if it is missing.

    Without `given`, create a temporary one.

    Raises:
        InvalidArgument: it cannot be created or opened; it does not belong to one of `owners`;
            others may write into it, or into one above it that has no sticky bit; or its path
            leads over a symbolic link of another user.
    """
    if "\n" in str(given):
        raise InvalidArgument(
            "directory", f"{given!r} has a line break, which PostgreSQL rejects in a path"
        )
    try:
        if given is None:
            path = Path(tempfile.mkdtemp(prefix="chem-persistence-")).resolve()
        else:
            _check_links(Path(given).absolute(), owners)
            path = Path(given).resolve()
        _check_above(path)
        _make(path)
        descriptor = os.open(path, os.O_RDONLY | IN_DIRECTORY)
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, InvalidArgument):
            raise
        raise InvalidArgument("directory", f"{given} cannot be created: {error}") from error
    try:
        _check_own(path, os.fstat(descriptor), owners)
    except InvalidArgument:
        os.close(descriptor)
        raise
    return Directory(path, descriptor, owners)


def _make(path: Path) -> None:
    """Create a directory, and those above it for this user to write alone."""
    for missing in reversed([above for above in path.parents if not above.exists()]):
        missing.mkdir(mode=0o755, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)


def _check_links(path: Path, owners: frozenset[int]) -> None:
    """Check every link on the way to a path, before it is followed.

    Raises:
        InvalidArgument: a link belongs neither to one of `owners` nor to root, or lies where others
            could exchange it.
    """
    path.resolve()  # a loop of links raises RuntimeError here
    current = Path(path.anchor)
    for part in path.parts[1:]:
        current /= part
        if current.is_symlink():
            owner = current.lstat().st_uid
            if owner not in owners | {ROOT}:
                raise _refused(current, f"is a symbolic link of {_user(owner)}: name another one")
            _check_above(current.parent.resolve() / current.name)
            _check_links(current.parent / current.readlink(), owners)


def _check_above(path: Path) -> None:
    """Check that other users cannot exchange a path in one of the directories above it."""
    for above in path.parents:
        if not above.exists():
            continue
        found = above.lstat()
        if _others_may_write(found) and not found.st_mode & stat.S_ISVTX:
            raise _refused(
                path,
                f"lies in {above}, into which other users may write and which has no sticky bit, "
                f"so that they could exchange it: chmod go-w {above}, or name another directory",
            )


def _check_own(path: Path, found: os.stat_result, owners: frozenset[int]) -> None:
    if found.st_uid not in owners:
        raise _refused(
            path,
            f"belongs to {_user(found.st_uid)}, and this program runs as {_user(os.geteuid())}: "
            "name a directory of your own",
        )
    if _others_may_write(found):
        raise _refused(
            path,
            f"can be written by other users: chmod go-w {path}, or name another directory",
        )


def _others_may_write(found: os.stat_result) -> bool:
    """Return whether the mode lets other users write; a private group of the owner does not."""
    if found.st_mode & stat.S_IWOTH:
        return True
    return bool(found.st_mode & stat.S_IWGRP) and not _is_private(found.st_gid)


def _is_private(group: int) -> bool:
    """Return whether a group is root's, or the one that this user alone has, as on most Linuxes."""
    if group == ROOT:
        return True
    if group != os.getegid():
        return False
    try:
        return grp.getgrgid(group).gr_name == pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's user has no name
        return True


def _user(uid: int) -> str:
    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user {uid}"


def _refused(path: Path, reason: str) -> InvalidArgument:
    return InvalidArgument("directory", f"{path} {reason}")
