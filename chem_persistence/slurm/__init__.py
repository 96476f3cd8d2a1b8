"""Steps whose work is a job of Slurm (https://slurm.schedmd.com), by its command lines.

Nothing is to be installed for it but Slurm's own commands: `sbatch`, `squeue`, `scancel` and, where
the site has them, `sacct` and `scontrol`.
"""

from chem_persistence.slurm.commands import SlurmError
from chem_persistence.slurm.step import SlurmId, SlurmJob

__all__ = ["SlurmError", "SlurmId", "SlurmJob"]
