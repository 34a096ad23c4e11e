"""A claim is held once, is given back, and is taken over from the dead."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from backend.shared import claims
from backend.shared.claims import claimed


def test_one_of_many_gets_it_and_gives_it_back(tmp_path: Path) -> None:
    got: list[bool] = []
    together = threading.Barrier(8)

    def take() -> None:
        together.wait()
        with claimed(tmp_path, "job") as ours:
            got.append(ours)
            together.wait()

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False] * 7 + [True]
    with claimed(tmp_path, "job") as ours:
        assert ours
    assert not list(tmp_path.iterdir())


def test_claim_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from backend.shared.claims import claimed\n"
        "with claimed(pathlib.Path(sys.argv[1]), 'job'): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == b"held\n"
    with claimed(tmp_path, "job") as ours:
        assert not ours
    process.kill()
    process.wait()
    with claimed(tmp_path, "job") as ours:
        assert ours


def test_claim_of_another_machine_is_stale_when_nobody_touches_it(tmp_path: Path) -> None:
    path = tmp_path / "job.claim"
    path.write_text(json.dumps({"mark": "theirs", "host": "another", "pid": 1}))
    with claimed(tmp_path, "job") as ours:
        assert not ours
    long_ago = time.time() - 2 * claims.STALE_S
    os.utime(path, (long_ago, long_ago))
    with claimed(tmp_path, "job") as ours:
        assert ours and json.loads(path.read_text())["mark"] != "theirs"


def test_a_claim_that_was_taken_over_is_not_removed_by_its_first_owner(tmp_path: Path) -> None:
    path = tmp_path / "job.claim"
    with claimed(tmp_path, "job"):
        path.write_text(json.dumps({"mark": "theirs", "host": "another", "pid": 1}))
    assert path.exists()
