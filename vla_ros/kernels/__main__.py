"""`python -m vla_ros.kernels`: compile everything now, so that no node does it when it starts."""

from importlib import import_module
from pkgutil import iter_modules

from vla_ros import kernels


def compile_all() -> None:
    """Import every module beside this one, which compiles it and keeps the machine code."""
    for module in iter_modules(kernels.__path__):
        if module.name != "__main__":
            import_module(f"{kernels.__name__}.{module.name}")


if __name__ == "__main__":
    compile_all()
