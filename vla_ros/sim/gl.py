"""Which OpenGL platform MuJoCo may try, decided before MuJoCo is imported."""

from __future__ import annotations

import ctypes
import os
import sys

_LIBRARIES = {"egl": ("libEGL.so.1", "libEGL.so"), "osmesa": ("libOSMesa.so.8", "libOSMesa.so")}
_OTHERS = ("", "glfw", "glx", "wgl", "cgl", "enable", "enabled", "on", "true", "1")
DISABLED = "disabled"


def _loads(names: tuple[str, ...]) -> bool:
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False


def choose_gl_platform() -> str:
    """Set `MUJOCO_GL` to a platform whose library loads, else to `disabled`, and return it.

    EGL is the default on Linux because it needs no screen.  `import mujoco` itself raises when the library of
    the platform named in `MUJOCO_GL` is missing, hence the look before the import.
    """
    wanted = os.environ.get("MUJOCO_GL", "").strip().lower()
    if not wanted and sys.platform.startswith("linux"):
        wanted = "egl"
    usable = _loads(_LIBRARIES[wanted]) if wanted in _LIBRARIES else wanted in _OTHERS
    chosen = wanted if usable else DISABLED
    if chosen:
        os.environ["MUJOCO_GL"] = chosen
    return chosen
