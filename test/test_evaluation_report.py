"""Reports from bags: complete ones, poor ones, broken ones."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import av
import numpy as np
import pytest
from fake_run import START, motion, write_fake_run

from vla_ros.data.bag import BagMessage, BagWriter
from vla_ros.data.message_types import MessageTypes
from vla_ros.errors import DataError
from vla_ros.evaluation.figures import envelope
from vla_ros.evaluation.plots import differences
from vla_ros.evaluation.report import make_report, task_results
from vla_ros.evaluation.run_data import load_run
from vla_ros.evaluation.timeline import intervention_spans, state_spans
from vla_ros.evaluation.video import HEIGHT, RATE, captions, compose, image_of
from vla_ros.robots import load_robot
from vla_ros.types import InterventionAction, SafetyState

ROBOT = load_robot("widowx")


class Strict(HTMLParser):
    """Every tag that is opened is closed, in order."""

    void = {"meta", "img", "br", "link", "input", "hr"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list) -> None:
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def read_page(path: Path) -> str:
    page = path.read_text(encoding="utf-8")
    parser = Strict()
    parser.feed(page)
    assert parser.open == []
    for reference in re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?([^"\')> ]+)', page):
        assert reference == "video.mp4" or reference.startswith(("data:", "#")), reference
    assert "@import" not in page and "<script" not in page
    assert "#0101" not in page  # every stand-in colour became one of the page's
    return parser.text


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    folder = tmp_path_factory.mktemp("run")
    bag = write_fake_run(folder / "bag", ROBOT, 5.0)
    return bag, make_report(bag, "widowx", folder / "out")


def test_the_report_says_what_happened(made: tuple) -> None:
    _, summary = made
    text = read_page(summary.report)
    for words in (
        "Run of Trossen WidowX", "pick up the red block", "The red block is 6 cm above the table.",
        "No limit was broken", "camera stamp to first command", "/vla/joint_setpoint", "wrist_rotate",
        "The red block is not in sight.", "robot: widowx", "joint velocity",
    ):  # fmt: skip
        assert words in text, words
    (task,) = summary.tasks
    assert task.done and task.sentence().startswith('"pick up the red block": done after 5')
    assert summary.verdict.violations == ()


def test_the_video_has_every_moment(made: tuple) -> None:
    _, summary = made
    with av.open(str(summary.video)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate) == ("h264", "yuv420p", RATE)
        assert (stream.width, stream.height) == (960, HEIGHT + 56)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert abs(len(frames) - 5 * RATE) <= 2
    early, late = frames[5].astype(int), frames[60].astype(int)
    assert np.abs(early[100:] - late[100:]).mean() > 1  # the block moves
    assert np.abs(early[:56] - late[:56]).mean() > 0.1  # so does the clock


def test_violations_are_shown(tmp_path: Path) -> None:
    q = motion(ROBOT, 3.0)
    q[150:, 1] += 0.05
    bag = write_fake_run(tmp_path / "bag", ROBOT, positions=q, images=False)
    summary = make_report(bag, ROBOT, tmp_path)
    text = read_page(summary.report)
    assert summary.verdict.violations and summary.video is None
    assert "violations in" in text and "shoulder" in text and "No camera frames were recorded." in text


@pytest.mark.parametrize(
    "topic",
    [
        *(f"/vla/{name}" for name in ("joint_setpoint", "safety_status", "action_chunk", "policy_output")),
        *(f"/vla/{name}" for name in ("observation", "episode_status", "instruction")),
        ROBOT.driver.joint_state_topic,
        ROBOT.driver.command_topic,
    ],
)
def test_each_missing_stream_is_survived(tmp_path: Path, topic: str) -> None:
    bag = write_fake_run(tmp_path / "bag", ROBOT, 2.0, images=False, omit=(topic,))
    text = read_page(make_report(bag, ROBOT, tmp_path).report)
    if topic == "/vla/joint_setpoint":
        assert "No joint setpoints were recorded." in text
    if topic == "/vla/episode_status":
        assert "No episode was recorded." in text


def test_a_bag_of_something_else_gives_an_honest_page(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        writer.write("/other", "std_msgs/Int64", 5, writer.types.create("std_msgs/Int64", data=1))
    text = read_page(make_report(tmp_path / "bag", ROBOT, tmp_path).report)
    assert "Nothing to judge" in text and "Neither setpoints nor joint states were recorded." in text


def test_a_killed_recording_is_reported_as_such(tmp_path: Path) -> None:
    bag = write_fake_run(tmp_path / "bag", ROBOT, 2.0, images=False)
    file = bag / "bag.mcap"
    file.write_bytes(file.read_bytes()[:-40])
    (bag / "metadata.yaml").unlink()
    assert "The bag was not closed" in read_page(make_report(bag, ROBOT, tmp_path).report)
    file.write_bytes(b"nothing")
    with pytest.raises(DataError, match="not an MCAP"):
        make_report(bag, ROBOT, tmp_path)


def test_words_from_the_bag_cannot_become_markup(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag", {"contract": "<script>alert(1)</script>"}) as writer:
        status = writer.types.create(
            "vla_ros/EpisodeStatus",
            episode_id="e",
            instruction="<script>x</script> $\\bad$",
            outcome=3,
            reason="<b>5 $ and 6 $</b>",
        )
        writer.write("/vla/episode_status", "vla_ros/EpisodeStatus", START, status)
        writer.write("/vla/episode_status", "vla_ros/EpisodeStatus", START + 10**9, status)
    summary = make_report(tmp_path / "bag", ROBOT, tmp_path)
    assert "<script>x</script>" in read_page(summary.report) and not summary.tasks[0].done


def test_spans_join_reports_that_follow_on(made: tuple) -> None:
    run = load_run(made[0], ROBOT)
    spans = intervention_spans(run)
    assert [(s.action, s.reason) for s in spans] == [
        (InterventionAction.LIMIT, "joint_velocity"),
        (InterventionAction.SLOWDOWN, "floor"),
        (InterventionAction.HOLD, "starvation"),
    ]
    assert (spans[0].stop - spans[0].start) * 1e-9 == pytest.approx(0.55, abs=0.06)
    states = state_spans(run)
    assert [s[0].name for s in states] == ["IDLE", "RUNNING", "LIMITED", "RUNNING", "HOLDING", "RUNNING"]
    caption = captions(run)(START + 1_300_000_000)
    assert caption.state is SafetyState.LIMITED and caption.instruction == "pick up the red block"
    assert caption.intervention.startswith("slowdown: floor")
    assert task_results(run)[0].outcome == "done"


def test_long_and_foreign_words_fit_the_bar() -> None:
    caption = captions(load_run_stub())(0)
    frame = compose([np.zeros((HEIGHT, 480, 3), np.uint8)], caption)
    assert frame.shape == (HEIGHT + 56, 480, 3) and frame[:56].max() > 200


def load_run_stub():
    from types import SimpleNamespace

    empty = SimpleNamespace(stamps=np.array([], np.int64), __len__=lambda self: 0)

    class Empty(list):
        stamps = empty.stamps

    words = "lege den roten Würfel bitte ganz vorsichtig auf den grünen Teller, und zwar in die Mitte " * 3
    return SimpleNamespace(
        setpoints=Empty(), statuses=Empty(), instructions=((0, words),), interventions=(), start=0
    )


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "mono8"])
def test_encodings_become_rgb(encoding: str) -> None:
    types = MessageTypes()
    channels = {"rgba8": 4, "mono8": 1}.get(encoding, 3)
    data = np.zeros((2, 5, channels), np.uint8)
    data[..., 0] = 200
    padded = np.pad(data.reshape(2, -1), ((0, 0), (0, 3)))
    message = types.create(
        "sensor_msgs/Image", height=2, width=5, encoding=encoding, step=padded.shape[1], data=padded.tobytes()
    )
    kind = "sensor_msgs/msg/Image"
    rgb = image_of(BagMessage("/c", kind, 0, types.serialize(message, kind), types))
    wanted = {"rgb8": [200, 0, 0], "rgba8": [200, 0, 0], "bgr8": [0, 0, 200], "mono8": [200] * 3}[encoding]
    assert rgb.shape == (2, 5, 3) and rgb[1, 4].tolist() == wanted


@pytest.mark.parametrize("change", [{"encoding": "bayer_rggb8"}, {"height": 900}, {"step": 1}, {"width": 0}])
def test_an_image_that_is_none_is_a_sentence(change: dict) -> None:
    types = MessageTypes()
    values = {"height": 2, "width": 5, "encoding": "rgb8", "step": 15, "data": bytes(30), **change}
    kind = "sensor_msgs/msg/Image"
    raw = types.serialize(types.create("sensor_msgs/Image", **values), kind)
    with pytest.raises(DataError, match="topic /c at 7 ns"):
        image_of(BagMessage("/c", kind, 7, raw, types))


def test_curves_keep_their_peaks() -> None:
    values = np.random.default_rng(0).normal(size=100_000)
    values[77_777] = 50.0
    values[5] = np.nan
    times, kept = envelope(np.arange(100_000.0), values)
    assert len(kept) <= 800 and kept.max() == 50.0 and kept.min() == np.nanmin(values)
    assert (np.diff(times) > 0).all()


def test_differences_do_not_reach_over_holes() -> None:
    values = np.array([0.0, 1, 2, 30, 31, 32, 33])
    found = differences(values, 1, 1.0, np.array([2]))
    np.testing.assert_array_equal(found, [np.nan, 1, 1, np.nan, 1, 1, 1])
