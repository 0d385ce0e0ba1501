"""`vla-ros record --scripted`: whole episodes only, goes on where it ended, one writer and order a folder."""

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from vla_ros.cli import app
from vla_ros.data.bag import bag_metadata, closing_metadata, read_bag
from vla_ros.errors import ConfigurationError, DataError
from vla_ros.lockstep import bulk
from vla_ros.lockstep.bulk import demonstrations
from vla_ros.lockstep.collection import Collection
from vla_ros.lockstep.demonstrate import Demonstrator, Order, Result
from vla_ros.sim.expert import Variation

SMALL = "robot: widowx\ncameras:\n  primary: {width: 64, height: 48, rate: 5.0}\n"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("contract") / "small.yaml"
    path.write_text(SMALL)
    return str(path)


def command(small, out, episodes, *more):
    given = ("record", "--scripted", "--robot", small, "--out", str(out), "--episodes", str(episodes))
    return [*given, "--tasks", "push", "--jobs", "1", *more]


def refused(arguments):
    """The one sentence with which a command ends."""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    lines = result.output.strip().splitlines()
    assert len(lines) == 1, result.output
    return lines[0]


def result(seed, success=True, size=1):
    return Result(seed, "pick", success, "", "", 10, 0, 2.0, 0, size)


def test_a_killed_run_leaves_whole_episodes_and_goes_on(small, tmp_path):
    out = tmp_path / "demos"
    first = subprocess.Popen(
        [sys.executable, "-m", "vla_ros.cli", *command(small, out, 6)], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60.0
    while not list(out.glob("episode_*")) or not list(out.glob(".partial/*/*.mcap")):
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.005)
    first.send_signal(signal.SIGKILL)
    first.wait()
    whole = {bag.name: bag.stat().st_mtime_ns for bag in out.glob("episode_*")}
    for bag in out.glob("episode_*"):
        assert sum(1 for _ in read_bag(bag)) > 100
    # its worker notices within a second that nobody waits for it
    figures = tmp_path / "figures.json"
    again = CliRunner().invoke(app, command(small, out, len(whole) + 1, "--json", str(figures)))
    assert again.exit_code == 0, again.output
    bags = sorted(out.glob("episode_*"))
    assert [bag.name for bag in bags] == [f"episode_{seed:06d}" for seed in range(len(whole) + 1)]
    assert not (out / ".partial").exists()
    known = json.loads((out / "scripted.json").read_text())["episodes"]
    assert [entry["seed"] for entry in known] == list(range(len(bags)))
    numbers = json.loads(figures.read_text())
    assert numbers["episodes"] == len(bags) and numbers["speed"]["episodes"] < len(bags)
    assert numbers["bytes"] == sum(file.stat().st_size for bag in bags for file in bag.iterdir())
    kept = [name for name, stamp in whole.items() if (out / name).stat().st_mtime_ns == stamp]
    # at most the last one, whose result was not written down yet, is made again
    assert len(kept) >= len(whole) - 1
    third = CliRunner().invoke(app, command(small, out, len(bags)))
    assert third.exit_code == 0 and f"holds {len(bags)} of {len(bags)}" in third.output


def test_two_at_once_are_refused(small, tmp_path):
    with Collection(tmp_path, Order(small, ("push",), variation=Variation())):
        sentence = refused(command(small, tmp_path, 2))
    assert "is being written by another `vla-ros record`" in sentence


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"robot": "panda"}, "holds episodes of robot widowx, but panda was asked for"),
        ({"tasks": ("pick", "place")}, "holds episodes of tasks push, but pick, place was asked for"),
        ({"seed": 5}, "holds episodes of seed 0, but 5 was asked for"),
        ({"action_space": "bridge"}, "another contract ('action_space: delta_tcp' there"),
        ({"images": "raw"}, "holds episodes of images jpeg, but raw was asked for"),
        ({"variation": Variation(recovery=1.0)}, "holds episodes of another variation"),
    ],
)
def test_a_folder_of_another_order_is_refused(small, tmp_path, change, words):
    order = Order(small, ("push",))
    with Collection(tmp_path, order) as collection:
        collection.add(result(0, success=False, size=0))
    before = (tmp_path / "scripted.json").read_bytes()
    with pytest.raises(ConfigurationError) as refusal:
        Collection(tmp_path, dataclasses.replace(order, **change))
    assert words in str(refusal.value) and str(refusal.value).count("\n") == 0
    assert (tmp_path / "scripted.json").read_bytes() == before
    with Collection(tmp_path, order) as collection:
        assert collection.results == {0: result(0, success=False, size=0)}


def test_a_folder_of_something_else_is_left_alone(small, tmp_path):
    (tmp_path / "thesis.tex").write_text("everything")
    assert "holds 'thesis.tex' but no scripted.json" in refused(command(small, tmp_path, 2))
    assert (tmp_path / "thesis.tex").read_text() == "everything"


def test_a_broken_list_is_refused(small, tmp_path):
    (tmp_path / "scripted.json").write_text('{"order": ')
    assert "scripted.json cannot be read" in refused(command(small, tmp_path, 2))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["record", "--out", "x"], "Say `--scripted`"),
        (["record", "--scripted", "--out", "x", "--tasks", "juggle"], "The task 'juggle' is unknown"),
        (["record", "--scripted", "--out", "x", "--tasks", ","], "No task is given"),
        (["record", "--scripted", "--out", "x", "--robot", "r2d2"], "r2d2"),
        (["record", "--scripted", "--out", "x", "--images", "gif"], "images 'gif' are unknown"),
        (["record", "--scripted", "--out", "x", "--action-space", "guess"], "space 'guess' is unknown"),
        (["record", "--scripted", "--out", "/proc/nowhere"], "/proc/nowhere"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_made(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert words in refused(arguments)
    assert not (tmp_path / "x").exists()


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half(small, tmp_path):
    order = Order(small, ("push",))
    demonstrator = Demonstrator(order, tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(DataError, match="cannot be (written|closed): File too large"):
            demonstrator.make(0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.glob("episode_*")) and not list(tmp_path.glob(".partial/*"))
    # room again: it goes on
    assert demonstrator.make(0).success
    demonstrator.close()


def test_failures_are_counted_and_kept_only_on_request(small, tmp_path, monkeypatch):
    helpless = Variation(recovery=0.0, attempts=0)
    for keep in (False, True):
        out = tmp_path / str(keep)
        demonstrator = Demonstrator(Order(small, ("push",), variation=helpless, keep_failures=keep), out)
        failed = demonstrator.make(0)
        demonstrator.close()
        assert not failed.success and "nothing more to say" in failed.reason
        assert bool(failed.size) is keep
        names = [entry.name for entry in out.glob("episode_*")]
        assert names == (["episode_000000_failure"] if keep else [])
    bag = out / "episode_000000_failure"
    assert [e.message.outcome for e in read_bag(bag, ("/vla/episode_status",))][-1] == 3
    assert closing_metadata(bag)["outcome"] == "failure"


def test_an_episode_of_another_hand_is_not_removed(small, tmp_path):
    order = Order(small, ("push",))
    Collection(tmp_path, order).__exit__()
    demonstrator = Demonstrator(order, tmp_path)
    demonstrator.make(0)
    demonstrator.close()
    # of the expert, but its result was not written down: made again
    assert "expert" in bag_metadata(tmp_path / "episode_000000")
    Collection(tmp_path, order).__exit__()
    assert not (tmp_path / "episode_000000").exists()
    (tmp_path / "episode_000001").mkdir()
    with pytest.raises(DataError, match="episode_000001"):
        Collection(tmp_path, order)
    assert (tmp_path / "episode_000001").exists()


class FakeWorkers:
    """In place of processes: the queue of seeds is worked off at once, some seeds fail."""

    def __init__(self, failing, monkeypatch):
        self.failing, self.tried = failing, []
        monkeypatch.setattr(bulk.multiprocessing, "get_context", lambda kind: self)

    def Queue(self):  # noqa: N802
        return _Queue()

    def Process(self, target, args, daemon):  # noqa: N802
        return _Worker(self, *args[2:4])


class _Queue(list):
    put = list.append

    def get(self, timeout=None):
        if not self:
            raise bulk.queue.Empty
        return self.pop(0)


class _Worker:
    exitcode = 0

    def __init__(self, owner, tasks, results):
        self._owner, self._tasks = owner, tasks
        results.get = self._answer

    def start(self):
        pass

    def _answer(self, timeout=None):
        seed = self._tasks.pop(0)
        self._owner.tried.append(seed)
        return result(seed, seed not in self._owner.failing)

    def join(self, timeout=None):
        pass

    def is_alive(self):
        return False


def test_further_seeds_stand_in_for_failures(small, tmp_path, monkeypatch):
    workers = FakeWorkers({1, 4, 5}, monkeypatch)
    order = Order(small, ("push",))
    done = list(demonstrations(order, tmp_path, 5, {0: True, 1: False}, 2))
    assert sum(entry.success for entry in done) == 4
    assert workers.tried == [2, 3, 4, 5, 6, 7]
    assert list(demonstrations(order, tmp_path, 1, {0: True}, 2)) == []


def test_more_failures_than_successes_end_it(small, tmp_path, monkeypatch):
    workers = FakeWorkers(set(range(100)), monkeypatch)
    done = list(demonstrations(Order(small, ("push",)), tmp_path, 4, {}, 1))
    assert len(done) == 8 and workers.tried == list(range(8))


def test_what_a_worker_says_is_raised(small, tmp_path):
    order = Order(small, ("push",), renderer="crayon")
    with pytest.raises(ConfigurationError, match="The renderer 'crayon' is unknown"):
        list(demonstrations(order, tmp_path, 1, {}, 1))


def test_the_environment_is_as_before_after_starting_workers(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with bulk._SingleThreaded():
        assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "7" and "MKL_NUM_THREADS" not in os.environ


def test_the_benchmarks_figures_add_up():
    from benchmarks.scripted import figures, rows

    one = figures([result(seed) for seed in range(4)], [4.0, 5.0, 6.0, 7.0], 8.0, 1)
    assert (one["episodes"], one["seconds_of_data"], one["bytes"]) == (4, 8.0, 4)
    assert one["episodes_a_minute"] == 30.0 and one["factor_over_real_time"] == 1.0
    # after the start of the process, three episodes of 2 s took 1 s each
    assert one["factor_without_start"] == 2.0
    assert one["seconds_an_episode"] == {"p50": 1.0, "p95": pytest.approx(3.55), "max": 4.0}
    document = {"robot": "panda", "tasks": ["pick"], "one": one, "all": {**one, "processes": 2}}
    (table,) = rows(document)
    assert table.cells[0] == ["one process", "1", "4 of 4", "30.0", "1.0", "2.0", "0"]
