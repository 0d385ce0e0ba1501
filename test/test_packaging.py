from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points, version
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

import vla_ros

ROOT = Path(__file__).resolve().parent.parent
DATA = [name for name in ("config", "launch", "urdf", "worlds") if (ROOT / name).is_dir()]
ROS_MODULES = re.compile(r"^(\w+_msgs|\w+_srvs|\w+_interfaces|rclpy|launch|launch_ros|ament_index_python)$")
OPTIONAL = {"controller_manager_msgs", "franka_msgs", "interbotix_xs_msgs", "ur_dashboard_msgs"}
"""Come with a robot's driver and are imported only for that robot."""


@pytest.fixture(scope="module")
def environment() -> ModuleType:
    """The module scripts/environment.py."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        return importlib.import_module("environment")
    finally:
        sys.path.pop(0)


@pytest.fixture(scope="module")
def manifest() -> ElementTree.Element:
    return ElementTree.parse(ROOT / "package.xml").getroot()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of a copy of the checkout."""
    source = tmp_path_factory.mktemp("source")
    for name in ("vla_ros", *DATA):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    (source / "README.md").touch()
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, source)
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "-w", str(folder), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def imported_modules(folder: Path) -> set[str]:
    names = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names


def test_the_version_is_the_same_everywhere(manifest: ElementTree.Element) -> None:
    assert manifest.findtext("version") == vla_ros.__version__ == version("vla-ros")
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text()
    assert f"## [{vla_ros.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_manifest_is_valid(manifest: ElementTree.Element) -> None:
    catkin_pkg = pytest.importorskip("catkin_pkg.package")
    package = catkin_pkg.parse_package(str(ROOT / "package.xml"))
    warnings: list[str] = []
    package.validate(warnings=warnings)
    assert warnings == []
    assert (manifest.get("format"), package.name, package.licenses) == ("3", "vla_ros", ["Apache-2.0"])


def test_every_ros_package_that_is_imported_is_declared(manifest: ElementTree.Element) -> None:
    declared = {element.text for element in manifest if element.tag in ("depend", "exec_depend")}
    used = {name for name in imported_modules(ROOT / "vla_ros") if ROS_MODULES.match(name)} - OPTIONAL
    assert "rclpy" in used
    assert used <= declared


def test_every_interface_is_built() -> None:
    pytest.importorskip("rclpy")
    for kind in ("msg", "srv", "action"):
        names = [path.stem for path in (ROOT / kind).glob(f"*.{kind}")]
        module = importlib.import_module(f"vla_ros.{kind}")
        assert names and [name for name in names if not hasattr(module, name)] == []


def test_the_stand_ins_of_the_drivers_are_kept_from_colcon() -> None:
    assert (ROOT / "compat" / "COLCON_IGNORE").exists()
    names = {path.parent.name for path in (ROOT / "compat").glob("*/package.xml")}
    assert names == {
        "control_msgs",
        "controller_manager_msgs",
        "franka_msgs",
        "interbotix_xs_msgs",
        "ur_dashboard_msgs",
    }


def test_every_executable_runs_a_node() -> None:
    match = re.search(r"foreach\(NODE ([\w\s]+)\)", (ROOT / "CMakeLists.txt").read_text())
    assert match is not None
    for name in match[1].split():
        tree = ast.parse((ROOT / "vla_ros" / "nodes" / f"{name}.py").read_text())
        assert "main" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


def test_the_command_is_installed() -> None:
    (command,) = [entry for entry in entry_points(group="console_scripts") if entry.name == "vla-ros"]
    assert callable(command.load())


def test_the_wheel_holds_all_data_and_code(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    data = {name.split("/data/share/vla_ros/")[1] for name in names if "/data/share/vla_ros/" in name}
    wanted = {
        path.relative_to(ROOT) for folder in DATA for path in (ROOT / folder).rglob("*") if path.is_file()
    }
    assert data == {str(path) for path in wanted if "__pycache__" not in path.parts}
    code = {
        path for path in (ROOT / "vla_ros").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }
    assert {str(path.relative_to(ROOT)) for path in code} <= set(names)


def test_the_base_install_is_free_of_torch(wheel: zipfile.ZipFile) -> None:
    (metadata,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    lines = wheel.read(metadata).decode().splitlines()
    base = [line for line in lines if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert base and not [line for line in base if re.search(r"torch|transformers|mujoco", line)]
    assert [line for line in lines if re.match(r'Requires-Dist: mujoco\S* *; extra == "sim"', line)]


def test_the_locks_pin_every_dependency_exactly() -> None:
    lines = [
        line
        for name in ("common", "jazzy", "kilted", "models", "test")
        for line in (ROOT / "constraints" / f"{name}.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert [line for line in lines if "==" not in line.split(";")[0]] == []
    pinned = {line.split("==")[0].lower() for line in lines}
    text = (ROOT / "pyproject.toml").read_text()
    groups = [
        re.search(rf"^{key} = \[(.*?)\]$", text, re.S | re.M)
        for key in ("dependencies", "sim", "torch", "onnx", "train", "test", "lint")
    ]
    wanted = {
        name.lower() for group in groups if group for name in re.findall(r'"([\w-]+)(?=[>="])', group[1])
    } - {"vla-ros"}
    assert {"numpy", "mujoco", "pytest", "ruff"} <= wanted <= pinned


def test_a_stamp_changes_with_content_and_names(
    environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    (tmp_path / "msg").mkdir()
    file = tmp_path / "msg" / "A.msg"
    file.write_text("int8 a")
    seen = {environment.digest(["msg"]), environment.digest(["msg"], "jazzy")}
    file.write_text("int8 b")
    seen.add(environment.digest(["msg"]))
    file.rename(tmp_path / "msg" / "B.msg")
    seen.add(environment.digest(["msg"]))
    assert len(seen) == 4


def test_a_step_is_done_once(
    environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "STAMPS", tmp_path / "stamps")
    monkeypatch.setattr(environment, "BUILD", tmp_path)
    done: list[str] = []
    for key in ("1", "1", "2"):
        environment.step("name", key, "what", lambda log, key=key: done.append(key))

    def broken(log: Path) -> None:
        environment.fail("why.")

    with pytest.raises(SystemExit):
        environment.step("name", "3", "what", broken)
    environment.step("name", "3", "what", lambda log: done.append("3"))
    assert done == ["1", "2", "3"]


def test_include_paths_of_the_wheels_are_replaced(environment: ModuleType) -> None:
    text = (
        'set(a "/opt/python/cp311-cp311/include/python3.11;'
        '/opt/python/cp311-cp311/lib/python3.11/site-packages/numpy/_core/include;/usr/include")'
    )
    found = environment.WHEEL_INCLUDE.sub(lambda match: "NUMPY" if match["numpy"] else "PYTHON", text)
    assert found == 'set(a "PYTHON;NUMPY;/usr/include")'


@pytest.mark.parametrize(
    ("lack", "word"),
    [("version", "3.13"), ("compiler", "C++ compiler"), ("header", "headers"), ("venv", "venv")],
)
def test_a_machine_that_lacks_something_is_told_in_a_sentence(
    environment: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lack: str,
    word: str,
) -> None:
    if lack == "version":
        monkeypatch.setattr(environment.sys, "version_info", (3, 13, 0, "final", 0))
    elif lack == "compiler":
        monkeypatch.setattr(environment.shutil, "which", lambda name: None)
    elif lack == "header":
        monkeypatch.setattr(environment.sysconfig, "get_paths", lambda: {"include": "/nowhere"})
    else:
        monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(SystemExit) as ended:
        environment.check_machine()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and word in said and said.count("\n") == 1


def test_an_unknown_distribution_is_told_in_a_sentence() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "environment.py"), "--distro", "humble"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "make env: ROS_DISTRO is humble, but there are wheels for jazzy and kilted only.\n"


def test_one_pip_step_names_all_that_the_package_needs_besides_ros() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        *project["dependencies"], *project["optional-dependencies"]["sim"]
    ]  # fmt: skip
    assert "-r requirements.txt" in (ROOT / "README.md").read_text(encoding="utf-8")


ROSDEP_KEYS = {
    "msgpack": "python3-msgpack", "numpy": "python3-numpy", "pillow": "python3-pil", "rich": "python3-rich",
    "scipy": "python3-scipy", "pyyaml": "python3-yaml",
}  # fmt: skip
"""By the names in requirements.txt: keys in rosdep/python.yaml of ros/rosdistro whose package in Ubuntu 24.04
is new enough."""
IMPORTED_AS = {
    "cv2": "opencv-python-headless", "PIL": "pillow", "yaml": "pyyaml", "pinocchio": "pin",
    # come with pin, Matplotlib and rosbags, whose parts or needs they are
    "coal": "pin", "mpl_toolkits": "matplotlib", "backports": "rosbags", "lz4": "rosbags",
}  # fmt: skip
"""Names of modules that differ from those of their packages."""
EXTRAS = {"huggingface_hub", "onnxruntime", "rerun", "sentencepiece", "tokenizers", "torch", "transformers"}
"""Of pyproject.toml; what needs them says so."""
BY_OTHERS = {
    "cv_bridge",  # used where it is installed
    "pytest",  # loads vla_ros.testing itself
    "triton",  # comes with torch
}


def required() -> dict[str, str]:
    """Requirements of requirements.txt by name."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return {re.split(r"[<>=]", line)[0]: line for line in lines if line and not line.startswith("#")}


def test_every_python_package_that_is_imported_is_named_once_where_colcon_users_look() -> None:
    used = (
        {
            IMPORTED_AS.get(name, name)
            for name in imported_modules(ROOT / "vla_ros")
            if name not in sys.stdlib_module_names and name != "vla_ros" and not ROS_MODULES.match(name)
        }
        - EXTRAS
        - BY_OTHERS
    )
    assert {"numpy", "pin", "opencv-python-headless"} <= used
    assert used - set(required()) == set()
    # and nothing that nobody imports
    assert set(required()) - used == set()


def test_rosdep_is_asked_only_for_what_it_has(manifest: ElementTree.Element) -> None:
    keys = {e.text for e in manifest if e.tag == "exec_depend" and (e.text or "").startswith("python3-")}
    assert keys == {*ROSDEP_KEYS.values(), "python3-pip"}
    assert set(ROSDEP_KEYS) <= set(required())


def test_the_pip_step_is_the_same_everywhere_and_works_where_python_is_externally_managed() -> None:
    step = "python3 -m pip install --user --break-system-packages --ignore-installed -r requirements.txt"
    for name in ("README.md", "requirements.txt", "docs/ros_install.md"):
        assert step in (ROOT / name).read_text(encoding="utf-8"), name


def test_the_command_is_installed_beside_the_nodes() -> None:
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert "install(PROGRAMS scripts/vla-ros DESTINATION bin)" in text
    assert "install(PROGRAMS scripts/vla-ros DESTINATION lib/${PROJECT_NAME})" in text
    command = [sys.executable, str(ROOT / "scripts" / "vla-ros"), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and vla_ros.__version__ in done.stdout
