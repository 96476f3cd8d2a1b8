"""A disk of the database's own, in memory, that can be shrunk to its content."""

import ctypes
import os
import subprocess
from pathlib import Path

__all__ = ["SmallDisk", "may_mount", "unshare_mounts"]

CLONE_NEWNS = 0x00020000  # unshare(2)
SIZE = 4 * 2**30
ATTEMPTS = 50

_unshared = False


def unshare_mounts() -> None:
    """Make the mounts private to this process and its children; they end with the last of them."""
    global _unshared  # noqa: PLW0603  # a state of the process
    if os.geteuid() == 0 and hasattr(os, "posix_fadvise"):  # Linux
        libc = ctypes.CDLL(None, use_errno=True)
        private = ["mount", "--make-rprivate", "/"]
        if libc.unshare(CLONE_NEWNS) == 0:
            _unshared = subprocess.run(private, capture_output=True, check=False).returncode == 0


def may_mount() -> bool:
    """Return whether this process has a mount namespace of its own."""
    return _unshared


class SmallDisk:
    """A tmpfs at `place`; while it is not mounted, `place` is an unused directory."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.mounted = False

    def mount(self, like: Path) -> bool:
        """Mount it for the owner of `like`; return whether this process could."""
        if not may_mount():
            return False
        owner = like.stat()
        self.place.mkdir(mode=0o700)
        options = f"size={SIZE},mode=0700,uid={owner.st_uid},gid={owner.st_gid}"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.place)]
        self.mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
        return self.mounted

    def fill(self) -> None:
        """Shrink the disk to its content, so that nothing more fits."""
        for _ in range(
            ATTEMPTS
        ):  # a write meanwhile makes the size too small: the kernel refuses it
            there = os.statvfs(self.place)
            used = (there.f_blocks - there.f_bfree) * there.f_frsize
            if self._resize(used):
                return
        raise OSError(f"{self.place} does not take another size")

    def empty(self) -> None:
        """Restore the size of the disk."""
        self._resize(SIZE)

    def _resize(self, size: int) -> bool:
        command = ["mount", "-o", f"remount,size={size}", str(self.place)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def unmount(self) -> None:
        if self.mounted:
            subprocess.run(["umount", str(self.place)], capture_output=True, check=False)
            self.mounted = False
