"""Make the environment in .venv: Python packages from the locks, built interfaces, vla_ros itself.

Needs nothing but the standard library.  Every step leaves a stamp with the digest of what it was made from,
so a second call does nothing.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BUILD = ROOT / ".build"
STAMPS = VENV / ".stamps"
PYTHON = VENV / "bin" / "python"
PIP = (PYTHON, "-m", "pip", "--disable-pip-version-check", "install")
PIP_INSTALL = (*PIP, "--no-deps")
# Of PyTorch and transformers little is ever imported: Python compiles that when it is.
AS_IT_COMES = "--no-compile"
SITE_PACKAGES = VENV / "lib" / "python{}.{}".format(*sys.version_info) / "site-packages"
DISTROS = ("jazzy", "kilted")
PYTHON_VERSIONS = ((3, 10), (3, 11), (3, 12))
INTERFACES = ("msg", "srv", "action", "package.xml", "CMakeLists.txt")
FOREIGN = (
    "PYTHONPATH",
    "PYTHONHOME",
    "LD_LIBRARY_PATH",
    "AMENT_PREFIX_PATH",
    "CMAKE_PREFIX_PATH",
    "ROS_DISTRO",
    "_ROS_WHEELS_BOOTSTRAP_COMPLETE",
)
WHEEL_INCLUDE = re.compile(
    r"/opt/python/cp\d+-cp\d+/(?:(?P<numpy>lib/python3\.\d+/site-packages/numpy/_core/include)|include/python3\.\d+)"
)


def fail(sentence: str) -> NoReturn:
    """End with one sentence and status 2."""
    print(f"make env: {sentence}", file=sys.stderr)
    raise SystemExit(2)


def check_machine() -> None:
    """Refuse, in one sentence, a machine that cannot build the environment."""
    version = "{}.{}".format(*sys.version_info)
    if sys.version_info[:2] not in PYTHON_VERSIONS:
        fail(
            f"Python 3.10, 3.11 or 3.12 is needed, but {sys.executable} is {version}; "
            "name another, as in `make env PYTHON=python3.11`."
        )
    try:
        __import__("ensurepip")
        __import__("venv")
    except ImportError:
        fail(f"Python {version} has no venv module; on Debian or Ubuntu install python{version}-venv.")
    compiler = os.environ.get("CXX", "c++").split()[0]
    if not shutil.which(compiler):
        fail(
            f"the C++ compiler `{compiler}`, needed to build the interfaces, is missing; "
            "on Debian or Ubuntu install g++."
        )
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not header.is_file():
        fail(
            f"the headers of Python {version} are missing ({header}); "
            f"on Debian or Ubuntu install python{version}-dev."
        )


def digest(paths: Iterable[str], *words: str) -> str:
    """SHA-256 over `words` and over the names and contents of files and of all files in folders."""
    sha = hashlib.sha256("\0".join(words).encode())
    for path in (ROOT / name for name in paths):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                sha.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes() + b"\0")
    return sha.hexdigest()


def call(command: list[str | Path], log: Path, what: str) -> None:
    """Run a command, its output into `log`; when it fails show the end of that and stop."""
    # Another ROS on this machine must not leak in; ROS_DISTRO of the shell says nothing about the wheels.
    environment = {key: value for key, value in os.environ.items() if key not in FOREIGN}
    environment.update(AMENT_PREFIX_PATH=str(VENV), CMAKE_PREFIX_PATH=str(VENV))
    environment["PATH"] = f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as out:
        print("$", *command, file=out, flush=True)
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        print("\n", *log.read_text(errors="replace").splitlines()[-15:], sep="\n", file=sys.stderr)
        fail(f"{what} failed; the whole output is in {log.relative_to(ROOT)}.")


def step(name: str, key: str, what: str, action: Callable[[Path], None]) -> None:
    """Do `action` unless its stamp carries `key`; says `what` it does and how long it took."""
    stamp = STAMPS / name
    if stamp.is_file() and stamp.read_text() == key:
        return
    log = BUILD / "log" / f"{name}.log"
    for old in (stamp, log):
        if old.is_file():
            old.unlink()
    started = time.monotonic()
    action(log)
    STAMPS.mkdir(exist_ok=True)
    stamp.write_text(key)
    print(f"{what}: {time.monotonic() - started:.0f} s", flush=True)


def make_venv(log: Path) -> None:
    """Make .venv anew; a folder of that name that did not come from here is left alone."""
    if VENV.exists():
        if not STAMPS.is_dir():
            fail("the folder .venv was not made by this command; move it away first.")
        shutil.rmtree(VENV)
    # Not sys.executable, which is inside the removed folder when the old environment is active.
    python = getattr(sys, "_base_executable", sys.executable)
    call([python, "-m", "venv", VENV], log, "making the virtual environment")
    STAMPS.mkdir()
    for folder in (VENV, BUILD):  # keeps colcon out when the checkout lies in a workspace
        (folder / "COLCON_IGNORE").touch()


def install_packages(locks: list[str], log: Path, *more: str) -> None:
    """Install what the locks say, then point the CMake files in the ROS wheels at this machine's headers.

    `more`: options of pip.
    """
    files = [word for lock in locks for word in ("-r", ROOT / "constraints" / f"{lock}.txt")]
    call([*PIP_INSTALL, *more, *files], log, "installing the Python packages")
    include = sysconfig.get_paths()["include"]
    numpy_include = str(SITE_PACKAGES / "numpy" / "_core" / "include")
    for file in (VENV / "share").rglob("*.cmake"):
        text = file.read_text()
        fixed = WHEEL_INCLUDE.sub(lambda match: numpy_include if match["numpy"] else include, text)
        if fixed != text:
            file.write_text(fixed)


def install_models(locks: list[str], log: Path) -> None:
    """Install what the models run on; PyTorch brings along what its build (CPU or CUDA) needs."""
    install_packages(["models"], log, AS_IT_COMES)
    torch = next(
        line for line in (ROOT / "constraints" / "models.txt").read_text().splitlines()
        if line.startswith("torch==")
    )  # fmt: skip
    files = [word for lock in (*locks, "models") for word in ("-c", ROOT / "constraints" / f"{lock}.txt")]
    call([*PIP, AS_IT_COMES, torch, *files], log, "installing PyTorch")


def build_interfaces(name: str, source: Path, log: Path) -> None:
    """Generate, compile and install the messages, services and actions of one package into .venv."""
    build = BUILD / name
    shutil.rmtree(build, ignore_errors=True)
    tools = VENV / "bin"
    call(
        [
            tools / "cmake",
            "-S",
            source,
            "-B",
            build,
            "-G",
            "Ninja",
            f"-DCMAKE_MAKE_PROGRAM={tools / 'ninja'}",
            f"-DCMAKE_INSTALL_PREFIX={VENV}",
            f"-DPython3_EXECUTABLE={PYTHON}",
            "-DBUILD_TESTING=OFF",
            "-DINTERFACES_ONLY=ON",
        ],
        log,
        f"configuring the interfaces of {name}",
    )
    call([tools / "ninja", "-C", build], log, f"building the interfaces of {name}")
    shutil.rmtree(SITE_PACKAGES / name, ignore_errors=True)
    call([tools / "ninja", "-C", build, "install"], log, f"installing the interfaces of {name}")


def install_editable(log: Path) -> None:
    """Make the checkout importable and put the vla-ros command into .venv/bin."""
    call([*PIP_INSTALL, "--no-build-isolation", "-e", ROOT], log, "installing vla_ros")


def compile_kernels(log: Path) -> None:
    """Let numba compile the control cycle's arithmetic, so that no node does it when it starts."""
    call([PYTHON, "-m", "vla_ros.kernels"], log, "compiling the kernels of the control cycle")


def real_package_installed(name: str) -> bool:
    """Whether a package of this name, other than our stand-in (version 0.0.0), is in .venv."""
    manifest = VENV / "share" / name / "package.xml"
    return manifest.is_file() and "<version>0.0.0<" not in manifest.read_text()


def main() -> None:
    """Bring .venv up to date."""
    parser = argparse.ArgumentParser(description="Make the environment in .venv.")
    parser.add_argument("--distro", default="jazzy", help="ROS distribution: jazzy or kilted")
    parser.add_argument("--models", action="store_true", help="also install PyTorch and what goes with it")
    parser.add_argument("--test", action="store_true", help="also install the models and the test tools")
    options = parser.parse_args()
    if options.distro not in DISTROS:
        fail(f"ROS_DISTRO is {options.distro}, but there are wheels for {' and '.join(DISTROS)} only.")
    check_machine()
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        identity = digest([], options.distro, sys.version, str(ROOT))
        step("venv", identity, f"virtual environment, Python {sys.version.split()[0]}", make_venv)
        locks = ["common", options.distro]
        key = digest([f"constraints/{name}.txt" for name in locks], identity)
        what = f"Python packages, ROS 2 {options.distro}"
        step("packages", key, what, lambda log: install_packages(locks, log))
        models_key = digest(["constraints/models.txt"], key)
        if options.models or options.test:
            step("models", models_key, "PyTorch, ONNX Runtime", lambda log: install_models(locks, log))
        if options.test:
            test_key = digest(["constraints/test.txt"], models_key)
            step("test", test_key, "test tools", lambda log: install_packages(["test"], log, AS_IT_COMES))
        step("editable", digest(["pyproject.toml", "vla_ros/__init__.py"], key), "vla_ros", install_editable)
        builds = [("vla_ros", ROOT, digest(INTERFACES, key))]
        for folder in sorted((ROOT / "compat").iterdir()):
            if folder.is_dir() and not real_package_installed(folder.name):
                builds.append((folder.name, folder, digest([f"compat/{folder.name}"], key)))

        def build(job: tuple[str, Path, str]) -> None:
            name, source, key = job
            step(name, key, f"interfaces of {name}", lambda log: build_interfaces(name, source, log))

        with ThreadPoolExecutor(max_workers=2) as pool:
            running = [pool.submit(build, job) for job in builds]
            try:
                for job in running:
                    job.result()
            except SystemExit:
                pool.shutdown(cancel_futures=True)
                raise
        sources = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "vla_ros" / "kernels").glob("*.py"))
        step("kernels", digest(sources, key), "kernels of the control cycle", compile_kernels)


if __name__ == "__main__":
    main()
