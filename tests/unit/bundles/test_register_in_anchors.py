"""A file of anchors ends with the head of the register; files of earlier versions have none."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from chem_persistence import Anchor, AnchorFile, InvalidArgument, RegisterHead
from chem_persistence.store.transfer.anchors import writing_anchors
from chem_persistence.store.transfer.register import ArchivedFlow, RegisterDigest

FLOW = UUID("0193a000-0000-7000-8000-000000000001")
ROW = ArchivedFlow(
    archive_no=7,
    flow_id=FLOW,
    events=3,
    link=bytes(range(32)),
    bundle_sha256="b" * 64,
    first_seq=1,
    last_seq=9,
    consumers=("mirror",),
    archived_at=datetime(2026, 11, 29, 12, 0, 0, 5, UTC),
    actor="Ada é",
    by_role="chem_archivist",
)
LINE = (
    '{"actor":"Ada é","archive_no":7,"archived_at":"2026-11-29T12:00:00.000005Z",'
    f'"bundle_sha256":"{"b" * 64}","by_role":"chem_archivist","consumers":["mirror"],"events":3,'
    f'"first_seq":1,"flow_id":"{FLOW}","last_seq":9,"link":"{bytes(range(32)).hex()}"}}\n'
)
OLD = (
    '{"format":"chem_persistence anchors 1","created":"2026-01-01T00:00:00Z"}\n'
    f'{{"flow_id":"{FLOW}","version":3,"link":"{"ab" * 32}"}}\n'
)
HEAD = RegisterHead(1, 7, hashlib.sha256(LINE.encode()).hexdigest())


def ended(lines: str, flows: int) -> bytes:
    digest = hashlib.sha256(lines.encode()).hexdigest()
    return f'{lines}{{"flows":{flows},"sha256":"{digest}"}}\n'.encode()


def test_a_row_is_a_line_of_canonical_json() -> None:
    digest = RegisterDigest()
    digest.add(ROW)
    assert (ROW.line().decode(), digest.head()) == (LINE, HEAD)


def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    file = tmp_path / "anchors"
    file.write_bytes(ended(OLD, 1))
    anchors = AnchorFile(file)
    assert (list(anchors), anchors.register) == ([Anchor(FLOW, 3, "ab" * 32)], None)


def test_the_head_of_the_register_comes_back(tmp_path: Path) -> None:
    for name, head in (("with", HEAD), ("without", None)):
        with writing_anchors(tmp_path / name, datetime.now(UTC)) as writer:
            writer.write(Anchor(FLOW, 3, "ab" * 32))
            if head is not None:
                writer.write_register(head)
        anchors = AnchorFile(tmp_path / name)
        for _ in range(2):
            assert list(anchors) == [Anchor(FLOW, 3, "ab" * 32)]
        assert anchors.register == head


@pytest.mark.parametrize(
    ("lines", "flows"),
    [
        (OLD, 0),  # the anchor of a flow is no head of the register in an old file
        (OLD.replace("anchors 1", "anchors 2"), 0),
        (OLD.replace("anchors 1", "anchors 3"), 1),
    ],
)
def test_a_file_that_no_version_writes_is_refused(tmp_path: Path, lines: str, flows: int) -> None:
    (tmp_path / "anchors").write_bytes(ended(lines, flows))
    with pytest.raises(InvalidArgument, match="anchors"):
        AnchorFile(tmp_path / "anchors")
