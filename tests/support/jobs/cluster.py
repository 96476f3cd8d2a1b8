"""The Slurm of the machine, if there is one."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

__all__ = ["slurm_answers"]


@cache
def slurm_answers() -> bool:
    """Return whether a Slurm is here whose controller answers."""
    configuration = Path(os.environ.get("SLURM_CONF", "/etc/slurm/slurm.conf"))
    if shutil.which("sbatch") is None or not configuration.is_file():
        return False
    try:
        asked = subprocess.run(["sinfo"], capture_output=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0
