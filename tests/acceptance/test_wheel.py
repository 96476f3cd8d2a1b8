"""The wheel contains everything that the library needs."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parents[2]


def test_the_wheel_carries_the_sql_the_page_and_the_type_marker(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT],
        capture_output=True,
        timeout=120,
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(ZipFile(wheel).namelist())
    sql = {f"chem_persistence/{path.relative_to(ROOT)}" for path in (ROOT / "sql").rglob("*.sql")}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "chem_persistence").rglob("*.py")}
    assets = {f"chem_persistence/pages/html/{name}" for name in ("page.css", "page.js")}
    assert sql
    assert (
        sql | modules | assets | {"chem_persistence/py.typed", "chem_persistence/sql/schema_f5.sql"}
        <= packed
    )
    assert not [name for name in packed if name.startswith(("tests", "examples"))]
