"""The table of what newcomers typed by mistake: how each command is to end today.

The first word of a row is the command as it stands in that table, where quotes were lost and files had other
names; `typed` is what the test types, where it differs.
"""

from __future__ import annotations

from dataclasses import dataclass

STARTS = None
"""Instead of a status: the command is right, and the graph is started."""
KNOWN_ROBOTS = "fr3, panda, ur5, ur5e, widowx (franka = panda, wx250s = widowx)"
KNOWN_POLICIES = "visual_servo, replay, openvla, openvla_oft, octo, rt2, remote, custom, none"
KNOWN_SPACES = "delta_tcp, bridge, droid, fractal, fractal_sticky, taco_play, absolute_tcp, joint_position"
KNOWN_KEYS = (
    "robot, policy, policy_options, action_space, action_rate, cameras, control_rate, blending, environment, "
    "payload, contact, needs"
)
UNDERSTOOD = (
    'understood are for example "pick up the red block", "put the blue block on the green plate", "stack the '
    'red block on the blue block", "push the yellow block to the left".'
)
NOT_CLOSED = "was not closed, its recorder was killed or the file is cut off: `vla-ros bag repair` saves"


@dataclass(frozen=True)
class Row:
    """One mistake."""

    command: str
    """As the table has it, without `vla-ros`."""
    status: int | None
    sentences: tuple[str, ...]
    """Phrases that the answer has."""
    typed: str = ""
    """What is typed, as a shell would read it; empty: `command`."""

    def __str__(self) -> str:
        """Its name among the tests."""
        return self.typed or self.command


def row(command: str, status: int | None, *sentences: str, typed: str = "") -> Row:
    """A row."""
    return Row(command, status, sentences, typed)


def _check(contract: str) -> str:
    return f"policy check --robot {contract}.yaml --policy visual_servo"


ELSEWHERE_KEY = "'{}' is a key of a robot's own YAML file (in m and rad)"
CUSTOM = "policy check --robot ur5e --policy custom --option factory="
CONTRACTS = (
    row(_check("as"), 2, f"as.yaml: action space 'joint_positions' is unknown, known are {KNOWN_SPACES}.",
        "Did you mean 'joint_position'?"),
    row(_check("badcam"), 2, "badcam.yaml: camera 'front' is not on robot 'ur5e', which has primary, "
        "wrist; so it needs",
        "or `like: primary` and a topic"),
    row(_check("broken"), 2, "contract broken.yaml is not valid YAML at line 2: expected ',' or ']'"),
    row(_check("deg"), 2, f"deg.yaml: key 'home' is unknown, known are {KNOWN_KEYS}.", ELSEWHERE_KEY.format(
        "home")),
    row(_check("empty"), 2, "contract empty.yaml is empty, but must be a mapping with the key 'robot', "
        "such as `robot:"),
    row("policy check --robot nofile.yaml", 2, "contract nofile.yaml does not exist"),
    row(_check("mm"), 2, f"mm.yaml: key 'workspace' is unknown, known are {KNOWN_KEYS}.",
        ELSEWHERE_KEY.format("workspace")),
    row(_check("str"), 2, "str.yaml: camera 'primary': key 'width' is '640', but must be a number from 16 "
        "to 4096"),
    row(_check("typo"), 2, f"unknown robot 'ur5ee' (did you mean ur5e?); known: {KNOWN_ROBOTS}",
        "or the path of a robot's .yaml file"),
    row(_check("unk"), 2, f"unk.yaml: key 'action_spce' is unknown, known are {KNOWN_KEYS}.",
        "Did you mean 'action_space'?"),
    row("robot info rs.yaml", 0, "Camera primary: /camera/camera/color/image_raw, 640 x 480 at 30 Hz"),
)  # fmt: skip
POLICIES = (
    row("policy check --robot widowx --policy openvla --checkpoint docs --action-space bridge", 1,
        "Problem: docs/config.json does not exist."),
    row(f"{CUSTOM}mypol:make", 1,
        "Problem: The factory nosuch:make of policy 'custom' cannot be imported: No module named 'nosuch' "
        "in /",
        "or on PYTHONPATH.", typed=f"{CUSTOM}nosuch:make"),
    row(f"{CUSTOM}mypol.make", 1, "Problem: Policy 'custom' needs the option 'factory' as "
        "package.module:function, but "
        "it is 'mypol.make'."),
    row(f"{CUSTOM}mypol:make --option sped=0.01", 1, "Problem: The factory mypol:make of policy 'custom' "
        "has no option "
        "'sped', its options are speed. Did you mean 'speed'?"),
    row("policy info octo", 2, "Policy 'octo' needs the option 'checkpoint': a folder or a hub name."),
    row("policy info openvla", 2, "Policy 'openvla' needs the option 'checkpoint': a folder or a hub name."),
    row("policy info nosuch", 2, f"Policy 'nosuch' is unknown, known are {KNOWN_POLICIES}."),
    row("policy check --policy openvla --checkpoint openvla/openvla-7b", 1,
        "Problem: The checkpoint 'openvla/openvla-7b' is no local folder, and the hub did not give it: it "
        "cannot be "
        "reached from here (ConnectError: [Errno -2] Name or service not known)."),
    row("policy export visual_servo --out exp1", 2, "Policy 'visual_servo' cannot be exported, only octo "
        "can."),
    row("policy export octo --checkpoint /nonexist --out exp2", 2,
        "The checkpoint '/nonexist' is neither a folder that exists nor a hub id owner/name."),
    row("policy check --policy visual_servo --option foo", 2,
        "An option of the policy was given as 'foo', but is written key=value."),
    row("policy check --policy visual_servo --option foo=1", 1,
        "Problem: Policy 'visual_servo' has no option 'foo', its options are action_space, rate, horizon, "
        "latency."),
    row("policy check --robot widowx --policy remote --option url=ws://127.0.0.1:9999", 1,
        "Problem: ws://127.0.0.1:1 cannot be reached: ", "Connection refused; is a server there (`vla-ros "
        "policy serve`)?",
        typed="policy check --robot widowx --policy remote --option url=ws://127.0.0.1:1"),
    row("timeout 8 vla-ros policy serve --robot widowx --policy visual_servo --host 0.0.0.0 --port 8765", 2,
        "Serving on 0.0.0.0 lets other machines in, which needs a token (--token-file); without one only "
        "127.0.0.1", typed="policy serve --robot widowx --policy visual_servo --host 0.0.0.0 --port 8765"),
)  # fmt: skip
RUNS = (
    row("demo --instruction Nimm den roten Klotz --runs runs/de", 2,
        f'The instruction "Nimm den roten Klotz" was not understood; {UNDERSTOOD}',
        typed="demo --instruction 'Nimm den roten Klotz' --runs runs/de"),
    row("demo --robot fr3 --instruction push the yellow block to the green plate --runs runs/fr3", 2,
        f'The instruction "push the yellow block to the green plate" was not understood; {UNDERSTOOD}',
        typed="demo --robot fr3 --instruction 'push the yellow block to the green plate' --runs runs/fr3"),
    row("demo --robot panda --instruction pick up the purple block --timeout 20 --runs runs/purple", 2,
        "The instruction 'pick up the purple block' names a purple block; the simulated scene has blocks "
        "and plates "
        "in red, green, blue, yellow.",
        typed="demo --robot panda --instruction 'pick up the purple block' --timeout 20 --runs runs/purple"),
    row("demo --robot rs.yaml --instruction pick up the red block --runs runs/rs", STARTS,
        typed="demo --robot rs.yaml --instruction 'pick up the red block' --runs runs/rs"),
    row("demo --robot swap.yaml --timeout 15 --runs runs/swap", 2,
        "camera 'primary' of swap.yaml has the topic /camera/wrist/image_raw, which is that of camera "
        "'wrist' in the "
        "robot's description, while 'wrist' has /camera/primary/image_raw; are the two swapped?"),
    row("demo --robot panda --instruction fold the towel --runs runs/towel", 2,
        f'The instruction "fold the towel" was not understood; {UNDERSTOOD}',
        typed="demo --robot panda --instruction 'fold the towel' --runs runs/towel"),
    row("demo --robot widowx --instruction put the blue block on the green plate --runs runs/widowx", STARTS,
        typed="demo --robot widowx --instruction 'put the blue block on the green plate' --runs runs/widowx"),
    row("demo --robot panda --instruction 拿起红色的方块 --runs runs/zh", 2,
        f'The instruction "拿起红色的方块" was not understood; {UNDERSTOOD}'),
    row("demo --robot pandas", 2, f"unknown robot 'pandas' (did you mean panda?); known: {KNOWN_ROBOTS}"),
    row("up frank", 2, f"unknown robot 'frank' (did you mean franka?); known: {KNOWN_ROBOTS}"),
    row("robot info ur10", 2, f"unknown robot 'ur10'; known: {KNOWN_ROBOTS}"),
    row("doctor --robot pnda", 2, f"unknown robot 'pnda' (did you mean panda?); known: {KNOWN_ROBOTS}"),
    row("demo --policy visual-servo", 2, f"Policy 'visual-servo' is unknown, known are {KNOWN_POLICIES}.",
        "Did you mean 'visual_servo'?"),
    row("demo --policy opnvla", 2, f"Policy 'opnvla' is unknown, known are {KNOWN_POLICIES}. Did you mean "
        "'openvla'?"),
    row("eval --tasks pick, place --episodes 0", 2, "Invalid value for '--episodes'",
        "greater than or equal to 1",
        typed="eval --tasks 'pick, place' --episodes 0"),
    row("eval --tasks picks", 2, "The task 'picks' is unknown, known are pick, place, push, stack. Did you "
        "mean 'pick'?"),
    row("teleop --device spacemose", 2, "Device 'spacemose' is unknown, known are keyboard, gamepad, "
        "spacemouse, "
        "leader, joy, twist, scripted. Did you mean 'spacemouse'?"),
    row("teleop --device spacemouse --record x", 2, "No 3D mouse is there: vendor 256f (3Dconnexion) was "
        "looked for "
        "under /sys/class/hidraw, present: "),
    row("teleop --device gamepad", 2, "No gamepad is there: /dev/input/js* was looked for, /dev/input "
        "holds "),
    row("timeout 60 vla-ros teleop --sim none --robot ur5e --device keyboard --record x1", 2,
        "Device 'keyboard' needs a "
        "terminal, but this command was started from none; name one with --terminal.",
        typed="teleop --sim none --robot ur5e --device keyboard --record x1"),
    row("up ur5e --sim gazebo", 2, "--sim gazebo needs Gazebo, whose command `gz` is not installed here; "
        "--sim mujoco"),
    row("record --out x", 2, "Say `--scripted` to let the scripted expert record; a person records with "
        "`vla-ros teleop`"),
)  # fmt: skip
WORDS = (
    row("--install-completion", 0, "completion installed"),
    row("--show-completion bash", 0, "_vla_ros_completion"),
    row("robot list", 0, "panda franka Franka Emika Panda 7 franka_ros2",
        "widowx wx250s Trossen WidowX 250 6-DOF"),
    row("dmo", 2, "No such command 'dmo'. Did you mean 'demo'?"),
    row("demo --instrucion pick up the red block", 2, "No such option: --instrucion", "--instruction",
        typed="demo --instrucion 'pick up the red block'"),
    row("demo pick up the red block", 2, "Words were left over: pick up the red block. An instruction goes "
        "behind "
        '--instruction, in quotes: --instruction "pick up the red block"'),
    row("bag", 2, "audit Is what was recorded fit", "info What a bag holds",
        "repair Save everything that is whole"),
    row("robot info", 2, "Usage: vla-ros robot info", "Missing argument 'name'"),
)  # fmt: skip
BAD = "joint states: 83.39 messages a second of 125 (67 %), at least 80 % are wanted; 249 are missing"
BAGS = (
    row("bag audit demos --html aud_demos.html", 1, f"demos/b_slow: not usable: Episode b: {BAD}",
        "2 bags: 1 usable, 0 with remarks, 1 not usable.", "The page is aud_demos.html."),
    row("bag audit ../demo1/bag --html audit1.html", 1, f"not usable: Episode b: {BAD}",
        "The page is audit1.html.",
        typed="bag audit demos/b_slow --html audit1.html"),
    row("bag audit cutbag", 1, f"cutbag: not usable: the bag {NOT_CLOSED}"),
    row("bag audit emptyds", 2, "emptyds is not a bag and holds none: no .mcap file in it or below it."),
    row("bag audit nowhere", 2, "nowhere does not exist; a bag is a folder with an .mcap file, or that "
        "file."),
    row("bag repair cutbag", 2, "a bag cannot be written to cutbag_repaired: it exists already; name "
        "another folder "
        "with --output."),
    row("bag info nowhere", 2, "nowhere does not exist; a bag is a folder with an .mcap file, or that file."),
    row("bag info .", 2, "docs is not a bag: the folder has no .mcap file.", typed="bag info docs"),
    row("bag info e.mcap", 2, "e.mcap is not an MCAP file (0 bytes, no MCAP signature)."),
    row("bag info ../demo1/video.mp4", 2, "video.mp4 is not an MCAP file (5016 bytes, no MCAP signature).",
        typed="bag info video.mp4"),
    row("bag info ../demo1", 0, "put the red cube into the bowl", typed="bag info demo1"),
    row("replay", 2, "Nothing to replay was named: give a bag, or --rlds with a folder."),
    row("replay ../demo1", 2, "demo1 holds no setpoints, so there is nothing to compare with.", typed=
        "replay demo1"),
    row("replay ../demo1/bag --golden g.npz --contract u.yaml", 2,
        "demo1/bag was recorded with robot 'ur5', but the contract of u.yaml says 'ur5e'.",
        typed="replay demo1/bag --golden g.npz --contract u.yaml --update"),
    row("replay ../demo1/bag --golden g.npz", 2, "g.npz does not exist; `--update` makes it from what the "
        "bag gives",
        typed="replay demo1/bag --golden g.npz"),
    row("replay demos_w --into gazebo", 2, "--into 'gazebo' is unknown, known are sim, graph.",
        typed="replay demos --into gazebo"),
)  # fmt: skip
DATA = (
    row("data convert demos set_lr --to lerobot", 2, "1 of 2 bags fail the audit, nothing was converted: "
        "demos/b_slow: "
        f"not usable: Episode b: {BAD}", "--skip-failed leaves them out, --accept-failed converts them as "
        "they are."),
    row("data convert demos set_lr --to lerobot --accept-failed", 2,
        "emptyds exists already; nothing was written, name another folder.",
        typed="data convert demos emptyds --to lerobot --accept-failed"),
    row("data convert demos set_x --to lerobot --outcomes success", 0, "set_x: lerobot, 1 episode",
        "Left out by outcome: 1 failure."),
    row("data convert emptyds --to rlds", 2, "Given was only emptyds; at least one source and then the "
        "target, a new "
        "folder, are needed."),
    row("data convert emptyds out2 --to lerobt", 2, "the format 'lerobt' (--to) is not known; lerobot, "
        "rlds, bags are.",
        "Did you mean 'lerobot'?"),
    row("data convert emptyds out2 --to lerobot", 2, "emptyds holds no demonstrations: no .mcap file, no "
        "features.json "
        "(RLDS), no meta/info.json (LeRobot)."),
    row("data convert nowhere out --to lerobot", 2, "nowhere does not exist; a bag, an RLDS folder or a "
        "LeRobot folder"),
    row("data convert cutbag o5 --to lerobot", 2, "cutbag/cutbag.mcap was not closed: its recorder was "
        "killed or the "
        "file is cut off; `vla-ros bag repair` saves what is whole."),
    row("data info emptyds", 2, "emptyds holds no demonstrations: no .mcap file, no features.json (RLDS), "
        "no meta/info"),
    row("data info docs", 2, "docs holds no demonstrations: no .mcap file, no features.json (RLDS), no "
        "meta/info.json"),
    row("data split set_lr parts2 --part train=0.9", 2, "the shares add up to 0.9; they must add up to 1.",
        typed="data split demos/a_good parts2 --part train=0.9"),
    row("data split set_lr parts3 --part train=90 --part test=10", 2,
        "the part 'train' asks for '90'; there are the episodes 0 to 0, and a share is written 0.9.",
        typed="data split demos/a_good parts3 --part train=90 --part test=10"),
    row("data view set_lr --episode 9 --out view3", 2, "episode 9 is not in demos, which has 2, numbered "
        "from 0.",
        typed="data view demos --episode 9 --out view3"),
)  # fmt: skip
TABLE = (*CONTRACTS, *POLICIES, *RUNS, *WORDS, *BAGS, *DATA)

CUSTOM_RUN = (
    "env PYTHONPATH=. vla-ros demo --robot ur5e --policy custom --policy-option factory=mypol:make "
        "--timeout 8 "
    "--runs runs/cust"
)
PYTEST = ".venv/bin/python -m pytest -q -p no:cacheprovider"
FIXTURE = "test_golden_late.py::test_the_readmes_fixture_passes_on_a_late_bag"
UNDER_WAY = {
    "bag audit corr": "test_data_corrections.py::test_a_correction_is_usable_and_marked",
    CUSTOM_RUN: "test_mistakes_siblings.py::test_an_own_policy_may_leave_out_which_observation_it_answers",
    "demo --runs small": "test_data_recording.py::test_recording_ends_before_the_disk_is_full",
    "replay ../demo1/bag --golden g.npz --contract te.yaml": (
        "test_golden.py::test_a_changed_blending_names_the_key_and_the_commands"
    ),
    "timeout 90 vla-ros replay demos_w/episode_000000 --into graph --runs runs/gr": (
        "test_replay_into.py::test_through_the_graph_in_its_own_time"
    ),
    "replay demos/20261130-200645_episode_0001 --into sim --runs olruns": (
        "test_replay_into.py::test_every_episode_ends_as_it_did_on_the_same_path"
    ),
    f"{PYTEST} pt": FIXTURE,
    f"{PYTEST} pt --update-golden": FIXTURE,
    f"{PYTEST} pt2 --update-golden": FIXTURE,
    "record --scripted --robot panda --tasks pick,place --episodes 4 --out demos_w": (
        "test_scripted_command.py::test_a_folder_of_another_order_is_refused"
    ),
    "timeout 8 vla-ros policy serve --robot widowx --policy visual_servo --port 8765": (
        "policies/remote/test_remote_command.py::test_a_served_policy_answers_and_ctrl_c_ends_it"
    ),
}
"""Rows that only something running gives, by the test that covers each."""
