"""The conversion engine: what goes in comes out, whatever happens on the way."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conversion_source import MadeUp, same_numbers
from demonstration_bag import Demonstration, write_bag

from vla_ros.data.conversion import Options, Progress, convert
from vla_ros.data.conversion_plan import Look, groups
from vla_ros.data.lerobot import open_lerobot
from vla_ros.data.open import open_dataset
from vla_ros.data.selection import Joined, Selected, check_alike
from vla_ros.data.tfrecord import read_records
from vla_ros.data.workers import Workers
from vla_ros.errors import ConfigurationError, DataError

ONE = Options(workers=1, group_size=2)
CHILD = Path(__file__).with_name("conversion_child.py")


def nothing_left(folder: Path, *names: str) -> None:
    """Only what is named lies in the folder, hidden or not."""
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_processes_write_what_one_process_writes(tmp_path: Path) -> None:
    source = MadeUp(tmp_path / "source")
    said: list[Progress] = []
    one = convert(source, tmp_path / "one", "lerobot", replace(ONE, group_size=1), said.append)
    two = convert(source, tmp_path / "two", "lerobot", Options(workers=2, group_size=1))
    assert (one.episodes, one.steps, one.groups, one.rounded) == (4, 33, 4, 0.0)
    assert (two.episodes, two.steps, two.groups) == (4, 33, 4)
    for a, b in zip(open_lerobot(tmp_path / "one"), open_lerobot(tmp_path / "two"), strict=True):
        same_numbers(a, b)
        assert np.array_equal(a.image("wrist", 2), b.image("wrist", 2))
    last = said[-1]
    assert (last.phase, last.done, last.total) == ("write", 33, 33) and last.per_second > 0
    nothing_left(tmp_path, "one", "source", "two")


def test_an_existing_target_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "precious").write_text("mine")
    with pytest.raises(DataError, match="set exists already; nothing was written"):
        convert(MadeUp(tmp_path / "source"), tmp_path / "set", "lerobot", ONE)
    assert (tmp_path / "set" / "precious").read_text() == "mine"
    nothing_left(tmp_path, "set", "source")


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ({"without_camera": 2}, r"episode 2 lacks the camera 'wrist', which .*episode 0 has"),
        ({"not_a_number": 1}, r"episode 1: the action of step 3 is nan in 'y'; numbers must be finite"),
        ({"other_rate": 3}, r"episode 0 and .*episode 3 differ in their rate: 10.0 and 11.0"),
        ({"other_contract": 1}, r"episode 0 and .*episode 1 differ in their contract\."),
        ({"outcomes": ("discarded",) * 4}, r"no episode of the outcomes that are taken: 4 discarded"),
        ({"lengths": ()}, r"has no episodes"),
        ({"lengths": (3, 0)}, r"episode 1 has no steps"),
        ({"rate": 0.0, "other_rate": -1}, r"does not state how many steps it has a second; --rate does"),
    ],
)
def test_what_does_not_fit_is_one_sentence(tmp_path: Path, fault: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        convert(MadeUp(tmp_path / "source", **fault), tmp_path / "set", "lerobot", ONE)
    nothing_left(tmp_path, "source")


def test_outcomes(tmp_path: Path) -> None:
    source = MadeUp(tmp_path / "source", outcomes=("success", "failure", "discarded", "aborted"))
    done = convert(source, tmp_path / "both", "lerobot", ONE)
    assert done.episodes == 2 and done.left_out == {"discarded": 1, "aborted": 1}
    done = convert(source, tmp_path / "good", "lerobot", replace(ONE, outcomes=("success",)))
    assert done.episodes == 1 and done.left_out["failure"] == 1
    with pytest.raises(ConfigurationError, match="'discarded' cannot be asked for; success, failure"):
        Options(outcomes=("discarded",))


def test_a_full_disk_is_one_sentence_and_the_rest_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, calls = MadeUp(tmp_path / "source"), []
    write = pq.ParquetWriter.write_table

    def full(self: Any, *arguments: Any, **named: Any) -> None:
        calls.append(1)
        if len(calls) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, *arguments, **named)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(DataError, match=r"cannot be written: No space left on device\."):
        convert(source, tmp_path / "set", "lerobot", ONE)
    assert not (tmp_path / "set").exists()
    assert not list(tmp_path.rglob("*.part"))
    done = convert(source, tmp_path / "set", "lerobot", ONE)
    assert (done.groups, done.groups_kept) == (2, 1)
    nothing_left(tmp_path, "set", "source")


def test_a_video_that_finds_the_disk_full(tmp_path: Path) -> None:
    """The real thing: a file system that refuses, through a limit on the size of files."""
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from conversion_source import MadeUp\n"
        "from vla_ros.data.conversion import Options, convert\n"
        "from vla_ros.errors import DataError\n"
        f"source = MadeUp(Path({str(tmp_path / 'source')!r}), lengths=(60,), cameras={{'p': (240, 320)}})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n"
        "try:\n"
        f"    convert(source, Path({str(tmp_path / 'set')!r}), 'lerobot', Options(workers=1))\n"
        "except DataError as error:\n"
        "    print(error)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=CHILD.parent, timeout=60,
        env={**os.environ, "PYTHONPATH": f"{CHILD.parent}:{CHILD.parents[1]}"},
    )  # fmt: skip
    assert "cannot be written: File too large." in ran.stdout, ran.stdout + ran.stderr
    assert not (tmp_path / "set").exists() and not list(tmp_path.rglob("*.part"))


def test_killed_at_random_moments_then_finished(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "set"
    plain = MadeUp(source, lengths=(6,) * 12)
    convert(plain, tmp_path / "uninterrupted", "lerobot", replace(ONE, group_size=1))
    rng, kills = random.Random(7), 0
    environment = {**os.environ, "PYTHONPATH": str(CHILD.parents[1])}
    journal = tmp_path / ".set.unfinished" / "journal.jsonl"
    for _ in range(6):
        command = [sys.executable, str(CHILD), str(source), str(target), "0.05", "2"]
        child = subprocess.Popen(command, env=environment, start_new_session=True)
        already = journal.read_bytes().count(b"\n") if journal.exists() else 0
        until = time.monotonic() + 30
        while child.poll() is None and time.monotonic() < until:
            if journal.exists() and journal.read_bytes().count(b"\n") > already:
                break
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.15))
        if child.poll() is None:
            os.kill(child.pid, signal.SIGKILL)  # the parent alone: its workers must end by themselves
            kills += 1
        child.wait()
        assert not target.exists() or len(open_lerobot(target)) == 12
        if target.exists():
            break
    assert kills >= 2
    if not target.exists():
        convert(plain, target, "lerobot", replace(ONE, group_size=1))
    whole, resumed = open_lerobot(tmp_path / "uninterrupted"), open_lerobot(target)
    assert len(whole) == len(resumed) == 12
    for a, b in zip(whole, resumed, strict=True):
        same_numbers(a, b)
        for camera in a.images:
            assert all(np.array_equal(a.image(camera, k), b.image(camera, k)) for k in range(len(a)))
    for name in ("meta/info.json", "meta/stats.json", "meta/vla_ros.json"):
        assert (whole.info.path / name).read_text().replace("uninterrupted", "set") == (
            target / name
        ).read_text()
    nothing_left(tmp_path, "set", "source", "uninterrupted")


def test_bags_and_back(tmp_path: Path) -> None:
    source = MadeUp(tmp_path / "source")
    done = convert(source, tmp_path / "bags", "bags", ONE)
    assert sorted(path.name for path in done.target.iterdir()) == [f"episode_{k:06d}" for k in range(4)]
    for a, b in zip(source, open_dataset(tmp_path / "bags"), strict=True):
        same_numbers(a, b)
        assert all(list(a.images[camera]) == list(b.images[camera]) for camera in a.images)
    nothing_left(tmp_path, "bags", "source")


def test_rlds_and_back(tmp_path: Path) -> None:
    source = MadeUp(tmp_path / "source")
    convert(source, tmp_path / "rlds", "rlds", Options(workers=2, group_size=3))
    for a, b in zip(source, open_dataset(tmp_path / "rlds"), strict=True):
        same_numbers(a, b)
        assert all(list(a.images[camera]) == list(b.images[camera]) for camera in a.images)
    nothing_left(tmp_path, "rlds", "source")


def test_parts_of_rlds_hold_the_very_records(tmp_path: Path) -> None:
    convert(MadeUp(tmp_path / "source"), tmp_path / "rlds", "rlds", ONE)
    whole = open_dataset(tmp_path / "rlds")
    convert(Selected(whole, [2, 0]), tmp_path / "part", "rlds", ONE)

    def records(folder: Path) -> list[bytes]:
        return [record.data for file in sorted(folder.glob("*.tfrecord*")) for record in read_records(file)]

    all_records = records(tmp_path / "rlds")
    assert records(tmp_path / "part") == [all_records[2], all_records[0]]


def test_a_bag_that_fails_the_audit_is_refused_unless_accepted(tmp_path: Path) -> None:
    for number, frozen in enumerate((False, True)):
        picture = (lambda camera, t: np.full((24, 32, 3), 90, np.uint8)) if frozen else None
        write_bag(tmp_path / "bags" / f"e{number}", Demonstration(episode_id=f"e{number}", picture=picture))
    source = open_dataset(tmp_path / "bags")
    with pytest.raises(DataError, match="1 of 2 bags fail the audit, nothing was converted: .*e1") as caught:
        convert(source, tmp_path / "set", "lerobot", ONE)
    assert str(caught.value).endswith("--accept-failed converts them as they are.")
    nothing_left(tmp_path, "bags")
    done = convert(source, tmp_path / "set", "lerobot", replace(ONE, accept_failed=True))
    assert done.episodes == 2
    for a, b in zip(source, open_lerobot(tmp_path / "set"), strict=True):
        same_numbers(a, b)


def interrupted(source: MadeUp, target: Path) -> None:
    """Leave a conversion behind whose first group is done."""

    def stop(progress: Progress) -> None:
        if progress.phase == "write" and progress.done > 19:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, target, "lerobot", ONE, stop)
    assert not target.exists() and not list(target.parent.rglob("*.part"))


def test_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    source = MadeUp(tmp_path / "source")
    interrupted(source, tmp_path / "set")
    done = convert(source, tmp_path / "set", "lerobot", ONE)
    assert (done.groups, done.groups_kept) == (2, 1)
    for a, b in zip(source, open_lerobot(tmp_path / "set"), strict=True):
        same_numbers(a, b)


def test_ctrl_c_ends_the_workers(tmp_path: Path) -> None:
    source = MadeUp(tmp_path / "source", pause=0.05)

    def stop(progress: Progress) -> None:
        if progress.phase == "write" and progress.done:
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "set", "lerobot", Options(workers=2, group_size=1), stop)
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    running = [Path(f"/proc/{child}/cmdline").read_bytes() for child in children]
    assert not [line for line in running if b"spawn_main" in line]
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("change", "options", "sentence"),
    [
        ({}, {"group_size": 3}, "of other episodes or options; finish it as it was begun"),
        ({"seed": 1, "lengths": (7, 12, 9, 6)}, {}, "of other episodes or options"),
        ({}, {"codec": "av1"}, "of other format"),
        ({}, {"name": "another"}, "of other name"),
    ],
)
def test_another_plan_does_not_go_on(
    tmp_path: Path, change: dict[str, Any], options: dict[str, Any], sentence: str
) -> None:
    source = MadeUp(tmp_path / "source")
    interrupted(source, tmp_path / "set")
    with pytest.raises(DataError, match=sentence):
        convert(
            replace(source, **change), tmp_path / "set", "lerobot", replace(ONE, **{"workers": 1, **options})
        )
    assert convert(source, tmp_path / "set", "lerobot", ONE).groups_kept == 1


def test_a_source_that_changed_does_not_go_on(tmp_path: Path) -> None:
    source = MadeUp(tmp_path / "source")
    interrupted(source, tmp_path / "set")
    (tmp_path / "source" / "made_up").write_text("changed")
    with pytest.raises(DataError, match="an unfinished conversion of other data"):
        convert(source, tmp_path / "set", "lerobot", ONE)


def test_a_source_that_changes_meanwhile(tmp_path: Path) -> None:
    def change(progress: Progress) -> None:
        if progress.phase == "write" and progress.done == 33:
            (tmp_path / "source" / "made_up").write_text("changed meanwhile")

    with pytest.raises(DataError, match="was changed while it was converted; nothing was finished"):
        convert(MadeUp(tmp_path / "source"), tmp_path / "set", "lerobot", ONE, change)
    assert not (tmp_path / "set").exists()


def test_two_at_once(tmp_path: Path) -> None:
    source, found = MadeUp(tmp_path / "source"), []

    def second(progress: Progress) -> None:
        if progress.phase == "write" and not found:
            with pytest.raises(DataError, match="another conversion to .*set is at work") as caught:
                convert(source, tmp_path / "set", "lerobot", ONE)
            found.append(caught)

    convert(source, tmp_path / "set", "lerobot", ONE, second)
    assert found


def test_a_worker_that_dies_is_one_sentence() -> None:
    with (
        Workers(2) as workers,
        pytest.raises(DataError, match="a worker process ended unexpectedly, often for lack of memory"),
    ):
        workers.run(_die, range(4), lambda argument, result: None)


def _die(state: Any, argument: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def look(steps: int, videos: str = "") -> Look:
    return Look("e", steps, ("t",), "", "", videos, 0.0, 5.0, "", "")


def test_groups_cover_every_episode_once() -> None:
    looks = [look(steps) for steps in (900, 900, 900, 1, 20000, 3, 3)]
    parts = groups(looks, None, float("inf"), 5.0)
    assert [part.lengths for part in parts] == [(900, 900), (900, 1), (20000,), (3, 3)]
    assert [part.first_episode for part in parts] == [0, 2, 4, 5]
    assert [part.first_step for part in parts] == [0, 1800, 2701, 22701]
    assert {part.count for part in parts} == {4}
    assert [part.lengths for part in groups(looks[:3], 2, 300.0, 5.0)] == [(900,), (900,), (900,)]
    assert [part.lengths for part in groups([look(100)] * 6, None, 900.0, 5.0)] == [(100, 100)] * 3
    videos = [look(5, "a"), look(5, "a"), look(5, "b")]
    assert [part.lengths for part in groups(videos, None, 900.0, 5.0)] == [(5, 5), (5,)]


def test_joined_and_selected(tmp_path: Path) -> None:
    a, b = MadeUp(tmp_path / "a", lengths=(3, 4)), MadeUp(tmp_path / "b", lengths=(5,), seed=1)
    joined = Joined([a, b])
    assert [joined.steps(k) for k in range(3)] == [3, 4, 5]
    same_numbers(joined.episode(2), b.episode(0))
    some = Selected(joined, [2, 0])
    assert [some.steps(k) for k in range(2)] == [5, 3]
    with pytest.raises(DataError, match="3 is not among them"):
        Selected(joined, [3])
    done = convert(Selected(joined, [2, 0]), tmp_path / "set", "lerobot", ONE)
    assert done.steps == 8
    same_numbers(open_lerobot(tmp_path / "set").episode(0), b.episode(0))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"space": "joints"}, "differ in action space: delta_tcp and joints"),
        ({"rate": 5.0}, "differ in steps a second: 10.0 and 5.0"),
        (
            {"cameras": {"primary": (48, 64)}},
            "differ in cameras: primary 64x48, wrist 32x32 and primary",
        ),
    ],
)
def test_sets_that_do_not_fit_together(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    a, b = MadeUp(tmp_path / "a"), MadeUp(tmp_path / "b", **change)
    with pytest.raises(DataError, match=f"a and .*b cannot be one data set: they {sentence}"):
        check_alike(a.info, b.info)
