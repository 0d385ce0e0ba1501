"""Client and server over a loopback: answers, refusals, lost connections, tokens, TLS, batches."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import serve

from vla_ros.actions.normalization import ActionStatistics, Normalization, NormalizationKind
from vla_ros.errors import InstructionError, PolicyError
from vla_ros.policies.base import CameraNeed, PolicyRequirements
from vla_ros.policies.remote.client import make_remote
from vla_ros.policies.remote.layout import LAYOUTS
from vla_ros.policies.remote.server import BatchPolicy, PolicyServer, ServerOptions
from vla_ros.policies.remote.wire import pack, unpack
from vla_ros.robots import load_robot
from vla_ros.types import CameraImage, JointState, Observation, PolicyOutput, Pose

pytestmark = pytest.mark.live

ROBOT = load_robot("panda")
CAMERA = next(iter(ROBOT.cameras))
TOKEN = "a-token-of-thirty-two-characters"


class Echo:
    """Answers the mean brightness of the frame in the first number."""

    def __init__(self, normalization: Normalization | None = None) -> None:
        self.requirements = PolicyRequirements(
            "delta_tcp", 5.0, 2, (CameraNeed(CAMERA),), normalization=normalization
        )
        self.instruction = ""
        self.seen: list[Observation] = []

    def load(self) -> None:
        pass

    def reset(self, instruction: str) -> None:
        if instruction == "nonsense":
            raise InstructionError("The instruction names nothing.")
        self.instruction = instruction

    def infer(self, observation: Observation) -> PolicyOutput:
        if self.instruction == "crash":
            raise ZeroDivisionError("a secret of the server")
        self.seen.append(observation)
        values = np.zeros((2, 7))
        values[:, 0] = observation.images[CAMERA].rgb.mean() / 1000.0
        if self.instruction == "finish":
            return PolicyOutput(observation.stamp, observation.sequence, "delta_tcp", None, terminate=True)
        return PolicyOutput(observation.stamp, observation.sequence, "delta_tcp", values, text="so be it")


class Batch(Echo):
    """Answers several at once, and notes how many."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def infer_batch(self, observations: list[Observation]) -> list[PolicyOutput]:
        self.sizes.append(len(observations))
        time.sleep(0.05)
        if any(one.instruction == "nonsense" for one in observations):
            raise InstructionError("The instruction names nothing.")
        return [self.infer(one) for one in observations]


def observe(level: int = 100, sequence: int = 1) -> Observation:
    frame = np.full((12, 16, 3), level, dtype=np.uint8)
    joints = JointState(5, ROBOT.home, np.zeros(0), np.zeros(0))
    pose = Pose(np.array([0.4, 0.0, 0.3]), np.array([0.0, 1.0, 0.0, 0.0]))
    return Observation(5, sequence, {CAMERA: CameraImage(5, frame)}, joints, 0.04, pose)


@pytest.fixture
def start() -> Iterator[Callable[..., PolicyServer]]:
    servers: list[PolicyServer] = []

    def make(policy: Any, form: str = "vla_ros", **options: Any) -> PolicyServer:
        server = PolicyServer(policy, ROBOT, LAYOUTS[form], ServerOptions(**{"port": 0, **options}))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.close()


def client(server: PolicyServer, **options: Any) -> Any:
    return make_remote(
        ROBOT, **{"url": f"ws://127.0.0.1:{server.port}", "cameras": CAMERA, "timeout": 5.0, **options}
    )


def test_an_observation_there_and_actions_back(start: Callable[..., PolicyServer]) -> None:
    echo = Echo()
    policy = client(start(echo))
    policy.load()
    policy.reset("pick up the red block")
    output = policy.infer(observe(120, 9))
    assert output.values is not None and output.values.shape == (2, 7)
    assert output.values[0, 0] == pytest.approx(0.12) and output.text == "so be it"
    assert (output.stamp, output.sequence, output.action_space) == (5, 9, "delta_tcp")
    assert set(output.latency) == {"preprocess", "network", "server"}
    (seen,) = echo.seen
    assert (seen.stamp, seen.sequence, seen.instruction) == (5, 9, "pick up the red block")
    assert np.array_equal(seen.joints.positions, ROBOT.home) and seen.gripper_width == 0.04
    assert np.array_equal(seen.tcp_pose.position, [0.4, 0.0, 0.3])
    assert np.array_equal(seen.images[CAMERA].rgb, observe(120).images[CAMERA].rgb)
    policy.reset("finish")
    assert policy.infer(observe()).terminate
    policy.close()


@pytest.mark.parametrize("form", ["droid", "libero"])
def test_openpis_own_names(start: Callable[..., PolicyServer], form: str) -> None:
    """A client of openpi, as far as the wire shows: a map of its keys, answered by `actions`."""
    echo = Echo()
    server = start(echo, form)
    policy = client(server, layout_name=form)
    policy.load()
    policy.reset("go")
    assert policy.infer(observe(50)).values is not None
    (seen,) = echo.seen
    if form == "droid":
        assert np.allclose(seen.joints.positions, ROBOT.home, atol=1e-6)
        assert seen.gripper_width == pytest.approx(0.04, abs=1e-6)
    policy.close()
    time.sleep(0.1)
    key = LAYOUTS[form].images[0]
    with connect(f"ws://127.0.0.1:{server.port}", compression=None, proxy=None) as raw:
        assert unpack(raw.recv())["action_space"] == "delta_tcp"
        raw.send(pack({key: np.full((3, 8, 8), 30, np.uint8), "prompt": "go"}))
        answer = unpack(raw.recv())
        assert answer["actions"].dtype == np.float32 and answer["actions"].shape == (2, 7)
        assert answer["server_timing"]["infer_ms"] >= 0.0


def test_actions_leave_in_their_own_units(start: Callable[..., PolicyServer]) -> None:
    statistics = ActionStatistics.from_mapping({"mean": [1.0] * 7, "std": [2.0] * 7})
    policy = client(start(Echo(Normalization("set", NormalizationKind.NORMAL, statistics))))
    policy.load()
    policy.reset("go")
    values = policy.infer(observe(100)).values
    assert values is not None and values[0].tolist() == pytest.approx([1.2] + [1.0] * 6)
    policy.close()


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ({"prompt": "go"}, "failed with KeyError"),
        ({}, "no text 'prompt'"),
        ({"prompt": "nonsense"}, "names nothing"),
        ({"prompt": "crash"}, "failed with ZeroDivisionError."),
        ({"prompt": "go", f"images/{CAMERA}": np.zeros((4, 4), np.uint8)}, "must be an image"),
        ({"prompt": "go", f"images/{CAMERA}": np.zeros((4, 4, 3))}, "must be an image"),
        ({"prompt": "go", "joint_position": np.full(7, np.nan)}, "must be finite"),
        ({"prompt": "go", "joint_position": np.zeros(3)}, "must be 7 numbers"),
        ({"prompt": "go", "stamp": -1}, "must be a whole number"),
        ({"prompt": "go", "gripper_width": "wide"}, "must be a finite number"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence_and_the_next_is_answered(
    start: Callable[..., PolicyServer], message: dict[str, Any], sentence: str
) -> None:
    server = start(Echo())
    with connect(f"ws://127.0.0.1:{server.port}", compression=None, proxy=None) as raw:
        raw.recv()
        raw.send(pack(message))
        reply = raw.recv()
        assert isinstance(reply, str) and sentence in reply
        assert "Traceback" not in reply and "secret" not in reply and "\n" not in reply
        raw.send("text")
        assert "map in msgpack" in raw.recv()
        raw.send(pack({"prompt": "go", f"images/{CAMERA}": np.zeros((4, 4, 3), np.uint8)}))
        assert isinstance(raw.recv(), bytes)


def test_a_thousand_hostile_frames_leave_the_server_as_it_was(start: Callable[..., PolicyServer]) -> None:
    server = start(Echo(), rate=100_000.0)
    random = np.random.default_rng(3)
    sound = pack({"prompt": "go", f"images/{CAMERA}": np.zeros((2, 2, 3), np.uint8), "stamp": 3})
    answered = 0
    with connect(f"ws://127.0.0.1:{server.port}", compression=None, proxy=None) as raw:
        raw.recv()
        for _ in range(1000):
            frame = bytearray(sound)
            for at in random.integers(len(frame), size=random.integers(1, 4)):
                frame[at] = random.integers(256)
            raw.send(bytes(frame))
            reply = raw.recv()
            assert isinstance(reply, bytes) or "\n" not in reply
            answered += 1
        raw.send(sound)
        assert isinstance(raw.recv(), bytes)
    assert answered == 1000


def test_the_server_lives_on_one_machine_unless_a_token_guards_it(
    start: Callable[..., PolicyServer], tmp_path: Path
) -> None:
    with pytest.raises(PolicyError, match=r"0\.0\.0\.0 lets other machines in, which needs a token"):
        PolicyServer(Echo(), ROBOT, LAYOUTS["vla_ros"], ServerOptions(host="0.0.0.0", port=0))  # noqa: S104
    server = start(Echo(), token=TOKEN)
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/healthz", timeout=5.0) as health:
        assert health.status == 200 and health.read() == b"OK\n"
    with pytest.raises(PolicyError, match="the token was refused"):
        client(server).load()
    for text, fits in ((TOKEN + "x", False), (TOKEN, True)):
        path = tmp_path / f"token{fits}"
        path.write_text(text + "\n")
        policy = client(server, token_file=str(path))
        if not fits:
            with pytest.raises(PolicyError, match="the token was refused"):
                policy.load()
            continue
        policy.load()
        policy.reset("go")
        assert policy.infer(observe()).values is not None
        policy.close()
    with pytest.raises(PolicyError, match="in the clear to example.org; use wss://"):
        make_remote(ROBOT, url="ws://example.org:1", token_file=str(tmp_path / "tokenTrue"))
    (tmp_path / "short").write_text("abc")
    with pytest.raises(PolicyError, match="at least 16"):
        client(server, token_file=str(tmp_path / "short"))


def test_a_policy_that_hangs_costs_nobody_the_place(start: Callable[..., PolicyServer]) -> None:
    free = threading.Event()

    class Hung(Echo):
        def infer(self, observation: Observation) -> PolicyOutput:
            free.wait(20.0)
            return super().infer(observation)

    server = start(Hung(), answer_limit=0.3)
    for _ in range(2):
        policy = client(server)
        policy.load()
        policy.reset("go")
        with pytest.raises(PolicyError, match="did not answer within 0.3 s"):
            policy.infer(observe())
        policy.close()
        time.sleep(0.1)
    free.set()


def test_a_port_that_is_taken_is_said(start: Callable[..., PolicyServer]) -> None:
    server = start(Echo())
    with pytest.raises(PolicyError, match=f"Cannot serve on 127.0.0.1:{server.port}: "):
        PolicyServer(Echo(), ROBOT, LAYOUTS["vla_ros"], ServerOptions(port=server.port))


def test_too_large_a_frame_ends_the_connection_and_no_more(
    start: Callable[..., PolicyServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vla_ros.policies.remote.server.MAX_FRAME", 1000)
    server = start(Echo())
    with connect(f"ws://127.0.0.1:{server.port}", compression=None, proxy=None) as raw:
        raw.recv()
        raw.send(b"\0" * 2000)
        with pytest.raises(ConnectionClosed):
            raw.recv()
    time.sleep(0.1)
    with connect(f"ws://127.0.0.1:{server.port}", compression=None, proxy=None) as raw:
        assert isinstance(raw.recv(), bytes)


def test_a_policy_with_a_memory_serves_one(start: Callable[..., PolicyServer]) -> None:
    server = start(Echo())
    first = client(server)
    first.load()
    with pytest.raises(PolicyError, match="all the clients it can"):
        client(server).load()
    first.close()


def test_observations_of_a_moment_are_answered_together(start: Callable[..., PolicyServer]) -> None:
    batch = Batch()
    assert isinstance(batch, BatchPolicy) and not isinstance(Echo(), BatchPolicy)
    server = start(batch, deadline=0.2)
    clients = [client(server) for _ in range(4)]
    for one in clients:
        one.load()
        one.reset("go")
    clients[0].reset("nonsense")
    found: dict[int, Any] = {}

    def ask(index: int) -> None:
        try:
            found[index] = clients[index].infer(observe(10 * index))
        except PolicyError as error:
            found[index] = str(error)

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(batch.sizes) > 1
    assert "names nothing" in found[0]
    for index in (1, 2, 3):
        assert found[index].values[0, 0] == pytest.approx(index / 100.0)
    for one in clients:
        one.close()


def test_a_lost_server_is_an_error_at_once_and_found_again(start: Callable[..., PolicyServer]) -> None:
    now = [0.0]
    server = start(Echo())
    policy = client(server)
    policy._clock = lambda: now[0]
    policy.load()
    policy.reset("go")
    assert policy.infer(observe()).values is not None
    server.close()
    with pytest.raises(PolicyError, match="was lost"):
        for _ in range(3):
            policy.infer(observe())
    with pytest.raises(PolicyError, match="tried again in 0.2 s"):
        policy.infer(observe())
    now[0] += 0.3
    with pytest.raises(PolicyError, match="cannot be reached"):
        policy.infer(observe())
    with pytest.raises(PolicyError, match="tried again in 0.4 s"):
        policy.infer(observe())
    start(Echo(), port=server.port)
    now[0] += 1.0
    assert policy.infer(observe()).values is not None
    policy.close()


def rude(answers: Callable[[bytes], Any], metadata: Any = b"\x80") -> Any:
    def talk(connection: Any) -> None:
        connection.send(metadata)
        for frame in connection:
            reply = answers(frame)
            if reply is not None:
                connection.send(reply)

    server = serve(talk, "127.0.0.1", 0, compression=None)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (None, "did not answer within 0.3 s"),
        (
            "Traceback (most recent call last):\n  File x\nValueError: no such prompt",
            "ValueError: no such prompt",
        ),
        (b"\xc1", "no msgpack"),
        (pack({"state": np.zeros(3)}), "no array 'actions'"),
        (pack({"actions": np.zeros(7)}), "shape"),
        (pack({"actions": np.zeros((0, 7))}), "shape"),
        (pack([1, 2]), "no array 'actions'"),
    ],
)
def test_a_strange_server_is_an_error_in_a_sentence(reply: Any, sentence: str) -> None:
    server = rude(lambda frame: reply)
    port = server.socket.getsockname()[1]
    policy = make_remote(ROBOT, url=f"ws://127.0.0.1:{port}", cameras=CAMERA, timeout=0.3)
    policy.load()
    policy.reset("go")
    with pytest.raises(PolicyError, match=sentence) as raised:
        policy.infer(observe())
    assert "\n" not in str(raised.value)
    policy.close()
    server.shutdown()


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ("hello", "is no policy server"),
        (pack({"action_space": "bridge"}), "action_space 'bridge', but 'delta_tcp'"),
        (pack({"action_rate": 50.0}), "steps at 50 Hz, but 5 Hz"),
        (pack({"layout": "droid"}), "layout 'droid', but 'vla_ros'"),
    ],
)
def test_a_server_of_something_else_is_refused(metadata: Any, sentence: str) -> None:
    server = rude(lambda frame: None, metadata)
    port = server.socket.getsockname()[1]
    with pytest.raises(PolicyError, match=sentence):
        make_remote(ROBOT, url=f"ws://127.0.0.1:{port}", cameras=CAMERA, timeout=2.0).load()
    server.shutdown()


def test_options_that_cannot_be() -> None:
    for options, sentence in (
        ({}, "needs the option 'url'"),
        ({"url": "http://127.0.0.1"}, "needs the option 'url'"),
        ({"url": "ws://127.0.0.1", "layout_name": "x"}, "known are vla_ros, droid, libero"),
        ({"url": "ws://127.0.0.1", "cameras": "nose"}, "camera 'nose'"),
        ({"url": "ws://127.0.0.1", "timeout": 0.0}, "timeout is 0 s"),
        ({"url": "ws://127.0.0.1", "action_space": "x"}, "unknown"),
        ({"url": "wss://127.0.0.1", "authority": "/nowhere"}, "unusable"),
    ):
        with pytest.raises(PolicyError, match=sentence):
            make_remote(ROBOT, **options)


@pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl, which makes the certificate, is not here"
)
def test_tls(start: Callable[..., PolicyServer], tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    server = start(Echo(), certificate=str(certificate), key=str(key))
    url = f"wss://localhost:{server.port}"
    policy = client(server, url=url, authority=str(certificate))
    policy.load()
    policy.reset("go")
    assert policy.infer(observe()).values is not None
    policy.close()
    with pytest.raises(PolicyError, match="cannot be reached: .*certificate"):
        client(server, url=url).load()
    with pytest.raises(PolicyError, match="needs both"):
        PolicyServer(Echo(), ROBOT, LAYOUTS["vla_ros"], ServerOptions(port=0, certificate=str(certificate)))


def test_requirements_are_known_without_a_server() -> None:
    policy = make_remote(ROBOT, url="ws://127.0.0.1:9", cameras=CAMERA, horizon=4, action_space="bridge")
    needs = policy.requirements
    assert (needs.action_space, needs.horizon, needs.rate) == ("bridge", 4, 5.0)
    assert [need.name for need in needs.cameras] == [CAMERA]
    with pytest.raises(PolicyError, match="camera"):
        make_remote(replace(ROBOT, cameras={}), url="ws://127.0.0.1:9", cameras=CAMERA)
