"""`seal`, as a scientist types it."""

import json

from tests.support.commands import command
from tests.support.flows.logged_flows import COMPLETED, FAILED, logged_flows


async def test_a_flow_is_sealed_and_takes_no_more_events(admin_url: str) -> None:
    here = ("--database-url", (await logged_flows(admin_url)).url)
    done = await command("seal", "aaaa", "--actor", "Ada", *here)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"flow {COMPLETED} is sealed\n"
    done = await command("seal", COMPLETED, *here)
    assert done.stdout == f"flow {COMPLETED} was sealed before\n"
    done = await command("seal", COMPLETED, "--json", *here)
    assert json.loads(done.stdout) == [{"flow_id": str(COMPLETED), "new": False}]
    done = await command("invalidate", COMPLETED, "acquire", "--reason", "x", "--actor", "A", *here)
    assert done.returncode != 0
    assert "is sealed" in done.stderr
    done = await command("verify", *here)
    assert (done.returncode, done.stderr) == (0, "")


async def test_a_flow_that_is_not_over_is_not_sealed(admin_url: str) -> None:
    here = ("--database-url", (await logged_flows(admin_url)).url)
    done = await command("seal", FAILED, *here)
    assert done.returncode == 2
    assert f"flow {FAILED} is neither completed nor cancelled" in done.stderr
