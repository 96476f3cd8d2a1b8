"""`archive`, as an operator types it."""

import json
from pathlib import Path

from tests.support.commands import command
from tests.support.flows.logged_flows import COMPLETED, FAILED, logged_flows


async def test_flows_are_archived_and_come_back(admin_url: str, tmp_path: Path) -> None:
    here = ("--database-url", (await logged_flows(admin_url)).url)
    archive = ("archive", "--to", str(tmp_path), "--actor", "Ada")
    done = await command(*archive, FAILED, *here)
    assert done.returncode == 1
    assert done.stdout == f"flow {FAILED} stays: flow {FAILED} is neither completed nor cancelled\n"
    for wrong in ([], [COMPLETED, "--older-than", "1d"], ["--older-than", "long"]):
        assert (await command(*archive, *wrong, *here)).returncode == 2
    done = await command(*archive, "--older-than", "36500d", *here)
    assert (done.returncode, done.stdout) == (0, "no flow ended so long ago\n")
    done = await command(*archive, COMPLETED, *here)
    (bundle,) = tmp_path.iterdir()
    assert (done.returncode, done.stderr) == (0, "")
    assert "".join(done.stdout.split()) == f"1flowarchivedin{bundle}"
    done = await command("import", str(bundle), *here)
    assert (done.returncode, done.stderr) == (0, "")
    done = await command(*archive, COMPLETED, "--json", *here)
    assert json.loads(done.stdout) == [
        {"bundle": str(bundle), "sha256": bundle.stem, "flows": [str(COMPLETED)]}
    ]
